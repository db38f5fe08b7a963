"""The operators of ONNX, by subject."""
