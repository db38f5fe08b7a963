"""The float network on chips of other numbers: quantized, and right how often.

`python quantize.py` writes the calibration digits as a .npy file for `systolith quantize`, and
prints for some formats the accuracy of the exact golden model on the held-out digits.
"""

import argparse
from pathlib import Path

import numpy as np
from systolith.gen.importer.reader import load
from systolith.gen.quantize.quantize import quantize
from systolith.gen.quantize.recipe import Recipe

HERE = Path(__file__).parent
FORMATS = ("int8", "e4m3", "e3m2", "int4")


def digits():
    """(calibration digits, held-out digits: float32 [n, 1, 28, 28] in 0..1, labels)."""
    with np.load(HERE / "digits-test.npz") as file:
        calibration, images = (file[key][:, None].astype(np.float32) / np.float32(255)
                               for key in ("calibration", "images"))
        return calibration, images, file["labels"]


def accuracy(model, images, labels):
    """The share of digits that the golden model of a quantized network gets right."""
    graph = load(model)
    results = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    return float(np.mean(results.argmax(1) == labels))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("digits-calibration.npy"),
                        help="where the calibration digits go (default: %(default)s)")
    options = parser.parse_args()
    calibration, images, labels = digits()
    np.save(options.output, calibration)
    print(f"wrote {options.output}")
    for name in FORMATS:
        made = quantize(HERE / "digits-cnn-float.onnx", calibration,
                        Recipe(name, name, equalize=True, correct_bias=True))
        print(f"{name}: {100 * accuracy(made.model, images, labels):.1f} % of {len(labels):,}, the "
              f"last layer {made.rows[-1]['sqnr']:.1f} dB above its error")


if __name__ == "__main__":
    main()
