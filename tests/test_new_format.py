"""A format that nothing but this file knows works on a chip: what the rooms ask for is all said in
`hw/formats/base.py`."""

from dataclasses import dataclass

import numpy as np
import pytest
from systolith.gen.chip.verilog import core_verilog
from systolith.hw.formats import Float, Format, Int, names, parse
from systolith.hw.spec.arch import Arch
from systolith.sim.random.graphs import random_graph

from .onnx_exact import on_chip


@dataclass(frozen=True)
class Symmetric(Format):
    """Integers of `bits` bits without the lowest one, whose code is no number, so that there are as
    many numbers below zero as above."""

    bits: int

    family = "integer"
    uniform = True
    exponent = 0
    zero_code = 0

    @property
    def name(self):
        return f"sym{self.bits}"

    @property
    def width(self):
        return self.bits

    def activation_fault(self):
        return None

    def weight_fault(self):
        return None

    @property
    def factors(self):
        return self, 1

    def decode(self, codes):
        images = Int(self.bits).image(codes)
        return np.where(images == -1 << self.bits - 1, np.nan, images.astype(np.float64))

    def image(self, codes):
        images = Int(self.bits).image(codes)
        if (images == -1 << self.bits - 1).any():
            raise ValueError(f"the lowest code has no image in {self}")
        return images


@dataclass(frozen=True)
class Narrow(Float):
    """A float of which chips know no more than that it is one: e3m2 with another bias."""

    @property
    def name(self):
        return f"narrow{self.bias}"


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(names, "_READERS", list(names._READERS))
    names.register(r"sym(\d+)", lambda bits: Symmetric(int(bits)), examples=())
    names.register(r"narrow(\d+)", lambda bias: Narrow(3, 2, int(bias)), examples=())


@pytest.mark.parametrize("activation, weight", [
    ("sym5", "sym5"), ("sym5", "int4"), ("int6", "sym3"), ("narrow5", "narrow2"),
    ("narrow3", "sym4"), ("p3109_k5p2", "p3109_k5p2")])
@pytest.mark.parametrize("seed", range(2))
def test_it_multiplies_rounds_and_compiles(activation, weight, seed):
    arch = Arch(rows=4, columns=4, activation=activation, weight=weight, operand_depth=64,
                table_depth=64, largest_k=200, bus_bits=32)
    assert (arch.activation, arch.weight) == (parse(activation), parse(weight))
    graph, codes = random_graph(arch, seed)
    on_chip(graph, codes, arch, seed)


def test_its_elements_and_its_post_processing_become_verilog():
    text = core_verilog(Arch(rows=2, columns=2, activation="sym5", weight="narrow2"))
    assert "module systolith_post_lane" in text


def test_what_it_does_not_say_is_refused():
    class Silent(Symmetric):
        activation_fault, weight_fault = Format.activation_fault, Format.weight_fault
    with pytest.raises(ValueError, match=r"weight must be a format of .*, not sym5"):
        Arch(rows=4, columns=4, activation="int8", weight=Silent(5))
