"""Programs of twins: the same as compiled for each."""

from dataclasses import replace

import pytest
from systolith.gen.compile.compile import compile_graph
from systolith.gen.compile.twins import for_twin, program_fields
from systolith.hw.spec.arch import Arch
from systolith.sim.random.graphs import random_graph

CHIP = Arch(rows=4, columns=4, activation_depth=512, parameter_depth=64)


@pytest.mark.parametrize("changes", [{"prefetch": False}, {"burst_beats": 4}, {"stages": 1},
                                     {"prefetch": False, "burst_beats": 1, "name": "other"}])
def test_the_program_is_what_compiling_gives(changes):
    graph, _ = random_graph(CHIP, 3)
    other = replace(CHIP, **changes)
    assert program_fields(other) == program_fields(CHIP)
    made, compiled = for_twin(compile_graph(graph, CHIP), other), compile_graph(graph, other)
    assert made == compiled


@pytest.mark.parametrize("changes", [{"activation_depth": 513}, {"queue_depth": 3}, {"rows": 8},
                                     {"token_bits": 6}, {"bus_bits": 32}])
def test_others_are_no_twins(changes):
    graph, _ = random_graph(CHIP, 3)
    with pytest.raises(ValueError, match="no twin"):
        for_twin(compile_graph(graph, CHIP), replace(CHIP, **changes))
