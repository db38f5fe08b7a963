"""Critical paths in the design's own names."""

import pytest
from systolith.gen.measure.paths import critical_paths, own_name


@pytest.mark.parametrize("name, own", [
    ("system.core.placed.store.offset_TRELLIS_FF_Q_1", "store.offset"),
    ("system.core.placed.store.$73_CCU2C_S1_7$CCU2_COMB1", None),
    ("system.core.placed.csr.state__3_LUT4_B_1_Z[2]", "csr.state__3"),
    ("system.core.placed.store.reach[1]", "store.reach"),
    ("system.core.placed.weights.0.0_DP16KD", "weights.0.0"),
    ("system.bridge.receiver.left_SB_DFFE_Q_2_D_SB_LUT4_O_LC", "system.bridge.receiver.left"),
    ("\\$3_LUT4_Z_D_LUT4_Z", None), ("$nextpnr_CCU2C_49$CCU2_COMB0", None),
    ("btn[1]$tr_io", "btn"), ("system.core.placed.load.port$1210$9[3]", "load.port$1210$9"),
    ("writing_left[6]", "writing_left")])
def test_names(name, own):
    assert own_name(name) == own


def hop(kind, delay, begin, end, net=None):
    return {"type": kind, "delay": delay, "from": {"cell": begin}, "to": {"cell": end},
            **({} if net is None else {"net": net})}


def test_a_path_is_told_once_a_name_and_summed_by_kind():
    core = "system.core.placed."
    register, sum_, result = (core + name for name in (
        "a.count_TRELLIS_FF_Q", "a.$5_CCU2C_S0", "b.state_TRELLIS_FF_Q_1"))
    hops = [hop("clk-to-q", 0.5, register, register),
            hop("routing", 1.0, register, sum_, core + "a.count[0]"),
            hop("logic", 0.25, sum_, sum_), hop("routing", 0.0, sum_, sum_, core + "a.$5[1]"),
            hop("logic", 0.25, sum_, sum_), hop("routing", 2.0, sum_, sum_, core + "a.next[3]"),
            hop("routing", 0.5, sum_, result, core + "a.next[4]"),
            hop("setup", 0.125, result, result)]
    report = {"critical_paths": [
        {"from": "<async>", "to": "posedge c", "path": hops},
        {"from": "posedge c", "to": "posedge d", "path": hops[-2:]},
        {"from": "posedge c", "to": "posedge c", "path": hops}]}
    slow, fast = critical_paths(report)
    assert slow.names == ("a.count", "a.next", "b.state")
    assert (slow.logic, slow.routing, slow.levels) == (1.125, 3.5, 2)
    assert str(slow) == "a.count -> a.next -> b.state (4.6 ns: logic 1.1, routing 3.5)"
    assert fast.names == ("a.next", "b.state")
    assert critical_paths({}) == []
