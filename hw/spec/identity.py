"""The identity of a chip: a number that stands in a register, in every program and in the driver.

A program is executed only by a chip of the identity for which it was built.
"""

import hashlib
import json
from functools import lru_cache

from . import isa
from .arch import KEYS, Arch
from .numbers import MULTIPLIER_BITS, SHIFT_BITS, TIE_BITS

__all__ = ["WITHOUT_EFFECT", "identity"]

#: Fields of `Arch` that no program depends on: names, clock, the processing elements' inside.
WITHOUT_EFFECT = tuple(name for name, key in KEYS.items() if not key.programs)


@lru_cache(maxsize=256)
def identity(arch: Arch) -> int:
    """64 bits: a hash of the instruction set and of all of the chip that a program depends on."""
    facts = {key: value for key, value in arch.to_dict().items() if key not in WITHOUT_EFFECT}
    if arch.prepared_scales:
        facts["scales"] = "prepared"
    text = json.dumps([facts, MULTIPLIER_BITS, SHIFT_BITS, TIE_BITS, isa.description()],
                      sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
