"""Starting the SDRAM of a LiteX SoC without a CPU: LiteDRAM's registers, written by the host.

The same steps as LiteX's firmware: the sequence of mode registers, and for DDR memories the search
for the bitslips and delays at which data come back as they were written. All byte lanes are tried
at once.
"""

import itertools
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

from .device import DeviceError
from .etherbone import WordBus

__all__ = ["start_sdram"]

#: Values of dfii_control: the host has the memory, or LiteDRAM's controller.
_SOFTWARE, _HARDWARE = 0b1110, 0b0001
#: Bits of dfii_piN_command.
_CS, _WE, _CAS, _RAS, _WRDATA, _RDDATA = 1, 2, 4, 8, 16, 32
#: Patterns that a lane must pass.
_SEEDS = (42, 84, 36)


def start_sdram(bus: WordBus, csr: Mapping[str, int], sdram: Mapping[str, Any]) -> None:
    """Start the SDRAM and hand it to its controller.

    Parameters
    ----------
    bus : WordBus
    csr : mapping
        Name -> address of the registers of `sdram` and `ddrphy`.
    sdram : mapping
        As in the file that `systolith litex` writes.

    Raises DeviceError where a byte lane of a DDR memory works at no setting.
    """
    _Sdram(bus, csr, sdram).start()


class _Sdram:
    def __init__(self, bus, csr, sdram):
        self.bus, self.csr, self.sdram = bus, csr, sdram

    def start(self):
        self.write("sdram_dfii_control", _SOFTWARE)
        for name in ("rdphase", "wrphase"):
            if f"ddrphy_{name}" in self.csr:
                self.write(f"ddrphy_{name}", self.sdram[name])
        if "ddrphy_rst" in self.csr:
            for value in (1, 0):
                self.write("ddrphy_rst", value)
                time.sleep(0.001)
        for _, address, bank, (kind, code), delay in self.sdram["sequence"]:
            self.write("sdram_dfii_pi0_address", address)
            self.write("sdram_dfii_pi0_baddress", bank)
            if kind == "control":
                self.write("sdram_dfii_control", code)
            else:
                self.command(0, code)
            time.sleep(0.001 + delay * 1e-6)
        if self.sdram["leveling"]:
            self.level()
        self.write("sdram_dfii_control", _HARDWARE)

    def write(self, name, value):
        self.bus.write(self.csr[name], [value])

    def command(self, phase, code):
        self.write(f"sdram_dfii_pi{phase}_command", code)
        self.write(f"sdram_dfii_pi{phase}_command_issue", 1)

    def level(self):
        """Find and set each lane's bitslips and delay."""
        sdram, lanes = self.sdram, range(self.sdram["modules"])
        write_slips = range(0, sdram["bitslips"], 2) if "wdly_dq_bitslip" in self.steps() else (0,)
        passed: dict[int, dict[tuple[int, int], list[int]]] = {lane: {} for lane in lanes}
        every = (1 << len(lanes)) - 1
        for slips in itertools.product(write_slips, range(sdram["bitslips"])):
            self.slip(every, *slips)
            for delay in range(sdram["delays"]):
                if delay:
                    self.step(every, "rdly_dq_inc", 1)
                wrong = self.wrong_lanes(_SEEDS[:1])
                for lane in lanes:
                    if lane not in wrong:
                        passed[lane].setdefault(slips, []).append(delay)
        for lane in lanes:
            windows = [(len(window), slips, window) for slips, delays in passed[lane].items()
                       for window in _windows(delays)]
            if not windows:
                raise DeviceError(f"byte lane {lane} of the SDRAM works at no delay: is this the "
                                  "SoC of this board?")
            _, slips, window = max(windows, key=lambda item: item[0])
            self.slip(1 << lane, *slips)
            self.step(1 << lane, "rdly_dq_inc", window[len(window) // 2])
        if wrong := self.wrong_lanes(_SEEDS):
            raise DeviceError(f"byte lanes {sorted(wrong)} of the SDRAM do not work at the "
                              "delays that were found")

    def steps(self):
        """Names of the PHY's steps that exist."""
        return {name.removeprefix("ddrphy_") for name in self.csr if name.startswith("ddrphy_")}

    def step(self, lanes, name, count):
        """A step of the PHY on some lanes, so many times."""
        if count:
            self.write("ddrphy_dly_sel", lanes)
            for _ in range(count):
                self.write(f"ddrphy_{name}", 1)
            self.write("ddrphy_dly_sel", 0)
            if "ddrphy_burstdet_clr" in self.csr:
                # ECP5: the strobes' logic of all lanes pauses and goes on together
                self.write("ddrphy_dly_sel", (1 << self.sdram["modules"]) - 1)
                self.write("ddrphy_dly_sel", 0)

    def slip(self, lanes, write, read):
        """Set the bitslips of some lanes; their read delay is 0 then."""
        if "wdly_dq_bitslip" in self.steps():
            self.step(lanes, "wdly_dq_bitslip_rst", 1)
            self.step(lanes, "wdly_dq_bitslip", write)
        self.step(lanes, "rdly_dq_bitslip_rst", 1)
        self.step(lanes, "rdly_dq_bitslip", read)
        self.step(lanes, "rdly_dq_rst", 1)

    def wrong_lanes(self, seeds: Sequence[int]) -> set[int]:
        """Lanes that do not read what was written, for patterns of these seeds."""
        wrong = set()
        for seed in seeds:
            wrong |= self._wrong_lanes(seed)
        return wrong

    def _wrong_lanes(self, seed):
        sdram, found = self.sdram, set()
        lanes, phases = sdram["modules"], range(sdram["phases"])
        # A phase has several beats, the first one in its lowest bytes, a byte a lane; registers
        # hold 32 bits a word, the highest word first.
        size = sdram["bytes"]
        pattern = random.Random(seed)
        sent = [pattern.randbytes(size) for _ in phases]
        self.write("sdram_dfii_pi0_address", 0)
        self.write("sdram_dfii_pi0_baddress", 0)
        self.command(0, _RAS | _CS)
        for phase in phases:
            self.bus.write(self.csr[f"sdram_dfii_pi{phase}_wrdata"], _words(sent[phase]))
        for phase, code in ((sdram["wrphase"], _CAS | _WE | _CS | _WRDATA),
                            (sdram["rdphase"], _CAS | _CS | _RDDATA)):
            if code & _RDDATA and "ddrphy_burstdet_clr" in self.csr:
                self.write("ddrphy_burstdet_clr", 1)
            self.write(f"sdram_dfii_pi{phase}_address", 0)
            self.write(f"sdram_dfii_pi{phase}_baddress", 0)
            self.command(phase, code)
        self.write("sdram_dfii_pi0_address", 0)
        self.command(0, _RAS | _WE | _CS)
        for phase in phases:
            got = _bytes(self.bus.read(self.csr[f"sdram_dfii_pi{phase}_rddata"], -(-size // 4)),
                         size)
            found |= {n % lanes for n in range(size) if got[n] != sent[phase][n]}
        if "ddrphy_burstdet_seen" in self.csr:
            seen = self.bus.read(self.csr["ddrphy_burstdet_seen"])[0]
            found |= {lane for lane in range(lanes) if not seen >> lane & 1}
        return found


def _words(data):
    """The bytes of a register, lowest first, as its words, highest first."""
    return [int.from_bytes(data[n:n + 4], "little") for n in range(0, len(data), 4)][::-1]


def _bytes(words, size):
    return b"".join(word.to_bytes(4, "little") for word in reversed(words))[:size]


def _windows(delays):
    """The runs of consecutive numbers in a rising list."""
    for _, group in itertools.groupby(enumerate(delays), lambda item: item[1] - item[0]):
        yield [delay for _, delay in group]
