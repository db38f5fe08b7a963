"""Boards: what stands around the core there, from pins to block RAM and the serial line."""
