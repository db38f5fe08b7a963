"""Near rows and columns: what large arrays do for layers that use a part of them.

A sum leaves the array `rows` cycles after its pixel has entered, and the last column's sum
`columns` cycles after the first one's. In an array of 32 rows or more, the passes of an ARRAY that
fills few rows take place in the *near rows*, the last ones, next to the accumulators: words enter
there, with the partial sum that otherwise enters the first row, so that sums come out earlier. In
an array of 32 columns or more, a POST that reads the first columns alone, the *near columns*, need
not wait for the sums of the others. Both follow from sizes and from the instructions' fields.
"""

from .arch import Arch
from .instruction import Instruction
from .loops import chunk_count, column_group
from .timing import column_delay

__all__ = ["columns_behind", "last_column", "near_columns", "near_rows", "near_rows_of",
           "skipped_rows"]

#: The fewest near rows, and columns.
_LEAST = 16


def _parts(size):
    """Powers of two up to half of `size`, in ascending order."""
    return tuple(1 << n for n in range(_LEAST.bit_length() - 1, (size // 2).bit_length()))


def near_rows(arch: Arch) -> tuple[int, ...]:
    """How many near rows there can be, in ascending order; none where rows differ from each other
    by more than their place."""
    same = not (arch.banks > 1 or arch.plane_rows or arch.parts or arch.weight.block_scale
                or arch.activation.binary)
    return _parts(arch.rows) if same else ()


def near_rows_of(i: Instruction, arch: Arch) -> int:
    """The near rows in which the passes of an ARRAY take place; 0: they begin at the first row."""
    rows = i.height * arch.height_unit
    if not rows or i.starts or i.side:
        return 0
    return next((near for near in near_rows(arch) if rows <= near), 0)


def skipped_rows(i: Instruction, arch: Arch) -> int:
    """Rows that the sums of an ARRAY do not pass: cycles by which they are earlier."""
    near = near_rows_of(i, arch)
    return arch.rows - near if near else 0


def near_columns(arch: Arch) -> tuple[int, ...]:
    """Numbers of near columns for which POST has tokens of its own, in ascending order."""
    return tuple(near for near in _parts(arch.columns) if near >= arch.post_lanes)


def last_column(i: Instruction, arch: Arch) -> int:
    """The first columns that contain all that a POST reads, by number."""
    return (column_group(i, arch) * arch.chunks + chunk_count(i, arch)) * arch.post_lanes


def columns_behind(columns: int, arch: Arch) -> int:
    """Cycles from a sum in the last one of so many columns to that in the array's last one."""
    return column_delay(arch, arch.columns - 1) - column_delay(arch, columns - 1)
