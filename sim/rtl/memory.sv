// AXI4 slave: the window of external memory that a core may touch, on the simulator's side alone.
//
// A read burst whose address is accepted in cycle t has its first beat on offer from cycle
// t + latency on; bursts answer in the order of their addresses, a beat a cycle. Addresses and
// write data are always accepted; the response to a burst is on offer `latency` cycles after its
// last beat was accepted. Written data takes effect when the response is offered, so that who
// reads before it has the response reads what was there before. Stalls come on top.
//
// `transfer` makes the memory load, dump or fill a region between two clock edges.

`timescale 1ns / 1ns

module memory #(
    parameter DATA_BITS = 64,
    parameter SIZE_BITS = 24,               // bytes modelled: 2**SIZE_BITS, from window_base on
    localparam BYTES = DATA_BITS / 8,
    localparam BEAT_BITS = $clog2(BYTES)
) (
    input clk,
    input rst,                              // forgets what is outstanding, not the content
    input [31:0] cycle,

    input awid, input [31:0] awaddr, input [7:0] awlen, input [2:0] awsize, input [1:0] awburst,
    input awvalid, output reg awready,
    input [DATA_BITS-1:0] wdata, input [BYTES-1:0] wstrb, input wlast,
    input wvalid, output reg wready,
    output reg bid, output reg [1:0] bresp, output reg bvalid, input bready,
    input arid, input [31:0] araddr, input [7:0] arlen, input [2:0] arsize, input [1:0] arburst,
    input arvalid, output reg arready,
    output reg rid, output reg [DATA_BITS-1:0] rdata, output reg [1:0] rresp, output reg rlast,
    output reg rvalid, input rready,

    input [31:0] window_base,               // multiple of 4096
    input [31:0] window_size,
    input [31:0] latency,                   // cycles, 1 or more
    input [7:0] stalls,                     // of 256 cycles, in how many each channel stalls
    input [63:0] seed,                      // of the stalls; taken over at reset
    // Addresses (in the window) that answer wrongly: 0 none, 1 reads answer with `fault_response`,
    // 2 writes do, 3 reads never answer, 4 writes never do, 5 RLAST of beats is inverted, 6 beats
    // come twice, 7 beats are left out.
    input [2:0] fault,
    input [1:0] fault_response,
    input [31:0] fault_first,
    input [31:0] fault_last,

    // 1 load file `load.bin`, 2 dump to `dump.bin`, 3 fill with a pattern that
    // `transfer_index` selects, 4 start new logs: `writes_<index>.txt`, one line (cycle, offset
    // in the window, strobes, data; hexadecimal) for each write beat, and `broken_<index>.txt`,
    // one line for each broken rule. 5 is the harness's.
    input transfer,                         // a change starts it
    input [2:0] transfer_kind,
    input [31:0] transfer_index,
    input [31:0] transfer_offset,
    input [31:0] transfer_size,
    output reg transferred                  // follows `transfer` when done
);
    localparam BURSTS = 256, PENDING = 8192;

    reg [7:0] content [0:(1 << SIZE_BITS) - 1];
    integer write_log = 0, broken_log = 0;

    // What was accepted and is not answered yet, as queues: bursts read; bursts and beats of
    // writes; bursts written. Indices run on and wrap.
    reg [31:0] ar_address [0:BURSTS-1], ar_time [0:BURSTS-1];
    reg [7:0] ar_length [0:BURSTS-1];
    reg ar_id [0:BURSTS-1];
    reg [7:0] ar_in, ar_out, read_beat;
    reg twice;                              // the beat before was not the last time of its own
    reg [31:0] aw_address [0:BURSTS-1];
    reg [7:0] aw_length [0:BURSTS-1];
    reg aw_id [0:BURSTS-1];
    reg [7:0] aw_in, aw_out, write_beat;
    reg [DATA_BITS-1:0] w_data [0:PENDING-1];
    reg [BYTES-1:0] w_strobe [0:PENDING-1];
    reg w_last [0:PENDING-1];
    reg [31:0] w_offset [0:PENDING-1];
    reg [12:0] w_in, w_out, w_done;
    reg [31:0] b_time [0:BURSTS-1];
    reg [7:0] b_length [0:BURSTS-1];
    reg [1:0] b_response [0:BURSTS-1];
    reg b_silent [0:BURSTS-1], b_id [0:BURSTS-1];
    reg [7:0] b_in, b_out;

    reg [63:0] random;
    reg [31:0] address;
    reg [1:0] response;
    reg silent;
    reg [BYTES-1:0] strobe;
    reg [52:0] aw_held, ar_held;
    reg [DATA_BITS+BYTES:0] w_held;
    reg aw_was, w_was, ar_was;

    wire [52:0] aw_now = {awid, 5'd0, awlen, awaddr, awsize, awburst, 2'd0};
    wire [52:0] ar_now = {arid, 5'd0, arlen, araddr, arsize, arburst, 2'd0};
    wire [DATA_BITS+BYTES:0] w_now = {wlast, wstrb, wdata};

    function stalled(input integer channel);
        stalled = random[8 * channel +: 8] < stalls;
    endfunction

    function faulty(input [31:0] offset);
        faulty = offset + BYTES > fault_first && offset <= fault_last;
    endfunction

    task broken(input [8*40-1:0] what, input [31:0] where);
        if (broken_log != 0) begin
            $fwrite(broken_log, "%0d %08x %0s\n", cycle, where, what);
            $fflush(broken_log);
        end
    endtask

    task check_burst(input [31:0] first, input [7:0] length, input [2:0] size,
                     input [1:0] kind);
        reg [31:0] offset, bytes;
        begin
            offset = {first[31:BEAT_BITS], {BEAT_BITS{1'b0}}} - window_base;
            bytes = (32'(length) + 1) << BEAT_BITS;
            if (offset >= window_size || window_size - offset < bytes)
                broken("burst outside the window", first);
            if (32'(offset[11:0]) + bytes > 4096) broken("burst crosses 4 KiB", first);
            if (size != 3'(BEAT_BITS)) broken("burst of narrow beats", first);
            if (kind != 1) broken("burst is not INCR", first);
        end
    endtask

    always @(posedge clk) begin : model
        integer n;
        if (stalls != 0) begin                              // xorshift64
            random = random ^ (random << 13);
            random = random ^ (random >> 7);
            random = random ^ (random << 17);
        end

        // Rules of AXI that a master can break.
        if (aw_was && (!awvalid || aw_now != aw_held)) broken("AW changed before AWREADY", awaddr);
        if (w_was && (!wvalid || w_now != w_held)) broken("W changed before WREADY", 0);
        if (ar_was && (!arvalid || ar_now != ar_held)) broken("AR changed before ARREADY", araddr);
        aw_was = awvalid && !awready;
        w_was = wvalid && !wready;
        ar_was = arvalid && !arready;
        if (aw_was) aw_held = aw_now;
        if (w_was) w_held = w_now;
        if (ar_was) ar_held = ar_now;

        // Reads.
        if (arvalid && arready) begin
            check_burst(araddr, arlen, arsize, arburst);
            ar_address[ar_in] = {araddr[31:BEAT_BITS], {BEAT_BITS{1'b0}}} - window_base;
            ar_length[ar_in] = arlen;
            ar_id[ar_in] = arid;
            ar_time[ar_in] = cycle + latency;
            ar_in = ar_in + 1;
        end
        if (!rvalid || rready) begin
            address = ar_address[ar_out] + (32'(read_beat) << BEAT_BITS);
            rvalid <= 0;
            if (ar_in != ar_out && $signed(cycle + 1 - ar_time[ar_out]) >= 0 && !stalled(0)
                    && !(fault == 3 && faulty(address))) begin
                rvalid <= 1;
                rid <= ar_id[ar_out];
                rresp <= fault == 1 && faulty(address) ? fault_response : 0;
                rlast <= (read_beat == ar_length[ar_out]) ^ (fault == 5 && faulty(address));
                if (fault == 7 && faulty(address)) rvalid <= 0;
                for (n = 0; n < BYTES; n = n + 1)
                    rdata[8*n +: 8] <= content[address[SIZE_BITS-1:0] + SIZE_BITS'(n)];
                twice = fault == 6 && faulty(address) && !twice;
                if (!twice) begin
                    read_beat = read_beat + 1;
                    if (read_beat - 8'd1 == ar_length[ar_out]) begin
                        read_beat = 0;
                        ar_out = ar_out + 1;
                    end
                end
            end
        end
        arready <= !stalled(1) && ar_in - ar_out < 8'(BURSTS - 4);

        // Writes: beats meet their address, whichever comes first.
        if (awvalid && awready) begin
            check_burst(awaddr, awlen, awsize, awburst);
            aw_address[aw_in] = {awaddr[31:BEAT_BITS], {BEAT_BITS{1'b0}}} - window_base;
            aw_length[aw_in] = awlen;
            aw_id[aw_in] = awid;
            aw_in = aw_in + 1;
        end
        if (wvalid && wready) begin
            w_data[w_in] = wdata;
            w_strobe[w_in] = wstrb;
            w_last[w_in] = wlast;
            w_in = w_in + 1;
        end
        while (w_out != w_in && aw_out != aw_in) begin
            address = aw_address[aw_out] + (32'(write_beat) << BEAT_BITS);
            strobe = w_strobe[w_out];
            w_offset[w_out] = address;
            if (strobe != 0 && address >= window_size) begin
                broken("write outside the window", address + window_base);
                w_strobe[w_out] = 0;
            end
            if (w_last[w_out] != (write_beat == aw_length[aw_out]))
                broken("WLAST at the wrong beat", address + window_base);
            if (fault == 2 && faulty(address)) response = fault_response;
            if (fault == 4 && faulty(address)) silent = 1;
            if (write_log != 0)
                $fwrite(write_log, "%x %x %x %x\n", cycle, address, strobe, w_data[w_out]);
            w_out = w_out + 1;
            write_beat = write_beat + 1;
            if (write_beat - 8'd1 == aw_length[aw_out]) begin
                b_time[b_in] = cycle + latency;
                b_length[b_in] = aw_length[aw_out];
                b_id[b_in] = aw_id[aw_out];
                b_response[b_in] = response;
                b_silent[b_in] = silent;
                b_in = b_in + 1;
                response = 0;
                silent = 0;
                write_beat = 0;
                aw_out = aw_out + 1;
            end
        end
        awready <= !stalled(2) && b_in - b_out < 8'(BURSTS / 2) && aw_in - aw_out < 8'(BURSTS / 4);
        wready <= !stalled(3) && w_in - w_done < 13'(PENDING - 512);
        if (!bvalid || bready) begin
            bvalid <= 0;
            if (b_in != b_out && $signed(cycle + 1 - b_time[b_out]) >= 0 && !stalled(4)
                    && !b_silent[b_out]) begin
                bvalid <= 1;
                bid <= b_id[b_out];
                bresp <= b_response[b_out];
                for (n = 0; n <= 32'(b_length[b_out]); n = n + 1) begin : apply
                    integer k;
                    for (k = 0; k < BYTES; k = k + 1)
                        if (w_strobe[w_done][k])
                            content[w_offset[w_done][SIZE_BITS-1:0] + SIZE_BITS'(k)]
                                = w_data[w_done][8*k +: 8];
                    w_done = w_done + 1;
                end
                b_out = b_out + 1;
            end
        end

        if (transfer != transferred) begin
            do_transfer;
            transferred <= transfer;
        end

        if (rst) begin
            {rvalid, bvalid, arready, awready, wready} <= 0;
            {ar_in, ar_out, read_beat, aw_in, aw_out, write_beat, b_in, b_out} = 0;
            {w_in, w_out, w_done} = 0;
            {aw_was, w_was, ar_was} = 0;
            response = 0;
            silent = 0;
            twice = 0;
            random = seed ^ 64'h9E3779B97F4A7C15;
            if (random == 0) random = 1;
        end
    end

    task do_transfer;
        integer file, count;
        reg [31:0] k;
        begin
            case (transfer_kind)
                1: begin
                    file = $fopen("load.bin", "rb");
                    count = $fread(content, file, transfer_offset, transfer_size);
                    if (count != transfer_size)
                        $fatal(1, "load.bin: %0d bytes, not %0d", count,
                               transfer_size);
                    $fclose(file);
                end
                2: begin
                    file = $fopen("dump.bin", "wb");
                    for (k = 0; k < transfer_size; k = k + 4)
                        $fwrite(file, "%u", {
                            content[SIZE_BITS'(transfer_offset + k + 3)],
                            content[SIZE_BITS'(transfer_offset + k + 2)],
                            content[SIZE_BITS'(transfer_offset + k + 1)],
                            content[SIZE_BITS'(transfer_offset + k)]});
                    $fclose(file);
                end
                3: for (k = 0; k < transfer_size; k = k + 1)
                    content[SIZE_BITS'(transfer_offset + k)]
                        = 8'(((transfer_offset + k) ^ transfer_index) * 32'h9E3779B1 >> 24);
                4: begin
                    if (write_log != 0) $fclose(write_log);
                    if (broken_log != 0) $fclose(broken_log);
                    write_log = $fopen($sformatf("writes_%0d.txt", transfer_index), "w");
                    broken_log = $fopen($sformatf("broken_%0d.txt", transfer_index), "w");
                end
                default: ;
            endcase
        end
    endtask
endmodule
