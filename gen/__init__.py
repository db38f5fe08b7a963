"""What produces things: programs, Verilog, reports, sweeps."""
