"""A larger array takes no more cycles for the digits: with side taps, and on the preset with more
rows and columns."""

from pathlib import Path

import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.flow.compile import compile_network
from systolith.sim.machine.cycles import cycles

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
SIZES = (16, 32, 64)
FED = ("bus.windows=true", "buffers.two_writes=true", "array.two_fillings=true",
       "array.side_taps=true")


@pytest.fixture(scope="module")
def taken():
    """{(fed, size): cycles of one image}."""
    found = {}
    for fed in (False, True):
        for size in SIZES:
            chip = load_chip("sim-16x16-int8", [
                f"array.rows={size}", f"array.columns={size}",
                *((f"post.lanes={size}", *FED) if fed else ())])
            _, program = compile_network(DIGITS / "digits-cnn-int8.onnx", chip)
            found[fed, size] = cycles(program).cycles
    return found


def test_a_larger_array_with_side_taps_is_faster(taken):
    small, middle, large = (taken[True, size] for size in SIZES)
    assert small > middle > large


def test_a_larger_array_of_the_preset_is_as_fast(taken):
    small, middle, large = (taken[False, size] for size in SIZES)
    assert small >= middle >= large
