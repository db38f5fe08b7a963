"""Programs on a model of the machine: instructions, memories, cycles, and checks of all."""
