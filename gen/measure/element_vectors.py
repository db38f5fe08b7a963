"""Test vectors of one processing element, from the formats' own numbers: no hardware is asked.

Only the decoded operands, which are a matter of the element's inside, come from its decoders.

The element's weights are filled again and again while it computes; each filling meets a run of
activations. Runs hold every pair of operands where there are at most 8 x 8 bits of them, in every
lane; else every pair of the corners; and random ones. Loads come as early, as late, and anywhere
between as the element allows. Elements side by side have weights and sums of their own.
"""

from collections.abc import Sequence

import numpy as np
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator
from systolith.hw.element.arithmetic import Arithmetic
from systolith.hw.formats import Format

__all__ = ["COLUMNS", "decoder_words", "edge", "vectors"]

COLUMNS = ["activation", "weight", "load", "swap", "a_in", "w_in", "psum_in", "check", "psum_out"]
#: Random fillings of weights, and activations that meet each.
FILLINGS, RUN = 96, 24


def corner_codes(fmt: Format) -> np.ndarray:
    """Codes for test vectors: both ends of the range, the numbers around zero, and each bit
    alone."""
    codes = fmt.finite_codes()
    order = codes[np.argsort(fmt.decode(codes), kind="stable")]
    middle = int(np.argmin(np.abs(fmt.decode(order))))
    bits = np.intersect1d(codes, np.concatenate([1 << np.arange(fmt.width), [0]]))
    around = order[max(0, middle - 2):middle + 3]
    return np.unique(np.concatenate([order[:2], order[-2:], around, bits]))


def runs(rules: Arithmetic, random: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """(weight codes by column and lane, activation codes by cycle and lane) of each filling."""
    found = []
    activation, weight, stages = rules.activation, rules.weight, rules.stages
    lanes, columns = rules.lanes, rules.columns
    a_codes, w_codes = activation.finite_codes(), weight.finite_codes()
    if activation.width > 8 or weight.width > 8:
        pairs = corner_codes(activation), corner_codes(weight)
    else:
        pairs = a_codes, w_codes
    # Each lane walks through all pairs, beginning at its own place.
    a_places = random.integers(0, 1 << 16, lanes)
    w_places = random.integers(0, 1 << 16, (columns, lanes))
    for number in range(len(pairs[1])):
        order = random.permutation(max(len(pairs[0]), stages))
        found.append((pairs[1][(number + w_places) % len(pairs[1])],
                      pairs[0][(order[:, None] + a_places) % len(pairs[0])]))
    for _ in range(FILLINGS):
        length = int(random.integers(stages, stages + 2 * RUN))
        found.append((random.choice(w_codes, (columns, lanes)),
                      random.choice(a_codes, (length, lanes))))
    return found


def edge(rules: Arithmetic, name: str) -> tuple[Module, Signal, Signal]:
    """(module, codes, decoded) of the edge decoder of `name` ("activation", "weight"), the latter
    of all columns, the first one lowest."""
    m, bits = Module(), rules.lanes * getattr(rules, name).width
    columns = rules.columns if name == "weight" else 1
    codes = Signal(columns * bits, name="codes")
    decoded = Signal(columns * getattr(rules, f"{name}_bits"), name="decoded")
    parts = ([rules.decode_activation(m, codes)] if name == "activation" else
             rules.decode_weights(m, [codes.word_select(n, bits) for n in range(columns)]))
    for n, part in enumerate(parts):
        m.d.comb += decoded.word_select(n, getattr(rules, f"{name}_bits")).eq(part)
    return m, codes, decoded


def decoder_words(rules: Arithmetic, name: str, words: Sequence[int]) -> list[int]:
    """What the edge decoder of `name` ("activation", "weight") makes of each of `words`."""
    m, codes, decoded = edge(rules, name)
    found = {}

    async def bench(context):
        for word in sorted(set(words)):
            context.set(codes, word)
            await context.delay(1e-9)
            found[word] = context.get(decoded)
    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
    return [found[word] for word in words]


def _words(codes, width):
    """Codes [cycles, ...] as one integer a cycle, those of the first lane and column lowest."""
    return [sum(int(code) << place * width for place, code in enumerate(row.ravel()))
            for row in codes]


def vectors(rules: Arithmetic, offset: int, seed: int = 1) -> list[tuple[int, ...]]:
    """One tuple of `COLUMNS` a cycle; psum_in and psum_out modulo 2**rules.psum_bits.

    Of elements side by side weights and sums are words of all columns, the first one lowest.

    Parameters
    ----------
    rules : Arithmetic
    offset : int
        What the element adds beyond its products, in units of the sum's lowest bit.
    """
    random = np.random.default_rng(seed)
    stages, bits, columns = rules.stages, rules.psum_bits, rules.columns
    fillings = runs(rules, random)
    starts = np.cumsum([1] + [len(run) for _, run in fillings])
    cycles = int(starts[-1]) + stages + 1
    activations = np.zeros((cycles, rules.lanes), np.int64)
    activations[:] = fillings[-1][1][-1]
    weights = random.choice(rules.weight.finite_codes(), (cycles, columns, rules.lanes))
    active = np.zeros_like(weights)
    load, swap = np.zeros(cycles, np.int64), np.zeros(cycles, np.int64)
    for number, (filling, run) in enumerate(fillings):
        start, end = int(starts[number]), int(starts[number + 1])
        activations[start:end], active[start:end], swap[start] = run, filling, 1
        # As of the swap before, its weights must stay until stages - 1 cycles later.
        earliest = int(starts[number - 1]) + stages - 1 if number else 0
        latest = start - 1
        at = (earliest, latest, int(random.integers(earliest, latest + 1)))[number % 3]
        load[at], weights[at] = 1, filling
    active[int(starts[-1]):] = fillings[-1][0]

    psums = [[_psum(random, rules) for _ in range(columns)] for _ in range(cycles)]
    products = rules.activation.product_image(rules.weight, activations[:, None], active)
    products = products.astype(object).sum(axis=-1) + offset
    result: list[tuple[int, ...]] = []
    a_words = _words(activations, rules.activation.width)
    w_words = _words(weights, rules.weight.width)
    a_in = decoder_words(rules, "activation", a_words)
    w_in = decoder_words(rules, "weight", w_words)

    def word(sums):
        return sum(int(value) % (1 << bits) << n * bits for n, value in enumerate(sums))
    for cycle in range(cycles):
        met = cycle - 1 - stages            # when the activation of this result came in
        check, out = int(met >= 1), 0
        if check:
            out = word((psum << rules.psum_scale) + product >> rules.psum_scale
                       for psum, product in zip(psums[cycle - 1], products[met], strict=True))
        result.append((a_words[cycle], w_words[cycle], int(load[cycle]), int(swap[cycle]),
                       a_in[cycle], w_in[cycle], word(psums[cycle]), check, out))
    return result


def _psum(random, rules):
    """A partial sum: random bits, a short number of either sign, or a corner."""
    bits = rules.psum_bits
    kind = int(random.integers(0, 8))
    if kind == 0:
        corners = (0, 1, -1, 1 << bits - 1, (1 << bits - 1) - 1)
        return corners[int(random.integers(0, len(corners)))] & ((1 << bits) - 1)
    number = int.from_bytes(random.bytes(bits // 8 + 1)) & ((1 << bits) - 1)
    if kind == 1:
        return number >> int(random.integers(0, bits))
    return number
