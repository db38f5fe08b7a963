"""Random chips, from a seed."""

import random
from dataclasses import replace
from math import gcd
from typing import Any

from systolith.hw.element.element import arithmetic_of
from systolith.hw.spec.arch import KEYS, Arch
from systolith.hw.spec.keys import Choice, Kind, Several, Switch, Whole
from systolith.hw.spec.rules import ArchError

__all__ = ["random_arch"]

_FLOATS = ("e2m1", "e3m0", "e2m2", "e3m1", "e2m3", "e3m2", "e4m1", "e2m5", "e3m4", "e4m3")
#: What an activation or a weight may be instead, by family. No formats with codes of NaN: their
#: programs load fresh words only.
_OTHERS = {"int": ("int1", "int9", "int12", "int16"), "float": ("e5m2", "e1m2", "e1m5", "e5m1"),
           "bipolar": ("bipolar1",)}
#: What a weight alone may be.
_WEIGHTS = {"int": ("e3m0", "e2m1", "e2m0x2", "e3m2flush"), "float": ("int4", "e3m0x2", "e3m0r4"),
            "bipolar": ()}
#: Logarithms, which are multiplied with those of the same root and table alone.
_LOGARITHMS = (("lns8", "lns8"), ("lns8", "lns6"), ("lns6", "lns8"), ("lns8t10", "lns8t10"),
               ("lns6r4", "lns5r4"), ("lns5r2t4", "lns5r2t4"), ("lns4r1t0", "lns5r1t0"))

#: How many chips have many rows or columns, of those that can.
_LARGE = 0.08


def random_arch(seed: int, family: str | None = None) -> Arch:
    """A small chip; `family`: "int", "float" or "bipolar", drawn where None."""
    draw, others, packed, blocks, planes = (
        random.Random(f"{what} {seed}") for what in ("chip", "others", "signs", "blocks", "planes"))
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
        lowest = random.Random(f"lowest {seed}")
        if kind == "float" and lowest.random() < 0.2:
            activation = lowest.choice(("e3m2dl", "e2m3dl", "e4m3b11dl"))
        if others.random() < 0.2:
            weight = others.choice(_OTHERS[kind] + _WEIGHTS[kind])
        rows, columns = draw.randint(1, 9), draw.randint(1, 9)
        if kind != "bipolar" and draw.random() < 0.4:    # the shape that some options need
            lanes, columns = 1, rows
        if kind == "int" and packed.random() < 0.25:     # the formats and the shape for signs
            activation = weight = f"int{packed.choice((3, 4, 5, 8))}"
            lanes, rows = 1, int(activation[3:])
            columns = rows
        if kind == "bipolar" and planes.random() < 0.25:    # the shape for planes in rows
            rows, lanes = planes.randint(8, 9), 2 * planes.randint(1, 20)
        logarithms = random.Random(f"logarithms {seed}")
        if kind == "float" and logarithms.random() < 0.12:
            activation, weight = logarithms.choice(_LOGARITHMS)
        facts: dict[str, Any] = dict(
            name=f"random-{seed}", rows=rows, columns=columns, lanes=lanes, activation=activation,
            weight=weight, largest_k=draw.choice((rows * lanes, 100, 777, 4608)),
            activation_depth=draw.randint(24, 200), weight_depth=rows * draw.randint(2, 24),
            accumulator_depth=draw.randint(4, 70), bus_bits=draw.choice((32, 64, 128)),
            burst_beats=1 << draw.randint(0, 6), queue_depth=draw.randint(1, 5))
        if kind != "bipolar" and blocks.random() < 0.1:     # weights in blocks, of one pass or more
            form = blocks.choice(("mxint8", "mxfp4", "mxfp6", "mxfp6_e2m3", "nvfp4", "mls"))
            shape = [(rows, lanes) for rows in range(1, 9) for lanes in (1, 2, 4)
                     if 16 % (rows * lanes) == 0 and lanes > (form == "nvfp4")]
            facts["rows"], facts["lanes"] = blocks.choice(shape)
            facts |= {"weight": form, "weight_depth": (facts["rows"] + 1) * blocks.randint(2, 20)}
        try:
            arch = Arch(**facts)
            if draw.random() < 0.4:
                facts["accumulator"] = draw.choice(
                    (64, *(min(64, arch.scaled_bits + n) for n in (0, 0, 1, 1, 2, 3, 4))))
            facts["post_lanes"] = draw.choice(
                [n for n in range(1, arch.group + 1) if arch.group % n == 0])
            facts["parameter_depth"] = arch.group * draw.randint(1, 6)
            arch = Arch(**facts)
        except ValueError:                       # sums that need more than 64 bits
            continue
        if arch.bus_bits == 128:
            wide = random.Random(f"bus {seed}").choice((128, 256, 512))
            arch = replace(arch, bus_bits=wide)
        narrow = random.Random(f"multipliers {seed}")
        if narrow.random() < 0.4:
            arch = replace(arch, multiplier_bits=narrow.randint(16, 25))
        if random.Random(f"sums {seed}").random() < 0.15:
            arch = _changed(arch, "sums", ["1-6-9"])
        return _smaller(_random_inside(_larger(_with_options(arch, seed), seed), seed), seed)


def _larger(arch, seed):
    """The chip with some chance with so many rows, or columns, that it has near ones, and few of
    the others."""
    draw = random.Random(f"large {seed}")
    if draw.random() > _LARGE:
        return arch
    rows, columns = sorted((draw.randint(1, 3), draw.randint(32, 66)), reverse=draw.random() < 0.5)
    group = gcd(rows, columns)
    try:
        return replace(arch, rows=rows, columns=columns, lanes=1,
                       post_lanes=draw.choice([n for n in (1, 2, 3) if group % n == 0]),
                       parameter_depth=columns * draw.randint(1, 3),
                       weight_depth=rows * draw.randint(2, 6))
    except ValueError:                  # what else it has needs another shape
        return arch


def _smaller(arch, seed):
    """The chip without some of what makes control large, each with some chance."""
    draw = random.Random(f"small {seed}")
    return replace(arch, address_bits=draw.choice((32, 32, 18)), prefetch=draw.random() < 0.7,
                   token_bits=draw.choice((6, 10)), diagnosis=draw.random() < 0.8,
                   watchdog_bits=draw.choice((17, 32)), checksum=draw.random() < 0.8)


def _with_options(arch, seed):
    """The chip with some of its optional parts."""
    for key in KEYS.values():
        draw = random.Random(f"{key.field} {seed}")
        if key.optional and draw.random() < 0.5:
            arch = _changed(arch, key.field, _values(key.kind, draw))
    return arch


def _random_inside(arch, seed):
    """The chip with other processing elements, which its programs do not see; one core, as where
    several share a bus there are no cycles to compare with."""
    draw = random.Random(f"inside {seed}")
    for key in KEYS.values():
        if not key.programs and key.field not in ("stages", "cores"):
            arch = _changed(arch, key.field, _values(key.kind, draw))
    most = arithmetic_of(arch).most_stages
    return replace(arch, stages=draw.choice((None, 1, draw.randint(1, most))))


def _values(kind: Kind, draw: random.Random) -> list[Any]:
    """Values to try for a key, one after the other; none for names and the clock."""
    if isinstance(kind, Choice):
        return [draw.choice(kind.values)]
    if isinstance(kind, Switch):
        return [True]
    if isinstance(kind, Several):       # one after the other, since they must fit a format
        highest = min(8, kind.high + 1)
        if kind.repeats:
            return [tuple(draw.choices(range(kind.low, high), k=draw.randint(1, most)))
                    for most in range(kind.most, 0, -1) for high in range(highest, kind.low, -1)]
        return [tuple(draw.sample(range(kind.low, high), min(draw.randint(1, kind.most),
                                                             high - kind.low)))
                for high in range(highest, kind.low, -1)]
    if not isinstance(kind, Whole):
        return []
    # sizes of memories, some of which must be powers of two; numbers of parts
    return ([draw.randint(10, 120), *(1 << draw.randint(4, 10) for _ in range(4))] if kind.low == 0
            else [draw.randint(1, 9) for _ in range(4)])


def _changed(arch, field, values):
    """The chip with the first of `values` that its rules allow, or as it is."""
    for value in values:
        try:
            return replace(arch, **{field: value})
        except ArchError:
            pass
    return arch
