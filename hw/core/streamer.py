"""The affine address generator: which activation word each pixel of each pass reads."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa

__all__ = ["PixelStreamer"]

_LAYOUT = isa.layout(isa.Opcode.ARRAY)


class PixelStreamer(wiring.Component):
    """Walks through the passes (kernel_y, kernel_x, blocks) and pixels (out_y, out_x, pool_y,
    pool_x) of one ARRAY instruction, one pixel per `step`.

    Coordinates are kept scaled to words, so that address and window test need no multiplier:
    x and y each have a value at the pass's first pixel, at the pixel row's, and now.

    Members
    -------
    start : In(1)
        Take `instruction` and stand at its first pixel from the next cycle on.
    instruction : In(ARRAY layout)
        Read in the cycle of `start` and kept.
    step : In(1)
        Go on to the next pixel. Not to be given together with `start`, but in the last one.
    first_pixel, last_pixel : Out(1)
        The present pixel is the pass's first, its last.
    last_tap, last_column : Out(1)
        It is the last of the loops pool_y and pool_x, of these and out_x.
    first_pass, last_pass : Out(1)
        The present pass is the instruction's first, its last.
    address : Out(as base)
        The activation word, one cycle after the others; where padding is replicated, that of the
        nearest pixel.
    inside : Out(1)
        0: the pixel is padding, the address means nothing.
    fields : Out(ARRAY layout)
        The instruction that is kept.
    """

    def __init__(self) -> None:
        super().__init__({
            "start": In(1), "instruction": In(_LAYOUT), "step": In(1),
            "first_pixel": Out(1), "last_pixel": Out(1),
            "last_tap": Out(1), "last_column": Out(1), "first_pass": Out(1), "last_pass": Out(1),
            "address": Out(_LAYOUT["base"].shape), "inside": Out(1), "fields": Out(_LAYOUT),
        })

    def elaborate(self, platform):
        m = Module()
        kept = Signal(_LAYOUT, reset_less=True)
        m.d.comb += self.fields.eq(kept)

        loops = ("pool_x", "pool_y", "out_x", "out_y", "blocks", "kernel_x", "kernel_y")
        left, last = {}, {}
        for name in loops:                      # how many steps are still to come
            left[name] = Signal(kept[name].shape(), name=f"{name}_left", reset_less=True)
            last[name] = Signal(name=f"{name}_last")
            m.d.comb += last[name].eq(left[name] == 0)
        pixel_done = Signal()
        m.d.comb += [
            self.last_tap.eq(last["pool_x"] & last["pool_y"]),
            self.last_column.eq(self.last_tap & last["out_x"]),
            pixel_done.eq(self.last_column & last["out_y"]),
            self.last_pixel.eq(pixel_done),
            self.last_pass.eq(last["blocks"] & last["kernel_x"] & last["kernel_y"]),
        ]
        first_pixel = Signal(reset_less=True)
        first_pass = Signal(reset_less=True)
        m.d.comb += [self.first_pixel.eq(first_pixel), self.first_pass.eq(first_pass)]

        y_pass, y_row, y = (Signal(_LAYOUT["y_start"].shape, name=n, reset_less=True)
                            for n in ("y_pass", "y_row", "y"))
        x_pass, x_row, x = (Signal(_LAYOUT["x_start"].shape, name=n, reset_less=True)
                            for n in ("x_pass", "x_row", "x"))
        base = Signal(_LAYOUT["base"].shape, reset_less=True)
        # The nearest pixel: a comparison takes as long as a sum, so the selection that depends on
        # it is made in the next cycle, from registered candidates. Negative coordinates are large
        # as unsigned numbers.
        y_outside, x_outside = (Signal(name=f"{n}_outside") for n in "yx")
        y_behind, x_behind = (Signal(name=f"{n}_behind", reset_less=True) for n in "yx")
        row, last_row = (Signal.like(base, name=n) for n in ("row", "last_row"))
        column, last_column = (Signal(_LAYOUT["x_last"].shape, name=n, reset_less=True)
                               for n in ("column", "last_column"))
        m.d.comb += [
            y_outside.eq(y.as_unsigned() > kept.y_last),
            x_outside.eq(x.as_unsigned() > kept.x_last),
            self.inside.eq(kept.replicate | ~(y_outside | x_outside)),
            self.address.eq(Mux(y_behind, last_row, row) + Mux(x_behind, last_column, column)),
        ]
        m.d.sync += [
            y_behind.eq(y_outside & ~y[-1]), row.eq(base + Mux(y[-1], 0, y)),
            last_row.eq(base + kept.y_last),
            x_behind.eq(x_outside & ~x[-1]), column.eq(Mux(x[-1], 0, x)),
            last_column.eq(kept.x_last),
        ]

        def restart(source, *names):
            return [left[name].eq(source[name] - 1) for name in names]

        with m.If(self.step):
            m.d.sync += first_pixel.eq(pixel_done)
            with m.If(~last["pool_x"]):
                m.d.sync += [left["pool_x"].eq(left["pool_x"] - 1), x.eq(x + kept.stride_px)]
            with m.Elif(~last["pool_y"]):
                m.d.sync += [left["pool_y"].eq(left["pool_y"] - 1), *restart(kept, "pool_x"),
                             x.eq(x_row), y.eq(y + kept.stride_py)]
            with m.Elif(~last["out_x"]):
                x_next = x_row + kept.stride_ox
                m.d.sync += [left["out_x"].eq(left["out_x"] - 1),
                             *restart(kept, "pool_x", "pool_y"),
                             x_row.eq(x_next), x.eq(x_next), y.eq(y_row)]
            with m.Elif(~last["out_y"]):
                y_next = y_row + kept.stride_oy
                m.d.sync += [left["out_y"].eq(left["out_y"] - 1),
                             *restart(kept, "pool_x", "pool_y", "out_x"),
                             x_row.eq(x_pass), x.eq(x_pass), y_row.eq(y_next), y.eq(y_next)]
            with m.Else():
                m.d.sync += [*restart(kept, "pool_x", "pool_y", "out_x", "out_y"),
                             first_pass.eq(0)]
                with m.If(~last["blocks"]):
                    m.d.sync += [left["blocks"].eq(left["blocks"] - 1),
                                 base.eq(base + kept.stride_block),
                                 x_row.eq(x_pass), x.eq(x_pass), y_row.eq(y_pass), y.eq(y_pass)]
                with m.Elif(~last["kernel_x"]):
                    x_next = x_pass + kept.stride_kx
                    m.d.sync += [left["kernel_x"].eq(left["kernel_x"] - 1),
                                 *restart(kept, "blocks"), base.eq(kept.base),
                                 x_pass.eq(x_next), x_row.eq(x_next), x.eq(x_next),
                                 y_row.eq(y_pass), y.eq(y_pass)]
                with m.Else():
                    y_next = y_pass + kept.stride_ky
                    m.d.sync += [left["kernel_y"].eq(left["kernel_y"] - 1),
                                 *restart(kept, "blocks", "kernel_x"), base.eq(kept.base),
                                 x_pass.eq(kept.x_start), x_row.eq(kept.x_start),
                                 x.eq(kept.x_start),
                                 y_pass.eq(y_next), y_row.eq(y_next), y.eq(y_next)]
        with m.If(self.start):
            new = self.instruction
            m.d.sync += [
                kept.eq(new), *restart(new, *loops), base.eq(new.base),
                x_pass.eq(new.x_start), x_row.eq(new.x_start), x.eq(new.x_start),
                y_pass.eq(new.y_start), y_row.eq(new.y_start), y.eq(new.y_start),
                first_pixel.eq(1), first_pass.eq(1),
            ]
        return m
