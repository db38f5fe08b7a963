"""Processing elements in Verilated RTL, edge decoders included: codes in, added products out.

The expected products come from the formats' `product_image` in numpy, not from the hardware.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from amaranth.back import rtlil
from amaranth.hdl import Cat, Const, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.element.arithmetic import Arithmetic
from systolith.hw.element.element import ProcessingElement

from .players import play

__all__ = ["Bench", "Observed", "Vectors", "every_pair", "mismatches", "observe", "random_vectors"]


class Bench(wiring.Component):
    """One processing element, or several that share an activation register, with their decoders.

    Parameters
    ----------
    arithmetic : Arithmetic
    shadow : bool
        See `ProcessingElement`; an array's elements have none.

    Members
    -------
    a, w : In
        Codes of all lanes, lane 0 lowest; w: of all columns.
    load, swap : In(1)
    psum : In
        Partial sums from above, of all columns.
    psum_out : Out
    total : Out
        Per column, what `Arithmetic.total` makes of a column in which every one of the
        arithmetic's terms / lanes rows adds what this element has added to `psum`.
    handed_on : Out(1)
        a_out, swap_out, and load_out are what came in one cycle before.
    """

    def __init__(self, arithmetic: Arithmetic, *, shadow: bool = False):
        self.arithmetic = arithmetic
        self.columns = columns = arithmetic.columns
        self.rows = arithmetic.terms // arithmetic.lanes
        self.element = ProcessingElement(arithmetic, shadow=shadow)
        lanes = arithmetic.lanes
        super().__init__({
            "a": In(lanes * arithmetic.activation.width),
            "w": In(columns * lanes * arithmetic.weight.width),
            "load": In(1), "swap": In(1),
            "psum": In(columns * arithmetic.psum_bits),
            "psum_out": Out(columns * arithmetic.psum_bits),
            "total": Out(columns * arithmetic.sum_bits),
            "handed_on": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rules, element = self.arithmetic, self.element
        m.submodules.element = element
        before = {}
        for name, value in (("a", rules.decode_activation(m, self.a)), ("swap", self.swap),
                            ("load", self.load)):
            if name == "load" and not element.shadow:
                continue
            port = getattr(element, f"{name}_in")
            before[name] = Signal(len(port), name=f"{name}_before", reset_less=True)
            m.d.comb += port.eq(value)
            m.d.sync += before[name].eq(port)
        same = Const(1, 1)
        for name, value in before.items():
            same &= value == getattr(element, f"{name}_out")
        m.d.comb += self.handed_on.eq(same)

        weights, sums = [], []
        decoded = rules.decode_weights(m, [
            self.w.word_select(column, rules.lanes * rules.weight.width)
            for column in range(self.columns)])
        for column, weight in enumerate(decoded):
            weights.append(Signal(rules.weight_bits, name=f"weight_{column}"))
            m.d.comb += weights[-1].eq(weight)
            psum = self.psum.word_select(column, rules.psum_bits)
            before = Signal(rules.psum_bits, name=f"psum_{column}", reset_less=True)
            m.d.sync += before.eq(psum)
            added = Signal(rules.psum_bits, name=f"added_{column}")
            bottom = Signal(signed(rules.psum_bits), name=f"bottom_{column}")
            sums.append(Signal(rules.sum_bits, name=f"total_{column}"))
            m.d.comb += [
                added.eq(self.psum_out.word_select(column, rules.psum_bits) - before),
                bottom.eq(rules.head(self.rows) + self.rows * added),
                sums[-1].eq(rules.total(bottom, self.rows)),
            ]
        m.d.comb += [
            Value.cast(element.w_in).eq(Cat(weights)), Value.cast(element.psum_in).eq(self.psum),
            self.psum_out.eq(Value.cast(element.psum_out)), self.total.eq(Cat(sums)),
        ]
        return m

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the circuit: equal for formats that make the same hardware."""
        text = rtlil.convert(self, name="bench", emit_src=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(eq=False)
class Vectors:
    """Stimulus of a Bench, one vector a clock.

    a : int64 codes [N, lanes]; w : int64 codes [N, columns, lanes]; load, swap : bool [N];
    psum : Python integers [N, columns], from 0 to 2**psum_bits - 1.
    """
    a: np.ndarray
    w: np.ndarray
    load: np.ndarray
    swap: np.ndarray
    psum: np.ndarray


@dataclass(eq=False)
class Observed:
    """Observed results of an element, for every vector that has met a weight.

    a : codes [M, lanes]; w : codes [M, columns, lanes], those that were active;
    added : Python integers [M, columns], modulo 2**psum_bits: psum_out minus psum_in;
    total : Python integers [M, columns], signed, see `Bench`.
    """
    a: np.ndarray
    w: np.ndarray
    added: np.ndarray
    total: np.ndarray


# Vectors.

def _random_psums(random, bits, shape):
    """Any that may come from above, which all are modulo 2**bits; the extremes among them."""
    words = random.integers(0, 1 << 32, (-(-bits // 32), *shape)).astype(object)
    psums = sum(word << 32 * n for n, word in enumerate(words)) & ((1 << bits) - 1)
    extreme = random.random(shape)
    psums[extreme < 0.1] = 1 << (bits - 1)
    psums[extreme > 0.9] = (1 << (bits - 1)) - 1
    return psums


def every_pair(bench: Bench, random: np.random.Generator) -> Vectors:
    """Vectors in which every word of activation codes meets every word of weight codes.

    All codes take part, those of NaN too. Every activation word passes with each weight word in
    turn, in random order; the next weights are loaded at a random moment before their swap, as
    early as the stages allow. With several columns each has an order of its own.
    """
    rules = bench.arithmetic
    a_width, w_width = rules.activation.width, rules.weight.width
    a_words, w_words = 1 << rules.lanes * a_width, 1 << rules.lanes * w_width
    # The first run only loads.
    runs, length = w_words + 1, max(a_words, rules.stages + 1)
    a = np.concatenate([random.permutation(a_words) for _ in range(-(-length // a_words) * runs)])
    a = a.reshape(runs, -1)[:, :length].ravel()
    count = a.size
    w = random.integers(0, w_words, (count, bench.columns))
    load, swap = np.zeros((2, count), bool)
    begins = np.arange(1, runs) * length
    swap[begins] = True
    if bench.element.shadow:
        comes = begins - random.integers(1, length - rules.stages + 2, runs - 1)
        load[comes] = True
    else:
        comes, load = begins, random.random(count) < 0.5
    w[comes] = np.stack([random.permutation(w_words) for _ in range(bench.columns)], axis=1)
    return Vectors(_split(a, rules.lanes, a_width), _split(w, rules.lanes, w_width), load, swap,
                   _random_psums(random, rules.psum_bits, (count, bench.columns)))


def _split(words, lanes, width):
    """Codes of the lanes, in a new last axis, lane 0 in the lowest bits."""
    return words[..., None] >> width * np.arange(lanes) & ((1 << width) - 1)


def random_vectors(bench: Bench, random: np.random.Generator, count: int) -> Vectors:
    """Random finite codes, a third of them corners; loads and swaps at random, as often as allowed.
    """
    rules = bench.arithmetic
    lanes, columns, gap = rules.lanes, bench.columns, rules.stages - 1
    load, swap = random.random(count) < 0.4, random.random(count) < 0.4
    load[0], swap[0], swap[1] = True, False, True
    if bench.element.shadow:
        # No load may come before the last stage has taken the weights that were swapped in.
        last = np.maximum.accumulate(np.where(swap, np.arange(count), -count))
        load &= np.arange(count) - last >= gap
    return Vectors(_random_codes(random, rules.activation, (count, lanes)),
                   _random_codes(random, rules.weight, (count, columns, lanes)), load, swap,
                   _random_psums(random, rules.psum_bits, (count, columns)))


def _random_codes(random, fmt, shape):
    finite = fmt.finite_codes()
    order = finite[np.argsort(fmt.decode(finite), kind="stable")]
    corners = np.concatenate([order[:2], order[-2:], order[len(order) // 2 - 2:][:5]])
    codes = random.choice(finite, shape)
    # Whole vectors of one corner, and single ones.
    corner = random.choice(corners, shape)
    alike = random.random(shape[:1]) < 0.15
    corner[alike] = corner[alike][..., :1]
    chosen = (random.random(shape) < 0.2) | alike.reshape(-1, *[1] * (len(shape) - 1))
    return np.where(chosen, corner, codes)


# Simulation.

def _joined(parts, width):
    """Integers of `width` bits [N, P] side by side, the first one lowest, [N]."""
    if parts.shape[1] * width < 64:
        return (parts.astype(np.int64) << width * np.arange(parts.shape[1])).sum(axis=1)
    return sum(parts[:, n].astype(object) << width * n for n in range(parts.shape[1]))


def _apart(values, width, parts):
    """The integers of `width` bits that `_joined` put side by side."""
    return np.stack([values.astype(object) >> width * n & ((1 << width) - 1)
                     for n in range(parts)], axis=1)


def observe(benches: Sequence[Bench], vectors: Sequence[Vectors]) -> list[Observed]:
    """Simulate benches, each with its Vectors.

    Returns a list of Observed. Raises AssertionError where an element does not hand on its
    operands and flags, SimulationError where the simulation fails.
    """
    vectors = [_flushed(bench, given) for bench, given in zip(benches, vectors, strict=True)]
    responses = play(benches, [_inputs(*pair) for pair in zip(benches, vectors, strict=True)])
    return [_observed(*facts) for facts in zip(benches, vectors, responses, strict=True)]


def _flushed(bench, given):
    """The vectors, and so many more that the last one's sum comes out."""
    def more(values, filling):
        return np.concatenate([values, np.repeat(filling, bench.arithmetic.stages, axis=0)])
    never = np.zeros(1, bool)
    return Vectors(more(given.a, given.a[-1:]), more(given.w, given.w[-1:]),
                   more(given.load, never), more(given.swap, never),
                   more(given.psum, given.psum[-1:]))


def _inputs(bench, given):
    rules = bench.arithmetic
    return {"a": _joined(given.a, rules.activation.width),
            "w": _joined(given.w.reshape(len(given.w), -1), rules.weight.width),
            "load": given.load, "swap": given.swap, "psum": _joined(given.psum, rules.psum_bits)}


def _observed(bench, given, fields):
    rules, count = bench.arithmetic, len(given.a)
    assert (fields["handed_on"] == 1).all(), f"{rules.activation} x {rules.weight}: a_out or a flag"

    # The vector whose w is active when each vector's activation is multiplied; -1: none.
    place = np.arange(count)
    comes = place
    if bench.element.shadow:
        latest = np.maximum.accumulate(np.where(given.load, place, -1))
        comes = np.concatenate([[-1], latest[:-1]])
    swapped = np.maximum.accumulate(np.where(given.swap, place, -1))
    held = np.where(swapped >= 0, comes[swapped], -1)[:count - rules.stages]
    met = np.flatnonzero(held >= 0)

    psum_out = _apart(fields["psum_out"], rules.psum_bits, bench.columns)[met + rules.stages]
    psum_in = given.psum[met + rules.stages]
    total = _apart(fields["total"], rules.sum_bits, bench.columns)[met + rules.stages]
    sign = 1 << (rules.sum_bits - 1)
    return Observed(given.a[met], given.w[held[met]],
                    (psum_out - psum_in) & ((1 << rules.psum_bits) - 1), (total ^ sign) - sign)


# What must come out.

def mismatches(arithmetic: Arithmetic, observed: Observed) -> tuple[np.ndarray, int]:
    """Which observations are not what the formats say.

    An element must add the dot product of the images, scaled by 2**-psum_scale, plus one constant
    modulo 2**psum_bits; and a column of terms / lanes rows that all do so must have so many times
    the dot product as its total, exactly.

    Parameters
    ----------
    arithmetic : Arithmetic
        For its formats: may be another one than the element's, if the circuit is the same.
    observed : Observed

    Returns (wrong, checked): bool [M] and int; observations with codes that are no numbers are
    not checked.
    """
    activation, weight = arithmetic.activation, arithmetic.weight
    finite = (np.isin(observed.a, activation.finite_codes()).all(axis=1)
              & np.isin(observed.w, weight.finite_codes()).all(axis=(1, 2)))
    a, w = observed.a[finite][:, None, :], observed.w[finite]
    dot = activation.product_image(weight, a, w).astype(object).sum(axis=2)
    rows = arithmetic.terms // arithmetic.lanes
    finer, coarser = max(arithmetic.psum_scale, 0), max(-arithmetic.psum_scale, 0)
    modulus = (1 << arithmetic.psum_bits + finer) - 1
    constant = (observed.added[finite] << finer) - (dot << coarser) & modulus
    wrong = np.zeros(len(observed.a), bool)
    if finite.any():
        wrong[finite] = ((constant != constant[0, 0]) | (observed.total[finite] != rows * dot)
                         ).any(axis=1)
    return wrong, int(finite.sum())
