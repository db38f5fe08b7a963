"""Commands that run many cases, and the demo."""

from argparse import ArgumentParser, Namespace

from systolith.gen.kit.progress import Reporter

from ..command import FAULT, MISMATCH, OK, Command
from ..options import (
    add_jobs,
    add_json,
    add_output,
    add_seeds,
    count,
    names,
    whole,
    write_json,
    wrote,
)

__all__ = ["Demo", "Regress", "Reproduce"]


class Regress(Command):
    name, summary = "regress", "random programs: the core against the simulator"
    text = (
        "Run random programs and networks on random chips, RTL against the instruction-level "
        "simulator, with\nrandom stalls on the memory bus. A failure prints the command that "
        "repeats it with waveforms.")
    examples = (
        "  systolith regress --seeds 100 --jobs 2\n"
        "  systolith regress --chips ulx3s-8x8,random-3 --seeds 1000 --junit night.xml\n"
        "  systolith regress --chips random-3 --seed 17 --waves run.fst")

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--chips", type=names, metavar="NAME,...",
                            help="presets, TOML files, or random-N (default: random ones)")
        add_seeds(parser, 20)
        parser.add_argument("--seed", type=whole, metavar="N", help="this seed alone")
        add_jobs(parser, "simulations", 1)
        parser.add_argument("--junit", metavar="FILE", help="write JUnit XML")
        parser.add_argument("--waves", metavar="FILE.fst",
                            help="waveforms of one seed on one chip")
        parser.add_argument("--coverage", nargs="?", const="", metavar="FILE.json",
                            help="say which lines and bits of the Verilog, and which values of "
                                 "instructions, were covered; takes several times as long")

    def run(self, options: Namespace) -> int:
        from systolith.gen.study.coverage import Covered, wrong_reasons
        from systolith.gen.study.regress import regress
        covered = Covered() if options.coverage is not None else None
        cases = regress(options.chips, options.seeds, options.jobs, options.junit,
                        seed=options.seed, waves=options.waves, coverage=covered)
        wrong = []
        if covered is not None:
            print(covered.text())
            wrong = wrong_reasons(covered, every=options.chips is None)
            for text in wrong:
                print(f"WRONG: {text}")
            write_json(options.coverage or None, covered.plain())
        wrote(*filter(None, (options.junit, options.waves)))
        if any(case.fault for case in cases):
            return FAULT
        return MISMATCH if wrong or any(case.failure for case in cases) else OK


class Reproduce(Command):
    name, summary = "reproduce", "published figures beside those that come out here"
    text = (
        "Print published figures beside what comes out here, measured anew. Without a name, all "
        "studies run;\nexit code 3 where a figure falls short of the published one.")
    examples = ("  systolith reproduce --list\n  systolith reproduce omse sawb\n"
                "  systolith reproduce --json figures.json")

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help="of the studies")
        parser.add_argument("--list", action="store_true", help="list the studies")
        add_json(parser, "write the figures as JSON")

    def run(self, options: Namespace) -> int:
        from dataclasses import asdict

        from systolith.gen.kit.tables import text_table
        from systolith.gen.study.reproduce import STUDIES, reproduce, table
        if options.list:
            print(text_table([["study", "source", "needs"], *(
                [item.name, item.source, item.needs] for item in STUDIES.values())], "lll"))
            return OK
        with Reporter() as progress:
            found = reproduce(options.names or None, lambda name: progress.step(
                f"{name}: {STUDIES[name].source}"))
        print(table(found))
        write_json(options.json, {name: [asdict(item) for item in figures]
                                  for name, figures in found.items()})
        return OK if all(item.good for figures in found.values() for item in figures) else MISMATCH


class Demo(Command):
    name, summary = "demo", "the whole path on handwritten digits"
    text = (
        "Build a trained network for a ULX3S board, measure its accuracy, run the RTL against "
        "the golden\nmodel, and show what it takes. Network and digits come with Systolith.")
    examples = ("  systolith demo\n  systolith demo --images 100 -o build/demo\n"
                "  systolith demo --files digits")

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--examples", metavar="DIR",
                            help="another folder with digits-cnn.onnx and digits-test.npz")
        add_output(parser, "DIR", default="build/demo", help="default: %(default)s")
        parser.add_argument("--images", type=count, default=16, metavar="N",
                            help="digits simulated in RTL (default: %(default)s)")
        parser.add_argument("--files", metavar="DIR",
                            help="only write the networks and the digits to this folder: *.onnx, "
                                 "x.npy, labels.npy, calibration.npy, digits.npz")

    def run(self, options: Namespace) -> int:
        from systolith.gen.study.demo import demo, write_example
        if options.files is not None:
            wrote(*write_example(options.files, options.examples))
            return OK
        with Reporter() as progress:
            result = demo(options.examples, options.output, images=options.images,
                          progress=progress)
        print(result.table)
        wrote(*result.files)
        return OK if result.mismatches == 0 else MISMATCH
