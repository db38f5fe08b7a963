"""Starting DDR memory from the host, on a model of LiteDRAM's registers and of lanes that work in a
part of the bitslips and delays only."""

import pytest
from systolith.sim.rtl import litex_sdram
from systolith.sim.rtl.device import DeviceError
from systolith.sim.rtl.litex_sdram import start_sdram


class Ddr:
    """Two byte lanes. `windows`: for each lane (write bitslip, read bitslip): delays that work."""

    def __init__(self, windows, phases=2, size=8, delays=8, bitslips=4, write_slips=False):
        self.windows, self.lanes, self.size, self.all_delays = windows, len(windows), size, delays
        self.bitslips = bitslips
        names = ["sdram_dfii_control", "ddrphy_dly_sel", "ddrphy_rdly_dq_rst",
                 "ddrphy_rdly_dq_inc", "ddrphy_rdly_dq_bitslip_rst", "ddrphy_rdly_dq_bitslip"]
        names += ["ddrphy_wdly_dq_bitslip_rst", "ddrphy_wdly_dq_bitslip", "ddrphy_rdphase",
                  "ddrphy_wrphase"] if write_slips else ["ddrphy_burstdet_clr",
                                                         "ddrphy_burstdet_seen"]
        names += [f"sdram_dfii_pi{phase}_{name}" for phase in range(phases) for name in (
            "command", "command_issue", "address", "baddress", "wrdata", "rddata")]
        self.csr = {name: 32 * n for n, name in enumerate(names)}
        self.names = {address: name for name, address in self.csr.items()}
        self.values = {}
        self.delay, self.read_slip, self.write_slip = ([0] * self.lanes for _ in range(3))
        self.row, self.stored, self.phases, self.modes = False, None, phases, []
        self.sdram = {"leveling": True, "modules": self.lanes, "phases": phases, "bytes": size,
                      "delays": delays, "bitslips": bitslips, "rdphase": 0, "wrphase": 1,
                      "sequence": [["CKE", 0, 0, ["control", 14], 1],
                                   ["Mode", 0x320, 2, ["command", 15], 1]]}

    def lane_works(self, lane):
        return self.delay[lane] in self.windows[lane].get(
            (self.write_slip[lane], self.read_slip[lane]), ())

    def read(self, address, count=1):
        name = self.names[address]
        if name == "ddrphy_burstdet_seen":
            return [sum(self.lane_works(lane) << lane for lane in range(self.lanes))]
        assert name.endswith("rddata") and count == self.size // 4
        return self.values[name]

    def write(self, address, words):
        name, words = self.names[address], list(words)
        self.values[name] = words if len(words) > 1 else words[0]
        if name.endswith("_issue"):
            self.issue(name.removesuffix("_issue"))
        for lane in range(self.lanes):
            if not self.values.get("ddrphy_dly_sel", 0) >> lane & 1:
                continue
            if name == "ddrphy_rdly_dq_rst":
                self.delay[lane] = 0
            elif name == "ddrphy_rdly_dq_inc":
                self.delay[lane] = (self.delay[lane] + 1) % self.all_delays
            elif name in ("ddrphy_rdly_dq_bitslip", "ddrphy_wdly_dq_bitslip"):
                slip = self.read_slip if "rdly" in name else self.write_slip
                slip[lane] = (slip[lane] + 1) % self.bitslips
            elif name == "ddrphy_rdly_dq_bitslip_rst":
                self.read_slip[lane] = 0
            elif name == "ddrphy_wdly_dq_bitslip_rst":
                self.write_slip[lane] = 0

    def issue(self, command):
        code, phase = self.values[command], int(command[13])
        if code == 15:
            self.modes.append(tuple(self.values[f"sdram_dfii_pi0_{name}"]
                                    for name in ("baddress", "address")))
        elif code == 9:
            self.row = True
        elif code == 11:
            self.row = False
        elif code == 0b10111:
            assert self.row and phase == self.sdram["wrphase"]
            self.stored = [self.words(f"sdram_dfii_pi{n}_wrdata") for n in range(self.phases)]
        elif code == 0b100101:
            assert self.row and phase == self.sdram["rdphase"]
            for n in range(self.phases):
                data = bytearray(b"".join(word.to_bytes(4, "little")
                                          for word in reversed(self.stored[n])))
                for at in range(self.size):
                    if not self.lane_works(at % self.lanes):
                        data[at] ^= 0x10
                self.values[f"sdram_dfii_pi{n}_rddata"] = [
                    int.from_bytes(data[at:at + 4], "little")
                    for at in range(0, self.size, 4)][::-1]
        else:
            raise AssertionError(f"command {code:#b}")

    def words(self, name):
        found = self.values[name]
        return found if isinstance(found, list) else [found]


def test_each_lane_gets_the_middle_of_its_longest_window():
    ddr = Ddr([{(0, 1): {0, 1}, (0, 2): {2, 3, 4, 5, 6}}, {(0, 3): {0, 1, 2, 5, 7}}])
    start_sdram(ddr, ddr.csr, ddr.sdram)
    assert (ddr.read_slip, ddr.delay) == ([2, 3], [4, 1])
    assert ddr.modes == [(2, 0x320)] and ddr.values["sdram_dfii_control"] == 1


def test_bitslips_of_writes_where_the_phy_has_them():
    ddr = Ddr([{(2, 1): {1, 2, 3}}, {(0, 0): {9}, (6, 5): {20, 21, 22}}], phases=4, size=4,
              delays=32, bitslips=8, write_slips=True)
    start_sdram(ddr, ddr.csr, ddr.sdram)
    assert (ddr.write_slip, ddr.read_slip, ddr.delay) == ([2, 6], [1, 5], [2, 21])


def test_a_lane_that_never_works_is_named():
    ddr = Ddr([{(0, 0): {3}}, {}])
    with pytest.raises(DeviceError, match="byte lane 1 of the SDRAM works at no delay"):
        start_sdram(ddr, ddr.csr, ddr.sdram)
    assert ddr.values["sdram_dfii_control"] != 1


def test_each_step_of_the_start_waits_as_long_as_it_says(monkeypatch):
    ddr, slept = Ddr([{(0, 0): {3}}]), []
    ddr.sdram["sequence"][1][-1] = 200
    monkeypatch.setattr(litex_sdram.time, "sleep", slept.append)
    start_sdram(ddr, ddr.csr, ddr.sdram)
    assert slept == pytest.approx([0.001001, 0.0012])
