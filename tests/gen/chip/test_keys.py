"""The keys of a chip file know the boards."""

import pytest
from systolith.gen.chip.keys import KEYS
from systolith.gen.chip.toml import markdown_table
from systolith.hw.board.boards import BOARDS


def test_the_table_has_every_key():
    for key in KEYS.values():
        assert f"| `{key.path}` |" in markdown_table()


def test_a_board_is_one_that_there_is():
    for name in ("none", *BOARDS):
        assert KEYS["board"].kind.read(name) == name
    with pytest.raises(ValueError, match=r"must be one of .none., .*, not 'arty'"):
        KEYS["board"].kind.read("arty")
