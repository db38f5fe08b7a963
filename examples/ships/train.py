"""Train the thin U-Net that marks ships, and write its ONNX file next to this script.

32 channels at every level: convolutions of 3 x 3 on maps of 32, 16 and 8 pixels, two transposed
ones on the way up, whose results are joined with those of the way down; batch normalization and
ReLU after each. The images are `images_of_ships`, no data are needed. Needs the extra `train`:
pip install .[train]. Some 5 minutes of one core; `--epochs` shortens it.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from systolith.gen.importer.run import run_model
from systolith.gen.study.reproduce.ships import SIZE, TEST, TRAINING, images_of_ships, iou
from torch import nn
from torch.nn import functional

HERE = Path(__file__).parent
CHANNELS, BATCH, IMAGES = 32, 20, 1000


class _Layer(nn.Module):
    """A convolution, or a transposed one that doubles the map, with batch normalization, ReLU."""

    def __init__(self, inputs, up=False):
        super().__init__()
        self.conv = (nn.ConvTranspose2d(inputs, CHANNELS, 2, 2, bias=False) if up else
                     nn.Conv2d(inputs, CHANNELS, 3, 1, 1, bias=False))
        self.norm = nn.BatchNorm2d(CHANNELS)

    def forward(self, x):
        return functional.relu(self.norm(self.conv(x)))

    def folded(self):
        """(weight, bias) with the batch normalization in them."""
        norm = self.norm
        factor = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach()
        shape = [1, -1, 1, 1] if isinstance(self.conv, nn.ConvTranspose2d) else [-1, 1, 1, 1]
        weight = self.conv.weight.detach() * factor.reshape(shape)
        return weight.numpy(), (norm.bias.detach() - norm.running_mean * factor).numpy()


class UNet(nn.Module):
    """[n, 1, SIZE, SIZE] to [n, 1, SIZE, SIZE]: above 0 where there is a ship."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([_Layer(1), _Layer(CHANNELS), _Layer(CHANNELS)])
        self.up = nn.ModuleList([_Layer(CHANNELS, up=True) for _ in range(2)])
        self.joined = nn.ModuleList([_Layer(2 * CHANNELS) for _ in range(2)])
        self.last = nn.Conv2d(CHANNELS, 1, 1)

    def forward(self, x):
        left = []
        for layer in self.down:
            x = layer(functional.max_pool2d(x, 2) if left else x)
            left.append(x)
        for up, joined, beside in zip(self.up, self.joined, left[1::-1], strict=True):
            x = joined(torch.cat([beside, up(x)], 1))
        return self.last(x)


def export(network, path):
    """Write a `UNet` in evaluation mode, its batch normalization folded."""
    nodes, constants = [], []

    def node(operator, name, inputs, parameters=(), **attributes):
        names = [f"{name}_{key}" for key in ("weight", "bias")[:len(parameters)]]
        constants.extend(map(numpy_helper.from_array, parameters, names))
        output = "logits" if name == "last" else f"{name}_out"
        nodes.append(helper.make_node(operator, [*inputs, *names], [output], name, **attributes))
        return output
    x, left = "input", []
    for n, layer in enumerate(network.down):
        if n:
            x = node("MaxPool", f"pool{n}", [x], kernel_shape=[2, 2], strides=[2, 2])
        x = node("Conv", f"down{n}", [x], layer.folded(), pads=[1] * 4)
        x = node("Relu", f"down{n}_relu", [x])
        left.append(x)
    for n, (up, joined, beside) in enumerate(zip(network.up, network.joined, left[1::-1],
                                                 strict=True)):
        x = node("ConvTranspose", f"up{n}", [x], up.folded(), strides=[2, 2])
        x = node("Relu", f"up{n}_relu", [x])
        x = node("Concat", f"join{n}", [beside, x], axis=1)
        x = node("Conv", f"joined{n}", [x], joined.folded(), pads=[1] * 4)
        x = node("Relu", f"joined{n}_relu", [x])
    node("Conv", "last", [x], [network.last.weight.detach().numpy(),
                               network.last.bias.detach().numpy()])
    graph = helper.make_graph(nodes, path.stem, *([helper.make_tensor_value_info(
        name, TensorProto.FLOAT, ["N", 1, SIZE, SIZE])] for name in ("input", "logits")), constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
                              producer_name="systolith examples/ships/train.py")
    onnx.checker.check_model(model)
    onnx.save(model, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("-o", "--output", type=Path, default=HERE, help="folder to write to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images, masks = (torch.from_numpy(array) for array in images_of_ships(IMAGES, TRAINING))
    network, masks = UNet(), masks.float()
    optimizer = torch.optim.Adam(network.parameters(), lr=4e-3)
    steps = options.epochs * (IMAGES // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, steps)
    generator = torch.Generator().manual_seed(1)
    for epoch in range(options.epochs):
        total = 0.0
        for chosen in torch.randperm(IMAGES, generator=generator).split(BATCH):
            # Images of the sea look alike from all sides.
            turns, flip = torch.randint(4, (2,), generator=generator).tolist()
            x, y = (torch.rot90(item[chosen], turns, (2, 3)) for item in (images, masks))
            x, y = (item.flip(3) if flip % 2 else item for item in (x, y))
            loss = functional.binary_cross_entropy_with_logits(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1} of {options.epochs}, loss {total * BATCH / IMAGES:.4f}",
              flush=True)
    network.eval()
    path = options.output / "ships-unet-float.onnx"
    export(network, path)
    images, masks = images_of_ships(400, TEST)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    found = run_model(onnx.load(path), {"input": images}, ["logits"])["logits"]
    if not np.allclose(found, expected, atol=1e-3):
        raise RuntimeError(f"{path.name} and the trained network differ")
    print(f"{path.name}: IoU {100 * iou(found > 0, masks):.1f} % on 400 images")


if __name__ == "__main__":
    main()
