"""The command `systolith`: arguments in, one function call, results shown.

Exit codes: 0 done; 1 something about the input is wrong, or a run did not come to its end; 2 the
command line is wrong; 3 a difference was found (the core and the golden model, or a failed
regression); 4 Systolith itself is at fault: one line says which files to send.
"""

import json
import os
import re
import shlex
import sys
from pathlib import Path

from systolith.gen.chip.toml import commented_toml, load_chip, overridden_fields
from systolith.gen.kit.errors import ChipError, UserError
from systolith.gen.kit.faults import Fault, save_fault
from systolith.gen.kit.files import write_file
from systolith.gen.kit.progress import Reporter
from systolith.hw.board.boards import BOARDS

from .parser import make_parser

__all__ = ["main"]

OK, WRONG, USAGE, MISMATCH, FAULT = 0, 1, 2, 3, 4


def main(arguments=None):
    """Run the command line; the exit code."""
    parser = make_parser(_COMMANDS)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except ChipError as error:
        model = getattr(options, "model", None)
        return _fail(error if model is None else f"{error}. {_other_chip(model)}")
    except UserError as error:
        return _fail(error)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # The reader of the output has gone; nothing is left to say, also not at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return OK
        if error.filename is None:
            return _fault(error, arguments, options)
        return _fail(f"{error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Fault as error:
        return _fail(error, FAULT)
    except Exception as error:
        # Whatever nobody has foreseen.
        return _fault(error, arguments, options)


def _other_chip(model):
    """What makes a chip on which a model maps, as a sentence."""
    return f"A chip on which it maps: systolith init --for {shlex.quote(str(model))} -o chip.toml"


def _fail(error, code=WRONG):
    print(f"systolith: {error}", file=sys.stderr)
    return code


def _fault(error, arguments, options):
    """Say that Systolith is at fault; the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    given = [getattr(options, name, None) for name in ("model", "chip", "dir", "space", "inputs")]
    return _fail(save_fault(
        error, f"systolith {shlex.join(map(str, words))}",
        beside=getattr(options, "output", None),
        send=[item for item in given if item and Path(item).exists()]), FAULT)


# Commands.

def _init(options):
    output = options.output
    if output is not None and Path(output).exists() and not options.force:
        raise UserError(f"{output}: exists already; --force replaces it")
    if options.model is None:
        if options.board or options.no_area or options.shape or options.cut:
            raise UserError("--board, --no-area, --shape and --outputs go with --for only")
        text = commented_toml(_chip(options.preset or "ulx3s-8x8", options))
    else:
        text = _fitted(options)
    if output is None:
        print(text, end="")
        return OK
    _wrote(write_file(output, text))
    return OK


def _fitted(options):
    """The text of a chip for a model; what was chosen is shown beside it."""
    from systolith.gen.flow.fit_chip import fit, fitted_toml, graph_of
    if options.preset:
        raise UserError("--preset does not go with --for, which chooses all keys; --set fixes some")
    fixed = overridden_fields(options.set)
    name = re.sub(r"[^\w.+-]+", "-", Path(options.output or options.model).stem).lstrip("-._+")
    board = options.board or fixed.pop("board", "none")
    with Reporter() as progress:
        with progress.step(f"Reading {options.model}"):
            graph = graph_of(_part(options).of(options.model), fixed)
        found = fit(graph, board=board, fixed=fixed, name=fixed.pop("name", name or "chip"),
                    area=not options.no_area, progress=progress)
    shown = sys.stdout if options.output else sys.stderr
    print(found.table(), *found.notes, f"{found.cycles:,} cycles an image on {found.arch.name}",
          sep="\n", file=shown)
    return fitted_toml(found, options.model)


def _verilog(options):
    from systolith.gen.chip.verilog import core_verilog
    arch = _chip(options.chip, options)
    with Reporter() as progress, progress.step(f"Writing the Verilog of {arch.name}"):
        path = write_file(options.output, core_verilog(arch))
    _wrote(path)
    return OK


def _pe(options):
    from systolith.gen.measure.element import PeConfig, write_pe
    config = PeConfig(activation=options.activation, weight=options.weight, lanes=options.lanes,
                      rows=options.rows, target=options.target, stages=options.stages,
                      dsp=options.dsp, columns=options.columns)
    with Reporter() as progress:
        files = write_pe(config, options.output, progress=progress)
    _wrote(*files)
    return OK


def _recipe(options, activation, weight):
    """The `Recipe` that the command line asks for."""
    from systolith.gen.quantize.quantize import Recipe
    if options.percentile is not None and options.range != "percentile":
        raise UserError("--percentile goes with --range percentile only")
    given = {key: getattr(options, key) for key in ("range", "percentile")
             if getattr(options, key) is not None}
    return Recipe(activation, weight, equalize=options.equalize,
                  correct_bias=options.correct_bias, **given)


def _no_recipe(options):
    for name in ("range", "percentile", "equalize", "correct_bias"):
        if getattr(options, name):
            raise UserError(f"--{name.replace('_', '-')} goes with --calibration only")


def _quantize(options):
    from systolith.gen.flow.simulate import read_arrays
    from systolith.gen.quantize.quantize import quantize
    from systolith.gen.report.quantization import error_table, write_quantized
    formats = ["int8", "int8"]
    if options.chip is not None:
        arch = _chip(options.chip, options)
        formats = [arch.activation.name, arch.weight.name]
    elif options.set:
        raise UserError("--set goes with --chip only")
    recipe = _recipe(options, options.activation or formats[0], options.weight or formats[1])
    recipe.formats()
    data = read_arrays(options.calibration)
    with Reporter() as progress:
        made = quantize(_part(options).of(options.model), data, recipe, source=options.calibration,
                        progress=progress)
    print(error_table(made.rows))
    _wrote(*write_quantized(made, options.output))
    return OK


def _build(options):
    from systolith.gen.flow.build import build
    from systolith.gen.flow.simulate import read_arrays
    from systolith.gen.report.report import markdown, read_report
    arch = _chip(options.chip, options)
    recipe, data = None, None
    if options.calibration is not None:
        recipe = _recipe(options, arch.activation.name, arch.weight.name)
        data = read_arrays(options.calibration)
    else:
        _no_recipe(options)
    with Reporter() as progress:
        made = build(options.model, arch, options.output, batch=options.batch,
                     area=not options.no_area, calibration=data, recipe=recipe,
                     source=options.calibration, part=_part(options), progress=progress)
    if made.quantized:
        from systolith.gen.report.quantization import error_table
        print(error_table(made.quantized.rows))
        print()
    print(markdown(read_report(made.folder)))
    _wrote(*made.files)
    return OK


def _check(options):
    from systolith.gen.flow.check import check, text_of
    from systolith.gen.flow.simulate import read_arrays
    if options.set and options.chip is None:
        raise UserError("--set goes with --chip only")
    arch = None if options.chip is None else _chip(options.chip, options)
    recipe, data = None, None
    if options.calibration is not None:
        formats = ("int8", "int8") if arch is None else (arch.activation.name, arch.weight.name)
        recipe, data = _recipe(options, *formats), read_arrays(options.calibration)
    else:
        _no_recipe(options)
    found = check(_part(options).of(options.model), arch, batch=options.batch, calibration=data,
                  recipe=recipe, source=options.calibration)
    print(text_of(found, arch))
    if not found.maps and found.graph is not None:
        print(_other_chip(options.model))
    _write_json(options.json, found.to_dict())
    return OK if found.maps else WRONG


def _simulate(options):
    from systolith.gen.flow.build import open_build
    from systolith.gen.flow.simulate import read_arrays, simulate, write_arrays
    from systolith.sim.machine.iss import ExecutionError
    from systolith.sim.rtl.device import DeviceError
    from systolith.sim.rtl.verilate import SimulationError
    inputs = read_arrays(options.inputs)
    if options.float_model and not options.compare:
        raise UserError("--float goes with --compare only")
    build = open_build(options.dir)
    with Reporter() as progress:
        try:
            found = simulate(build, inputs, options.engine, limit=options.limit,
                             waves=options.waves, latency=options.latency, progress=progress)
        except (SimulationError, DeviceError, ExecutionError) as error:
            raise UserError(f"the simulation did not finish: {error}") from error
    _show_simulation(found)
    if options.outputs:
        write_arrays(options.outputs, found.outputs)
        _wrote(options.outputs)
    if options.waves:
        _wrote(options.waves)
    if options.compare:
        _compare(options, build, inputs)
    _write_json(options.json, found.to_dict())
    return MISMATCH if found.comparison and found.comparison.bits else OK


def _compare(options, build, inputs):
    from systolith.gen.flow.build import FLOAT, MODEL
    from systolith.gen.flow.compare_onnx import compare_with_onnx
    from systolith.gen.flow.simulate import first_images
    from systolith.gen.report.comparison import comparison_table, write_comparison
    kept = build.folder / FLOAT
    real = options.float_model or (kept if kept.is_file() else None)
    with Reporter() as progress:
        found = compare_with_onnx(build.graph, build.arch, build.folder / MODEL,
                                  first_images(inputs, options.limit), real, str(real or ""),
                                  progress=progress)
    print()
    print(comparison_table(found))
    _wrote(*write_comparison(found, build.folder))


def _show_simulation(found):
    print(f"{found.images:,} images by the engine {found.engine}")
    if found.comparison:
        print(f"against the golden model: {found.comparison.bits:,} bits differ in "
              f"{found.comparison.elements:,} results of all layers")
        if found.comparison.first:
            print(f"first difference: {found.comparison.first}")
    what = "per image" if found.batch == 1 else f"for a batch of {found.batch} images"
    if found.cycles:
        print(f"cycles {what}: {found.cycles:,} (cycle model: {found.cycles_model:,}), "
              f"{found.compute_cycles:,} of them computing")
        print(f"array utilization: {100 * found.utilization:.1f} %, all traffic included")
        print(f"simulation speed: {found.clocks_per_second:,.0f} clocks/s")
        _show_counters(found)
    else:
        print(f"cycles {what} (cycle model): {found.cycles_model:,}")


def _show_counters(found):
    from systolith.gen.report.report import units_table
    if found.activity is None:
        print("the chip has no counters of its units (control.counters)")
        return
    same = found.activity == found.activity_model
    print("\ncycles of each unit by the core's counters, "
          f"{'the same as' if same else 'not those of'} the cycle model:\n")
    print(units_table(found.activity, found.cycles))


def _report(options):
    from systolith.gen.report.report import markdown, read_report
    report = read_report(options.dir)
    print(markdown(report))
    _write_json(options.json, report)
    return OK


def _trace(options):
    from systolith.gen.flow.build import open_build
    from systolith.gen.report.trace import span, write_trace
    from systolith.sim.machine.cycles import cycles
    if not options.output and not options.picture:
        raise UserError("trace writes what -o or --picture name; give one of them")
    build = open_build(options.dir)
    with Reporter() as progress, progress.step("Counting cycles"):
        timing = cycles(build.program, options.latency)
    part = span(options.cycles, timing.cycles)
    files = []
    if options.picture:
        from systolith.gen.report.timeline import write_picture
        files.append(write_picture(build.program, timing, options.picture, *part))
    if options.output:
        files.append(write_trace(build.program, timing, options.output, *part))
    _wrote(*files)
    return OK


def _area(options):
    if (options.chip is None) == (options.formats is None):
        raise UserError("area needs either --chip (a chip, or with --array its array) or --formats "
                        "(a table of processing elements)")
    if options.formats is not None:
        return _area_table(options)
    if options.array:
        return _array_area(options)
    for name in ("targets", "liberty", "output", "flatten"):
        _only(options, name, "--formats" if name != "flatten" else "--array")
    return _chip_area(options)


def _only(options, name, where):
    if getattr(options, name):
        flag = "-o" if name == "output" else f"--{name}"
        raise UserError(f"{flag} goes with {where} only")


def _area_table(options):
    from systolith.gen.measure.element_area import ELEMENT_TARGETS, find_liberty
    from systolith.gen.study.catalogue import area_table
    for name in ("set", "array", "target", "no_dsp", "log", "json", "flatten"):
        if getattr(options, name):
            raise UserError(f"--{name.replace('_', '-')} does not go with --formats")
    targets = options.targets or list(ELEMENT_TARGETS)
    liberty = find_liberty(options.liberty) if "asic" in targets else None
    with Reporter() as progress:
        _, files = area_table(
            options.formats, targets, options.output or "build/area", liberty=liberty,
            jobs=options.jobs, progress=progress,
            show=lambda text: print(text, file=sys.stderr, flush=True))
    print(next(path for path in files if path.suffix == ".md").read_text())
    _wrote(*files)
    return OK


def _array_area(options):
    from systolith.gen.measure.array_area import array_area
    for name in ("targets", "liberty", "output"):
        _only(options, name, "--formats")
    arch = _chip(options.chip, options)
    with Reporter() as progress:
        area = array_area(arch, options.target or "xc7", dsp=not options.no_dsp,
                          flatten=options.flatten, progress=progress)
    key, names = area["figure"], {"lut": "LUT", "slice_lut": "LUT4 + 2 CCU2C"}
    print(f"{arch.rows} x {arch.columns} elements of {arch.activation} x {arch.weight} for "
          f"{area['target']}, edges and skew included, "
          f"{'flattened' if options.flatten else 'hierarchy kept'}:")
    print(f"{area['array'][key]:,} {names.get(key, key)} are {area['ratio']:.3f} times "
          f"{area['count']:,} elements of {area['element'][key]:,}; {area['array']['ff']:,} FF are "
          f"{area['ff_ratio']:.3f} times {area['count']:,} of {area['element']['ff']:,}")
    _write_json(options.json, area)
    return OK


def _chip_area(options):
    from systolith.gen.measure.area import chip_area
    from systolith.gen.report.report import area_rows, text_table
    arch = _chip(options.chip, options)
    board = BOARDS.get(arch.board)
    target = options.target or (board.part.target if board else "ecp5")
    with Reporter() as progress, progress.step(f"Area of {arch.name} for {target} (Yosys)"):
        area = chip_area(arch, target, dsp=not options.no_dsp, log=options.log).to_dict()
    part = board.part if board and board.part.target == target else None
    print(f"The core of {arch.name} for {target}, by Yosys, hierarchy kept"
          + (f"; the part is the {part.name}" if part else "") + "\n")
    print(text_table(area_rows(area, part and vars(part)), "lrrrr"))
    if area["memories_in_flipflops"]:
        print("\nmemories that became flip-flops:", ", ".join(area["memories_in_flipflops"]))
    _write_json(options.json, area)
    return OK


def _timing(options):
    if (options.chip is None) == (options.array is None):
        raise UserError("timing needs either --chip (a chip on its board) or --array (a systolic "
                        "array alone)")
    seeds = range(1, options.seeds + 1)
    if options.array is not None:
        return _array_timing(options, seeds)
    from systolith.gen.measure.place_and_route import board_timing
    arch = _chip(options.chip, options)
    with Reporter() as progress:
        timing = board_timing(arch, seeds=seeds, progress=progress)
    _show_timing(f"{arch.name} on the {arch.board}", timing)
    _write_json(options.json, timing.to_dict())
    return OK


def _array_timing(options, seeds):
    from systolith.gen.measure.array_clock import PART, array_arch, array_timing
    if options.set:
        raise UserError("--set goes with --chip only")
    arch = array_arch(options.array, options.weight or options.array, rows=options.rows,
                      columns=options.columns, lanes=options.lanes, stages=options.stages,
                      dsp=options.dsp)
    with Reporter() as progress:
        timing = array_timing(arch, seeds=seeds, progress=progress)
    lanes = f", {arch.lanes} lanes" if arch.lanes > 1 else ""
    _show_timing(f"{arch.rows} x {arch.columns} elements of {arch.name}{lanes}, "
                 f"{timing.stages} stage{'s' if timing.stages > 1 else ''}, on {PART}, speed "
                 "grade 6", timing)
    area = timing.area
    print(f"the array alone: {area['lut']:,} LUT4, {area['carry']:,} CCU2C, {area['ff']:,} FF"
          + (f", {area['dsp']:,} DSP" if area["dsp"] else ""))
    _write_json(options.json, {"rows": arch.rows, "columns": arch.columns, "lanes": arch.lanes,
                               "activation": arch.activation.name, "weight": arch.weight.name,
                               "structure": arch.pe_structure} | timing.to_dict())
    return OK


def _show_timing(what, timing):
    print(f"{what}, placed and routed: {timing.median:.1f} MHz, the median of "
          f"{', '.join(f'{mhz:.1f}' for mhz in timing.mhz.values())}")
    for name, (used, available) in sorted(timing.cells.items()):
        print(f"{name:16} {used:7,} of {available:7,}")


def _sweep(options):
    from systolith.gen.study.sweep import sweep
    with Reporter() as progress:
        files = sweep(options.space, options.output, jobs=options.jobs, progress=progress)
    _wrote(*files)
    return OK


def _disasm(options):
    from systolith.gen.flow.build import open_build
    program = open_build(options.dir).program
    names = [layer["name"] for layer in program.host["layers"]]
    for number, instruction in enumerate(program.instructions):
        layer = f"    # {names[instruction.layer]}" if instruction.unit is not None else ""
        print(f"{number:5}  {instruction}{layer}")
    return OK


def _regress(options):
    from systolith.gen.study.regress import regress
    cases = regress(options.chips, options.seeds, options.jobs, options.junit, seed=options.seed,
                    waves=options.waves)
    _wrote(*filter(None, (options.junit, options.waves)))
    if any(case.fault for case in cases):
        return FAULT
    return MISMATCH if any(case.failure for case in cases) else OK


def _prove(options):
    from systolith.gen.report.report import text_table
    from systolith.gen.study.prove import prove, summary
    if options.formal:
        from systolith.gen.study.formal import prove_formally
        with Reporter() as progress:
            table, wrong = prove_formally(progress=progress)
        print(text_table(table, "llrllr"))
        return MISMATCH if wrong else OK
    with Reporter() as progress:
        results, files = prove(options.output, options.formats, options.structures,
                               jobs=options.jobs, progress=progress)
    print(text_table(summary(results), "llrrrrrr"))
    wrong = [case for result in results for case in result["cases"] if case["mismatches"]]
    for case in wrong[:20]:
        print(f"{case['activation']} x {case['weight']}, {case['lanes']} lanes, "
              f"{case['columns']} column{'s' * (case['columns'] > 1)}, "
              f"{case['structure']}, {case['stages']} stages: {case['first']}")
    _wrote(*files)
    return MISMATCH if wrong else OK


def _demo(options):
    from systolith.gen.study.demo import demo, write_example
    if options.files is not None:
        _wrote(*write_example(options.files, options.examples))
        return OK
    with Reporter() as progress:
        result = demo(options.examples, options.output, images=options.images, progress=progress)
    print(result.table)
    _wrote(*result.files)
    return OK if result.mismatches == 0 else MISMATCH


# What commands share.

def _chip(name, options):
    return load_chip(name, options.set)


def _part(options):
    """The `Part` of the model that the command line asks for."""
    from systolith.gen.importer.sizes import Part
    names = [name for name, _ in options.shape]
    if len(set(names)) < len(names):
        raise UserError("--shape names an input twice")
    return Part(dict(options.shape), tuple(options.cut), tuple(options.begin))


def _wrote(*paths):
    for path in paths:
        print(f"wrote {path}")


def _write_json(path, data):
    if path is not None:
        _wrote(write_file(path, json.dumps(data, indent=2) + "\n"))


_COMMANDS = {
    "init": _init,
    "verilog": _verilog,
    "pe": _pe,
    "check": _check,
    "quantize": _quantize,
    "build": _build,
    "simulate": _simulate,
    "report": _report,
    "trace": _trace,
    "area": _area,
    "timing": _timing,
    "sweep": _sweep,
    "disasm": _disasm,
    "regress": _regress,
    "prove": _prove,
    "demo": _demo,
}


if __name__ == "__main__":
    sys.exit(main())
