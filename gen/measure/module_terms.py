"""What the area of a core's modules grows with, as numbers that follow from the chip's keys: bits
of registers, steps of adders, places of multiplexers. What each of them costs is in the fits that
`estimate.py` reads.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from systolith.hw.element.element import arithmetic_of
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import HEAD, Opcode, Unit
from systolith.hw.spec.memories import MEMORIES, Space, loadable, memory_flags, word_bytes
from systolith.hw.spec.numbers import SHIFT_BITS
from systolith.hw.spec.timing import (
    array_latency,
    burst_limit,
    column_delay,
    folded_operands,
    lane_choice,
    lane_entry,
    lane_factor_bits,
    lane_number_bits,
    operand_image_bits,
    operand_lane_latency,
    post_lane_latency,
    rounding_levels,
    word_latency,
)
from systolith.hw.spec.widths import kept_bits

from .product_terms import folded_terms, product_terms
from .ram_choice import ram_of, scratchpads
from .word_bits import word_bits

__all__ = ["ESTIMATED", "KINDS", "Kind", "Terms", "bits_of", "element_base", "element_key",
           "element_terms", "read_entry", "store_entry", "terms_of",
           "window_beat"]

#: Execution units, and the bits of a layer's number.
_UNITS, _LAYER = len(Unit), 12
#: What is estimated by a fit; DSP blocks and block RAM follow from the chip's keys.
ESTIMATED = ("lut", "ff")


def bits_of(number: int) -> int:
    """Bits of an address of so many words."""
    return max(number - 1, 0).bit_length()


@lru_cache(maxsize=256)
def _facts(arch: Arch) -> dict[str, Any]:
    """Numbers that several modules' costs are made of."""
    arithmetic = arithmetic_of(arch)
    kept = {opcode: sum(kept_bits(arch, opcode).values()) for opcode in (
        Opcode.LOAD, Opcode.ARRAY, Opcode.POST, Opcode.STORE)}
    slots = max(word_bytes(row.space, arch) for row in loadable(arch)) // arch.beat_bytes
    longest = max(bits_of(row.depth(arch)) for row in loadable(arch))
    return {
        "arithmetic": arithmetic, "head": sum(item.width for item in HEAD),
        "load": kept[Opcode.LOAD], "array": kept[Opcode.ARRAY], "post": kept[Opcode.POST],
        "store": kept[Opcode.STORE], "slots": slots, "longest": longest,
        "offset": min(32, arch.address_bits + 1) - bits_of(arch.beat_bytes),
        "burst": bits_of(burst_limit(arch)), "latency": array_latency(arch, arithmetic.stages),
        "word": word_latency(arch), "sums": bits_of(arch.accumulator_depth),
        "pixels": bits_of(arch.activation_depth), "fillings": bits_of(arch.weight_depth),
        "mark": 8 + bits_of(arch.chunks), "parts": arch.columns // arch.post_lanes,
    }


Terms = dict[str, float]


def _each(terms: Terms, **switches: bool) -> Terms:
    """The terms, and switches of the chip as 0 or 1."""
    return {"1": 1.0, **terms, **{name: float(on) for name, on in switches.items()}}


def _post_lane(arch):
    number, factor = lane_number_bits(arch), lane_factor_bits(arch)
    if arch.activation.binary:
        return _each({"sum": number, "bits": arch.multiplier_bits})
    addend = max(arch.multiplier_bits + 1 if arch.addend_bits else 0,
                 operand_image_bits(arch)[1] + arch.gain_bits if arch.operand_depth else 0)
    terms, cycles = product_terms(arch, number, factor, addend)
    beside = SHIFT_BITS + arch.tie_bits
    form, width = arch.activation, number + factor
    rounding: Terms = {}
    if form.floating:
        levels = rounding_levels(form, width)
        kept = [min((1 << levels) + form.man, (1 << place + 1) - 1 + form.man + 2)
                for place in range(levels)]
        rounding = {"float shifts": sum(kept), "float levels": levels * levels,
                    "float bits": form.width, "float whole": min((1 << levels) + form.man, width)}
    else:
        fraction = 3
        kept = [min(width + fraction, arch.rounded_bits + 1 + fraction + (1 << place) - 1)
                for place in range(SHIFT_BITS)]
        rounding = {"shifts": sum(kept), "shift registers": kept[3] + kept[0],
                    "rounded": arch.rounded_bits, "lost": max(0, width - kept[-1])}
    return _each({
        "sum": number, "window": arch.operand_depth > 0 and arch.accumulator_bits + 1,
        "factor": factor, "beside": beside * (cycles + 1),
        "again": (arch.operand_depth > 0) * (factor + beside),
        "addend bits": arch.addend_bits,
        "leaky": arch.leaky * (factor + beside + arch.addend_bits),
        "chosen": lane_choice(arch) * (factor + beside + arch.addend_bits),
        "chosen sum": lane_choice(arch) * number,
        "offset": arch.slope_offsets * (arch.last_bits + 4),
        "offset late": arch.slope_offsets * (arch.last_bits + 4) * cycles,
        "limits": arch.first_bits, **terms, **rounding},
        floating=form.floating)


def _operand_lane(arch):
    first, other = operand_image_bits(arch)
    factor = max(arch.gain_bits, first)
    terms, cycles = product_terms(arch, other, factor, 0)
    if folded_operands(arch):
        terms = folded_terms(other, factor)
    spare = operand_lane_latency(arch) - 2 - 2 * arch.activation.floating - cycles
    floating = arch.activation.floating
    return _each({**terms, "first": first, "first late": first * cycles,
                  "spare": spare * (first + other + factor), "factor": factor, "other": other,
                  "number": first + other, "image": floating * (first + other)},
                 floating=floating, offsets=arch.slope_offsets)


def _edges(arch):
    unit = _facts(arch)["arithmetic"]
    rows, columns = arch.rows, arch.columns
    above = arch.depthwise
    bus = max(unit.weight_bits, unit.activation_bits) + 1 if above else unit.weight_bits
    steps = sum(1 + column // arch.shared_columns for column in range(columns))
    parts = [row * 4 // rows for row in range(rows)] if arch.side_taps else []
    scales = arch.scale_word.width if arch.scale_word else 0
    kind = f"{arch.activation} x {arch.weight}"
    return {
        "1": 1.0, "skew": rows * (rows + 1) / 2 * (unit.activation_bits + 1) + steps * bus,
        "decoded rows": rows * max(0, unit.activation_bits - arch.lanes * arch.activation.width),
        "decoded columns": columns * max(0, unit.weight_bits - arch.lanes * arch.weight.width),
        # Yosys takes blocks for some decoders, where it may
        f"blocks of {kind}": rows * arch.lanes * (not arch.post_luts),
        f"rows of {kind}": rows * arch.lanes, f"columns of {kind}": columns * arch.lanes,
        "above": above * columns * unit.activation_bits,
        "beside": sum(parts) * unit.activation_bits,
        "beside choice": sum(min(part, 2) for part in parts) * unit.activation_bits,
        "parts": arch.parts * (rows * unit.activation_bits + columns * unit.weight_bits),
        "heads": (arch.packed_signs or arch.plane_rows) * columns * unit.psum_bits,
        "planes": arch.plane_rows * columns * unit.psum_bits * 7,      # doubled or not
        "weighed": arch.plane_rows * (8 + columns // arch.shared_columns),
        "scales": scales * (steps + columns * unit.stages), "scales late": scales and rows,
        **_of_fillings(arch, steps * bus)}


def _of_fillings(arch, bits):
    """Terms of weights that come to the lower half of the rows on a bus of their own."""
    return {"two fillings": arch.two_fillings, "two fillings bits": arch.two_fillings * bits,
            "two fillings address": arch.two_fillings * _facts(arch)["fillings"]}


def _of_writes(arch):
    """Terms of an activation memory whose even and odd addresses are written apart."""
    return {"two writes": arch.two_writes, "two writes bits": arch.two_writes * (
        arch.activation_bits), "two writes address": arch.two_writes * _facts(arch)["pixels"],
            "two writes enables": arch.two_writes * arch.slots}


def _of_banks(arch):
    """Terms of an activation memory in banks that are read at addresses of their own."""
    banks, pixels = arch.tap_rows * arch.banks, _facts(arch)["pixels"]
    return {"in banks": arch.tap_rows, "banks": banks, "bank addresses": banks * pixels,
            "steps": arch.tap_rows * pixels, "bank rows": banks * bits_of(banks),
            "step blocks": arch.tap_rows and not arch.post_luts}    # of a product


def _array(arch):
    facts = _facts(arch)
    unit = facts["arithmetic"]
    # cycles from a pixel to its sum in the first column, the last four without all of the control
    to_column = facts["latency"] - column_delay(arch, arch.columns - 1)
    control = facts["sums"] + 3 + arch.bit_planes
    return _each({
        "control": control * max(0, to_column - 4), "latency": facts["latency"],
        "latency bits": bits_of(facts["latency"] + 2), "activations": arch.activation_bits,
        "weights": arch.weight_bits, "rows": arch.rows, "sums": facts["sums"],
        "columns": arch.columns, "pad": arch.activation.width * facts["word"],
        "addresses": (facts["word"] - 4) * (facts["pixels"] + facts["fillings"]),
        "fillings": facts["fillings"], "log rows": bits_of(arch.rows + 1),
        "narrow": bool(arch.weight_widths) * arch.weight_bits,
        "narrow widths": len(arch.weight_widths) * arch.weight_bits,
        "binary": arch.activation.binary * arch.activation_bits,
        "binary weights": arch.activation.binary * arch.weight_bits,
        "prefetch": arch.prefetch * (facts["fillings"] + facts["sums"])},
        depthwise=arch.depthwise, planes=arch.bit_planes, side=arch.side_taps,
        **_of_banks(arch), **_of_writes(arch), **_of_fillings(arch, arch.weight_bits),
        plane_rows=arch.plane_rows, parts=arch.parts,
        plain=not arch.prefetch, lanes=unit.lanes > 1)


def _pixels(arch):
    facts = _facts(arch)
    kept = kept_bits(arch, Opcode.ARRAY)
    loops = sum(kept[name] for name in ("pool_x", "pool_y", "out_x", "out_y", "blocks",
                                        "kernel_x", "kernel_y"))
    return _each({
        "loops": loops, "coordinate": facts["pixels"] + 3, "pixels": facts["pixels"],
        "kept": arch.prefetch * facts["array"], "sums": facts["sums"],
        "fillings": facts["fillings"], **_of_banks(arch)},
        depthwise=arch.depthwise, plain=not arch.prefetch)


def _results(arch):
    facts = _facts(arch)
    return _each({"sums": facts["sums"], "kept": arch.prefetch * facts["sums"],
                  "above": arch.depthwise * facts["sums"],
                  "above kept": arch.depthwise * arch.prefetch},
                 depthwise=arch.depthwise)


def _feeder(arch):
    return _each({"fillings": _facts(arch)["fillings"], "rows": bits_of(arch.fill),
                  "widths": sum(-(-arch.weight.width // bits) for bits in arch.weight_widths),
                  **_of_fillings(arch, bits_of(arch.rows))},
                 narrow=bool(arch.weight_widths), small=arch.fill <= 4)


def _accumulator(arch):
    bits = arch.accumulator_bits
    return _each({
        "bits": bits, "sum": arch.scaled_bits, "address": _facts(arch)["sums"],
        "saturating": (arch.accumulator is not None) * bits, "planes": arch.bit_planes * bits,
        **_ram_terms(arch.accumulator_depth, bits, reads=2)},
        saturates=arch.accumulator is not None, bit_planes=arch.bit_planes)


def _post(arch):
    facts = _facts(arch)
    lanes, parts = arch.post_lanes, facts["parts"]
    operands = arch.operand_depth > 0
    stages = lane_entry(arch) + post_lane_latency(arch)
    back = operand_lane_latency(arch) if operands else 0
    chunks = arch.groups_per_word * arch.chunks
    return _each({
        "words": arch.columns * arch.accumulator_bits, "selected": lanes * arch.accumulator_bits,
        "choice": lanes * arch.accumulator_bits * (parts - 1),
        "choice of two": lanes * arch.accumulator_bits * (parts > 1),
        "parameters": lanes * arch.parameter_bits, "marks": stages * facts["mark"],
        "marks back": back * facts["mark"], "kept": arch.prefetch * facts["post"],
        "operand word": operands * arch.activation_bits,
        "operand choice": operands * lanes * arch.activation.width * (chunks - 1),
        "operands": operands * lanes * arch.activation.width,
        "late parameters": operands * lanes * arch.parameter_bits,
        "results": lanes * arch.first_bits, "tables": (arch.table_depth > 0) * lanes
        * arch.first_bits, "codes": arch.activation.floating * lanes * arch.activation.width,
        "chosen": operands * lanes * arch.first_bits,
        "offsets": arch.slope_offsets * lanes * arch.parameter_bits,
        "parameter address": bits_of(arch.parameter_depth), "log parts": bits_of(parts)},
        operand=operands, table=arch.table_depth > 0, plain=not arch.prefetch)


def _pooling(arch):
    lanes, bits = arch.post_lanes, arch.first_bits
    return _each({"lanes": lanes, "bits": lanes * bits, "kept": lanes * bits * (arch.chunks - 1),
                  "choice": lanes * bits * (arch.chunks > 1), "mark": _facts(arch)["mark"],
                  "least": arch.activation.binary * lanes})


def _reader(arch):
    facts = _facts(arch)
    return _each({"sums": facts["sums"], "chunks": bits_of(arch.chunks),
                  "operand": arch.operand_depth > 0, "groups": bits_of(arch.group)},
                 plain=not arch.prefetch, one=arch.chunks == 1)


def _writer(arch):
    return _each({
        "group": arch.group_bits, "raw": arch.post_lanes * arch.raw_bits,
        "item": arch.item_bits, "both": min(arch.group_bits, arch.post_lanes * arch.raw_bits),
        "words": arch.groups_per_word, "slots": arch.slots, "chunks": arch.chunks,
        "parts": arch.parts * arch.group_bits, "part words": arch.parts * arch.activation_bits,
        "copies": arch.tap_rows * arch.slots, "copies apart": arch.tap_rows * bits_of(arch.slots),
        "address": _facts(arch)["pixels"], "copy": arch.operand_depth > 0 and bits_of(
            arch.operand_depth)}, several=arch.chunks > 1)


def _map(arch):
    return _each({"address": max(_facts(arch)["pixels"],
                                 bits_of(arch.operand_depth) if arch.operand_depth else 0)})


def _operand_map(arch):
    return _each({"address": bits_of(arch.operand_depth)})


def _table_lane(arch):
    return _each({"address": arch.table_address_bits, "width": arch.activation.width,
                  "number": arch.first_bits, **_ram_terms(arch.table_depth, arch.table_bits)},
                 floating=arch.activation.floating)


def _load(arch):
    facts = _facts(arch)
    windows, beat = arch.load_windows, arch.beat_bytes
    return _each({
        "window bytes": windows * 8 * (arch.window_bytes + 2 * beat - 1),
        "window steps": windows * sum(8 * (arch.window_bytes + (1 << bit) - 1)
                                      for bit in range(bits_of(2 * beat))),
        "window words": windows * arch.activation_bits,
        "window address": windows * facts["longest"],
        "content": word_bits(arch), "slots": facts["slots"],
        "log slots": bits_of(facts["slots"]), "beat": arch.bus_bits, "kept": facts["load"],
        "offset": facts["offset"], "address": facts["longest"],
        "product": bits_of(facts["slots"] + 1) * facts["longest"]},
        one=facts["slots"] == 1, diagnosis=arch.diagnosis, windows=windows)


def _bursts(arch):
    facts = _facts(arch)
    return _each({"offset": facts["offset"], "burst": facts["burst"], "address": facts["longest"],
                  "slots": bits_of(facts["slots"] + 1), "beat": bits_of(arch.beat_bytes)},
                 diagnosis=arch.diagnosis)


def _store(arch):
    facts = _facts(arch)
    size = max(arch.group_bytes, arch.raw_bytes) // arch.beat_bytes
    lanes = arch.beat_bytes // min(arch.beat_bytes, arch.group_bytes, arch.raw_bytes)
    return _each({
        "beat": arch.bus_bits, "item": arch.item_bits, "beats": arch.bus_bits * max(0, size - 1),
        "group": arch.group_bits, "offset": facts["offset"], "kept": facts["store"],
        "lanes": bits_of(lanes), "strobes": lanes, "several": size > 1, "burst": facts["burst"],
        "raw beats": bits_of(max(1, arch.raw_bytes // arch.beat_bytes)),
        "group beats": bits_of(max(1, arch.group_bytes // arch.beat_bytes)),
        "place": facts["offset"] + bits_of(lanes)}, diagnosis=arch.diagnosis)


def _window(arch):
    facts = _facts(arch)
    return _each({"offset": facts["offset"], "burst": facts["burst"],
                  "page": 12 - bits_of(arch.beat_bytes)}, based=arch.address_bits == 32)


def store_entry(arch: Arch) -> int:
    """Bits that STORE keeps of a burst."""
    return 1 + _UNITS + arch.diagnosis * (_LAYER + _facts(arch)["offset"])


def read_entry(arch: Arch) -> int:
    """Bits that the arbiter keeps of a burst."""
    facts = _facts(arch)
    windows = 2 * kept_bits(arch, Opcode.LOAD)["step_even"] + bits_of(arch.beat_bytes)
    # ... the run's last one, and short; words that repeat
    tag = (memory_flags(arch) + facts["longest"] + bits_of(facts["slots"]) + _UNITS + 2
           + arch.side_taps + arch.diagnosis * _LAYER + arch.load_windows * windows)
    return 4 + facts["burst"] + arch.diagnosis * facts["offset"] + tag


def window_beat(arch: Arch) -> int:
    """Bits that LOAD keeps of a beat of windows."""
    windows = 2 * kept_bits(arch, Opcode.LOAD)["step_even"] + bits_of(arch.beat_bytes)
    return arch.bus_bits + 2 + _facts(arch)["longest"] + _UNITS + 1 + windows


def _store_queue(arch):
    return _each({"entry": store_entry(arch)})


def _read_queue(arch):
    return _each({"entry": read_entry(arch)})


def _arbiter(arch):
    facts = _facts(arch)
    return _each({"offset": facts["offset"], "beat": arch.bus_bits, "burst": facts["burst"],
                  "address": facts["longest"], "slots": bits_of(facts["slots"]),
                  "where": arch.diagnosis * facts["offset"], "entry": read_entry(arch)},
                 diagnosis=arch.diagnosis, windows=arch.load_windows)


def _sequencer(arch):
    facts = _facts(arch)
    return _each({"bus": arch.bus_bits, "offset": facts["offset"],
                  "queue": bits_of(arch.queue_depth), "watchdog": arch.watchdog_bits,
                  "beats": 256 // arch.bus_bits,
                  "summed": arch.checksum * (arch.bus_bits // 32 - 1)},
                 diagnosis=arch.diagnosis, plain=not arch.prefetch, wide=arch.bus_bits > 64,
                 wider=arch.bus_bits > 128, narrow=arch.bus_bits < 64, checksum=arch.checksum,
                 checksum_words=arch.checksum and arch.bus_bits > 32)


def _queues(arch):
    facts = _facts(arch)
    return _each({"kept": facts["load"] + facts["store"] + facts["array"] + facts["post"],
                  "array": facts["array"], "post": facts["post"], "load": facts["load"],
                  "store": facts["store"], "bus": arch.bus_bits,
                  "queue": bits_of(arch.queue_depth)},
                 plain=not arch.prefetch, wide=arch.bus_bits > 64, wider=arch.bus_bits > 128,
                 narrow=arch.bus_bits < 64)


def _check(arch):
    facts = _facts(arch)
    return _each({"address": facts["longest"], "offset": facts["offset"],
                  "pixels": facts["pixels"], "fillings": facts["fillings"], "sums": facts["sums"]},
                 diagnosis=arch.diagnosis, operand=arch.operand_depth > 0,
                 table=arch.table_depth > 0, binary=arch.activation.binary,
                 windows=arch.load_windows, banks=arch.tap_rows, checksum=arch.checksum,
                 depthwise=arch.depthwise, wide=arch.bus_bits > 64, wider=arch.bus_bits > 128)


def _csr(arch):
    facts = _facts(arch)
    return _each({"offset": facts["offset"], "address": arch.address_bits,
                  "watchdog": arch.watchdog_bits}, diagnosis=arch.diagnosis, counters=arch.counters,
                 based=arch.address_bits == 32)


def _counters(arch):
    return {"1": 1.0}


def _item_queue(arch):
    return _each({"item": arch.item_bits})


def _tokens(arch):
    return _each({"bits": arch.token_bits})


def _core(arch):
    facts = _facts(arch)
    large = {row.space: row.exists(arch) and row.large(arch) for row in MEMORIES.values()}
    operands = arch.operand_depth > 0
    small: Counter = Counter()
    for memory in scratchpads(arch):
        small.update(_ram_terms(*memory))
    return _each({
        "word": arch.activation_bits, "copy": operands * arch.activation_bits,
        "enables": arch.slots, "address": facts["pixels"],
        "large activations": large[Space.ACTIVATION] * arch.activation_bits,
        "large activation address": large[Space.ACTIVATION] * (facts["pixels"] + arch.slots),
        "large weights": large[Space.WEIGHT] * arch.weight_bits,
        "large weight address": large[Space.WEIGHT] * facts["fillings"],
        "large parameters": large[Space.PARAMETER] * arch.post_lanes * arch.parameter_bits,
        "large operands": large[Space.OPERAND] * arch.activation_bits,
        "copy address": operands * bits_of(arch.operand_depth), **small,
        "blocks": (1 << max(0, facts["pixels"] - 11)) * arch.activation_bits, **_of_banks(arch),
        **_of_writes(arch), **_of_fillings(arch, arch.weight_bits)},
        operand=operands, large=large[Space.ACTIVATION])


def _scale(arch):
    scale = arch.weight.block_scale
    assert scale is not None                # else there are none of these
    block = scale.man > 0 and arch.scale_structure.is_dsp
    return _each({"sum": arch.psum_bits, "scaled": arch.scaled_bits, "code": arch.scale_word.width,
                  "mantissa": scale.man * arch.psum_bits * (not block),
                  "pairs": (scale.man == 1 and not block) * arch.psum_bits,
                  "places": (not block) * arch.scaled_bits * (scale.width - scale.man),
                  "block": block * arch.scaled_bits,
                  "factor": block * scale.largest.bit_length()},
                 mantissa_too=scale.man > 0, in_block=block)


def _shared_bus(arch):
    number, cores = bits_of(arch.cores), arch.cores
    return _each({"beat": arch.bus_bits, "number": number, "cores": cores,
                  "choice": cores * arch.bus_bits, "turns": cores * cores})


def _register_windows(arch):
    return _each({"number": bits_of(arch.cores), "cores": arch.cores})


@dataclass(frozen=True)
class Kind:
    """A module of a core, or of what several of them share.

    Attributes
    ----------
    part : str
        The part of the chip that it is of, one of `area.PARTS`.
    terms : function of an Arch
        {name: number}; what an instance costs is a sum of multiples of them.
    instances : function of an Arch
        How many a core has.
    module : str
        Its name in a core's netlist.
    shared : bool
        Whether several cores have it once, and cores alone do not; then it is with all modules
        inside it.
    """
    part: str
    terms: Callable[[Arch], Terms]
    module: str
    instances: Callable[[Arch], int] = lambda arch: 1
    shared: bool = False


def _core_module(name, part, terms, instances=lambda arch: 1, *, shared=False):
    return Kind(part, terms, f"systolith_core.{name}" if name else "systolith_core", instances,
                shared)


def _several(arch):
    return int(arch.cores > 1)


#: The modules of a chip, but for its processing elements.
KINDS = {
    "edges": _core_module("array.array", "array edges", _edges),
    "scale": Kind("array edges", _scale, "systolith_scale",
                  lambda arch: arch.columns if arch.weight.block_scale else 0),
    "accumulator": Kind("accumulators", _accumulator, "systolith_accumulator",
                        lambda arch: arch.columns),
    "array": _core_module("array", "array control", _array),
    "pixels": _core_module("array.pixels", "array control", _pixels),
    "results": _core_module("array.results", "array control", _results),
    "feeder": _core_module("array.feeder", "array control", _feeder),
    "post": _core_module("post", "post-processing", _post),
    "post lane": Kind("post-processing", _post_lane, "systolith_post_lane",
                      lambda arch: arch.post_lanes),
    "operand lane": Kind("post-processing", _operand_lane, "systolith_operand_lane",
                         lambda arch: arch.post_lanes if arch.operand_depth else 0),
    "table lane": Kind("post-processing", _table_lane, "systolith_table_lane",
                       lambda arch: arch.post_lanes if arch.table_depth else 0),
    "operand map": _core_module("post.operand_map", "post-processing", _operand_map,
                                lambda arch: int(arch.operand_depth > 0)),
    "pooling": _core_module("post.pooling", "post-processing", _pooling),
    "reader": _core_module("post.reader", "post-processing", _reader),
    "writer": _core_module("post.writer", "post-processing", _writer),
    "writer map": _core_module("post.writer.map", "post-processing", _map),
    "writer queue": _core_module("post.writer.queue", "post-processing", _item_queue),
    "load": _core_module("load", "dma", _load),
    "load bursts": _core_module("load.bursts", "dma", _bursts),
    "store": _core_module("store", "dma", _store),
    "store bursts": _core_module("store.bursts", "dma", _bursts),
    "store window": _core_module("store.window_check", "dma", _window),
    "store queue": _core_module("store.outstanding", "dma", _store_queue),
    "arbiter": _core_module("arbiter", "dma", _arbiter),
    "arbiter window": _core_module("arbiter.window_check", "dma", _window),
    "arbiter queue": _core_module("arbiter.outstanding", "dma", _read_queue),
    "sequencer": _core_module("sequencer", "control", _sequencer),
    "check": _core_module("sequencer.check", "control", _check),
    "queues": _core_module("sequencer.queues", "control", _queues),
    "csr": _core_module("csr", "control", _csr),
    "counters": _core_module("csr.counters", "control", _counters,
                             lambda arch: int(arch.counters)),
    "tokens": _core_module("tokens", "control", _tokens),
    "core": _core_module("", "core top", _core),
    "shared bus": _core_module("shared_bus", "core top", _shared_bus, _several, shared=True),
    "register windows": _core_module("registers", "core top", _register_windows, _several,
                                     shared=True),
}


def element_key(arch: Arch) -> str:
    """What the costs of a processing element are looked up by; `arch` as it is built for a
    target."""
    special = [name for name in ("packed_signs", "packed_halves") if getattr(arch, name)]
    if arch.shared_columns > 1:
        special.append(f"{arch.shared_columns} columns")
    return " ".join([f"{arch.activation} x {arch.weight}", arch.pe_structure.value, *special])


def element_terms(arch: Arch) -> Terms:
    """As of `Kind.terms`, of a processing element of one pair of formats, but for `element_base`.
    """
    unit = arithmetic_of(arch)
    return _each({"lanes": arch.lanes, "more lanes": arch.lanes - 1,
                  "operands": unit.activation_bits + arch.shared_columns * unit.weight_bits},
                 single=arch.lanes == 1)


def element_base(arch: Arch) -> dict[str, int]:
    """{figure: number} of what costs the same in all elements: a bit of a column's partial sum an
    adder, which come in pairs, and a flip-flop; the choice of activations from above a LUT a bit.
    """
    unit = arithmetic_of(arch)
    above = arch.depthwise * unit.activation_bits
    return {"lut": arch.shared_columns * 2 * -(-unit.psum_bits // 2) + above,
            "ff": arch.shared_columns * unit.psum_bits, "dsp": 0}


def terms_of(arch: Arch) -> dict[str, tuple[int, Terms]]:
    """{kind of module: (how many, terms)} of a chip, but for its processing elements."""
    return {name: (count if kind.shared else arch.cores * count, kind.terms(arch))
            for name, kind in KINDS.items() if (count := kind.instances(arch))}


def _ram_terms(depth: int, bits: int, parts: int = 1, reads: int = 1) -> Terms:
    """Terms of what is around RAM of LUTs: registers for what is read, and its choice."""
    small = ram_of(depth, bits, parts, reads)[1] > 0
    rows = -(-depth // 16)
    return {"small words": small * reads * bits, "small": small * reads * parts,
            "small choice": small * reads * bits * (rows - 1), "small rows": small * rows}
