"""Logarithms by their definition, in exact fractions: numbers, products, rounding."""

from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from math import ceil


@cache
def power(root, logarithm):
    """2**(logarithm / root), to sixty digits."""
    with localcontext() as context:
        context.prec = 60
        return Fraction(Decimal(2) ** (Decimal(logarithm) / root))


def fields(form, code):
    """(logarithm, negative) of a code."""
    return code % (1 << form.bits - 1), code >> form.bits - 1


def constant(form, logarithm):
    """The image of a logarithm, in 2**-table_bits: the table's constant, shifted."""
    quotient, remainder = divmod(logarithm, form.root)
    return int(power(form.root, remainder) * (1 << form.table_bits) + Fraction(1, 2)) << quotient


def product(form, weight, a, w):
    """The product of two codes."""
    (log, negative), (other, turned) = fields(form, a), fields(weight, w)
    return 0 if not log or not other else (-1) ** (negative ^ turned) * constant(form, log + other)


@cache
def boundaries(form):
    """The least number that is rounded to each magnitude of a code, from 1 up: the mean of it and
    the one before, rounded up to so many bits after the leading one of that one, or of 1."""
    found, bits = [], max(form.table_bits, form.man) + 2
    for code in range(1, 1 << form.bits - 1):
        before = power(form.root, code - 1) if code > 1 else Fraction(0)
        step = Fraction(1 << (code - 1) // form.root, 1 << bits)
        found.append(ceil((before + power(form.root, code)) / 2 / step) * step)
    return found


def nearest(form, exact):
    """The ordered integer of the code nearest to a number of images."""
    value = abs(Fraction(exact)) / (1 << form.table_bits)
    magnitude = sum(value >= least for least in boundaries(form))
    return -magnitude if exact < 0 else magnitude


class Number(int):
    """An image of a code, whose product with another one is that of the format."""

    def __new__(cls, form, code):
        log, negative = fields(form, code)
        made = super().__new__(cls, (-1) ** negative * constant(form, log) if log else 0)
        made.form, made.code = form, code
        return made

    def __mul__(self, other):
        return (product(self.form, other.form, self.code, other.code)
                if isinstance(other, Number) else int(self) * other)

    __rmul__ = __mul__


