"""An estimate of the area of a chip from its keys alone, in milliseconds, for exploring.

A core is the sum of its modules. What one costs grows with numbers that follow from the keys: bits
of its registers, steps of its adders, places of its multiplexers (`KINDS`). How much each of
them costs has been fitted, without negative costs, to the modules of random chips that Yosys has
mapped (`fit_area.py`); the data file has these numbers, and how far estimates of chips that the fit
had not seen were off. Processing elements have costs of their own for each pair of formats: an
element whose formats were not measured is refused, not guessed. Block RAM follows Yosys' own choice
between RAM of blocks and of LUTs.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

from systolith.gen.kit.errors import UserError
from systolith.hw.element.element import arithmetic_of
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import HEAD, INSTRUCTION_BYTES, Memory, Opcode, Unit
from systolith.hw.spec.memories import MEMORIES, Space, loadable, word_bytes
from systolith.hw.spec.numbers import SHIFT_BITS
from systolith.hw.spec.timing import (
    FETCHES,
    ITEMS,
    LANE_ENTRY,
    STORE_BURSTS,
    array_latency,
    booth_digits,
    burst_limit,
    lane_factor_bits,
    lane_number_bits,
    operand_image_bits,
    operand_lane_latency,
    post_lane_latency,
    product_latency,
    product_parts,
    product_rows,
    rounding_levels,
    word_latency,
)
from systolith.hw.spec.widths import kept_bits

from .area import FIGURES, Figures, built_for
from .hierarchy import PARTS

__all__ = ["ESTIMATED", "KINDS", "Estimate", "Kind", "element_base", "element_key",
           "element_terms", "estimate", "figures_by", "fit_content", "knows", "measured_targets",
           "ram_of", "terms_of", "warning"]

#: Execution units, and the bits of a layer's number.
_UNITS, _LAYER = len(Unit), 12
#: What is estimated by a fit; DSP blocks and block RAM follow from the chip's keys.
ESTIMATED = ("lut", "ff")


def _log(number):
    """Bits of an address of so many words."""
    return max(number - 1, 0).bit_length()


@lru_cache(maxsize=256)
def _facts(arch: Arch) -> dict[str, Any]:
    """Numbers that several modules' costs are made of."""
    arithmetic = arithmetic_of(arch)
    kept = {opcode: sum(kept_bits(arch, opcode).values()) for opcode in (
        Opcode.LOAD, Opcode.ARRAY, Opcode.POST, Opcode.STORE)}
    slots = max(word_bytes(row.space, arch) for row in loadable(arch)) // arch.beat_bytes
    longest = max(_log(row.depth(arch)) for row in loadable(arch))
    return {
        "arithmetic": arithmetic, "head": sum(item.width for item in HEAD),
        "load": kept[Opcode.LOAD], "array": kept[Opcode.ARRAY], "post": kept[Opcode.POST],
        "store": kept[Opcode.STORE], "slots": slots, "longest": longest,
        "offset": min(32, arch.address_bits + 1) - _log(arch.beat_bytes),
        "burst": _log(burst_limit(arch)), "latency": array_latency(arch, arithmetic.stages),
        "word": word_latency(arch), "sums": _log(arch.accumulator_depth),
        "pixels": _log(arch.activation_depth), "fillings": _log(arch.weight_depth),
        "mark": 8 + _log(arch.chunks), "parts": arch.columns // arch.post_lanes,
    }


Terms = dict[str, float]


def _each(terms: Terms, **switches: bool) -> Terms:
    """The terms, and switches of the chip as 0 or 1."""
    return {"1": 1.0, **terms, **{name: float(on) for name, on in switches.items()}}


def _product(arch, one, other, addend):
    """(terms, cycles) of a product of two signed factors, one adder a cycle, and an addend of so
    many bits; 0: none."""
    width, cycles = one + other, product_latency(arch, one, other, addend > 0)
    if arch.post_luts:
        lengths, longer = booth_digits(min(one, other)), max(one, other)
        rows = sum(lengths)
        return {"booth rows": rows * (longer + 3), "booth final": sum(
            length * (length - 1) for length in lengths), "joined": (len(lengths) - 1) * width,
            "late": (len(lengths) - 1) * (lengths[0] - lengths[-1]) * width}, cycles
    terms = [(sum(product_parts(one)[i] + product_parts(other)[j] for i, j in row),
              17 * sum(row[0])) for row in product_rows(one, other)]
    if addend:
        terms.append((addend, 0))
    adders = registers = 0
    while len(terms) > 1:
        pairs = []
        for n in range(0, len(terms) - 1, 2):
            (low, place), (high, start) = sorted(terms[n:n + 2], key=lambda term: term[1])
            long = min(width, max(low + place, high + start) + 1)
            adders += long - start
            registers += long - place
            pairs.append((long - place, place))
        if len(terms) % 2:
            registers += terms[-1][0]
            pairs.append(terms[-1])
        terms = pairs
    return {"adders": adders, "sums": registers, "addend": addend}, cycles


def _post_lane(arch):
    number, factor = lane_number_bits(arch), lane_factor_bits(arch)
    if arch.activation.binary:
        return _each({"sum": number, "bits": arch.multiplier_bits})
    addend = max(arch.multiplier_bits + 1 if arch.addend_bits else 0,
                 operand_image_bits(arch)[1] + arch.gain_bits if arch.operand_depth else 0)
    terms, cycles = _product(arch, number, factor, addend)
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
        "leaky sum": arch.leaky * number,
        "offset": arch.slope_offsets * (arch.last_bits + 4),
        "offset late": arch.slope_offsets * (arch.last_bits + 4) * cycles,
        "limits": arch.first_bits, **terms, **rounding},
        floating=form.floating)


def _operand_lane(arch):
    first, other = operand_image_bits(arch)
    factor = max(arch.gain_bits, first)
    terms, cycles = _product(arch, other, factor, 0)
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
    scales = arch.weight.block_scale.width if arch.weight.block_scale else 0
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
        "heads": arch.packed_signs * columns * unit.psum_bits,
        "scales": scales * (steps + columns * unit.stages), "scales late": scales and rows}


def _array(arch):
    facts = _facts(arch)
    unit = facts["arithmetic"]
    # cycles from a pixel to the control of its sum in the first column
    to_column = facts["latency"] - (arch.columns - 1) // arch.shared_columns
    control = facts["sums"] + 3 + arch.bit_planes
    return _each({
        "control": control * max(0, to_column - 2), "latency": facts["latency"],
        "latency bits": _log(facts["latency"] + 2), "activations": arch.activation_bits,
        "weights": arch.weight_bits, "rows": arch.rows, "sums": facts["sums"],
        "columns": arch.columns, "pad": arch.activation.width * facts["word"],
        "addresses": (facts["word"] - 4) * (facts["pixels"] + facts["fillings"]),
        "fillings": facts["fillings"], "log rows": _log(arch.rows + 1),
        "narrow": bool(arch.weight_widths) * arch.weight_bits,
        "narrow widths": len(arch.weight_widths) * arch.weight_bits,
        "binary": arch.activation.binary * arch.activation_bits,
        "binary weights": arch.activation.binary * arch.weight_bits,
        "prefetch": arch.prefetch * (facts["fillings"] + facts["sums"])},
        depthwise=arch.depthwise, planes=arch.bit_planes, side=arch.side_taps,
        parts=arch.parts, plain=not arch.prefetch, lanes=unit.lanes > 1)


def _pixels(arch):
    facts = _facts(arch)
    kept = kept_bits(arch, Opcode.ARRAY)
    loops = sum(kept[name] for name in ("pool_x", "pool_y", "out_x", "out_y", "blocks",
                                        "kernel_x", "kernel_y"))
    return _each({
        "loops": loops, "coordinate": facts["pixels"] + 3, "pixels": facts["pixels"],
        "kept": arch.prefetch * facts["array"], "sums": facts["sums"],
        "fillings": facts["fillings"]},
        depthwise=arch.depthwise, plain=not arch.prefetch)


def _results(arch):
    facts = _facts(arch)
    return _each({"sums": facts["sums"], "kept": arch.prefetch * facts["sums"],
                  "above": arch.depthwise * facts["sums"],
                  "above kept": arch.depthwise * arch.prefetch},
                 depthwise=arch.depthwise)


def _feeder(arch):
    return _each({"fillings": _facts(arch)["fillings"], "rows": _log(arch.fill),
                  "widths": sum(-(-arch.weight.width // bits) for bits in arch.weight_widths)},
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
    stages = LANE_ENTRY + post_lane_latency(arch)
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
        "parameter address": _log(arch.parameter_depth), "log parts": _log(parts)},
        operand=operands, table=arch.table_depth > 0, plain=not arch.prefetch)


def _pooling(arch):
    lanes, bits = arch.post_lanes, arch.first_bits
    return _each({"lanes": lanes, "bits": lanes * bits, "kept": lanes * bits * (arch.chunks - 1),
                  "choice": lanes * bits * (arch.chunks > 1), "mark": _facts(arch)["mark"],
                  "least": arch.activation.binary * lanes})


def _reader(arch):
    facts = _facts(arch)
    return _each({"sums": facts["sums"], "chunks": _log(arch.chunks),
                  "operand": arch.operand_depth > 0, "groups": _log(arch.group)},
                 plain=not arch.prefetch, one=arch.chunks == 1)


def _writer(arch):
    return _each({
        "group": arch.group_bits, "raw": arch.post_lanes * arch.raw_bits,
        "item": arch.item_bits, "both": min(arch.group_bits, arch.post_lanes * arch.raw_bits),
        "words": arch.groups_per_word, "slots": arch.slots, "chunks": arch.chunks,
        "parts": arch.parts * arch.group_bits, "part words": arch.parts * arch.activation_bits,
        "address": _facts(arch)["pixels"], "copy": arch.operand_depth > 0 and _log(
            arch.operand_depth)}, several=arch.chunks > 1)


def _map(arch):
    return _each({"address": max(_facts(arch)["pixels"],
                                 _log(arch.operand_depth) if arch.operand_depth else 0)})


def _operand_map(arch):
    return _each({"address": _log(arch.operand_depth)})


def _table_lane(arch):
    return _each({"address": arch.table_address_bits, "width": arch.activation.width,
                  "number": arch.first_bits, **_ram_terms(arch.table_depth, arch.table_bits)},
                 floating=arch.activation.floating)


def _load(arch):
    facts = _facts(arch)
    return _each({
        "content": facts["slots"] * arch.bus_bits, "slots": facts["slots"],
        "log slots": _log(facts["slots"]), "beat": arch.bus_bits, "kept": facts["load"],
        "offset": facts["offset"], "address": facts["longest"],
        "product": _log(facts["slots"] + 1) * facts["longest"]},
        one=facts["slots"] == 1, diagnosis=arch.diagnosis)


def _bursts(arch):
    facts = _facts(arch)
    return _each({"offset": facts["offset"], "burst": facts["burst"], "address": facts["longest"],
                  "slots": _log(facts["slots"] + 1), "beat": _log(arch.beat_bytes)},
                 diagnosis=arch.diagnosis)


def _store(arch):
    facts = _facts(arch)
    size = max(arch.group_bytes, arch.raw_bytes) // arch.beat_bytes
    lanes = arch.beat_bytes // min(arch.beat_bytes, arch.group_bytes, arch.raw_bytes)
    return _each({
        "beat": arch.bus_bits, "item": arch.item_bits, "beats": arch.bus_bits * max(0, size - 1),
        "group": arch.group_bits, "offset": facts["offset"], "kept": facts["store"],
        "lanes": _log(lanes), "strobes": lanes, "several": size > 1, "burst": facts["burst"],
        "raw beats": _log(max(1, arch.raw_bytes // arch.beat_bytes)),
        "group beats": _log(max(1, arch.group_bytes // arch.beat_bytes)),
        "place": facts["offset"] + _log(lanes)}, diagnosis=arch.diagnosis)


def _window(arch):
    facts = _facts(arch)
    return _each({"offset": facts["offset"], "burst": facts["burst"],
                  "page": 12 - _log(arch.beat_bytes)}, based=arch.address_bits == 32)


def _store_entry(arch):
    """Bits that STORE keeps of a burst."""
    return 1 + _UNITS + arch.diagnosis * (_LAYER + _facts(arch)["offset"])


def _read_entry(arch):
    """Bits that the arbiter keeps of a burst."""
    facts = _facts(arch)
    tag = (len(Memory) + facts["longest"] + _log(facts["slots"]) + _UNITS + 1
           + arch.diagnosis * _LAYER)
    return 4 + facts["burst"] + arch.diagnosis * facts["offset"] + tag


def _store_queue(arch):
    return _each({"entry": _store_entry(arch)})


def _read_queue(arch):
    return _each({"entry": _read_entry(arch)})


def _arbiter(arch):
    facts = _facts(arch)
    return _each({"offset": facts["offset"], "beat": arch.bus_bits, "burst": facts["burst"],
                  "address": facts["longest"], "slots": _log(facts["slots"]),
                  "where": arch.diagnosis * facts["offset"], "entry": _read_entry(arch)},
                 diagnosis=arch.diagnosis)


def _sequencer(arch):
    facts = _facts(arch)
    return _each({"bus": arch.bus_bits, "offset": facts["offset"], "queue": _log(arch.queue_depth),
                  "watchdog": arch.watchdog_bits, "beats": 256 // arch.bus_bits},
                 diagnosis=arch.diagnosis, plain=not arch.prefetch, wide=arch.bus_bits > 64,
                 narrow=arch.bus_bits < 64)


def _queues(arch):
    facts = _facts(arch)
    return _each({"kept": facts["load"] + facts["store"] + facts["array"] + facts["post"],
                  "array": facts["array"], "post": facts["post"], "load": facts["load"],
                  "store": facts["store"], "bus": arch.bus_bits, "queue": _log(arch.queue_depth)},
                 plain=not arch.prefetch, wide=arch.bus_bits > 64, narrow=arch.bus_bits < 64)


def _check(arch):
    facts = _facts(arch)
    return _each({"address": facts["longest"], "offset": facts["offset"],
                  "pixels": facts["pixels"], "fillings": facts["fillings"], "sums": facts["sums"]},
                 diagnosis=arch.diagnosis, operand=arch.operand_depth > 0,
                 table=arch.table_depth > 0, binary=arch.activation.binary,
                 depthwise=arch.depthwise, wide=arch.bus_bits > 64)


def _csr(arch):
    facts = _facts(arch)
    return _each({"offset": facts["offset"], "address": arch.address_bits,
                  "watchdog": arch.watchdog_bits}, diagnosis=arch.diagnosis, counters=arch.counters,
                 based=arch.address_bits == 32)


def _counters(arch):
    return {"1": 1.0}


def _tokens(arch):
    return _each({"bits": arch.token_bits})


def _core(arch):
    facts = _facts(arch)
    large = {row.space: row.exists(arch) and row.large(arch) for row in MEMORIES.values()}
    operands = arch.operand_depth > 0
    small: Counter = Counter()
    for memory in _scratchpads(arch):
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
        "copy address": operands * _log(arch.operand_depth), **small,
        "banks": (1 << max(0, facts["pixels"] - 11)) * arch.activation_bits},
        operand=operands, large=large[Space.ACTIVATION])


def _scale(arch):
    scale = arch.weight.block_scale
    assert scale is not None                # else there are none of these
    return _each({"sum": arch.psum_bits, "scaled": arch.scaled_bits,
                  "mantissa": scale.man * arch.psum_bits}, mantissa_too=scale.man > 0)


@dataclass(frozen=True)
class Kind:
    """A module of a core.

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
    """
    part: str
    terms: Callable[[Arch], Terms]
    module: str
    instances: Callable[[Arch], int] = lambda arch: 1


def _core_module(name, part, terms, instances=lambda arch: 1):
    return Kind(part, terms, f"systolith_core.{name}" if name else "systolith_core", instances)


#: The modules of a core, but for its processing elements.
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
    "writer queue": _core_module("post.writer.queue", "post-processing", _counters),
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
}


def element_key(arch: Arch) -> str:
    """What the costs of a processing element are looked up by; `arch` as it is built for a
    target."""
    special = [name for name in ("packed_signs", "packed_halves") if getattr(arch, name)]
    return " ".join([f"{arch.activation} x {arch.weight}", arch.pe_structure.value, *special])


def element_terms(arch: Arch) -> Terms:
    """As of `Kind.terms`, of a processing element of one pair of formats, but for `element_base`.
    """
    unit = arithmetic_of(arch)
    return _each({"lanes": arch.lanes, "more lanes": arch.lanes - 1,
                  "operands": unit.activation_bits + unit.weight_bits}, single=arch.lanes == 1)


def element_base(arch: Arch) -> dict[str, int]:
    """{figure: number} of what costs the same in all elements: a bit of a partial sum an adder,
    which come in pairs, and a flip-flop; the choice of activations from above a LUT a bit."""
    unit = arithmetic_of(arch)
    above = arch.depthwise * unit.activation_bits
    return {"lut": 2 * -(-unit.psum_bits // 2) + above, "ff": unit.psum_bits, "dsp": 0}


def terms_of(arch: Arch) -> dict[str, tuple[int, Terms]]:
    """{kind of module: (how many, terms)} of a core, but for its processing elements."""
    return {name: (count, kind.terms(arch)) for name, kind in KINDS.items()
            if (count := kind.instances(arch))}


#: What Yosys' choice of a memory's RAM weighs of a block, a cell of RAM of LUTs and a bit of a
#: multiplexer, on ECP5.
_BLOCK, _CELL, _CHOICE = 128, 4, 0.5
#: Widths of a block's words by their number.
_WORDS = {16384: 1, 8192: 2, 4096: 4, 2048: 9, 1024: 18, 512: 36}


def ram_of(depth: int, bits: int, parts: int = 1, reads: int = 1, *,
           block: bool = False) -> tuple[int, int]:
    """(blocks of RAM, cells of RAM of LUTs) of a memory of `depth` words of `bits` bits, of which
    `parts` parts are written apart, on ECP5. Of `reads` ports each has a copy. `block`: it is not
    to be of LUTs."""
    part, best = bits // parts, []
    for words, width in _WORDS.items():
        banks = -(-depth // words)
        if width > 9:                           # a byte of 9 bits has an enable of its own
            size = (-(-bits // width) if parts == 1
                    else -(-parts * -(-part // 9) // (width // 9)))
        else:
            size = -(-bits // width) if parts == 1 else parts * -(-part // width)
        best.append((_BLOCK * banks * size + _CHOICE * (banks - 1) * bits, banks * size))
    cost, blocks = min(best)
    rows = -(-depth // 16)
    cells = rows * parts * -(-part // 4)
    if not block and _CELL * cells + _CHOICE * (rows - 1) * bits < cost:
        return 0, cells * reads
    return blocks * reads, 0


def _ram_terms(depth: int, bits: int, parts: int = 1, reads: int = 1) -> Terms:
    """Terms of what is around RAM of LUTs: registers for what is read, and its choice."""
    small = ram_of(depth, bits, parts, reads)[1] > 0
    rows = -(-depth // 16)
    return {"small words": small * reads * bits, "small": small * reads * parts,
            "small choice": small * reads * bits * (rows - 1), "small rows": small * rows}


def _scratchpads(arch: Arch) -> list[tuple[int, int, int]]:
    """(depth, bits, parts) of the memories that are directly in the core."""
    parts = {Space.ACTIVATION: arch.slots, Space.OPERAND: arch.groups_per_word}
    return [(row.depth(arch), row.bits(arch), parts.get(row.space, 1)) for row in loadable(arch)
            if row.space != Space.TABLE]


def _memories(arch: Arch) -> dict[str, tuple[int, int]]:
    """{part of the chip: (blocks, cells of RAM of LUTs)} of a core on ECP5."""
    found = {"scratchpads": [ram_of(*memory) for memory in _scratchpads(arch)]}
    found["accumulators"] = arch.columns * [ram_of(
        arch.accumulator_depth, arch.accumulator_bits, reads=2)]
    beats = max(arch.instruction_bytes, INSTRUCTION_BYTES) // arch.beat_bytes
    waiting = 1 << _log(arch.queue_depth + FETCHES)
    found["control"] = [ram_of(len(Unit) * waiting << _log(beats), arch.bus_bits)]
    found["dma"] = [ram_of(STORE_BURSTS, _store_entry(arch), block=True),
                    ram_of(STORE_BURSTS, _read_entry(arch), block=True)]
    queue = ram_of(ITEMS, arch.item_bits, block=True)
    found["post-processing"] = [queue, *(arch.post_lanes * [
        ram_of(arch.table_depth, arch.table_bits)] if arch.table_depth else [])]
    return {part: (sum(one for one, _ in items), sum(other for _, other in items))
            for part, items in found.items()}


def _blocks(arch: Arch) -> dict[str, int]:
    """{part of the chip: DSP blocks} of a core on ECP5, but for its processing elements."""
    if arch.post_luts or arch.activation.binary:
        return {}

    def products(one, other):
        return len(product_parts(one)) * len(product_parts(other))
    lane = products(lane_number_bits(arch), lane_factor_bits(arch))
    if arch.operand_depth:
        first, other = operand_image_bits(arch)
        lane += products(other, max(arch.gain_bits, first))
    return {"post-processing": arch.post_lanes * lane}


@dataclass(frozen=True)
class Estimate:
    """The estimated area of a core.

    Attributes
    ----------
    target : str
    parts : dict of str to Figures
        By part of the chip, as of `area.PARTS`.
    error : dict
        How far estimates of `designs` chips that were not fitted to were off, as shares, for
        "lut" and "ff": their `median` and `worst`.
    hardware : str
        What the code of the hardware that it was fitted to is known by.
    """
    target: str
    parts: dict[str, Figures]
    error: dict[str, Any]
    hardware: str

    @property
    def total(self) -> Figures:
        return Figures(*(sum(getattr(part, name) for part in self.parts.values())
                         for name in FIGURES))


def warning(error: Mapping[str, Any], stale: bool = False) -> str:
    """What is to be said wherever an estimate is shown: how far those of a fit with such an error
    are off; `stale`: the hardware has changed since."""
    text = ", ".join(f"{name.upper()} {100 * error[name]['median']:.1f} % off (median; at worst "
                     f"{100 * error[name]['worst']:.1f} %)" for name in ESTIMATED)
    return (f"areas are estimated, not synthesized: of {error['designs']} random chips {text}"
            + ("; fitted to an earlier version of the hardware, python bench/area_estimate.py "
               "renews it" if stale else ""))


def measured_targets() -> list[str]:
    """Targets for which there is a fit."""
    return sorted(item.name.removeprefix("area_").removesuffix(".json")
                  for item in files(__package__).iterdir() if item.name.startswith("area_")
                  and item.name.endswith(".json"))


@cache
def fit_content(target: str) -> str | None:
    """The text of the fit for a target, on which its estimates depend; None where there is none."""
    if target not in measured_targets():
        return None
    return (files(__package__) / f"area_{target}.json").read_text()


@cache
def _fit(target):
    text = fit_content(target)
    if text is None:
        raise UserError(f"there is no estimate of areas for {target!r}, only for "
                        f"{', '.join(measured_targets())}; use area = \"modules\", which "
                        "synthesizes each module once")
    return json.loads(text)


def estimate(arch: Arch, target: str = "ecp5", *, dsp: bool | str = True) -> Estimate:
    """The estimated area of the core of `arch`, built for `target`; `dsp` as of `area.chip_area`.

    Raises UserError for a target without a fit, and for processing elements that were not measured.
    """
    fit = _fit(target)
    arch = built_for(arch, target, dsp=dsp)
    why = None
    if arch.cores > 1:
        why = "several cores"
    elif arch.shared_columns > 1:
        why = "columns that share their elements"
    elif arch.stages is not None:
        why = "array.stages other than \"auto\""
    elif not knows(fit, arch):
        why = f"elements of {element_key(arch)} with {arch.lanes} lanes"
    elif missing := [kind for kind in terms_of(arch) if kind not in fit["kinds"]]:
        why = f"the module {missing[0]}"
    if why:
        raise UserError(f"{arch.name}: there is no estimate for {why}, of which none was measured; "
                        "use area = \"modules\"")
    return Estimate(target, figures_by(fit, arch), fit["error"], fit["hardware"])


def knows(fit: Mapping[str, Any], arch: Arch) -> bool:
    """Whether a fit has costs of a chip's elements: of its formats, and of as many lanes as were
    measured, or, where several numbers were, up to twice as many."""
    found = fit["elements"].get(element_key(arch))
    if found is None:
        return False
    least, most = found["lanes"]
    return arch.lanes == most or (least < most and arch.lanes <= 2 * most)


def figures_by(fit: Mapping[str, Any], arch: Arch) -> dict[str, Figures]:
    """{part: figures} of a core by the costs of a fit; `arch` as it is built for the target."""
    found: dict[str, Counter] = {}

    def add(part, name, number):
        found.setdefault(part, Counter())[name] += number
    elements, base = arch.rows * arch.columns, element_base(arch)
    for name, costs in fit["elements"][element_key(arch)]["costs"].items():
        add("processing elements", name, elements * (
            base[name] + round(_sum(costs, element_terms(arch)))))
    for kind, (count, terms) in terms_of(arch).items():
        for name, costs in fit["kinds"][kind].items():
            add(KINDS[kind].part, name, count * round(_sum(costs, terms)))
    for part, (blocks, cells) in _memories(arch).items():
        add(part, "bram", blocks)
        add(part, "lut", 6 * cells)
    for part, blocks in _blocks(arch).items():
        add(part, "dsp", blocks)
    return {part: Figures(*(int(found[part][name]) for name in FIGURES)) for part in PARTS
            if part in found}


def _sum(costs, terms):
    return sum(cost * terms.get(name, 0) for name, cost in costs.items())
