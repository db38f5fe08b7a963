"""A thin U-Net of 32 channels that marks ships on synthetic images of the sea, in floats and after
quantization to 6 bits."""

from importlib import resources
from pathlib import Path

import numpy as np
from systolith.gen.importer.file import read
from systolith.gen.importer.reader import load
from systolith.gen.importer.run import run_model
from systolith.gen.quantize.quantize import quantize
from systolith.gen.quantize.recipe import Recipe

from .figure import Figure

__all__ = ["SIZE", "images_of_ships", "iou", "unet"]

#: Rows and columns of an image.
SIZE = 32
#: Seeds of the images that the network was trained on, and those of calibration and test.
TRAINING, CALIBRATION, TEST = 0, 1, 2
_HELD_OUT, _CALIBRATED = 400, 100
#: Points of IoU that 6 bits may lose: e3m2, int6 (Gernigon et al.).
_PUBLISHED = {"e3m2": 0.3, "int6": 0.5}


def images_of_ships(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(images, masks): float32 [count, 1, SIZE, SIZE] from 0 to 1, bool of the same shape.

    The sea is waves and noise; land, clouds, and small bright crests lie in some images; none to
    three ships, bright rectangles of 2 to 4 by 5 to 13 pixels at any angle, some with a wake, which
    is no ship.
    """
    rng = np.random.default_rng([seed, count])
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    images, masks = np.empty((count, 1, SIZE, SIZE)), np.zeros((count, 1, SIZE, SIZE), bool)

    def wave(length):
        angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
        return np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / length + phase)
    for image, mask in zip(images[:, 0], masks[:, 0], strict=True):
        image[:] = rng.uniform(0.1, 0.35) + 0.03 * wave(rng.uniform(4, 8)) + 0.05 * wave(
            rng.uniform(20, 60)) + rng.normal(0, 0.03, image.shape)
        if rng.random() < 0.4:                      # land or a cloud
            cloud = wave(rng.uniform(40, 80)) + wave(rng.uniform(25, 50)) > 1
            image[cloud] += rng.uniform(0.1, 0.45)
        crests = rng.integers(0, SIZE, (rng.integers(0, 8), 2))
        image[tuple(crests.T)] += rng.uniform(0.2, 0.5)
        for _ in range(rng.integers(0, 4)):
            row, column = rng.uniform(4, SIZE - 4, 2)
            angle, long, wide = rng.uniform(0, 2 * np.pi), rng.uniform(5, 13), rng.uniform(2, 4)
            along = (x - column) * np.cos(angle) + (y - row) * np.sin(angle)
            across = (y - row) * np.cos(angle) - (x - column) * np.sin(angle)
            ship = (abs(along) < long / 2) & (abs(across) < wide / 2)
            if rng.random() < 0.5:
                wake = (along < -long / 2) & (along > -1.5 * long) & (
                    abs(across) < 1 - along / long / 2)
                image[wake] += 0.12
            image[ship] = rng.uniform(0.5, 0.95) + rng.normal(0, 0.05, int(ship.sum()))
            mask |= ship
    return np.clip(images, 0, 1).astype(np.float32), masks


def iou(marked: np.ndarray, masks: np.ndarray) -> float:
    """Pixels that are marked and in a mask, as a share of those that are either."""
    return float((marked & masks).sum() / (marked | masks).sum())


def unet(folder: Path | None = None) -> list[Figure]:
    """IoU of the shipped network on images that it has not seen, by the golden model; `folder` has
    another `ships-unet-float.onnx`."""
    folder = folder or Path(str(resources.files("systolith.examples") / "ships"))
    path = folder / "ships-unet-float.onnx"
    calibration, _ = images_of_ships(_CALIBRATED, CALIBRATION)
    images, masks = images_of_ships(_HELD_OUT, TEST)
    exact = 100 * iou(run_model(read(path), {"input": images}, ["logits"])["logits"] > 0, masks)
    figures = []
    for name, published in _PUBLISHED.items():
        graph = load(quantize(path, calibration, Recipe(name, name, rounding="learned"),
                              measure=False).model)
        found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
        lost = exact - 100 * iou(found > 0, masks)
        figures.append(Figure(f"thin U-Net 32 in {name}: points of IoU lost, of {exact:.1f} in "
                              "floats", f"{published:g}", f"{lost:.2f}", lost <= published))
    return figures
