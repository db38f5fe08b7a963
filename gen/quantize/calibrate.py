"""Calibration: the numbers that a float network's tensors take, and quantizers for them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
from numpy.typing import ArrayLike
from systolith.gen.importer.run import Evaluator, quantize_as
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Format

from .network import FloatNetwork

__all__ = ["HALF_STEP_SAWB", "RANGES", "SAWB", "WEIGHT_RANGES", "Quantizer", "Statistics",
           "calibration_feeds", "collect", "fit", "fit_weights", "largest", "round_weights"]

#: How the range of a quantizer is chosen, and how the scales of weights.
RANGES = ("min-max", "percentile", "mse", "kl", "cross-entropy")
WEIGHT_RANGES = ("min-max", "mse", "sawb")
#: {bits: (c1, c2)} of SAWB (Choi et al., Accurate and efficient 2-bit quantized neural networks,
#: 2019) for codes that are symmetric about 0: the largest magnitude is c1 * root mean square +
#: c2 * mean magnitude.
SAWB = {2: (2.6, -1.71), 4: (12.035, -12.03), 7: (28.24, -30.81), 8: (31.76, -35.04)}
#: Likewise for codes without 0, half a step on either side of it.
HALF_STEP_SAWB = {2: (3.12, -2.064), 3: (7.509, -6.892), 4: (12.68, -12.80)}
#: Cells of the histograms whose divergence "kl" compares.
_CELLS = 2048
#: Numbers of a tensor that are kept as a sample; numbers on which ranges are tried; smallest and
#: largest numbers that are kept and tried in any case.
_KEPT, _TRIED, _EXTREME = 1 << 18, 1 << 14, 256
#: Floats with larger images leave their largest exponents unused: sums of their products would need
#: more bits than a bias has.
_IMAGES = 1 << 24
#: Images that run at a time.
_BATCH = 16


@dataclass(frozen=True)
class Quantizer:
    """real = scale * (decode(code) - zero); `zero` is in codes of a `uniform` format, else 0."""
    format: Format
    scale: float
    zero: int = 0

    def __call__(self, values: ArrayLike) -> np.ndarray:
        """`values` quantized and dequantized, float32."""
        return quantize_as(self.format, values, self.scale, self.zero)

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and the largest number that is not clipped."""
        low, high = self.format.value_range
        return (low - self.zero) * self.scale, (high - self.zero) * self.scale


@dataclass
class Statistics:
    """Statistics of a tensor's numbers: the limits `low` and `high`, the `count` of numbers, a
    random sample of them (`parts`), and the smallest and largest ones (`extremes`)."""
    low: float = np.inf
    high: float = -np.inf
    count: int = 0
    parts: list = field(default_factory=list)
    extremes: list = field(default_factory=list)

    def add(self, array: ArrayLike, share: float, rng: np.random.Generator) -> None:
        """Add the numbers of one batch; `share` of them are kept in the sample."""
        flat = np.asarray(array, np.float32).reshape(-1)
        if not flat.size:
            return
        self.low, self.high = min(self.low, float(flat.min())), max(self.high, float(flat.max()))
        self.count += flat.size
        if flat.size > 2 * _EXTREME:
            ends = np.partition(flat, [_EXTREME, flat.size - _EXTREME])
            self.extremes = [*ends[:_EXTREME], *ends[-_EXTREME:], *self.extremes]
            self.extremes = sorted(self.extremes)
            del self.extremes[_EXTREME:-_EXTREME]
        count = max(1, int(flat.size * share))
        self.parts.append(flat if count >= flat.size else flat[rng.integers(0, flat.size, count)])

    @property
    def sample(self) -> np.ndarray:
        """The random sample of the numbers."""
        return np.concatenate(self.parts)

    def join(self, others: "list[Statistics]") -> "Statistics":
        """The statistics of several tensors that share one scale."""
        every = [self, *others]
        return Statistics(min(item.low for item in every), max(item.high for item in every),
                          sum(item.count for item in every),
                          [part for item in every for part in item.parts],
                          [number for item in every for number in item.extremes])


def calibration_feeds(network: FloatNetwork | SimpleNamespace, data: ArrayLike | dict,
                      source: str = "the calibration data") -> dict[str, np.ndarray]:
    """{input: float32 array [N, ...]} of a network's `inputs` from an array, or a dict of arrays.

    `source` names the data in errors. Raises UserError for missing inputs, wrong shapes, data that
    are not numbers, NaN and infinity.
    """
    names = [item.name for item in network.inputs]
    if not isinstance(data, dict):
        if len(names) != 1:
            raise UserError(f"{source}: the network has {len(names)} inputs, {', '.join(names)}: "
                            "give a .npz file with an array for each")
        data = {names[0]: data}
    if set(data) != set(names):
        raise UserError(f"{source}: must have arrays for the inputs {', '.join(names)}, not "
                        f"{', '.join(data) or 'none'}")
    feeds = {}
    for item in network.inputs:
        array = np.asarray(data[item.name])
        sizes = [size.dim_value or None for size in item.type.tensor_type.shape.dim]
        text = ", ".join(["N", *(str(size or "?") for size in sizes[1:])])
        if array.dtype.kind not in "fiub":
            raise UserError(f"{source}: must be numbers, {item.name!r} is of type {array.dtype}")
        if array.ndim != len(sizes) or any(
                size not in (None, own) for size, own in zip(sizes[1:], array.shape[1:],
                                                             strict=True)):
            raise UserError(f"{source}: input {item.name!r} must have the shape ({text}), N "
                            f"images, not {array.shape}")
        if not array.size:
            raise UserError(f"{source}: holds no image for input {item.name!r}")
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            index = tuple(int(n) for n in np.argwhere(~np.isfinite(array))[0])
            raise UserError(f"{source}: must be finite, and {item.name!r} is {array[index]} at "
                            f"{list(index)}")
        feeds[item.name] = array
    if len({len(array) for array in feeds.values()}) != 1:
        raise UserError(f"{source}: all inputs must have the same number of images, not "
                        + ", ".join(str(len(array)) for array in feeds.values()))
    return feeds


def collect(network: FloatNetwork, feeds: dict[str, np.ndarray], tensors: Iterable[str],
            done: Callable[[int], object] = lambda count: None) -> dict[str, Statistics]:
    """{tensor: `Statistics`} over all images of `feeds`; `done` is called with the number of images
    that have run. Raises UserError for numbers that are not finite."""
    images, rng = len(next(iter(feeds.values()))), np.random.default_rng(0)
    run, model = Evaluator(network.opsets), network.model()
    found = {name: Statistics() for name in tensors}
    for start in range(0, images, _BATCH):
        batch = {name: array[start:start + _BATCH] for name, array in feeds.items()}
        count = len(next(iter(batch.values())))
        for name, array in run.walk(model, batch, tensors).items():
            if not np.isfinite(array).all():
                raise UserError(f"tensor {name!r} of the float network is not finite for the "
                                f"calibration images {start} to {start + count - 1}: the model "
                                "or the data are damaged")
            found[name].add(array, _KEPT / (images * array.size / count), rng)
        done(start + count)
    return found


def largest(form: Format) -> float:
    """The largest magnitude of a format that tensors are scaled to; signed formats have it with
    both signs."""
    low, high = form.image_range
    top = min(high, -low) if form.signed else high
    return float(np.ldexp(float(min(top, _IMAGES)), form.exponent))


def _between(form: Format, low: float, high: float, even_zero: bool) -> Quantizer:
    """The quantizer whose codes reach from `low` to `high`, extended to include 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    if high == low:
        high = 1.0
    if not form.uniform:
        return Quantizer(form, _scale(max(-low, high) / largest(form)))
    least, most = form.image_range
    steps = most - least
    scale = _scale((high - low) / steps)
    zero = least - low / scale
    zero = 2 * round(zero / 2) if even_zero else round(zero)
    if even_zero and low and high:
        # Rounding the zero point to an even one must not clip an end.
        scale = _scale(max(high / max(most - zero, 0.5), low / min(least - zero, -0.5)))
    return Quantizer(form, scale, min(max(zero, least), most))


def _scale(number: float) -> float:
    """The nearest scale that float32 has, not so small that quotients overflow."""
    return float(np.float32(max(number, 1e-30)))


def fit(form: Format, statistics: Statistics, method: str = "mse", percentile: float = 99.99,
        even_zero: bool = False,
        loss: Callable[[Quantizer], float] | None = None) -> Quantizer:
    """The `Quantizer` of a format for a tensor with these statistics.

    Ranges by `method`: "min-max" includes all numbers; "percentile" all but 100 - `percentile`
    percent at either end; "mse" gives the least squared error, among ranges between a tenth of the
    whole and the whole; "kl", among the same, the least Kullback-Leibler divergence between the
    numbers' histogram and that of the codes, each code's numbers spread evenly over the cells that
    it stands for (Migacz, 8-bit inference with TensorRT, 2017); "cross-entropy", of a quarter of
    these and the one of "mse", the least `loss`. With `even_zero`, an integer's zero point is even:
    see `gen/importer/dialects/qonnx.py`.
    """
    if method == "cross-entropy":
        assert loss is not None, "somebody must say what a quantizer costs"
        first = fit(form, statistics, "mse", even_zero=even_zero)
        low, high = statistics.low, statistics.high
        made = [first, *(_between(form, low * part, high * part, even_zero)
                         for part in _parts(form)[::4])]
        return made[int(np.argmin([loss(item) for item in made]))]
    low, high = statistics.low, statistics.high
    if method == "min-max" or low == high:
        return _between(form, low, high, even_zero)
    sample = statistics.sample
    if method == "percentile":
        low, high = map(float, np.percentile(sample, [100 - percentile, percentile]))
        return _between(form, low, high, even_zero)
    if method == "kl":
        made = [_between(form, low * part, high * part, even_zero) for part in _parts(form)]
        return made[int(np.argmin(_divergences(made, np.histogram(sample, _CELLS, (low, high)))))]
    sample = np.sort(sample)[::max(1, len(sample) // _TRIED)]
    weight = statistics.count / len(sample)
    extremes = np.asarray(statistics.extremes, np.float32)

    def error(quantizer):
        return sum(factor * float(np.square(part - quantizer(part), dtype=np.float64).sum())
                   for factor, part in ((weight, sample), (1, extremes)))

    def best(ranges):
        made = [_between(form, low, high, even_zero) for low, high in ranges]
        return ranges[int(np.argmin([error(item) for item in made]))]
    low, high = best([(low * part, high * part) for part in _parts(form)])
    if form.uniform and low < 0 < high:
        low, high = best([(low * part, high) for part in np.linspace(1, 0.5, 26)])
        low, high = best([(low, high * part) for part in np.linspace(1, 0.5, 26)])
    return _between(form, low, high, even_zero)


def _divergences(quantizers, histogram):
    """The Kullback-Leibler divergence from a histogram (counts, edges) for each quantizer."""
    counts, edges = histogram
    counts, centres = counts.astype(np.float64), (edges[1:] + edges[:-1]) / 2
    there = counts > 0
    found = []
    for quantizer in quantizers:
        # Numbers beyond the range count where the range ends.
        low, high = quantizer.limits
        inside = np.clip(centres, low, high)
        cells = np.clip(np.searchsorted(edges, inside, "right") - 1, 0, len(counts) - 1)
        clipped = np.bincount(cells, counts, len(counts))
        _, code = np.unique(quantizer(centres), return_inverse=True)
        mass = np.bincount(code, np.where(cells == np.arange(len(cells)), counts, 0))
        spread = np.where(there, (mass / np.maximum(np.bincount(code, there), 1))[code], 0)
        p, q = clipped / clipped.sum(), spread / max(spread.sum(), 1e-300)
        filled = p > 0
        found.append(float((p[filled] * np.log(p[filled] / np.maximum(q[filled], 1e-9))).sum()))
    return found


def _parts(form: Format) -> np.ndarray:
    """The shares of the whole range that are tried."""
    if form.uniform or form.binary:
        return np.linspace(1, 0.1, 91)
    # A float's steps follow its exponent: the scale matters within a factor of two, and the largest
    # numbers may be clipped.
    return np.exp2(-np.arange(0, 3.5, 1 / 16))


def fit_weights(form: Format, weight: np.ndarray, axis: int,
                method: str = "mse") -> tuple[np.ndarray, np.ndarray]:
    """(scales [channels], rounded weights) of a linear node's weights, with one scale for each
    slice along `axis`. `method`: one of WEIGHT_RANGES; "mse" and "min-max" as of `fit`, "sawb" by
    the mean magnitude and the mean square of each slice (see SAWB)."""
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)
    top = largest(form)
    whole = np.abs(rows).max(axis=1)
    whole = np.where(whole > 0, whole, 1.0)
    if method == "sawb":
        c1, c2 = (HALF_STEP_SAWB if form.binary else SAWB)[form.width]
        clip = c1 * np.sqrt(np.square(rows).mean(axis=1)) + c2 * np.abs(rows).mean(axis=1)
        # No clip below the mean magnitude is good: such numbers are not spread as the formula takes
        # them to be.
        whole = np.where((clip > np.abs(rows).mean(axis=1)) & (clip < whole), clip, whole)
    parts = np.concatenate([_parts(form), [0.08]]) if method == "mse" else np.ones(1)
    if len(parts) > 1 and not (form.uniform or form.binary):
        parts = np.exp2(np.arange(-16, 32) / 16)
    best = np.full(len(rows), np.inf)
    scales = whole / top
    for part in parts:
        scale = np.maximum(whole * part / top, 1e-30).astype(np.float32)[:, None]
        error = np.square(rows - round_weights(form, rows, scale)).sum(axis=1)
        better = error < best
        best, scales = np.where(better, error, best), np.where(better, scale[:, 0], scales)
    scales = np.maximum(scales, 1e-30).astype(np.float32)
    shape = [-1 if n == axis else 1 for n in range(weight.ndim)]
    return scales, round_weights(form, weight, scales.reshape(shape))


def round_weights(form: Format, weight: ArrayLike, scale: ArrayLike) -> np.ndarray:
    """The weights (float32) after rounding to a format with a scale that broadcasts; elements of
    blocks to all of its numbers, others to as many of either sign."""
    if form.block_scale:
        return quantize_as(form, weight, scale)
    top = largest(form)
    return quantize_as(form, weight, scale, 0, -top, top)
