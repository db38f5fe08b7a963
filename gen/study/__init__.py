"""Studies over many chips, networks or elements."""
