"""Train the shipped thin U-Net on with quantizers in it, and write it beside this script as
`ships-unet-FORMAT.onnx`: floats that lose less than the first ones when they are quantized.

Weights (a scale for each channel) and maps (a scale for each) are rounded to the format in the
forward pass, gradients pass the rounding as if it were not there (straight-through; Gernigon et
al., arXiv 2311.11172). What is learned is the float network's own answer, half of the weight of the
masks. Images are those of `train.py`, none of calibration or test. Needs the extra `train`; some 3
minutes of one core.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from systolith.gen.importer.run import run_model
from systolith.gen.quantize.calibrate import fit_weights
from systolith.gen.study.reproduce.ships import TEST, TRAINING, images_of_ships, iou
from systolith.hw.formats import Float, parse
from torch.nn import functional

HERE = Path(__file__).parent
BATCH, IMAGES, SAMPLE = 20, 1000, 100
#: Parts of a map's largest number that are tried as its largest code.
PARTS = np.exp2(np.arange(-16, 17) / 16)


class _Rounded(torch.autograd.Function):
    """x rounded to numbers of a float format times a scale; the gradient is that of a clip."""

    @staticmethod
    def forward(context, x, scale, form):
        top = form.image_range[1] * 2.0 ** form.exponent
        lowest = 1 - form.bias
        number = x / scale
        exponent = torch.floor(torch.log2(number.abs().clamp_min(2.0 ** lowest)))
        step = torch.exp2(exponent - form.man)
        context.save_for_backward(number.abs() <= top)
        return (torch.round(number / step) * step).clamp(-top, top) * scale

    @staticmethod
    def backward(context, gradient):
        inside, = context.saved_tensors
        return gradient * inside, None, None


class Network:
    """The nodes of a float ONNX file of `train.py`, in PyTorch, with quantizers.

    Parameters
    ----------
    model : ModelProto
    form : Float or None
        None: nothing is rounded.
    """

    def __init__(self, model, form):
        self.model, self.form = model, form
        self.parameters = {item.name: torch.nn.Parameter(torch.from_numpy(
            numpy_helper.to_array(item).copy())) for item in model.graph.initializer}
        self.scales = {}

    def _weight(self, node):
        weight = self.parameters[node.input[1]]
        if self.form is None:
            return weight
        axis = int(node.op_type == "ConvTranspose")
        scales, _ = fit_weights(self.form, weight.detach().numpy(), axis)
        shape = [-1 if n == axis else 1 for n in range(4)]
        return _Rounded.apply(weight, torch.from_numpy(scales.reshape(shape)), self.form)

    def __call__(self, x, observe=None):
        """[n, 1, SIZE, SIZE] to logits of the same shape. `observe`: a function of the name and
        the values of each map before it is rounded, that gives its scale."""
        maps = {"input": x}

        def rounded(name):
            if self.form is None:
                return maps[name]
            if observe:
                self.scales[name] = observe(maps[name])
            return _Rounded.apply(maps[name], self.scales[name], self.form)
        maps["input"] = rounded("input")
        for node in self.model.graph.node:
            given, output = maps[node.input[0]], node.output[0]
            if node.op_type == "Conv":
                weight = self._weight(node)
                found = functional.conv2d(given, weight, self.parameters[node.input[2]],
                                          padding=weight.shape[2] // 2)
            elif node.op_type == "ConvTranspose":
                found = functional.conv_transpose2d(given, self._weight(node),
                                                    self.parameters[node.input[2]], stride=2)
            elif node.op_type == "MaxPool":
                found = functional.max_pool2d(given, 2)
            elif node.op_type == "Concat":
                found = torch.cat([maps[name] for name in node.input], 1)
            else:
                assert node.op_type == "Relu", node.op_type
                found = functional.relu(given)
            maps[output] = found
            if node.op_type == "Relu":
                maps[output] = rounded(output)
        return maps["logits"]

    def exported(self):
        """The float network as it is now."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for item in model.graph.initializer:
            array = self.parameters[item.name].detach().numpy()
            item.CopyFrom(numpy_helper.from_array(array, item.name))
        return model


def scale_of(form, values):
    """The scale of a map that makes the least squared error."""
    top = form.image_range[1] * 2.0 ** form.exponent
    whole = float(values.abs().max()) / top
    return min((whole * part for part in PARTS),
               key=lambda scale: float(
                   (_Rounded.apply(values, scale, form) - values).square().sum()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--format", default="e3m2", type=parse)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("-o", "--output", type=Path, default=HERE, help="folder to write to")
    options = parser.parse_args()
    form = options.format
    if not isinstance(form, Float) or form.special != "none" or form.radix != 2:
        parser.error("--format must be a plain float such as e3m2")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images, masks = images_of_ships(IMAGES, TRAINING)
    images, masks = torch.from_numpy(images), torch.from_numpy(masks).float()
    model = onnx.load(HERE / "ships-unet-float.onnx")
    network, teacher = Network(model, form), Network(model, None)
    with torch.no_grad():
        network(images[:SAMPLE], lambda values: scale_of(form, values))
    optimizer = torch.optim.Adam(network.parameters.values(), lr=options.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.rate, options.epochs * (IMAGES // BATCH), pct_start=0.1)
    generator = torch.Generator().manual_seed(1)
    for epoch in range(options.epochs):
        total = 0.0
        for chosen in torch.randperm(IMAGES, generator=generator).split(BATCH):
            turns, flip = torch.randint(4, (2,), generator=generator).tolist()
            x, y = (torch.rot90(item[chosen], turns, (2, 3)) for item in (images, masks))
            x, y = (item.flip(3) if flip % 2 else item for item in (x, y))
            with torch.no_grad():
                y = (y + torch.sigmoid(teacher(x))) / 2
            loss = functional.binary_cross_entropy_with_logits(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1} of {options.epochs}, loss {total * BATCH / IMAGES:.4f}",
              flush=True)
    model = network.exported()
    path = options.output / f"ships-unet-{form}.onnx"
    onnx.checker.check_model(model)
    onnx.save(model, path)
    images, masks = images_of_ships(400, TEST)
    with torch.no_grad():
        marked = network(torch.from_numpy(images)).numpy() > 0
    exact = run_model(model, {"input": images}, ["logits"])["logits"] > 0
    print(f"{path.name}: IoU {100 * iou(exact, masks):.2f} % in floats, "
          f"{100 * iou(marked, masks):.2f} % with quantizers, on 400 images")


if __name__ == "__main__":
    main()
