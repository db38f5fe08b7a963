"""Programs that give fields of instructions every value that a chip executes, as far as they can.

Random programs seldom draw the ends of wide fields, and some pairs of values. Here a short random
program comes first; then instructions of it come again with one field changed, for each value
(`bins`) that has not been there, where what they read is known.
"""

from collections.abc import Callable, Iterator

from systolith.hw.spec import loops
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import OPCODES, Destination, Opcode
from systolith.hw.spec.legality import executes
from systolith.hw.spec.memories import Space
from systolith.hw.spec.program import Program
from systolith.sim.machine.access import AccessError, accesses, check, words

from .bins import bins
from .fields import limits
from .programs import STEPS, _Writer

__all__ = ["program_of_values"]

#: Instructions that are drawn before fields are changed, and that a program has at most.
_DRAWN, _MOST = 48, 130
#: Bits of a byte address up to which data stand in the upper half of what the chip addresses.
_SHORT_ADDRESS = 18
#: Fields that say how many sums are added up, or how items are counted, and stay.
_KEPT = {"accumulate", "double", "planes", "signs", "side", "narrow", "destination", "raw"}
#: Fields of a LOAD, besides its counts, that say what it reads.
_READ = ("memory", "address", "row_stride", "word_beats", "step_even", "step_odd", "spare")


def program_of_values(arch: Arch, seed: int,
                      synchronize: Callable[[list, Arch], list]) -> Program:
    """A Program of at most some 130 instructions; see `random_program`, whose arguments it has."""
    return _Values(arch, seed, _MOST).program(synchronize)


class _Values(_Writer):
    """A random program that becomes one of many values."""

    def __init__(self, arch, seed, instructions):
        super().__init__(arch, seed, instructions)
        self.apart = None                       # what `taps_in_rows` says, if not None
        if arch.address_bits <= _SHORT_ADDRESS:
            self.window += max(0, (1 << arch.address_bits - 1) - self.free)
            self.free = max(self.free, 1 << arch.address_bits - 1)

    def fill(self, limit):
        super().fill(min(_DRAWN, limit))
        for shape in self.shapes():
            self.apart = shape
            for _ in range(100):
                sums = self.sums.copy()
                if self.add_array(False):
                    code = self.instructions[-1]
                    if (code.side, code.height, code.kernel_y, code.kernel_x) == (3, *shape):
                        break
                    self.instructions.pop()
                    self.sums = sums
        self.apart = None
        met: set[tuple[Opcode, str, str]] = set()
        for code in self.instructions:
            self.note(code, met)
        # sums that changed ARRAYs write mean nothing to others, so that these come last
        order = [Opcode.POST, Opcode.LOAD, Opcode.ARRAY, Opcode.STORE]
        for code in sorted(self.instructions, key=lambda code: order.index(code.opcode)):
            for changed in self.changes(code, met):
                if len(self.instructions) < limit and self.append(changed):
                    self.note(changed, met)

    def shapes(self):
        """(parts of the rows, kernel_y, kernel_x) of all sizes that taps in rows may have."""
        if not executes(self.arch, Opcode.ARRAY, "side", 3):
            return
        for parts in (1, 2, 4, 8):
            for across in range(1, min(4, self.arch.banks // parts) + 1):
                yield parts, min(4, self.arch.banks // parts // across), across

    def taps_in_rows(self):
        return self.apart or super().taps_in_rows()

    def from_above(self, fields):
        super().from_above(fields)
        if self.ends.random() < 0.3:            # as many results begin as a pixel column can
            fields |= dict(pool_y=15, start_y=1, starts=self.ends.randint(8, 15))

    def note(self, code, met):
        met |= {(code.opcode, name, value)
                for name, (_, value) in bins(code, self.arch).items()}

    def changes(self, code, met) -> Iterator[Instruction]:
        """The instruction with one field of another value, of which nothing is `met` yet."""
        if code.opcode == Opcode.STORE or getattr(code, "destination", 0) == Destination.STORE:
            return                              # their items meet in a queue
        for item in (item for item in bins(code, self.arch).items() if item[0] in code.fields):
            name, (names, _) = item
            if name in _KEPT:
                continue
            for wanted in sorted(names):
                for value in self.values(code, name, wanted):
                    # (a single word has room at the end of a memory)
                    for more in ({}, {"rows": 1, "words": 1})[:1 + (name == "base")]:
                        if (code.opcode, name, wanted) not in met and not more.keys() - code.fields:
                            yield Instruction(code.opcode, code.fields | {name: value} | more,
                                              layer=code.layer)

    def values(self, code, name, wanted):
        """Some values of a field that `bins` calls `wanted`."""
        if wanted.lstrip("-").isdecimal():
            return [int(wanted)]
        field = next(item for item in OPCODES[code.opcode] if item.name == name)
        ends = limits(code, field, self.arch)
        assert ends is not None                 # its values have names of ends
        low, high = ends
        return {"least": [low, -(-low // 2)], "most": [high, (high + 1) // 2],
                "between": [low + 1, (low + high) // 2, high - 1]}[wanted]

    def known(self, code, access):
        """Whether the words that an instruction reads hold what they have to."""
        if access.space == Space.EXTERNAL:
            end = access.high * self.arch.beat_bytes
            if end > min(1 << self.arch.address_bits, max(self.window, 1 << _SHORT_ADDRESS)):
                return False
            self.window = max(self.window, end)
            return self.all_numbers or any(
                code.rows <= other.rows and code.words <= other.words and all(
                    code.fields[name] == other.fields[name] for name in _READ)
                for other in self.instructions if other.opcode == Opcode.LOAD)
        known = {Space.ACTIVATION: self.slots, Space.OPERAND: self.operands,
                 Space.WEIGHT: self.weights, Space.PARAMETER: self.parameters,
                 Space.TABLE: self.table, Space.POOL: self.pool, Space.ACCUMULATOR: self.sums > 0}
        return known[access.space][words(access.intervals)].all()

    def append(self, code):
        """Append an instruction if it is legal and reads what is known; whether that is so."""
        arch = self.arch
        try:
            check(code, arch)
        except (AccessError, ValueError):
            return False
        found = accesses(code, arch)
        if code.fields.get("pad_code", 0) not in self.codes or not all(
                self.known(code, access) for access in found if not access.is_write):
            return False
        if code.opcode == Opcode.ARRAY:
            terms = loops.passes(code) * max(arch.vector, arch.pass_terms) << (
                arch.weight.width * (code.double and arch.wide_weights)) << (
                    arch.prepared_scales and loops.passes(code) > 1)
            if code.starts and loops.begins(code).max() + arch.rows > loops.pixels(code):
                return False                    # rows would multiply what is not there
            if code.accumulate or loops.pixels(code) * loops.passes(code) > STEPS or (
                    arch.accumulator is None and terms > max(arch.largest_k, arch.vector)):
                return False
            for access in found:                # no other instruction counts on them
                if access.space == Space.ACCUMULATOR:
                    self.sums[words(access.intervals)] = 0
        self.instructions.append(code)
        return True
