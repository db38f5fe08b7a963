"""Models of opsets older than those that are read, converted by onnx's converter."""

import numpy as np
import onnx
from onnx import helper, numpy_helper, version_converter
from systolith.gen.kit.errors import UserError, one_line

__all__ = ["OLDEST_OPSET", "READ_OPSET", "in_read_opset"]

#: The oldest opset that is read without conversion, and the oldest that is converted.
READ_OPSET, OLDEST_OPSET = 11, 7


def in_read_opset(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """The model in an opset that is read.

    Parameters
    ----------
    model : onnx.ModelProto
        Checked by ONNX's checker.
    where : str
        Names the model in errors.

    Raises UserError where the converter fails.
    """
    sizes = {node.output[0]: _coordinates(node, model.graph) for node in model.graph.node
             if node.op_type in ("Resize", "Upsample") and node.output}
    version = max(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    try:
        converted = version_converter.convert_version(model, READ_OPSET)
    except Exception as error:
        # The converter raises whatever its C++ code meets.
        reason = one_line(error).split("failed: ")[-1]
        raise UserError(f"{where} uses opset {version}, which onnx.version_converter cannot bring "
                        f"to {READ_OPSET}: {reason}; export it with opset {READ_OPSET} or "
                        "later") from None
    for node in converted.graph.node:
        # The converter leaves out that these mean other coordinates than later Resizes do.
        if node.op_type == "Resize" and node.output[0] in sizes:
            kept = [item for item in node.attribute if item.name == "mode"]
            del node.attribute[:]
            node.attribute.extend(kept)
            node.attribute.extend(helper.make_attribute(*item)
                                  for item in sizes[node.output[0]].items())
    return converted


def _coordinates(node, graph):
    """The attributes with which a Resize of opset 11 samples like an Upsample, or a Resize of opset
    10."""
    scales = next((item.floats for item in node.attribute if item.name == "scales"), None)
    if scales is None and len(node.input) > 1:
        scales = next((numpy_helper.to_array(item) for item in graph.initializer
                       if item.name == node.input[1]), None)
    smaller = node.op_type == "Resize" and scales is not None and np.any(np.asarray(scales) < 1)
    return {"coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "ceil" if smaller else "floor"}
