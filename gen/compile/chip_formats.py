"""The number formats that a network needs of a chip, and the keys to change where it has others."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from systolith.hw.formats import Bipolar, Format, Int
from systolith.hw.spec.arch import KEYS, Arch
from systolith.hw.spec.rules import ArchError
from systolith.sim.model.graph import Graph

from .layer import Layer
from .legal import has_weights
from .needs import WITHOUT
from .planes import computed_formats
from .widen import widened

__all__ = ["FormatsNeeded", "format_advice", "formats_needed", "weight_formats"]


@dataclass
class FormatsNeeded:
    """What `formats_needed` finds.

    Attributes
    ----------
    problems : list of str
        What is wrong with the chip's formats; empty: nothing.
    changes : dict
        {key of the chip file: value} with which the chip has the formats.
    chip : Arch or None
        The chip with these changes; None: there is none, and the last problem says why.
    """
    problems: list = field(default_factory=list)
    changes: dict = field(default_factory=dict)
    chip: Arch | None = None


def weight_formats(graph: Graph, arch: Arch | None = None) -> dict[str, Format]:
    """{name: format} of the weights that a chip for a network needs. Binary weights count only
    where all activations are binary; other chips have +1 and -1 among their numbers. On a binary
    chip (`arch`) integers are made of signs."""
    formats = {str(layer.weights.format): layer.weights.format for layer in graph.layers}
    if computed_formats(graph, arch) == [Bipolar(1)]:
        return {"bipolar1": Bipolar(1)}
    return {name: item for name, item in formats.items() if not item.binary} or {
        "int8": Int(8)}


def formats_needed(graph: Graph, arch: Arch) -> FormatsNeeded:
    """The formats of activations and weights with which a chip could compute a network, as
    `FormatsNeeded`. Units of the chip that these formats rule out are left out."""
    if arch.activation.uniform:
        graph = widened(graph, arch)
    forms, formats = computed_formats(graph, arch), weight_formats(graph, arch)
    activations, found = sorted(map(str, forms)), FormatsNeeded()
    fields: dict[str, Any] = {}
    if activations != [str(arch.activation)]:
        if len(forms) > 1 and not all(item.uniform for item in forms):
            found.problems.append(f"the network's activations are in {' and '.join(activations)}, "
                                  "and a chip computes in one format; quantize all to the same")
            return found
        found.problems.append(f"the network's activations are in {' and '.join(activations)}, and "
                              f"the chip computes in {arch.activation}")
        fields["activation"] = max(forms, key=lambda item: item.width)
    signs = arch.weight.binary and "activation" in fields   # of a chip that is binary no more
    others = [item for name, item in formats.items()
              if signs or not (arch.weight.holds(item) or _has_all(graph, arch, name))]
    if others:
        if not all(layer.weights.format.binary for layer in graph.layers):
            found.problems.append(f"the network's weights are in {' and '.join(sorted(formats))}, "
                                  f"and the chip's are {arch.weight}")
        fields["weight"] = max(others, key=lambda item: item.width)
    without: dict[str, Any] = {}
    while found.chip is None:
        try:
            found.chip = replace(arch, **fields, **without)
        except ArchError as error:
            if error.field in without or error.field not in WITHOUT:
                found.problems.append(f"a chip like this in these formats cannot be: {error}; "
                                      "choose another preset")
                return found
            without[error.field] = WITHOUT[error.field]     # a unit that they rule out
    found.changes = {f"array.{name}": str(item) for name, item in fields.items()}
    found.changes |= {KEYS[name].path: item for name, item in without.items()}
    return found


def _has_all(graph, arch, name):
    """Whether the chip has the weights of all layers whose format of weights has this name; False
    where there is no such layer."""
    mine = [Layer(n, layer.reading_all(), arch) for n, layer in enumerate(graph.layers)
            if str(layer.weights.format) == name]
    return bool(mine) and all(map(has_weights, mine))


def format_advice(graph: Graph, arch: Arch) -> str:
    """The end of a message about a network whose formats the chip does not have: the edit that
    mends it."""
    found = formats_needed(graph, arch)
    if found.chip is None:
        return found.problems[-1]
    keys = " and ".join(f"{key} to {json.dumps(item)}" for key, item in found.changes.items())
    own = arch.activation if "array.activation" in found.changes else arch.weight
    what = "network" if "array.activation" in found.changes else "weights"
    sums = sorted({digit.sum for name, digit in graph.digits.items()
                   if (form := graph.tensors[name].format) is not None
                   and form.width > arch.activation.width})
    if sums and what == "network" and arch.activation.uniform:
        what = f"addends of {', '.join(map(repr, sums))}, and all else,"
    return f"{f'set {keys}, or ' if keys else ''}quantize the {what} to {own}"
