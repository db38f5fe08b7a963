"""Importer, compiler and command line: programs, Verilog, reports, sweeps."""
