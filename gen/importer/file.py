"""Reading an ONNX file, which may hold anything: what is damaged or too large is refused, in one
line, before any memory is spent on it."""

import re
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper
from systolith.gen.kit.errors import UserError, one_line

from .inlining import inlined, needs_few_nodes
from .opset import OLDEST_OPSET, READ_OPSET, in_read_opset
from .spelling import in_one_spelling

__all__ = ["OWN_DOMAIN", "QONNX", "STANDARD", "array_of", "check_finite", "check_size",
           "inferred_shapes", "read"]

#: Names of ONNX's own domain.
STANDARD = ("", "ai.onnx")
#: The domain of the project's own operator, FormatQuant.
OWN_DOMAIN = "systolith"
#: Names of the domain of QONNX's operators, in the order of their age, and our own.
QONNX = ("finn.custom_op.general", "onnx.brevitas", "qonnx.custom_op.general", OWN_DOMAIN)
#: The most bytes of a file; protobuf's own limit is four times as much.
_LARGEST_FILE = 1 << 29
#: The most elements of a tensor; sizes of 0 count as 1.
_LARGEST_TENSOR = 1 << 27
#: Bits of one element as raw data, of types that take fewer than their numpy type.
_PACKED = {TensorProto.INT4: 4, TensorProto.UINT4: 4, TensorProto.FLOAT4E2M1: 4}
_PACKED |= {getattr(TensorProto, name): bits for name, bits in
            (("INT2", 2), ("UINT2", 2)) if hasattr(TensorProto, name)}


def read(model: str | Path | onnx.ModelProto) -> onnx.ModelProto:
    """The checked `onnx.ModelProto` of a path or of a ModelProto, with its external data loaded,
    its functions inlined, and an opset that is read. Raises UserError."""
    if isinstance(model, onnx.ModelProto):
        return _checked(model, None, "the model")
    path = Path(model)
    return _checked(_parsed(path), path, str(path))


def _checked(model, path, where):
    """What `read` gives, for a model that was parsed from the file `path` (None: from none);
    `where` names it in errors."""
    if not model.graph.node:
        raise UserError(f"{where} is no ONNX file, or it is truncated: it has no nodes")
    standard = [item.version for item in model.opset_import if item.domain in STANDARD]
    if standard and max(standard) < OLDEST_OPSET:
        raise UserError(f"{where} uses opset {max(standard)}, and must use {OLDEST_OPSET} or "
                        "later: export it with a later one")
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in model.graph.initializer):
        model = onnx.ModelProto.FromString(model.SerializeToString()) if path is None else model
        for tensor in model.graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                _load_external(tensor, path)
    needs_few_nodes(len(model.graph.node), where)
    model = inlined(model, where)
    model = in_one_spelling(_without_empty_statements(model))
    if standard and max(standard) < READ_OPSET:
        try:
            _check(model)
        except Exception as error:
            # The checker raises whatever its C++ code meets.
            raise UserError(f"the model is not valid ONNX: {one_line(error)}") from None
        model = in_read_opset(model, where)
    return model


def _without_empty_statements(model):
    """The model with sizes below 1, by which some exporters say that they do not know them, left
    open, and without descriptions of inner tensors that give neither type nor shape."""
    graph = model.graph

    def says_nothing(item):
        kind = item.type.tensor_type
        return not (kind.elem_type and kind.HasField("shape"))

    def sizes(graph):
        return [size for item in [*graph.input, *graph.value_info, *graph.output]
                for size in item.type.tensor_type.shape.dim
                if size.HasField("dim_value") and size.dim_value < 1]
    if not sizes(graph) and not any(map(says_nothing, graph.value_info)):
        return model
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for size in sizes(model.graph):
        size.ClearField("dim_value")
    kept = [item for item in model.graph.value_info if not says_nothing(item)]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    return model


def _check(model):
    """ONNX's own checks; outputs without type or shape are accepted, as by ONNX Runtime."""
    silent = [item.name for item in model.graph.output
              if not item.type.tensor_type.HasField("shape")]
    if silent:
        model = onnx.ModelProto.FromString(model.SerializeToString())
        for item in model.graph.output:
            if item.name in silent:
                kind = item.type.tensor_type.elem_type or TensorProto.FLOAT
                item.CopyFrom(onnx.helper.make_tensor_value_info(item.name, kind, ()))
    onnx.checker.check_model(model)


def _parsed(path):
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UserError(f"{path} is no regular file")
        size = path.stat().st_size
        if size > _LARGEST_FILE:
            raise UserError(f"{path} has {size:,} bytes, and may have {_LARGEST_FILE:,}: store the "
                            "weights as external data (onnx.save with save_as_external_data=True)")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if content[4:8] == b"TFL3":
        raise UserError(f"{path} is a TensorFlow Lite file: convert it to ONNX, as tf2onnx does "
                        "with --tflite")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        raise UserError(f"{path} is no ONNX file, or it is truncated") from None
    return model


def _load_external(tensor, path):
    """Load the data of a tensor that the model keeps in a file of its own."""
    entries = {item.key: item.value for item in tensor.external_data}
    location = entries.get("location", "")

    def fail(message):
        raise UserError(f"tensor {tensor.name!r} lies in the file {location[:200]!r} beside the "
                        f"model, which cannot be read: {message}")
    folder = (Path(".") if path is None else path.parent).resolve()
    try:
        file = (folder / location).resolve()
        if Path(location).is_absolute() or folder not in file.parents:
            fail("it must lie in the model's own folder, or below")
        if not file.is_file():
            fail("there is no such file")
        size = file.stat().st_size
    except (OSError, ValueError, RuntimeError) as error:
        fail(one_line(error))
    numbers = {}
    for key in ("offset", "length"):
        text = entries.get(key, "0" if key == "offset" else "")
        if text and not re.fullmatch(r"\d{1,18}", text):
            fail(f"its {key} must be a number of bytes, not {text[:40]!r}")
        numbers[key] = int(text) if text else None
    offset, length = numbers["offset"] or 0, numbers["length"]
    wanted = _bytes(tensor)
    length = wanted if length is None else length
    if wanted is not None and length != wanted:
        fail(f"the tensor of shape {list(tensor.dims)} needs {wanted:,} bytes, not {length:,}")
    if length is None or offset + length > size:
        fail(f"it has {size:,} bytes, too few")
    try:
        with file.open("rb") as content:
            content.seek(offset)
            tensor.raw_data = content.read(length)
    except OSError as error:
        fail(error.strerror)
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _bytes(tensor):
    """Bytes of a tensor's raw data; None where its type has none."""
    bits = _PACKED.get(tensor.data_type)
    if bits is None:
        try:
            bits = 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        except (KeyError, ValueError, TypeError):
            return None
    check_size(tensor.name, tensor.dims)
    return -(-prod(tensor.dims) * bits // 8)


def check_size(name: str, sizes: Sequence[int]) -> None:
    """Raise UserError for the shape of a tensor that has too many elements, or a negative size."""
    if any(size < 0 for size in sizes):
        raise UserError(f"tensor {name!r} has the shape {list(sizes)}; sizes must not be negative")
    if prod(max(size, 1) for size in sizes) > _LARGEST_TENSOR:
        raise UserError(f"tensor {name!r} of shape {list(sizes)} has more elements than are "
                        f"supported, {_LARGEST_TENSOR:,}")


def array_of(tensor: TensorProto, name: str) -> np.ndarray:
    """The numbers of a TensorProto; messages call it `name`. Raises UserError where it is damaged
    or too large."""
    check_size(name, tensor.dims)
    if tensor.data_location == TensorProto.EXTERNAL:
        raise UserError(f"tensor {name!r} is the value of an attribute and lies in another file: "
                        "make it an initializer")
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:
        # to_array raises whatever its numpy code meets in a damaged tensor.
        raise UserError(f"tensor {name!r} is damaged: {one_line(error)}") from None


def check_finite(name: str, array: np.ndarray) -> None:
    """Raise UserError for a tensor with infinities or NaNs; the message names tensor and index."""
    if array.dtype.kind not in "fV" or np.dtype(array.dtype).names:
        return
    wrong = ~np.isfinite(array.astype(np.float64))
    if wrong.any():
        index = tuple(int(n) for n in np.argwhere(wrong)[0])
        raise UserError(f"tensor {name!r} must be finite, and is {array[index]} at index "
                        f"{list(index)}")


def inferred_shapes(model: onnx.ModelProto) -> dict[str, list[int | None]]:
    """{tensor: shape, the batch dimension included}, as far as ONNX infers them; unknown sizes are
    None. Raises UserError where the model is not valid."""
    for item in [*model.graph.input, *model.graph.value_info, *model.graph.output]:
        check_size(item.name, [max(size.dim_value, 0) for size in item.type.tensor_type.shape.dim])
    try:
        _check(model)
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True,
                                                  data_prop=True)
    except Exception as error:
        # Both raise whatever their C++ code meets.
        old = "Unrecognized attribute: axis for operator DequantizeLinear" in str(error)
        raise UserError(f"the model is not valid ONNX: {one_line(error)}" + (
            "; scales per channel need opset 13: export the float network with opset 13 or later, "
            "or quantize per tensor" if old else "")) from None
    shapes = {}
    for item in [*model.graph.value_info, *model.graph.output]:
        kind = item.type.tensor_type
        if kind.HasField("shape"):
            sizes = [size.dim_value if size.HasField("dim_value") else None
                     for size in kind.shape.dim]
            check_size(item.name, [size or 1 for size in sizes])
            shapes[item.name] = sizes
    return shapes
