"""What is compiled together, how, and that the library is compiled once; with a compiler that only
notes what it is asked for."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from systolith.sim.rtl import cplusplus, verilate
from systolith.sim.rtl.cplusplus import ARITHMETIC, Compiler

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
    """And the user's own file is with the first of them."""
    compiler, place, commands = made
    objects = compiler.model(["main.cpp"], ["verilated", "verilated_threads"], "-O0")
    assert len(objects) == len(commands) == 3
    assert [included(place, name) for name in objects[:2]] == [
        ["arithmetic.h", "Vtop_a__0.cpp", "../main.cpp"],
        ["arithmetic.h", "Vtop_a__0__Slow.cpp", "Vtop.cpp", "Vtop__Syms__Slow.cpp"]]
    assert included(place, objects[2])[0].endswith("include/verilated_random.cpp")


def test_what_runs_once_is_not_optimized(made):
    compiler, place, commands = made
    objects = compiler.model(
        ["main.cpp"], ["verilated", "verilated_threads", "verilated_random"], "-O1")
    how = {command[-1]: "-O1" in command for command in commands}
    files = {name: how[one] for one in objects for name in included(place, one)
             if name != "arithmetic.h"}
    assert files == {"Vtop.cpp": True, "Vtop_a__0.cpp": True, "Vtop_a__0__Slow.cpp": False,
                     "Vtop__Syms__Slow.cpp": False, "../main.cpp": True}


ARITHMETIC_MAIN = """
#include "arithmetic.h"
int main() {
    uint64_t state = 1;
    for (int n = 0; n < 20000; ++n) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        const int narrow = 1 + n % 32, wide = 1 + n % 64;
        const IData a = (state >> 32) & VL_MASK_I(narrow), b = (state >> 16) & VL_MASK_I(narrow);
        const QData c = state & VL_MASK_Q(wide);
        if (VL_EXTENDS_II(32, narrow, a) != (VL_EXTENDS_II)(32, narrow, a)) return 1;
        if (VL_EXTENDS_QI(64, narrow, a) != (VL_EXTENDS_QI)(64, narrow, a)) return 1;
        if (VL_EXTENDS_QQ(64, wide, c) != (VL_EXTENDS_QQ)(64, wide, c)) return 1;
        if (VL_MULS_III(narrow, a, b) != (VL_MULS_III)(narrow, a, b)) return 1;
    }
    return 0;
}
"""


@pytest.mark.parametrize(("old", "new", "code"), [
    ("", "", 0), ("(32 - (lbits))", "(31 - (lbits))", 1), ("static_cast<int64_t>", "", 1),
    ("lhs) * VL", "lhs) + VL", 1)])
def test_arithmetic_is_verilators(tmp_path, old, new, code):
    compiler, _ = verilate._compiler()
    include = verilate._verilator()[1] / "include"
    (tmp_path / "Vtop__pch.h").write_text('#include "verilated.h"\n')
    (tmp_path / "arithmetic.h").write_text(ARITHMETIC.replace(old, new) if old else ARITHMETIC)
    (tmp_path / "main.cpp").write_text(ARITHMETIC_MAIN)
    # of Verilator's library nothing is needed that is not in its headers
    subprocess.run([compiler, "-std=gnu++17", "-w", "-O1", "-c", f"-I{include}",
                    f"-I{include}/vltstd", "-DVM_COVERAGE=0", "-DVM_TRACE=0", "main.cpp", "-o",
                    "main.o"], cwd=tmp_path, check=True)
    subprocess.run([compiler, "main.o", "-o", "main", "-Wl,--unresolved-symbols=ignore-all"],
                   cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"]).returncode == code


def test_an_executable_is_linked_in_order(made):
    compiler, place, commands = made
    assert compiler.link(["a.o", "b.o"], ["-lx"], "Vtop") == place / "Vtop"
    assert commands == [["c++", "a.o", "b.o", "-o", "Vtop", "-lx"]]
