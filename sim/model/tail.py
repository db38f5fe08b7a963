"""What the host computes before and after the chip: parts of an ONNX network, on real numbers."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, helper

from .host_work import HostWork

__all__ = ["HostPart"]


def _shape(item):
    """The shape of a ValueInfoProto without the batch dimension; None where it has none."""
    kind = item.type.tensor_type
    return tuple(size.dim_value for size in kind.shape.dim[1:]) if kind.HasField("shape") else None


def _typed(item, array):
    """The numbers of an input in the type that the model has for it. ValueError where they do not
    fit it."""
    name, array, shape = item.name, np.asarray(array), _shape(item)
    wanted = np.dtype(helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type))
    if array.dtype.kind not in "fiub" and array.dtype != wanted:
        raise ValueError(f"input {name!r} must be numbers, not {array.dtype}")
    if array.ndim == 0 or (shape is not None and array.shape[1:] != shape):
        raise ValueError(f"input {name!r} must have the shape "
                         f"({', '.join(['N', *map(str, shape or ['...'])])}), N images, not "
                         f"{array.shape}")
    with np.errstate(all="ignore"):
        typed = array.astype(wanted)
        wrong = (typed.astype(np.float64) != array.astype(np.float64) if wanted.kind in "iub"
                 else ~np.isfinite(typed.astype(np.float64)))
    if wrong.any():
        index = tuple(int(n) for n in np.argwhere(wrong)[0])
        what = f"whole numbers of type {wanted.name}" if wanted.kind in "iub" else "finite"
        raise ValueError(f"input {name!r} must be {what}, not {array[index]} (at {index})")
    return typed


@dataclass
class HostPart:
    """A part of the network that ONNX Runtime, or ONNX's reference, computes image by image.

    Attributes
    ----------
    model : onnx.ModelProto
        The nodes. Its inputs are inputs of the network, or tensors that the chip gives.
    nodes : list of str
        Names of the network's nodes in it.
    run : function
        {name of an input: array} of one image -> {name of an output: array}. It may raise any
        ValueError.
    outputs : list of str
        What `apply` gives: outputs of the model, or what it was given.
    given : list of str
        Inputs of the model that are inputs of the network.
    work : HostWork
        How much it is.
    """
    model: ModelProto
    nodes: list
    run: Callable
    outputs: list
    given: list
    work: HostWork

    @property
    def shapes(self) -> dict[str, tuple]:
        """{input of the network: shape without the batch dimension}"""
        return {item.name: _shape(item) for item in self.model.graph.input
                if item.name in self.given}

    def apply(self, values: dict) -> dict:
        """{output: array} from {tensor: array [N, ...]}; image by image, so that shapes written
        into the network for one image hold. A result whose sizes differ from image to image is a
        list of arrays, one for each."""
        feeds = {item.name: _typed(item, values[item.name]) for item in self.model.graph.input}
        #: Rows of an image: more than one where a Reshape made rows of its pixels.
        rows = {item.name: max(1, *(size.dim_value for size in item.type.tensor_type.shape.dim[:1]),
                               1) for item in self.model.graph.input}
        names = [item.name for item in self.model.graph.output]
        found: dict[str, list] = {name: [] for name in names}
        for n in range(min(len(array) // rows[name] for name, array in feeds.items())):
            results = self.run({name: array[n * rows[name]:(n + 1) * rows[name]]
                                for name, array in feeds.items()})
            for name in names:
                found[name].append(np.asarray(results[name]))
        return {name: _joined(found[name], {1, *rows.values()}) if name in found else values[name]
                for name in self.outputs}


def _joined(arrays, rows):
    """The results of all images as one array, if they have one shape: one after the other where
    each has as many rows as images have, else each by itself."""
    if len({item.shape for item in arrays}) > 1:
        return arrays
    first = arrays[0]
    return np.concatenate(arrays) if first.ndim and len(first) in rows else np.stack(arrays)
