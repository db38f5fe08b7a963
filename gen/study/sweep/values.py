"""Values of a space's keys, lists and ranges, and expressions over names: conditions, constraints.

An expression is Python's notation of numbers, texts, lists and names with dots, joined by
`+ - * / // %`, comparisons, `in`, `and`, `or` and `not`. Nothing is called.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from systolith.gen.kit.errors import UserError

__all__ = ["Expression", "expand"]

_RANGE = {"from", "to", "step", "times", "points"}
#: No range has more values; a typing error would fill the memory.
_LONGEST = 100_000
_OPERATORS: dict[type, Callable] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Eq: operator.eq,
    ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.In: lambda one, many: one in many,
    ast.NotIn: lambda one, many: one not in many, ast.USub: operator.neg, ast.Not: operator.not_}


def expand(values: Any, where: str) -> list:
    """The list of values that a list or a range gives.

    A range is a table: `{ from = 4, to = 64, step = 4 }`, `{ from = 4, to = 64, times = 2 }` (each
    the one before times a factor) or `{ from = 16, to = 4096, points = 5 }` (so many, evenly spaced
    in their logarithm, rounded to whole numbers). Both ends belong to it. Raises UserError, which
    begins with `where`.
    """
    if isinstance(values, list):
        if not values:
            raise UserError(f"{where} must have at least one value")
        return values
    if not isinstance(values, dict):
        raise UserError(f"{where} must be a list of values or a range such as "
                        f"{{ from = 4, to = 64, times = 2 }}, not {values!r}")
    kind = {"step", "times", "points"} & set(values)
    if not {"from", "to"} <= set(values) or len(kind) != 1 or set(values) - _RANGE:
        raise UserError(f"{where}: a range has from, to and one of step, times and points, not "
                        f"{', '.join(values) or 'nothing'}")
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{where}: {key} must be a number, not {value!r}")
    low, high = values["from"], values["to"]
    if low > high:
        raise UserError(f"{where}: from {low} is above to {high}; change places")
    return {"step": _steps, "times": _times, "points": _points}[kind.pop()](low, high, values,
                                                                           where)


def _steps(low, high, values, where):
    step = values["step"]
    if step <= 0:
        raise UserError(f"{where}: step must be above 0, not {step}")
    number = math.floor((high - low) / step + 1e-9) + 1
    _limit(number, where)
    return [low + step * n for n in range(number)]


def _times(low, high, values, where):
    factor = values["times"]
    if factor <= 1 or low <= 0:
        raise UserError(f"{where}: a range with times needs a factor above 1 and begins above 0")
    found: list = []
    value = low
    while value <= high * (1 + 1e-9):
        _limit(len(found) + 1, where)
        found.append(round(value) if _whole(low) else value)
        value *= factor
    return list(dict.fromkeys(found))


def _points(low, high, values, where):
    points = values["points"]
    if low <= 0 or not _whole(points) or points < 2:
        raise UserError(f"{where}: a range with points has 2 of them or more, and begins above 0")
    _limit(points, where)
    ratio = math.log(high / low)
    return list(dict.fromkeys(round(low * math.exp(ratio * n / (points - 1)))
                              for n in range(points)))


def _whole(*numbers):
    return all(isinstance(number, int) for number in numbers)


def _limit(number, where):
    if number > _LONGEST:
        raise UserError(f"{where}: a range has at most {_LONGEST:,} values")


@dataclass(frozen=True)
class Expression:
    """An expression over names with dots, such as `array.rows * array.columns <= 256`."""
    text: str
    names: frozenset[str]
    _tree: Any

    @classmethod
    def of(cls, text: Any, where: str, known: Any) -> "Expression":
        """Read a text whose names must be among `known`. Raises UserError, which begins with
        `where`."""
        if not isinstance(text, str):
            raise UserError(f"{where} must be a text such as \"array.rows <= 16\", not {text!r}")
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError):
            raise UserError(f"{where}: {text!r} is no expression; write it as \"array.rows <= "
                            "16\"") from None
        names: set[str] = set()
        _check(tree, names, f"{where}: {text!r}")
        for name in sorted(names - {"true", "false"}):
            if name not in known:
                raise UserError(f"{where}: {text!r}: {name} is no name here; names: "
                                f"{', '.join(known)}")
        return cls(text, frozenset(names), tree)

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """Its value; of `values`, those of its names are read. Raises UserError where it has
        none, such as for a text below a number."""
        try:
            return _value(self._tree, values)
        except (TypeError, ZeroDivisionError, OverflowError) as error:
            raise UserError(f"{self.text!r}: {error}") from None


def _name(node):
    """"a.b" of a name with dots; None for another node."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = _name(node.value)
        return base and f"{base}.{node.attr}"
    return None


def _check(node, names, where):
    name = _name(node)
    if name is not None:
        names.add(name)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str):
        pass
    elif isinstance(node, ast.List | ast.Tuple):
        for item in node.elts:
            _check(item, names, where)
    elif isinstance(node, ast.BoolOp):
        for item in node.values:
            _check(item, names, where)
    elif isinstance(node, ast.BinOp | ast.UnaryOp) and type(node.op) in _OPERATORS:
        for item in ([node.left, node.right] if isinstance(node, ast.BinOp) else [node.operand]):
            _check(item, names, where)
    elif isinstance(node, ast.Compare) and all(type(item) in _OPERATORS for item in node.ops):
        for item in (node.left, *node.comparators):
            _check(item, names, where)
    else:
        raise UserError(f"{where} has {ast.unparse(node)!r} in it; numbers, texts, lists, names, "
                        "+ - * / // %, comparisons, in, and, or, not are allowed")


def _value(node, values):
    name = _name(node)
    if name is not None:
        # TOML's words for the two
        return {"true": True, "false": False}.get(name, values.get(name))
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item, values) for item in node.elts]
    if isinstance(node, ast.BoolOp):
        every = isinstance(node.op, ast.And)
        result = every
        for item in node.values:
            result = _value(item, values)
            if bool(result) is not every:
                return result
        return result
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_value(node.left, values), _value(node.right, values))
    if isinstance(node, ast.UnaryOp):
        return _OPERATORS[type(node.op)](_value(node.operand, values))
    left = _value(node.left, values)
    for kind, item in zip(node.ops, node.comparators, strict=True):
        right = _value(item, values)
        if not _OPERATORS[type(kind)](left, right):
            return False
        left = right
    return True
