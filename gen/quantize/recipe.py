"""How a network is quantized, as a whole and layer by layer, and the files that say so."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.toml_text import read_toml
from systolith.hw.formats import Format, parse

from .calibrate import HALF_STEP_SAWB, RANGES, SAWB, WEIGHT_RANGES
from .pools import weight_form
from .rounding import ROUNDINGS

__all__ = ["LAYER_KEYS", "Recipe", "read_recipe"]

#: What can be said of single layers.
LAYER_KEYS = ("activation", "weight", "range", "weight_range", "percentile", "correct_bias",
              "renormalize", "rounding", "equalize")


@dataclass(frozen=True)
class Recipe:
    """How a network is quantized.

    Attributes
    ----------
    activation, weight : str
        Number formats, as `hw.formats.parse` reads them; weights also in pools
        and as dual tensors, as of `pools.weight_form`.
    range : str
        How ranges of activations are chosen: one of `calibrate.RANGES`.
    weight_range : str or None
        How scales of weights are chosen: one of `calibrate.WEIGHT_RANGES`; None: "mse" with the
        ranges "mse" and "cross-entropy", else "min-max".
    percentile : float
        For "percentile": how many of a tensor's numbers are within its range, in percent.
    equalize : bool
        Whether cross-layer equalization runs before quantization; of a single layer, with the
        layer after it.
    correct_bias : bool
        Whether biases are corrected so that the mean of every layer's results stays.
    renormalize : bool
        Whether the scales of each layer's weights are then moved so that each channel of its
        results varies as much as in the float network: batch normalization, which is folded into
        the weights, estimated anew for the rounded network.
    rounding : str
        How weights are rounded: one of `rounding.ROUNDINGS`.
    layers : {pattern: {one of LAYER_KEYS: value}}
        What is otherwise in the layers whose names match the pattern (as of `fnmatch`, so a plain
        name is one, too); a later pattern counts more than an earlier one. A layer is what a row
        of the report is: `activation` and the range are those of its results. Inputs of the
        network are layers of their own.
    """
    activation: str = "int8"
    weight: str = "int8"
    range: str = "mse"
    weight_range: str | None = None
    percentile: float = 99.99
    equalize: bool = False
    correct_bias: bool = True
    renormalize: bool = False
    rounding: str = "nearest"
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of(self, layer: str) -> "Recipe":
        """The recipe of one layer, which has no `layers`."""
        found: dict[str, Any] = {}
        for pattern, settings in self.layers.items():
            if fnmatchcase(layer, pattern):
                found |= settings
        return replace(self, layers={}, **found)

    @property
    def weight_method(self) -> str:
        """How scales of weights are chosen, resolved."""
        return self.weight_range or (
            "mse" if self.range in ("mse", "cross-entropy") else "min-max")

    def runs(self) -> bool:
        """Whether the rounded network has to run to be complete."""
        return any(item.correct_bias or item.renormalize or item.rounding != "nearest"
                   for item in self._all())

    def uses(self, key: str, value: Any) -> bool:
        """Whether this is the value of a key in some layer."""
        return any(getattr(item, key) == value for item in self._all())

    def _all(self):
        """This recipe, and one for each pattern alone."""
        return [replace(self, layers={}), *(replace(self, layers={}, **settings)
                                            for settings in self.layers.values())]

    def formats(self) -> list[tuple[Format, Format]]:
        """All pairs of (activation, weight) as formats, the network's own first. Raises UserError
        for a recipe that no network can have."""
        for pattern, settings in self.layers.items():
            _check_keys(settings, LAYER_KEYS, f"layer {pattern!r}")
        found = [replace(self, layers={})._formats()]
        for pattern, item in zip(self.layers, self._all()[1:], strict=True):
            try:
                found.append(item._formats())
            except UserError as error:
                raise UserError(f"layer {pattern!r}: {error}") from None
        return found

    def check_layers(self, names: Iterable[str]) -> None:
        """Raise UserError for a pattern that no name of a layer matches, and for a layer to which
        several patterns together give what it cannot have."""
        names = list(names)
        for pattern in self.layers:
            if not any(fnmatchcase(name, pattern) for name in names):
                near = get_close_matches(pattern, names, 1, 0) or ["none"]
                raise UserError(f"layer {pattern!r}: the network has no such layer to quantize; "
                                f"the nearest name is {near[0]!r}")
        for name in names if self.layers else ():
            try:
                self.of(name)._formats()
            except UserError as error:
                raise UserError(f"layer {name!r}: {error}") from None

    def _formats(self):
        for key, kind in (("activation", str), ("weight", str), ("range", str),
                          ("weight_range", str | None), ("percentile", float | int),
                          ("correct_bias", bool), ("renormalize", bool), ("equalize", bool),
                          ("rounding", str)):
            value = getattr(self, key)
            if not isinstance(value, kind) or (kind == float | int and isinstance(value, bool)):
                raise UserError(f"{key} must be {_KINDS[kind]}, not {value!r}")
        found = []
        for name, read in ((self.activation, parse), (self.weight, weight_form)):
            try:
                form = read(name)
                found.append(form[0] if isinstance(form, tuple) else form)
            except ValueError as error:
                raise UserError(str(error)) from None
        activation, weight = found
        if activation.chip_format.activation_fault() or activation.width < 2:
            raise UserError(f"activations cannot be quantized to {activation}: integers of 2 bits "
                            "and more, and floats of radix 2 with sign and subnormals can" + (
                                "; binary networks have to be trained as such"
                                if activation.binary else ""))
        half_steps = weight.binary and weight.width in HALF_STEP_SAWB
        if (weight.weight_fault() and not half_steps) or weight.width < 2:
            raise UserError(f"weights cannot be quantized to {weight}: integers with sign of 2 "
                            "bits and more, ternary, half steps (bipolar2 to bipolar4), floats "
                            "with sign, and sums of powers of two can"
                            + ("; binary networks have to be trained as such"
                               if weight.binary else ""))
        if "logarithm" in (activation.family, weight.family) and (
                activation.family != weight.family
                or (activation.root, activation.table_bits) != (    # type: ignore[attr-defined]
                    weight.root, weight.table_bits)):               # type: ignore[attr-defined]
            raise UserError(f"logarithms are multiplied with those of the same root and table "
                            f"alone, not {activation} with {weight}")
        if self.range not in RANGES:
            raise UserError(f"range must be one of {', '.join(RANGES)}, not {self.range!r}")
        if self.weight_range not in (None, *WEIGHT_RANGES):
            raise UserError(f"weight_range must be one of {', '.join(WEIGHT_RANGES)}, not "
                            f"{self.weight_range!r}")
        few = "pool" in self.weight or "dual" in self.weight
        if self.weight_range == "sawb" and not half_steps and not (
                not few and weight.uniform and weight.signed and weight.width in SAWB
                and weight.block_scale is None):
            raise UserError("the weight range sawb has coefficients for "
                            f"{', '.join(f'int{bits}' for bits in SAWB)} and bipolar2 to "
                            f"bipolar4, not for {self.weight}; take mse")
        if self.rounding not in ROUNDINGS:
            raise UserError(f"rounding must be one of {', '.join(ROUNDINGS)}, not "
                            f"{self.rounding!r}")
        if not 50 < self.percentile <= 100:
            raise UserError("percentile must be above 50 and at most 100, not "
                            f"{self.percentile:g}")
        return activation, weight


_KINDS = {str: "a name", str | None: "a name", float | int: "a number", bool: "true or false"}


def _check_keys(table, known, where):
    """Raise UserError where a table is none, or has a key that is not known."""
    if not isinstance(table, Mapping):
        raise UserError(f"{where}: must be a table of {', '.join(known)}, not {table!r}")
    for key in table:
        if key not in known:
            raise UserError(f"{where}: unknown key {key!r}; there are {', '.join(known)}")


def read_recipe(path: Path | str) -> dict[str, Any]:
    """The arguments of a `Recipe` that a TOML file gives: its attributes as keys, and for single
    layers tables `[layers."NAME"]`. Raises UserError."""
    table = read_toml(path)
    _check_keys(table, [item.name for item in fields(Recipe)], str(path))
    if not isinstance(table.get("layers", {}), Mapping):
        raise UserError(f'{path}: layers must be tables, such as [layers."conv1"]')
    for pattern, settings in table.get("layers", {}).items():
        _check_keys(settings, LAYER_KEYS, f'{path}: [layers."{pattern}"]')
    return table
