"""The weights of a layer: exact integers, the same from the network's file to the words that a
program loads, where they become codes of the chip's format.

Whoever rearranges weights, such as a compiler pass that gives a layer other input channels, gets a
new `Weights` from the old one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from systolith.hw.formats import Bipolar, Format

from . import numerics

__all__ = ["Weights"]


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights as images of a format: weight = image * 2**format.exponent.

    Attributes
    ----------
    images : int64 array [O, I / groups, kh, kw]
        Python integers (an object array) in formats whose images take more than 63 bits. Nobody
        writes to them. While a network is read, some may have no code: `has_codes`.
    format : Format
    """
    images: np.ndarray
    format: Format

    def __post_init__(self):
        images = np.asarray(self.images)
        object.__setattr__(self, "images",
                           images if images.dtype == object else numerics.constant(images))

    @classmethod
    def of_codes(cls, codes: ArrayLike, format: Format) -> "Weights":
        """The weights whose codes these are, an array [O, I / groups, kh, kw]."""
        return cls(numerics.images_of(format, codes), format)

    @classmethod
    def ones(cls, format: Format, channels: int, one: int | None = None) -> "Weights":
        """A weight of 1, or the image `one`, for each channel by itself: [channels, 1, 1, 1]."""
        image = format.copying[0] if one is None else one
        return cls(np.full((channels, 1, 1, 1), image), format)

    @property
    def codes(self) -> np.ndarray:
        """Codes of the format, int64 [O, I / groups, kh, kw]; of several for a number always the
        same. ValueError where a weight has none."""
        codes = self.format.from_image(self.images)
        if (self.format.image(codes) != self.images).any():
            raise ValueError(f"some weights have no code in {self.format}")
        return codes

    @property
    def has_codes(self) -> np.ndarray:
        """Whether each weight has a code: bool array like the images."""
        return self.format.has_image(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """(O, I / groups, kh, kw)"""
        return self.images.shape

    @property
    def same_taps(self) -> bool:
        """Whether all taps of the kernel have the same weights, as those of a mean."""
        return bool((self.images == self.images[:, :, :1, :1]).all())

    def __len__(self) -> int:
        """Output channels."""
        return len(self.images)

    # The same numbers otherwise.

    def in_format(self, format: Format) -> "Weights | None":
        """These weights in another format; None where it does not have all of their numbers."""
        if format == self.format:
            return self
        images = np.ldexp(self.images.astype(np.float64), self.format.exponent - format.exponent)
        return Weights(images, format) if format.has_image(images).all() else None

    def addends(self, format: Format, most: int) -> list["Weights"]:
        """Weights of `format` whose sum these are: at most `most`, or one more where they do not
        suffice. These alone where not both formats are integers with all codes in use, or where
        `format` has as many bits.

        Each weight is clipped to the range, and what remains goes to the next addend. So asymmetric
        weights of as many bits as the chip's, less their zero point, have two addends, and the
        second has few weights other than 0 where few exceed the range."""
        if not (format.complete and self.format.complete) or self.format.width <= format.width:
            return [self]
        rest, found = self.images, list[Weights]()
        while rest.any() or not found:
            if len(found) == most:
                return [*found, replace(self, images=rest)]
            found.append(Weights(np.clip(rest, *format.image_range), format))
            rest = rest - found[-1].images
        return found

    def halves(self, format: Format) -> list["Weights"]:
        """[lower, upper] weights of `format`, an integer of as few as half the bits: these are the
        lower ones plus 2**bits times the upper ones; empty where there are none such."""
        bits = format.width
        if not (format.complete and format.signed and self.format.uniform):
            return []
        lower = (self.images + (1 << bits - 1) & (1 << bits) - 1) - (1 << bits - 1)
        parts = lower, self.images - lower >> bits
        return ([Weights(images, format) for images in parts]
                if format.has_image(parts[1]).all() else [])

    @property
    def signs(self) -> tuple["Weights | None", np.ndarray]:
        """(+1 and -1 of the binary format, sizes [O]), whose products with the sizes are these
        weights; None in place of the signs where there are none, since the weights of an output
        channel are not all one integer or its negative."""
        sizes = abs(self.images).reshape(len(self), -1)
        found = self.format.uniform and sizes.size and (sizes == sizes[:, :1]).all() and sizes.all()
        return (Weights(np.sign(self.images), Bipolar(1)) if found else None), sizes[:, :1].ravel()

    # Other channels and kernels.

    def of_outputs(self, channels: np.ndarray) -> "Weights":
        """The weights of some output channels."""
        return replace(self, images=self.images[channels])

    def negated(self, channels: np.ndarray) -> "Weights":
        """With the other sign in some output channels, bool array [O]."""
        turned = channels.astype(bool)[:, None, None, None]
        return replace(self, images=np.where(turned, -self.images, self.images))

    def without(self, channels: np.ndarray) -> "Weights":
        """With 0 in some output channels, bool array [O]."""
        return replace(self, images=np.where(channels[:, None, None, None], 0, self.images))

    def repeated(self, count: int, axis: int) -> "Weights":
        """With each output channel (`axis` 0), input channel (1), or row (2) or column (3) of the
        kernel `count` times in a row."""
        return replace(self, images=np.repeat(self.images, count, axis))

    def dense(self, groups: int, fill: int = 0) -> "Weights":
        """[O, I, kh, kw] of one group, with the image `fill` where input and output channel are of
        different ones of the `groups`."""
        if groups == 1:
            return self
        outputs, inputs = len(self) // groups, self.shape[1]
        wide = np.full((len(self), groups * inputs, *self.shape[2:]), fill, self.images.dtype)
        for n in range(groups):
            rows = slice(n * outputs, (n + 1) * outputs)
            wide[rows, n * inputs:(n + 1) * inputs] = self.images[rows]
        return replace(self, images=wide)

    def reading(self, channels: np.ndarray, count: int, fill: int = 0) -> "Weights":
        """[O, count, kh, kw] for the input channels `channels` of `count`, with the image `fill`
        for all others."""
        wide = np.full((len(self), count, *self.shape[2:]), fill, self.images.dtype)
        wide[:, channels] = self.images
        return replace(self, images=wide)

    def with_zeros(self, outputs: int, inputs: int) -> "Weights":
        """[outputs, inputs, kh, kw] with 0 for the channels after the last ones."""
        more = outputs - len(self), inputs - self.shape[1]
        return replace(self, images=np.pad(self.images, [(0, n) for n in (*more, 0, 0)]))

    def as_pixel(self) -> "Weights":
        """[O, I * kh * kw, 1, 1]: those of a dense layer, for its map as one pixel."""
        return replace(self, images=self.images.reshape(len(self), -1, 1, 1))

    def with_taps(self, taps: Sequence[int], kernel: Sequence[int]) -> "Weights":
        """[O, taps * I, *kernel] of a layer whose kernel is `kernel`, and which has `taps` (y, x)
        neighbouring taps of this one's as channels, 0 (or the image of code 0) beyond it."""
        (y, x), (height, width) = taps, kernel
        outputs, inputs, *old = self.shape
        images = np.pad(self.images, ((0, 0), (0, 0), (0, height * y - old[0]),
                                      (0, width * x - old[1])), constant_values=self.absent)
        images = images.reshape(outputs, inputs, height, y, width, x).transpose(0, 3, 5, 1, 2, 4)
        return replace(self, images=images.reshape(outputs, y * x * inputs, height, width))

    def with_windows(self, rows: int, kernel: int, starts: Sequence[int], lanes: int) -> "Weights":
        """[O, lanes, kernel, words] of a layer whose input's words are windows of rows of bytes
        (`hw.spec.host.Windows`) with `rows` rows of this one's kernel beside each other: a result's
        words begin at the bytes `starts`, and each product is made with the first that has it."""
        outputs, inputs, height, width = self.shape
        images = np.pad(self.images, ((0, 0), (0, 0), (0, kernel * rows - height), (0, 0)),
                        constant_values=self.absent).reshape(outputs, inputs, kernel, rows, width)
        # byte (x * rows + y) * inputs + channel
        stream = images.transpose(0, 2, 4, 3, 1).reshape(outputs, kernel, -1)
        made = np.full((outputs, lanes, kernel, len(starts)), self.absent, images.dtype)
        done = 0
        for word, start in enumerate(starts):
            end = min(start + lanes, stream.shape[2])
            made[:, done - start:end - start, :, word] = stream[:, :, done:end].swapaxes(1, 2)
            done = end
        return replace(self, images=made)

    def in_planes(self, planes: int, idle: int) -> "Weights":
        """The weights of a layer that reads `planes` bit planes of its input one after the other,
        with `idle` more channels each, whose weights are 0, or where the format has none the
        smallest and the largest number in turns."""
        most = 0 if self.format.has_zero else self.format.image_range[1]
        tail = np.broadcast_to(most * (2 * (np.arange(idle) % 2)[:, None, None] - 1),
                               (len(self), idle, *self.shape[2:]))
        return replace(self, images=np.tile(np.concatenate([self.images, tail], axis=1),
                                            (1, planes, 1, 1)))

    def times(self, factor: int, format: Format) -> "Weights":
        """The images times an integer, as images of `format`."""
        return Weights(self.images * factor, format)

    @cached_property
    def planes(self) -> list[tuple[int, "Weights"]]:
        """[(n, signs)], the largest n first: these weights are the sum of 2**n * signs, each +1 or
        -1.

        Odd numbers (bipolar formats of n bits) have n planes. Even integers 2 * x have one for each
        bit that all x need as two's complement, and one more of the weight 1: since

            2 * x = -1 + sum of 2**n * b[n], n from 0 up

        with b the bits of x (the first one inverted) as +1 and -1, it is -1 for all, and None in
        place of the signs. Where no x lies outside of -2**k to 2**k, its planes are k + 2 in any
        case: then the last one is +1 where x is 2**k. See `systolith.sim.model.bit_planes`.
        ValueError where integers are odd."""
        images = self.images
        if self.format.binary:
            return self._bits(self.codes, self.format.width)
        if (images % 2).any():
            raise ValueError("planes are of even integers: double them, and the bias")
        half = images // 2
        low, high = int(half.min(initial=0)), int(half.max(initial=0))
        bits = max(max(-1 - low, 0).bit_length(), high.bit_length()) + 1
        top = 1 << bits - 2 if bits > 1 else 0
        if bits > 1 and high == top and low >= -top:
            spare = half == top
            odd = images + np.where(spare, -1, 1)
            return [*self._bits(odd + (1 << bits - 1) - 1 >> 1, bits - 1),
                    (0, Weights(np.where(spare, 1, -1), Bipolar(1)))]
        return [*self._bits(half + (1 << bits - 1), bits), (0, None)]

    @staticmethod
    def _bits(codes, count):
        """`planes` from codes, whose bits are +1 and -1."""
        return [(n, Weights(2 * (codes >> n & 1) - 1, Bipolar(1)))
                for n in range(count - 1, -1, -1)]

    # What follows from them.

    @property
    def absent(self) -> int:
        """The image for channels and taps that count nothing: 0, or that of code 0 where the format
        has no 0 (no chip computes such a layer)."""
        return 0 if self.format.has_zero else int(self.format.image(0))

    @property
    def sums(self) -> np.ndarray:
        """The sum of each output channel's images: int64 array [O]."""
        return self.images.sum(axis=(1, 2, 3))

    @property
    def constant(self) -> np.ndarray:
        """Output channels whose weights are all 0, so that their sums are: bool array [O]."""
        return np.asarray(~self.images.any(axis=(1, 2, 3)), bool)

    def passes(self, columns: int, vector: int) -> np.ndarray:
        """Which of an array's passes have a weight other than 0: bool array [column block, kernel
        row, kernel column, block], with `columns` output and `vector` input channels in a block."""
        outputs, inputs, *kernel = self.shape
        blocks = -(-outputs // columns), -(-inputs // vector)
        padded = np.zeros((blocks[0] * columns, blocks[1] * vector, *kernel), bool)
        padded[:outputs, :inputs] = self.images != 0
        return np.asarray(padded.reshape(blocks[0], columns, blocks[1], vector, *kernel).any(
            axis=(1, 3))).transpose(0, 2, 3, 1)

    def sum_ranges(self, format: Format) -> tuple[list[int], list[int]]:
        """(smallest, largest) sums of each output channel, two lists of Python integers.

        Proven from the weights and the range of `format`, that of the input; no sum of any subset
        of the products lies outside.
        """
        largest, (low, high) = format.largest_products(self.format, self.images)
        # every format has 0, or numbers of both signs
        positive, negative = self._sums if largest is self.images else _sums_of(largest)
        ends = list(zip(positive, negative, strict=True))
        return [p * low + n * high for p, n in ends], [p * high + n * low for p, n in ends]

    @cached_property
    def _sums(self):
        return _sums_of(self.images)

    def product_parts(self, format: Format, images: np.ndarray, pad_image: int = 0
                      ) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
        """(inputs, weights, padding) in place of images of `format`, any number of such triples,
        of which convolutions together add up the products of the two formats."""
        padded = format.product_parts(self.format, np.array([pad_image]), np.zeros(0, np.int64))
        for (some, factors), (pad, _) in zip(
                format.product_parts(self.format, images, self.images), padded, strict=True):
            yield some, factors, int(pad[0])


def _sums_of(images):
    """(sum of those above zero, sum of those below zero) of each output channel, two lists."""
    flat = images.reshape(len(images), -1)
    if int(np.abs(flat).max(initial=0)) * flat.shape[1] >> 62:
        flat = flat.astype(object)
    positive = np.where(flat > 0, flat, 0).sum(axis=1).tolist()
    negative = np.where(flat < 0, flat, 0).sum(axis=1).tolist()
    return positive, negative
