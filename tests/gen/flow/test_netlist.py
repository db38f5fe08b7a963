"""What synthesis makes of a board's top level computes what the golden model does: from the serial
line's pins on, with the vendor's cells."""

import os
import shutil
import subprocess
import sys
from binascii import crc_hqx
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from systolith.gen.chip.verilog import board_verilog, core_verilog
from systolith.gen.compile.compile import compile_graph
from systolith.gen.measure.flows import flow_of
from systolith.hw.board.bridge import REGISTER_SPACE
from systolith.hw.board.crc import START
from systolith.hw.spec import registers
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.host import pack_inputs, unpack_outputs
from systolith.sim.machine.iss import Simulator
from systolith.sim.rtl.board import DIVISOR

from ...networks import random_network

ARCH = Arch(name="smallest", board="icebreaker", rows=1, columns=1, activation="int4",
            weight="int4", bus_bits=32, activation_depth=256, weight_depth=64,
            accumulator_depth=64, parameter_depth=16, queue_depth=1, counters=False)


class Script:
    """What a host sends and what it expects, as words of serial_bench.v."""

    def __init__(self):
        self.words = []

    def _command(self, letter, address, words, data, answer):
        head = letter + address.to_bytes(4, "little") + (words - 1).to_bytes(2, "little")
        check = crc_hqx(head, START)
        sent = head + check.to_bytes(2, "little")
        if data:
            check = crc_hqx(data, check)
            sent += data + check.to_bytes(2, "little")
        answer += b"K"
        answer += crc_hqx(answer, check).to_bytes(2, "little")
        self.words += [0x100 + byte for byte in sent] + [0x200 + byte for byte in answer]

    def write(self, address, data):
        self._command(b"W", address, len(data) // 4, data, b"")

    def expect(self, address, data):
        self._command(b"R", address, len(data) // 4, b"", data)

    def register(self, name, value, kind="write"):
        getattr(self, kind)(REGISTER_SPACE + registers.address(name), value.to_bytes(4, "little"))

    def wait(self, clocks):
        while clocks > 0:
            self.words.append(0x300 + min(-(-clocks // 16), 255))
            clocks -= 16 * 255


def script_of(program, codes, outputs):
    """A run of `program` on `codes`, at whose end the outputs' section of memory is `outputs`."""
    script, host = Script(), program.host
    script.register("ID", registers.ID, "expect")
    script.register("IDENTITY_LOW", identity(program.arch) & 0xFFFFFFFF, "expect")
    script.write(0, program.image + bytes(-len(program.image) % 4))
    script.write(host.input_offset, pack_inputs(program, codes))
    script.write(host.output_offset, bytes(host.output_bytes))  # what no result covers
    for name, value in (("WINDOW_BASE", 0), ("WINDOW_SIZE", program.window_bytes),
                        ("PROGRAM", program.code_offset), ("WATCHDOG", 1 << 16),
                        ("CONTROL", registers.CONTROL_START)):
        script.register(name, value)
    script.wait(2 * cycles(program).cycles)
    script.register("STATUS", 2, "expect")
    script.expect(host.output_offset, outputs)
    return script


def layer():
    """The script of a layer."""
    graph, _ = random_network(1, ARCH, layers=1, size=4)
    program = compile_graph(graph, ARCH)
    codes = np.random.default_rng(0).integers(0, 16, (1, *graph.inputs[0].shape))
    memory = bytearray(program.image.ljust(program.window_bytes, b"\0"))
    host = program.host
    data = pack_inputs(program, codes[0])
    memory[host.input_offset:host.input_offset + len(data)] = data
    Simulator(ARCH, memory).run(program.instructions)
    outputs = bytes(memory[host.output_offset:host.output_offset + host.output_bytes])
    golden = graph.run(codes, ARCH)
    for name, values in unpack_outputs(program, outputs).items():
        assert np.array_equal(values, golden[name][0])
    return script_of(program, codes[0], outputs)


def play(folder, script, *files):
    """What the bench prints."""
    board, _ = flow_of(ARCH.board)
    top = board.top
    idle = "".join(f", .{name}(1'b{value})" for name, value in top.IDLE.items())
    (folder / "script.hex").write_text("\n".join(f"{word:03x}" for word in script.words))
    subprocess.run(
        ["iverilog", "-g2005", "-s", "serial_bench", "-o", "bench",
         f"-Pserial_bench.WORDS={len(script.words)}", f"-Pserial_bench.DIVISOR={DIVISOR}",
         f"-DTOP={board.module}", f"-DCLOCK={top.CLOCK}", f"-DRX={top.RX}", f"-DTX={top.TX}",
         f"-DIDLE={idle}", *files, Path(__file__).parent / "serial_bench.v"],
        cwd=folder, check=True)
    return subprocess.run(["vvp", "-n", "bench"], cwd=folder, capture_output=True, text=True,
                          check=True).stdout


def test_the_netlist_replays_a_layer(tmp_path):
    if not shutil.which("iverilog"):
        pytest.skip("Icarus Verilog is not installed")
    if "SYSTOLITH_BOARDS" not in os.environ:
        pytest.skip("takes a minute; SYSTOLITH_BOARDS=1 runs it, as `make board-test` does")
    board, flow = flow_of(ARCH.board)
    (tmp_path / "board.v").write_text(board_verilog(ARCH, core_verilog(ARCH), DIVISOR))
    lines = ["read_verilog board.v", *flow.synthesis(board.module, ARCH.pe_dsp),
             "write_verilog -noattr netlist.v"]
    program = ("import sys\nfrom pyosys import libyosys as ys\nd = ys.Design()\n"
               f"for line in {lines!r}:\n    ys.run_pass(line, d)\n")
    with open(tmp_path / "log", "w") as log:
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, stdout=log)
    share = Path(find_spec("pyosys").origin).parent / "share"
    cells = share / board.part.target / "cells_sim.v"
    netlist = (tmp_path / "netlist.v").read_text()
    assert "SB_LUT4" in netlist and "always" not in netlist
    files = ["-DNO_ICE40_DEFAULT_ASSIGNMENTS", cells, "netlist.v"]
    script = layer()
    assert play(tmp_path, script, *files).strip() == "agrees"
    first = next(n for n, word in enumerate(script.words) if word >> 8 == 2)
    script.words[first] ^= 1
    assert play(tmp_path, script, *files).startswith(f"word {first}: 54, not 55")
