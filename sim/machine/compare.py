"""Results of the array against the golden model: where every result belongs, and what differs.

Post-processing hands out results in program order, without names. `locate` says which element of
which feature map each of them is, from the program alone: from the address that it is written to
on the chip, or from that of the store that takes it away.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Destination, Opcode
from systolith.hw.spec.loops import item_count, slot_of
from systolith.hw.spec.program import Program
from systolith.hw.spec.words import unpack_group_items, unpack_raw_items

from .parts import part_codes

__all__ = ["Comparison", "Difference", "Place", "compare", "compare_outputs", "locate",
           "results_from_trace"]


@dataclass(eq=False)
class Place:
    """Where the items of one POST instruction belong.

    Attributes
    ----------
    layer : int
    round : int
        Which of a batch's rounds; its images' maps lie one under the other.
    tensor : str
    raw : bool
    channel, y, x : int64 arrays [items]
        The first lane's channel, and the pixel.
    signs : bool
        The items' signs are written, 1 where a result is not negative.
    """
    layer: int
    round: int
    tensor: str
    raw: bool
    channel: np.ndarray
    y: np.ndarray
    x: np.ndarray
    signs: bool = False


@dataclass(frozen=True)
class Difference:
    """One element that differs: layer (index and name), its tensor and (channel, y, x); `image`
    is its number in a batch."""
    layer: int
    name: str
    tensor: str
    element: tuple
    expected: int
    found: int
    image: int = 0

    def __str__(self) -> str:
        channel, y, x = self.element
        image = f"image {self.image} of the batch, " if self.image else ""
        return (f"layer {self.layer} ({self.name}), tensor {self.tensor!r}, {image}channel "
                f"{channel}, row {y}, column {x}: must be {self.expected}, is {self.found}")


@dataclass
class Comparison:
    """Elements compared, bits that differ, and the first difference in program order (or None)."""
    elements: int = 0
    bits: int = 0
    first: Difference | None = None

    def add(self, other: "Comparison") -> None:
        """Take in the comparison of a later image."""
        self.elements += other.elements
        self.bits += other.bits
        self.first = self.first or other.first


def locate(program: Program) -> list[Place]:
    """A `Place` for each POST instruction of `program`, in program order."""
    arch, host = program.arch, program.host
    places = []
    waiting: deque[tuple[Place, int]] = deque()         # items on their way to STORE
    posts = Counter(i.layer for i in program.instructions if i.opcode == Opcode.POST)
    rounds = host.rounds
    seen: Counter[int] = Counter()
    for i in program.instructions:
        if i.opcode == Opcode.POST:
            name = host.layers[i.layer].output
            _, height, width = host.tensors[name].shape
            count = item_count(i, arch)
            number = seen[i.layer] * rounds // posts[i.layer]
            seen[i.layer] += 1
            channel, y, x = (np.zeros(count, np.int64) for _ in "cyx")
            place = Place(i.layer, number, name, bool(i.raw), channel, y, x)
            places.append(place)
            if i.destination == Destination.STORE:
                waiting.extend((place, n) for n in range(count))
                continue
            oy, ox = np.divmod(np.arange(count), i.out_x)
            base, start = ((i.base, host.tensors[name].chip)
                           if i.destination != Destination.OPERAND
                           else (i.copy_base, host.tensors[name].operand))
            assert start is not None, "a map that results are written to lies there"
            word = base + oy * i.stride_y + ox * i.stride_x - start
            _set(place, slice(None), word, slot_of(i, arch), arch, height, width, bool(i.signs))
        elif i.opcode == Opcode.STORE:
            row, item = np.divmod(np.arange(i.rows * i.items), i.items)
            size = arch.raw_bytes if i.raw else arch.group_bytes
            address = i.address + row * i.row_stride + item * (size if i.burst else i.item_stride)
            for at in address:
                place, n = waiting.popleft()
                tensor = host.tensors[place.tensor]
                assert tensor.external is not None, "a map that STORE writes lies outside"
                _, height, width = tensor.shape
                offset = int(at) - tensor.external - place.round * tensor.stride
                if i.raw:
                    pixel, chunk = divmod(offset // size, arch.chunks)
                    group, pixel = divmod(pixel, height * width)
                    place.channel[n] = group * arch.group + chunk * arch.post_lanes
                    place.y[n], place.x[n] = divmod(pixel, width)
                else:
                    word, rest = divmod(offset, arch.activation_bytes)
                    _set(place, n, word, rest // size, arch, height, width)
    return places


def _set(place, index, word, slot, arch, height, width, signs=False):
    block, pixel = np.divmod(word, height * width)
    groups = arch.slots if signs else arch.groups_per_word
    place.channel[index] = (block * groups + slot) * arch.group
    place.signs = signs
    place.y[index], place.x[index] = np.divmod(pixel, width)


def results_from_trace(trace: Sequence[tuple[int, int, int]], places: list[Place],
                       arch: Arch) -> list[np.ndarray]:
    """Items of each POST, as `compare` takes them, from an RTL trace of (layer, raw, item).

    Raises ValueError where the trace is not as long as the program says, or names other layers.
    """
    expected = sum(len(place.channel) for place in places)
    if len(trace) != expected:
        raise ValueError(f"the core made {len(trace)} results, the program says {expected}")
    results, start = [], 0
    for place in places:
        part = trace[start:start + len(place.channel)]
        start += len(part)
        if any((layer, bool(raw)) != (place.layer, place.raw) for layer, raw, _ in part):
            raise ValueError(f"results of layer {place.layer} are marked as others'")
        size = arch.raw_bytes if place.raw else arch.group_bytes
        mask = (1 << 8 * size) - 1
        data = b"".join((item & mask).to_bytes(size, "little") for *_, item in part)
        results.append((unpack_raw_items if place.raw else unpack_group_items)(data, arch))
    return results


def compare(program: Program, places: list[Place], results: Sequence[np.ndarray],
            expected: Mapping[str, np.ndarray]) -> Comparison:
    """Hold the results of one image against the golden model's tensors.

    Parameters
    ----------
    program : Program
    places : list of Place
        From `locate`.
    results : list of arrays [items, lanes]
        For each POST: codes of a group, or raw sums of a chunk.
    expected : dict
        Tensor name to codes [C, H, W], or [N, C, H, W] for a program with a batch of N.
    """
    arch, total, together = program.arch, Comparison(), program.host.together
    tall = {}                                   # (tensor, round): images one under the other
    for place, items in zip(places, results, strict=True):
        if place.signs:
            items = part_codes(items, arch)
        key = place.tensor, place.round
        if key not in tall:
            golden, first = np.asarray(expected[place.tensor]), place.round * together
            tall[key] = np.concatenate(list(
                golden[first:first + together] if golden.ndim == 4 else golden[None]), axis=1)
        golden = tall[key]
        channel = place.channel[:, None] + np.arange(items.shape[1])
        lanes = program.host.tensors[place.tensor].channels
        if lanes is not None:
            own = np.full(int(channel.max()) + lanes[-1] + 1, len(golden))
            own[list(lanes)] = np.arange(len(lanes))
            channel = own[channel]
        real = channel < len(golden)
        at = np.stack(np.broadcast_arrays(channel, place.y[:, None], place.x[:, None]), 2)[real]
        part = arch.part if place.signs else None
        bits = arch.raw_bits if place.raw else (part or arch.activation).width
        total.add(_compare(program, place.layer, place.tensor, at, items[real],
                           golden[tuple(at.T)], bits, place.round * together,
                           golden.shape[1] // together))
    return total


def compare_outputs(program: Program, outputs: Mapping[str, np.ndarray],
                    expected: Mapping[str, np.ndarray]) -> Comparison:
    """Hold outputs as they came to memory, {name: codes [C, H, W]} or [N, C, H, W], against the
    golden model's."""
    arch, total = program.arch, Comparison()
    for name, codes in outputs.items():
        layer, raw = next((number, item.raw) for number, item in
                          enumerate(program.host.layers) if item.output == name)
        codes, wanted = (np.reshape(item, (-1, *np.shape(item)[-3:]))
                         for item in (codes, expected[name]))
        # Images one under the other, as `_compare` takes them.
        codes, wanted = (np.concatenate(list(item), axis=1) for item in (codes, wanted))
        at = np.argwhere(np.ones(codes.shape, bool))
        total.add(_compare(program, layer, name, at, codes.ravel(), wanted.ravel(),
                           arch.raw_bits if raw else arch.activation.width, 0,
                           codes.shape[1] // program.host.batch))
    return total


def _compare(program, layer, tensor, at, found, expected, bits, image, height):
    """Elements at (channel, y, x) [n, 3]: what was found, what must be, bits of each; the first
    image, and the rows of one."""
    differs = found != expected
    if not differs.any():
        return Comparison(len(found))
    mask = (1 << bits) - 1
    n = int(np.argmax(differs))
    channel, y, x = map(int, at[n])
    first = Difference(layer, program.host.layers[layer].name, tensor,
                       (channel, y % height, x), int(expected[n]), int(found[n]),
                       image + y // height)
    return Comparison(len(found), sum(
        ((int(a) ^ int(b)) & mask).bit_count()
        for a, b in zip(found[differs], expected[differs], strict=True)), first)
