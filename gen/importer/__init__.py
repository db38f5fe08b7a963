"""From ONNX to a Graph of layers in exact integers."""
