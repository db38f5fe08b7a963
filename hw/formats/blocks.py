"""Numbers that share something: a scale for a block of elements, a pool of weight vectors.

These are no `Format`s: one code alone is no number.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from .base import BlockScale, Format
from .floats import Float
from .integers import Int
from .names import register

__all__ = ["BlockFloat", "BlockInt", "BlockScaled", "WeightPool", "block_formats"]


#: Scales without mantissa, that is powers of two, for 32 elements.
_MX = BlockScale(32)


class _Elements:
    """What formats of elements of blocks have in common.

    Parameters
    ----------
    block_scale : BlockScale
    title : str
        The format's name.
    """
    block_scale: BlockScale
    title: str

    @property
    def name(self) -> str:
        return self.title

    def activation_fault(self) -> str | None:
        return ("must be a format without blocks, since activations have one scale, not "
                f"{self.title}")


@dataclass(frozen=True, repr=True)
class BlockInt(_Elements, Int):
    """Integers that are elements of blocks with scales: the weights of a chip."""
    block_scale: BlockScale = _MX
    title: str = "mxint8"

    @property
    def wide(self) -> Format:
        return Int(self.bits + self.block_scale.largest.bit_length() - 1)

    def holds(self, other: Format) -> bool:
        return False


@dataclass(frozen=True, repr=True)
class BlockFloat(_Elements, Float):
    """Floats that are elements of blocks with scales: the weights of a chip."""
    block_scale: BlockScale = _MX
    title: str = "mxfp4"

    @property
    def wide(self) -> Format:
        scale = self.block_scale
        # A product of two significands that are both more than one bit may carry.
        man = self.man + scale.man + (scale.man > 0)
        largest = self.image_range[1] * scale.largest
        return Float((largest.bit_length() - man).bit_length(), man,
                     1 - man - (self.exponent - scale.man))


_ELEMENTS: dict[str, Format] = {
    "mxint8": BlockInt(8),
    "mxfp8": BlockFloat(4, 3, special="fn", title="mxfp8"),
    "mxfp8_e5m2": BlockFloat(5, 2, special="ieee", title="mxfp8_e5m2"),
    "mxfp6": BlockFloat(3, 2, title="mxfp6"),
    "mxfp6_e2m3": BlockFloat(2, 3, title="mxfp6_e2m3"),
    "mxfp4": BlockFloat(2, 1, title="mxfp4"),
    "nvfp4": BlockFloat(2, 1, block_scale=BlockScale(16, 3), title="nvfp4"),
    "mls": BlockFloat(2, 1, block_scale=BlockScale(16, 1), title="mls"),
    "mls_e2m4": BlockFloat(2, 4, block_scale=BlockScale(16, 1), title="mls_e2m4"),
}
register("(" + "|".join(_ELEMENTS) + ")", _ELEMENTS.__getitem__, examples=("mxfp4", "nvfp4"),
         catalogue=" ".join(_ELEMENTS))


@dataclass(frozen=True)
class BlockScaled:
    """Blocks of `size` elements with one scale: value = scale * 2**element_exponent * element.

    Parameters
    ----------
    element : Format
        Of the elements; one that encodes values of either sign.
    size : int
        Elements in a block, along one axis of a tensor. The last block may be shorter.
    scale : Float
        Of the scales; without sign, so that its codes ascend with their values.
    element_exponent : int
        A constant factor of two; what makes fixed-point numbers of integer elements.
    fits : bool
        How the scale of a block is chosen. False, the OCP MX rule: the largest scale not above
        absmax / 2**emax, where emax is the exponent of the largest element; elements above the
        largest one saturate. True: the smallest scale with which the largest element is not
        exceeded.

    Sources: OCP Microscaling formats 1.0; Zhong et al., arXiv 2006.02804 (MLS).
    """

    element: Format
    size: int
    scale: Float
    element_exponent: int = 0
    fits: bool = False

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"size of a BlockScaled must be at least 1, not {self.size!r}")
        if not isinstance(self.scale, Float) or self.scale.signed:
            raise ValueError(f"scale of a BlockScaled must be a float without sign, "
                             f"not {self.scale}")

    @property
    def bits_per_element(self) -> float:
        """Bits that an element takes with its share of the scale (float)."""
        return self.element.width + self.scale.width / self.size

    @cached_property
    def largest(self) -> float:
        """The largest element, with its constant factor (float)."""
        element = self.element
        return float(np.ldexp(element.image_range[1], element.exponent + self.element_exponent))

    def encode(self, values: ArrayLike, axis: int = -1, rounding: str = "even",
               seed: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(codes of the elements, codes of the scales) of a tensor.

        Elements are rounded as `Format.encode` rounds values / scale in float64; that quotient is
        exact where scales are powers of two.

        Parameters
        ----------
        values : array_like
            Numbers of any shape with at least one axis; ValueError on NaN.
        axis : int
            The axis along which blocks lie.
        rounding, seed
            As in `Format.encode`, of the elements.

        Returns
        -------
        codes : int64 array of the values' shape
        scales : int64 array, along `axis` one code for each block
        """
        values = np.moveaxis(np.asarray(values, dtype=np.float64), axis, -1)
        codes = self._blocks(values)
        peak = np.nanmax(abs(codes), axis=-1, initial=0)
        scales = self.scale.encode(
            peak / self.largest if self.fits
            else np.ldexp(peak, 1 - np.frexp(self.largest)[1]), "zero")
        if self.fits:
            scales += self.scale.decode(scales) * self.largest < peak
            scales = np.minimum(scales, self.scale.max_code)
        factors = np.ldexp(self._spread(scales, values), self.element_exponent)
        codes = self.element.encode(np.moveaxis(values / factors, -1, axis), rounding, seed)
        return codes, np.moveaxis(scales, -1, axis)

    def decode(self, codes: ArrayLike, scales: ArrayLike, axis: int = -1) -> np.ndarray:
        """Values (float64) of what `encode` gives; nan in blocks whose scale is NaN."""
        elements = np.moveaxis(self.element.decode(codes), axis, -1)
        factors = self._spread(np.moveaxis(np.asarray(scales), axis, -1), elements)
        return np.moveaxis(np.ldexp(elements, self.element_exponent) * factors, -1, axis)

    def _blocks(self, values):
        """[..., n] -> [..., blocks, size], filled up with zeros."""
        fill = -values.shape[-1] % self.size
        values = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, fill)])
        return values.reshape(*values.shape[:-1], -1, self.size)

    def _spread(self, scales, values):
        """The scales' values, one for each of `values`."""
        return np.repeat(self.scale.decode(scales), self.size, axis=-1)[..., :values.shape[-1]]

    def __str__(self):
        return f"{self.element} in blocks of {self.size}, scale {self.scale}"


def block_formats() -> dict[str, BlockScaled]:
    """Name -> BlockScaled: the MX formats, and MLS with its two elements.

    MX has an E8M0 scale for 32 elements. MLS has scales {1, 1.5} * 2^-k, k from 0 to 255, below
    one scale of the whole tensor (the caller's: values are divided by their largest magnitude).
    Its groups are what one channel of one sample is; here they are 16 elements.
    """
    scale = Float(8, 0, special="fn", signed=False)
    formats = {f"mxfp{element.width}_{name}": BlockScaled(element, 32, scale)
               for name, element in (
                   ("e5m2", Float(5, 2, special="ieee")), ("e4m3", Float(4, 3, special="fn")),
                   ("e3m2", Float(3, 2)), ("e2m3", Float(2, 3)), ("e2m1", Float(2, 1)))}
    formats["mxint8"] = BlockScaled(Int(8), 32, scale, element_exponent=-6)
    for man in (1, 4):
        formats[f"mls_e2m{man}"] = BlockScaled(
            Float(2, man), 16, Float(8, 1, 255, signed=False), fits=True)
    return formats


@dataclass(frozen=True)
class WeightPool:
    """A pool of vectors of 8 integer weights; a code is the place of a vector.

    Weights that stand side by side along the channels share one code (Li and Gupta, Bit-serial
    weight pools, 2022).

    Parameters
    ----------
    vectors : sequence of sequences of 8 int
        At least one; kept as a tuple of tuples.
    weight : Int
        The format that all weights must have a code in.
    """

    vectors: tuple
    weight: Int = field(default_factory=lambda: Int(8))

    #: Weights in a vector.
    LENGTH = 8
    family = "pool"

    def __post_init__(self):
        vectors = np.asarray(self.vectors)
        if (vectors.dtype.kind not in "iu" or not vectors.size
                or vectors.shape[1:] != (self.LENGTH,)):
            raise ValueError(f"vectors of a WeightPool must be integers [P, {self.LENGTH}], not "
                             f"{vectors.dtype} {list(vectors.shape)}")
        low, high = self.weight.image_range
        if vectors.min() < low or vectors.max() > high:
            raise ValueError(f"weights of a WeightPool must be from {low} to {high} "
                             f"({self.weight}), not from {vectors.min()} to {vectors.max()}")
        object.__setattr__(self, "vectors", tuple(map(tuple, vectors.tolist())))

    @property
    def width(self) -> int:
        """Bits of a code, at least 1."""
        return max((len(self.vectors) - 1).bit_length(), 1)

    def image(self, codes: ArrayLike) -> np.ndarray:
        """The weights (int64) [..., 8] of codes [...]."""
        codes = np.asarray(codes)
        if codes.dtype.kind not in "iu" or (codes.size and not (
                0 <= codes.min() <= codes.max() < len(self.vectors))):
            raise ValueError(f"codes of a WeightPool must be integers from 0 to "
                             f"{len(self.vectors) - 1}")
        return np.array(self.vectors)[codes]

    def encode(self, weights: ArrayLike) -> np.ndarray:
        """Codes (int64) [...] of the vectors nearest to `weights` [..., 8].

        Nearest by the sum of squared differences, of equally near ones the first; exact for
        integer weights of up to 16 bits.
        """
        weights = np.asarray(weights, dtype=np.float64)
        if weights.shape[-1:] != (self.LENGTH,):
            raise ValueError(f"weights must be [..., {self.LENGTH}], not {list(weights.shape)}")
        if not np.isfinite(weights).all():
            index = [int(n) for n in np.argwhere(~np.isfinite(weights))[0]]
            raise ValueError(f"weights must be finite, not {weights[tuple(index)]} "
                             f"(at index {index})")
        vectors = np.array(self.vectors, dtype=np.float64)
        # |w - v|**2 without |w|**2, which is the same for all vectors.
        distances = (vectors ** 2).sum(axis=1) - 2 * (weights @ vectors.T)
        return distances.argmin(axis=-1)

    def partial_sums(self) -> np.ndarray:
        """Sums of chosen weights [P, 256]: entry n of a vector is the sum of the weights whose
        bits are 1 in n. A dot product with bit-serial activations adds entries up."""
        chosen = (np.arange(1 << self.LENGTH)[:, None] >> np.arange(self.LENGTH)) & 1
        return np.array(self.vectors) @ chosen.T

    def __str__(self):
        return f"a pool of {len(self.vectors)} vectors of {self.weight}"
