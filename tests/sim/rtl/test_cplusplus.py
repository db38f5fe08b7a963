"""What is compiled together, how, and that the library is compiled once; with a compiler that only
notes what it is asked for."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from systolith.sim.rtl import cplusplus
from systolith.sim.rtl.cplusplus import Compiler

CLASSES = """
VM_CLASSES_FAST += \\
  Vtop \\
  Vtop_a__0 \\

VM_CLASSES_SLOW += \\
  Vtop_a__0__Slow \\

VM_SUPPORT_FAST += \\

VM_SUPPORT_SLOW += \\
  Vtop__Syms__Slow \\

VM_GLOBAL_FAST += \\
  verilated \\
  verilated_threads \\
  verilated_random \\

VM_GLOBAL_SLOW += \\
"""


@pytest.fixture
def made(tmp_path, monkeypatch):
    """(a `Compiler`, its folder, the commands that it has run)"""
    monkeypatch.setattr(cplusplus, "processors", lambda: 2)
    commands = []

    def execute(command, place):
        commands.append(command)
        source = (place / command[-3]).read_text() if command[1] == "-c" else ""
        (place / command[command.index("-o") + 1]).write_text(f"made of {source}")
    place = tmp_path / "obj"
    place.mkdir()
    (place / "Vtop_classes.mk").write_text(CLASSES)
    for name, size in (("Vtop", 10), ("Vtop_a__0", 500), ("Vtop_a__0__Slow", 300),
                       ("Vtop__Syms__Slow", 5)):
        (place / f"{name}.cpp").write_text(" " * size)
    return Compiler("c++", tmp_path / "verilator", tmp_path, ["-std=x"], ["TRACE"], execute), (
        place), commands


def included(place, name):
    return [line.split('"')[1] for line in
            (place / name).with_suffix(".cpp").read_text().splitlines()]


def test_the_library_is_compiled_once(made, tmp_path):
    compiler, _, commands = made
    kept = tmp_path / "cache" / "runtime-1.o"
    kept.parent.mkdir()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: compiler.library(["verilated", "verilated_x"], "-O0", kept),
                      range(3)))
    command, = commands
    assert "-O0" in command and "-std=x" in command
    assert {"-DVM_TRACE=1", "-DVM_COVERAGE=0"} <= set(command)
    assert kept.read_text() == (f'made of #include "{tmp_path}/verilator/include/verilated.cpp"\n'
                                f'#include "{tmp_path}/verilator/include/verilated_x.cpp"\n')


def test_parts_are_of_about_the_same_size(made):
    """And the user's own file is with the last of them."""
    compiler, place, commands = made
    objects = compiler.model(["main.cpp"], ["verilated", "verilated_threads"], "-O0")
    assert len(objects) == len(commands) == 3
    assert [included(place, name) for name in objects[:2]] == [
        ["Vtop_a__0.cpp"],
        ["Vtop_a__0__Slow.cpp", "Vtop.cpp", "Vtop__Syms__Slow.cpp", "../main.cpp"]]
    assert included(place, objects[2])[0].endswith("include/verilated_random.cpp")


def test_what_runs_once_is_not_optimized(made):
    compiler, place, commands = made
    objects = compiler.model(
        ["main.cpp"], ["verilated", "verilated_threads", "verilated_random"], "-O1")
    how = {command[-1]: "-O1" in command for command in commands}
    files = {name: how[one] for one in objects for name in included(place, one)}
    assert files == {"Vtop.cpp": True, "Vtop_a__0.cpp": True, "Vtop_a__0__Slow.cpp": False,
                     "Vtop__Syms__Slow.cpp": False, "../main.cpp": False}


def test_an_executable_is_linked_in_order(made):
    compiler, place, commands = made
    assert compiler.link(["a.o", "b.o"], ["-lx"], "Vtop") == place / "Vtop"
    assert commands == [["c++", "a.o", "b.o", "-o", "Vtop", "-lx"]]
