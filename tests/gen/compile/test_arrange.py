"""Layers that write parts of a tensor and read some of its channels, on random chips."""

import random
from dataclasses import replace

import numpy as np
import pytest
from systolith.gen.compile.arrange import arrange
from systolith.gen.compile.compile import compile_graph
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Bipolar
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.compare import compare, locate
from systolith.sim.machine.races import find_races
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.random.arch import random_arch

from ...layers import changed, convolution
from ...networks import random_codes, requantization, run_program, wide_enough
from .test_compile import assert_computes, cramped


class Parts:
    """A network as it grows, with the golden model's codes."""

    def __init__(self, seed, arch, shape):
        self.draw, self.rng, self.arch = random.Random(seed), np.random.default_rng(seed), arch
        self.tensors = {"in": Tensor("in", shape, arch.activation)}
        self.layers, self.codes = [], random_codes(self.rng, arch.activation, (1, *shape))

    def graph(self, outputs):
        return Graph("parts", [self.tensors["in"]], self.tensors, self.layers, outputs)

    def conv(self, source, outputs, output, kernel=(1, 1), groups=1, channels=None, **fields):
        """Add a layer; `outputs` channels, the size of the output as it comes."""
        shape = self.tensors[source].shape
        count = shape[0] if channels is None else len(channels)
        form, weight = self.arch.activation, self.arch.weight
        conv = convolution(
            f"layer{len(self.layers)}", source, output,
            random_codes(self.rng, weight, (outputs, count // groups, *kernel)), weight,
            groups=groups, channels=channels, input_shape=shape, **fields)
        images = random_codes(self.rng, form, (1, *shape))
        multiplier, shift = requantization(self.rng, conv.accumulate(images, form), form)
        low, high = ((-form.max_code, form.max_code) if form.floating else
                     (0, 0) if isinstance(form, Bipolar) else form.image_range)
        conv = changed(conv, multiplier=multiplier, shift=shift, low=low, high=high)
        self.layers.append(conv)
        return conv


def parts_network(seed, arch):
    """Several convolutions write parts of `joined`, some of them pixel by pixel; others read
    parts of it before and after it is whole."""
    draw = random.Random(seed)
    bipolar = isinstance(arch.activation, Bipolar)
    unit = arch.group if bipolar else 1
    shape = (unit * draw.randint(1, 2 if bipolar else 9), draw.randint(2, 5), draw.randint(2, 5))
    net = Parts(seed, arch, shape)
    step = draw.choice(((1, 1), (1, 1), (2, 1), (2, 2), (1, 3)))
    size = [n * s for n, s in zip(shape[1:], step, strict=True)]
    counts = [unit * draw.randint(1, 2 if bipolar else arch.columns + 2)
              for _ in range(draw.randint(1, 3))]
    net.tensors["joined"] = Tensor("joined", (sum(counts), *size), arch.activation)
    pad_code = 0 if bipolar else draw.choice((None, 1))
    outputs, first = ["joined"], 0
    for n, count in enumerate(counts):
        for origin in np.ndindex(step):
            kernel, pads = draw.choice((((1, 1), (0,) * 4), ((3, 3), (1,) * 4),
                                        ((2, 2), (2, 1, -1, 0)), ((1, 3), (1, 2, -1, 0))))
            if bipolar:
                kernel, pads = (1, 1), (0,) * 4
            net.conv("in", count, "joined", kernel, pads=pads, pad_code=pad_code,
                     first_channel=first, step=step, origin=origin)
        if n < len(counts) - 1 and not bipolar:     # reads what there is so far
            name = f"early{n}"
            conv = net.conv("joined", draw.randint(1, 5), name,
                            channels=first + net.rng.permutation(count))
            net.tensors[name] = Tensor(name, conv.output_shape, arch.activation)
            outputs.append(name)
        first += count
    for n in range(2):
        name, total = f"late{n}", sum(counts)
        some = None
        if not bipolar and draw.random() < 0.7:
            some = net.rng.permutation(total)[:draw.randint(1, total)]
        groups = 1 if bipolar or draw.random() < 0.5 else total if some is None else len(some)
        conv = net.conv("joined", draw.randint(1, 6) if groups == 1 else groups, name,
                        channels=some, groups=groups)
        net.tensors[name] = Tensor(name, conv.output_shape, arch.activation)
        outputs.append(name)
    return net.graph(outputs), {"in": net.codes}


@pytest.mark.parametrize("seed", range(20))
def test_parts_on_random_chips(seed):
    arch = wide_enough(replace(random_arch(seed + 5000), accumulator=None))
    if seed % 2:
        arch = cramped(arch, seed)
    graph, codes = parts_network(seed, arch)
    program = compile_graph(graph, arch)
    assert_computes(program, graph, codes, seed)
    assert find_races(program.instructions, arch) == []


CHIP = Arch(rows=8, columns=4, largest_k=2048, activation_depth=256)


def test_channels_lie_in_groups():
    """Parts of 3, 4 and 2 channels on a chip whose groups have 4."""
    net = Parts(1, CHIP, (8, 3, 3))
    net.tensors["joined"] = Tensor("joined", (9, 3, 3), CHIP.activation)
    for first, count in ((0, 3), (3, 4), (7, 2)):
        net.conv("in", count, "joined", first_channel=first)
    graph = net.graph(["joined"])
    arranged, places = arrange(graph, CHIP)
    assert places["joined"].tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert [conv.placement.first_channel for conv in arranged.layers] == [0, 4, 8]
    assert arrange(graph, replace(CHIP, columns=1, post_lanes=1)) == (graph, {})


def test_results_of_parts_can_be_compared():
    net = Parts(2, CHIP, (8, 3, 3))
    net.tensors["joined"] = Tensor("joined", (5, 3, 3), CHIP.activation)
    for first, count in ((0, 3), (3, 2)):
        net.conv("in", count, "joined", first_channel=first)
    graph = net.graph(["joined"])
    program = compile_graph(graph, CHIP)
    _, _, simulator = run_program(program, net.codes[0])
    items = [result.items for result in simulator.results]
    expected = {name: codes[0] for name, codes in graph.run(net.codes).items()}
    found = compare(program, locate(program), items, expected)
    assert (found.elements, found.bits) == (45, 0)
    expected["joined"][4, 2, 1] ^= 1
    assert compare(program, locate(program), items, expected).first.element == (4, 2, 1)


def test_bipolar_parts_must_be_whole_groups():
    arch = Arch(rows=4, columns=4, activation="bipolar1", weight="bipolar1", largest_k=512)
    net = Parts(3, arch, (4, 3, 3))
    net.tensors["joined"] = Tensor("joined", (7, 3, 3), arch.activation)
    for first, count in ((0, 3), (3, 4)):
        net.conv("in", count, "joined", first_channel=first)
    with pytest.raises(UserError, match="parts whose channels are no multiples of 4"):
        compile_graph(net.graph(["joined"]), arch)


def test_holes_and_accumulators_that_saturate_are_refused():
    arch = replace(CHIP, accumulator=20)
    net = Parts(4, arch, (8, 3, 3))
    net.tensors |= {"joined": Tensor("joined", (7, 3, 3), arch.activation),
                    "out": Tensor("out", (4, 3, 3), arch.activation)}
    for first, count in ((0, 3), (3, 4)):
        net.conv("in", count, "joined", first_channel=first)
    net.conv("joined", 4, "out", (5, 5), pads=(2,) * 4)
    with pytest.raises(UserError, match="could saturate at another point; set array"):
        compile_graph(net.graph(["out"]), arch)
