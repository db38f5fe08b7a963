// The module `systolith` with a memory in plain Verilog, for any simulator: loads `image.hex` (one
// beat a line), runs the program once, leaves the memory in `after.hex`. `rst` is high from the first
// moment on, for HELD clocks; the memory's side is unknown until then, as it may be in a design, so
// that a simulator of four states shows what stays unknown. BITS: width of a beat; BEATS: size of
// the memory; PROGRAM: where it begins.
`timescale 1ns / 1ns
module plain_bench;
  parameter BITS = 64, BEATS = 1024, PROGRAM = 0, LIMIT = 1000000, HELD = 8;
  localparam BYTES = BITS / 8;
  localparam SHIFT = BITS == 32 ? 2 : BITS == 64 ? 3 : 4;

  reg clk = 0, rst = 1;
  wire [31:0] araddr, awaddr, s_rdata;
  wire [7:0] arlen;
  wire [BITS-1:0] wdata;
  wire [BYTES-1:0] wstrb;
  wire arid, arvalid, awid, awvalid, wvalid, wlast, rready, bready, irq;
  wire s_awready, s_wready, s_bvalid, s_arready, s_rvalid;
  reg reading, r_id, writing, b_valid, b_id;
  reg [31:0] r_at, w_at;
  reg [7:0] r_left;
  reg [BITS-1:0] memory [0:BEATS-1];
  reg [7:0] s_address = 0;
  reg [31:0] s_data = 0, answer = 0;
  reg s_writes = 0, s_sends = 0, s_reads = 0;
  integer n, clocks = 0;

  systolith dut(
    .aclk(clk), .aresetn(~rst), .irq(irq),
    .m_axi_arid(arid), .m_axi_araddr(araddr), .m_axi_arlen(arlen), .m_axi_arvalid(arvalid),
    .m_axi_arready(~reading), .m_axi_rid(r_id), .m_axi_rdata(memory[r_at]), .m_axi_rresp(2'b00),
    .m_axi_rlast(r_left == 0), .m_axi_rvalid(reading), .m_axi_rready(rready),
    .m_axi_awid(awid), .m_axi_awaddr(awaddr), .m_axi_awvalid(awvalid),
    .m_axi_awready(~writing & ~b_valid), .m_axi_wdata(wdata), .m_axi_wstrb(wstrb),
    .m_axi_wlast(wlast), .m_axi_wvalid(wvalid), .m_axi_wready(writing),
    .m_axi_bid(b_id), .m_axi_bresp(2'b00), .m_axi_bvalid(b_valid), .m_axi_bready(bready),
    .s_axi_awprot(3'b000), .s_axi_arprot(3'b000),
    .s_axi_awaddr({4'b0000, s_address}), .s_axi_awvalid(s_writes), .s_axi_awready(s_awready),
    .s_axi_wdata(s_data), .s_axi_wstrb(4'b1111), .s_axi_wvalid(s_sends),
    .s_axi_wready(s_wready), .s_axi_bvalid(s_bvalid), .s_axi_bready(1'b1),
    .s_axi_araddr({4'b0000, s_address}), .s_axi_arvalid(s_reads), .s_axi_arready(s_arready),
    .s_axi_rdata(s_rdata), .s_axi_rvalid(s_rvalid), .s_axi_rready(1'b1));

  always #5 clk = ~clk;

  // One burst of each kind at a time.
  always @(posedge clk) begin
    clocks <= clocks + 1;
    if (~reading) begin
      if (arvalid) begin
        reading <= 1; r_id <= arid; r_at <= araddr >> SHIFT; r_left <= arlen;
      end
    end else if (rready) begin
      r_at <= r_at + 1; r_left <= r_left - 1;
      if (r_left == 0) reading <= 0;
    end
    if (bready) b_valid <= 0;
    if (awvalid & ~writing & ~b_valid) begin
      writing <= 1; b_id <= awid; w_at <= awaddr >> SHIFT;
    end else if (writing & wvalid) begin
      for (n = 0; n < BYTES; n = n + 1)
        if (wstrb[n]) memory[w_at][8 * n +: 8] <= wdata[8 * n +: 8];
      w_at <= w_at + 1;
      if (wlast) begin writing <= 0; b_valid <= 1; end
    end
    if (rst) begin reading <= 0; writing <= 0; b_valid <= 0; end
    // A few clocks after rst no output is unknown but data without its valid.
    else if (clocks > HELD + 4 && ^{arvalid, awvalid, wvalid, rready, bready, irq, s_awready, s_wready,
                              s_bvalid, s_arready, s_rvalid, arvalid ? araddr : 32'b0,
                              awvalid ? awaddr : 32'b0, s_rvalid ? s_rdata : 32'b0} === 1'bx) begin
      $display("unknown output in clock %0d", clocks);
      $finish;
    end
    if (clocks > LIMIT) begin
      $display("no end after %0d clocks", clocks);
      $finish;
    end
  end

  task write(input [7:0] at, input [31:0] value);
    begin
      @(negedge clk) s_address = at; s_data = value; s_writes = 1; s_sends = 1;
      while (s_writes | s_sends) begin : sending
        reg address, data;
        address = s_awready; data = s_wready;
        @(posedge clk); @(negedge clk);
        if (address) s_writes = 0;
        if (data) s_sends = 0;
      end
      while (~s_bvalid) @(negedge clk);
      @(negedge clk);
    end
  endtask

  task read(input [7:0] at);
    begin
      @(negedge clk) s_address = at; s_reads = 1;
      while (~s_arready) @(negedge clk);
      @(posedge clk); @(negedge clk) s_reads = 0;
      while (~s_rvalid) @(negedge clk);
      answer = s_rdata;
      @(negedge clk);
    end
  endtask

  initial begin
    $readmemh("image.hex", memory);
    repeat (HELD) @(negedge clk);
    rst = 0;
    repeat (8) @(negedge clk);
    read(`STATUS); $display("before %h", answer);
    write(`WINDOW_BASE, 0); write(`WINDOW_SIZE, BEATS * BYTES); write(`PROGRAM, PROGRAM);
    write(`WATCHDOG, 65536); write(`CONTROL, 1);
    while (irq !== 1) @(negedge clk);
    read(`STATUS); $display("after %h", answer);
    read(`CYCLES); $display("cycles %0d", answer);
    $writememh("after.hex", memory);
    $finish;
  end
endmodule
