"""A space of chips, as a TOML file:

    target = "ecp5"             # or "xc7", "ice40", "gowin", "asic"
    dsp = "post"                # DSP blocks in post-processing only; true (default): anywhere
                                # but for small products; false: nowhere
    part = "LFE5U-85F"          # the chips must fit it; left out: the part of each chip's board;
                                # a list: each chip on each of these parts
    energy = "mine.toml"        # a table as of `gen/report/energy.py`
    area = "modules"            # each module mapped alone and kept (default), "whole", "none", or
                                # "estimate": by a formula, in milliseconds (`estimated_lut` ...)
    objectives = ["cycles", "lut"]                  # names of `gen/report/metrics.py`
    constraints = ["fits", "accuracy >= 0.97"]      # over these and over keys of a chip

    [search]
    method = "nsga2"            # "grid" (default), "random", "nsga2", "tpe"
    evaluations = 100           # points at most; the grid has all
    seed = 1

    [finalists]                 # of `systolith sweep --finalists`
    seeds = 3                   # of place and route (default)
    mhz = 130                   # asked of place and route; left out: the clock of each chip

    [[group]]
    name = "float"
    chip = "ulx3s-8x8-e3m2"     # a preset, a TOML file, or a chip's tables in place
    networks = ["../digits/digits-cnn.onnx"]        # or tables, see below; may be left out
    set = { "buffers.weights" = 4096 }              # the same in all points
    vary = { "array.rows" = [4, 8], "array.columns" = { from = 4, to = 64, times = 2 } }
    together = { "array.lanes" = [1, 2], "post.lanes" = [1, 2] }    # entry by entry; or a list of
                                                                    # such tables
    when = ["array.rows <= array.columns"]          # other combinations are left out

Values are lists or ranges (`values.expand`); `vary` is every combination. A network may be a table:

    { path = "net.onnx", data = "digits.npz", images = 500, range = "mse" }

`data` has arrays `images` and `labels`, for accuracy, and `calibration`, with which a float network
is quantized to each point's formats (`range`, `weight_range`, `percentile`, `equalize`,
`correct_bias`, `renormalize`, `rounding` as of `systolith quantize`). Paths are relative to the
file.
"""

from functools import cache
from pathlib import Path
from typing import Any

from systolith.gen.chip.keys import KEYS
from systolith.gen.chip.toml import chip_from_dict, load_chip
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.toml_text import read_toml
from systolith.gen.measure.area import FIGURES, TARGETS
from systolith.gen.measure.estimate import measured_targets
from systolith.gen.quantize.calibrate import RANGES
from systolith.gen.quantize.recipe import Recipe
from systolith.gen.report.metrics import ESTIMATES, METRICS, PLACED
from systolith.hw.board.parts import PARTS

from .net import net_of
from .point import Placing
from .space import METHODS, Axis, Group, Search, Space
from .values import Expression, expand

__all__ = ["read_space"]

_AREAS = ("modules", "whole", "estimate", "none")
_GROUP = {"name", "chip", "networks", "set", "vary", "together", "when"}
_TOP = {"target", "part", "dsp", "area", "energy", "objectives", "constraints", "search",
        "finalists", "group"}
_RECIPE: dict[str, Any] = {"range": str, "percentile": (int, float), "equalize": bool,
                           "correct_bias": bool, "renormalize": bool,
                           "weight_range": str, "rounding": str}
_NET: dict[str, Any] = {"path": str, "name": str, "data": str, "images": int} | _RECIPE
#: Figures that only synthesis gives.
_SYNTHESIZED = (*FIGURES, "fill", "images_per_s_per_klut")
_PATHS = [key.path for key in KEYS.values()]


def read_space(path: Path | str) -> Space:
    """The `Space` in a file. Raises UserError naming file, key and what is allowed."""
    path = Path(path)
    data = read_toml(path)
    _check_keys(path, data, _TOP, "the top level")
    parts, dsp, area = _parts(path, data), data.get("dsp", True), data.get("area", "modules")
    if dsp not in (True, False, "post"):
        raise UserError(f"{path}: dsp must be true, false or \"post\", not {dsp!r}")
    if area not in _AREAS:
        raise UserError(f"{path}: area must be one of {', '.join(_AREAS)}, not {area!r}")
    for _, target in parts:
        if area == "estimate" and target not in measured_targets():
            raise UserError(f"{path}: areas can be estimated for {', '.join(measured_targets())}, "
                            f"not for {target}; use area = \"modules\"")
    groups = data.get("group")
    if not isinstance(groups, list) or not groups or not all(isinstance(g, dict) for g in groups):
        raise UserError(f"{path}: must have at least one [[group]]")
    net = cache(_net)
    placing = _placing(path, data.get("finalists", {}))
    found = [_group(path, number, group, net, (target, dsp, part, area, placing))
             for number, group in enumerate(groups, 1) for part, target in parts]
    return Space(path, found, _objectives(path, data.get("objectives"), found, parts[0][1], area),
                 _constraints(path, data.get("constraints", []), area),
                 _search(path, data.get("search", {})),
                 path.parent / data["energy"] if "energy" in data else None)


def _parts(path, data):
    """[(part, target)]: where chips are measured; the part None where the file names none."""
    part = data.get("part")
    names = part if isinstance(part, list) else [part]
    for name in names:
        if not (isinstance(name, str) and name in PARTS) and (name is not None or names is part):
            raise UserError(f"{path}: part must be one of {', '.join(PARTS)}, or a list of them, "
                            f"not {name!r}")
    if not names or len(set(names)) < len(names):
        raise UserError(f"{path}: part must name one part or several, each once, not {part!r}")
    target, targets = data.get("target"), (*TARGETS, "asic")
    if target is not None and target not in targets:
        raise UserError(f"{path}: target must be one of {', '.join(targets)}, not {target!r}")
    found = [(name, PARTS[name].target if name else target or "ecp5") for name in names]
    for name, of in found:
        if target not in (None, of):
            raise UserError(f"{path}: target is {target!r}, and the part {name} is of {of!r}; "
                            "leave out one of them")
    return found


def _group(path, number, group, net, measured):
    where = f"{path}: group {number}"
    _check_keys(where, group, _GROUP, "a group")
    networks = group.get("networks", [])
    if not isinstance(networks, list):
        raise UserError(f"{where}: networks must be a list of paths and tables, not {networks!r}")
    nets = tuple(net(path, where, _items(where, network)) for network in networks)
    if len({item.name for item in nets}) < len(nets):
        raise UserError(f"{where}: two networks have the same name, which is what results call "
                        "them; give one another name: { path = ..., name = ... }")
    base = _base(path, where, group)
    when = group.get("when", [])
    if not isinstance(when, list):
        raise UserError(f"{where}: when must be a list of conditions, not {when!r}")
    return Group(str(group.get("name", f"group {number}")), base, nets, _axes(where, group),
                 [Expression.of(text, f"{where}: when", _PATHS) for text in when],
                 *measured)


def _items(where, network):
    """A network's keys as a tuple of pairs, checked."""
    if isinstance(network, str):
        network = {"path": network}
    if not isinstance(network, dict) or "path" not in network:
        raise UserError(f"{where}: networks must be a list of paths, or of tables with a path, not "
                        f"{network!r}")
    _check_keys(where, network, _NET, "a network")
    for key, value in network.items():
        kinds = _NET[key]
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            raise UserError(f"{where}: network {network['path']}: {key} is {value!r}, which is of "
                            "a wrong type")
    if network.get("range", "mse") not in RANGES:
        raise UserError(f"{where}: range must be one of {', '.join(RANGES)}, not "
                        f"{network['range']!r}")
    return tuple(network.items())


def _net(path, where, items):
    table = dict(items)
    file = path.parent / table["path"]
    data = None if "data" not in table else path.parent / table["data"]
    for name, needed in (("network", file), ("data", data)):
        if needed is not None and not needed.is_file():
            raise UserError(f"{where}: {name} {needed} does not exist")
    recipe = Recipe(**{key: table[key] for key in _RECIPE if key in table})
    return net_of(table.get("name", file.stem), file, recipe, data, table.get("images"), where)


def _objectives(path, names, groups, target, area):
    if names is None:
        size = ("gates" if target == "asic" else "estimated_lut" if area == "estimate" else "lut")
        networks = any(group.networks for group in groups)
        return ["cycles", size] if networks else [size]
    if not isinstance(names, list) or not names:
        raise UserError(f"{path}: objectives must be a list of names, not {names!r}")
    for name in names:
        if name not in METRICS:
            raise UserError(f"{path}: objectives: {name!r} is none. Objectives: "
                            f"{', '.join(METRICS)}")
        _check_estimate(f"{path}: objectives", name, area)
        if name in PLACED:
            raise UserError(f"{path}: objectives: {name!r} is known of finalists alone; use it in "
                            "`systolith pareto --objectives` after `systolith sweep --finalists`")
    return names


def _check_estimate(where, name, area):
    """Figures of synthesis and of estimates are never there together."""
    if name in ESTIMATES and area != "estimate":
        raise UserError(f"{where}: {name!r} is known with area = \"estimate\" alone")
    if name in _SYNTHESIZED and area == "estimate":
        raise UserError(f"{where}: {name!r} is a figure of synthesis; with area = \"estimate\" "
                        f"there are {', '.join(ESTIMATES)}")


def _constraints(path, texts, area):
    if not isinstance(texts, list):
        raise UserError(f"{path}: constraints must be a list of texts, not {texts!r}")
    found = [Expression.of(text, f"{path}: constraints", [
                *(name for name in METRICS if name not in PLACED), "fits", *_PATHS])
            for text in texts]
    for item in found:
        for name in sorted(item.names):
            _check_estimate(f"{path}: constraints", name, area)
    return found


def _search(path, table):
    if not isinstance(table, dict):
        raise UserError(f"{path}: search must be a table, not {table!r}")
    _check_keys(path, table, {"method", "evaluations", "seed"}, "search")
    found = Search(**table)
    if found.method not in METHODS:
        raise UserError(f"{path}: search: method must be one of {', '.join(METHODS)}, not "
                        f"{found.method!r}")
    for name in ("evaluations", "seed"):
        if getattr(found, name) is not None:
            _check_whole(f"{path}: search: {name}", getattr(found, name))
    return found


def _check_whole(where, value):
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{where} must be a whole number from 1 up, not {value!r}")


def _placing(path, table):
    if not isinstance(table, dict):
        raise UserError(f"{path}: finalists must be a table, not {table!r}")
    _check_keys(path, table, {"seeds", "mhz"}, "finalists")
    found = Placing(**table)
    _check_whole(f"{path}: finalists: seeds", found.seeds)
    mhz = found.mhz
    if mhz is not None and (isinstance(mhz, bool) or not isinstance(mhz, (int, float))
                            or not 0 < mhz < float("inf")):
        raise UserError(f"{path}: finalists: mhz must be a number above 0, not {mhz!r}")
    return found


def _check_keys(where, table, allowed, what):
    for key in table:
        if key not in allowed:
            raise UserError(f"{where}: {key} is no key. Keys of {what}: "
                            f"{', '.join(sorted(allowed))}")


def _base(path, where, group):
    """The tables of the group's chip, with `set` in them."""
    chip = group.get("chip")
    if isinstance(chip, dict):
        base = chip_from_dict(chip, where)
    elif isinstance(chip, str):
        file = path.parent / chip
        base = load_chip(file if file.suffix == ".toml" else chip)
    else:
        raise UserError(f"{where}: chip must be a preset, a TOML file or a chip's tables, "
                        f"not {chip!r}")
    fixed = group.get("set", {})
    _check_settings(where, "set", fixed)
    # Left open unless it is set: "auto" then follows each point's rows and columns.
    written = {"post.lanes"} & set(chip if isinstance(chip, dict) else {})
    values: dict[str, Any] = {
        key.path: getattr(base, key.field) for key in KEYS.values()
        if key.path != "post.lanes" or key.path in written}
    return {name: _as_written(value) for name, value in values.items()
            if value is not None} | fixed


def _as_written(value):
    """The value of a chip's field as a file has it."""
    if isinstance(value, tuple):
        return list(value)
    return value if isinstance(value, int | float | str) else str(value)


def _check_settings(where, name, table):
    if not isinstance(table, dict):
        raise UserError(f"{where}: {name} must be a table of keys of a chip, not {table!r}")
    for key in table:
        if key not in _PATHS:
            raise UserError(f"{where}: {name}: {key!r} is no key of a chip; write it as "
                            f"\"array.rows\". Keys: {', '.join(_PATHS)}")


def _axes(where, group):
    """One axis for each key of `vary`, and for each table of `together`."""
    vary, together = group.get("vary", {}), group.get("together", [])
    _check_settings(where, "vary", vary)
    axes = [Axis(key, [{key: value} for value in expand(values, f"{where}: vary: {key}")])
            for key, values in vary.items()]
    for table in together if isinstance(together, list) else [together]:
        _check_settings(where, "together", table)
        lists = {key: expand(values, f"{where}: together: {key}") for key, values in table.items()}
        if len({len(values) for values in lists.values()}) > 1:
            raise UserError(f"{where}: the lists of together must have the same length")
        if lists:
            axes.append(Axis(" ".join(lists), [dict(zip(lists, entry, strict=True)) for entry in
                                               zip(*lists.values(), strict=True)]))
    seen: set[str] = set()
    for axis in axes:
        keys = set(axis.choices[0])
        if keys & seen:
            raise UserError(f"{where}: {', '.join(sorted(keys & seen))} is varied twice")
        seen |= keys
    return axes
