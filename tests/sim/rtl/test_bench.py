"""The other end of the simulation's pipe: what is asked of it, and how its troubles are told."""

import sys
import textwrap
from threading import Event, Timer

import pytest
from systolith.sim.rtl.bench import SimulatedTransport
from systolith.sim.rtl.device import DeviceError
from systolith.sim.rtl.verilate import SimulationError


@pytest.fixture
def simulation(tmp_path):
    """Function of Python code that stands for an executable, with `next_words`, the next command,
    and `answer`: a `SimulatedTransport` on it."""
    def start(code, **options):
        script = tmp_path / "simulation"
        script.write_text(f"#!{sys.executable}\n" + textwrap.dedent("""
            import os, struct, sys, time
            commands, answers = int(sys.argv[1]), int(sys.argv[2])
            def next_words():
                data = os.read(commands, 32)
                return struct.unpack("<8I", data) if data else None
            def answer(*words):
                os.write(answers, struct.pack("<3I", *words))
            """) + textwrap.dedent(code))
        script.chmod(0o755)
        return SimulatedTransport(script, tmp_path, **options)
    return start


ECHO = """
    while words := next_words():
        kind, write, offset, value = words[:4]
        answer(offset + value, {0x7C: 3, 0x80: 4}.get(offset, 0), 0)
"""


def test_registers(simulation):
    with simulation(ECHO) as transport:
        assert transport.read_register(0x10) == 0x10
        transport.write_register(0x10, 5)
        with pytest.raises(DeviceError, match="register 0x7c answered with the error 3"):
            transport.read_register(0x7C)
        with pytest.raises(DeviceError, match="register 0x80 did not answer"):
            transport.write_register(0x80, 1)


def test_waits_are_added_up(simulation):
    code = """
        limits = []
        while words := next_words():
            limits.append(words[1])
            answer(100, 500_000_000, 1)
        assert limits == [0xFFFFFFFF, 7], limits
    """
    with simulation(code) as transport:
        transport.wait(None)
        transport.wait(7)
    assert transport.clocks == 200
    assert [end - start for start, end in transport.spans] == pytest.approx(
        2 * [0.5 + 2 ** 32 / 1e9])


def test_another_thread_can_stop_it(simulation):
    stop = Event()
    Timer(0.3, stop.set).start()
    with (pytest.raises(SimulationError, match="was stopped"),
          simulation("time.sleep(60)", stop=stop) as transport):
        transport.read_register(0)


def test_a_simulation_that_may_be_stopped_answers_and_has_its_time(simulation):
    with simulation(ECHO, stop=Event()) as transport:
        assert transport.read_register(4) == 4
    with (pytest.raises(SimulationError, match=r"took longer than 0\.5 s"),
          simulation("time.sleep(60)", stop=Event(), timeout=0.5) as transport):
        transport.read_register(0)


def test_a_fault_is_three_numbers_and_a_response(simulation):
    code = """
        seen = []
        while words := next_words():
            seen.append(words[1:5])
            answer(0, 0, 0)
        assert seen == [(1, 64, 127, 3), (0, 0, 0, 2)], seen
    """
    with simulation(code) as transport:
        transport.set_fault((1, 64, 127), 3)
        transport.set_fault(None)


def test_a_simulation_that_fails_says_its_last_words(simulation):
    code = """
        next_words()
        print("memory.sv:7: it has failed", flush=True)
        sys.exit(5)
    """
    with (pytest.raises(SimulationError, match=r"(?s)exit code 5.*memory\.sv:7: it has failed"),
          simulation(code, timeout=30) as transport):
        transport.read_register(0)


def test_a_failure_at_the_end_is_told(simulation):
    with (pytest.raises(SimulationError, match="exit code 3"),
          simulation("next_words(); answer(0, 0, 0); next_words(); sys.exit(3)") as transport):
        transport.read_register(0)


def test_the_time_is_bounded(simulation):
    with (pytest.raises(SimulationError, match=r"took longer than 0\.5 s"),
          simulation("time.sleep(60)", timeout=0.5) as transport):
        transport.read_register(0)
    with (pytest.raises(SimulationError, match=r"took longer than 0\.5 s"),
          simulation("next_words(); time.sleep(60)", timeout=0.5)):
        pass


def test_what_does_not_start_is_told(tmp_path):
    with pytest.raises(SimulationError, match="could not be started"):
        SimulatedTransport(tmp_path / "none", tmp_path)
