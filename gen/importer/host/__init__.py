"""What the host computes of a network: at its ends, before and after the chip."""
