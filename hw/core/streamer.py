"""The affine address generator: which activation word each pixel of each pass reads."""

from functools import reduce
from itertools import product
from operator import and_, or_

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.widths import payload

from .unit import keep

__all__ = ["PixelStreamer"]

#: ARRAY's `side` where all steps of the kernel are one pass, each in rows of its own.
_ROWS = 3
#: From the innermost to the outermost.
_LOOPS = ("pool_x", "pool_y", "out_x", "out_y", "blocks", "kernel_x", "kernel_y")


class PixelStreamer(wiring.Component):
    """Walks through the passes (kernel_y, kernel_x, blocks) and pixels (out_y, out_x, pool_y,
    pool_x) of ARRAY instructions, one pixel a cycle, but for each pass's first one, which waits for
    `enter`.

    An instruction begins when it is `ready`, at the earliest with the last step of the one before
    it, or, if that one's passes have one pixel, in the next cycle. Its own first step may be in the
    cycle after it has begun. A step only counts the loops; coordinates
    follow one cycle later and the address another one.
    Coordinates are kept scaled to words, so that address and window test need no multiplier:
    x and y each have a value at the pass's first pixel, at the pixel row's, and now.

    Parameters
    ----------
    arch : Arch
        Its activation memory is addressed.

    Members
    -------
    instruction : In(widths.payload of ARRAY)
        Must be there from the cycle before `begin` until the one after it; on chips without
        prefetch, until the one after its last step.
    ready : In(1)
        It may begin.
    enter : In(2)
        If the present pixel is its pass's first, go on to the next one, where one bit is set.
    begin : Out(1)
        `instruction` begins: it is the present one from the next cycle on.
    running : Out(1)
        There is a present instruction, and a present pixel.
    step : Out(1)
        In the next cycle, the next pixel is the present one.
    finish : Out(1)
        And there is none, or that of the next instruction.
    first_pixel, last_pixel : Out(1)
        The present pixel is the pass's first, its last.
    last_tap, last_column : Out(1)
        It is the last of the loops pool_y and pool_x, of these and out_x.
    first_pass, last_pass : Out(1)
        The present pass is the instruction's first, its last.
    inside : Out(1)
        Two cycles after the flags. 0: the pixel is padding, the address means nothing.
    address : Out(range(activation_depth))
        The activation word, with `inside`; where padding is replicated, that of the nearest pixel.
        On chips with banks there is one for each bank, a cycle later.
    inside_banks : Out(banks)
        A cycle after `address`, on chips with banks: `inside` for the pixel of each bank.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        super().__init__({
            "instruction": In(payload(arch, isa.Opcode.ARRAY)), "ready": In(1), "enter": In(2),
            "begin": Out(1), "running": Out(1), "step": Out(1), "finish": Out(1),
            "first_pixel": Out(1), "last_pixel": Out(1),
            "last_tap": Out(1), "last_column": Out(1), "first_pass": Out(1), "last_pass": Out(1),
            "inside": Out(1), **({"address": Out(range(arch.activation_depth))}
                                 if arch.banks == 1 else {
                "address": Out(data.ArrayLayout(range(arch.activation_depth), arch.banks)),
                "inside_banks": Out(arch.banks)}),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        moves = self._elaborate_loops(m)
        self._elaborate_coordinates(m, moves)
        return m

    def _elaborate_loops(self, m):
        """Counts the loops. Returns what that does to the coordinates, one cycle later: for each
        loop whether it has gone on; "begin"; and whether x and y begin "x to row" again, "x to
        pass", "x to start" and so on."""
        new = self.instruction
        m.d.comb += [
            self.step.eq(self.running & (~self.first_pixel | self.enter.any())),
            self.finish.eq(self.step & self.last_pixel & self.last_pass),
            # after a pass of one pixel a cycle later, which keeps `enter` out of a long path
            self.begin.eq(self.ready & (~self.running | (
                ~self.first_pixel & self.last_pixel & self.last_pass))),
        ]
        with m.If(self.begin | self.finish):
            m.d.sync += self.running.eq(self.begin)
        last, moves, touched = {}, {}, {}
        reached = self.step             # the loop goes on, or starts again
        for name in _LOOPS:
            count = keep(m, self.arch, self.begin, new[name], name)
            # the number of the next
            following = Signal(new[name].shape(), name=f"{name}_following")
            last[name] = Signal(name=f"{name}_last", reset_less=True)
            new_single, single = (Signal(name=f"{name}_{what}", reset_less=True)
                                  for what in ("new_single", "single"))
            moves[name] = Signal(name=f"{name}_moved", reset_less=True)
            touched[name] = reached
            one = new[name] == 1
            if self.arch.banks > 1 and name.startswith("kernel"):
                one |= new.side == _ROWS        # all its steps are one pass
            m.d.sync += [new_single.eq(one), moves[name].eq(reached & ~last[name])]
            with m.If(self.begin):
                m.d.sync += [single.eq(new_single), last[name].eq(new_single)]
            with m.Elif(reached):
                m.d.sync += last[name].eq(Mux(last[name], single, following == count))
            with m.If(self.begin | (reached & last[name])):
                m.d.sync += following.eq(2)
            with m.Elif(reached):
                m.d.sync += following.eq(following + 1)
            reached = reached & last[name]

        def gone(first, *others):
            """One of these loops, which follow each other outward, goes on."""
            return touched[first] & ~reduce(and_, (last[name] for name in (first, *others)))
        for what, value in (
                ("begin", self.begin),
                ("x to row", gone("pool_y", "out_x")),
                ("x to pass", gone("out_y", "blocks", "kernel_x")),
                ("x to start", touched["kernel_y"] | self.begin),
                ("y to row", gone("out_x", "out_y")),
                ("y to pass", gone("blocks", "kernel_x", "kernel_y"))):
            moves[what] = Signal(name=what.replace(" ", "_"), reset_less=True)
            m.d.sync += moves[what].eq(value)
        moves["y to start"] = moves["begin"]
        m.d.comb += [
            self.last_tap.eq(last["pool_x"] & last["pool_y"]),
            self.last_column.eq(self.last_tap & last["out_x"]),
            self.last_pixel.eq(self.last_column & last["out_y"]),
            self.last_pass.eq(last["blocks"] & last["kernel_x"] & last["kernel_y"]),
        ]
        with m.If(self.begin):
            m.d.sync += [self.first_pixel.eq(1), self.first_pass.eq(1)]
        with m.Elif(self.step):
            m.d.sync += self.first_pixel.eq(self.last_pixel)
            with m.If(self.last_pixel):
                m.d.sync += self.first_pass.eq(0)
        return moves

    def _elaborate_coordinates(self, m, moves):
        new, begins = self.instruction, moves["begin"]
        # Where passes begin is needed in the cycle after `begin`, the rest from the next one on.
        early, late = ({name: keep(m, self.arch, when, new[name], name)
                        for name in names} for when, names in (
            (self.begin, ("base", "x_start", "y_start")),
            (begins, ("stride_px", "stride_ox", "stride_kx", "stride_py", "stride_oy", "stride_ky",
                      "stride_block", "x_last", "y_last", "replicate",
                      *(("side", "height", "kernel_x") if self.arch.banks > 1 else ())))))

        def walk(axis):
            """A coordinate: it begins again at its value of the row, of the pass or of the
            instruction, or goes on from there or from where it is, in one adder."""
            now, row, first = (Signal(new[f"{axis}_start"].shape(), name=f"{axis}{of}",
                                      reset_less=True) for of in ("", "_row", "_pass"))
            origin, by, reached = (Signal.like(now, name=f"{axis}_{what}")
                                   for what in ("origin", "by", "next"))
            to_row, to_pass, to_start = (moves[f"{axis} to {what}"]
                                         for what in ("row", "pass", "start"))
            m.d.comb += [
                origin.eq(_one_of((to_start, early[f"{axis}_start"]), (to_pass, first),
                                  (to_row, row), (moves[f"pool_{axis}"], now))),
                by.eq(_one_of(*((moves[name], late[f"stride_{name[0]}{axis}"])
                                for name in (f"pool_{axis}", f"out_{axis}", f"kernel_{axis}")))),
                reached.eq(origin + by),
            ]
            with m.If(to_start | to_pass | to_row | moves[f"pool_{axis}"]):
                m.d.sync += now.eq(reached)
            with m.If(to_start | to_pass | moves[f"out_{axis}"]):
                m.d.sync += row.eq(reached)
            with m.If(to_start | moves[f"kernel_{axis}"]):
                m.d.sync += first.eq(reached)
            return now
        x, y = walk("x"), walk("y")
        base = Signal(range(self.arch.activation_depth), name="base_now", reset_less=True)
        with m.If(moves["kernel_x"] | moves["x to start"]):
            m.d.sync += base.eq(early["base"])
        with m.Elif(moves["blocks"]):
            m.d.sync += base.eq(base + late["stride_block"])

        # The nearest pixel. Negative coordinates are large as unsigned numbers.
        outside = {axis: Signal(name=f"{axis}_outside") for axis in "xy"}
        nearest = {axis: Signal.like(base, name=f"{axis}_nearest") for axis in "xy"}
        base_then = Signal.like(base)
        for axis, value in (("x", x), ("y", y)):
            m.d.comb += outside[axis].eq(value.as_unsigned() > late[f"{axis}_last"])
            with m.If(value[-1] if self.arch.banks == 1 else value[-1] & (late["side"] != _ROWS)):
                m.d.sync += nearest[axis].eq(0)
            with m.Else():
                beyond = outside[axis]
                if self.arch.banks > 1:         # other banks may see pixels of the map
                    beyond = beyond & (late["side"] != _ROWS)
                m.d.sync += nearest[axis].eq(Mux(beyond, late[f"{axis}_last"], value))
        m.d.sync += [base_then.eq(base),
                     self.inside.eq(late["replicate"] | ~(outside["x"] | outside["y"]))]
        address = base_then + nearest["y"] + nearest["x"]
        if self.arch.banks == 1:
            m.d.comb += self.address.eq(address)
        else:
            self._elaborate_banks(m, late, {"x": x, "y": y}, address)

    def _elaborate_banks(self, m, late, coordinates, address):
        """Each bank's address and window test: those of the pixel, moved by as many steps of the
        kernel as its rows have. `address` is that of the pixel, two cycles after its decision."""
        arch = self.arch
        first = Signal(range(arch.activation_depth), name="address_now", reset_less=True)
        m.d.sync += first.eq(address)

        def after(value, name):
            register = Signal.like(value, name=name, reset_less=True)
            m.d.sync += register.eq(value)
            return register
        # What is kept of the instruction comes to each stage as late as the pixels do.
        moved: dict[str, list[Value]] = {}
        outside: dict[str, list[Value]] = {}
        for axis in "xy":
            stride = late[f"stride_k{axis}"]
            # (a product would be a DSP block)
            multiples = [after(value, f"{axis}_times_{number}") for number, value in enumerate(
                (stride, stride << 1, (stride << 1) + stride), 1)]
            moved[axis] = [Const(0, 1), *multiples]
            then = after(coordinates[axis], f"{axis}_then")
            last = after(after(late[f"{axis}_last"], f"{axis}_last_then"), f"{axis}_last_late")
            outside[axis] = []
            for number, by in enumerate(moved[axis]):
                there = Signal.like(then, name=f"{axis}_of_{number}", reset_less=True)
                m.d.sync += there.eq(then + by)
                outside[axis].append(there.as_unsigned() > last)
        replicate = after(after(late["replicate"], "replicate_then"), "replicate_late")
        for bank in range(arch.banks):
            steps = self._steps(bank, len(late["kernel_x"]))
            # of 0 to 3 steps, those that this bank's rows may have
            down, across = ([0, *sorted({step[n] for step in steps.values()} - {0})]
                            for n in range(2))
            y, x = self._chosen(m, late, bank, steps, down, across)
            offset = Signal.like(first, name=f"offset_{bank}", reset_less=True)
            m.d.sync += offset.eq(_of(moved["y"], down, y) + _of(moved["x"], across, x))
            y, x = after(y, f"down_{bank}_late"), after(x, f"across_{bank}_late")
            m.d.comb += self.address[bank].eq(first + offset)
            m.d.sync += self.inside_banks[bank].eq(replicate | ~(
                _of(outside["y"], down, y) | _of(outside["x"], across, x)))

    def _steps(self, bank, bits):
        """{(height, kernel_x of so many bits): steps of kernel_y and of kernel_x that a bank's rows
        have} of instructions that this chip executes (`hw/spec/legality.py`)."""
        found = {}
        for height, width in product((1, 2, 4, 8), (1, 2, 3, 4)):
            y, x = divmod(bank // height, width)
            if y < 4 and width.bit_length() <= bits and height * width <= self.arch.banks:
                found[height, width] = y, x
        return found

    def _chosen(self, m, late, bank, steps, down, across):
        """Which of the steps in `down` and `across` a bank's rows have, registered; 0 where all
        rows see the same pixel."""
        y, x = (Signal(range(len(of)), name=f"{name}_{bank}", reset_less=True)
                for name, of in (("down", down), ("across", across)))
        m.d.sync += [y.eq(0), x.eq(0)]
        with m.If(late["side"] == _ROWS):
            with m.Switch(Cat(late["height"], late["kernel_x"][:3])):
                for (height, width), (by_y, by_x) in steps.items():
                    with m.Case(height | width << len(late["height"])):
                        m.d.sync += [y.eq(down.index(by_y)), x.eq(across.index(by_x))]
        return y, x


def _of(values, places, number):
    """The one of `values` whose place has this number in `places`."""
    some = [values[place] for place in places]
    return Array(some)[number] if len(some) > 1 else some[0]


def _one_of(*choices):
    """The value whose condition holds; 0 where none does. No two hold."""
    return reduce(or_, (value & condition.replicate(len(value)) for condition, value in choices))
