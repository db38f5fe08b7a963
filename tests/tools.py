"""Programs that stand for nextpnr and the packers: on PATH, quick, and told what to do by variables
of the environment.

FAKE=sleep: writes its process's number into the file FAKE_PID and waits. FAKE=over: fails as
nextpnr does where a design does not fit. FAKE=error: fails. FAKE_MHZ: what seed 0 would reach.
"""

import json
import sys

import pytest

PLACER = r"""
import json, os, sys, tempfile, time
words = sys.argv[1:]
value = {a: b for a, b in zip(words, words[1:])}
with open(os.environ["FAKE_ASKED"], "a") as file:
    file.write(json.dumps([os.path.basename(sys.argv[0]), *words]) + "\n")
fake = os.environ.get("FAKE")
if "--seed" not in value:                                  # a packer
    bits, placed = ((words[3], words[4]) if "-d" in words else (words[-1], words[-2]))
    open(bits, "w").write("bits of " + open(placed).read())
    sys.exit(fake == "pack")
assert os.path.isfile(value["--json"])
print("Info: Packing LUTs..", flush=True)
if fake == "error":
    print("Info: x\nERROR: Unable to place cell 'y'")
    sys.exit(1)
if fake == "over":
    print("Info: \t          ICESTORM_LC:    7301/   5280   138%\n"
          "Info: \t         ICESTORM_RAM:      19/     30    63%\nERROR: no Bels left")
    sys.exit(1)
if fake == "sleep" or fake == "sleep after 1" and value["--seed"] != "1":
    tempfile.mkdtemp(prefix="left-over-")
    with open(os.environ["FAKE_PID"] + value["--seed"], "w") as file:
        file.write(str(os.getpid()))
    time.sleep(60)
print("Info: Routing 7 arcs.\nInfo:       1000 |       25        974 |   25   974 |"
      "      4476|       2.58      70.90|", flush=True)
cells = [f"system.core.placed.{name}" for name in (
    "store.offset_TRELLIS_FF_Q_1", "store.$73_CCU2C_S1_7$CCU2_COMB1",
    "csr.bus__rdata_TRELLIS_FF_Q_25")]
nets = ["system.core.placed.store.offset[2]", "system.core.placed.store.$26_LUT4_Z_D[0]"]
hops = [("clk-to-q", 0.5, 0, 0, None), ("routing", 1.0, 0, 1, nets[0]), ("logic", 0.25, 1, 1, None),
        ("routing", 2.0, 1, 2, nets[1]), ("setup", 0.0, 2, 2, None)]
path = [{"type": kind, "delay": delay, "from": {"cell": cells[a], "port": "Q"},
         "to": {"cell": cells[b], "port": "D"}, **({"net": net} if net else {})}
        for kind, delay, a, b, net in hops]
if "--report" not in value:                         # to be annealed, or to be routed again
    open(value["--write"], "w").write('{"modules": {}}')
    if "--sdf" in value:
        open(value["--sdf"], "w").close()
    sys.exit()
with open(value["--report"], "w") as file:
    json.dump({
        "fmax": {"clk": {"achieved": float(os.environ.get("FAKE_MHZ", 30)) + int(value["--seed"]),
                         "constraint": 25.0}},
        "utilization": {"TRELLIS_FF": {"used": 7, "available": 83640},
                        "DCCA": {"used": 0, "available": 56}},
        "critical_paths": [{"from": "<async>", "to": "posedge clk", "path": path[:1]},
                           {"from": "posedge clk", "to": "posedge clk", "path": path}]}, file)
for option in ("--textcfg", "--asc", "--write"):
    if option in value:
        open(value[option], "w").write("seed " + value["--seed"])
"""
NAMES = ("nextpnr-ecp5", "ecppack", "nextpnr-ice40", "icepack", "nextpnr-himbaechel", "gowin_pack")


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Puts them on PATH and stands in for Yosys; a function that gives the command lines so far."""
    from systolith.gen.measure import array_clock, place_and_route
    folder, asked = tmp_path / "bin", tmp_path / "asked.txt"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_text(f"#!{sys.executable} -SE\n{PLACER}")
        (folder / name).chmod(0o755)
    asked.touch()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("FAKE_ASKED", str(asked))
    monkeypatch.setenv("FAKE_PID", str(tmp_path / "pid-"))

    def synthesis(commands, netlist, *more):
        with asked.open("a") as file:
            file.write(json.dumps(["yosys"]) + "\n")
        netlist.write_text('{"modules": {}}')
    for module in (place_and_route, array_clock):
        monkeypatch.setattr(module, "run_yosys", synthesis)
    return lambda: [json.loads(line) for line in asked.read_text().splitlines()]
