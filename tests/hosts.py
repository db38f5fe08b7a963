"""Made-up host parts of programs, one value in every field."""

from dataclasses import replace

from systolith.hw.spec.arch import Arch
from systolith.hw.spec.host import ArrayView, Axis, Box, Host, Layer
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Opcode
from systolith.hw.spec.program import Program

_AXIS = Axis(size=4, kernel=1, stride=1, dilation=1, pad=0, pool=1, out=4, step=1, margin=0,
             pixels=4)
_LAYER = Layer(
    name="conv", nodes=("Conv_0",), kind="conv", macs=100, input="a", output="b",
    input_shape=(4, 4, 4), output_shape=(4, 4, 4), kernel=(1, 1), stride=(1, 1), dilation=(1, 1),
    pads=(0, 0, 0, 0), pool=(1, 1), pool_stride=(1, 1), pool_pads=(0, 0, 0, 0), pool_sum=False,
    raw=False, weight_bits=128, passes=1, array_cycles=16, ideal_cycles=16, accumulator_bits=18,
    tiles=1, parts=1, input_buffers=0, loop_order="columns", column_group=1, channels=None,
    operand=None, function=None, array=ArrayView(
        images=1, y=_AXIS, x=_AXIS, in_order=True, origin=(0, 0), step=(1, 1), first_group=0,
        groups=1, above=None, passes=((Box(0, 1, 0, 1, 0, 1),),), weights=64, parameters=128,
        table=192, weight_bytes=(8,), height=1, side=0))


def stated_layer(**fields) -> Layer:
    """A layer with these fields, and others that are legal and say nothing."""
    return replace(_LAYER, **fields)


def stated(layers: int, **fields) -> Host:
    """A host part of so many equal layers, with these fields of each."""
    return Host(layers=(stated_layer(**fields),) * layers)


def smallest_program(arch: Arch, window_bytes: int = 4096) -> Program:
    """A program of one layer whose array computes 15 pixels."""
    code = [Instruction(Opcode.BEGIN), Instruction(Opcode.ARRAY, fields={"out_y": 3, "out_x": 5}),
            Instruction(Opcode.END)]
    return Program(arch, code, b"", 0, window_bytes, stated(1))
