"""The quantized network as plain data; running it is the golden model.

A `Graph` is a list of `Conv` layers (dense layers among them) that read and write named `Tensor`s
of codes. `Graph.run` computes every tensor bit for bit as the chip does.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from systolith.hw.spec.arch import Arch

from .conv import Conv
from .edges import Decoder, Encoder
from .host_work import HostWork
from .placement import Placement
from .tensor import Tensor

if TYPE_CHECKING:                                # onnx, which it imports, takes long to load
    from .tail import HostPart

__all__ = ["Graph", "Tensor"]


@dataclass
class Graph:
    """A quantized network.

    Attributes
    ----------
    name : str
    inputs : list of Tensor
        What the host fills.
    tensors : dict of str to Tensor
        All tensors, the inputs among them.
    layers : list of Conv
        In topological order.
    outputs : list of str
        Names of the tensors that the host reads.
    encoders : list of Encoder
        One for each of `inputs`. None: the input takes real numbers [N, C, H, W].
    decoders : list of Decoder
        One for each ONNX output. None: every output gives real numbers [N, C, H, W].
    head : HostPart or None
        What the host computes before the chip: encoders then take tensors that it gives, too.
    tail : HostPart or None
        What the host computes from outputs; decoders then give tensors that it reads, too.
    origins : dict
        {tensor: what of the model it holds}, filled in by the importer.
    notes : list
        How results may differ from the model's by more than at ties, filled in by the importer (as
        of `gen/importer/notes.py`).
    digits : dict
        {tensor that is a digit of a sum: which (`gen/importer/notes.py`)}, filled in by the
        importer.
    """
    name: str
    inputs: list[Tensor]
    tensors: dict[str, Tensor]
    layers: list[Conv]
    outputs: list[str]
    encoders: list[Encoder] = None  # type: ignore[assignment]
    decoders: list[Decoder] = None  # type: ignore[assignment]
    tail: "HostPart | None" = None
    head: "HostPart | None" = None
    origins: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)
    digits: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.encoders is None:
            self.encoders = [Encoder(item.name, item.shape, item.name) for item in self.inputs]
        if self.decoders is None:
            self.decoders = [Decoder(name, self.tensors[name].shape, name)
                             for name in self.outputs]
        self.layers = [
            replace(layer, input_shape=tuple(self.tensors[layer.input].shape))
            if layer.input in self.tensors else layer for layer in self.layers]
        written = {item.name: None for item in self.inputs}
        for layer in self.layers:
            if layer.input not in written:
                raise ValueError(f"layer {layer.name!r} reads {layer.input!r} before anything "
                                 "writes it")
            self._check_input(layer, written[layer.input])
            if min(layer.output_shape) < 1:
                raise ValueError(f"layer {layer.name!r} leaves no output pixel: its result would "
                                 f"be {layer.output_shape}")
            if layer.operand is not None:
                self._check_operand(layer, written)
            written[layer.output] = self._write(layer, written)
        for name, done in written.items():
            if done is not None and not done.all():
                raise ValueError(f"nothing writes channel, row and column "
                                 f"{np.argwhere(~done)[0].tolist()} of {name!r}")

    def _check_input(self, layer, written):
        """Check that a layer's input is written; `written` says which of its elements are, None:
        all."""
        count = layer.input_shape[0]
        channels = np.arange(count) if layer.channels is None else layer.channels
        if layer.inputs != len(channels):
            raise ValueError(f"layer {layer.name!r} has weights for {layer.inputs} channels, and "
                             f"its input has {len(channels)}")
        if len(set(channels.tolist())) < len(channels) or not 0 <= channels.min() <= (
                channels.max()) < count:
            raise ValueError(f"layer {layer.name!r} must read different ones of the {count} "
                             f"channels of {layer.input!r}, not {channels.tolist()}")
        if written is not None and not written[channels].all():
            raise ValueError(f"layer {layer.name!r} reads {layer.input!r} before anything "
                             "writes it")

    def _write(self, layer, written):
        """Which elements of the layer's output are written once it is done; None: all. `written`
        says so for all tensors that there are."""
        shape = tuple(self.tensors[layer.output].shape)
        if sum(other.output == layer.output for other in self.layers) == 1:
            if layer.placement != Placement() or shape != layer.output_shape:
                raise ValueError(f"tensor {layer.output!r} must have the shape "
                                 f"{layer.output_shape}, not {shape}")
            return None
        written = written[layer.output] if layer.output in written else np.zeros(shape, bool)
        place = layer.placement
        if written is not None and layer.target(written).shape != layer.output_shape:
            raise ValueError(f"the results of layer {layer.name!r}, {layer.output_shape} with "
                             f"step {place.step} from channel {place.first_channel} and pixel "
                             f"{place.origin}, do not fit {layer.output!r} of shape {shape}")
        if written is None or layer.target(written).any():
            raise ValueError(f"layer {layer.name!r} writes what another layer has written to "
                             f"{layer.output!r}")
        layer.target(written)[...] = True
        return written

    def _check_operand(self, layer, written):
        name = layer.operand.tensor
        if name not in written or (written[name] is not None and not written[name].all()):
            raise ValueError(f"layer {layer.name!r} has the operand {name!r} before anything "
                             "writes it")
        shape, allowed = tuple(self.tensors[name].shape), layer.output_shape
        if shape not in (allowed, (allowed[0], 1, 1)):
            raise ValueError(f"the operand {name!r} of layer {layer.name!r} must have the shape "
                             f"{allowed} or {(allowed[0], 1, 1)}, not {shape}")
        form, own = self.tensors[layer.output].format, self.tensors[name].format
        if layer.raw or form is None or own is None or (
                own != form and not (own.binary or own.uniform)):
            raise ValueError(f"layer {layer.name!r} and its operand {name!r} must be of one format "
                             "or the operand of integers or signs, and neither raw")

    @property
    def macs(self) -> int:
        """Products per image."""
        return sum(layer.macs for layer in self.layers)

    @property
    def input_shapes(self) -> dict[str, tuple]:
        """{ONNX input: its shape without the batch dimension}, of those that are needed."""
        made = self.head.outputs if self.head else ()
        shapes = {item.name: tuple(item.shape) for item in self.encoders if item.name not in made}
        for part in (self.head, self.tail):
            shapes = {**(part.shapes if part else {}), **shapes}
        return shapes

    def host_work(self) -> dict[str, HostWork]:
        """{"before" or "after": what the host computes there}"""
        parts = {"before": self.head, "after": self.tail}
        return {where: part.work for where, part in parts.items() if part is not None}

    def _named(self, values):
        """{ONNX input: array} from the array or dict that the user gives."""
        names = list(self.input_shapes)
        if not isinstance(values, dict):
            if len(names) != 1:
                raise ValueError(f"the network has {len(names)} inputs, {', '.join(names)}: give "
                                 "a dict of arrays")
            values = {names[0]: values}
        if set(values) != set(names):
            raise ValueError(f"inputs must be {', '.join(names)}, not {', '.join(values)}")
        return values

    def encode_inputs(self, values: Any) -> Any:
        """Codes [N, C, H, W] (int64) for the network's input from numbers in the ONNX layout.

        `values` is a float32 array (N, ...) as the ONNX input takes it, or, for several inputs, a
        dict of ONNX name to array. Returns an array, or for several inputs a dict of tensor name
        to codes. ValueError for a wrong shape, a missing input, NaN and infinities.
        """
        values = self._named(values)
        given = values | self.head.apply(values) if self.head else values
        codes = {item.tensor: item.encode(given[item.name], self.tensors[item.tensor])
                 for item in self.encoders}
        if len({len(item) for item in codes.values()}) != 1:
            raise ValueError("all inputs must have the same number of images, not "
                             + ", ".join(str(len(item)) for item in values.values()))
        return codes if len(self.inputs) > 1 else codes[self.inputs[0].name]

    def decode_outputs(self, codes: Any, inputs: Any = None) -> Any:
        """Arrays in the ONNX outputs' layout and units, float32 but for what the host counts.

        `codes` is what `run` returns, or the codes of the only output tensor. `inputs`, as of
        `encode_inputs`, is needed where the host's end of the network reads some of them. Returns
        an array, or for several outputs a dict of ONNX name to array; a list of arrays, one for
        each image, where sizes differ.
        """
        if not isinstance(codes, dict):
            if len(set(self.outputs)) != 1:
                raise ValueError(f"the network has the outputs {', '.join(self.outputs)}: give a "
                                 "dict of codes")
            codes = {self.outputs[0]: codes}
        values = {item.name: item.decode(codes[item.tensor], self.tensors[item.tensor])
                  for item in self.decoders}
        if self.tail is not None:
            if self.tail.given:
                if inputs is None:
                    raise ValueError(f"the outputs depend on {', '.join(self.tail.given)}: give "
                                     "the inputs, too")
                values |= self._named(inputs)
            values = self.tail.apply(values)
        return values if len(values) > 1 else next(iter(values.values()))

    def run(self, codes: np.ndarray | dict[str, np.ndarray],
            arch: Arch | None = None) -> dict[str, np.ndarray]:
        """Codes of every tensor, {name: [N, C, H, W]}, from the codes of the input.

        `codes` is what `encode_inputs` returns. With `arch`, accumulators saturate pass by pass
        and biases are rounded as that chip's; without, biases have MULTIPLIER_BITS fraction bits,
        and sums are exact, as they are on a chip whose accumulators are.
        Raw tensors hold int64, or Python integers where those do not fit. ValueError for codes of
        a wrong shape, and where a layer reads raw sums.
        """
        if not isinstance(codes, dict):
            codes = {self.inputs[0].name: codes}
        result = {}
        for item in self.inputs:
            array = np.asarray(codes[item.name])
            if array.ndim != 4 or array.shape[1:] != tuple(item.shape):
                raise ValueError(f"codes of {item.name!r} must have the shape (N, "
                                 f"{', '.join(map(str, item.shape))}), not {array.shape}")
            result[item.name] = array.astype(np.int64)
        for layer in self.layers:
            layer = layer if arch is None else layer.on_chip(arch)
            form = self.tensors[layer.input].format
            if form is None:
                raise ValueError(f"layer {layer.name!r} reads {layer.input!r}, which holds raw "
                                 "sums")
            operand = () if layer.operand is None else (
                result[layer.operand.tensor], self.tensors[layer.operand.tensor].format)
            part = layer.run(result[layer.input], form, self.tensors[layer.output].format, arch,
                             *operand)
            shape = (len(part), *self.tensors[layer.output].shape)
            if part.shape == shape:
                result[layer.output] = part
                continue
            if layer.output not in result:
                result[layer.output] = np.zeros(shape, part.dtype)
            layer.target(result[layer.output])[...] = part
        return result
