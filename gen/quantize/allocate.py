"""Which choice each of several layers gets, so that the sum of their errors is smallest within
budgets: an integer linear program, solved by HiGHS."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import gcd

import numpy as np
from systolith.gen.kit.errors import UserError

__all__ = ["allocate"]

#: What the largest sum of errors is scaled to: HiGHS stops where 1e-6 could still be gained.
_SCALE = 1e6


def allocate(errors: Sequence[Sequence[float]], costs: Mapping[str, Sequence[Sequence[int]]],
             budgets: Mapping[str, int]) -> list[int] | None:
    """The index of each layer's choice.

    Parameters
    ----------
    errors : for each layer, of each of its choices; finite numbers from 0 up
    costs : {name: for each layer, of each of its choices, a whole number}
    budgets : {name: the most that the sum of such costs may be}

    Returns None where no choices are within the budgets. The sum of what is returned never exceeds
    one: it is added up in whole numbers. Raises UserError where SciPy is not installed.
    """
    if not errors:
        return [] if all(budget >= 0 for budget in budgets.values()) else None
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
    except ImportError:
        raise UserError("choosing formats within a budget needs SciPy: pip install scipy") from None
    starts = np.cumsum([0, *map(len, errors)])
    count = int(starts[-1])

    def row(values):
        return np.array([value for layer in values for value in layer], float)
    one = np.zeros((len(errors), count))
    for n, start in enumerate(starts[:-1]):
        one[n, start:starts[n + 1]] = 1
    limits = [LinearConstraint(one, 1, 1)]
    for name, budget in budgets.items():
        # Differences to the cheapest choices, in the largest unit there is: few digits.
        least = [min(layer) for layer in costs[name]]
        more = [[value - low for value in layer]
                for layer, low in zip(costs[name], least, strict=True)]
        unit = gcd(*(value for layer in more for value in layer)) or 1
        left = (budget - sum(least)) // unit
        if left < 0:
            return None
        limits.append(LinearConstraint(
            row([[value // unit for value in layer] for layer in more])[None], -np.inf, left))
    goal = row(errors)
    top = sum(max(layer) for layer in errors)
    goal = goal * (_SCALE / top) if top else goal
    while True:
        found = milp(goal, constraints=limits, integrality=np.ones(count), bounds=Bounds(0, 1),
                     options={"mip_rel_gap": 0})
        if found.x is None:
            return None
        chosen = [int(found.x[start:end].argmax())
                  for start, end in pairwise(starts)]
        if all(sum(layer[n] for layer, n in zip(costs[name], chosen, strict=True)) <= budget
               for name, budget in budgets.items()):
            return chosen
        # Within the solver's tolerance, and yet not: anything but this.
        same = np.zeros(count)
        same[starts[:-1] + chosen] = 1
        limits.append(LinearConstraint(same[None], -np.inf, len(errors) - 1))
