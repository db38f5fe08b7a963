"""Where the quantizers of a network stand.

What a layer reads must be quantized; operators between that quantizer and the layer before it
(Relu, Clip, a factor) are computed by that layer. So each layer asks for its inputs to be
quantized, and a quantizer stands as late as it can. Operators that move elements pass the request
on to what they read.
"""

from functools import cached_property

import onnx
from systolith.gen.importer.rows import Role, has

from .network import FloatNetwork

__all__ = ["MOVES", "VIEWS", "Places", "find_places"]

#: Operators that change the shape alone.
VIEWS = Role.SAME | Role.VIEW
#: Operators that move elements or pick some; of those that repeat elements, only what does not
#: interpolate.
MOVES = Role.MOVE | Role.MAXIMUM | Role.REPEAT
#: Operators on a tensor and a constant for each channel, or on two tensors.
_SCALED = Role.ARITHMETIC | Role.NORM
#: Operators that a layer computes together with a Relu, a Clip or a factor after them.
_LAYER = Role.LINEAR | Role.MEAN | Role.CLIP | _SCALED
#: Operators that the host computes before the first quantizer.
_HOST_STARTS = VIEWS | Role.CLIP | _SCALED | Role.CAST | Role.TURN
#: Operators that the host can compute from a layer's sums at a network's end, besides Softmax.
_ENDS = Role.FUNCTION | Role.PICK | Role.TURN
#: Operators any chain of which one table computes.
_TABLES = Role.FUNCTION | Role.CLIP | Role.ARITHMETIC | Role.EXTREME | Role.POWER


class _Functions:
    """Subgraphs that are an element-wise function of one tensor, such as x * sigmoid(x): each is
    one table from codes to codes, without rounding inside.

    Attributes
    ----------
    source : {result: the tensor that it is a function of}
    inner : set of str
        Tensors from which only such results are computed.
    """

    def __init__(self, network, tables):
        self.network = network
        self.source: dict[str, str] = {}
        self.before: dict[str, str] = {}
        within: set[str] = set()
        for node in network.nodes if tables else ():
            data = [name for name in node.input if name and name not in network.constants]
            if not has(node.op_type, _TABLES) or (
                    any(network.constants[name].size != 1 for name in node.input
                        if name in network.constants)):
                continue
            result = node.output[0]
            if len(data) == 1:
                self.before[result] = data[0]
                if data[0] in self.source and network.alone(data[0]) is node:
                    self.source[result] = self.source[data[0]]
                    within.add(data[0])
            elif len(data) == 2:
                first, second = map(self._chain, data)
                common = next((name for name in first if name in second), None)
                if common is not None:
                    self.source[result] = self.before[result] = common
                    for chain in (first, second):
                        within.update(chain[:chain.index(common)])
        outputs = {item.name for item in network.outputs}
        self.inner = {name for name in within - outputs if all(
            reader.output[0] in within or reader.output[0] in self.source
            for reader in network.readers(name))}

    def _chain(self, tensor):
        """A tensor, the tensor that it is a function of, and so on up to the source."""
        chain = [tensor]
        while chain[-1] in self.before:
            chain.append(self.before[chain[-1]])
        return chain


class Places:
    """The quantizers of a network.

    Parameters
    ----------
    network : FloatNetwork
    tables : bool
        Whether codes are short enough for tables.

    Attributes
    ----------
    tensors : list of str
        The tensors that are quantized, in the network's order.
    group : {such a tensor: one that has the same scale, itself if it is the first}
        Joined tensors share one scale; see `root`.
    makers : {tensor: the NodeProto that gives it}
    host : set of str
        Tensors that the host computes before the first quantizers, inputs included.
    tail : set of str
        Tensors that the host computes after the chip.
    functions : _Functions
    """

    def __init__(self, network: FloatNetwork, tables: bool = True):
        self.network = network
        self.functions = _Functions(network, tables)
        self.makers = {name: node for node in network.nodes for name in node.output if name}
        self.tensors: list[str] = []
        self.group: dict[str, str] = {}
        self.host = {item.name for item in network.inputs}
        for node in network.nodes:
            if set(node.output) & network.before or self._from_host(node):
                self.host.update(node.output)
        self.tail: set[str] = set()
        for node in network.nodes:
            if set(node.output) & network.after or self.tail & set(node.input):
                self.tail.update(node.output)
        made = self._made_of_sums()
        for node in reversed(network.nodes):
            if node.output[0] in made and all(
                    set(reader.output) <= self.tail
                    for name in node.output for reader in network.readers(name)):
                self.tail.update(node.output)

    def _made_of_sums(self):
        """Tensors that the host can compute at the network's end from the exact sums of layers:
        functions of them, what is moved or joined, and arithmetic on the result, as detectors
        decode their boxes. The chip does arithmetic on the sums themselves."""
        found: set[str] = set()
        for node in self.network.nodes:
            data = self._data(node)
            sums = [name in self.makers and self.raw(name) for name in data]
            if not data or not all(raw or name in found
                                   for raw, name in zip(sums, data, strict=True)):
                continue
            if node.op_type == "Softmax" or has(node.op_type, _ENDS) or (
                    any(name in found for name in data)
                    and has(node.op_type, VIEWS | Role.CLIP)) or (
                    has(node.op_type, Role.ARITHMETIC | Role.POWER) and not any(sums)):
                found.update(node.output)
        return found

    def _data(self, node):
        """The inputs of a node that are no constants."""
        return [name for name in node.input if name and name not in self.network.constants]

    def _from_host(self, node):
        inputs = self._data(node)
        return (has(node.op_type, _HOST_STARTS) and len(inputs) == 1 and inputs[0] in self.host
                and node.input[0] == inputs[0])

    def _moves(self, node):
        mode = next((item.s for item in node.attribute if item.name == "mode"), b"nearest")
        return has(node.op_type, MOVES) and (
            not has(node.op_type, Role.REPEAT) or mode == b"nearest")

    def ask(self, tensor: str) -> list[str]:
        """Ask for a tensor to be quantized; returns the quantized tensors that it consists of,
        which share one scale."""
        node = self.makers.get(tensor)
        if node is None or tensor in self.host or not (
                has(node.op_type, VIEWS) or self._moves(node)):
            if tensor not in self.group:
                self.tensors.append(tensor)
                self.group[tensor] = tensor
            return [tensor]
        # Concat alone joins several tensors; further inputs of others are shapes and the like.
        inputs = self._data(node) if node.op_type == "Concat" else [node.input[0]]
        found = [item for name in inputs for item in self.ask(name)]
        first = self.root(found[0])
        for item in found[1:]:
            self.group[self.root(item)] = first
        return found

    def root(self, tensor: str) -> str:
        """The tensor that stands for all that share a quantized tensor's scale."""
        while self.group[tensor] != tensor:
            tensor = self.group[tensor]
        return tensor

    def carried(self, tensor: str) -> bool:
        """Whether a tensor needs no quantizer before a Relu, a Clip or a factor, since the layer
        that computes the tensor computes that too."""
        node = self.makers.get(tensor)
        return (node is not None and tensor not in self.host
                and self.network.alone(tensor) is not None and has(node.op_type, _LAYER))

    def clipped(self, tensor: str) -> bool:
        """Whether a tensor is not quantized and has limits."""
        node = self.makers.get(tensor)
        if node is None or tensor in self.group or tensor in self.host:
            return False
        data = self._data(node)
        return has(node.op_type, Role.CLIP) or (
            has(node.op_type, Role.ARITHMETIC) and len(data) == 1 and self.clipped(data[0]))

    def paired(self, tensor: str) -> bool:
        """Whether a tensor is not quantized and is the sum or product of two others."""
        node = self.makers.get(tensor)
        if node is None or tensor in self.group or tensor in self.host or (
                not has(node.op_type, Role.ARITHMETIC | Role.CLIP)):
            return False
        data = self._data(node)
        return len(data) == 2 or self.paired(data[0])

    def uniform(self, node: onnx.NodeProto) -> bool:
        """Whether a node computes with the same number for all channels."""
        return has(node.op_type, Role.CLIP) or all(
            array.size == 1 for name, array in self.network.constants.items()
            if name in node.input)

    def linear(self) -> list[onnx.NodeProto]:
        """The nodes whose weights are rounded."""
        return [node for node in self.network.nodes
                if has(node.op_type, Role.LINEAR) and node.input[1] in self.network.constants
                and node.output[0] not in self.tail
                and (len(node.input) < 3 or not node.input[2]
                     or node.input[2] in self.network.constants)]

    @cached_property
    def chains(self) -> dict[str, list[onnx.NodeProto]]:
        """{tensor: the nodes that compute it from quantized tensors}, inputs of the network without
        any."""
        found: dict[str, list] = {}
        for node in self.network.nodes:
            before = {id(item): item for name in node.input if name not in self.group
                      for item in found.get(name, [])}
            found |= {name: [*before.values(), node] for name in node.output}
        return found

    @cached_property
    def _linear_names(self):
        return {node.name for node in self.linear()}

    def weights_of(self, tensor: str) -> onnx.NodeProto | None:
        """The node of `linear` in the layer that computes a tensor; the first, if any."""
        return next((node for node in self.chains.get(tensor, ())
                     if node.name in self._linear_names), None)

    def layer_of(self, tensor: str) -> str:
        """The name of the layer that computes a tensor: of its node with weights, else its last
        node's, or the input's own."""
        node, chain = self.weights_of(tensor), self.chains.get(tensor)
        return node.name if node is not None else chain[-1].name if chain else tensor

    def layers(self) -> list[str]:
        """The names of all layers that have weights or quantized results."""
        return list(dict.fromkeys([*map(self.layer_of, self.tensors),
                                   *(node.name for node in self.linear())]))

    def raw(self, tensor: str) -> bool:
        """Whether a result of the network can be the exact sums of a layer, so that the host
        applies its scale, limits and shape."""
        node = self.makers.get(tensor)
        while node is not None and has(node.op_type, VIEWS | Role.CLIP):
            tensor = node.input[0]
            if self.network.alone(tensor) is None:
                return False
            node = self.makers.get(tensor)
        return node is not None and node.op_type in ("Conv", "Gemm", "MatMul") and (
            node.input[1] in self.network.constants)


def _visit(places, node):
    """Ask for the quantizers that a node needs."""
    data = places._data(node)
    if all(name in places.host or name in places.functions.inner for name in node.output):
        return
    if set(node.output) & places.tail:
        for name in data:
            if name not in places.tail and not places.raw(name):
                places.ask(name)
        return
    source = places.functions.source.get(node.output[0])
    if source is not None:
        places.ask(source)
        return
    if has(node.op_type, Role.SLOPE) and places.makers.get(data[0]) is not None and (
            has(places.makers[data[0]].op_type, Role.LINEAR) and places.carried(data[0])):
        return
    if has(node.op_type, VIEWS):
        return
    if has(node.op_type, Role.CLIP | Role.NORM) or (
            has(node.op_type, Role.ARITHMETIC) and len(data) == 1):
        scales = places.uniform(node) and (
            node.op_type in ("Mul", "Div") or has(node.op_type, Role.CLIP))
        if not places.carried(data[0]) or (
                places.clipped(data[0]) and not places.uniform(node)) or (
                places.paired(data[0]) and not scales):
            places.ask(data[0])
        return
    for name in data:
        places.ask(name)


def find_places(network: FloatNetwork, tables: bool = True) -> Places:
    """The `Places` of a network; `tables`: codes are short enough for tables."""
    places = Places(network, tables)
    for node in network.nodes:
        _visit(places, node)
    # Functions that no layer computes with its sums give codes.
    for node in network.nodes:
        if not has(node.op_type, _LAYER | VIEWS) and not places._moves(node) and (
                node.output[0] not in places.host | places.tail | places.functions.inner):
            places.ask(node.output[0])
    for item in network.outputs:
        if item.name in places.makers and item.name not in places.tail and (
                not places.raw(item.name)):
            places.ask(item.name)
    order = {name: n for n, name in enumerate(
        [*(item.name for item in network.inputs),
         *(name for node in network.nodes for name in node.output)])}
    places.tensors.sort(key=lambda name: order[name])
    return places
