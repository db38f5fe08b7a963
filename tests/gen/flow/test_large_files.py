"""Files that say or hold more than a build can: refused in one line, without being read."""

import json
import os
import zipfile

import numpy as np
import pytest
from systolith.gen.flow.simulate import read_arrays
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import (
    LARGEST,
    changed_files,
    json_of,
    read_json,
    write_manifest,
    written_files,
)
from systolith.gen.report.pages import content
from systolith.gen.report.pareto import read_results
from systolith.gen.report.report import read_report
from systolith.hw.spec.program import Program, ProgramError

DEEP = "[" * 100_000


def sparse(path, images):
    """A batch of zeros of which the disk holds the header alone."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {
            "descr": "<f4", "fortran_order": False, "shape": (images, 1, 28, 28)})
        file.truncate(file.tell() + images * 28 * 28 * 4)
    return path


def test_of_a_large_batch_the_first_images_are_read(tmp_path):
    path = sparse(tmp_path / "x.npy", 10 * LARGEST // (28 * 28 * 4))
    with path.open("r+b") as file:
        file.seek(128)
        file.write(np.arange(28 * 28, dtype=np.float32).tobytes())
    found = read_arrays(path, 2)
    assert found.shape == (2, 1, 28, 28) and type(found) is np.ndarray
    assert np.array_equal(found.ravel(), [*range(784), *[0] * 784])
    for limit in (None, LARGEST // (28 * 28 * 4) + 1):
        with pytest.raises(UserError, match="536,870,912 may be read at a time"):
            read_arrays(path, limit)


def test_a_small_batch_is_read_whole(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(12).reshape(3, 4))
    assert read_arrays(tmp_path / "x.npy", 2).shape == (3, 4)       # who simulates takes the first
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(3), b=np.ones(2))
    assert set(read_arrays(tmp_path / "x.npz", 2)) == {"a", "b"}


def test_an_archive_of_zeros_is_not_unpacked(tmp_path, monkeypatch):
    most = 1 << 24
    monkeypatch.setattr("systolith.gen.flow.simulate.LARGEST", most)
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("a.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, {
                "descr": "<f4", "fortran_order": False, "shape": (most // 4,)})
            file.write(bytes(most))
    assert path.stat().st_size < most // 100
    with pytest.raises(UserError, match="may be read at a time"):
        read_arrays(path)


def test_files_of_a_build(tmp_path):
    (tmp_path / "core.v").write_text("module a; endmodule\n")
    (tmp_path / "program.bin").write_text("no program")
    write_manifest(tmp_path)
    assert changed_files(tmp_path) == []
    os.truncate(tmp_path / "core.v", 1 << 40)               # hashing it would take hours
    os.truncate(tmp_path / "program.bin", 1 << 40)
    assert changed_files(tmp_path) == ["core.v", "program.bin"]
    with pytest.raises(ProgramError, match=r"program\.bin has more than 536,870,912 bytes"):
        Program.load(tmp_path / "program.bin")
    for text in (DEEP, '{"files": ' + DEEP):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(UserError, match="is no list of files that Systolith wrote"):
            written_files(tmp_path)
    os.truncate(tmp_path / "manifest.json", 1 << 40)
    with pytest.raises(UserError, match="is no list of files that Systolith wrote"):
        written_files(tmp_path)


def test_json_that_is_nested_too_deeply(tmp_path):
    with pytest.raises(ValueError, match="nested too deeply"):
        json_of(DEEP)
    assert json_of(json.dumps({"a": [1]})) == {"a": [1]}
    (tmp_path / "x.json").write_text("[1]")
    assert read_json(tmp_path / "x.json") == [1]
    for name, read in (("report.json", read_report), ("results.json", read_results)):
        for size in (None, 1 << 40):
            (tmp_path / name).write_text(DEEP)
            if size:
                os.truncate(tmp_path / name, size)
            with pytest.raises(UserError) as refused:
                read(tmp_path)
            assert len(str(refused.value).splitlines()) == 1
    page = f'<title>x</title><script id="data" type="application/json">{DEEP}</script>'
    with pytest.raises(ValueError, match="nested too deeply"):
        content(page)


def test_a_program_whose_header_is_nested_too_deeply(tmp_path):
    import hashlib
    header = DEEP.encode()
    text = b"SYSTOLITH PROGRAM 1\n" + len(header).to_bytes(4, "little") + header
    (tmp_path / "program.bin").write_bytes(text + hashlib.sha256(text).digest())
    with pytest.raises(ProgramError, match="the header is no JSON"):
        Program.load(tmp_path / "program.bin")
