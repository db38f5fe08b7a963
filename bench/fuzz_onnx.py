"""Damaged ONNX files: small networks with one to four mutations, of their bytes or of their fields,
which `systolith check` and `systolith build` compile or refuse."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from fuzz_running import ACCEPTED
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper
from systolith.gen.chip.toml import load_chip
from systolith.gen.flow.check import check
from systolith.gen.flow.compile import compile_network
from systolith.gen.importer.checks import supported_operators
from systolith.gen.importer.reader import load, required_formats
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Bipolar, parse

__all__ = ["OnnxFiles", "attempt", "case", "chip_for", "integer_seed", "seeds"]

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
SEEDS = [DIGITS / f"{name}.onnx" for name in ("digits-cnn", "digits-cnn-int8", "digits-mlp-bnn")]
SIZES = [-(1 << 63), -2, -1, 0, 1, 2, 3, 7, 255, 1 << 16, 1 << 31, 1 << 40, (1 << 63) - 1]
NUMBERS = [np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 1e-45, 1e-30, 1e30, 3.4e38, 0.5]
NAMES = ["", "x", "nowhere", "\N{SNOWMAN}", "a" * 500, "../../etc/passwd", "\n\x1b[31m"]
TYPES = sorted(TensorProto.DataType.values())


# Seeds: small networks of every kind of quantizer.

def _graph(nodes, constants, shape, result, opsets):
    constants = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, ["N", result])],
        constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*item) for item in opsets],
                             ir_version=10).SerializeToString()


def integer_seed():
    """QuantizeLinear and DequantizeLinear: convolution, pooling, a sum, a mean, a dense layer."""
    rng = np.random.default_rng(1)
    constants = {"s": np.float32(0.25), "z": np.int8(3), "ws": np.float32([0.125, 0.25, 0.5, 1]),
                 "wz": np.zeros(4, np.int8), "b": rng.integers(-99, 99, 4).astype(np.int32),
                 "bs": np.float32([0.5, 1, 2, 4]) / 16, "bz": np.zeros(4, np.int32),
                 "w": rng.integers(-127, 128, (4, 2, 3, 3)).astype(np.int8),
                 "d": rng.integers(-127, 128, (4, 5)).astype(np.int8)}
    nodes, count = [], 0

    def node(operator, *inputs, **attributes):
        nonlocal count
        count += 1
        nodes.append(helper.make_node(operator, inputs, [f"t{count}"], f"n{count}", **attributes))
        return f"t{count}"

    def qdq(x):
        return node("DequantizeLinear", node("QuantizeLinear", x, "s", "z"), "s", "z")
    w = node("DequantizeLinear", "w", "ws", "wz", axis=0)
    b = node("DequantizeLinear", "b", "bs", "bz", axis=0)
    x = qdq(node("Relu", node("Conv", qdq("x"), w, b, pads=[1, 1, 1, 1], strides=[1, 1])))
    y = qdq(node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]))
    y = qdq(node("Add", y, qdq(node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]))))
    y = qdq(node("Concat", y, y, axis=1))
    y = node("Slice", y, "one", "five", "one")
    constants |= {"one": np.array([1]), "five": np.array([5])}
    y = node("Flatten", qdq(node("GlobalAveragePool", y)))
    qdq(node("MatMul", y, node("DequantizeLinear", "d", "s", "dz")))
    constants["dz"] = np.int8(0)
    return _graph(nodes, constants, (2, 6, 6), 5, [("", 13)])


def qonnx_seed():
    """QONNX's quantizers, batch norm and a reshape."""
    rng = np.random.default_rng(2)
    domain = "qonnx.custom_op.general"
    constants = {"s": np.float32(0.25), "z": np.float32(0), "bits": np.float32(4),
                 "w": np.float32(rng.standard_normal((4, 2, 3, 3))),
                 "d": np.float32(rng.standard_normal((16, 3))), "shape": np.array([-1, 16]),
                 "gamma": np.float32([1, -2, 0.5, 1]), "beta": np.float32([0, 1, 2, -1]),
                 "var": np.float32([1, 2, 3, 4])}

    def quant(x, y):
        return helper.make_node("Quant", [x, "s", "z", "bits"], [y], domain=domain, signed=1,
                                narrow=1, rounding_mode="ROUND")
    nodes = [quant("x", "xq"), quant("w", "wq"),
             helper.make_node("Conv", ["xq", "wq"], ["c"], dilations=[1, 1], group=1),
             helper.make_node("BatchNormalization", ["c", "gamma", "beta", "beta", "var"], ["n"]),
             helper.make_node("Clip", ["n", "z", "bits"], ["r"]), quant("r", "rq"),
             helper.make_node("Reshape", ["rq", "shape"], ["f"]), quant("d", "dq"),
             helper.make_node("Gemm", ["f", "dq", "z"], ["y"], alpha=0.5, transB=0)]
    return _graph(nodes, constants, (2, 4, 4), 3, [("", 20), (domain, 2)])


def operator_seed():
    """Operators on integers, a function, means, and the host's end."""
    rng = np.random.default_rng(3)
    constants = {"s": np.float32(0.25), "z": np.uint8(120), "wz": np.int8(0),
                 "w": rng.integers(-127, 128, (3, 2, 3, 3)).astype(np.int8),
                 "v": rng.integers(-127, 128, (4, 3, 2, 2)).astype(np.int8),
                 "d": rng.integers(-127, 128, (4, 5)).astype(np.int8), "small": np.float32(0.01),
                 "b": rng.integers(-99, 99, 4).astype(np.int32), "axes": np.array([2, 3]),
                 "level": np.float32(rng.uniform(-3, 0, (5, 1)) + np.arange(15) / 2)}
    ort, qonnx = "com.microsoft", "qonnx.custom_op.general"

    def node(operator, inputs, output, domain="", **attributes):
        return helper.make_node(operator, inputs.split(), [output], output, domain=domain,
                                **attributes)
    nodes = [node("QuantizeLinear", "x s z", "q"),
             node("ConvInteger", "q w z wz", "c", pads=[1, 0, 1, 0]),
             node("Cast", "c", "f", to=TensorProto.FLOAT), node("Mul", "f small", "m"),
             node("QuantizeLinear", "m s z", "mq"), node("DequantizeLinear", "mq s z", "md"),
             node("Sigmoid", "md", "g"), node("QuantizeLinear", "g s z", "gq"),
             node("QLinearConv", "gq s z v s wz s z b", "l"),
             node("QLinearLeakyRelu", "l s z s z", "k", ort, alpha=0.25),
             node("QLinearAdd", "k s z l s z s z", "a", ort),
             node("QLinearGlobalAveragePool", "a s z s z", "p", ort, channels_last=0),
             node("DequantizeLinear", "p s z", "pd"), node("Squeeze", "pd axes", "ps"),
             node("DequantizeLinear", "d s wz", "dd"), node("MatMul", "ps dd", "o"),
             node("MultiThreshold", "o level", "t", qonnx, out_scale=0.5, out_bias=-2.0),
             node("Softmax", "t", "y", axis=-1)]
    return _graph(nodes, constants, (2, 6, 6), 5, [("", 13), (ort, 1), (qonnx, 1)])


def seeds():
    """Serialized networks."""
    return [integer_seed(), qonnx_seed(), operator_seed(), *(path.read_bytes() for path in SEEDS)]


# Mutations of bytes.

def _flip(data, rng):
    for _ in range(rng.integers(1, 9)):
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    return data


def _cut(data, rng):
    return data[:rng.integers(len(data))]


def _splice(data, rng):
    a, b, c = rng.integers(0, len(data), 3)
    return data[:a] + data[min(b, c):max(b, c)] + data[a:]


def _drop(data, rng):
    a = rng.integers(len(data))
    return data[:a] + data[a + rng.integers(1, 64):]


def _overwrite(data, rng):
    a, size = rng.integers(len(data)), rng.integers(1, 16)
    data[a:a + size] = rng.bytes(size) if rng.random() < 0.5 else bytes([rng.choice([0, 255])]) * 9
    return data


BYTES = [_flip, _cut, _splice, _drop, _overwrite]


# Mutations of fields.

def _any(items, rng):
    return items[rng.integers(len(items))] if len(items) else None


def _tensors(model):
    return [*model.graph.initializer,
            *(item.t for node in model.graph.node for item in node.attribute if item.HasField("t"))]


def _shape(model, rng):
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    sizes = [size for item in values for size in item.type.tensor_type.shape.dim]
    size = _any(sizes, rng)
    if size is None or rng.random() < 0.2:
        _any(values, rng).type.tensor_type.shape.dim.add().dim_value = int(_any(SIZES, rng))
    elif rng.random() < 0.2:
        size.dim_param = str(_any(NAMES, rng))
    else:
        size.dim_value = int(_any(SIZES, rng))


def _dims(model, rng):
    tensor = _any(_tensors(model), rng)
    if tensor is None:
        return
    if tensor.dims and rng.random() < 0.8:
        tensor.dims[rng.integers(len(tensor.dims))] = int(_any(SIZES, rng))
    else:
        tensor.dims.append(int(_any(SIZES, rng)))


def _type(model, rng):
    tensor = _any(_tensors(model), rng)
    if tensor is not None and rng.random() < 0.7:
        tensor.data_type = int(_any(TYPES, rng))
    else:
        item = _any([*model.graph.input, *model.graph.output], rng)
        if item is not None:
            item.type.tensor_type.elem_type = int(_any(TYPES, rng))


def _numbers(model, rng):
    """A constant of the same shape with other numbers, or of another shape."""
    tensor = _any(_tensors(model), rng)
    if tensor is None:
        return
    try:
        array = np.array(numpy_helper.to_array(tensor))
        if rng.random() < 0.3:
            shape = [(), (0,), (1,), (2,), (*array.shape, 1), (1, *array.shape),
                     array.shape[::-1]][rng.integers(7)]
            array = np.resize(array, shape) if np.prod(shape) else np.zeros(shape, array.dtype)
        elif array.size:
            kind = array.dtype.kind
            array.flat[rng.integers(array.size)] = (
                _any(NUMBERS, rng) if kind == "f" else
                int(_any(SIZES, rng)) if array.dtype == np.int64 else
                _any([0, 1, 100], rng))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    except Exception:
        # It was damaged before.
        tensor.raw_data = rng.bytes(5)


def _names(model, rng):
    node = _any(model.graph.node, rng)
    if node is None:
        return
    names = [name for item in model.graph.node for name in [*item.input, *item.output]]
    names += [item.name for item in model.graph.initializer] + NAMES
    wanted = str(_any(names, rng))
    place = _any([node.input, node.output], rng)
    if len(place):
        place[rng.integers(len(place))] = wanted
    else:
        node.name = wanted


def _arity(model, rng):
    node = _any(model.graph.node, rng)
    if node is None:
        return
    place = _any([node.input, node.output], rng)
    if len(place) and rng.random() < 0.6:
        del place[rng.integers(len(place))]
    else:
        place.append(str(_any([*node.input, "more", ""], rng)))


def _nodes(model, rng):
    node = _any(model.graph.node, rng)
    if node is None:
        return
    action = rng.integers(5)
    if action == 0:
        model.graph.node.remove(node)
    elif action == 1:
        model.graph.node.add().CopyFrom(node)
    elif action == 2:
        node.op_type = str(_any([*supported_operators(), "Loop", "If", "Scan", "Softmax", "",
                                 "LSTM",
                                 "Einsum", "Constant", "ConstantOfShape", "Range", "Tile",
                                 "Expand"], rng))
    elif action == 3:
        node.domain = str(_any(["", "ai.onnx", "com.microsoft", "ai.onnx.ml", "nobody",
                                "qonnx.custom_op.general"], rng))
    else:
        order = rng.permutation(len(model.graph.node))
        nodes = [onnx.NodeProto.FromString(model.graph.node[n].SerializeToString()) for n in order]
        del model.graph.node[:]
        model.graph.node.extend(nodes)


def _attributes(model, rng):
    node = _any(model.graph.node, rng)
    if node is None:
        return
    action, item = rng.integers(4), _any(node.attribute, rng)
    value = _any([int(_any(SIZES, rng)), float(_any(NUMBERS, rng)), "text", b"\xff\xfe",
                  [int(_any(SIZES, rng)) for _ in range(rng.integers(1, 6))], [0.5], ["a", "b"],
                  numpy_helper.from_array(np.float32([1, 2])), model.graph], rng)
    if item is None or action == 0:
        keys = ["axis", "pads", "strides", "group", "kernel_shape", "perm", "alpha", "to", "value",
                "auto_pad", "block_size", "output_dtype", "axes", "dilations", "mode"]
        node.attribute.append(helper.make_attribute(str(_any(keys, rng)), value))
    elif action == 1:
        node.attribute.remove(item)
    elif action == 2:
        item.CopyFrom(helper.make_attribute(item.name, value))
    elif item.ints:
        item.ints[rng.integers(len(item.ints))] = int(_any(SIZES, rng))
    elif item.type == onnx.AttributeProto.INT:
        item.i = int(_any(SIZES, rng))
    else:
        item.type = int(rng.integers(0, 15))


def _external(model, rng):
    tensor = _any(model.graph.initializer, rng)
    if tensor is None:
        return
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, values in (("location", ["../secret", "/etc/passwd", "", ".", "weights.bin", "\0",
                                      "a" * 5000, "/dev/zero", "case.onnx"]),
                        ("offset", [*map(str, SIZES), "many"]),
                        ("length", [*map(str, SIZES), "many"])):
        if rng.random() < 0.7:
            item = tensor.external_data.add()
            item.key, item.value = key, str(_any(values, rng))


def _model(model, rng):
    """What stands around the graph."""
    action = rng.integers(7)
    if action == 0 and model.opset_import:
        model.opset_import[0].version = int(_any([*SIZES, 10, 11, 12, 13, 21, 25, 99], rng))
    elif action == 1:
        model.ir_version = int(_any(SIZES, rng))
    elif action == 2:
        del model.opset_import[:]
    elif action == 3 and model.graph.input:
        model.graph.input.remove(_any(model.graph.input, rng))
    elif action == 4 and model.graph.output:
        model.graph.output.add().CopyFrom(_any(model.graph.output, rng))
    elif action == 5 and model.graph.initializer:
        tensor = _any(model.graph.initializer, rng)
        model.graph.input.append(helper.make_tensor_value_info(
            tensor.name, tensor.data_type, list(tensor.dims)))
    else:
        name = str(_any([node.op_type for node in model.graph.node] or ["Relu"], rng))
        model.functions.append(helper.make_function(
            "", name, ["a"], ["b"], [helper.make_node(name, ["a"], ["b"])],
            [helper.make_opsetid("", 13)]))


FIELDS = [_shape, _dims, _type, _numbers, _numbers, _names, _names, _arity, _nodes, _attributes,
          _attributes, _external, _model]


def mutate(data, rng):
    """A serialized network with one to four mutations; bytes."""
    if rng.random() < 0.2:
        data = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            data = bytearray(_any(BYTES, rng)(data, rng)) or bytearray(b"\0")
        return bytes(data)
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError:
        return data
    for _ in range(1 if rng.random() < 0.6 else rng.integers(2, 5)):
        _any(FIELDS, rng)(model, rng)
    return model.SerializeToString()


# Running.

def attempt(path, arch):
    """What `systolith check` and `systolith build`, before it writes, do for a chip like `arch` of
    the network's own formats: ACCEPTED, or the message."""
    try:
        graph = load(path)
        chip = chip_for(graph, arch)
        compile_network(graph, chip)
    except UserError as error:
        try:
            check(path, arch)
        except UserError:
            pass
        return str(error)
    found = check(path, chip)
    assert found.maps, f"check refuses what compiles: {found.problems}"
    return ACCEPTED


def chip_for(graph, arch):
    """A chip like `arch` of the network's own formats, where such a one exists."""
    activations, weights = (parse(names[-1]) if names else arch.activation
                            for names in required_formats(graph))
    if isinstance(activations, Bipolar):
        return load_chip("ulx3s-bnn")
    return replace(arch, activation=activations, weight=weights, leaky=True, table_depth=1024)


def case(seed, sources):
    """The file number `seed` (bytes)."""
    rng = np.random.default_rng(seed)
    return mutate(sources[rng.integers(len(sources))], rng)


class OnnxFiles:
    """Damaged networks, for chips like `arch`."""
    suffix = ".onnx"

    def __init__(self, folder, arch):
        self.arch, self.sources = arch, seeds()

    def case(self, number):
        """The file of this number (bytes)."""
        return case(number, self.sources)

    def attempt(self, path):
        """ACCEPTED, or the message of what is refused."""
        return attempt(path, self.arch)
