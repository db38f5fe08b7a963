"""A stand-in for the package `pynq`, whose registers and buffers are those of a core in memory.

Buffers have a cache as the processors' memory has one: what is written is the core's after `flush`,
what the core has written is seen after `invalidate`."""

import sys
from types import ModuleType

import numpy as np
from systolith.sim.rtl.memory_map import MemoryMap

from .core_in_memory import REGISTERS, WINDOW

#: The buffer does not begin with a page.
BEFORE = 96


class Buffer(np.ndarray):
    """As `pynq.buffer.PynqBuffer`, over a mapped file."""

    def __new__(cls, mapped, shape, dtype):
        buffer = np.zeros(shape, dtype).view(cls)
        buffer.mapped, buffer.device_address = mapped, WINDOW - BEFORE
        buffer.freed = False
        return buffer

    def __array_finalize__(self, other):
        self.mapped = getattr(other, "mapped", None)

    def _within(self):
        size = min(len(self) - BEFORE, self.mapped.window_bytes)
        return slice(BEFORE, BEFORE + size), size

    def flush(self):
        place, _ = self._within()
        self.mapped.write_memory(0, np.asarray(self[place]).tobytes())

    def invalidate(self):
        place, size = self._within()
        self[place] = np.frombuffer(self.mapped.read_memory(0, size), np.uint8)

    def freebuffer(self):
        self.freed = True


def install(monkeypatch, core, kinds=("systolith:ip:systolith:0.1",)):
    """Put the stand-in where `import pynq` finds it; `core` is a `CoreInMemory` that runs, `kinds`
    what the overlay's cores are. Returns the list of buffers that will be allocated."""
    mapped, buffers = MemoryMap(core.path, *core.places), []

    class Overlay:
        def __init__(self, name):
            self.name = name
            self.ip_dict = {f"core_{n}": {"type": kind, "phys_addr": REGISTERS,
                                          "addr_range": 4096} for n, kind in enumerate(kinds)}
            self.ip_dict["ps"] = {"type": "xilinx.com:ip:processing_system7:5.5"}

    class MMIO:
        def __init__(self, address, size):
            assert (address, size) == (REGISTERS, 4096)
        read = staticmethod(mapped.read_register)
        write = staticmethod(mapped.write_register)

    def allocate(shape, dtype):
        buffers.append(Buffer(mapped, shape, dtype))
        return buffers[-1]

    module = ModuleType("pynq")
    module.Overlay, module.MMIO, module.allocate = Overlay, MMIO, allocate
    monkeypatch.setitem(sys.modules, "pynq", module)
    return buffers
