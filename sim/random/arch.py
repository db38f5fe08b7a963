"""Random chips, from a seed."""

import random
from dataclasses import replace
from typing import Any

from systolith.hw.element.element import arithmetic_of
from systolith.hw.formats import parse
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import WITHOUT_EFFECT
from systolith.hw.spec.rules import SWITCHES, ArchError
from systolith.hw.spec.structures import Structure

__all__ = ["random_arch"]

_FLOATS = ("e2m1", "e3m0", "e2m2", "e3m1", "e2m3", "e3m2", "e4m1", "e2m5", "e3m4", "e4m3")
#: What an activation or a weight may be instead, by family. No formats with codes of NaN: their
#: programs load fresh words only.
_OTHERS = {"int": ("int1", "int9", "int12", "int16"), "float": ("e5m2", "e1m2", "e1m5", "e5m1"),
           "bipolar": ("bipolar1",)}
#: What a weight alone may be.
_WEIGHTS = {"int": ("e3m0", "e2m1", "e2m0x2", "e3m2flush"), "float": ("int4", "e3m0x2", "e3m0r4"),
            "bipolar": ()}
#: {switch: what its draws are called}, where not by its name, so that old seeds keep their chips.
_STREAMS = {"bit_planes": "planes"}


def random_arch(seed: int, family: str | None = None) -> Arch:
    """A small chip; `family`: "int", "float" or "bipolar", drawn where None."""
    draw, others = random.Random(f"chip {seed}"), random.Random(f"others {seed}")
    while True:
        kind = family or draw.choice(("int", "float", "bipolar"))
        lanes = draw.choice((1, 1, 1, 2, 3, 4))
        if kind == "int":
            activation, weight = (f"int{draw.randint(2, 8)}" for _ in range(2))
        elif kind == "float":
            activation, weight = draw.choice(_FLOATS), draw.choice(_FLOATS)
        else:
            activation = weight = "bipolar1"
            lanes = draw.randint(1, 40)
        if others.random() < 0.2:
            activation = others.choice(_OTHERS[kind])
        if others.random() < 0.2:
            weight = others.choice(_OTHERS[kind] + _WEIGHTS[kind])
        rows, columns = draw.randint(1, 9), draw.randint(1, 9)
        depthwise = kind != "bipolar" and draw.random() < 0.3
        if depthwise:
            lanes, columns = 1, rows
        facts: dict[str, Any] = dict(
            name=f"random-{seed}", rows=rows, columns=columns, lanes=lanes, activation=activation,
            weight=weight, largest_k=draw.choice((rows * lanes, 100, 777, 4608)),
            activation_depth=draw.randint(24, 200), weight_depth=rows * draw.randint(2, 24),
            accumulator_depth=draw.randint(4, 70), bus_bits=draw.choice((32, 64, 128)),
            burst_beats=1 << draw.randint(0, 6), queue_depth=draw.randint(1, 5),
            depthwise=depthwise)
        if kind != "bipolar" and (other := random.Random(f"operands {seed}")).random() < 0.6:
            facts["operand_depth"] = other.randint(10, 120)
        other = random.Random(f"functions {seed}")
        functions = kind != "bipolar" and other.random() < 0.5
        facts["leaky"] = functions and other.random() < 0.5
        if functions and (width := parse(activation).width) <= 8:
            facts["table_depth"] = 1 << width + other.choice((0, 0, 1, 2))
        try:
            arch = _with_switches(facts, seed)
            facts |= {field: getattr(arch, field) for field in SWITCHES}
            if draw.random() < 0.4:
                facts["accumulator"] = draw.choice(
                    (64, *(min(64, arch.psum_bits + n) for n in (0, 0, 1, 1, 2, 3, 4))))
            facts["post_lanes"] = draw.choice(
                [n for n in range(1, arch.group + 1) if arch.group % n == 0])
            facts["parameter_depth"] = arch.group * draw.randint(1, 6)
            return _random_inside(Arch(**facts), seed)
        except ValueError:                       # sums that need more than 64 bits
            continue


def _with_switches(facts, seed):
    """The chip of `facts`, fields of `Arch`, with every other switch that programs depend on drawn,
    and left off where the chip's rules forbid it. Raises ArchError for the rest."""
    drawn: dict[str, Any] = {
        field: random.Random(f"{_STREAMS.get(field, field)} {seed}").random() < 0.5
        for field in SWITCHES if field not in facts and field not in WITHOUT_EFFECT}
    while True:
        try:
            return Arch(**facts, **drawn)
        except ArchError as error:
            if not drawn.pop(error.field, False):
                raise


def _random_inside(arch, seed):
    """The chip with other processing elements, which its programs do not see."""
    draw = random.Random(f"inside {seed}")
    arch = replace(
        arch, structure=draw.choice(("auto", *Structure)), stages=None, shared_columns=draw.choice(
            [n for n in range(1, arch.columns + 1)
             if arch.columns % n == 0 and (n == 1 or not arch.depthwise)]))
    most = arithmetic_of(arch).most_stages
    return replace(arch, stages=draw.choice((None, 1, draw.randint(1, most))))
