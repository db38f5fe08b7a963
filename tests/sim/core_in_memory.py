"""A core in this machine's address space, for tests of hosts: a file stands for registers and
memory, the instruction-level simulator for the core."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from systolith.hw.spec import registers
from systolith.hw.spec.identity import identity
from systolith.sim.machine.iss import Simulator
from systolith.sim.rtl.memory_map import MemoryMap

REGISTERS, WINDOW = 0x1000, 0x4000


@dataclass
class CoreInMemory:
    """As a context manager: runs `program` once, when it is started; busy until then, for there is
    nobody who sees at once that a register was written. `device` is its name."""
    path: Path
    program: object
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def places(self):
        return REGISTERS, WINDOW, -(-self.program.window_bytes // 4096) * 4096

    @property
    def device(self):
        return f"mem:{self.path}@{','.join(map(hex, self.places))}"

    def __enter__(self):
        self.path.write_bytes(bytes(WINDOW + self.places[2]))
        number = identity(self.program.arch)
        with MemoryMap(self.path, *self.places) as mapped:
            for name, value in (("ID", registers.ID), ("VERSION", registers.VERSION),
                                ("IDENTITY_LOW", number & 0xFFFFFFFF),
                                ("IDENTITY_HIGH", number >> 32), ("STATUS", 1)):
                mapped.write_register(registers.address(name), value)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.stopped.set()
        self.thread.join()

    def _serve(self):
        with MemoryMap(self.path, *self.places) as mapped:
            control = registers.address("CONTROL")
            while mapped.read_register(control) != registers.CONTROL_START:
                if self.stopped.wait(0.0005):
                    return
            memory = bytearray(mapped.read_memory(0, self.program.window_bytes))
            Simulator(self.program.arch, memory).run(self.program.instructions)
            mapped.write_memory(0, bytes(memory))
            mapped.write_register(registers.address("STATUS"), 2)
