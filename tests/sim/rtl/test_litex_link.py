"""The transport to a LiteX SoC, on a bus that loses writes and a memory that does not work; the
frames, at LiteX's own server."""

import socket
import threading

import pytest
from systolith.hw.spec import registers
from systolith.sim.rtl.device import DeviceError
from systolith.sim.rtl.etherbone import Etherbone
from systolith.sim.rtl.litex_link import LitexLink, read_map

REGISTERS, MEMORY, SIZE = 0x8000_0000, 0x4000_0000, 1 << 16
CSR = {name: 4 * n for n, name in enumerate(
    ("sdram_dfii_control", "sdram_dfii_pi0_command", "sdram_dfii_pi0_command_issue",
     "sdram_dfii_pi0_address", "sdram_dfii_pi0_baddress"))}
SOC = {"registers": REGISTERS, "memory": {"origin": MEMORY, "bytes": SIZE}, "csr": CSR,
       "sdram": {"leveling": False, "sequence": [
           ["Bring CKE high", 0, 0, ["control", 14], 1], ["Mode", 0x120, 3, ["command", 15], 1]]}}


class Soc:
    """A SoC's bus: SDRAM that its controller has only after its start, and the registers of a
    core whose runs take some looks at STATUS. `lost` are numbers of writes that get lost."""

    def __init__(self, lost=(), status=0):
        self.words, self.lost, self.count, self.log = {}, set(lost), 0, []
        self.busy, self.runs = 0, 0
        self.words[REGISTERS + registers.address("STATUS")] = status
        self.words[REGISTERS + registers.address("ID")] = registers.ID

    def read(self, address, count=1):
        status = REGISTERS + registers.address("STATUS")
        if address == status and self.words[status] & 1:
            self.busy -= 1
            if self.busy <= 0:
                self.words[status] = 2
        return [self.words.get(address + 4 * n, 0) for n in range(count)]

    def write(self, address, words):
        self.count += 1
        if self.count in self.lost:
            return
        self.log.append((address, list(words)))
        status = REGISTERS + registers.address("STATUS")
        if address == REGISTERS + registers.address("CONTROL"):
            if words[0] & registers.CONTROL_RESET:
                self.words[status] = 0
            elif words[0] & registers.CONTROL_START:
                self.words[status], self.busy, self.runs = 1, 3, self.runs + 1
        elif address < MEMORY or self.words.get(CSR["sdram_dfii_control"]) == 1:
            self.words.update({address + 4 * n: word for n, word in enumerate(words)})


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(LitexLink, "SILENCE", 0.001)


def test_the_sdram_is_started_in_order_and_handed_over():
    soc = Soc()
    LitexLink(soc, SOC)
    started = [(address, words) for address, words in soc.log if address < 4 * len(CSR)]
    names = {address: name for name, address in CSR.items()}
    assert [(names[address].removeprefix("sdram_dfii_"), words[0])
            for address, words in started] == [
        ("control", 14), ("pi0_address", 0), ("pi0_baddress", 0), ("control", 14),
        ("pi0_address", 0x120), ("pi0_baddress", 3), ("pi0_command", 15),
        ("pi0_command_issue", 1), ("control", 1)]


def test_memory_at_odd_places_keeps_its_neighbours():
    link = LitexLink(Soc(), SOC)
    link.write_memory(0, bytes(range(64)))
    link.write_memory(13, b"abcdef")
    expected = bytearray(range(64))
    expected[13:19] = b"abcdef"
    assert link.read_memory(3, 40) == bytes(expected[3:43])
    assert link.bus.words[MEMORY + 4] == 0x07060504
    with pytest.raises(DeviceError, match="the SoC has 65,536"):
        link.write_memory(SIZE - 2, b"abc")


def test_what_gets_lost_is_written_again():
    soc = Soc()
    link = LitexLink(soc, SOC)
    soc.lost = {soc.count + 1, soc.count + 3}
    link.write_memory(8, b"12345678" * 300)         # more than a block
    assert link.read_memory(8, 2400) == b"12345678" * 300
    soc.lost = {soc.count + 1}
    link.write_register(registers.address("WATCHDOG"), 77)
    assert link.read_register(registers.address("WATCHDOG")) == 77


def test_a_start_that_gets_lost_is_given_again_and_never_twice():
    soc = Soc()
    link = LitexLink(soc, SOC)
    control = registers.address("CONTROL")
    for run, lost in enumerate(([], [1], [2], [1, 3]), 1):
        # after the first run STATUS says "done", which must not pass for the next one's end
        soc.lost = {soc.count + n for n in lost}
        link.write_register(control, registers.CONTROL_START)
        assert soc.runs == run and soc.words[REGISTERS + registers.address("STATUS")] & 1
        link.wait(None)
        assert soc.words[REGISTERS + registers.address("STATUS")] == 2
    soc.lost = set(range(soc.count, soc.count + 100))
    with pytest.raises(DeviceError, match="soft reset of the core does not end"):
        link.write_register(control, registers.CONTROL_START)
    assert soc.runs == 4


def test_a_run_that_somebody_left_is_ended_first():
    soc = Soc(status=1)
    soc.busy = 1000
    LitexLink(soc, SOC)
    assert soc.log[0] == (REGISTERS + registers.address("CONTROL"), [registers.CONTROL_RESET])
    assert soc.words[REGISTERS + registers.address("STATUS")] == 0


def test_memory_that_does_not_keep_its_contents_is_refused():
    class Stuck(Soc):
        def read(self, address, count=1):
            return [word & ~4 if address >= MEMORY and address < REGISTERS else word
                    for word in super().read(address, count)]

    class Mirrored(Soc):
        """Half the memory, twice."""
        def write(self, address, words):
            super().write(address & ~0x8000 if MEMORY <= address < REGISTERS else address, words)

        def read(self, address, count=1):
            return super().read(address & ~0x8000 if MEMORY <= address < REGISTERS else address,
                                count)
    with pytest.raises(DeviceError, match="does not keep what is written to address 0x4000"):
        LitexLink(Stuck(), SOC)
    with pytest.raises(DeviceError, match="does not keep its contents at byte 0x0"):
        LitexLink(Mirrored(), SOC)


def test_the_description_of_a_soc(tmp_path):
    with pytest.raises(DeviceError, match="systolith litex"):
        read_map(tmp_path / "soc.json")
    (tmp_path / "soc.json").write_text('{"registers": 1}')
    with pytest.raises(DeviceError, match="does not describe"):
        read_map(tmp_path / "soc.json")


class _Comm:
    """What LiteX's server has below it."""

    def __init__(self):
        self.words = {}

    def open(self):
        pass

    def write(self, address, words):
        self.words.update({address + 4 * n: word for n, word in enumerate(words)})

    def read(self, address, length=None, burst="incr"):
        return [self.words.get(address + 4 * n, 0xDEAD) for n in range(length)]


_Comm.__name__ = "CommUART"


def free_port():
    with socket.create_server(("localhost", 0)) as free:
        return free.getsockname()[1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_frames_at_the_server_of_litex(capsys, monkeypatch):
    server = pytest.importorskip("litex.tools.litex_server")
    comm, port = _Comm(), free_port()
    served = server.RemoteServer(comm, "localhost", port)
    served.open()
    served.start(1)
    words = [n * 0x01020305 & 0xFFFFFFFF for n in range(150)]
    with Etherbone("localhost", port) as bus:
        bus.write(0x4000_0010, words)
        assert bus.read(0x4000_0010, 150) == words
        assert bus.read(0x4000_000C) == [0xDEAD]
    assert comm.words[0x4000_0010 + 4 * 149] == words[149]
    # The server knows no end: its thread fails where its socket is shut.
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    served.socket.shutdown(socket.SHUT_RDWR)
    served.serve_thread.join(10)
    served.socket.close()
    assert not served.serve_thread.is_alive()


def serve_once(answer):
    """A port where one connection gets `answer` and then nothing more."""
    server = socket.create_server(("localhost", 0))

    def serve():
        connection, _ = server.accept()
        connection.sendall(answer)
        connection.recv(1000)
        connection.close()
        server.close()
    threading.Thread(target=serve, daemon=True).start()
    return server.getsockname()[1]


def test_servers_that_are_none():
    with pytest.raises(DeviceError, match="no litex_server at localhost"):
        Etherbone("localhost", free_port())
    with pytest.raises(DeviceError, match=r"greets with b'SSH-2.0"):
        Etherbone("localhost", serve_once(b"SSH-2.0-x"))
    with Etherbone("localhost", serve_once(b"CommUART:x:1")) as bus, \
            pytest.raises(DeviceError, match="closed the connection"):
        bus.read(0)
