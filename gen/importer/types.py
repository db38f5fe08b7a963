"""Element types of ONNX and numpy that hold codes, and their number formats: one table."""

import numpy as np
import numpy.typing as npt
from onnx import TensorProto
from systolith.hw.formats import Format, parse

__all__ = ["ELEMENT_TYPES", "FORMATS", "INTEGERS", "element_format", "format_of"]

#: (name of the numpy type, of ONNX's element type if it has one, of the format)
_ROWS = (
    ("int2", "INT2", "int2"), ("uint2", "UINT2", "uint2"),
    ("int4", "INT4", "int4"), ("uint4", "UINT4", "uint4"),
    ("int8", "INT8", "int8"), ("uint8", "UINT8", "uint8"),
    ("int16", "INT16", "int16"), ("uint16", "UINT16", "uint16"),
    ("float8_e4m3fn", "FLOAT8E4M3FN", "e4m3fn"), ("float8_e4m3fnuz", "FLOAT8E4M3FNUZ", "e4m3fnuz"),
    ("float8_e5m2", "FLOAT8E5M2", "e5m2ieee"), ("float8_e5m2fnuz", "FLOAT8E5M2FNUZ", "e5m2fnuz"),
    ("float4_e2m1fn", "FLOAT4E2M1", "e2m1"),
    ("float6_e2m3fn", None, "e2m3"), ("float6_e3m2fn", None, "e3m2"),
)

#: Name of a numpy type -> the format whose codes it holds.
FORMATS: dict[str, Format] = {name: parse(form) for name, _, form in _ROWS}
#: Format -> the ONNX element type that holds its codes. Not every release of onnx has them all.
ELEMENT_TYPES: dict[Format, int] = {parse(form): getattr(TensorProto, element)
                                    for _, element, form in _ROWS
                                    if element and hasattr(TensorProto, element)}
#: ONNX element types of integers that hold codes.
INTEGERS = {element for form, element in ELEMENT_TYPES.items() if form.uniform}


def format_of(dtype: npt.DTypeLike) -> Format | None:
    """The format whose codes a numpy type holds, or None."""
    return FORMATS.get(np.dtype(dtype).name)


def element_format(element: int) -> Format | None:
    """The format whose codes an ONNX element type holds, or None."""
    return next((form for form, own in ELEMENT_TYPES.items() if own == element), None)
