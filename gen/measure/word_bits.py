"""Which bits of LOAD's register of a word in external memory any memory on the chip has a use for;
the others are left out by synthesis."""

from systolith.hw.spec.arch import Arch
from systolith.hw.spec.memories import Space, loadable

__all__ = ["word_bits"]


def word_bits(arch: Arch) -> int:
    """How many bits they are: words begin at bit 0, and groups of activations at whole bytes."""
    used = 0
    for row in loadable(arch):
        if row.space in (Space.ACTIVATION, Space.OPERAND):
            group = (1 << arch.group_bits) - 1
            for number in range(arch.groups_per_word):
                used |= group << 8 * arch.group_bytes * number
        else:                           # of a table LOAD fills all copies
            bits = arch.table_bits if row.space == Space.TABLE else row.bits(arch)
            used |= (1 << bits) - 1
    return used.bit_count()
