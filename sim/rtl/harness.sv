// What is simulated: a core, its external memory, and what the testbench does in every clock.
//
// The testbench (`commands.cpp`) sets inputs and waits for `csr_done`, `transferred` and `finished`;
// nothing else of it runs while the core computes.

`timescale 1ns / 1ns

module harness #(
    parameter DATA_BITS = 64,
    parameter ITEM_BITS = 64,
    parameter SIZE_BITS = 24,
    parameter CORES = 1,
    parameter REGISTER_BITS = 8             // of a byte address of their registers
) (
    input clk,

    // Set by the testbench, between two rising edges.
    input rst,
    input [31:0] window_base,
    input [31:0] window_size,
    input [31:0] latency,
    input [7:0] stalls,
    input [63:0] seed,
    input [2:0] fault,
    input [1:0] fault_response,
    input [31:0] fault_first,
    input [31:0] fault_last,
    input transfer,
    input [2:0] transfer_kind,
    input [31:0] transfer_index,
    input [31:0] transfer_offset,
    input [31:0] transfer_size,
    input csr_request,                      // a change starts an access
    input csr_write,
    input [11:0] csr_address,
    input [31:0] csr_data,
    input waiting,

    // Read by the testbench.
    output transferred,
    output reg csr_done,                    // follows `csr_request`
    output reg [31:0] csr_result,
    output reg [2:0] csr_response,          // bit 2: there was none
    output reg finished                     // while `waiting`: the core's interrupt, a clock later
);
    reg [31:0] cycle = 0;
    wire irq;

    // The core sees registers, not inputs: what depends on an input of the top level is computed
    // anew whenever the clock changes.
    reg reset = 1;
    reg [11:0] address = 0;
    reg [31:0] data = 0;

    initial {csr_done, csr_result, csr_response, finished} = 0;

    wire awid, awvalid, awready, wlast, wvalid, wready, bid, bvalid, bready;
    wire arid, arvalid, arready, rid, rlast, rvalid, rready;
    wire [31:0] awaddr, araddr;
    wire [7:0] awlen, arlen;
    wire [2:0] awsize, arsize;
    wire [1:0] awburst, arburst, bresp, rresp;
    wire [DATA_BITS-1:0] wdata, rdata;
    wire [DATA_BITS/8-1:0] wstrb;

    reg csr_awvalid = 0, csr_wvalid = 0, csr_bready = 0, csr_arvalid = 0, csr_rready = 0;
    wire csr_awready, csr_wready, csr_bvalid, csr_arready, csr_rvalid;
    wire [1:0] csr_bresp, csr_rresp;
    wire [31:0] csr_rdata;
    reg [13:0] csr_age = 0;

    wire [CORES-1:0] trace_valid, trace_raw;
    wire [CORES*12-1:0] trace_layer;
    wire [CORES*ITEM_BITS-1:0] trace_item;
    integer trace_log [0:CORES-1];
    integer n;
    initial for (n = 0; n < CORES; n = n + 1) trace_log[n] = 0;

    systolith_core core (
        .clk(clk), .rst(reset), .irq(irq),
        .m_axi_awid(awid), .m_axi_awaddr(awaddr), .m_axi_awlen(awlen), .m_axi_awsize(awsize),
        .m_axi_awburst(awburst), .m_axi_awvalid(awvalid), .m_axi_awready(awready),
        .m_axi_wdata(wdata), .m_axi_wstrb(wstrb), .m_axi_wlast(wlast), .m_axi_wvalid(wvalid),
        .m_axi_wready(wready),
        .m_axi_bid(bid), .m_axi_bresp(bresp), .m_axi_bvalid(bvalid), .m_axi_bready(bready),
        .m_axi_arid(arid), .m_axi_araddr(araddr), .m_axi_arlen(arlen), .m_axi_arsize(arsize),
        .m_axi_arburst(arburst), .m_axi_arvalid(arvalid), .m_axi_arready(arready),
        .m_axi_rid(rid), .m_axi_rdata(rdata), .m_axi_rresp(rresp), .m_axi_rlast(rlast),
        .m_axi_rvalid(rvalid), .m_axi_rready(rready),
        .s_axi_awaddr(address[REGISTER_BITS-1:0]), .s_axi_awvalid(csr_awvalid), .s_axi_awready(csr_awready),
        .s_axi_wdata(data), .s_axi_wstrb(4'hF), .s_axi_wvalid(csr_wvalid),
        .s_axi_wready(csr_wready),
        .s_axi_bresp(csr_bresp), .s_axi_bvalid(csr_bvalid), .s_axi_bready(csr_bready),
        .s_axi_araddr(address[REGISTER_BITS-1:0]), .s_axi_arvalid(csr_arvalid), .s_axi_arready(csr_arready),
        .s_axi_rdata(csr_rdata), .s_axi_rresp(csr_rresp), .s_axi_rvalid(csr_rvalid),
        .s_axi_rready(csr_rready),
        .trace_valid(trace_valid), .trace_layer(trace_layer), .trace_raw(trace_raw),
        .trace_item(trace_item));

    memory #(.DATA_BITS(DATA_BITS), .SIZE_BITS(SIZE_BITS)) memory (.rst(reset), .*);

    always @(posedge clk) begin
        cycle <= cycle + 1;
        finished <= waiting && irq;
        reset <= rst;

        // Results, one line each: layer, raw, item (hexadecimal); a log for each core.
        for (n = 0; n < CORES; n = n + 1)
            if (trace_valid[n] && trace_log[n] != 0)
                $fwrite(trace_log[n], "%x %x %x\n", trace_layer[12*n +: 12], trace_raw[n],
                        trace_item[ITEM_BITS*n +: ITEM_BITS]);
        if (transfer != transferred && transfer_kind >= 4) begin
            n = transfer_kind == 4 ? 0 : transfer_offset;
            if (trace_log[n] != 0) $fclose(trace_log[n]);
            trace_log[n] = $fopen($sformatf("trace_%0d.txt", transfer_index), "w");
        end

        // One register access at a time.
        if (csr_awready) csr_awvalid <= 0;
        if (csr_wready) csr_wvalid <= 0;
        if (csr_arready) csr_arvalid <= 0;
        csr_age <= csr_age + 1;
        if (csr_request != csr_done) begin
            if (!csr_bready && !csr_rready) begin
                csr_awvalid <= csr_write;
                csr_wvalid <= csr_write;
                csr_bready <= csr_write;
                csr_arvalid <= !csr_write;
                csr_rready <= !csr_write;
                csr_age <= 0;
                address <= csr_address;
                data <= csr_data;
            end else if ((csr_bready && csr_bvalid) || (csr_rready && csr_rvalid) || &csr_age) begin
                csr_result <= csr_rdata;
                csr_response <= &csr_age ? 4 : {1'b0, csr_write ? csr_bresp : csr_rresp};
                csr_bready <= 0;
                csr_rready <= 0;
                csr_done <= csr_request;
            end
        end
        if (reset) {csr_awvalid, csr_wvalid, csr_arvalid, csr_bready, csr_rready} <= 0;
    end
endmodule
