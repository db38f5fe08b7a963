"""Random POST instructions, for the unit and its parts."""

from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Destination, Opcode, Pooling
from systolith.hw.spec.loops import group_field
from systolith.hw.spec.widths import payload, payload_bits
from systolith.sim.machine.access import AccessError, check
from systolith.sim.random.fields import combination, operand_fields

__all__ = ["fields_value", "layout_value", "random_post"]


def layout_value(instruction, arch):
    """The instruction as units get it."""
    return payload(arch, instruction.opcode).from_bits(
        payload_bits(arch, instruction.opcode, instruction.encode()))


def fields_value(instruction, layout):
    """What `layout` takes of the instruction."""
    return {name: instruction.fields[name] for name, _ in layout}


def random_post(draw, arch, **fixed):
    """A POST instruction that `arch` can execute; `fixed` fields are as given."""
    while True:
        pooling = fixed.get("pooling", draw.choice(list(Pooling)))
        raw = fixed.get("raw", pooling == Pooling.LARGEST and draw.random() < 0.3)
        pool_x, pool_y = (1, 1) if raw else (draw.randint(1, 3), draw.randint(1, 3))
        out_x = draw.randint(1, 3)
        stride_x = draw.randint(1, 2)
        fields = {
            "accumulator": draw.randrange(8), "out_y": draw.randint(1, 3), "out_x": out_x,
            "pool_x": pool_x, "pool_y": pool_y, "row": draw.randrange(9),
            "jump": draw.randint(-pool_x, 3), "turn": draw.randrange(9), "pooling": pooling,
            "group": group_field(
                draw.randrange(arch.groups_per_columns),
                arch.chunks if raw or pooling in (Pooling.CARRIED, Pooling.LEAD)
                else draw.randint(1, arch.chunks), arch), "raw": raw,
            "parameters": draw.randrange(arch.parameter_depth - arch.chunks + 1),
            "destination": Destination.STORE if raw else draw.choice(
                list(Destination) if arch.operand_depth else [0, 1]),
            "base": draw.randrange(8), "copy_base": draw.randrange(8),
            "stride_x": stride_x, "stride_y": draw.randint(0, 1) + out_x * stride_x,
            "slot": draw.randrange(arch.groups_per_word), **_numbers(draw, arch, raw)} | fixed
        instruction = Instruction(Opcode.POST, fields, layer=draw.randrange(4096))
        try:
            check(instruction, arch)
        except AccessError:
            continue
        return instruction


def _numbers(draw, arch, raw):
    """Fields of rounding, of the operand and of the table."""
    bottom, top = arch.activation.ordered_range
    low, high = sorted(draw.randint(bottom, top) for _ in range(2))
    if draw.random() < 0.5 or arch.activation.binary:
        low, high = bottom, top
    fields = {"low": low, "high": high,
              "zero_point": 0 if arch.activation.floating else draw.randint(low, high)}
    if arch.operand_depth and not raw and draw.random() < 0.5:
        mine, shift, first = operand_fields(arch, draw)
        fields |= mine | {"operand": combination(mine), "operand_shift": shift,
                          "first_low": first[0], "first_high": first[1],
                          "operand_ties": draw.randrange(4), "broadcast": draw.randrange(2),
                          "operand_base": draw.randrange(8, 16)}
    if arch.table_depth and not raw:
        fields["table"] = draw.randrange(2)
    return fields
