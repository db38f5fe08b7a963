"""Public functions and methods say the types of what they take and give, and what they do, room by
room."""

import ast

import pytest

from .test_layout import ARROWS, FILES, ROOT, room_of

#: Rooms of which every public function and method has a docstring.
DOCUMENTED = ("gen/importer", "gen/kit", "gen/quantize", "gen/report", "sim/machine", "sim/model",
              "sim/random")
#: Special methods that are as public as their class.
_SPECIAL = ("__init__", "__call__")


def public(body, owner=""):
    """(name, function, whether it is a method with `self` or `cls`) for each public function and
    method in the body of a module or class."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public(node.body, f"{owner}{node.name}.")
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (
                not node.name.startswith("_") or (owner and node.name in _SPECIAL)):
            static = "staticmethod" in map(ast.unparse, node.decorator_list)
            yield f"{owner}{node.name}", node, bool(owner) and not static


def unannotated(source):
    """What the public functions and methods of a source leave without a type: "name: parameter",
    or "name: return" for what they give. An `__init__` gives nothing."""
    for name, function, bound in public(ast.parse(source).body):
        own = function.args
        named = [*own.posonlyargs, *own.args]
        for item in [*named[bound:], *own.kwonlyargs, own.vararg, own.kwarg]:
            if item is not None and item.annotation is None:
                yield f"{name}: {item.arg}"
        if function.returns is None and function.name != "__init__":
            yield f"{name}: return"


@pytest.mark.parametrize("room", sorted(ARROWS))
def test_public_functions_are_annotated(room):
    found = [f"{file}, {item}" for file in FILES if room_of(file.parts) == room
             for item in unannotated((ROOT / file).read_text())]
    assert not found


def undocumented(source):
    """Names of the public functions and methods of a source that have no docstring; a class says
    what its special methods do, and an overload what all do."""
    for name, function, _ in public(ast.parse(source).body):
        if ast.get_docstring(function) is None and function.name not in _SPECIAL and (
                "overload" not in map(ast.unparse, function.decorator_list)):
            yield name


@pytest.mark.parametrize("room", DOCUMENTED)
def test_public_functions_have_docstrings(room):
    found = [f"{file}, {name}" for file in FILES if room_of(file.parts) == room
             for name in undocumented((ROOT / file).read_text())]
    assert not found


def test_docstrings_stand_alone():
    """None begins as the rest of a sentence that its name would begin."""
    found = [f"{file}:{number}" for file in FILES
             for number, line in enumerate((ROOT / file).read_text().splitlines(), 1)
             if line.lstrip().startswith(('"""Of ', '"""Those ', '"""Both ', '"""What of '))]
    assert not found


def test_what_lacks_a_docstring_is_found():
    source = ("def f(): pass\ndef g():\n    'Words.'\nclass A:\n    def __init__(self): pass\n"
              "    def m(self): pass\n    @overload\n    def o(self): ...\n")
    assert list(undocumented(source)) == ["f", "A.m"]


def test_what_lacks_a_type_is_found():
    source = ("def f(a: int, b, *c, d: int = 0, **e) -> int: pass\ndef g(): pass\n"
              "def _h(a): pass\n"
              "class A:\n    def __init__(self, x): pass\n    def __call__(self, x: int): pass\n"
              "    def __len__(self): pass\n    def _own(self, x): pass\n"
              "    @staticmethod\n    def of(x) -> int: pass\n"
              "    class B:\n        def m(self, y) -> None: pass\n"
              "class _C:\n    def m(self, y): pass\n")
    assert list(unannotated(source)) == [
        "f: b", "f: c", "f: e", "g: return", "A.__init__: x", "A.__call__: return", "A.of: x",
        "A.B.m: y"]
