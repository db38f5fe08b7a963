"""Accuracy of the digits network after post-training quantization to many formats.

The float network that the repository ships is quantized with the 100 calibration digits; accuracy
is the golden model's on the 1,000 held-out digits.
"""

import sys
from pathlib import Path

import numpy as np
from common import arguments, report
from systolith.gen.importer.file import read
from systolith.gen.importer.run import run_model
from systolith.gen.quantize.quantize import quantize
from systolith.gen.quantize.recipe import Recipe

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
sys.path.append(str(DIGITS))
#: (activation, weight)
FORMATS = (("int8", "int8"), ("uint8", "int8"), ("e4m3", "e4m3"), ("e3m4", "e3m4"),
           ("e3m2", "e3m2"), ("int6", "int6"), ("int4", "int4"), ("int8", "int4"),
           ("int8", "int3"), ("int8", "e3m0x2"), ("e2m1", "e2m1"))
#: {name: what of the recipe is not the default}
COLUMNS = {"min-max": {"range": "min-max"}, "mse": {},
           "mse, biases as they were": {"correct_bias": False},
           "feedback": {"rounding": "feedback"}, "learned": {"rounding": "learned"},
           "learned, equalized": {"rounding": "learned", "equalize": True}}


def main():
    from quantize import accuracy, digits
    options = arguments(__doc__)
    calibration, images, labels = digits()
    path = DIGITS / "digits-cnn-float.onnx"
    exact = run_model(read(path), {"input": images}, ["logits"])["logits"]
    rows = [{"activations": "float32", "weights": "float32",
             **dict.fromkeys(COLUMNS,
                             100 * float(np.mean(exact.argmax(1) == labels))),
             "last layer dB": "exact"}]
    for activation, weight in FORMATS:
        row = {"activations": activation, "weights": weight}
        for name, recipe in COLUMNS.items():
            made = quantize(path, calibration, Recipe(activation, weight, **recipe))
            row[name] = 100 * accuracy(made.model, images, labels)
            if name == "mse":
                last = made.rows[-1]["sqnr"]
        rows.append(row | {"last layer dB": last})
    report("Held-out digits right, %, by the golden model", rows, options.json)


if __name__ == "__main__":
    main()
