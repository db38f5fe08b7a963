"""The operators of ONNX, by subject. Importing the package registers all of them (`rows`)."""

from . import elements, linear, means, moves, pool, reduce, shapes, signs, upsample

__all__ = ["elements", "linear", "means", "moves", "pool", "reduce", "shapes", "signs", "upsample"]
