"""What the area of wide products grows with: those of post-processing, of parts that fit DSP blocks
or of rows of digits."""

from systolith.hw.spec.arch import Arch
from systolith.hw.spec.timing import (
    PART_BITS,
    ROWS_A_CYCLE,
    booth_digits,
    folded_rows,
    product_latency,
    product_parts,
    product_rows,
)

__all__ = ["folded_terms", "product_terms"]


def product_terms(arch: Arch, one: int, other: int, addend: int) -> tuple[dict[str, float], int]:
    """(terms, cycles) of a product of two signed factors, one adder a cycle, and an addend of so
    many bits; 0: none."""
    width, cycles = one + other, product_latency(arch, one, other, addend > 0)
    if arch.post_luts:
        rows, longer = booth_digits(min(one, other)), max(one, other)
        later = range(ROWS_A_CYCLE, rows, ROWS_A_CYCLE)         # rows that are added before
        return {"booth rows": rows * (longer + 2), "carried": len(later) * longer,
                "digits": sum(3 * rows - done for done in later),
                # of an addend, what is longer than rows waits for its place
                "waits": len(later) * max(0, addend - longer)}, cycles
    terms = [(sum(product_parts(one)[i] + product_parts(other)[j] for i, j in row),
              PART_BITS * sum(row[0])) for row in product_rows(one, other)]
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


def folded_terms(digits: int, number: int) -> dict[str, float]:
    """Terms of a product without DSP blocks that takes two cycles for the digits of a factor of so
    many bits; the other one has `number`."""
    return {"booth rows": folded_rows(digits) * (number + 2), "folded": 2 * number + 3 * digits}
