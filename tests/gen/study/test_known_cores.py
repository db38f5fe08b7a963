"""Verilog of cores that is kept between regressions."""

import pytest
from systolith.gen.chip import verilog
from systolith.gen.study import known_cores as module
from systolith.hw.spec.arch import Arch

ARCH = Arch(rows=2, columns=2)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Chips whose Verilog was written, with nothing kept at first."""
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path))
    chips, real = [], verilog.core_verilog
    monkeypatch.setattr(verilog, "core_verilog", lambda arch: chips.append(arch) or real(arch))
    return chips


def test_a_core_is_written_once(written):
    text = module.core_verilog(ARCH)
    assert text == module.core_verilog(ARCH) == verilog.core_verilog(ARCH)
    assert written == [ARCH, ARCH]              # the second time by this test


@pytest.mark.parametrize("change", [{"rows": 3}, {"columns": 4}, {"name": "another"}])
def test_another_chip_is_another_core(written, change):
    other = Arch(**{"rows": 2, "columns": 2, **change})
    assert module.core_verilog(ARCH) != module.core_verilog(other)
    assert written == [ARCH, other]


def test_other_code_writes_it_anew(written, monkeypatch):
    module.core_verilog(ARCH)
    monkeypatch.setattr(module, "code_hash", lambda modules, tools: "changed")
    module.core_verilog(ARCH)
    assert written == [ARCH, ARCH]
