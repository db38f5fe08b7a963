// A core between models of others: what drives its buses, and its clock, is set by a testbench.
// The clock is not that of `main.cpp`: models see an edge before the core has changed.

module bus_models #(parameter DATA_BITS = 64) (input clk);
    reg clock /* verilator public_flat_rw */ = 0;
    reg rst /* verilator public_flat_rw */ = 1;
    wire irq /* verilator public_flat_rd */;

    wire m_axi_awid /* verilator public_flat_rd */;
    wire [31:0] m_axi_awaddr /* verilator public_flat_rd */;
    wire [7:0] m_axi_awlen /* verilator public_flat_rd */;
    wire [2:0] m_axi_awsize /* verilator public_flat_rd */;
    wire [1:0] m_axi_awburst /* verilator public_flat_rd */;
    wire m_axi_awvalid /* verilator public_flat_rd */;
    reg m_axi_awready /* verilator public_flat_rw */ = 0;
    wire [DATA_BITS-1:0] m_axi_wdata /* verilator public_flat_rd */;
    wire [DATA_BITS/8-1:0] m_axi_wstrb /* verilator public_flat_rd */;
    wire m_axi_wlast /* verilator public_flat_rd */;
    wire m_axi_wvalid /* verilator public_flat_rd */;
    reg m_axi_wready /* verilator public_flat_rw */ = 0;
    reg m_axi_bid /* verilator public_flat_rw */ = 0;
    reg [1:0] m_axi_bresp /* verilator public_flat_rw */ = 0;
    reg m_axi_bvalid /* verilator public_flat_rw */ = 0;
    wire m_axi_bready /* verilator public_flat_rd */;
    wire m_axi_arid /* verilator public_flat_rd */;
    wire [31:0] m_axi_araddr /* verilator public_flat_rd */;
    wire [7:0] m_axi_arlen /* verilator public_flat_rd */;
    wire [2:0] m_axi_arsize /* verilator public_flat_rd */;
    wire [1:0] m_axi_arburst /* verilator public_flat_rd */;
    wire m_axi_arvalid /* verilator public_flat_rd */;
    reg m_axi_arready /* verilator public_flat_rw */ = 0;
    reg m_axi_rid /* verilator public_flat_rw */ = 0;
    reg [DATA_BITS-1:0] m_axi_rdata /* verilator public_flat_rw */ = 0;
    reg [1:0] m_axi_rresp /* verilator public_flat_rw */ = 0;
    reg m_axi_rlast /* verilator public_flat_rw */ = 0;
    reg m_axi_rvalid /* verilator public_flat_rw */ = 0;
    wire m_axi_rready /* verilator public_flat_rd */;

    reg [7:0] s_axi_awaddr /* verilator public_flat_rw */ = 0;
    reg s_axi_awvalid /* verilator public_flat_rw */ = 0;
    wire s_axi_awready /* verilator public_flat_rd */;
    reg [31:0] s_axi_wdata /* verilator public_flat_rw */ = 0;
    reg [3:0] s_axi_wstrb /* verilator public_flat_rw */ = 0;
    reg s_axi_wvalid /* verilator public_flat_rw */ = 0;
    wire s_axi_wready /* verilator public_flat_rd */;
    wire [1:0] s_axi_bresp /* verilator public_flat_rd */;
    wire s_axi_bvalid /* verilator public_flat_rd */;
    reg s_axi_bready /* verilator public_flat_rw */ = 0;
    reg [7:0] s_axi_araddr /* verilator public_flat_rw */ = 0;
    reg s_axi_arvalid /* verilator public_flat_rw */ = 0;
    wire s_axi_arready /* verilator public_flat_rd */;
    wire [31:0] s_axi_rdata /* verilator public_flat_rd */;
    wire [1:0] s_axi_rresp /* verilator public_flat_rd */;
    wire s_axi_rvalid /* verilator public_flat_rd */;
    reg s_axi_rready /* verilator public_flat_rw */ = 0;

    systolith_core core (.clk(clock), .trace_valid(), .trace_layer(), .trace_raw(), .trace_item(), .*);
endmodule
