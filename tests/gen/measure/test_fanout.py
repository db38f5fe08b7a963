"""Copies of cells with many readers: the netlist computes the same, and nothing else is changed."""

from systolith.gen.measure.fanout import copy_drivers

CLOCK, DATA, DRIVEN = 2, 3, 4


def netlist(readers, driver="TRELLIS_FF", pin="DI"):
    """A driver of bit DRIVEN, and so many flip-flops that read it."""
    def cell(kind, inputs, outputs):
        return {"type": kind, "attributes": {}, "parameters": {"INIT": "1"},
                "connections": inputs | outputs,
                "port_directions": dict.fromkeys(inputs, "input")
                | dict.fromkeys(outputs, "output")}
    first = (cell("TRELLIS_FF", {"CLK": [CLOCK], "DI": [DATA]}, {"Q": [DRIVEN]})
             if driver == "TRELLIS_FF" else cell(driver, {"A": [DATA]}, {"Z": [DRIVEN]}))
    return {"cells": {"driver": first} | {
        f"unit{n % 3}.reader{n:03}": cell(
            "TRELLIS_FF", {"CLK": [CLOCK], "DI": [5], pin: [DRIVEN]}, {"Q": [100 + n]})
        for n in range(readers)}, "netnames": {"last": {"bits": [900]}}}


def drivers(module):
    """Of every bit that a reader takes: its driver, and its readers."""
    outputs = {bits[0]: name for name, cell in module["cells"].items()
               for pin, bits in cell["connections"].items()
               if cell["port_directions"][pin] == "output"}
    found: dict[str, list[str]] = {}
    for name, cell in module["cells"].items():
        for pin, bits in cell["connections"].items():
            if cell["port_directions"][pin] == "input" and bits[0] in outputs:
                found.setdefault(outputs[bits[0]], []).append(name)
    return found


def test_copies_share_the_readers_by_unit():
    for kind in ("TRELLIS_FF", "LUT4"):
        module = netlist(180, kind)
        assert copy_drivers(module) == 2
        found = drivers(module)
        assert sorted(map(len, found.values())) == [60, 60, 60]
        assert all(len({name.partition(".")[0] for name in some}) == 1 for some in found.values())
        one = module["cells"]["driver"]
        for name in found:
            copy = module["cells"][name]
            assert copy["type"] == kind and copy["parameters"] == one["parameters"]
            assert all(bits == one["connections"][pin] for pin, bits in copy["connections"].items()
                       if copy["port_directions"][pin] == "input")
        bits = [cell["connections"][pin][0] for cell in module["cells"].values()
                for pin in cell["connections"] if cell["port_directions"][pin] == "output"]
        assert len(set(bits)) == len(bits) and 900 not in bits


def test_what_stays_as_it_is():
    for module in (netlist(100), netlist(180, pin="CLK"), netlist(180, "MULT18X18D")):
        before = str(module)
        assert copy_drivers(module) == 0
        assert str(module) == before
