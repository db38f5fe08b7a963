"""Terms of wide products against what is built: numbers of rows, adders and registers."""

import pytest
from amaranth.hdl import Fragment, Module, Signal, signed
from systolith.gen.measure.product_terms import folded_terms, product_terms
from systolith.hw.core import products
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.timing import folded_rows, product_latency


def registered(one, other, addend, monkeypatch):
    """Bits of the registers of sums that hardware of these factors has, but for those of the
    products and of the addend itself."""
    bits = []
    real = products.register

    def register(m, value, name):
        if "sum" in name:
            bits.append(len(value))
        return real(m, value, name)
    monkeypatch.setattr(products, "register", register)
    m = Module()
    ports = [Signal(signed(bits)) for bits in (one, other, max(addend, 1))]
    products.product(m, *ports[:2], ports[2] if addend else None, "product", luts=False)
    Fragment.get(m, None)           # Amaranth warns of modules that nothing uses
    return bits


@pytest.mark.parametrize("one, other, addend", [
    (9, 17, 0), (9, 17, 20), (29, 17, 0), (29, 17, 27), (29, 27, 36), (34, 30, 20), (52, 22, 30),
    (52, 40, 0), (52, 40, 30)])
def test_registers_of_sums_are_those_of_the_hardware(one, other, addend, monkeypatch):
    arch = Arch(rows=2, columns=2, post_multiplier="dsp")
    terms, cycles = product_terms(arch, one, other, addend)
    assert cycles == product_latency(arch, one, other, addend > 0)
    assert terms["addend"] == addend
    assert terms["sums"] == sum(registered(one, other, addend, monkeypatch))
    assert (terms["adders"] > 0) == (len(products.product_rows(one, other)) + (addend > 0) > 1)


def test_adders_start_where_the_upper_term_does():
    """Two rows of 46 and 27 bits: what lies below the upper one is not added."""
    arch = Arch(rows=2, columns=2, post_multiplier="dsp")
    assert product_terms(arch, 29, 17, 0)[0]["adders"] == 46 - 16


def test_rows_of_digits():
    arch = Arch(rows=2, columns=2, post_multiplier="luts")
    terms, cycles = product_terms(arch, 29, 17, 40)
    # nine digits of the shorter factor, two rows a cycle: four times sums are carried on
    assert cycles == 5 and (terms["booth rows"], terms["carried"], terms["waits"]) == (
        9 * 31, 4 * 29, 4 * 11)
    assert product_terms(arch, 17, 29, 40)[0] == terms
    assert folded_terms(17, 29) == {"booth rows": folded_rows(17) * 31, "folded": 58 + 51}
