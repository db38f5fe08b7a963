"""First layers of integers on binary chips: plane by plane the same results as the exact sums."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systolith.gen.chip.verilog import core_verilog
from systolith.gen.compile.compile import compile_graph
from systolith.gen.flow.check import check
from systolith.gen.importer.reader import load, required_formats
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Bipolar, Int
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.host import Taps
from systolith.hw.spec.isa import Opcode
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.host import unpack_outputs
from systolith.sim.machine.races import find_races
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.pool import Pool
from systolith.sim.rtl import core

from ...layers import changed, convolution
from ...networks import core_job, run_program
from ...onnx_networks import Network, evaluate

ARCH = Arch(rows=3, columns=4, lanes=5, activation="bipolar1", weight="bipolar1", bit_planes=True,
            post_lanes=1, largest_k=1 << 18, activation_depth=512, weight_depth=60)


def network(rng, bits, shape, kernel, outputs=6, **geometry):
    """A convolution of integers and a binary one behind it, and codes of an image."""
    binary, form = Bipolar(1), Int(bits)
    first = convolution("first", "in", "map", rng.integers(0, 2, (outputs, shape[0], *kernel)),
                        binary, high=1, input_shape=shape, **geometry)
    codes = rng.integers(0, 1 << bits, (1, *shape))
    sums = first.accumulate(codes, form)
    middle = first.pool.summed * -np.int64(np.median(sums, axis=(0, 2, 3)))
    first = changed(first, bias=middle + rng.integers(-2, 3, outputs))
    second = convolution("second", "map", "out", rng.integers(0, 2, (5, outputs, 1, 1)), binary,
                         raw=True, input_shape=first.output_shape)
    tensors = {"in": Tensor("in", shape, form), "map": Tensor("map", first.output_shape, binary),
               "out": Tensor("out", second.output_shape, None)}
    return Graph("planes", [tensors["in"]], tensors, [first, second], ["out"]), codes


def compute(graph, codes, arch, seed=0):
    program = compile_graph(graph, arch)
    assert find_races(program.instructions, arch) == []
    gold = graph.run(codes, arch)
    outputs, maps, _ = run_program(program, codes[0], seed)
    assert (outputs["out"] == gold["out"][0]).all()
    assert (maps["map"] == gold["map"][0]).all()
    return program


@given(st.data())
@settings(max_examples=40)
def test_programs_equal_the_exact_sums(data):
    draw = data.draw
    bits = draw(st.sampled_from([1, 2, 4, 8, 8, 11]))
    kernel = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    pads = tuple(draw(st.integers(0, kernel[n % 2] - 1)) for n in range(4))
    shape = draw(st.integers(1, 20)), *(draw(st.integers(k, 8)) for k in kernel)
    kind = draw(st.sampled_from(["zero", "least", "replicate"]))
    how = {"zero": {}, "least": dict(pad_code=1 << bits - 1), "replicate": dict(replicate=True)}
    stride = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    tall = (shape[1] + pads[0] + pads[2] - kernel[0]) // stride[0] > 0
    pool = draw(st.sampled_from([(1, 1), (1, 1), (1 + tall, 1)]))
    graph, codes = network(
        np.random.default_rng(draw(st.integers(0, 999))), bits, shape, kernel, pads=pads,
        stride=stride, pool=Pool(pool, sum=draw(st.booleans()) and pool != (1, 1)), **how[kind])
    arch = replace(ARCH, activation_depth=draw(st.sampled_from([40, 2048])),
                   weight_depth=draw(st.sampled_from([3, 12, 400])),
                   accumulator_depth=draw(st.sampled_from([8, 64])))
    try:
        compute(graph, codes, arch)
    except UserError as error:
        assert "raise buffers" in str(error), error


def test_the_planes_of_an_image_are_as_many_passes():
    graph, codes = network(np.random.default_rng(1), 8, (3, 8, 8), (3, 3), pads=(1, 1, 1, 1))
    arch = replace(ARCH, rows=2, lanes=16, columns=8)
    program = compute(graph, codes, arch)
    arrays = [i for i in program.instructions if i.opcode == Opcode.ARRAY and i.layer == 0]
    assert sum(i.double for i in arrays) == 7 * sum(not i.accumulate for i in arrays)
    assert program.host.layers[0].passes == 8 * sum(not i.accumulate for i in arrays)


def test_on_the_core():
    """The same in Verilator, cycle by cycle as the model says."""
    jobs, right = [], []
    for seed, (bits, shape, kernel, geometry) in enumerate([
            (8, (3, 6, 5), (3, 3), dict(pads=(1, 1, 1, 1))),
            (4, (20, 5, 4), (2, 3), dict(pads=(0, 1, 1, 1), replicate=True, pool=Pool((2, 1)))),
            (2, (7, 4, 4), (1, 2), dict(stride=(2, 1)))]):
        graph, codes = network(np.random.default_rng(seed), bits, shape, kernel, **geometry)
        program = compile_graph(graph, ARCH)
        jobs.append(core_job(program, codes[0], latency=5))
        right.append((program, graph.run(codes)["out"][0]))
    for (program, sums), runs in zip(right, core.simulate(core_verilog(ARCH), jobs).runs,
                                     strict=True):
        found = unpack_outputs(program, bytes(runs[0].outputs[0]))["out"]
        assert found.tolist() == sums.tolist()
        assert runs[0].cycles == cycles(program, latency=5).cycles


@pytest.mark.parametrize("bits, signed, mode", [(8, 0, "zeros"), (4, 1, "edge"), (2, 0, "sign")])
def test_binary_networks_of_images(bits, signed, mode):
    """From QONNX: unsigned and signed images, batch norms of both signs, padding of the images and
    of signs."""
    rng = np.random.default_rng(bits)
    net = Network(rng, (3, 7, 6), opset=17)

    def layer(x, channels, outputs, bipolar=True, **attributes):
        weight = net.bipolar_quant(net.constant(np.float32(rng.standard_normal(
            (outputs, channels, 3, 3)))), 0.25)
        x = net.node("Conv", x, weight, **attributes)
        numbers = rng.standard_normal((3, outputs)) * [[1], [2], [2]]
        x = net.node("BatchNormalization", x, *np.float32([*numbers, rng.uniform(1, 9, outputs)]))
        return net.bipolar_quant(x) if bipolar else x
    x = net.quant("x", 1 / 16, 0, bits, signed)
    if mode == "edge":
        x = net.node("Pad", x, np.array([0, 0, 1, 1, 0, 0, 1, 1]), mode="edge")
    x = layer(x, 3, 8, pads=[1] * 4 if mode == "zeros" else [0] * 4)
    x = net.node("Pad", x, np.array([0, 0, 1, 1, 0, 0, 1, 1]), np.float32(-1),
                 mode="edge" if mode == "edge" else "constant")
    x = net.node("MaxPool", layer(x, 8, 6), kernel_shape=[2, 2], strides=[2, 2])
    model = net.model(layer(x, 6, 5, False, pads=[1] * 4))
    images = np.float32(rng.standard_normal((5, 3, 7, 6)) * 2 ** (bits - 4) + 0.25)
    graph = load(model)
    codes = graph.encode_inputs(images)
    found = graph.decode_outputs(graph.run(codes))
    assert np.abs(found - evaluate(model, images)[model.graph.output[0].name]).max() < 1e-4
    assert required_formats(graph) == (sorted(["bipolar1", f"int{bits}"]), ["bipolar1"])
    program = compile_graph(graph, replace(ARCH, lanes=6))
    _, maps, _ = run_program(program, codes[0])
    gold = graph.run(codes)
    for name, array in maps.items():
        assert (array == gold[name][0]).all(), name
    assert len(graph.layers) == 3
    told = check(model, replace(ARCH, lanes=6, bit_planes=False, largest_k=50))
    assert set(told.changes) == {"array.bit_planes", "array.largest_k"} and not told.open


@pytest.mark.parametrize("arch, change, message", [
    (replace(ARCH, bit_planes=False), {}, "set array.bit_planes to true"),
    (replace(ARCH, largest_k=100), {}, "accumulators of 14 bits, the chip has 8; set "
                                       "array.largest_k to 4096 or more"),
    (replace(ARCH, accumulator=9), {}, "the chip has 9; set array.accumulator to 14"),
    (ARCH, dict(requantization=None), "its sums are not quantized; give its output a BipolarQuant"),
])
def test_refused(arch, change, message):
    graph, _ = network(np.random.default_rng(2), 8, (4, 4, 4), (2, 2))
    if change:
        first = replace(graph.layers[0], output="out", **change)
        tensors = {"in": graph.tensors["in"], "out": Tensor("out", first.output_shape, None)}
        graph = Graph("raw", graph.inputs, tensors, [first], ["out"])
    with pytest.raises(UserError, match=message):
        compile_graph(graph, arch)


def test_columns_without_channel_need_no_wider_accumulators():
    """One channel on 4 columns of 60 lanes, of which three have a channel."""
    arch = replace(ARCH, lanes=20, largest_k=1000)
    graph, codes = network(np.random.default_rng(2), 8, (3, 4, 4), (1, 1), outputs=1)
    assert arch.accumulator_bits < (60 * 255).bit_length() + 1
    compute(graph, codes, arch)


ROWS = Arch(rows=9, columns=4, lanes=10, activation="bipolar1", weight="bipolar1", bit_planes=True,
            plane_rows=True, post_lanes=2, largest_k=1 << 16, activation_depth=512, weight_depth=90)


@pytest.mark.parametrize("shape, kernel, how, together", [
    ((9, 5, 6), (1, 1), {}, True), ((10, 5, 6), (1, 1), {}, True), ((11, 5, 6), (1, 1), {}, False),
    ((1, 6, 6), (3, 3), dict(pads=(1, 1, 1, 1)), True),         # the host writes padding
    ((2, 6, 6), (2, 2), dict(stride=(2, 2), pool=Pool((3, 1))), True),
    ((3, 6, 5), (3, 1), dict(pool=Pool((2, 2), sum=True)), True),
    ((1, 5, 6), (3, 3), dict(pads=(1, 1, 1, 1), replicate=True), True),
    ((8, 6, 6), (3, 3), dict(pads=(1, 1, 1, 1)), False)])
def test_planes_in_rows_are_one_pass(shape, kernel, how, together):
    """Of up to as many channels and taps as a row has lanes."""
    graph, codes = network(np.random.default_rng(3), 8, shape, kernel, **how)
    program = compute(graph, codes, ROWS)
    arrays = [i for i in program.instructions if i.opcode == Opcode.ARRAY and i.layer == 0]
    assert {bool(i.planes) for i in arrays} == {together}
    assert any(i.double for i in arrays) != together
    plain = compute(graph, codes, replace(ROWS, plane_rows=False))
    if together:
        assert cycles(program).cycles < cycles(plain).cycles


@pytest.mark.parametrize("bits", [4, 9])
def test_planes_of_other_numbers_are_passes(bits):
    graph, codes = network(np.random.default_rng(3), bits, (4, 5, 6), (1, 1))
    program = compute(graph, codes, ROWS)
    assert not any(i.planes for i in program.instructions if i.opcode == Opcode.ARRAY)


@pytest.mark.parametrize("change", [
    dict(rows=8, weight_depth=80), dict(rows=17, weight_depth=170), dict(prefetch=False),
    dict(shared_columns=2, stages=1), dict(accumulator=20), dict(structure="lut6"),
    dict(tap_rows=True, lanes=12)])
def test_planes_in_rows_of_other_chips(change):
    arch = replace(ROWS, **change)
    graph, codes = network(np.random.default_rng(5), 8, (9, 5, 6), (1, 1))
    compute(graph, codes, arch)


def test_planes_in_rows_on_the_core():
    jobs, right = [], []
    for seed, (shape, kernel, how) in enumerate([
            ((9, 5, 6), (1, 1), {}), ((1, 6, 6), (3, 3), dict(pads=(1, 1, 1, 1))),
            ((5, 5, 6), (2, 1), dict(pool=Pool((2, 2))))]):
        graph, codes = network(np.random.default_rng(seed), 8, shape, kernel, **how)
        program = compile_graph(graph, ROWS)
        assert any(i.planes for i in program.instructions if i.opcode == Opcode.ARRAY)
        jobs.append(core_job(program, codes[0], latency=5))
        right.append((program, cycles(program, 5).cycles, graph.run(codes)["out"][0]))
    for (program, taken, wanted), runs in zip(
            right, core.simulate(core_verilog(ROWS), jobs).runs, strict=True):
        assert (unpack_outputs(program, bytes(runs[0].outputs[0]))["out"] == wanted).all()
        assert runs[0].cycles == taken


def test_planes_of_pixels_are_the_image_itself():
    """A kernel of one pixel reads nothing beside the map."""
    graph, _ = network(np.random.default_rng(3), 8, (4, 5, 6), (1, 1))
    source, = compile_graph(graph, ARCH).host.inputs
    assert source.taps == Taps(
        taps=(1, 1), dilation=(1, 1), step=(1, 1), pads=(0, 0), fill=0, replicate=False, planes=8,
        shape=(8 * 15, 5, 6))
