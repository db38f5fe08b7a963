"""Which pixels of an ARRAY instruction begin a result, and in which accumulator word."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.legality import executes
from systolith.hw.spec.widths import payload

from .unit import keep

__all__ = ["ResultAddress"]


class ResultAddress(wiring.Component):
    """Walks along with a `PixelStreamer`.

    Every pixel is a result of its own, one word after the other, where columns take activations
    from the left. Where they take them from the top (`starts` > 0), a result begins at every
    start_x-th column of pixels, there at every start_y-th pixel of the pool_y loop, `starts` times;
    results lie in the order of a feature map `results_x` wide.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    start : In(1), instruction : In(widths.payload of ARRAY)
        Take `instruction` and stand at its first pixel from the next cycle on. On chips without
        prefetch it must stay there until the step after its last pixel's.
    step : In(1)
        Go on to the next pixel.
    last_tap, last_column, last_pixel : In(1)
        The streamer's flags of the present pixel.
    begins : Out(1)
        The present pixel begins a result.
    address : Out(range(accumulator_depth))
        Its accumulator word.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        super().__init__({
            "start": In(1), "instruction": In(payload(arch, isa.Opcode.ARRAY)), "step": In(1),
            "last_tap": In(1), "last_column": In(1), "last_pixel": In(1),
            "begins": Out(1), "address": Out(range(arch.accumulator_depth)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        new = self.instruction
        address = Signal.like(self.address, reset_less=True)
        m.d.comb += self.address.eq(address)
        has_starts = executes(self.arch, isa.Opcode.ARRAY, "starts")
        fields = {name: keep(m, self.arch, self.start, new[name], name) for name in
                  ("accumulator", *(("starts", "start_x", "start_y", "results_x")
                                    if has_starts else ()))}
        if not has_starts:
            m.d.comb += self.begins.eq(1)
            with m.If(self.step):
                m.d.sync += address.eq(Mux(self.last_pixel, fields["accumulator"], address + 1))
            with m.If(self.start):
                m.d.sync += address.eq(new.accumulator)
            return m

        # Distance to the next start, and how many are left, down and across.
        wait = {axis: Signal(new[f"start_{axis}"].shape(), name=f"{axis}_wait", reset_less=True)
                for axis in "yx"}
        left = {"y": Signal(new["starts"].shape(), name="y_left", reset_less=True),
                "x": Signal(new["results_x"].shape(), name="x_left", reset_less=True)}
        column = Signal.like(address)               # the first result of this column of pixels
        after = Signal.like(address)                # the word after the result begun last
        top = Signal.like(address)
        open_ = {axis: (wait[axis] == 0) & (left[axis] != 0) for axis in "yx"}
        from_above = fields["starts"] != 0
        m.d.comb += [self.begins.eq(~from_above | (open_["y"] & open_["x"])),
                     top.eq(Mux(self.begins, address + 1, after))]

        def restart(source, *axes):
            counts = {"y": source["starts"], "x": source["results_x"]}
            return [[wait[axis].eq(0), left[axis].eq(counts[axis])] for axis in axes]

        def advance(axis, every):
            return [wait[axis].eq(Mux(wait[axis] == 0, every - 1, wait[axis] - 1)),
                    left[axis].eq(left[axis] - open_[axis])]

        with m.If(self.step):
            m.d.sync += after.eq(top)
            with m.If(self.last_pixel):
                m.d.sync += [address.eq(fields["accumulator"]), column.eq(fields["accumulator"]),
                             *restart(fields, "y", "x")]
            with m.Elif(~from_above):
                m.d.sync += address.eq(address + 1)
            with m.Elif(self.last_column):
                m.d.sync += [address.eq(top), column.eq(top), *restart(fields, "y", "x")]
            with m.Elif(self.last_tap):
                m.d.sync += [column.eq(column + open_["x"]), address.eq(column + open_["x"]),
                             *restart(fields, "y"), *advance("x", fields["start_x"])]
            with m.Else():
                m.d.sync += [*advance("y", fields["start_y"]),
                             address.eq(address + Mux(self.begins, fields["results_x"], 0))]
        with m.If(self.start):
            m.d.sync += [address.eq(new.accumulator), column.eq(new.accumulator),
                         *restart(new, "y", "x")]
        return m
