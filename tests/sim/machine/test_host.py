"""The host's packing against plain loops."""

from dataclasses import replace

import numpy as np
import pytest
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.host import Host, Input, Output, Taps
from systolith.hw.spec.program import Program
from systolith.hw.spec.words import pack_raw_items
from systolith.sim.machine.host import (
    bit_planes,
    pack_inputs,
    pack_map,
    unpack_map,
    unpack_outputs,
    unpack_raw_map,
    unroll,
)

ARCH = Arch(rows=3, columns=6, lanes=2, activation="int5", weight="int5", post_lanes=3)


@pytest.mark.parametrize("channels", [1, 5, 6, 13])
def test_maps_come_back(channels):
    codes = np.random.default_rng(1).integers(0, 32, (channels, 3, 4))
    data = pack_map(codes, ARCH)
    blocks = -(-channels // 6)
    assert len(data) == blocks * 12 * ARCH.activation_bytes
    assert (unpack_map(data, codes.shape, ARCH) == codes).all()
    word = data[7 * ARCH.activation_bytes:8 * ARCH.activation_bytes]     # y = 1, x = 3
    bits = int.from_bytes(word, "little")
    assert [bits >> 5 * c & 31 for c in range(min(6, channels))] == codes[:6, 1, 3].tolist()
    assert bits >> 5 * min(6, channels) == 0


def test_raw_maps_come_back():
    arch = Arch(rows=4, columns=8, post_lanes=2)
    sums = np.random.default_rng(2).integers(-10**6, 10**6, (11, 2, 3))
    padded = np.zeros((12, 2, 3), int)
    padded[:11] = sums
    items = [padded[4 * group + 2 * chunk:4 * group + 2 * chunk + 2, y, x]
             for group in range(3) for y in range(2) for x in range(3) for chunk in range(2)]
    assert (unpack_raw_map(pack_raw_items(np.array(items), arch), (11, 2, 3), arch) == sums).all()


@pytest.mark.parametrize("seed", range(20))
def test_unrolled_maps_hold_the_taps(seed):
    rng = np.random.default_rng(seed)
    channels, height, width = rng.integers(1, 7, 3)
    codes = rng.integers(0, 99, (channels, height, width))
    ny, nx, dy, dx, sy, sx, rows, columns = rng.integers(1, 4, 8)
    py, px = rng.integers(0, 4, 2)
    taps = Taps(taps=(ny, nx), dilation=(dy, dx), step=(sy, sx), pads=(py, px), fill=77,
                replicate=seed % 3 == 0, planes=None, shape=(ny * nx * channels, rows, columns))
    found = unroll(codes, taps)
    assert found.shape == taps.shape
    for (channel, y, x), code in np.ndenumerate(found):
        tap, c = divmod(channel, channels)
        iy = y * sy - py + tap // nx * dy
        ix = x * sx - px + tap % nx * dx
        if taps.replicate:
            iy, ix = max(0, min(iy, height - 1)), max(0, min(ix, width - 1))
        inside = 0 <= iy < height and 0 <= ix < width
        assert code == (codes[c, iy, ix] if inside else 77)


def _program(batch=1, together=1):
    inputs = tuple(
        Input(name=name, offset=offset, bytes=0, stride=stride, words=0,
              word_bytes=ARCH.activation_bytes, shape=shape, map=shape,
              layout="activation", taps=None, note=None)
        for name, offset, stride, shape in (("a", 128, 64, (2, 1, 3)), ("b", 256, 128, (7, 2, 2))))
    outputs = (Output(name="y", offset=512, bytes=3 * together * ARCH.activation_bytes, stride=64,
                      map=(2, together, 3), shape=(2, 1, 3), channels=None, layout="activation"),)
    return Program(ARCH, [], b"", 0, 1024, Host(
        batch=batch, together=together, inputs=inputs, input_offset=128, input_bytes=256,
        outputs=outputs, output_offset=512, output_bytes=64))


def test_sections_hold_every_input_at_its_offset():
    a, b = np.full((2, 1, 3), 3), np.full((7, 2, 2), 9)
    data = pack_inputs(_program(), {"a": a, "b": b})
    assert len(data) == 256
    assert data.startswith(pack_map(a, ARCH)) and data[128:].startswith(pack_map(b, ARCH))
    outputs = unpack_outputs(_program(), data[:64])
    assert list(outputs) == ["y"] and (outputs["y"] == a).all()


def test_images_of_a_batch_lie_in_rounds_one_under_the_other():
    program = _program(4, 2)
    program.host = replace(program.host, input_bytes=384, output_bytes=128)
    a, b = np.arange(24).reshape(4, 2, 1, 3), np.arange(112).reshape(4, 7, 2, 2) % 32
    data = pack_inputs(program, {"a": a, "b": b})
    for number, start in enumerate((0, 64)):
        mine = np.concatenate(a[2 * number:2 * number + 2], axis=1)
        assert data[start:].startswith(pack_map(mine, ARCH))
        mine = np.concatenate(b[2 * number:2 * number + 2], axis=1)
        assert data[128 + 2 * start:].startswith(pack_map(mine, ARCH))
    assert (unpack_outputs(program, data[:128])["y"] == a).all()


def test_what_does_not_fit_is_refused():
    program = _program()
    with pytest.raises(ValueError, match=r"^the network has the inputs a, b: give a dict"):
        pack_inputs(program, np.zeros((2, 1, 3)))
    with pytest.raises(ValueError, match=r"^codes for input 'b' are missing$"):
        pack_inputs(program, {"a": np.zeros((2, 1, 3))})
    with pytest.raises(ValueError, match=r"shape \(2, 1, 3\), not \(1, 2, 3\)$"):
        pack_inputs(program, {"a": np.zeros((1, 2, 3)), "b": None})
    with pytest.raises(ValueError, match=r"^the output section has 64 bytes, not 3$"):
        unpack_outputs(program, b"abc")


def test_planes_of_bits_weigh_as_the_bits_of_signed_numbers():
    codes = np.arange(16).reshape(4, 2, 2)
    planes = bit_planes(codes, 4, 3).reshape(4, 6, 2, 2)
    assert not planes[:, 4:].any()                  # lanes without a channel
    signs = 2 * planes[:, :4] - 1
    numbers = np.where(codes < 8, codes, codes - 16)
    # each bipolar plane counts half its bit: the sum of all is twice the number, and 1
    assert (np.tensordot([8, 4, 2, 1], signs, 1) == 2 * numbers + 1).all()
