"""The example of a user's own LiteX SoC."""

import pytest
from systolith.gen.chip.verilog import core_verilog
from systolith.hw.spec.arch import Arch

pytest.importorskip("litex_boards")

ARCH = Arch(name="small", board="none", rows=2, columns=2, activation="int4", weight="int4",
            bus_bits=32, activation_depth=256, weight_depth=64, accumulator_depth=64,
            parameter_depth=16, queue_depth=1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")
def test_the_example_has_a_core(tmp_path):
    from systolith.examples.litex_soc import main
    from systolith.gen.flow.litex_soc import quiet
    with quiet():
        soc = main(str(tmp_path), ARCH)
    assert soc.bus.regions["systolith"].size == 0x1000
    written = (tmp_path / "gateware" / "systolith_core.v").read_text()
    assert written == core_verilog(ARCH)
