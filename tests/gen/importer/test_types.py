"""The table of element types against ml_dtypes and onnx."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from systolith.gen.importer.types import (
    ELEMENT_TYPES,
    FORMATS,
    INTEGERS,
    element_format,
    format_of,
)
from systolith.hw.formats import Int


@pytest.mark.parametrize("name", FORMATS)
def test_codes_are_those_of_the_type(name):
    form = FORMATS[name]
    kind = np.dtype(getattr(ml_dtypes, name, None) or name)
    assert format_of(kind) is form
    codes = np.arange(1 << form.width)
    if form.uniform:
        values = codes.astype(f"u{kind.itemsize}").view(kind).astype(np.float64)
        values = np.where(values > form.image_range[1], values - (1 << form.width), values)
    else:
        values = codes.astype(f"u{kind.itemsize}").view(kind).astype(np.float64)
    expected = form.decode(codes)
    assert np.array_equal(values, expected, equal_nan=True)


@pytest.mark.parametrize("form", ELEMENT_TYPES, ids=str)
def test_element_types_are_onnx_own(form):
    element = ELEMENT_TYPES[form]
    assert format_of(onnx.helper.tensor_dtype_to_np_dtype(element)) == form == element_format(
        element)
    assert (element in INTEGERS) == form.uniform


def test_types_that_hold_no_codes_have_no_format():
    assert format_of(np.float32) is None and format_of(np.int32) is None
    assert element_format(onnx.TensorProto.FLOAT) is None
    assert ELEMENT_TYPES[Int(8)] == onnx.TensorProto.INT8
