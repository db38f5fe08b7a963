"""How long the golden model takes for the 1,000 held-out digits.

Importing the network is timed on its own; the model's time is that of encoding the images,
running every layer, and decoding the results.
"""

import time
from pathlib import Path

import numpy as np
from common import arguments, report
from systolith.gen.importer.reader import load

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"


def main():
    options = arguments(__doc__, repeat=(3, "measure so often and keep the fastest"))
    with np.load(DIGITS / "digits-test.npz") as file:
        images = file["images"].astype(np.float32) / np.float32(255)
        labels = file["labels"]
    rows = []
    for name in ("digits-cnn", "digits-cnn-int8", "digits-mlp-bnn"):
        start = time.perf_counter()
        graph = load(DIGITS / f"{name}.onnx")
        imported = time.perf_counter() - start
        inputs = images.reshape(-1, *graph.encoders[0].shape)
        seconds = []
        for _ in range(options.repeat):
            start = time.perf_counter()
            results = graph.decode_outputs(graph.run(graph.encode_inputs(inputs)))
            seconds.append(time.perf_counter() - start)
        rows.append({"network": name, "digits": len(labels), "import s": imported,
                     "golden model s": min(seconds),
                     "accuracy %": 100 * float(np.mean(results.argmax(1) == labels))})
    report("Golden model over the held-out digits", rows, options.json)


if __name__ == "__main__":
    main()
