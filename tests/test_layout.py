"""What holds for the tree as a whole: import arrows between rooms, package contents, file sizes."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: Room -> rooms that its files may import, besides their own. A room is a folder of modules; a
#: room inside a room (the importer's) is part of it.
_HARDWARE = {"hw/formats", "hw/spec", "hw/element", "hw/core", "hw/board"}
_SIMULATION = {"sim/model", "sim/machine", "sim/rtl", "sim/random"}
_TOOLS = {"gen/kit", "gen/chip", "gen/importer", "gen/compile", "gen/quantize", "gen/measure",
          "gen/report"}
_DESCRIPTIONS = {"hw/formats", "hw/spec"}
ARROWS = {
    "constraints": set(),
    "hw/formats": set(),
    "hw/spec": {"hw/formats"},
    "hw/element": _DESCRIPTIONS,
    "hw/core": _DESCRIPTIONS | {"hw/element"},
    "hw/board": _DESCRIPTIONS | {"hw/core"},
    "sim/model": _DESCRIPTIONS,
    # how many pipeline stages a processing element has, its circuit alone says
    "sim/machine": _DESCRIPTIONS | {"hw/element", "sim/model"},
    "sim/rtl": _HARDWARE | {"sim/model", "sim/machine"},
    "sim/random": _DESCRIPTIONS | {"hw/element", "sim/model", "sim/machine"},
    "gen/kit": set(),
    "gen/chip": _HARDWARE | {"gen/kit", "constraints"},
    "gen/importer": _DESCRIPTIONS | {"gen/kit", "sim/model"},
    "gen/compile": _DESCRIPTIONS | {"gen/kit", "sim/model", "sim/machine"},
    "gen/quantize": {"hw/formats", "gen/kit", "gen/importer"},
    "gen/measure": _HARDWARE | {"gen/kit", "gen/chip", "constraints"},
    "gen/report": _HARDWARE | {"gen/kit", "gen/chip", "gen/measure", "sim/model", "sim/machine"},
    "gen/flow": _HARDWARE | _SIMULATION | _TOOLS | {"constraints"},
    "gen/study": {"hw", "sim", "gen"} | _HARDWARE | _SIMULATION | _TOOLS | {"gen/flow"},
    "gen/api": _DESCRIPTIONS | {"hw", "gen/kit", "gen/chip", "gen/quantize", "gen/flow"},
    "gen/cli": _HARDWARE | _SIMULATION | _TOOLS | {"gen/flow", "gen/study"},
}
#: Inside the importer: floor -> floors that its files may import, besides their own. A file in the
#: importer's own folder stands on the floor "values", unless it is named in `STAND`.
FLOORS = {"values": set(), "builder": {"values"}, "passes": {"values"},
          "operators": {"values", "builder"},
          "dialects": {"values", "builder", "operators"},
          "host": {"values", "builder", "operators"},
          "reader": {"values", "builder", "passes", "operators", "dialects", "host"}}
STAND = {"builder": "builder", "checks": "reader", "reader": "reader", "sizes": "reader",
         "unquantized": "reader"}
#: Where a format is asked for its class outside hw/formats, each with its reason: (file, call).
BY_CLASS: set[tuple[str, str]] = set()
TOPS = sorted({room.split("/")[0] for room in ARROWS})
FILES = [path.relative_to(ROOT) for top in TOPS for path in sorted((ROOT / top).rglob("*.py"))]
#: No longer than this, whatever they hold.
LINES = 600


def room_of(parts):
    """The room of a file or module, from its path's or name's parts: ("hw", "core", "post")."""
    room = "/".join(parts[:2])
    return room if room in ARROWS else parts[0]


def imported(file, types=True):
    """Parts of the name, less "systolith", of each of its modules that a file imports; without
    `types`, what is imported for annotations alone (`if TYPE_CHECKING`) is left out."""
    package = file.parent.parts
    tree = ast.parse((ROOT / file).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not types:
            node.body.clear()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[:len(package) + 1 - node.level]) if node.level else []
            base = ["systolith", *base] if node.level else base
            base += node.module.split(".") if node.module else []
            names = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for parts in names:
            assert parts[0] not in TOPS, f"{file} imports a bare {'.'.join(parts)}"
            if parts[0] == "systolith" and len(parts) > 1:
                yield tuple(parts[1:])


def against(file):
    """The imports of a file that its room's arrows do not allow."""
    room = room_of(file.parts)
    allowed = ARROWS.get(room, set()) | {room}
    return {(str(file), ".".join(parts)) for parts in imported(file)
            if room_of(parts) not in allowed}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_follow_the_arrows_and_files_are_short(file):
    if file.name == "__init__.py" and len(file.parts) <= 2:
        assert not list(imported(file))
    else:
        assert room_of(file.parts) in ARROWS, f"{file} stands in no room"
        assert not against(file)
    assert len((ROOT / file).read_text().splitlines()) <= LINES


def test_arrows_point_one_way():
    seen = {}

    def below(room):
        if room not in seen:
            seen[room] = {room}
            seen[room] |= {other for first in ARROWS.get(room, ()) for other in below(first)}
        return seen[room]
    for room, others in ARROWS.items():
        assert not [other for other in others if room in below(other)], room


def test_an_import_against_the_arrows_is_found(tmp_path, monkeypatch):
    (tmp_path / "hw" / "spec").mkdir(parents=True)
    file = Path("hw/spec/wrong.py")
    (tmp_path / file).write_text("from ..core.top import Core\nfrom .isa import OPCODES\n"
                                 "def f():\n    import systolith.gen.kit.errors\n"
                                 "from systolith.hw.formats import Int\n")
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert against(file) == {(str(file), "hw.core.top.Core"), (str(file), "gen.kit.errors")}


def floor_of(parts):
    """The importer's floor of one of its files or modules, ("gen", "importer", "work")."""
    return parts[2] if parts[2] in FLOORS and parts[2] not in STAND else STAND.get(
        parts[2], "values")


def test_floors_of_the_importer():
    found = {}
    for file in FILES:
        if file.parts[:2] == ("gen", "importer") and file.name != "__init__.py":
            own = floor_of(file.with_suffix("").parts)
            found.setdefault(own, set()).add(file)
            for parts in imported(file, types=False):
                if parts[:2] == ("gen", "importer") and len(parts) > 2:
                    assert floor_of(parts) in FLOORS[own] | {own}, f"{file} imports {parts}"
    assert set(found) == set(FLOORS)
    assert floor_of(("gen", "importer", "operators", "linear")) == "operators"


def classes_of_formats():
    """Names of the classes that `hw/formats` defines."""
    return {node.name for file in (ROOT / "hw" / "formats").glob("*.py")
            for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ClassDef)}


def asked_for_class(source, classes):
    """The calls in a source that ask for a format's class: isinstance, issubclass and type."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and (
                node.func.id in ("isinstance", "issubclass")):
            asked = node.args[1]
        elif isinstance(node, ast.Compare) and "type(" in ast.unparse(node):
            asked = node
        else:
            continue
        if classes & {item.id for item in ast.walk(asked) if isinstance(item, ast.Name)}:
            yield ast.unparse(node)


def test_formats_are_asked_for_what_they_do_and_never_for_their_class():
    classes = classes_of_formats()
    assert {"Int", "Float", "Bipolar", "PowerSum", "Lns"} <= classes
    found = {(str(file), call) for file in FILES if file.parts[:2] != ("hw", "formats")
             for call in asked_for_class((ROOT / file).read_text(), classes)}
    assert found == BY_CLASS, "say it in hw/formats/base.py, as a property that each format answers"


def test_a_question_for_a_class_is_found():
    source = ("isinstance(x, Int | str)\nisinstance(x.form, (Float,))\ntype(x) is Int\n"
              "isinstance(x, str)\ntype(x) is Signal\nInt(8) == x\n")
    found = asked_for_class(source, {"Int", "Float"})
    assert list(found) == ["isinstance(x, Int | str)", "isinstance(x.form, (Float,))",
                           "type(x) is Int"]


def test_every_package_and_data_file_is_in_the_distribution():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {top: f"systolith.{top}" for top in TOPS}
    assert {folder: setup["package-dir"][name] for folder, name in folders.items()} == {
        top: top for top in TOPS}
    assert setup["package-dir"]["systolith"] == "gen/api"
    packages = {"systolith." + ".".join(file.parent.parts) for file in FILES}
    packages = packages - {"systolith.gen.api"} | {"systolith"}
    assert set(setup["packages"]) == packages | {"systolith.examples"}
    for name in packages:
        folder = ROOT.joinpath(*name.split(".")[1:] or ["gen", "api"])
        assert (folder / "__init__.py").is_file()
        packed = {file for pattern in setup["package-data"].get(name, [])
                  for file in folder.glob(pattern)}
        for file in folder.iterdir():
            if file.is_file() and file.suffix != ".py":
                assert file in packed, f"{file.relative_to(ROOT)} would be missing from the wheel"


def test_the_page_on_architecture_lists_every_room():
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`((?:hw|sim|gen)/\w+)`", row)}
    assert listed == {room for room in ARROWS if "/" in room}
