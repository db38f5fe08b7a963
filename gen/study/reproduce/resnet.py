"""A ResNet of eight layers, trained on real digits, after quantization to few bits."""

from importlib import resources
from pathlib import Path

import numpy as np
from systolith.gen.importer.file import read
from systolith.gen.importer.reader import load
from systolith.gen.importer.run import run_model
from systolith.gen.quantize.quantize import quantize
from systolith.gen.quantize.recipe import Recipe
from systolith.hw.formats import parse
from systolith.sim.model.graph import Graph

from .figure import Figure

__all__ = ["Digits", "resnet"]

#: (activations, weights): points of accuracy that they may lose.
_MOST = {("int8", "int8"): 0.5, ("int4", "int4"): 0.5, ("e2m1", "e2m1"): 0.5,
         ("int8", "int3"): 1.5, ("e3m2", "e3m2"): 0.5, ("hfp8", "hfp8"): 0.5,
         ("lns8", "lns8"): 0.5,
         ("int8", "mxint8"): 0.5, ("e4m3fn", "mxfp8"): 0.5, ("e3m2", "mxfp6"): 0.5,
         ("e2m1", "mxfp4"): 0.5, ("e2m1", "nvfp4"): 0.5, ("e2m1", "mls"): 0.5}
#: Weights of at most so many bits are rounded as learned, others to the nearest.
_LEARNED = 4
#: {activations: how their ranges are chosen, if not by the least squared error}
_RANGES = {"e2m1": "cross-entropy"}
_MOVES = (0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)


class Digits:
    """The shipped ResNet, its calibration data and held-out digits.

    Attributes
    ----------
    exact : float
        Percent of the held-out digits that the float network gets right.
    inputs : float32 array [images, 1, 28, 28]
    """

    def __init__(self, folder: Path | None = None, images: int | None = None):
        """`folder` has another `digits-resnet-float.onnx`, `images` are the first so many."""
        folder = folder or Path(str(resources.files("systolith.examples") / "digits"))
        self.path = folder / "digits-resnet-float.onnx"
        with np.load(folder / "digits-test.npz") as file:
            calibration, self.inputs = (
                file[key][:images, None].astype(np.float32) / np.float32(255)
                for key in ("calibration", "images"))
            self._labels = file["labels"][:images]
        # Copies that are a pixel beside, too: learned rounding wants hundreds.
        self._calibration = np.concatenate(
            [np.roll(calibration, move, (2, 3)) for move in _MOVES])
        self.exact = self._right(
            run_model(read(self.path), {"input": self.inputs}, ["logits"])["logits"])

    def _right(self, results):
        return 100 * float((results.argmax(axis=1) == self._labels).mean())

    def quantized(self, recipe: Recipe) -> tuple[Graph, float]:
        """(the network after quantization, the points of accuracy that it loses, in percent, by the
        golden model)."""
        graph = load(quantize(self.path, self._calibration, recipe, measure=False).model)
        found = graph.decode_outputs(graph.run(graph.encode_inputs(self.inputs)))
        return graph, self.exact - self._right(found)


def resnet(folder: Path | None = None, images: int | None = None) -> list[Figure]:
    """Held-out digits that the shipped ResNet gets right, by the golden model, for each pair of
    formats; arguments as of `Digits`."""
    digits, figures = Digits(folder, images), []
    for (activation, weight), most in _MOST.items():
        rounding = "learned" if parse(weight).width <= _LEARNED else "nearest"
        _, lost = digits.quantized(
            Recipe(activation, weight, _RANGES.get(activation, "mse"), rounding=rounding))
        name = activation if activation == weight else f"{activation} x {weight}"
        figures.append(Figure(f"ResNet-8 in {name}: points lost, of {digits.exact:.1f} in floats",
                              f"<= {most:g}", f"{lost:.1f}", lost <= most + 1e-6))
    return figures
