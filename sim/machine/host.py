"""The host's part of a run: inputs written into their section, outputs read from theirs, as
`hw.spec.host` describes them.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.host import Taps
from systolith.hw.spec.program import Program
from systolith.hw.spec.words import pack_activation_words, unpack_activation_words, unpack_raw_items

__all__ = ["bit_planes", "pack_inputs", "pack_map", "rows_of_bytes", "unpack_map", "unpack_outputs",
           "unpack_raw_map", "unroll"]


def unroll(codes: np.ndarray, taps: Taps) -> np.ndarray:
    """The map whose channels are kernel taps, from codes [C, H, W].

    Channel (ky * nx + kx) * C + c at (y, x) is channel c at (y * step_y - pad_y + ky * dilation_y,
    x * step_x - pad_x + kx * dilation_x). Outside the map it is `fill` or, with `replicate`, the
    nearest pixel. With windows its words are what LOAD makes of the rows.
    """
    if taps.windows is not None:
        rows, (lanes, _, width) = rows_of_bytes(codes, taps), taps.shape
        number, (even, odd) = np.arange(width), taps.windows.steps
        starts = number // 2 * (even + odd) + number % 2 * even
        return rows[:, np.add.outer(np.arange(lanes), starts)].swapaxes(0, 1).astype(np.int64)
    (ny, nx), (dy, dx), (sy, sx), (py, px) = taps.taps, taps.dilation, taps.step, taps.pads
    _, height, width = taps.shape
    ky, kx, channel, y, x = np.ogrid[:ny, :nx, :len(codes), :height, :width]
    found = _at(codes, channel, y * sy - py + ky * dy, x * sx - px + kx * dx, taps)
    return found.reshape(-1, height, width)


def rows_of_bytes(codes: np.ndarray, taps: Taps) -> np.ndarray:
    """Rows of bytes (uint8 [rows, bytes]) of which LOAD makes windows, from codes [C, H, W]."""
    assert taps.windows is not None
    (ny, _), (py, px), size = taps.taps, taps.pads, taps.windows.row_bytes
    channels = len(codes)
    place = np.arange(size)
    y = np.add.outer(np.arange(taps.shape[1]) * taps.step[0] - py,
                     place // channels % ny * taps.dilation[0])
    x = place // (channels * ny) - px
    return _at(codes, place % channels, y, x, taps).astype(np.uint8)


def _at(codes, channel, y, x, taps):
    """codes[channel, y, x]; outside of the map `fill` or, with `replicate`, the nearest pixel."""
    _, height, width = codes.shape
    found = codes[channel, y.clip(0, height - 1), x.clip(0, width - 1)]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return found if taps.replicate else np.where(inside, found, taps.fill)


def bit_planes(codes: np.ndarray, count: int, vector: int) -> np.ndarray:
    """The `count` bits of signed codes [C, H, W] as codes of bipolar numbers, plane after plane,
    the sign's (inverted) first; each has lanes of code 0 up to whole words of `vector`."""
    channels = len(codes)
    codes = codes ^ 1 << count - 1
    planes = np.zeros((count, -(-channels // vector) * vector, *codes.shape[1:]), codes.dtype)
    for n, plane in enumerate(planes):
        plane[:channels] = codes >> count - 1 - n & 1
    return planes.reshape(-1, *codes.shape[1:])


def pack_map(codes: np.ndarray, arch: Arch, word_bytes: int | None = None) -> bytes:
    """Codes [C, H, W] as activation words [block][y][x], of which the first `word_bytes` bytes each
    (None: all) are stored; lanes without channel hold code 0."""
    codes = np.asarray(codes)
    channels, height, width = codes.shape
    blocks = -(-channels // arch.vector)
    padded = np.zeros((blocks * arch.vector, height, width), np.int64)
    padded[:channels] = codes
    words = padded.reshape(blocks, arch.vector, height, width).transpose(0, 2, 3, 1)
    data = pack_activation_words(words.reshape(-1, arch.vector), arch)
    if word_bytes in (None, arch.activation_bytes):
        return data
    return np.frombuffer(data, np.uint8).reshape(-1, arch.activation_bytes)[
        :, :word_bytes].tobytes()


def unpack_map(data: bytes, shape: tuple[int, int, int], arch: Arch) -> np.ndarray:
    """Codes (int64) of this shape from activation words; the reverse of `pack_map`."""
    channels, height, width = shape
    words = unpack_activation_words(data, arch).reshape(-1, height, width, arch.vector)
    return words.transpose(0, 3, 1, 2).reshape(-1, height, width)[:channels]


def unpack_raw_map(data: bytes, shape: tuple[int, int, int], arch: Arch) -> np.ndarray:
    """Sums [C, H, W] from raw results [column block][group][pixel][chunk][lane]."""
    channels, height, width = shape
    items = unpack_raw_items(data, arch)
    items = items.reshape(-1, height, width, arch.group).transpose(0, 3, 1, 2)
    return items.reshape(-1, height, width)[:channels]


def _laid_out(codes, taps, arch):
    """An image as it lies in memory; `taps` as of the program's inputs."""
    if taps is None:
        return codes
    codes = unroll(codes, taps)
    if not taps.planes:
        return codes
    return bit_planes(codes, taps.planes, taps.plane_lanes or arch.vector)


def pack_inputs(program: Program, codes: ArrayLike | Mapping[str, ArrayLike]) -> bytes:
    """The content of the input section, `input_bytes` bytes for `input_offset`.

    `codes` are codes [C, H, W] of the image, or [N, C, H, W] for a program with a batch of N; for
    several inputs a dict of name to codes. Raises ValueError for a shape or a name that does not
    fit.
    """
    host, inputs = program.host, program.host.inputs
    if not isinstance(codes, Mapping):
        if len(inputs) != 1:
            raise ValueError(f"the network has the inputs {', '.join(i.name for i in inputs)}: "
                             "give a dict of codes")
        codes = {inputs[0].name: codes}
    section, batch, together = bytearray(host.input_bytes), host.batch, host.together
    for item in inputs:
        if item.name not in codes:
            raise ValueError(f"codes for input {item.name!r} are missing")
        array, shape = np.asarray(codes[item.name]), item.shape
        if array.shape != (shape if batch == 1 else (batch, *shape)):
            raise ValueError(f"codes of {item.name!r} must have the shape "
                             f"{shape if batch == 1 else (batch, *shape)}, not {array.shape}")
        if item.taps is not None and item.taps.windows is not None:
            for number, image in enumerate(array.reshape(batch, *shape)):
                rows = rows_of_bytes(image, item.taps).tobytes()
                offset = (item.offset - host.input_offset + number // together * item.stride
                          + number % together * len(rows))
                section[offset:offset + len(rows)] = rows
            continue
        images = [_laid_out(image, item.taps, program.arch)
                  for image in array.reshape(batch, *shape)]
        for start in range(0, batch, together):
            data = pack_map(np.concatenate(images[start:start + together], axis=1), program.arch,
                            item.word_bytes)
            offset = item.offset - host.input_offset + start // together * item.stride
            section[offset:offset + len(data)] = data
    return bytes(section)


def unpack_outputs(program: Program, data: bytes) -> dict[str, np.ndarray]:
    """{name: codes} (raw outputs: sums) from the output section's bytes: [C, H, W], or
    [N, C, H, W] for a program with a batch of N."""
    host, result = program.host, {}
    batch, together = host.batch, host.together
    if len(data) != host.output_bytes:
        raise ValueError(f"the output section has {host.output_bytes} bytes, not {len(data)}")
    for item in host.outputs:
        unpack, images = unpack_raw_map if item.layout == "raw" else unpack_map, []
        for number in range(host.rounds):
            start = item.offset - host.output_offset + number * item.stride
            codes = unpack(data[start:start + item.bytes], item.map, program.arch)
            images += np.split(codes, together, axis=1)
        codes = np.stack(images)
        codes = codes if item.channels is None else codes[:, list(item.channels)]
        result[item.name] = codes if batch > 1 else codes[0]
    return result
