"""What is kept between runs."""

import os

from systolith.gen.kit.cache import cache_folder, cached


def test_what_was_not_used_for_longest_goes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path))
    made = []

    def keep(key, most=None):
        return cached("things", key, lambda: made.append(key) or key.upper(), most)
    for age, key in enumerate("abcd"):
        assert keep(key) == key.upper()
        os.utime(tmp_path / "things" / f"{key}.json", (age, age))
    assert keep("a") == "A" and made == [*"abcd"]           # it is used now
    assert keep("e", 3) == "E"
    kept = sorted(path.name for path in cache_folder("things").iterdir())
    assert [name for name in kept if name.endswith("json")] == ["a.json", "d.json", "e.json"]
    assert not {"b.lock", "c.lock"} & set(kept)
    assert keep("b") == "B" and made == [*"abcdeb"]
