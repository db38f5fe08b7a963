"""What an explanation says of each layer, and which changes of a chip it tries."""

import numpy as np
from systolith.gen.compile.compile import compile_graph
from systolith.gen.report.profile import profile
from systolith.gen.study.sweep.explain import Change, Explanation, _more
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.cycles import cycles
from systolith.sim.model.graph import Graph, Tensor

from ....layers import convolution

ARCH = Arch(rows=4, columns=4, post_lanes=2)


def graph():
    """3 channels of 5 x 6 pixels, from which 5 are made."""
    conv = convolution("conv", "in", "out", np.ones((5, 3, 1, 1), int), Int(8),
                       input_shape=(3, 5, 6))
    tensors = {name: Tensor(name, shape, Int(8)) for name, shape in (
        ("in", (3, 5, 6)), ("out", (5, 5, 6)))}
    return Graph("small", [tensors["in"]], tensors, [conv], ["out"])


def test_how_well_a_layer_fills_the_array():
    program = compile_graph(graph(), ARCH)
    timing = cycles(program)
    text = Explanation(program, timing, profile(program, timing), [
        Change({"rows": 8}, None, "a reason")]).text()
    line = next(line for line in text.splitlines() if line.startswith("| conv"))
    # 3 of 4 rows, 5 of 8 columns
    assert line.replace("|", " ").split()[-4:] == ["75", "%", "62", "%"]
    assert "array.rows = 8" in text and "a reason" in text


def test_each_change_is_more_of_something():
    for change in _more(graph(), ARCH):
        for name, value in change.items():
            old = getattr(ARCH, name)
            assert value > old if isinstance(old, int) and not isinstance(old, bool) else (
                value != old), change
    assert {"post_lanes": 4} in list(_more(graph(), ARCH))
