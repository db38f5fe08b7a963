"""The operators of ONNX, by subject. Importing the package registers all of them (`rows`)."""

from . import linear, means, moves, pool, reduce, signs, table, upsample

__all__ = ["linear", "means", "moves", "pool", "reduce", "signs", "table", "upsample"]
