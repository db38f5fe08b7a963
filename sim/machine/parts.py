"""What POST writes of results where codes hold several parts."""

import numpy as np
from systolith.hw.spec.arch import Arch

__all__ = ["part_codes"]


def part_codes(codes: np.ndarray, arch: Arch) -> np.ndarray:
    """Codes of `arch.part` of results, codes of the chip: their signs, or their lower halves."""
    part = arch.part
    assert part is not None, "a chip whose codes hold parts"
    if part.binary:
        return (arch.activation.ordered(codes) >= 0).astype(np.int64)
    return np.asarray(codes, np.int64) & (1 << part.width) - 1
