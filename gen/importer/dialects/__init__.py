"""Quantizers and host ends, by the tool that wrote the model."""
