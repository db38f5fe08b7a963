"""Cross-layer equalization: channels between two layers are scaled so that the weights of both
layers have similar ranges.

Where only Relu, max pooling or the like stands between two layers, the weights of a channel in the
first can be divided by any positive number s and those in the second be multiplied by it. The
number is that of Nagel et al., Data-free quantization through weight equalization and bias
correction, 2019: s = sqrt(r1 * r2) / r2, where r1 and r2 are the largest magnitudes of the
channel's weights in the first and in the second layer.

A Clip from 0 up to a limit (ReLU6) may stand between them, too. It stays as it is, so that a
channel whose numbers reach the limit on the calibration data keeps its scale, and others may grow
as far as the limit: on these data the network computes the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from systolith.gen.importer.rows import Role, has

from .network import FloatNetwork, attribute, set_parameters

__all__ = ["clipped", "equalize"]

_LAYERS = ("Conv", "Gemm")
_ROUNDS = 20
#: Channels whose weights are all smaller than this share of the layer's largest are not changed.
_DEAD = 1e-6


def _weights(network, node):
    return network.constants.get(node.input[1]) if node.op_type in _LAYERS else None


@dataclass
class _Pair:
    """Two layers that can be equalized.

    Attributes
    ----------
    first, second : NodeProto
    between : list of str
        The tensors between them.
    clip : (tensor, limit) or None
        The result of a Clip between them, and its upper limit.
    """
    first: onnx.NodeProto
    second: onnx.NodeProto
    between: list
    clip: tuple[str, float] | None = None


def _pairs(network):
    pairs = []
    for first in network.nodes:
        if _weights(network, first) is None or (
                len(first.input) > 2 and first.input[2] not in network.constants):
            continue
        node, between, clip = first, [], None
        while True:
            between.append(node.output[0])
            node = network.alone(node.output[0])
            if node is None or node.input[0] != between[-1]:
                break
            if node.op_type in _LAYERS:
                if _inputs(network, node, len(_weights(network, first))):
                    pairs.append(_Pair(first, node, between, clip))
                break
            flat = node.op_type == "Flatten" and attribute(node, "axis", 1) == 1
            limit = _limit(network, node)
            if limit is not None and clip is None:
                clip = node.output[0], limit
            elif not (has(node.op_type, Role.SCALES) or flat):
                break
    return pairs


def _limit(network, node):
    """The upper limit of a Clip that begins at 0; None for other nodes."""
    if node.op_type != "Clip" or len(node.input) < 3:
        return None
    low, high = (network.constants.get(name) for name in node.input[1:3])
    if low is None or high is None or low.size != 1 or high.size != 1:
        return None
    return float(high.reshape(-1)[0]) if low.reshape(-1)[0] == 0 < high.reshape(-1)[0] else None


def _inputs(network, node, channels):
    """How many weights `node` has for each of `channels` channels and each output, besides its
    kernel; 0 where they do not fit."""
    weight = _weights(network, node)
    if weight is None:
        return 0
    if node.op_type == "Gemm":
        return weight.shape[1] // channels if weight.shape[1] % channels == 0 else 0
    groups = attribute(node, "group", 1)
    return 1 if weight.shape[1] * groups == channels else 0


def _second(weight, groups, channels):
    """A view of the second layer's weights: [groups, outputs, channels of the group, rest]."""
    return weight.reshape(groups, len(weight) // groups, channels // groups, -1)


def clipped(network: FloatNetwork) -> list[str]:
    """The tensors of which `equalize` wants to know each channel's largest number."""
    return [pair.clip[0] for pair in _pairs(network) if pair.clip]


def equalize(network: FloatNetwork, peaks: Mapping[str, np.ndarray] | None = None,
             wanted: Callable[[str], bool] = lambda name: True) -> list[str]:
    """Equalize a `FloatNetwork` in place; returns the names of the layers that changed.

    Parameters
    ----------
    network : FloatNetwork
    peaks : {tensor: array [channels]}
        The largest number of each channel on the calibration data, of the tensors of `clipped`;
        where one is missing, the pair of layers stays as it is.
    wanted : function of a layer's name
        Whether its channels are balanced with those of the layer after it.

    The network computes the same, except for float32's rounding. Tensors between the layers hold
    other numbers afterwards, and have new names.
    """
    peaks = {name: array.astype(np.float64) for name, array in (peaks or {}).items()}
    pairs = [pair for pair in _pairs(network)
             if wanted(pair.first.name) and (not pair.clip or pair.clip[0] in peaks)]
    for tensor, limit in (pair.clip for pair in pairs if pair.clip):
        peaks[tensor][peaks[tensor] >= limit] = np.inf
    for node in {id(node): node for pair in pairs for node in (pair.first, pair.second)}.values():
        bias = network.constants[node.input[2]] if len(node.input) > 2 and (
            node.input[2] in network.constants) else None
        if len(node.input) < 3 or bias is not None:
            set_parameters(network, node, network.constants[node.input[1]].copy(), bias)
    for _ in range(_ROUNDS):
        change = max((_equalize_pair(network, pair, peaks) for pair in pairs), default=1.0)
        if change < 1.001:
            break
    for pair in pairs:
        for tensor in pair.between:
            _rename(network, tensor, network.new_name(f"{tensor}_equalized"))
    return sorted({node.name for pair in pairs for node in (pair.first, pair.second)})


def _equalize_pair(network, pair, peaks):
    """Equalize two layers; returns the largest factor of a channel."""
    first, second = pair.first, pair.second
    front = network.constants[first.input[1]]
    channels = len(front)
    groups = attribute(second, "group", 1) if second.op_type == "Conv" else 1
    back = _second(network.constants[second.input[1]], groups, channels)
    ours = np.abs(front.reshape(channels, -1)).max(axis=1).astype(np.float64)
    theirs = np.abs(back).max(axis=(1, 3)).reshape(-1).astype(np.float64)
    alive = (ours > _DEAD * ours.max()) & (theirs > _DEAD * theirs.max())
    scale = np.ones(channels)
    scale[alive] = np.sqrt(ours[alive] * theirs[alive]) / theirs[alive]
    if pair.clip:
        tensor, limit = pair.clip
        scale = np.where(np.isinf(peaks[tensor]), 1.0,
                         np.maximum(scale, peaks[tensor] / limit))
        peaks[tensor] = peaks[tensor] / scale
    front /= scale.reshape(-1, *[1] * (front.ndim - 1)).astype(np.float32)
    if len(first.input) > 2:
        network.constants[first.input[2]] /= scale.astype(np.float32)
    back *= scale.reshape(groups, 1, -1, 1).astype(np.float32)
    return float(np.maximum(scale, 1 / scale).max())


def _rename(network, old, new):
    for node in network.nodes:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
