from systolith.gen.kit.tables import text_table


def test_tables_are_aligned():
    assert text_table([["a", "n"], ["long", 7], ["b", 12345]], "lr").splitlines() == [
        "| a    |     n |",
        "|------|------:|",
        "| long |     7 |",
        "| b    | 12345 |"]
