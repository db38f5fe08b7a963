"""The board's top level around the real core, in Verilator: a host on the serial line loads a
program, runs it and reads the golden model's results."""

import numpy as np
import pytest
from systolith.gen.chip.verilog import board_verilog, core_verilog
from systolith.gen.compile.compile import compile_graph
from systolith.hw.board import boards
from systolith.hw.board.bridge import REGISTER_SPACE
from systolith.hw.spec import registers
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.sim.machine.host import pack_inputs, unpack_outputs
from systolith.sim.rtl.verilate import build, run

from ...networks import random_network

DIVISOR = 4
BENCH = f"""
module bench;
  localparam DIVISOR = {DIVISOR};
  reg clk = 0, line = 1;
  wire answer;
  wire [7:0] led;
  ulx3s dut(.clk_25mhz(clk), .btn(7'd1), .led(led), .ftdi_txd(line), .ftdi_rxd(answer),
            .wifi_gpio0());
  always #1 clk = !clk;

  // The receiving side of the host.
  integer out, received = 0, n;
  reg [7:0] byte_in;
  initial begin
    out = $fopen("answers.txt", "w");
    forever begin
      @(negedge answer);
      repeat (DIVISOR + DIVISOR / 2) @(posedge clk);
      for (n = 0; n < 8; n = n + 1) begin
        byte_in[n] = answer;
        repeat (DIVISOR) @(posedge clk);
      end
      $fdisplay(out, "%02x", byte_in);
      received = received + 1;
    end
  end

  // The script: kind 0 a byte to send, 1 a number of answers to wait for, 2 wait for the core.
  integer script, kind, value, k;
  initial begin
    script = $fopen("script.txt", "r");
    repeat (20) @(posedge clk);
    while ($fscanf(script, "%d %d", kind, value) == 2) begin
      if (kind == 0) begin
        line = 0;
        repeat (DIVISOR) @(posedge clk);
        for (k = 0; k < 8; k = k + 1) begin
          line = value[k];
          repeat (DIVISOR) @(posedge clk);
        end
        line = 1;
        repeat (DIVISOR) @(posedge clk);
      end else if (kind == 1)
        while (received < value) @(posedge clk);
      else
        while (!led[4]) @(posedge clk);
    end
    repeat (20) @(posedge clk);
    $fclose(out);
    $finish;
  end
  initial begin
    #20000000;
    $display("the bench has waited too long");
    $finish;
  end
endmodule
"""


class Script:
    """Commands on the line, and where their answers come."""

    def __init__(self):
        self.lines, self.answers = [], 0

    def command(self, letter, address, words, data=b"", answers=1):
        """The place of the first answer among all."""
        head = letter + address.to_bytes(4, "little") + (words - 1).to_bytes(2, "little")
        self.lines += [f"0 {byte}" for byte in head + data]
        first, self.answers = self.answers, self.answers + answers
        self.lines.append(f"1 {self.answers}")
        return first

    def write(self, address, data):
        data = bytes(data) + bytes(-len(data) % 4)
        return self.command(b"W", address, len(data) // 4, data)

    def register(self, name, value):
        return self.write(REGISTER_SPACE + registers.address(name), value.to_bytes(4, "little"))

    def read(self, address, size):
        return self.command(b"R", address, -(-size // 4), answers=-(-size // 4) * 4 + 1)


@pytest.fixture
def fast_line(monkeypatch):
    monkeypatch.setattr(boards.Ulx3s, "BAUD", boards.Ulx3s.CLOCK_HZ // DIVISOR)


def test_a_host_runs_a_network_over_the_serial_line(fast_line, tmp_path):
    arch = Arch(name="small", board="ulx3s-85f", rows=3, columns=2, activation="int4",
                weight="int4", bus_bits=32, activation_depth=256, weight_depth=64,
                accumulator_depth=64, parameter_depth=16, queue_depth=1)
    graph, _ = random_network(2, arch, layers=2, size=6)
    program = compile_graph(graph, arch)
    codes = np.random.default_rng(1).integers(0, 16, (1, *graph.inputs[0].shape))
    host = program.host

    script = Script()
    script.write(0, program.image)
    script.write(host["input_offset"], pack_inputs(program, codes[0]))
    place = script.read(REGISTER_SPACE + registers.address("IDENTITY_LOW"), 4)
    for name, value in (("WINDOW_BASE", 0), ("WINDOW_SIZE", program.window_bytes),
                        ("PROGRAM", program.code_offset), ("WATCHDOG", 5000),
                        ("CONTROL", registers.CONTROL_START)):
        script.register(name, value)
    script.lines.append("2 0")
    status = script.read(REGISTER_SPACE + registers.address("STATUS"), 4)
    outputs = script.read(host["output_offset"], host["output_bytes"])
    (tmp_path / "script.txt").write_text("\n".join(script.lines) + "\n")

    executable = build({"board.v": board_verilog(arch, core_verilog(arch)), "bench.sv": BENCH},
                       "bench")
    log = run(executable, folder=tmp_path, timeout=300)
    answers = bytes.fromhex((tmp_path / "answers.txt").read_text())
    assert len(answers) == script.answers, log
    assert int.from_bytes(answers[place:place + 4], "little") == identity(arch) & 0xFFFFFFFF
    assert int.from_bytes(answers[status:status + 4], "little") & 7 == 2, "done, without error"
    found = unpack_outputs(program, answers[outputs:outputs + host["output_bytes"]])
    golden = graph.run(codes, arch)
    assert found
    for name, values in found.items():
        assert np.array_equal(values, golden[name][0])
