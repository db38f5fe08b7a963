"""Timelines: what Perfetto needs to show them, that every cycle of every unit is in them, pictures.
"""

import gzip
import json
from collections import defaultdict

import pytest
from matplotlib.image import imread
from systolith.gen.compile.compile import compile_graph
from systolith.gen.kit.errors import UserError
from systolith.gen.report.timeline import write_picture
from systolith.gen.report.trace import WAITS, clip, span, trace_events, tracks, write_trace
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Unit
from systolith.sim.machine.cycles import cycles

from ...networks import random_network

#: POST writes often, loads wait for it; queues and stores of all kinds.
ARCH = Arch(rows=5, columns=6, activation_depth=300, weight_depth=80, accumulator_depth=40,
            parameter_depth=16, operand_depth=100, bus_bits=32)


@pytest.fixture(scope="module", params=range(4))
def run(request):
    program = compile_graph(random_network(request.param, ARCH, layers=4)[0], ARCH)
    return program, cycles(program, (32, 1, 7, 100)[request.param])


def check_nesting(events):
    """As Perfetto's importer does it: events of a track, in the order of their begins and then of
    the file, lie inside of what is open or behind it."""
    rows = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            rows[event["pid"], event["tid"]].append(event)
    for row in rows.values():
        opened = []
        for event in sorted(row, key=lambda item: item["ts"]):
            begin, end = event["ts"], event["ts"] + event["dur"]
            while opened and opened[-1] <= begin:
                opened.pop()
            assert not opened or end <= opened[-1], event
            opened.append(end)


def test_a_trace_is_what_perfetto_reads(run, tmp_path):
    program, timing = run
    path = write_trace(program, timing, tmp_path / "trace.json")
    text = path.read_text()
    assert text.startswith('{"traceEvents":[') and "displayTimeUnit" not in text
    events = json.loads(text)["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events
             if event["name"] == "thread_name"}
    assert list(names.values()) == ["Layers", "Load", "Array", "Post", "Store"]
    for event in events:
        assert event["ph"] in "XM" and event["pid"] == 1 and event["tid"] in names
        if event["ph"] == "X":
            assert type(event["ts"]) is type(event["dur"]) is int and event["dur"] > 0
            assert 0 <= event["ts"] and event["ts"] + event["dur"] <= timing.cycles + 1
    check_nesting(events)
    packed = write_trace(program, timing, tmp_path / "trace.json.gz")
    assert gzip.decompress(packed.read_bytes()) == path.read_bytes()


def test_every_instruction_is_there_once_with_what_it_does(run):
    program, timing = run
    found = {event["args"]["instruction"]: event for event in trace_events(program, timing)
             if "instruction" in event.get("args", {})}
    numbers = [n for n, code in enumerate(program.instructions) if code.unit is not None]
    assert sorted(found) == numbers
    for number in numbers:
        code, event = program.instructions[number], found[number]
        assert event["tid"] == 2 + code.unit and event["cat"] == code.unit.name.lower()
        assert event["name"].startswith(program.host.layers[code.layer].name)
        first, last = timing.instructions[number]
        assert first <= event["ts"] and event["ts"] + event["dur"] <= last + 1
        assert ("takes tokens of" in event["args"]) == bool(code.wait)
        assert {key: value for key, value in code.fields.items() if value}.items() <= (
            event["args"].items())


def test_waits_are_those_that_are_counted(run):
    program, timing = run
    states = {name: state.name.lower() for state, (name, _) in WAITS.items()}
    found = {unit.name.lower(): dict.fromkeys(timing.activity[unit.name.lower()], 0)
             for unit in Unit}
    for event in trace_events(program, timing):
        if event.get("cat") == "wait":
            found[Unit(event["tid"] - 2).name.lower()][states[event["name"]]] += event["dur"]
    for unit, counts in timing.activity.items():
        assert found[unit] == counts | {"running": 0}


def test_layers_share_out_all_cycles(run):
    program, timing = run
    layers = [event for event in trace_events(program, timing) if event.get("cat") == "layer"]
    assert [event["name"] for event in layers] == [
        layer.name for layer in program.host.layers]
    assert layers[0]["ts"] == 0 and sum(event["dur"] for event in layers) == timing.cycles
    assert all(event["dur"] == event["args"]["cycles"] for event in layers)


def test_a_part_of_a_run(run):
    program, timing = run
    begin, end = timing.cycles // 3, timing.cycles // 2
    events = trace_events(program, timing, begin, end)
    check_nesting(events)
    shown = [event for event in events if event["ph"] == "X"]
    assert shown and all(begin <= event["ts"] < event["ts"] + event["dur"] <= end
                         for event in shown)
    whole = [event for event in trace_events(program, timing) if event["ph"] == "X"]
    assert sum(event["dur"] for event in shown) == sum(
        last - first for first, last in clip(
            [(event["ts"], event["ts"] + event["dur"]) for event in whole], begin, end))


def test_a_unit_never_does_two_things(run):
    for track in tracks(*run).values():
        free = 0
        for begin, end, _ in track.slices:
            assert free <= begin < end
            free = end
        assert track.waits == sorted(track.waits, key=lambda wait: wait[:2])


@pytest.mark.parametrize("text, expected", [(":", (0, 100)), ("5:", (5, 100)), (":7", (0, 7)),
                                            ("3:500", (3, 100))])
def test_spans(text, expected):
    assert span(text, 100) == expected


@pytest.mark.parametrize("text", ["", "5", "7:7", "9:3", "100:200", "-3:5", "a:b", "1:2:3"])
def test_spans_that_are_none(text):
    with pytest.raises(UserError, match="BEGIN:END"):
        span(text, 100)


def test_pictures(run, tmp_path):
    program, timing = run
    path = write_picture(program, timing, tmp_path / "whole.png")
    pixels = imread(path)[:, :, :3]
    colours = {tuple(pixel) for pixel in pixels.reshape(-1, 3)[::7].round(2).tolist()}
    assert pixels.shape[1] > 1000 and len(colours) > 10
    text = write_picture(program, timing, tmp_path / "part.svg", 10, 200).read_text()
    assert text == write_picture(program, timing, tmp_path / "again.svg", 10, 200).read_text()
    with pytest.raises(UserError, match=r"part.bmp: pictures are .png, .svg, .pdf files"):
        write_picture(program, timing, tmp_path / "part.bmp")
    assert not (tmp_path / "part.bmp").exists()
