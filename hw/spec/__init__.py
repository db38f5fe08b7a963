"""What hardware, simulators and compiler share: chip, instructions, words, program file."""
