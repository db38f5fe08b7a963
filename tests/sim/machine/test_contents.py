"""Tags say which part of which tensor a word holds, and what is not there is refused."""

import numpy as np
import pytest
from systolith.gen.compile.compile import compile_graph
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Opcode
from systolith.hw.spec.memories import Space
from systolith.sim.machine.contents import Contents, MemoryPlanError
from systolith.sim.model.graph import Graph, Tensor

from ...layers import convolution
from .test_memory_plan import ARCH, network


@pytest.fixture
def contents():
    return Contents(compile_graph(network(2), ARCH, 2))


def test_only_the_inputs_are_there_at_first(contents):
    outside = {contents.names[n]: stored for n, stored in contents.outside.items()}
    inputs = [item.name for item in contents.host.inputs]
    assert inputs == ["map0"]
    for name, stored in outside.items():
        assert (stored == np.arange(len(stored))[:, None, None]).all() == (name in inputs)
    assert all((tags == -1).all() for tags in (*contents.maps.values(), *contents.bytes.values()))
    with pytest.raises(MemoryPlanError, match="nothing writes all of the output 'map2'"):
        contents.check_outputs()


def test_a_word_is_found_by_its_tag_and_another_tensor_is_refused(contents):
    tensor = contents.number["map1"]
    _, height, width = contents.tensors[tensor].shape
    word = (1 * height + 2) * width + 3
    contents.maps[Space.ACTIVATION][7] = contents.tag(tensor, 0, word)
    assert contents.look_up(1, Space.ACTIVATION, 7, 0, "map1") == (tensor, 0, (1, 2, 3))
    where = (np.array([7]), tensor, 0, *(np.array([n]) for n in (1, 2, 3)))
    contents.check_map(1, Space.ACTIVATION, *where, np.ones((1, 1), bool))
    with pytest.raises(MemoryPlanError, match="for 'map0', where lies a part of 'map1', round 0, "
                                              "block 1, row 2, column 3"):
        contents.look_up(1, Space.ACTIVATION, 7, 0, "map0")
    wrong = (np.array([7]), tensor, 0, *(np.array([n]) for n in (1, 2, 4)))
    with pytest.raises(MemoryPlanError, match=r"column 4, where lies .*column 3"):
        contents.check_map(1, Space.ACTIVATION, *wrong, np.ones((1, 1), bool))
    contents.check_map(1, Space.ACTIVATION, *wrong, np.zeros((1, 1), bool))     # not needed


def test_bytes_outside_are_items_of_a_tensor(contents):
    number, load = next((n, i) for n, i in enumerate(contents.program.instructions)
                        if i.opcode == Opcode.LOAD)
    tensor = contents.number["map0"]
    start = contents.tensors[tensor].external
    address = start + 3 * ARCH.activation_bytes + np.array([0, ARCH.activation_bytes])
    assert [part.tolist() for part in contents.where(number, load, tensor, address)] == [
        [0, 0], [3, 4], [0, 0]]
    for off, message in ((1, "other pieces"), (-ARCH.activation_bytes * 4, "leaves the bytes")):
        with pytest.raises(MemoryPlanError, match=message):
            contents.where(number, load, tensor, address + off)


def test_a_peak_below_what_is_used_is_refused(contents):
    contents.bytes[Space.WEIGHT][contents.host.peak["weight_words"]] = 0
    with pytest.raises(MemoryPlanError, match="words of the weight memory and states a peak of"):
        contents.check_peaks(np.full(ARCH.accumulator_depth, -1))


def test_words_that_load_makes_are_windows_of_the_input():
    """Each begins at a step of the rows of bytes; at another byte there is none."""
    arch = Arch(rows=16, columns=8, largest_k=1024, activation_depth=1024, weight_depth=512,
                accumulator_depth=128, parameter_depth=64, bus_bits=32, load_windows=True)
    conv = convolution("conv", "in", "out", np.ones((5, 3, 3, 3), int), Int(8), stride=(2, 2),
                       pads=(1, 1, 1, 1), pad_code=7, input_shape=(3, 13, 28))
    ends = {name: Tensor(name, shape, Int(8)) for name, shape in (
        ("in", (3, 13, 28)), ("out", conv.output_shape))}
    program = compile_graph(Graph("net", [ends["in"]], ends, [conv], ["out"]), arch)
    made = program.host.inputs[0].taps.windows
    assert made and made.steps[0]
    contents, load = Contents(program), next(
        code for code in program.instructions if code.opcode == Opcode.LOAD and code.step_even)
    item = program.host.inputs[0].taps
    pair = sum(made.steps)
    found = contents._window(0, load, item, np.array(
        [0, made.steps[0], pair, made.row_bytes + pair]))
    width = item.shape[2]
    assert found.tolist() == [0, 1, 2, width + 2]
    for place in (1, made.steps[0] + 1):
        with pytest.raises(MemoryPlanError, match="in other windows than it has"):
            contents._window(0, load, item, np.array([place]))
