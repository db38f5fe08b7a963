"""How words lie in external memory: codes to bytes and back.

Compiler, host and simulators share these; the load and store units do the same in gates. All is
little endian, bit 0 first. Arrays have one row a word; a function packs any number of words.
"""

import numpy as np
from numpy.typing import ArrayLike

from .arch import Arch

__all__ = [
    "column_scales",
    "input_word_bytes",
    "pack_activation_words",
    "pack_group_items",
    "pack_parameter_words",
    "pack_pool_words",
    "pack_raw_items",
    "pack_table_words",
    "pack_weight_words",
    "scale_word",
    "unpack_activation_words",
    "unpack_group_items",
    "unpack_parameter_words",
    "unpack_pool_words",
    "unpack_raw_items",
    "unpack_table_words",
    "unpack_weight_words",
]


def _rows(array, length, what):
    array = np.asarray(array)
    if array.ndim != 2 or array.shape[1] != length:
        raise ValueError(f"{what} must have the shape (words, {length}), not {array.shape}")
    return array


def _bits(values, width):
    """uint8 [..., n * width] of 0 and 1 from integers [..., n], two's complement of any width."""
    values = np.asarray(values)
    parts = []
    for low in range(0, width, 64):             # Python integers carry what int64 cannot
        part = values
        if values.dtype == object:
            part = np.array([(int(v) >> low) & ((1 << 64) - 1) for v in values.ravel()],
                            np.uint64).reshape(values.shape)
        elif low:
            part = values >> 63
        count = np.arange(min(64, width - low), dtype=np.uint64)
        parts.append(((part.astype(np.uint64)[..., None] >> count) & np.uint64(1)).astype(np.uint8))
    return np.concatenate(parts, axis=-1).reshape(*values.shape[:-1], -1)


def _integers(bits, width, signed=False):
    """Integers from bits, the reverse of `_bits`: int64 [..., n], or Python integers where 64 bits
    are too few."""
    bits = bits.reshape(*bits.shape[:-1], -1, width)
    wide = width + (not signed) > 64
    total = np.zeros(bits.shape[:-1], object if wide else np.int64)
    for position in range(width):
        weight = -(1 << position) if signed and position == width - 1 else 1 << position
        total += bits[..., position].astype(total.dtype) * weight
    return total


def _to_bytes(bits, size):
    """Bits [words, n] to `size` bytes a word, padded with zeros at the end."""
    return _padded(np.packbits(bits, axis=1, bitorder="little"), size)


def _padded(data, size):
    """Rows of bytes with zeros at the end, up to `size` bytes each."""
    padded = np.zeros((len(data), size), np.uint8)
    padded[:, :data.shape[1]] = data
    return padded


def _from_bytes(data, size, bits):
    data = np.frombuffer(data, np.uint8)
    if data.size % size:
        raise ValueError(f"the data must be whole words of {size} bytes, not {data.size} bytes")
    return np.unpackbits(data.reshape(-1, size), axis=1, bitorder="little", count=bits)


def _pack_codes(codes, width, size):
    codes = np.asarray(codes)
    if codes.size and (codes.min() < 0 or codes.max() >> width):
        raise ValueError(f"codes must be from 0 to {(1 << width) - 1}")
    if width == 8:
        return _padded(codes, size)
    return _to_bytes(_bits(codes, width), size)


def _unpack_codes(data, width, size, count):
    if width == 8:
        data = np.frombuffer(data, np.uint8)
        if data.size % size:
            raise ValueError(f"the data must be whole words of {size} bytes, not {data.size}")
        return data.reshape(-1, size)[:, :count].astype(np.int64)
    return _integers(_from_bytes(data, size, count * width), width)


def pack_group_items(codes: ArrayLike, arch: Arch) -> bytes:
    """Groups of results, codes [items, group], as `group_bytes` bytes each."""
    codes = _rows(codes, arch.group, "groups")
    return _pack_codes(codes, arch.activation.width, arch.group_bytes).tobytes()


def unpack_group_items(data: bytes, arch: Arch) -> np.ndarray:
    """Codes (int64) [items, group] from whole items."""
    return _unpack_codes(data, arch.activation.width, arch.group_bytes, arch.group)


def pack_activation_words(codes: ArrayLike, arch: Arch) -> bytes:
    """Codes [words, vector] as `activation_bytes` bytes each, every group in bytes of its own."""
    codes = _rows(codes, arch.vector, "activation words").reshape(-1, arch.group)
    groups = _pack_codes(codes, arch.activation.width, arch.group_bytes)
    groups = groups.reshape(-1, arch.groups_per_word * arch.group_bytes)
    return _padded(groups, arch.activation_bytes).tobytes()


def unpack_activation_words(data: bytes, arch: Arch) -> np.ndarray:
    """Codes (int64) [words, vector] from whole words."""
    if len(data) % arch.activation_bytes:
        raise ValueError(f"the data must be whole words of {arch.activation_bytes} bytes, not "
                         f"{len(data)} bytes")
    words = np.frombuffer(data, np.uint8).reshape(-1, arch.activation_bytes)
    groups = words[:, :arch.groups_per_word * arch.group_bytes]
    return unpack_group_items(groups.tobytes(), arch).reshape(-1, arch.vector)


def input_word_bytes(channels: int, arch: Arch) -> int:
    """Bytes that a word with its first `channels` lanes in use takes in external memory where the
    host writes it: whole beats, up to those of a whole word."""
    groups, rest = divmod(channels, arch.group)
    used = groups * arch.group_bytes + -(-rest * arch.activation.width // 8)
    return min(arch.activation_bytes, -(-used // arch.beat_bytes) * arch.beat_bytes)


def pack_weight_words(codes: ArrayLike, arch: Arch) -> bytes:
    """Codes [words, columns * lanes], index column * lanes + lane, as `weight_bytes` bytes each."""
    codes = _rows(codes, arch.columns * arch.lanes, "weight words")
    return _pack_codes(codes, arch.weight.width, arch.weight_bytes).tobytes()


def scale_word(codes: ArrayLike, arch: Arch) -> np.ndarray:
    """What stands in place of weight codes [..., columns, lanes] in the word after those of the
    array's rows: the scales of each column's block, codes [..., columns], as `ScaleWord`s, lowest
    bits first."""
    assert arch.scale_word is not None, "the chip has weights in blocks"
    width = arch.weight.width
    lanes = np.arange(arch.lanes) * width
    words = arch.scale_word.words[np.asarray(codes, np.int64)]
    return (words[..., None] >> lanes) & ((1 << width) - 1)


def column_scales(word: ArrayLike, arch: Arch) -> np.ndarray:
    """The `ScaleWord`s [..., columns] of such a word [..., columns, lanes]."""
    assert arch.scale_word is not None, "the chip has weights in blocks"
    lanes = np.arange(arch.lanes) * arch.weight.width
    words = (np.asarray(word, np.int64) << np.minimum(lanes, 62)).sum(axis=-1)
    return words & ((1 << arch.scale_word.width) - 1)


def unpack_weight_words(data: bytes, arch: Arch) -> np.ndarray:
    """Codes (int64) [words, columns * lanes] from whole words."""
    return _unpack_codes(data, arch.weight.width, arch.weight_bytes, arch.columns * arch.lanes)


def pack_parameter_words(
        bias: ArrayLike, multiplier: ArrayLike, shift: ArrayLike, arch: Arch,
        below: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
        addend: ArrayLike | None = None, ties: ArrayLike | None = None,
        offset: ArrayLike | None = None) -> bytes:
    """Integers [words, post_lanes] each, as `parameter_bytes` bytes a word.

    `addend` (None: 0) is added to products, `ties` (None: 0) as of `Requantization` (sim/model).
    `below`: (multiplier, shift, addend) for sums below zero, on chips that have such parameters, of
    which all but the shift may be negative; None: the same as for others. `offset`: in units of
    `Arch.offset_unit`, on chips that have it; None: 0.
    Raises ValueError where a number does not fit its field of `Arch.parameters`.
    """
    addend, ties = (np.zeros(np.shape(bias), np.int64) if item is None else item
                    for item in (addend, ties))
    values = {"bias": bias, "multiplier": multiplier, "shift": shift, "addend": _cut(addend, arch),
              "ties": ties}
    if "below_shift" in arch.parameters:
        factor, right, more = (multiplier, shift, addend) if below is None else below
        values |= {"below_multiplier": factor, "below_shift": right,
                   "below_addend": _cut(more, arch)}
    elif below is not None:
        raise ValueError("the chip has no parameters of their own for sums below zero")
    if "offset" in arch.parameters:
        values["offset"] = np.zeros(np.shape(bias), np.int64) if offset is None else offset
    elif offset is not None:
        raise ValueError("the chip has no offsets")
    parts = []
    for name, column in values.items():
        bits, sign = arch.parameters[name]
        if bits or name != "ties":              # which formats without ties ignore
            parts.append(_parameter(name, column, bits, sign, arch))
    joined = np.concatenate(parts, axis=2)
    return _to_bytes(joined.reshape(len(joined), -1), arch.parameter_bytes).tobytes()


def _parameter(name, values, bits, sign, arch):
    """Bits [words, post_lanes, bits] of one parameter."""
    values = _rows(values, arch.post_lanes, name)
    sign = sign and bits > 0
    low, high = -(1 << bits - 1) if sign else 0, (1 << bits - sign) - 1
    if values.size and not low <= values.min() <= values.max() <= high:
        raise ValueError(f"{name.replace('_', ' ')} must be from {low} to {high}, not "
                         f"{values.min()} to {values.max()}")
    return _bits(values, bits).reshape(*values.shape, bits) if bits else np.zeros(
        (*values.shape, 0), np.uint8)


def _cut(addend, arch):
    """Addends without the bits that the chip does not hold, which must be 0."""
    addend, lost = np.asarray(addend), arch.multiplier_bits - arch.addend_bits
    if (addend % arch.addend_unit).any():
        raise ValueError(f"addends must be multiples of 2**{lost}, as the chip holds "
                         f"{arch.addend_bits} fraction bits of a bias")
    return addend // arch.addend_unit


def unpack_parameter_words(data: bytes, arch: Arch) -> tuple[np.ndarray, ...]:
    """What `Arch.parameters` names, int64 [words, post_lanes] each, from whole words; what has no
    bits is 0."""
    bits = _from_bytes(data, arch.parameter_bytes, arch.post_lanes * arch.parameter_bits)
    bits = bits.reshape(-1, arch.post_lanes, arch.parameter_bits)
    parts, end = [], 0
    for name, (width, sign) in arch.parameters.items():
        part = bits[..., end:end + width]
        end += width
        unit = arch.addend_unit if name.endswith("addend") else 1
        parts.append(_integers(part, width, sign)[..., 0] * unit
                     if width else np.zeros(bits.shape[:2], np.int64))
    return tuple(parts)


def pack_table_words(values: ArrayLike, arch: Arch) -> bytes:
    """Table words, ordered integers [words], as `table_bytes` bytes each."""
    width = arch.activation.width
    values = np.asarray(values)
    if values.size and not -1 << width - 1 <= values.min() <= values.max() < 1 << width - 1:
        raise ValueError(f"table words must have {width} bits, not be {values.min()} to "
                         f"{values.max()}")
    return _to_bytes(_bits(values[:, None], width), arch.table_bytes).tobytes()


def unpack_table_words(data: bytes, arch: Arch) -> np.ndarray:
    """Ordered integers (int64) [words] from whole words."""
    width = arch.activation.width
    return _integers(_from_bytes(data, arch.table_bytes, width), width, signed=True)[:, 0]


def pack_pool_words(codes: ArrayLike, arch: Arch) -> bytes:
    """Pool words, codes of weights [words], as `pool_bytes` bytes each."""
    bits = _bits(np.asarray(codes)[:, None], arch.weight.width)
    return _to_bytes(bits, arch.pool_bytes).tobytes()


def unpack_pool_words(data: bytes, arch: Arch) -> np.ndarray:
    """Codes of weights (int64) [words] from whole words."""
    return _unpack_codes(data, arch.weight.width, arch.pool_bytes, 1)[:, 0]


def pack_raw_items(values: ArrayLike, arch: Arch) -> bytes:
    """Raw results [items, post_lanes] (int64 or Python integers) as `raw_bytes` bytes each."""
    values = _rows(values, arch.post_lanes, "raw items")
    return _to_bytes(_bits(values, arch.raw_bits), arch.raw_bytes).tobytes()


def unpack_raw_items(data: bytes, arch: Arch) -> np.ndarray:
    """Raw results [items, post_lanes]: int64, or Python integers where raw_bits is over 64."""
    bits = _from_bytes(data, arch.raw_bytes, arch.post_lanes * arch.raw_bits)
    return _integers(bits, arch.raw_bits, signed=True)
