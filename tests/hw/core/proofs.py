"""Proofs by induction, with Yosys' solver, of what a component does in every state that a run from
reset can reach; and faults that they must refuse."""

from pathlib import Path
from types import ModuleType

import pytest
from amaranth.back import verilog
from amaranth.hdl import Fragment, Signal, Value
from amaranth.lib import wiring
from systolith.gen.measure.yosys import AreaError, run_yosys


def prove(folder, text, assumed=(), steps=4):
    """Raises AreaError unless the output `ok` of the module `top` of a Verilog text is 1 in every
    reachable state in which `assumed` outputs have been 1 all along."""
    source, result = folder / "design.v", folder / "proof.txt"
    source.write_text(text)
    assume = " ".join(f"-set {name} 1" for name in assumed)
    run_yosys([
        f'read_verilog -sv "{source}"', "hierarchy -check -top top", "proc", "flatten", "clean",
        "opt", "memory_map", "opt -full",
        f'tee -q -o "{result}" sat -verify -tempinduct -maxsteps {steps} -set rst 0 {assume} '
        "-prove ok 1 top"], result, folder / "log", timeout=600)


def opened(component):
    """A component, elaborated, and the signals that it drives by their names."""
    fragment = Fragment.get(component, None)
    return fragment, parts(fragment)


def parts(fragment, *path):
    """The signals that a fragment drives by their names, or one within it."""
    for wanted in path:
        fragment, = (inner for inner, name, *_ in fragment.subfragments if name == wanted)
    return {signal.name: signal for statements in fragment.statements.values()
            for statement in statements for signal in statement._lhs_signals()}


def written(m, component, **more):
    """A module as Verilog, `top`, whose ports are the inputs of a component in it and `more`."""
    inputs = {"_".join(map(str, path)): Value.cast(value)
              for path, member, value in component.signature.flatten(component)
              if member.flow == wiring.In}
    return verilog.convert(m, name="top", ports={
        name: (signal, None) for name, signal in (inputs | more).items()})


def mostly_slow(cases):
    """Cases of a test, of which every run has the first two."""
    return [*cases[:2], *(pytest.param(*case, marks=pytest.mark.slow) for case in cases[2:])]


def planted(module, old, new):
    """A module with a fault: with `new` where `old` stands once in its source."""
    source = Path(module.__file__).read_text()
    assert source.count(old) == 1, old
    made = ModuleType(module.__name__)
    made.__package__ = module.__package__
    exec(compile(source.replace(old, new), module.__file__, "exec"), made.__dict__)
    return made


def fails(check, *arguments):
    """That a proof finds a fault, and not that nothing can be proven at all."""
    with pytest.raises(AreaError, match="-tempinduct"):
        check(*arguments)


def watched(patch, module, name):
    """The list of the components of a class, by its name in a module, that are made from now on."""
    made = []

    class Watched(getattr(module, name)):
        def __init__(self, **options):
            super().__init__(**options)
            made.append(self)
    patch.setattr(module, name, Watched)
    return made


def named(m, value):
    """A signal of a value: Amaranth writes an expression as often as it is used."""
    signal = Signal(value.shape(), name="named")
    m.d.comb += signal.eq(value)
    return signal
