"""Words that are windows of a run's bytes, for `Load`: `Field` step_even of `isa` says which."""

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.timing import CUT_BEATS

from .arbiter import load_tag
from .item_queue import ItemQueue

__all__ = ["Windows", "no_windows", "windows"]

#: What goes along with each beat of windows, as of `load_tag`.
_CUT = "base", "signal", "final", "step_even", "step_odd", "spare"


@dataclass(frozen=True)
class Windows:
    """Signals of what makes windows.

    Attributes
    ----------
    ready, wanted : Value
        A beat may be taken, and is one of windows.
    full, holds : Value
        A word waits for the output; beats of windows wait.
    leaves, ends : Value
        The word that waits leaves, and is its run's last one.
    address, signal, word : Value
        Where it goes; the units that get a token for the last one; its bytes.
    """
    ready: Value
    wanted: Value
    full: Value
    holds: Value
    leaves: Value
    ends: Value
    address: Value
    signal: Value
    word: Value


def no_windows(ready: Value) -> Windows:
    """The signals on a chip without windows."""
    return Windows(ready, *[Const(0)] * 8)


def windows(m: Module, arch: Arch, beats: Any, ready: Value) -> Windows:
    """Makes words of the beats that LOAD reads (`beats`, a stream), where they are windows.
    `ready`: the output takes a word in this cycle."""
    wanted = Signal(name="window_wanted")
    m.d.comb += wanted.eq(beats.payload.tag.step_even.any())
    queue, head, room, holds = _queue(m, arch, beats, wanted)
    size, beat = arch.window_bytes, arch.beat_bytes
    held = Signal(8 * (size + 2 * beat - 1), name="window_bytes", reset_less=True)
    ahead = Signal(signed((size + 127 + 2 * beat).bit_length() + 1), name="window_ahead",
                   init=-size)
    full, thin, odd = (Signal(name=f"window_{name}") for name in ("full", "thin", "odd"))
    wide = Signal(name="window_room", init=1)
    # The run of the next word has all its beats (`drains`); a beat of the run after it is
    # there (`later`), and is its last one.
    drains, later, later_stops = (Signal(name=f"window_{name}") for name in (
        "drains", "later", "later_stops"))
    now, after, following = (Signal.like(head, name=f"window_of{name}", reset_less=True)
                             for name in ("", "_later", "_next"))
    address = Signal.like(head.base, name="window_address", reset_less=True)
    taken, leaves, ends, over, odd_next = (Signal(name=f"window_{name}") for name in (
        "taken", "leaves", "ends", "over", "odd_next"))
    left, then = Signal.like(ahead, name="window_left"), Signal.like(ahead, name="window_then")
    place = (beat - 1).bit_length()
    m.d.comb += [
        leaves.eq(full & ready),
        # where it is full: after the run's last word there are its spare bytes, and a beat
        ends.eq(drains & (ahead[:place] == now.spare) & (ahead[place] == later)),
        over.eq(leaves & ends),
        queue.o.ready.eq(wide | (leaves & (thin | (ends & later)))),
        taken.eq(queue.o.valid & queue.o.ready),
        left.eq(Mux(over, Mux(later, beat - size, -size), Mux(
            leaves, ahead - Mux(odd, now.step_odd, now.step_even), ahead))),
        then.eq(Mux(taken, left + beat, left)),
        odd_next.eq((odd ^ leaves) & ~over),
        following.eq(Mux(over & later, after, Mux(taken & (over | ~drains), head, now))),
    ]
    m.d.sync += now.eq(following)
    with m.If(taken):
        m.d.sync += [held.eq(Cat(held, head.data)[-len(held):]), after.eq(head)]
    # Runs begin and end; at most one beat is there beyond the run of the next word.
    with m.If(over & later):
        m.d.sync += [address.eq(after.base), drains.eq(later_stops | (taken & head.stops)),
                     later.eq(later_stops & taken), later_stops.eq(head.stops)]
    with m.Elif(over | ~drains):
        m.d.sync += drains.eq(taken & head.stops)
        with m.If(taken & head.starts):
            m.d.sync += address.eq(head.base)
        with m.Elif(leaves):
            m.d.sync += address.eq(address + 1)
    with m.Else():
        with m.If(taken):
            m.d.sync += [later.eq(1), later_stops.eq(head.stops)]
        with m.If(leaves):
            m.d.sync += address.eq(address + 1)
    with m.If(taken | leaves):
        m.d.sync += [
            ahead.eq(then), odd.eq(odd_next), full.eq(then >= 0), wide.eq(then < beat),
            thin.eq(then < Mux(odd_next, following.step_odd, following.step_even) + beat),
        ]
    # It begins 2 * beat - 1 - ahead bytes after the first one that is held. In steps, which
    # synthesis makes multiplexers of; of a shift it makes ten times as many LUTs.
    word = held
    for bit in reversed(range((2 * beat - 1).bit_length())):
        step = Signal(8 * (size + (1 << bit) - 1), name=f"window_step_{bit}")
        m.d.comb += step.eq(Mux(ahead[bit], word, word[8 << bit:]))
        word = step
    return Windows(
        ready=Mux(wanted, room, ~(holds | drains) & ready), wanted=wanted, full=full,
        holds=holds, leaves=leaves, ends=ends, address=address,
        signal=Mux(now.final, now.signal, 0), word=word)


def _queue(m, arch, beats, wanted):
    """The beats of windows, which wait until windows are made of them: (the queue, its output,
    its room, whether it holds any)."""
    layout = data.StructLayout({"data": arch.bus_bits, "starts": 1, "stops": 1, **{
        name: load_tag(arch)[name].shape for name in _CUT}})
    m.submodules.queue = queue = ItemQueue(width=layout.size, depth=CUT_BEATS)
    item = Signal(layout)
    head = Signal(layout)
    level = Signal(range(CUT_BEATS + 1), name="queue_level")
    room = Signal(name="queue_room", init=1)
    holds = Signal(name="queue_holds")
    leaves = queue.o.valid & queue.o.ready
    m.d.comb += [
        *(item[name].eq(beats.payload.tag[name]) for name in _CUT),
        item.data.eq(beats.payload.data),
        item.starts.eq(beats.payload.starts & beats.payload.first),
        item.stops.eq(beats.payload.stops & beats.payload.ends),
        queue.write.eq(beats.valid & room & wanted), queue.item.eq(item),
        head.eq(queue.o.payload),
    ]
    with m.If(queue.write & ~leaves):
        m.d.sync += [level.eq(level + 1), holds.eq(1), room.eq(level != CUT_BEATS - 1)]
    with m.Elif(leaves & ~queue.write):
        m.d.sync += [level.eq(level - 1), holds.eq(level != 1), room.eq(1)]
    return queue, head, room, holds
