"""The check of the serial line's commands and answers: CRC-16 of the polynomial 0x1021, the highest
bit first, that begins with 0xFFFF (`binascii.crc_hqx` in Python).

It finds every error of up to three bits in 4,000 bytes, every burst of up to 16 bits, and all but
one in 65,536 of others."""

from functools import reduce
from operator import xor

from amaranth.hdl import Cat, Value

__all__ = ["START", "following"]

#: The check before the first byte.
START = 0xFFFF
_POLYNOMIAL = 0x1021


def _step(crc: int, byte: int) -> int:
    crc ^= byte << 8
    for _ in range(8):
        crc = crc << 1 & 0xFFFF ^ (_POLYNOMIAL if crc & 0x8000 else 0)
    return crc


def following(crc: Value, byte: Value) -> Value:
    """The check (16 bits) after one more byte, in one step: each bit is a sum of others."""
    sources = [(crc[n], _step(1 << n, 0)) for n in range(16)]
    sources += [(byte[n], _step(0, 1 << n)) for n in range(8)]
    return Cat(reduce(xor, [bit for bit, reach in sources if reach >> n & 1]) for n in range(16))
