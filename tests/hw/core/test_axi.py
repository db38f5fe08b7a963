"""The buses' signals have the widths that AMBA AXI4 and AXI4-Lite give them."""

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In
from amaranth.sim import Simulator
from systolith.hw.core.axi import AXI4Signature, AXILiteSignature, ReadSignature, times
from systolith.hw.spec.arch import Arch

#: Widths that do not depend on the address's and the data's; identifiers of one bit.
FIXED = {"id": 1, "len": 8, "size": 3, "burst": 2, "resp": 2, "last": 1, "valid": 1, "ready": 1}


@pytest.mark.parametrize("signature, lite", [(AXI4Signature(32, 128), False),
                                             (AXILiteSignature(12), True)])
def test_widths_and_directions(signature, lite):
    data = 32 if lite else 128
    widths = FIXED | {"addr": 12 if lite else 32, "data": data, "strb": data // 8}
    channels = {"aw": "addr len size burst id", "w": "data strb last", "b": "resp id",
                "ar": "addr len size burst id", "r": "data resp last id"}
    absent = {"len", "size", "burst", "id", "last"} if lite else set()
    expected = {f"{channel}{name}" for channel, names in channels.items()
                for name in [*names.split(), "valid", "ready"] if name not in absent}
    assert set(signature.members) == expected
    for channel in channels:
        for name, width in widths.items():
            member = signature.members.get(f"{channel}{name}") if (
                f"{channel}{name}" in expected) else None
            if member is not None:
                assert member.shape == width, f"{channel}{name}"
                comes = (channel in "br") != (name == "ready")      # from the slave
                assert (member.flow == In) == comes, f"{channel}{name}"


def test_parts_and_equality():
    assert set(AXI4Signature(32, 64).part("ar").members) == {
        "arid", "araddr", "arlen", "arsize", "arburst", "arvalid", "arready"}
    assert AXI4Signature(32, 64) == AXI4Signature(32, 64)
    assert AXI4Signature(32, 64) != AXI4Signature(32, 32) and (
        AXI4Signature(32, 64) != AXI4Signature(31, 64))
    assert AXILiteSignature(12) == AXILiteSignature(12) != AXILiteSignature(11)
    one, other = Arch(rows=2, columns=2), Arch(rows=2, columns=3)
    assert ReadSignature(one) == ReadSignature(one) != ReadSignature(other)


def test_a_value_times_a_constant():
    value = Signal(4)
    products = [Signal(8, name=f"product_{count}") for count in range(13)]
    m = Module()
    m.d.comb += [product.eq(times(value, count)) for count, product in enumerate(products)]

    async def bench(ctx):
        for number in range(16):
            ctx.set(value, number)
            assert [ctx.get(item) for item in products] == [number * n for n in range(13)]
    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
