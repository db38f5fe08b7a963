"""Bursts: cuts runs of beats into bursts, for LOAD and STORE alike."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.numbers import PAGE_BYTES
from systolith.hw.spec.timing import burst_limit, last_beats
from systolith.hw.spec.widths import has_window_base, offset_bits

__all__ = ["Bursts", "Outside", "burst_layout", "length_bits"]


def _beat_bits(arch):
    """Bits of an address within a beat."""
    return (arch.beat_bytes - 1).bit_length()


def burst_layout(arch: Arch, tag: data.StructLayout) -> data.StructLayout:
    """A burst: `offset` of its first beat from the window's start, in beats; `last`, its last
    beat's place in the 4 KiB page, which is also the first one's; whether it is the `first` of its
    run and the one that `ends` it; and the `tag` of whoever asks."""
    return data.StructLayout({
        "offset": offset_bits(arch) - _beat_bits(arch),
        "last": (PAGE_BYTES // arch.beat_bytes - 1).bit_length(),
        "first": 1, "ends": 1, "tag": tag})


def length_bits(arch: Arch) -> int:
    """Bits of a burst's beats less one: as long as bursts may be, or what ends a program."""
    longest = max(burst_limit(arch), last_beats(arch))
    return (longest - 1).bit_length()


class Bursts(wiring.Component):
    """Cuts runs into bursts, which end at multiples of `timing.burst_limit` beats and at the end of
    the run.

    Timing: of a run that is taken in cycle t, the first burst is at `o` from cycle t + 2 on; the
    next one two cycles after the one before was taken. The next run can be taken in the cycle in
    which the last burst is.

    Parameters
    ----------
    arch : Arch
    run_bits : int
        Width of a run's number of beats.
    tag : StructLayout
        What goes along with each burst of a run.

    Members
    -------
    run : In(stream)
        `offset` of the first beat from the window's start, in beats; `beats`, 1 or more; `tag`.
    o : Out(stream of burst_layout)
    busy : Out(1)
        Bursts of a run are still to be taken.
    """

    def __init__(self, *, arch: Arch, run_bits: int, tag: data.StructLayout) -> None:
        self.arch = arch
        layout = burst_layout(arch, tag)
        super().__init__({
            "run": In(stream.Signature(data.StructLayout({
                "offset": layout["offset"].width, "beats": run_bits, "tag": tag}))),
            "o": Out(stream.Signature(layout)),
            "busy": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        run, o = self.run, self.o
        limit_bits = (burst_limit(self.arch) - 1).bit_length()
        offset_bits, page_bits = len(o.payload.offset), len(o.payload.last)

        # The burst's first beat: its place in the block of so many beats as a burst may have, and
        # the number of the block.
        low = Signal(limit_bits, reset_less=True)
        block = Signal(offset_bits - limit_bits, reset_less=True)
        # Where the run ends, excluding: a place in a block, and how many blocks from here.
        end = Signal(max(limit_bits, len(run.payload.beats)) + 1)
        end_low = Signal(limit_bits, reset_less=True)
        blocks = Signal(len(end) - limit_bits, reset_less=True)
        # What follows from these, a cycle later.
        settled = Signal()
        last_low = Signal(limit_bits, reset_less=True)
        ends = Signal(reset_less=True)
        first = Signal(reset_less=True)
        tag = Signal.like(run.payload.tag, reset_less=True)

        taken = Signal()
        m.d.comb += [
            taken.eq(o.valid & o.ready),
            run.ready.eq(~self.busy | (taken & ends)),
            end.eq(run.payload.offset[:limit_bits] + run.payload.beats),
            o.valid.eq(settled),
            o.payload.offset.eq(Cat(low, block)),
            o.payload.last.eq(Cat(last_low, block)[:page_bits]),
            o.payload.first.eq(first),
            o.payload.ends.eq(ends),
            o.payload.tag.eq(tag),
        ]
        m.d.sync += [
            ends.eq((blocks == 0) | ((blocks == 1) & (end_low == 0))),
            last_low.eq(Mux(blocks == 0, end_low - 1, -1)),
        ]
        # Whatever `run` has is taken over while there is room: whether it is valid is known late.
        with m.If(run.ready):
            m.d.sync += [
                self.busy.eq(run.valid), settled.eq(0), first.eq(1),
                Cat(low, block).eq(run.payload.offset),
                Cat(end_low, blocks).eq(end),
                tag.eq(run.payload.tag),
            ]
        with m.Elif(taken):
            m.d.sync += [
                settled.eq(0), first.eq(0),
                low.eq(0), block.eq(block + 1), blocks.eq(blocks - 1),
            ]
        with m.Else():
            m.d.sync += settled.eq(self.busy)
        return m


class Outside(wiring.Component):
    """Whether a burst lies outside the window, and where it is on the bus.

    A burst stays within a page, so the last beat's offset needs no adder; and as the window begins
    with a page, neither do the low bits of the address.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    offset, last : In
        As of `burst_layout`.
    window_base, window_size : In(32)
        Base (a multiple of 4096) that is added to offsets, and bytes in the window.
    outside : Out(1)
        Its last byte is not inside the window.
    address : Out(32)
        Of its first beat.
    length : Out(length_bits(arch))
        Its beats less one.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        burst = burst_layout(arch, data.StructLayout({}))
        super().__init__({
            "offset": In(burst["offset"].shape), "last": In(burst["last"].shape),
            "window_base": In(32), "window_size": In(32),
            "outside": Out(1), "address": Out(32), "length": Out(length_bits(arch)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat_bits, place_bits = _beat_bits(self.arch), len(self.last)
        page, length = self.offset[place_bits:], len(self.length)
        # The sign of a difference takes less time than a comparison, which Yosys builds upon one.
        bits, address_bits = offset_bits(self.arch), self.arch.address_bits
        beyond = Signal(bits + 1 - beat_bits)
        base = self.window_base[beat_bits + place_bits:]
        m.d.comb += [
            beyond.eq(Cat(self.last, page) - self.window_size[beat_bits:bits]),
            # where offsets have a bit more than addresses, it must be 0
            self.outside.eq(~beyond[-1] | self.offset[address_bits - beat_bits:].any()),
            # ... and there the window begins at 0
            self.address.eq(Cat(Const(0, beat_bits), self.offset[:place_bits],
                                page + base if has_window_base(self.arch) else page)),
            self.length.eq(self.last[:length] - self.offset[:length]),
        ]
        return m
