// A core that only moves data, for tests of memory model and testbench.
//
// The register WATCHDOG says what a run does: [7:0] beats of a burst less one, [11:8] bursts less
// one, [15:12] mode, [23:16] write strobes (of the lowest 8 bytes), [24] accepts answers only now
// and then, [31:25] cycles between data and address in mode 1. Modes: 0 copy from PROGRAM to
// PROGRAM + 4096; 1 write data comes before its address; 2 read outside the window; 3 write there;
// 4 read across a page; 5 withdraw an address; 6 the last beat is not marked; 7 do nothing;
// 8 read back what was just written, before the response has come.
// While it is busy it traces every cycle: {cycle, handshakes, data read}.
module systolith_core #(
    parameter DATA_BITS = 64,
    parameter [63:0] IDENTITY = 64'hIDENTITY,
    localparam BYTES = DATA_BITS / 8
) (
    input clk, rst,
    output reg irq = 0,
    output m_axi_awid, output reg [31:0] m_axi_awaddr, output [7:0] m_axi_awlen,
    output [2:0] m_axi_awsize, output [1:0] m_axi_awburst, output reg m_axi_awvalid = 0,
    input m_axi_awready,
    output [DATA_BITS-1:0] m_axi_wdata, output [BYTES-1:0] m_axi_wstrb, output m_axi_wlast,
    output reg m_axi_wvalid = 0, input m_axi_wready,
    input m_axi_bid, input [1:0] m_axi_bresp, input m_axi_bvalid, output m_axi_bready,
    output m_axi_arid, output reg [31:0] m_axi_araddr, output [7:0] m_axi_arlen,
    output [2:0] m_axi_arsize, output [1:0] m_axi_arburst, output reg m_axi_arvalid = 0,
    input m_axi_arready,
    input m_axi_rid, input [DATA_BITS-1:0] m_axi_rdata, input [1:0] m_axi_rresp, input m_axi_rlast,
    input m_axi_rvalid, output m_axi_rready,
    input [7:0] s_axi_awaddr, input s_axi_awvalid, output s_axi_awready,
    input [31:0] s_axi_wdata, input [3:0] s_axi_wstrb, input s_axi_wvalid, output s_axi_wready,
    output [1:0] s_axi_bresp, output reg s_axi_bvalid = 0, input s_axi_bready,
    input [7:0] s_axi_araddr, input s_axi_arvalid, output s_axi_arready,
    output reg [31:0] s_axi_rdata, output [1:0] s_axi_rresp, output reg s_axi_rvalid = 0,
    input s_axi_rready,
    output trace_valid, output [11:0] trace_layer, output trace_raw,
    output [127:0] trace_item
);
    reg [31:0] base = 0, size = 0, program_offset = 0, config_word = 0, cycles = 0, fault_at = 0;
    reg busy = 0, done = 0, fault = 0;
    reg [DATA_BITS-1:0] buffer [0:4095];
    reg [11:0] received = 0, sent = 0;
    reg [4:0] reads = 0, writes = 0, answers = 0;
    reg [7:0] beat = 0, wait_count = 0;
    reg [15:0] lfsr = 1;
    wire [7:0] length = config_word[7:0];
    wire [4:0] bursts = config_word[11:8] + 5'd1;
    wire [3:0] mode = config_word[15:12];
    wire [12:0] beats = (13'(length) + 1) * bursts;
    wire reading = (mode == 0 || mode == 1) && busy && received != beats[11:0];
    wire writing = busy && (mode == 8 || mode == 6 || ((mode == 0 || mode == 1) && !reading));

    assign {m_axi_awid, m_axi_arid} = 2'b01;
    assign m_axi_awlen = length;
    assign m_axi_arlen = length;
    assign m_axi_awsize = $clog2(BYTES);
    assign m_axi_arsize = $clog2(BYTES);
    assign m_axi_awburst = 1;
    assign m_axi_arburst = 1;
    assign m_axi_wdata = mode == 8 ? {DATA_BITS/8{8'hA5}} : buffer[sent];
    assign m_axi_wstrb = BYTES'({{16{1'b1}}, config_word[23:16]}
                               >> (config_word[23:16] == 8'hFF ? 8 : 0));
    assign m_axi_wlast = mode != 6 && beat == length;
    assign m_axi_rready = !config_word[24] || lfsr[1:0] == 0;
    assign m_axi_bready = !config_word[24] || lfsr[3:1] == 0;

    assign trace_valid = busy;
    assign trace_layer = 12'd7;
    assign trace_raw = 0;
    assign trace_item = {cycles, 22'd0, m_axi_arvalid, m_axi_arready, m_axi_rvalid, m_axi_rready,
        m_axi_awvalid, m_axi_awready, m_axi_wvalid && m_axi_wready, m_axi_wlast, m_axi_bvalid,
        m_axi_bready, 64'(m_axi_rdata)};

    assign s_axi_awready = s_axi_awvalid && s_axi_wvalid && !s_axi_bvalid;
    assign s_axi_wready = s_axi_awready;
    assign s_axi_arready = !s_axi_rvalid;
    assign s_axi_bresp = s_axi_awaddr == 8'hF0 ? 2 : 0;
    assign s_axi_rresp = 0;

    always @(posedge clk) begin
        lfsr <= {lfsr[14:0], lfsr[15] ^ lfsr[13] ^ lfsr[12] ^ lfsr[10]};
        if (s_axi_bready) s_axi_bvalid <= 0;
        if (s_axi_rready) s_axi_rvalid <= 0;
        if (s_axi_awready) begin
            s_axi_bvalid <= 1;
            case (s_axi_awaddr)
                8'h10: begin
                    busy <= s_axi_wdata[0];
                    {done, fault, irq} <= 0;
                    {cycles, received, sent, reads, writes, answers, beat, wait_count} <= 0;
                end
                8'h20: base <= s_axi_wdata;
                8'h24: size <= s_axi_wdata;
                8'h28: program_offset <= s_axi_wdata;
                8'h2C: config_word <= s_axi_wdata;
                default: ;
            endcase
        end
        if (s_axi_arvalid && s_axi_arready) begin
            s_axi_rvalid <= 1;
            case (s_axi_araddr)
                8'h00: s_axi_rdata <= 32'h53595354;
                8'h04: s_axi_rdata <= 2;
                8'h08: s_axi_rdata <= IDENTITY[31:0];
                8'h0C: s_axi_rdata <= IDENTITY[63:32];
                8'h14: s_axi_rdata <= {4'd0, 12'd7, 5'd0, 3'd3, fault ? 4'd4 : 4'd0, 1'b0,
                                        fault, done, busy};
                8'h18: s_axi_rdata <= 32'h00_03_12_01;
                8'h1C: s_axi_rdata <= fault_at;
                8'h20: s_axi_rdata <= base;
                8'h2C: s_axi_rdata <= config_word;
                8'h30: s_axi_rdata <= cycles;
                default: s_axi_rdata <= {24'd0, s_axi_araddr};
            endcase
        end

        if (busy) begin
            cycles <= cycles + 1;
            if (m_axi_arvalid && m_axi_arready) m_axi_arvalid <= 0;
            if (m_axi_awvalid && m_axi_awready) m_axi_awvalid <= 0;
            if (m_axi_wvalid && m_axi_wready) begin
                sent <= sent + 1;
                beat <= beat == length ? 0 : beat + 1;
                if (13'(sent) + 1 == beats) m_axi_wvalid <= 0;
            end
            if ((reading || (mode == 8 && 13'(sent) == beats)) && reads != bursts
                    && (!m_axi_arvalid || m_axi_arready)) begin
                m_axi_arvalid <= 1;
                m_axi_araddr <= base + program_offset + reads * (32'(length) + 1) * BYTES
                               + (mode == 8 ? 4096 : 0);
                reads <= reads + 1;
            end
            if (m_axi_rvalid && m_axi_rready) begin
                buffer[received] <= m_axi_rdata;
                received <= received + 1;
                if (m_axi_rresp != 0) fault <= 1;
                if (m_axi_rresp != 0 && !fault) fault_at <= 32'(received) * BYTES;
            end
            if (writing) begin
                if (13'(sent) != beats && !(m_axi_wvalid && m_axi_wready && 13'(sent) + 1 == beats))
                    m_axi_wvalid <= 1;
                wait_count <= wait_count + (wait_count != 8'hFF);
                if (writes != bursts && (!m_axi_awvalid || m_axi_awready)
                        && (mode != 1 || wait_count > 8'(config_word[31:25]))) begin
                    m_axi_awvalid <= 1;
                    m_axi_awaddr <= base + program_offset + 4096
                                   + writes * (32'(length) + 1) * BYTES;
                    writes <= writes + 1;
                end
            end
            if (m_axi_bvalid && m_axi_bready) begin
                answers <= answers + 1;
                if (m_axi_bresp != 0) fault <= 1;
                if (m_axi_bresp != 0 && !fault) fault_at <= 4096;
            end
            if ((mode == 2 || mode == 4 || mode == 5) && cycles == 3) begin
                m_axi_arvalid <= 1;
                m_axi_araddr <= mode == 2 ? base + size : base + 4096 - BYTES;
            end
            if (mode == 5 && cycles == 4) m_axi_arvalid <= 0;
            if (mode == 3 && cycles == 3) begin
                m_axi_awvalid <= 1;
                m_axi_awaddr <= base - 4096;
                m_axi_wvalid <= 1;
            end
            if (mode == 7 ? cycles == 99 : mode == 0 || mode == 1 || mode == 3 || mode == 6 ?
                    answers == bursts : mode == 8 ? answers == bursts && 13'(received) == beats :
                    cycles == 299) begin
                busy <= 0;
                done <= !fault;
                irq <= 1;
            end
        end
        if (rst) {busy, done, fault, irq, m_axi_arvalid, m_axi_awvalid, m_axi_wvalid} <= 0;
    end
endmodule
