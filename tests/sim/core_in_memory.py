"""A core in this machine's address space, for tests of hosts: a file stands for registers and
memory, the instruction-level simulator for the core."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from systolith.hw.spec import registers
from systolith.hw.spec.identity import identity
from systolith.sim.machine.iss import Simulator
from systolith.sim.rtl.device import memory_bytes, window_stride
from systolith.sim.rtl.memory_map import MemoryMap

REGISTERS, WINDOW = 0x1000, 0x4000


@dataclass
class CoreInMemory:
    """As a context manager: runs `program` once, when it is started, on each of its cores in turn;
    busy until then, for there is nobody who sees at once that a register was written. `device` is
    its name."""
    path: Path
    program: object
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def places(self):
        size = memory_bytes(self.program.arch, self.program.window_bytes)
        return REGISTERS, WINDOW, -(-size // 4096) * 4096, self.program.arch.cores

    @property
    def device(self):
        return f"mem:{self.path}@{','.join(map(hex, self.places[:3]))}"

    def __enter__(self):
        self.path.write_bytes(bytes(WINDOW + self.places[2]))
        number = identity(self.program.arch)
        with MemoryMap(self.path, *self.places) as mapped:
            for name, value in (("ID", registers.ID), ("VERSION", registers.VERSION),
                                ("IDENTITY_LOW", number & 0xFFFFFFFF),
                                ("IDENTITY_HIGH", number >> 32), ("STATUS", 1)):
                for core in range(self.program.arch.cores):
                    mapped.write_register((core << registers.CORE_BITS) + registers.address(name),
                                          value)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.stopped.set()
        self.thread.join()

    def _serve(self):
        with MemoryMap(self.path, *self.places) as mapped:
            for core in range(self.program.arch.cores):
                own = core << registers.CORE_BITS
                control = own + registers.address("CONTROL")
                while mapped.read_register(control) != registers.CONTROL_START:
                    if self.stopped.wait(0.0005):
                        return
                window = core * window_stride(self.program.arch, self.program.window_bytes)
                memory = bytearray(mapped.read_memory(window, self.program.window_bytes))
                Simulator(self.program.arch, memory).run(self.program.instructions)
                mapped.write_memory(window, bytes(memory))
                mapped.write_register(own + registers.address("STATUS"), 2)
