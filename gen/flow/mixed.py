"""Formats of weights layer by layer, within budgets: what each would cost is measured on the
network as it would be, and what it would do to results on calibration data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

import onnx
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.gen.kit.tables import text_table
from systolith.gen.quantize.allocate import allocate
from systolith.gen.quantize.pools import pool_bytes
from systolith.gen.quantize.quantize import Quantized, quantize
from systolith.gen.quantize.recipe import Recipe
from systolith.gen.report.profile import profile
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.cycles import cycles
from systolith.sim.model.effort import efforts

from .compile import compile_network

__all__ = ["COSTS", "Mixed", "mixed", "read_budgets"]

#: What budgets can be of: bytes of weights, arithmetic computation effort, bit operations, cycles.
COSTS = ("bytes", "ace", "bops", "cycles")
#: Times that cycles, which layers share, are given less room where the whole takes too many.
_TRIES = 8


@dataclass(frozen=True)
class Mixed:
    """What `mixed` chose.

    Attributes
    ----------
    quantized : Quantized
        The network with these formats.
    formats : {layer: format of its weights}
    errors : {layer: {format: noise of its results as a share of their power}}
        With this layer alone quantized.
    costs, budgets : {name: number}
        What the network costs, and what it may.
    """
    quantized: Quantized
    formats: dict[str, str]
    errors: dict[str, dict[str, float]]
    costs: dict[str, int]
    budgets: dict[str, int]

    def text(self) -> str:
        """Tables of the layers' noise and of the costs beside their budgets."""
        names = list(next(iter(self.errors.values()), {}))
        rows = [["layer", "weights", *(f"noise in {name}" for name in names)],
                *([layer, self.formats[layer], *(f"{100 * noise[name]:.3g} %" for name in names)]
                  for layer, noise in self.errors.items())]
        sums = [["cost", "is", "budget"], *([name, f"{self.costs[name]:,}", f"{budget:,}"]
                                            for name, budget in self.budgets.items())]
        return "\n".join([text_table(rows, "ll" + "r" * len(names)), "",
                          text_table(sums, "lrr")])


def read_budgets(texts: Sequence[str]) -> dict[str, int | float]:
    """{cost: a whole number, or a share of what the recipe's own formats cost} from texts such as
    "bytes=20000" or "cycles=60%". Raises UserError."""
    found: dict[str, int | float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        number = value.removesuffix("%")
        if name not in COSTS or not number.isdecimal() or name in found:
            raise UserError(f"--budget {text}: must be COST=NUMBER or COST=SHARE%, once for each "
                            f"of {', '.join(COSTS)}, such as bytes=20000 or cycles=60%")
        found[name] = int(number) / 100 if value.endswith("%") else int(number)
    return found


def mixed(model: onnx.ModelProto, data: Any, recipe: Recipe, choices: Sequence[str],
          budgets: Mapping[str, int | float], arch: Arch | None = None, *,
          source: str = "the calibration data", progress: Reporter = SILENT) -> Mixed:
    """Quantize a float network with the formats of weights that make the least noise within
    budgets.

    Parameters
    ----------
    model, data, recipe, source
        As of `quantize`. Layers to which the recipe gives formats of their own keep them.
    choices : list of str
        Formats of which each layer gets one; the recipe's own is one, too.
    budgets : {one of COSTS: a whole number, or a share of what the recipe's formats cost}
    arch : Arch
        The chip; cycles are counted on it.

    The noise of a layer is that of its results with this layer alone quantized; their sum is
    minimal. Bytes of weights in a pool are those of their numbers and of the pool. Bytes, ACE and
    BOPs of layers add up to those of the network; cycles of layers nearly do, and the network as a
    whole is counted, too: it is never over budget. Raises UserError, also where no choice is within
    the budgets.
    """
    choices = list(dict.fromkeys([recipe.weight, *choices]))
    if "cycles" in budgets and arch is None:
        raise UserError("a budget of cycles needs a chip on which they are counted")
    made = {}
    for name in choices:
        made[name] = quantize(model, data, replace(recipe, weight=name), source=source,
                              progress=progress)
    errors: dict[str, dict[str, float]] = {}
    for name, item in made.items():
        for row in item.rows:
            layer, alone = row["layer"], row["alone_sqnr"]
            if row["weight"] is not None and not _given(recipe, layer):
                of = errors.setdefault(layer, {})
                of[name] = of.get(name, 0.0) + (0.0 if alone is None else 10 ** (-alone / 10))
    counted = {name: _Costs(item, budgets, arch) for name, item in made.items()}
    own = counted[recipe.weight].whole
    wanted = {name: budget if isinstance(budget, int) else int(budget * own[name])
              for name, budget in budgets.items()}
    layers = list(errors)
    table = {cost: [[counted[name].of(layer)[cost] for name in choices] for layer in layers]
             for cost in wanted}
    rest = {cost: own[cost] - sum(row[0] for row in table[cost]) for cost in wanted}
    room = dict(wanted)
    for _ in range(_TRIES):
        chosen = allocate([[errors[layer][name] for name in choices] for layer in layers], table,
                          {cost: room[cost] - rest[cost] for cost in wanted})
        if chosen is None:
            break
        formats = {layer: choices[n] for layer, n in zip(layers, chosen, strict=True)}
        found = quantize(model, data, replace(recipe, layers={
            **recipe.layers, **{_plain(layer): {**recipe.layers.get(layer, {}), "weight": form}
                                for layer, form in formats.items()}}),
            source=source, progress=progress)
        whole = _Costs(found, budgets, arch).whole
        over = {cost: whole[cost] - limit for cost, limit in wanted.items()}
        if max(over.values(), default=0) <= 0:
            return Mixed(found, formats, errors, {cost: whole[cost] for cost in wanted}, wanted)
        room = {cost: room[cost] - max(0, over[cost]) for cost in wanted}
    least = {cost: rest[cost] + sum(map(min, table[cost])) for cost in wanted}
    raise UserError("no formats are within the budgets: " + ", ".join(
        f"{cost} {limit:,}, of which the cheapest formats take some {least[cost]:,}"
        for cost, limit in wanted.items()) + "; give more, or let --choose name fewer bits")


def _given(recipe, layer):
    """Whether the recipe gives a layer a format of its own."""
    return replace(recipe, weight="").of(layer).weight != ""


def _plain(name):
    """The pattern that matches this name alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


class _Costs:
    """What a quantized network costs: `whole` of {cost: number}, and layer by layer."""

    def __init__(self, made, wanted, arch):
        graph, forms = load(made.model), {row["layer"]: row["weight"] for row in made.rows}
        self.layers = []
        for layer, item in zip(graph.layers, efforts(graph), strict=True):
            counts, size = asdict(item.effort), prod(layer.weights.shape)
            pools = [pool_bytes(forms[name], size) for name in layer.nodes if forms.get(name)]
            own = next((number for number in pools if number is not None), counts["weight_bytes"])
            self.layers.append((layer.nodes, {"bytes": own, "ace": counts["ace"],
                                              "bops": counts["bops"]}))
        self.whole = {name: sum(counts[name] for _, counts in self.layers)
                      for name in ("bytes", "ace", "bops")}
        if "cycles" in wanted:
            _, program = compile_network(graph, arch)
            timing = cycles(program)
            self.whole["cycles"] = timing.cycles
            self.layers += [(layer.nodes, {"cycles": cost.cycles}) for layer, cost in zip(
                program.host.layers, profile(program, timing), strict=True)]

    def of(self, layer):
        """{cost: number} of the layers that a node became."""
        found = dict.fromkeys(COSTS, 0)
        for nodes, counts in self.layers:
            if layer in nodes:
                for name, number in counts.items():
                    found[name] += number
        return found
