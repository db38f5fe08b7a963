"""The generated Verilog in Verilator, and devices that run programs."""
