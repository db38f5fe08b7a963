"""Quantizers, by the tool that wrote the model. Importing the package registers them and, with
them, all operators (`rows`)."""

from . import qdq, qonnx

__all__ = ["qdq", "qonnx"]
