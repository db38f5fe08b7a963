"""Executables from Verilog: built once, errors told, waveforms that a reader understands."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from systolith.sim.rtl import verilate

COUNTER = """
module counter;
  parameter LAST = 5;
  reg clk = 0;
  reg [7:0] count = 0;
  always #5 clk = ~clk;
  always @(posedge clk) begin
    count <= count + 1;
    if (count == LAST) begin
      $display("count %0d", count);
      $finish;
    end
  end
endmodule
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """An empty cache with a space in its name, Verilator's compiled library aside."""
    folder = tmp_path_factory.mktemp("a cache")
    verilate.build({"counter.v": COUNTER}, "counter")
    verilate.build({"counter.v": COUNTER}, "counter", waves=True)
    for runtime in verilate.cache_folder().glob("runtime-*.o"):
        (folder / runtime.name).symlink_to(runtime)
    return folder


def unfinished(cache):
    """Folders of what did not become complete; the files there are locks, which stay."""
    return [path for path in cache.glob(".*") if path.is_dir()]


def test_runs_what_it_built_and_builds_it_once(cache):
    executable = verilate.build({"counter.v": COUNTER}, "counter", cache=cache)
    assert "count 5\n" in verilate.run(executable)
    before = executable.stat().st_ino
    assert verilate.build({"counter.v": COUNTER}, "counter", cache=cache) == executable
    assert executable.stat().st_ino == before
    assert [path.name for path in cache.glob("counter-*")] == [executable.name]


def test_verilators_library_is_compiled_once(cache):
    runtime = set(cache.glob("runtime-*.o"))
    verilate.build({"counter.v": COUNTER}, "counter", cache=cache, parameters={"LAST": 7})
    assert set(cache.glob("runtime-*.o")) == runtime


def test_a_library_that_is_used_is_not_the_oldest(cache, tmp_path):
    """What was not used for longest is removed where there is too much."""
    for path in cache.glob("runtime-*.o"):
        os.utime(shutil.copy(path, tmp_path), (0, 0))
    verilate.build({"counter.v": COUNTER}, "counter", cache=tmp_path)
    assert max(path.stat().st_mtime for path in tmp_path.glob("runtime-*.o")) > 0


def test_everything_that_matters_is_in_the_name(cache):
    five = verilate.build({"counter.v": COUNTER}, "counter", cache=cache)
    nine = verilate.build({"counter.v": COUNTER}, "counter", cache=cache, parameters={"LAST": 9})
    assert five != nine
    assert "count 9\n" in verilate.run(nine)


def test_two_builds_of_the_same_at_once(cache):
    source = {"counter.v": COUNTER.replace("count %0d", "both %0d")}
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: verilate.build(source, "counter", cache=cache),
                              range(2)))
    assert paths[0] == paths[1]
    assert "both 5\n" in verilate.run(paths[0])
    assert not unfinished(cache)


def test_verilog_that_is_wrong_is_reported_with_its_line(cache):
    with pytest.raises(verilate.SimulationError, match=r"(?s)Verilator on counter.*counter\.v:12"):
        verilate.build({"counter.v": COUNTER.replace("$finish;", "$finish")}, "counter",
                       cache=cache)
    assert not unfinished(cache)


def test_cpp_that_is_wrong_is_reported(cache):
    with pytest.raises(verilate.SimulationError, match=r"(?s)the C\+\+ compiler.*main\.cpp:1"):
        verilate.build({"counter.v": COUNTER, "main.cpp": "int main() { return it; }\n"},
                       "counter", cache=cache, flags=["--timing"])


def test_missing_compiler_says_what_to_install(monkeypatch, cache):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    verilate._compiler.cache_clear()
    try:
        with pytest.raises(verilate.SimulationError, match=r"apt install g\+\+ perl"):
            verilate.build({"counter.v": COUNTER}, "counter", cache=cache)
    finally:
        verilate._compiler.cache_clear()


def test_a_run_that_fails_or_hangs_is_reported(cache):
    failing = verilate.build({"counter.v": COUNTER.replace("$finish", "$fatal(1, \"broken\")")},
                             "counter", cache=cache)
    with pytest.raises(verilate.SimulationError, match="broken"):
        verilate.run(failing)
    hanging = verilate.build({"counter.v": COUNTER.replace("$finish", "count <= 0")}, "counter",
                             cache=cache)
    with pytest.raises(verilate.SimulationError, match=r"longer than 0\.5 s"):
        verilate.run(hanging, timeout=0.5)


def unpack_lz4(block):
    """The bytes that an LZ4 block stands for."""
    out, position = bytearray(), 0

    def length(nibble):
        nonlocal position
        total = nibble
        while nibble == 15:
            total += block[position]
            position += 1
            if block[position - 1] != 255:
                break
        return total
    while True:
        token = block[position]
        position += 1
        count = length(token >> 4)
        out += block[position:position + count]
        position += count
        if position == len(block):
            return bytes(out)
        distance = int.from_bytes(block[position:position + 2], "little")
        position += 2
        for _ in range(length(token & 15) + 4):
            out.append(out[-distance])


def fst_blocks(content):
    """(type, content) of every block of an FST file."""
    position = 0
    while position < len(content):
        size = int.from_bytes(content[position + 1:position + 9], "big")
        yield content[position], content[position + 9:position + 1 + size]
        position += 1 + size


def test_waveforms_are_written_without_lz4_and_zlib(cache, tmp_path):
    names = [f"a_rather_long_name_{n}" for n in range(40)]
    dump = ("".join(f"reg [{n}:0] {name} = 0; always @(posedge clk) {name} <= ~{name};\n"
                    for n, name in enumerate(names))
            + 'initial begin $dumpfile("run.fst"); $dumpvars; end\nendmodule')
    executable = verilate.build({"counter.v": COUNTER.replace("endmodule", dump)}, "counter",
                                cache=cache, waves=True, parameters={"LAST": 100})
    verilate.run(executable, folder=tmp_path)
    blocks = dict(fst_blocks((tmp_path / "run.fst").read_bytes()))
    header, hierarchy = blocks[0], blocks[6]
    assert int.from_bytes(header[8:16], "big") == 1005          # the last time
    text = unpack_lz4(hierarchy[8:])
    assert len(text) == int.from_bytes(hierarchy[:8], "big")
    assert len(hierarchy) < len(text) * 0.75
    assert all(name.encode() in text for name in [*names, "count", "clk"])


def test_environment_names_the_verilator_in_use():
    environment = verilate.environment()
    assert shutil.which("verilator", path=environment["PATH"])
    assert set(os.environ) <= set(environment)
