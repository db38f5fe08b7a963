"""Products for DSP blocks, two in one block where the operands are short enough.

One multiplication of joined operands makes two products. Where two columns share an activation a,
a * (w0 + w1*X) holds a*w0 in its lowest digit to the base X and a*w1 above. Of two lanes, signed
ones share a sum: a0*w0 + a1*w1 is the middle digit of (a0 + a1*X) * (w1 + w0*X). Significands,
which have no sign but an own shift each, need both products apart: (a0 + a1*P) * (w0 + w1*Q) holds
a0*w0 at its bottom and a1*w1 at P*Q.

A digit below that is negative takes one away from the digit above it, which its sign bit, added
there, gives back.
"""

from collections.abc import Callable, Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from systolith.hw.formats import Format, Int, sum_bits
from systolith.hw.spec.structures import Structure

from .arithmetic import Operands, tree_sum

__all__ = ["DspProducts", "SignificandProducts"]


def _takes(structure, *bits):
    """Whether a DSP block multiplies signed factors of these two widths."""
    return (max(bits) <= max(structure.multiplier)
            and min(bits) <= min(structure.multiplier))


class DspProducts:
    """Dot products of integers by multiplications, to be mapped to DSP blocks.

    Parameters
    ----------
    activation, weight : Int
    lanes, columns : int
    structure : Structure
        One with DSP blocks.

    Attributes
    ----------
    activation_bits, weight_bits : int
        Widths of the decoded codes of all lanes.
    fast_stages, most_stages : int
        The second stage is a register for the product.
    offset : int
    across : bool
        Whether products of two columns are joined; two lanes are where they can.
    """

    fast_stages = 2
    most_stages = 2
    offset = 0

    def __init__(self, activation: Format, weight: Format, lanes: int, columns: int,
                 structure: Structure, halves: bool = False) -> None:
        self._formats = activation, weight
        # Two halves are joined, as two lanes are, by a digit that holds the sum of two products.
        self._half = Int(max(1, activation.width // 2))
        self._halves = halves
        # Joining two numbers takes one bit more: the lower one may take one away.
        self._digit = sum_bits(activation, weight, 2)
        fits = _takes(structure, *(fmt.width + self._digit + 1 for fmt in self._formats))
        self._pairs = lanes // 2 if fits else 0
        self._alone = lanes - 2 * self._pairs
        self._low = sum_bits(activation, weight, 1)
        self.across = bool(self._alone and columns > 1 and _takes(
            structure, weight.width + self._low + 1,
            activation.width + (not activation.signed)))
        # What the block does not add is joined at the array's edge.
        self._at_edge = self.across and not structure.has_preadder
        self._columns = columns
        self.activation_bits, self.weight_bits = (
            self._pairs * (2 * fmt.width + 1) + self._alone * fmt.width for fmt in self._formats)
        self.weight_bits += self._alone * self._at_edge
        if halves:
            self._half_digit = sum_bits(self._half, self._half, 2)
            self.activation_bits = self.weight_bits = self._half_digit + self._half.width + 1

    def _in_halves(self, codes, halves):
        """One factor of a code: its number, or its joined halves."""
        bits = self._half.width
        low, high = codes[:bits], codes[bits:]
        joined = _join(low, _less(high, low, self._half), self._half_digit, self._half)
        return Mux(halves, joined, codes.as_signed())[:self.activation_bits]

    def decode_activation(self, codes: Value, halves: Value | None = None) -> Value:
        if halves is not None:
            return self._in_halves(codes, halves)
        lanes, pairs = self._decode(codes, 0, [0, 1])
        return Cat(*pairs, *lanes)

    def decode_weights(self, codes: Sequence[Value],
                       halves: Sequence[Value] = ()) -> list[Value]:
        """Decoded weights of all columns; `halves`: whether each is two halves."""
        if halves:
            return [self._in_halves(*column) for column in zip(codes, halves, strict=True)]
        parts = [self._decode(column, 1, [1, 0]) for column in codes]
        if self._at_edge:
            fmt = self._formats[1]
            for (below, _), (above, _) in zip(parts[::2], parts[1::2], strict=False):
                above[:] = [_less(high, low, fmt) for low, high in zip(below, above, strict=True)]
            for lanes, _ in parts:
                lanes[:] = [Cat(lane, Const(0, 1))[:fmt.width + 1] for lane in lanes]
        return [Cat(*pairs, *lanes) for lanes, pairs in parts]

    def _decode(self, codes, operand, order):
        """Codes of single lanes; per pair of lanes the lower number's code and the upper number
        less what the lower takes away."""
        fmt = self._formats[operand]
        lanes = [codes.word_select(n, fmt.width) for n in range(2 * self._pairs + self._alone)]
        pairs = []
        for n in range(self._pairs):
            low, high = (lanes[2 * n + k] for k in order)
            pairs += [low, _less(high, low, fmt)]
        return lanes[2 * self._pairs:], pairs

    def _joined(self, value, operand):
        """For each pair of lanes, one factor that holds both of their numbers."""
        fmt = self._formats[operand]
        bits = 2 * fmt.width + 1
        return [_join(value[n * bits:][:fmt.width], value[n * bits + fmt.width:(n + 1) * bits],
                      self._digit, fmt) for n in range(self._pairs)]

    def _single(self, value, operand, lane, bits):
        """The code of lane `lane` of those that are not in pairs, `bits` bits of `value`."""
        start = self._pairs * (2 * self._formats[operand].width + 1)
        return value[start:].word_select(lane, bits)

    def accumulate(self, m: Module, operands: Sequence[Operands], psums: Sequence[Value],
                   stages: int, signs: Value | None, counts: Sequence[Sequence[Value]] | None
                   ) -> list[Value]:
        """`Arithmetic.accumulate_columns`. `signs`: whether the operands are signs, `counts`: of
        equal ones, for each column and lane, which are then what is multiplied, by 2; None where
        they never are."""
        activation, weight = self._formats
        factors, weights = operands[0].a(0), [where.w(0) for where in operands]
        if signs is not None and counts is not None:
            factors = Mux(signs, self.decode_activation(
                Cat(Const(2, activation.width) for _ in counts[0])), factors)
            equal = self.decode_weights([
                Cat(Cat(count, Const(0, weight.width))[:weight.width] for count in column)
                for column in counts])
            weights = [Mux(signs, *pair) for pair in zip(equal, weights, strict=True)]
        w_bits = weight.width + self._at_edge
        if self._halves:
            assert signs is not None
            return [psum + self._of_halves(m, where, signs, stages)
                    for psum, where in zip(psums, operands, strict=True)]

        def multiply(where, a, w, name):
            product = Signal((a * w).shape(), name=f"{where.prefix}product{name}")
            m.d.comb += product.eq(a * w)
            return where.register(product, f"product{name}_held") if stages > 1 else product

        terms: list[list[Value]] = [[] for _ in operands]
        for column, where in enumerate(operands):
            for n, (a, w) in enumerate(zip(
                    self._joined(factors, 0), self._joined(weights[column], 1), strict=True)):
                terms[column].append(_digit_above(multiply(where, a, w, n), self._digit))
        for lane in range(self._alone):
            name = self._pairs + lane
            a = _number(self._single(factors, 0, lane, activation.width), activation)
            words = [self._single(word, 1, lane, w_bits) for word in weights]
            joined = len(operands) // 2 * 2 if self.across else 0
            for column in range(0, joined, 2):
                low, high = words[column][:weight.width], words[column + 1]
                factor = (_join(low, high, self._low, weight) if self._at_edge else
                          _number(Cat(Const(0, self._low), high), weight) + _number(low, weight))
                product = multiply(operands[column], a, factor, name)
                terms[column].append(product[:self._low].as_signed())
                terms[column + 1].append(_digit_above(product, self._low))
            for column in range(joined, len(operands)):
                w = _number(words[column][:weight.width], weight)
                terms[column].append(multiply(operands[column], a, w, name))
        return [psum + tree_sum(each) for psum, each in zip(psums, terms, strict=True)]


    def _of_halves(self, m, where, halves, stages):
        """The product of two codes, or of their halves."""
        a, w = where.a(0)[:self.activation_bits].as_signed(), where.w(0).as_signed()
        product = Signal((a * w).shape(), name=f"{where.prefix}product")
        m.d.comb += product.eq(a * w)
        value: Value = product
        if stages > 1:
            value, halves = where.register(product, "product_held"), where.a(1)[-1]
        whole = value[:2 * self._formats[0].width].as_signed()
        return Mux(halves, _digit_above(value, self._half_digit) << self._half.width, whole)


def _number(bits, fmt):
    return bits.as_signed() if fmt.signed else bits.as_unsigned()


def _less(high, low, fmt):
    """A number less one if the one below it is negative, one bit wider than a code."""
    return (high.as_signed() - low[-1])[:fmt.width + 1] if fmt.signed else (
        Cat(high, Const(0, 1)))


def _join(low, high, digit, fmt):
    """Two numbers as digits, the upper one less what the lower takes away."""
    sign = low[-1] if fmt.signed else Const(0, 1)
    return _number(Cat(low, sign.replicate(digit - fmt.width), high), fmt)


def _digit_above(product, digit):
    """The upper of the two products in one, a signed Value: the lower one may have taken 1 away."""
    return product[digit:2 * digit].as_signed() + product[digit - 1]


class SignificandProducts:
    """Products of significands by multiplications, those of two columns or of two lanes by one.

    Parameters
    ----------
    bits : pair of int
        Widths of the activations' and of the weights' significands, which are unsigned.
    columns : int
    structure : Structure
        Only those with DSP blocks join products.

    Attributes
    ----------
    across : bool
        Whether products of two columns are joined; else those of two lanes are where they can.
    """

    def __init__(self, bits: Sequence[int], columns: int, structure: Structure) -> None:
        self._a_bits, self._w_bits = bits
        self._digit = sum(bits)
        # Signed blocks hold one bit less of unsigned numbers.
        self.across = bool(structure.is_dsp and columns > 1 and _takes(
            structure, self._a_bits + 1, self._digit + self._w_bits + 1))
        self._places = next((
            places for places in (self._apart(), self._apart()[::-1])
            if structure.is_dsp and _takes(structure, *(
                width + place + 1 for width, place in zip(bits, places, strict=True)))), None)

    def _apart(self):
        """Bits by which the lanes of the one and of the other operand stand apart, so that their
        mixed products remain below the second own one."""
        low = high = self._digit
        largest = ((1 << self._a_bits) - 1) * ((1 << self._w_bits) - 1)
        while largest * (1 + (1 << high - low)) >= 1 << high:
            high += 1
        return low, high

    def multiply(self, a: Sequence[Value], w: Sequence[Sequence[Value]], times: Callable[...,
                 Value]) -> list[list[Value]]:
        """Products [column][lane].

        Parameters
        ----------
        a : list of Value
            Significands by lane.
        w : list of list of Value
            By column and lane.
        times : function of (column, name, a, w)
            Makes a product, as a net.
        """
        digit, lanes = self._digit, range(len(a))
        joined = len(w) // 2 * 2 if self.across else 0
        products: list[list[Value]] = [[None for _ in lanes] for _ in w]
        for column in range(0, joined, 2):
            for lane in lanes:
                both = Cat(w[column][lane], Const(0, self._a_bits), w[column + 1][lane])
                product = times(column, f"{lane}", a[lane], both)
                products[column][lane] = product[:digit]
                products[column + 1][lane] = product[digit:2 * digit]
        for column in range(joined, len(w)):
            places = self._places or (0, 0)
            pairs = len(a) // 2 if self._places else 0
            for lane in range(0, 2 * pairs, 2):
                factors = [Cat(low, Const(0, place - len(low)), high) for (low, high), place in
                           zip((a[lane:lane + 2], w[column][lane:lane + 2]), places, strict=True)]
                product = times(column, f"{lane}", *factors)
                products[column][lane] = product[:digit]
                products[column][lane + 1] = product[sum(places):][:digit]
            for lane in lanes[2 * pairs:]:
                products[column][lane] = times(column, f"{lane}", a[lane], w[column][lane])
        return products
