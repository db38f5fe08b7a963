"""Files and folders of results: what is not of Systolith stays, links are followed."""

import os

import pytest
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import MANIFEST, changed_files, new_folder, write_file, written_files


def made(path, **files):
    with new_folder(path) as new:
        for name, text in files.items():
            (new / name).write_text(text)


def held(path):
    return {item.name: item.read_text() for item in path.iterdir() if item.name != MANIFEST}


def test_what_somebody_else_put_there_stays(tmp_path):
    path = tmp_path / "out"
    made(path, a="1", b="2")
    (path / "notes").write_text("mine")
    made(path, a="3", c="4")
    assert held(path) == {"a": "3", "c": "4", "notes": "mine"}
    assert written_files(path) == [path / "a", path / "c", path / MANIFEST]
    with pytest.raises(UserError, match="notes: was not written by Systolith"):
        made(path, a="5", notes="6")
    assert held(path) == {"a": "3", "c": "4", "notes": "mine"} and changed_files(path) == []


def test_changed_and_missing_files_are_seen(tmp_path):
    path = tmp_path / "out"
    made(path, a="1", b="2", c="3")
    (path / "b").write_text("other")
    (path / "c").unlink()
    assert changed_files(path) == ["b", "c"]


def test_an_exchange_that_is_cut_short_is_seen(tmp_path, monkeypatch):
    path = tmp_path / "out"
    made(path, a="1", b="2")
    real, moved = os.replace, []

    def stops(self, target):
        if self.name in ("a", "b"):
            moved.append(self.name)
            if len(moved) == 2:
                raise KeyboardInterrupt
        return real(self, target)
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", stops)
        with pytest.raises(KeyboardInterrupt):
            made(path, a="3", b="4")
    assert changed_files(path) == ["b"]
    made(path, a="5", b="6")
    assert changed_files(path) == [] and held(path) == {"a": "5", "b": "6"}


@pytest.mark.parametrize("text", ["{", "[]", '{"files": {"../x": "0"}}', '{"files": {"x": 1}}'])
def test_a_manifest_of_something_else_is_refused(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(UserError, match="is no list of files that Systolith wrote"):
        made(tmp_path, a="1")
    assert held(tmp_path) == {}


def test_links_stay_and_are_followed(tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("folder", "file"):
        (tmp_path / name).symlink_to(tmp_path / "there" / name)
    made(tmp_path / "folder", a="1")
    write_file(tmp_path / "file", "2")
    assert (tmp_path / "folder").is_symlink() and (tmp_path / "file").is_symlink()
    assert held(tmp_path / "there" / "folder") == {"a": "1"}
    assert (tmp_path / "there" / "file").read_text() == "2"


def test_a_pipe_is_written_to_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_file(tmp_path / "pipe", "text")
    assert os.read(reader, 10) == b"text" and (tmp_path / "pipe").is_fifo()
    os.close(reader)
