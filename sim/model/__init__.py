"""The golden model: what a network computes, bit by bit, without a machine."""
