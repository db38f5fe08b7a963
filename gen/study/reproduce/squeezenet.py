"""SqueezeNet 1.1 by the cycle model: images a second beside boards of the edge."""

import numpy as np
from systolith.gen.compile.compile import compile_graph
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.cycles import cycles
from systolith.sim.model.conv import Conv
from systolith.sim.model.geometry import Geometry
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.placement import Placement
from systolith.sim.model.pool import Pool
from systolith.sim.model.requantization import Requantization
from systolith.sim.model.weights import Weights

from .figure import Figure

__all__ = ["squeezenet", "squeezenet_graph"]

#: (squeezed channels, channels of each half) of the fire modules; after those of `_POOLED` the map
#: is pooled.
_FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
_POOLED = (1, 3)
_INT8 = Int(8)


class _Network:
    """Layers of int8 with random weights, one after the other."""

    def __init__(self, shape):
        self.tensors = {"input": Tensor("input", shape, _INT8)}
        self.layers, self.rng = [], np.random.default_rng(0)

    def conv(self, source, output, channels, kernel, first=0, whole=None, **geometry):
        """Write `channels` channels of the tensor `output` from `first` on; it has `whole`."""
        pool = geometry.pop("pool", Pool())
        shape = self.tensors[source].shape
        weights = Weights(self.rng.integers(-127, 128, (channels, shape[0], kernel, kernel)), _INT8)
        layer = Conv(f"{output}_{first}", source, output, weights, Geometry(**geometry),
                     requantization=Requantization(np.full(channels, 1 << 25),
                                                   np.full(channels, 34), low=0, high=127),
                     pool=pool, placement=Placement(first), input_shape=shape)
        self.layers.append(layer)
        self.tensors[output] = Tensor(output, (whole or channels, *layer.output_shape[1:]), _INT8)


def squeezenet_graph(size: int = 224) -> Graph:
    """SqueezeNet 1.1 (Iandola et al.) for images of size x size, up to the mean over the map."""
    net, pool = _Network((3, size, size)), Pool((3, 3), (2, 2))
    net.conv("input", "conv1", 64, 3, stride=(2, 2), pool=pool)
    last = "conv1"
    for number, (squeezed, half) in enumerate(_FIRES):
        name, geometry = f"fire{number + 2}", {"pool": pool} if number in _POOLED else {}
        net.conv(last, f"{name}_squeeze", squeezed, 1)
        net.conv(f"{name}_squeeze", name, half, 1, 0, 2 * half, **geometry)
        net.conv(f"{name}_squeeze", name, half, 3, half, 2 * half, pads=(1, 1, 1, 1), **geometry)
        last = name
    net.conv(last, "conv10", 1000, 1)
    return Graph("squeezenet-1.1", [net.tensors["input"]], net.tensors, net.layers, ["conv10"])


def squeezenet() -> list[Figure]:
    """Images a second of SqueezeNet 1.1, all traffic included, with the smallest array that gets
    there: at 150 MHz beside a Movidius stick, at 200 MHz beside a Jetson AGX Xavier."""
    figures = []
    for board, published, size, mhz in (("Movidius stick", 24.2, 8, 150),
                                        ("Jetson AGX Xavier", 864, 64, 200)):
        arch = Arch(rows=size, columns=size, largest_k=4608, activation_depth=40960 // size * 4,
                    weight_depth=65536 // size, accumulator_depth=2048, post_lanes=size,
                    parameter_depth=512, bus_bits=64 if size == 8 else 512)
        taken = cycles(compile_graph(squeezenet_graph(), arch), 32).cycles
        rate = mhz * 1e6 / taken
        figures.append(Figure(f"{board}: images/s; here {size} x {size} int8 at {mhz} MHz",
                              f"{published:g}", f"{rate:,.1f}", rate >= published))
    return figures
