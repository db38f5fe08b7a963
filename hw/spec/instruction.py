"""Instructions as values: their bits and bytes, assembler text, a program's checksum."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .isa import HEAD, INSTRUCTION_BYTES, OPCODES, Opcode, Unit

__all__ = ["Instruction", "assemble", "decode", "encoded", "program_sum", "sealed"]


def _places(opcode):
    """(name, lowest value, highest value, mask, first bit) of every field of an instruction."""
    position = 0
    for item in HEAD + OPCODES[opcode]:
        yield item.name, item.low, item.high, (1 << item.width) - 1, position
        position += item.width


_PLACES = {opcode: tuple(_places(opcode)) for opcode in OPCODES}
_HEAD = tuple(_PLACES[Opcode.END][:len(HEAD)])
#: (name, lowest value, highest value) of an instruction's own fields, in the order of its
#: dictionary.
_RANGES = {opcode: tuple(place[:3] for place in places[len(HEAD):])
           for opcode, places in _PLACES.items()}
_DEFAULTS = {opcode: {item.name: item.least or 0 for item in fields}
             for opcode, fields in OPCODES.items()}


@dataclass(init=False, repr=False)
class Instruction:
    """One instruction: its opcode, tokens, layer, and a value for every field of `OPCODES`, which
    is an attribute of its own as well: `i.base` is `i.fields["base"]`."""

    # The fields are the instance's dictionary, so that reading one is as fast as Python can.
    __slots__ = ("__dict__", "layer", "opcode", "signal", "wait")

    opcode: Opcode
    fields: dict[str, int]
    wait: int
    signal: int
    layer: int

    if TYPE_CHECKING:
        def __getattr__(self, name: str) -> int: ...
    else:
        @property
        def fields(self) -> dict[str, int]:
            return self.__dict__

    def __init__(self, opcode: int, fields: Mapping[str, int] | None = None, wait: int = 0,
                 signal: int = 0, layer: int = 0):
        self.opcode = opcode = Opcode(opcode)
        self.wait, self.signal, self.layer = wait, signal, layer
        values = self.__dict__
        values.update(_DEFAULTS[opcode])
        if fields:
            count = len(values)
            for name, value in fields.items():
                values[name] = int(value)
            if len(values) > count:
                unknown = min(set(fields) - set(_DEFAULTS[opcode]))
                raise ValueError(f"{opcode.name} has no field {unknown!r}; "
                                 f"it has {', '.join(_DEFAULTS[opcode])}")

    @property
    def unit(self) -> Unit | None:
        return self.opcode.unit

    def bare(self) -> "Instruction":
        """A copy without tokens."""
        copy = Instruction.__new__(Instruction)
        copy.opcode, copy.wait, copy.signal, copy.layer = self.opcode, 0, 0, self.layer
        copy.__dict__.update(self.__dict__)
        return copy

    def __repr__(self) -> str:
        return f"Instruction({self})"

    def check_ranges(self) -> None:
        """Raises ValueError for a value out of range."""
        for name, low, high, *_ in _HEAD:
            self._check_range(name, low, getattr(self, name), high)
        for (name, low, high), value in zip(_RANGES[self.opcode], self.__dict__.values(),
                                            strict=True):
            if not low <= value <= high:
                self._check_range(name, low, value, high)

    def _check_range(self, name, low, value, high):
        if not low <= value <= high:
            raise ValueError(f"{self.opcode.name}.{name} must be from {low} to {high}, not {value}")

    def encode(self) -> int:
        """The instruction as a Python integer. Raises ValueError for a value out of range."""
        self.check_ranges()
        values = [int(self.opcode), self.wait, self.signal, self.layer, *self.__dict__.values()]
        word = 0
        for (_, _, _, mask, position), value in zip(_PLACES[self.opcode], values, strict=True):
            word |= (value & mask) << position
        return word

    def to_bytes(self, size: int = INSTRUCTION_BYTES) -> bytes:
        """The instruction as `size` bytes, those after its own 0."""
        return self.encode().to_bytes(size, "little")

    def __str__(self) -> str:
        """Assembler text, which `assemble` reads back."""
        def units(mask):
            return "+".join(unit.name.lower() for unit in Unit if mask >> unit & 1)
        words = [self.opcode.name.lower()]
        if self.wait:
            words.append(f"wait={units(self.wait)}")
        if self.signal:
            words.append(f"signal={units(self.signal)}")
        if self.layer:
            words.append(f"layer={self.layer}")
        words += [f"{item.name}={self.fields[item.name]}" for item in OPCODES[self.opcode]
                  if self.fields[item.name] != (item.least or 0)]
        return " ".join(words)


def decode(word: int | bytes | bytearray | memoryview) -> Instruction:
    """The instruction in an integer or bytes, the reverse of `Instruction.encode`.

    Raises ValueError for an unknown opcode, a value out of its field's range such as a count of 0,
    or a set bit that belongs to no field.
    """
    if isinstance(word, (bytes, bytearray, memoryview)):
        word = int.from_bytes(word, "little")
    code = word & (1 << HEAD[0].width) - 1
    try:
        opcode = Opcode(code)
    except ValueError:
        raise ValueError(f"{code} is no opcode") from None
    values, position = {}, 0
    for item in HEAD + OPCODES[opcode]:
        value = word >> position & ((1 << item.width) - 1)
        if item.signed and value >> (item.width - 1):
            value -= 1 << item.width
        if not item.low <= value <= item.high:
            raise ValueError(f"{opcode.name}.{item.name} must be from {item.low} to {item.high}, "
                             f"not {value}")
        values[item.name] = value
        position += item.width
    if word >> position:
        raise ValueError(f"{opcode.name} has bits set after its last field")
    values.pop("opcode")
    return Instruction(opcode, wait=values.pop("wait"), signal=values.pop("signal"),
                       layer=values.pop("layer"), fields=values)


def assemble(text: str) -> Instruction:
    """The instruction of a line of assembler text."""
    name, *words = text.split()
    try:
        opcode = Opcode[name.upper()]
    except KeyError:
        raise ValueError(f"{name!r} is no instruction; there are "
                         f"{', '.join(op.name.lower() for op in Opcode)}") from None
    values = dict(word.split("=", 1) for word in words)

    def units(text):
        return sum(1 << Unit[unit.upper()] for unit in text.split("+")) if text else 0
    return Instruction(opcode, wait=units(values.pop("wait", "")),
                       signal=units(values.pop("signal", "")), layer=int(values.pop("layer", 0)),
                       fields={key: int(value) for key, value in values.items()})


def encoded(code: Sequence[Instruction]) -> np.ndarray:
    """The instructions in their bits: uint32 array [instructions, words], little-endian. Raises
    ValueError for a value out of range."""
    words = np.zeros((len(code), INSTRUCTION_BYTES // 8), np.uint64)
    alike: dict[Opcode, list[int]] = {}
    for number, item in enumerate(code):
        alike.setdefault(item.opcode, []).append(number)
    for opcode, numbers in alike.items():
        places = _PLACES[opcode]
        rows = [[int(item.opcode), item.wait, item.signal, item.layer, *item.fields.values()]
                for item in map(code.__getitem__, numbers)]
        try:
            # an identity has 64 bits
            values = np.array(rows, np.uint64 if opcode == Opcode.BEGIN else np.int64)
        except OverflowError:
            for number in numbers:
                code[number].check_ranges()
            raise
        low, high = ([place[n] for place in places] for n in (1, 2))
        wrong = (values < low) | (values > high)
        if wrong.any():
            code[numbers[int(np.argmax(wrong.any(axis=1)))]].check_ranges()
        values = values.view(np.uint64) & np.array([place[3] for place in places], np.uint64)
        mine = np.zeros((len(numbers), words.shape[1]), np.uint64)
        for column, (*_, mask, position) in enumerate(places):
            word, shift = divmod(position, 64)
            mine[:, word] |= values[:, column] << np.uint64(shift)
            if shift + mask.bit_length() > 64:
                mine[:, word + 1] |= values[:, column] >> np.uint64(64 - shift)
        words[numbers] = mine
    return words.astype("<u8").view("<u4")


def program_sum(code: Sequence[Instruction] | np.ndarray) -> int:
    """The sum of a program from BEGIN to END, as END's `checksum` defines it: 0 for one that is
    whole. `code` is the instructions, or what `encoded` makes of them."""
    words = code if isinstance(code, np.ndarray) else encoded(code)
    rows = np.bitwise_xor.reduce(words, axis=1).astype(np.uint64)
    # each is rotated once for every instruction after it
    turns = np.arange(len(rows) - 1, -1, -1, dtype=np.uint64) % np.uint64(32)
    turned = (rows << turns | rows >> np.uint64(32) - turns) & np.uint64(0xFFFFFFFF)
    return int(np.bitwise_xor.reduce(turned, initial=np.uint64(0)))


def sealed(code: Sequence[Instruction]) -> list[Instruction]:
    """The program with the `checksum` that belongs into its END, its last instruction."""
    *others, end = code
    total = program_sum([*others, replace(end, fields={"checksum": 0})])
    position = sum(item.width for item in HEAD)
    # the field's bits as they meet in a sum of words of 32 bits
    checksum = (total >> position | total << 32 - position) & 0xFFFFFFFF
    return [*others, replace(end, fields={"checksum": checksum})]
