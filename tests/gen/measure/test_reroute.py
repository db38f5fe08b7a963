"""Which wires of a routed design are detours, and are routed again."""

import copy

from systolith.gen.measure.refine import wire_delay
from systolith.gen.measure.reroute import forget_detours

BITS = {"near": 10, "far": 11, "clock": 12}


def routed():
    def cell(kind, bel, **pins):
        return {"type": kind, "attributes": {"NEXTPNR_BEL": bel}, "parameters": {},
                "connections": {pin: [bit] for pin, bit in pins.items()}}
    return {
        "cells": {
            "unit.near\\_1": cell("TRELLIS_FF", "X4/Y4/SLICEA.FF0", Q=10),
            "unit.far": cell("TRELLIS_FF", "X4/Y6/SLICEA.FF0", Q=11),
            "unit.end": cell("TRELLIS_COMB", "X6/Y4/SLICEA.K0", A=10, B=11, F=13),
            "unit.beside": cell("TRELLIS_COMB", "X4/Y6/SLICED.K1", A=11),
            "clock": cell("DCCA", "X0/Y0/TDCC0", CLKO=12)},
        "netnames": {name: {"bits": [bit], "attributes": {"ROUTING": "wires"}}
                     for name, bit in BITS.items()}}


def lines(near, far, beside=100):
    return [f"    (INTERCONNECT {source} {target} ({ns}:{ns}:{ns}) ({ns}:{ns}:{ns}))"
            for source, target, ns in (("unit.near\\_1/Q", "unit.end/A", near),
                                       ("unit.far/Q", "unit.end/B", far),
                                       ("unit.far/Q", "unit.beside/A", beside),
                                       ("clock/CLKO", "unit.far/CLK", 9000))]


def test_a_detour_is_routed_again_and_nothing_else():
    usual = 1000 * wire_delay((4, 4), (6, 4))
    for near, far, again in ((usual, usual, set()), (usual + 390, usual, set()),
                             (usual + 410, usual, {"near"}), (usual + 410, 5000, {"near", "far"})):
        module = copy.deepcopy(routed())
        assert forget_detours(module, lines(near, far)) == len(again)
        assert {name for name, net in module["netnames"].items()
                if "ROUTING" not in net["attributes"]} == again


def test_so_is_one_within_a_tile():
    usual = 1000 * wire_delay((4, 4), (6, 4))
    for beside, again in ((500, 0), (2030, 1)):
        assert forget_detours(copy.deepcopy(routed()), lines(usual, usual, beside)) == again


def test_longer_wires_take_longer():
    assert wire_delay((4, 4), (4, 5)) < wire_delay((4, 4), (4, 9)) < wire_delay((4, 4), (30, 9))
