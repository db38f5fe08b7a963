"""How runs in RTL are dealt out to simulations."""

import pytest
from systolith.gen.flow import simulate as module
from systolith.gen.flow.simulate import runs_of_a_simulation


@pytest.mark.parametrize("runs, cycles, cores, size", [
    (1, 100, 1, 1), (60, 5000, 1, 60),      # so few cycles that one simulation is the quickest
    (61, 5000, 1, 16), (200, 5000, 1, 50),  # a share of each of four processors
    (1000, 1000, 1, 64), (200, 50_000, 1, 16), (9, 2_000_000, 1, 1),    # so many results
    (1000, 1000, 2, 128), (100, 50_000, 2, 26), (9, 2_000_000, 2, 2),  # of two cores each
    (2, 3_000_000, 2, 2), (5, 3_000_000, 4, 4)])
def test_runs_of_a_simulation(monkeypatch, runs, cycles, cores, size):
    monkeypatch.setattr(module, "processors", lambda: 4)
    assert runs_of_a_simulation(runs, cycles, cores) == size
