"""The operators of ONNX, by subject. Importing the package registers all of them (`rows`)."""

from . import (
    dense,
    elements,
    linear,
    means,
    moves,
    pool,
    reduce,
    shapes,
    signs,
    transposed,
    upsample,
)

__all__ = ["dense", "elements", "linear", "means", "moves", "pool", "reduce", "shapes", "signs",
           "transposed", "upsample"]
