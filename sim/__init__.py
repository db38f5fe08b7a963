"""Golden model, instruction-level simulator, cycle model and RTL simulation: whether results are
right, and how long they take."""
