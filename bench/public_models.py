"""Float networks as packages on PyPI define them, as ONNX files of the field's exporters.

    pip install .[zoo]
    python bench/public_models.py -o build/zoo [--models yolov8n,unet]

Writes NAME.onnx (with NAME.onnx.data where the exporter stores weights apart) for each entry of
`MODELS`; a file that is there is kept. Weights are random, from a fixed seed: no package holds
trained ones. Factors and terms of batch norms are random, too, and their statistics are those of
a few batches of the images (`images`), so that what passes through a network keeps its size. Each
package is imported only for its own networks.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["MODELS", "Model", "export", "images", "packages_missing"]

_SEED = 0
#: Images of a batch that batch norms see, and such batches.
_BATCH, _BATCHES = 4, 4


@dataclass(frozen=True)
class Model:
    """A network: `source` says whose definition it is, `exporter` who writes it; `make` returns
    it, `shape` is that of one image."""
    title: str
    shape: tuple
    source: str
    exporter: str
    make: Callable[[], object]


def images(shape, count, seed=0):
    """Images [count, ...], float32, with mean 0 and deviation 1: noise, half of it smooth where
    there are two axes of 8 and more pixels."""
    rng = np.random.default_rng(seed)
    found = rng.normal(0, 1, (count, *shape))
    axes = [n + 1 for n, size in enumerate(shape) if size >= 8]
    if len(axes) >= 2:
        smooth = rng.normal(0, 1, found.shape)
        for axis in axes[-2:] if shape[-1] >= 8 else axes[:2]:
            smooth = sum(np.roll(smooth, step, axis) for step in range(-3, 4))
        found += smooth / smooth.std()
    return np.float32(found / found.std())


# Definitions in packages.

def _resnet50():
    from torchvision.models import resnet50
    return resnet50(weights=None)


def _mobilenet_v3():
    from torchvision.models import mobilenet_v3_small
    return mobilenet_v3_small(weights=None)


def _efficientnet_lite0():
    import timm
    return timm.create_model("efficientnet_lite0", pretrained=False)


def _unet():
    import segmentation_models_pytorch as smp
    return smp.Unet("resnet18", encoder_weights=None, in_channels=3, classes=2)


def _yolov8n():
    from ultralytics import YOLO
    return YOLO("yolov8n.yaml")


def _yolox(name, decoded):
    from yolox.config import YoloxConfig
    net = YoloxConfig.get_named_config(name).get_model()
    net.head.decode_in_inference = decoded
    return net


def _resnet8():
    from pytorchcv.models.resnet_cifar import get_resnet_cifar
    return get_resnet_cifar(num_classes=10, blocks=8, bottleneck=False)


def _mobilenet_v1():
    from pytorchcv.models.mobilenet import mobilenet_wd4
    from torch import nn
    net = mobilenet_wd4(num_classes=2)
    net.features.final_pool = nn.AvgPool2d(3)   # it is for images of 224 x 224
    return net


# Definitions after papers and reference code, where no package has them.

def _ds_cnn():
    from torch import nn

    def normed(conv):
        return [conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU()]
    layers = [nn.ZeroPad2d((1, 1, 4, 5)), *normed(nn.Conv2d(1, 64, (10, 4), 2)), nn.Dropout(0.2)]
    for _ in range(4):
        layers += normed(nn.Conv2d(64, 64, 3, padding=1, groups=64))
        layers += normed(nn.Conv2d(64, 64, 1))
    return nn.Sequential(*layers, nn.Dropout(0.4), nn.AvgPool2d((25, 5)), nn.Flatten(),
                         nn.Linear(64, 12), nn.Softmax(1))


def _autoencoder():
    from torch import nn
    layers, inputs = [], 640
    for outputs in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.Linear(inputs, 640))


def _keras_resnet8():
    from keras import Input, layers
    from keras import Model as KerasModel

    def normed(x, channels, stride=1):
        x = layers.Conv2D(channels, 3, strides=stride, padding="same")(x)
        return layers.BatchNormalization()(x)
    start = Input((32, 32, 3))
    x = layers.Activation("relu")(normed(start, 16))
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        y = layers.Activation("relu")(normed(x, channels, stride))
        y = normed(y, channels)
        if stride > 1:
            x = layers.Conv2D(channels, 1, strides=stride, padding="same")(x)
        x = layers.Activation("relu")(layers.add([x, y]))
    x = layers.Flatten()(layers.AveragePooling2D(8)(x))
    return KerasModel(start, layers.Dense(10, activation="softmax")(x))


def _keras_mobilenet_v1():
    from keras.applications import MobileNet
    return MobileNet((96, 96, 3), alpha=0.25, weights=None, classes=2)


def _keras_ds_cnn():
    from keras import Input, Sequential, layers
    stack = [Input((49, 10, 1)), layers.Conv2D(64, (10, 4), strides=2, padding="same"),
             layers.BatchNormalization(), layers.Activation("relu"), layers.Dropout(0.2)]
    for _ in range(4):
        for conv in (layers.DepthwiseConv2D(3, padding="same"),
                     layers.Conv2D(64, 1, padding="same")):
            stack += [conv, layers.BatchNormalization(), layers.Activation("relu")]
    return Sequential([*stack, layers.Dropout(0.4), layers.AveragePooling2D((25, 5)),
                       layers.Flatten(), layers.Dense(12, activation="softmax")])


def _keras_autoencoder():
    from keras import Input, Sequential, layers
    stack = [Input((640,))]
    for outputs in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        stack += [layers.Dense(outputs), layers.BatchNormalization(), layers.Activation("relu")]
    return Sequential([*stack, layers.Dense(640)])


# Exporters.

def _settle(model, shape):
    """Give batch norms factors, terms and statistics."""
    import torch
    generator = torch.Generator().manual_seed(_SEED)
    norms = [part for part in model.modules()
             if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        torch.nn.init.uniform_(norm.weight, 0.6, 1.4, generator)
        torch.nn.init.normal_(norm.bias, 1, 0.3, generator)
        norm.reset_running_stats()
        norm.momentum = None                    # the mean of all batches
        norm.train()
    with torch.no_grad():
        for number in range(_BATCHES):
            model(torch.from_numpy(images(shape, _BATCH, 100 + number)))
    model.eval()


def _torch_export(model, shape, path, dynamo):
    import torch
    model.eval()
    _settle(model, shape)
    image = torch.from_numpy(images(shape, 1))
    torch.onnx.export(model, (image,), str(path), dynamo=dynamo)


def _ultralytics_export(yolo, shape, path):
    yolo.model.eval()
    _settle(yolo.model, shape)
    yolo.model.pt_path = str(path.with_suffix(".pt"))
    Path(yolo.export(format="onnx", imgsz=shape[-1])).rename(path)


def _keras_export(model, shape, path):
    import keras
    rng = np.random.default_rng(_SEED)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.gamma.assign(rng.uniform(0.6, 1.4, norm.gamma.shape))
        norm.beta.assign(rng.normal(1, 0.3, norm.beta.shape))
        norm.momentum = 0.7
    for number in range(5 * _BATCHES):
        model(images(shape, 4 * _BATCH, 100 + number), training=True)
    model.export(str(path), format="onnx", verbose=False)


_EXPORTERS = {
    "torch": lambda *args: _torch_export(*args, dynamo=True),
    "torch, TorchScript": lambda *args: _torch_export(*args, dynamo=False),
    "ultralytics": _ultralytics_export, "keras": _keras_export}

_TINY = "MLPerf Tiny: "
_PAPER = "torch.nn, after MLPerf Tiny"
#: name: Model
MODELS = {
    "resnet8-keras": Model(_TINY + "ResNet-8, 32x32", (32, 32, 3), "Keras, after MLPerf Tiny",
                           "keras", _keras_resnet8),
    "ds-cnn-keras": Model(_TINY + "DS-CNN", (49, 10, 1), "Keras, after MLPerf Tiny", "keras",
                          _keras_ds_cnn),
    "mobilenet-v1-keras": Model(_TINY + "MobileNetV1-0.25, 96x96", (96, 96, 3),
                                "keras.applications", "keras", _keras_mobilenet_v1),
    "autoencoder-keras": Model(_TINY + "autoencoder", (640,), "Keras, after MLPerf Tiny", "keras",
                               _keras_autoencoder),
    "resnet8": Model(_TINY + "ResNet-8, 32x32", (3, 32, 32), "pytorchcv", "torch", _resnet8),
    "resnet8-ts": Model(_TINY + "ResNet-8, 32x32", (3, 32, 32), "pytorchcv", "torch, TorchScript",
                        _resnet8),
    "ds-cnn": Model(_TINY + "DS-CNN", (1, 49, 10), _PAPER, "torch", _ds_cnn),
    "ds-cnn-ts": Model(_TINY + "DS-CNN", (1, 49, 10), _PAPER, "torch, TorchScript", _ds_cnn),
    "mobilenet-v1": Model(_TINY + "MobileNetV1-0.25, 96x96", (3, 96, 96), "pytorchcv", "torch",
                          _mobilenet_v1),
    "mobilenet-v1-ts": Model(_TINY + "MobileNetV1-0.25, 96x96", (3, 96, 96), "pytorchcv",
                             "torch, TorchScript", _mobilenet_v1),
    "autoencoder": Model(_TINY + "autoencoder", (640,), _PAPER, "torch", _autoencoder),
    "autoencoder-ts": Model(_TINY + "autoencoder", (640,), _PAPER, "torch, TorchScript",
                            _autoencoder),
    "resnet50": Model("ResNet-50, 64x64", (3, 64, 64), "torchvision", "torch", _resnet50),
    "mobilenet-v3": Model("MobileNetV3-small, 224x224", (3, 224, 224), "torchvision", "torch",
                          _mobilenet_v3),
    "mobilenet-v3-ts": Model("MobileNetV3-small, 224x224", (3, 224, 224), "torchvision",
                             "torch, TorchScript", _mobilenet_v3),
    "efficientnet-lite0": Model("EfficientNet-Lite0, 224x224", (3, 224, 224), "timm", "torch",
                                _efficientnet_lite0),
    "unet": Model("U-Net on ResNet-18, 128x128", (3, 128, 128), "segmentation-models-pytorch",
                  "torch", _unet),
    "unet-ts": Model("U-Net on ResNet-18, 128x128", (3, 128, 128), "segmentation-models-pytorch",
                     "torch, TorchScript", _unet),
    "yolov8n": Model("YOLOv8n, 320x320", (3, 320, 320), "ultralytics", "ultralytics", _yolov8n),
    "yolox-nano": Model("YOLOX-nano, 416x416", (3, 416, 416), "pixeltable-yolox", "torch",
                        lambda: _yolox("yolox_nano", False)),
    "yolox-nano-decoded": Model("YOLOX-nano, 416x416, boxes decoded", (3, 416, 416),
                                "pixeltable-yolox", "torch, TorchScript",
                                lambda: _yolox("yolox_nano", True)),
}


def packages_missing(error):
    """The one line for packages that are not installed."""
    return (f"the package {error.name} is missing, which defines or exports this network: "
            "pip install .[zoo]")


def export(name, folder):
    """The path of a network's ONNX file in a folder, written if it is not there. Raises
    ModuleNotFoundError."""
    path = Path(folder) / f"{name}.onnx"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    model = MODELS[name]
    if model.exporter == "keras":
        import keras
        keras.utils.set_random_seed(_SEED)
    else:
        import torch
        torch.manual_seed(_SEED)
    _EXPORTERS[model.exporter](model.make(), model.shape, path)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--models", default=",".join(MODELS), help="which, with commas")
    options, missing = parser.parse_args(), 0
    for name in options.models.split(","):
        try:
            print(export(name, options.output), flush=True)
        except ModuleNotFoundError as error:
            print(f"{name}: {packages_missing(error)}", file=sys.stderr)
            missing += 1
    sys.exit(1 if missing else 0)


if __name__ == "__main__":
    main()
