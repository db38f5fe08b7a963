"""The keys of a chip file, with the boards that there are."""

from dataclasses import replace

from systolith.hw.board.boards import BOARDS
from systolith.hw.spec.arch import KEYS as OF_A_CHIP
from systolith.hw.spec.keys import Choice

__all__ = ["KEYS"]

#: {field of `Arch`: its key}
KEYS = OF_A_CHIP | {"board": replace(OF_A_CHIP["board"], kind=Choice(("none", *BOARDS)))}
