"""Choices within budgets, against all combinations."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from systolith.gen.quantize.allocate import allocate


@st.composite
def problems(draw):
    """(errors, costs, budgets) of up to 5 layers with up to 4 choices and 2 budgets."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    top = draw(st.sampled_from([3, 50, 10 ** 9]))
    error = st.one_of(st.integers(0, 20).map(float), st.floats(0, 1, width=32))
    errors = [[draw(error) for _ in range(n)] for n in sizes]
    costs = {name: [[draw(st.integers(0, top)) for _ in range(n)] for n in sizes]
             for name in draw(st.sampled_from([("bytes",), ("bytes", "cycles")]))}
    budgets = {name: draw(st.integers(0, sum(map(max, table)))) for name, table in costs.items()}
    return errors, costs, budgets


def total(table, chosen):
    return sum(layer[n] for layer, n in zip(table, chosen, strict=True))


@given(problems())
def test_no_combination_is_better_and_none_is_over_budget(problem):
    errors, costs, budgets = problem
    fitting = [chosen for chosen in product(*(range(len(layer)) for layer in errors))
               if all(total(costs[name], chosen) <= budgets[name] for name in budgets)]
    found = allocate(errors, costs, budgets)
    if not fitting:
        assert found is None
        return
    assert tuple(found) in fitting
    best = min(total(errors, chosen) for chosen in fitting)
    assert total(errors, found) == pytest.approx(best, rel=1e-9, abs=1e-9)


def test_networks_without_layers_fit_any_budget():
    assert allocate([], {"bytes": []}, {"bytes": 0}) == []
    assert allocate([], {"bytes": []}, {"bytes": -1}) is None
