"""The interface that the four units share, and their base class."""

from collections.abc import Mapping

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Opcode, Unit
from systolith.hw.spec.registers import UnitState
from systolith.hw.spec.widths import payload

__all__ = ["ExecutionUnit", "UnitSignature", "keep"]


def keep(m: Module, arch: Arch, when: Value, value: Value, name: str) -> Value:
    """A part of an instruction at `i`, as it stands there in the cycle of `when`, from the next
    cycle on. On chips without prefetch the instruction stays at `i` until it is done: the value
    itself."""
    if not arch.prefetch:
        return value
    kept = Signal(value.shape(), name=name, reset_less=True)
    with m.If(when):
        m.d.sync += kept.eq(value)
    return kept


class UnitSignature(wiring.Signature):
    """What connects a unit to the sequencer, the token counters and the registers, seen from the
    unit.

    Masks of units have one bit for each `Unit`, at its number.

    Parameters
    ----------
    opcode : Opcode
        The instruction that the unit executes.
    arch : Arch
    own : mapping
        Members of this unit alone, by name.

    Members
    -------
    i : In(stream of widths.payload(arch, opcode))
        Instructions, in the order of the program.
    available : In(units)
        A token from that unit is there.
    take : Out(units)
        A token from that unit is taken in this cycle; only where one is available, and in no two
        cycles that follow each other.
    give : Out(units)
        That unit is given a token in this cycle.
    busy : Out(1)
        An instruction is in work. It may have left `i` already; whether one that waits at `i`
        counts is the unit's choice, since the sequencer looks at the queues too.
    progress : Out(1)
        Something has moved in this cycle; restarts the watchdog.
    state : Out(UnitState)
        What the unit does or waits for, or did a cycle before; counted and shown in the registers.
    missing : Out(units)
        Units whose tokens the next instruction waits for, while `state` is TOKENS.
    """

    def __init__(self, opcode: Opcode, arch: Arch, own: Mapping[str, wiring.Member]) -> None:
        units = len(Unit)
        super().__init__({
            "i": In(stream.Signature(payload(arch, opcode))),
            "available": In(units), "take": Out(units), "give": Out(units),
            "busy": Out(1), "progress": Out(1), "state": Out(4), "missing": Out(units),
            **own,
        })


class ExecutionUnit(wiring.Component):
    """Base of the units: a component with the members of `UnitSignature`.

    Parameters
    ----------
    opcode : Opcode
    arch : Arch
    own : mapping
        Further members, by name.
    """

    def __init__(self, opcode: Opcode, *, arch: Arch, own: Mapping[str, wiring.Member]) -> None:
        self.arch = arch
        super().__init__(UnitSignature(opcode, arch, own))

    def say(self, m: Module, *cases: tuple[Value, UnitState]) -> None:
        """Drive `state`, a cycle later: that of the first case whose condition holds, or IDLE."""
        held = [Signal(name=f"was_{n}_{state.name.lower()}") for n, (_, state) in enumerate(cases)]
        m.d.sync += [was.eq(condition) for was, (condition, _) in zip(held, cases, strict=True)]
        state = Const(UnitState.IDLE, len(self.state))
        for was, (_, value) in reversed(list(zip(held, cases, strict=True))):
            state = Mux(was, value, state)
        m.d.comb += self.state.eq(state)
