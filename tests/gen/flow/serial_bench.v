// The pins of a board with a serial line: plays `script.hex`, a word a line, and compares. 1NN sends
// the byte NN, 2NN expects it within LIMIT clocks, 3NN waits NN * 16 clocks. TOP, CLOCK, RX, TX and
// IDLE, the other inputs, are macros. Ends with the line "agrees", or with what differs.
`timescale 1ns / 1ns
module serial_bench;
  parameter WORDS = 1, LIMIT = 4000, DIVISOR = 4;
  reg clk = 0, rx = 1;
  wire tx;
  reg [11:0] script [0:WORDS-1];
  reg [7:0] got;
  integer at, n, waited;

  `TOP board(.`CLOCK(clk), .`RX(rx), .`TX(tx) `IDLE);

  always #5 clk = ~clk;

  initial begin
    $readmemh("script.hex", script);
    repeat (64) @(negedge clk);
    for (at = 0; at < WORDS; at = at + 1) case (script[at][11:8])
      1: begin
        rx = 0;
        repeat (DIVISOR) @(negedge clk);
        for (n = 0; n < 8; n = n + 1) begin
          rx = script[at][n];
          repeat (DIVISOR) @(negedge clk);
        end
        rx = 1;
        repeat (DIVISOR) @(negedge clk);
      end
      2: begin
        for (waited = 0; tx !== 0 && waited < LIMIT; waited = waited + 1) @(negedge clk);
        repeat (DIVISOR + DIVISOR / 2) @(negedge clk);
        for (n = 0; n < 8; n = n + 1) begin
          got[n] = tx;
          repeat (DIVISOR) @(negedge clk);
        end
        if (got !== script[at][7:0]) begin
          $display("word %0d: %h, not %h", at, got, script[at][7:0]);
          $finish;
        end
      end
      default: repeat (16 * script[at][7:0]) @(negedge clk);
    endcase
    $display("agrees");
    $finish;
  end
endmodule
