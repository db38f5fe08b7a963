"""Train the networks and write their ONNX files next to this script.

Needs the extra `train`: pip install .[train]. `python train.py` takes about ten minutes on
one core; `--networks bnn` trains one of them only, `--epochs-scale 0.1` shortens everything.
The held-out digits are used for the final figures only: the last epoch's weights are what is
written, whatever they reach.
"""

import argparse
import math
import tempfile
from pathlib import Path

import data
import evaluate
import numpy as np
import onnx
import torch
from export import export_binary_mlp, export_cnn
from networks import BinaryMlp, Cnn
from onnxruntime import InferenceSession
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from torch.nn import functional

HERE = Path(__file__).parent
FLOAT_EPOCHS, QUANTIZED_EPOCHS, BINARY_EPOCHS = 120, 80, 600
BATCH = 100


def to_tensor(images):
    return torch.from_numpy(images[:, None].astype(np.float32) / np.float32(255))


def train(network, images, labels, *, epochs, rate, strength=1.0, after_step=None, teacher=None,
          title):
    """Adam with a cosine schedule over distorted images; leaves `network` in evaluation mode.

    With a `teacher`, the loss is the distance to its (softened) answers on the same distorted
    images instead of to the labels.
    """
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, step / 100) * (1 + math.cos(math.pi * step / steps)) / 2)
    network.train()
    for epoch in range(epochs):
        order, total = torch.randperm(len(images), generator=generator), 0.0
        distorted = data.distort(images, generator, strength)
        for start in range(0, len(images) - BATCH + 1, BATCH):
            chosen = order[start:start + BATCH]
            outputs = network(distorted[chosen])
            loss = functional.cross_entropy(outputs, labels[chosen], label_smoothing=0.02)
            if teacher is not None:
                with torch.no_grad():
                    answers = functional.softmax(teacher(distorted[chosen]) / 2, dim=1)
                loss = functional.cross_entropy(outputs / 2, answers)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if after_step is not None:
                after_step()
            total += loss.item()
        if (epoch + 1) % max(1, epochs // 10) == 0:
            print(f"{title}: epoch {epoch + 1} of {epochs}, loss "
                  f"{total / (len(images) // BATCH):.4f}", flush=True)
    network.eval()


def check_export(path, expected, images, labels):
    """Print the accuracy that the written file has, and refuse one that does not say what it must.

    `expected` are the results of PyTorch (or, for int8, of onnxruntime) for `images`. They and
    the float64 evaluator may part where a sum falls next to the middle between two codes; the
    same digit must come out on all but 2 of 1,000 images.
    """
    results = evaluate.evaluate(onnx.load(path), images)
    differing = int((results.argmax(1) != expected.argmax(1)).sum())
    if differing > len(labels) // 500:
        raise RuntimeError(f"{path.name} and the trained network differ on {differing} digits")
    print(f"{path.name}: {100 * np.mean(results.argmax(1) == labels):.1f} % of {len(labels)} "
          f"({path.stat().st_size / 1000:.0f} kB; differs on {differing} digits)", flush=True)


def quantize_int8(network, images, path):
    """Write the float `network` as int8, by onnxruntime with its default settings.

    `images` (uint8, training digits) calibrate the ranges.
    """
    class Reader(CalibrationDataReader):
        def __init__(self):
            self.batches = iter([{"input": to_tensor(images).numpy()}])

        def get_next(self):
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / f"{path.stem}.onnx"
        export_cnn(network, plain)
        quantize_static(plain, path, Reader())


def command(doc, make, export, file, *, epochs, **options):
    """The command line of a script that trains one network: `make()` is trained with `options` of
    `train` (`clip`: whether its weights are clipped after each step), written by `export(network,
    path)` to `file` next to the script, and the file checked on the held-out digits."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("-o", "--output", type=Path, default=HERE, help="folder to write to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images, labels, _, _ = data.split()
    network = make()
    if options.pop("clip", False):
        options["after_step"] = network.clip
    train(network, to_tensor(images), torch.from_numpy(labels.astype(np.int64)),
          epochs=arguments.epochs, rate=4e-3, **options)
    path = arguments.output / file
    export(network, path)
    test_images, test_labels = evaluate.load_test()
    with torch.no_grad():
        expected = network(torch.from_numpy(test_images.astype(np.float32))).numpy()
    print(f"trained network: {100 * np.mean(expected.argmax(1) == test_labels):.1f} %")
    check_export(path, expected, test_images, test_labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=["float", "int8", "bnn", "cnn"],
                        default=["float", "int8", "bnn", "cnn"])
    parser.add_argument("--epochs-scale", type=float, default=1.0,
                        help="multiplies the number of epochs (default 1)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=HERE, help="folder to write to")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    train_images, train_labels, _, _ = data.split()
    test_file = arguments.output / evaluate.TEST_FILE.name
    data.write_test_file(test_file)
    calibration = data.calibration(train_images, train_labels)
    images = to_tensor(train_images)
    labels = torch.from_numpy(train_labels.astype(np.int64))
    test = evaluate.load_test(test_file)
    test_images = torch.from_numpy(test[0].astype(np.float32))

    def results(trained):
        with torch.no_grad():
            return trained(test_images).numpy()

    def epochs(count):
        return max(1, round(count * arguments.epochs_scale))

    # All start from the float network: it becomes int8 by calibration and e3m2 by
    # training on with the quantizers, and it teaches the binary one.
    network = Cnn()
    train(network, images, labels, epochs=epochs(FLOAT_EPOCHS), rate=4e-3, title="float")
    if "float" in arguments.networks:
        path = arguments.output / "digits-cnn-float.onnx"
        export_cnn(network, path)
        check_export(path, results(network), *test)
    if "int8" in arguments.networks:
        path = arguments.output / "digits-cnn-int8.onnx"
        quantize_int8(network, calibration, path)
        session = InferenceSession(path, providers=["CPUExecutionProvider"])
        check_export(path, session.run(None, {"input": test_images.numpy()})[0], *test)
    if "bnn" in arguments.networks:
        binary = BinaryMlp()
        train(binary, images, labels, epochs=epochs(BINARY_EPOCHS), rate=4e-3, strength=0.7,
              after_step=binary.clip, teacher=network, title="binary")
        path = arguments.output / "digits-mlp-bnn.onnx"
        export_binary_mlp(binary, path)
        check_export(path, results(binary), *test)
    if "cnn" in arguments.networks:
        network.start_quantizing(images)
        train(network, images, labels, epochs=epochs(QUANTIZED_EPOCHS), rate=1e-3, title="e3m2")
        path = arguments.output / "digits-cnn.onnx"
        export_cnn(network, path)
        check_export(path, results(network), *test)


if __name__ == "__main__":
    main()
