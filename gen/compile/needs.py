"""What layers need of a chip: one row for each field of `Arch` that some layers need to be larger
than none, or that saves some of them cycles.

The compiler refuses a layer by these rows, `check` says by them which keys to change, and
`init --for` chooses a chip's units by them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Int
from systolith.hw.spec.arch import KEYS, Arch
from systolith.sim.model.conv import Conv
from systolith.sim.model.graph import Graph, Tensor

from .bias import bias_error, bias_fraction
from .narrow import multiplier_need

__all__ = ["NEEDS", "SAVINGS", "WITHOUT", "WORTH", "Need", "check_needs", "in_planes", "largest_k",
           "needed", "wide_enough"]

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Need:
    """A field of `Arch`, and what layers need of it.

    Attributes
    ----------
    field : str
    value : function of (Conv, tensors, Arch)
        The least value of the field with which the chip computes the layer; 0 or False where the
        layer needs nothing.
    what : str
        For what, as a noun in the plural.
    refusal : function of (Conv, tensors, Arch, value)
        What the layer does that this chip cannot, and the edit that mends it, as the end of a
        sentence that starts with the layer's name.
    enough : function of (Arch, value), or None
        The value to choose for a chip whose layers need `value`; None: that one.
    several : str
        Why a network with several such layers is faster with twice the value; empty: it is not.
    all_of : bool
        Whether the field is a tuple of all values that layers need, the largest first.
    turns : bool
        Whether it is a tuple of the largest value, twice where several layers take turns at it.
    """
    field: str
    value: Callable[[Conv, Tensors, Arch], int]
    what: str
    refusal: Callable[[Conv, Tensors, Arch, int], str] | None = None
    enough: Callable[[Arch, int], int] | None = None
    several: str = ""
    all_of: bool = False
    turns: bool = False

    @property
    def key(self) -> str:
        """The field's key in a chip file."""
        return KEYS[self.field].path

    def layers(self, graph: Graph, arch: Arch) -> list[Conv]:
        """The layers of a graph that need it."""
        return [conv for conv in graph.layers if self.value(conv, graph.tensors, arch)]

    def wanted(self, graph: Graph, arch: Arch) -> Any:
        """The value that serves all layers of a graph; 0, False or () where none needs it."""
        every = [self.value(conv, graph.tensors, arch) for conv in graph.layers]
        values = set(every)
        if self.turns:
            return (max(every, default=0),) * min(2, len(every) - every.count(0))
        if self.all_of:
            return tuple(sorted(values - {0}, reverse=True))
        return max(values, default=0)


def in_planes(conv: Conv, tensors: Tensors, arch: Arch) -> bool:
    """Whether a layer reads integers on a binary chip."""
    form = tensors[conv.input].format
    return arch.activation.binary and form is not None and form.uniform


def _input_bits(conv, tensors):
    return tensors[conv.input].format.width


def _no_operands(conv, tensors, arch, value):
    return (f"combines its results with {conv.operand.tensor!r}, and the chip has no operand "
            "memory; set buffers.operands (words like those of buffers.activations)")


def _table_words(conv, tensors, arch):
    """Words of a memory for the layer's table: a power of two, at least one for each code."""
    if conv.table is None:
        return 0
    return 1 << max(arch.activation.width, (len(conv.table) - 1).bit_length())


def _short_table(conv, tensors, arch, value):
    has = (f"the chip's has {arch.table_depth} words" if arch.table_depth
           else "the chip has no table memory")
    return (f"looks up its results in a table of {len(conv.table)}, and {has}; set buffers.tables "
            f"to {value}, or twice that for speed")


def _one_slope(conv, tensors, arch, value):
    return ("multiplies sums below zero by another factor than the rest (LeakyRelu, PRelu), and "
            "the chip has no second multiplier; set post.leaky to true")


def _offset(conv, tensors, arch, value):
    return ("adds an offset after slopes below zero (RPReLU, DPReLU), and the chip's channels have "
            "none; set post.offsets to true, or read the network for chips without offsets")


def _bias_bits(conv, tensors, arch):
    return bias_fraction(conv, arch) if bias_error(conv, arch) > 0.5 else 0


def _short_bias(conv, tensors, arch, value):
    return (f"has a bias that would be off by {bias_error(conv, arch):.3g} steps of its output, "
            "since one step of its sums is so many of these and the chip holds only "
            f"{arch.bias_fraction} fraction bits of a bias; set post.bias_fraction={value}")


def _short_multiplier(conv, tensors, arch, value):
    return (f"needs finer multipliers than the chip's {arch.multiplier_bits} bits, with which its "
            f"results would be off by more than half a step; set post.multiplier_bits={value}")


def _in_signs(conv, tensors, arch):
    """Whether a binary chip computes a layer bit plane by bit plane, of its input or its
    weights."""
    return arch.activation.binary and (
        in_planes(conv, tensors, arch) or conv.weights.format.uniform
        or conv.weights.format.width > 1)


def _no_planes(conv, tensors, arch, value):
    if not in_planes(conv, tensors, arch):
        return ("has weights of several bits, the chip's are bipolar1; set array.bit_planes to "
                "true (then it computes the planes of bits of its weights one after the other)")
    return (f"reads {conv.input!r} in {tensors[conv.input].format}, the chip computes in "
            f"{arch.activation}; set array.bit_planes to true (then it computes the planes of "
            "bits of its input one after the other), or quantize the input to one bit")


def _is_depthwise(conv, tensors, arch):
    return 1 < conv.geometry.groups == conv.inputs and conv.weights.shape[2:] != (1, 1)


def _reads_signs(conv, tensors, arch):
    form = tensors[conv.input].format
    return (not arch.activation.binary and conv.weights.format.binary and form is not None
            and form.binary)


def _has_side_taps(conv, tensors, arch):
    """Whether a layer's taps can lie side by side, if the layer before leaves columns idle."""
    geometry, channels = conv.geometry, tensors[conv.input].shape[0]
    return (not arch.activation.binary and not conv.weights.format.binary
            and conv.weights.shape[3] > 1 and geometry.groups == 1 and 2 * channels <= arch.group
            and geometry.stride[1] == geometry.dilation[1] == 1)


def _has_own_rows(conv, tensors, arch):
    """Whether taps of a layer can have rows of their own: its channels fill half of them at most.
    """
    geometry, channels = conv.geometry, tensors[conv.input].shape[0]
    return (max(conv.weights.shape[2:]) > 1 and geometry.groups == 1
            and 2 * channels <= arch.vector and conv.weights.format.binary
            == arch.activation.binary and not (geometry.replicate and geometry.padded)
            and (geometry.pad_code is not None or not geometry.padded))


def _has_windows(conv, tensors, arch):
    """Whether a layer reads an input of few channels, which no layer writes: the words of its taps
    share bytes."""
    form = tensors[conv.input].format
    return (arch.activation.width == 8 and form == arch.activation
            and conv.weights.shape[3] > 1 and 4 * tensors[conv.input].shape[0] <= arch.vector
            and conv.geometry.groups == conv.geometry.dilation[1] == 1)


def _has_short_passes(conv, tensors, arch):
    """Whether a layer has fewer results than the array rows, so that fillings take longer than
    passes."""
    _, height, width = conv.output_shape
    return arch.rows > 4 and height * width < arch.rows


def _reads_halves(conv, tensors, arch):
    """Whether a layer can read halves of codes, two in one, and multiply them by such weights."""
    form, own = tensors[conv.input].format, conv.requantization
    if not _plain_integers(arch.activation) or arch.activation.width % 4 or own is None or own.late:
        return False
    half = Int(arch.activation.width // 2)
    return (form is not None and form.uniform and form.signed and half.holds(form)
            and not conv.weights.format.binary and conv.weights.in_format(half) is not None
            and conv.channels is None and conv.geometry.groups == 1)


def _narrow_bits(conv, tensors, arch):
    """A half or a quarter of the bits of a chip's weights that hold all of a layer's; 0: none."""
    if not _plain_integers(arch.weight) or conv.weights.format.binary:
        return 0
    fitting = [bits for bits in (arch.weight.width // 2, arch.weight.width // 4)
               if bits > 1 and conv.weights.in_format(Int(bits)) is not None]
    return min(fitting, default=0)


def _pool_bits(conv, tensors, arch):
    """Bits of numbers of all weights of a layer that differ, 0 among them, where these are fewer
    than half of a weight's, or half, and no such width holds the weights; 0: none."""
    if not _plain_integers(arch.weight) or conv.weights.format.binary or (
            conv.weights.in_format(arch.weight) is None):
        return 0
    bits = max(2, (len(np.union1d(conv.weights.images, 0)) - 1).bit_length())
    most = min(4, arch.weight.width // 2)
    held = any(conv.weights.in_format(Int(n)) is not None for n in range(2, bits + 1))
    return bits if bits <= most and not held else 0


def _plain_integers(form):
    return form.uniform and form.signed and form.block_scale is None


#: Without them the chip cannot compute the layer.
NEEDS = (
    Need("operand_depth",
         lambda conv, tensors, arch: int(conv.operand is not None),
         "sums and products of two maps", _no_operands,
         enough=lambda arch, value: arch.activation_depth),
    Need("bit_planes", _in_signs, "integer inputs and weights, bit plane by bit plane",
         _no_planes),
    Need("leaky", lambda conv, tensors, arch: conv.leaky, "slopes below zero", _one_slope),
    Need("slope_offsets", lambda conv, tensors, arch: conv.requantization is not None and (
        conv.requantization.offset is not None or conv.requantization.late),
         "offsets after slopes below zero", _offset),
    Need("bias_fraction", _bias_bits, "biases of layers whose sums have coarse steps", _short_bias),
    Need("multiplier_bits", multiplier_need, "scales that want fine multipliers",
         _short_multiplier),
    Need("table_depth", _table_words, "functions by table", _short_table,
         several="each is loaded while the one before is used"),
)
#: Without them the chip computes the layer in more cycles.
SAVINGS = (
    Need("depthwise", _is_depthwise, "depthwise convolutions"),
    Need("packed_signs", _reads_signs, "binary layers between layers of integers"),
    Need("side_taps", _has_side_taps, "kernels over few channels"),
    Need("plane_rows", lambda conv, tensors, arch: in_planes(conv, tensors, arch) and (
        _input_bits(conv, tensors) == 8 and conv.inputs <= arch.lanes),
         "inputs of 8 bits, whose planes fit a row each"),
    Need("tap_rows", _has_own_rows, "kernels over channels of half of the rows or fewer"),
    Need("load_windows", _has_windows, "kernels over images of few channels"),
    Need("two_fillings", _has_short_passes, "maps of fewer pixels than the array has rows"),
    Need("two_writes", _has_windows, "images whose words LOAD makes in nearly every cycle"),
    Need("packed_halves", _reads_halves, "layers of activations and weights of half the bits"),
    Need("weight_widths", _narrow_bits, "weights of few bits", all_of=True),
    Need("wide_weights", lambda conv, tensors, arch: _plain_integers(arch.weight) and (
        arch.weight.width <= 8 and conv.weights.format.complete
        and conv.weights.format.width > arch.weight.width
        and conv.weights.in_format(arch.weight) is None
        and bool(conv.weights.halves(arch.weight))), "weights of up to twice the bits"),
    Need("weight_pools", _pool_bits, "few different weights", all_of=True, turns=True),
)
#: What an option must save of the cycles, as a share, to be worth having.
WORTH = 0.05
#: {field of a unit: the value with which a chip does not have it}
WITHOUT = {name: key.initial for name, key in KEYS.items() if key.optional}


def needed(graph: Graph, arch: Arch) -> Iterator[tuple[Need, Any, list[Conv]]]:
    """(row of NEEDS, value to choose, layers) for each field of a chip of which a network's layers
    need more."""
    for need in NEEDS:
        values = [need.value(conv, graph.tensors, arch) for conv in graph.layers]
        most = max(values, default=0)
        if most > getattr(arch, need.field):
            yield (need, need.enough(arch, most) if need.enough else most,
                   [conv for conv, value in zip(graph.layers, values, strict=True) if value])


def check_needs(layer: Any, tensors: Tensors) -> None:
    """Raise UserError where the chip of a `Layer` has less of a field than the layer needs."""
    conv, arch = layer.conv, layer.arch
    for need in NEEDS:
        value = need.value(conv, tensors, arch)
        if value > getattr(arch, need.field):
            assert need.refusal is not None
            raise UserError(f"{layer.title} {need.refusal(conv, tensors, arch, value)}")


def largest_k(arch: Arch, bits: int) -> int:
    """The value of `largest_k` with which exact accumulators have so many bits."""
    return -(-(1 << (bits - 2)) // arch.term_bound)


def wide_enough(arch: Arch, bits: int) -> tuple[str, str, int]:
    """(key of the chip file, field of `Arch`, value) that gives accumulators so many bits."""
    key = KEYS["largest_k"]
    if arch.accumulator is None and largest_k(arch, bits) <= key.high:
        return key.path, key.field, largest_k(arch, bits)
    return KEYS["accumulator"].path, "accumulator", bits
