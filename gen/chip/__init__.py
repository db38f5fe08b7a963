"""Chip descriptions in TOML, and a chip as Verilog."""
