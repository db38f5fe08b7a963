"""Two cores that share a bus, in RTL: images spread over them, to the bit as the golden model."""

import numpy as np
import pytest
from systolith.gen.flow.simulate import simulate
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.registers import ErrorCode
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.host import pack_inputs, unpack_outputs
from systolith.sim.machine.shared_cycles import cycles_together
from systolith.sim.rtl.core import READ_ERROR, Job, Run
from systolith.sim.rtl.core import simulate as run_jobs
from systolith.sim.rtl.device import memory_bytes

from ...builds import small_build

ARCH = Arch(name="two", cores=2, rows=3, columns=2, activation="int4", weight="int4", bus_bits=32,
            activation_depth=256, weight_depth=64, accumulator_depth=64, parameter_depth=16,
            queue_depth=1)
IMAGES = 5


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return small_build(tmp_path_factory.mktemp("build"), ARCH)


@pytest.fixture(scope="module")
def images(made):
    return np.random.default_rng(1).uniform(
        -8, 7, (IMAGES, *made.graph.inputs[0].shape)).astype(np.float32)


def job(made, images, **options):
    program, host = made.program, made.program.host
    name = made.graph.inputs[0].name
    runs = [Run([(host.input_offset, pack_inputs(program, {name: codes}))],
                [(host.output_offset, host.output_bytes)])
            for codes in made.graph.encode_inputs(images)]
    return Job(program, runs, **options)


def test_images_spread_over_the_cores_are_those_of_the_golden_model(made, images):
    golden, rtl = (simulate(made, images, engine) for engine in ("golden", "rtl"))
    assert rtl.comparison.bits == 0 and rtl.comparison.elements > 0
    assert np.array_equal(golden.outputs, rtl.outputs)
    assert rtl.cycles_model < rtl.cycles < 2 * rtl.cycles_model
    assert rtl.together is None                 # some cores have run twice
    rtl = simulate(made, images[:2], "rtl", latency=20)
    assert rtl.together[0] == rtl.together[1] == cycles_together(made.program, 20) > rtl.cycles
    assert rtl.to_dict()["cycles_together_model"] == rtl.together[1]


def test_a_core_alone_takes_the_cycles_of_the_model_and_none_more_than_its_share(made, images):
    jobs = [job(made, images[:count], latency=latency) for latency in (1, 32) for count in (1, 2)]
    jobs.append(job(made, images, stalls=0.4, latency=3, seed=5))
    alone, both, slow_alone, slow_both, stalled = run_jobs(made.verilog, jobs).runs
    for latency, one, two in ((1, alone, both), (32, slow_alone, slow_both)):
        assert one[0].cycles == cycles(made.program, latency).cycles
        for run in two:
            assert one[0].cycles <= run.cycles <= 2 * one[0].cycles
    expected = made.graph.run(made.graph.encode_inputs(images), ARCH)
    for run, number in zip(stalled, range(IMAGES), strict=True):
        for name, codes in unpack_outputs(made.program, run.check().outputs[0]).items():
            assert np.array_equal(codes, expected[name][number])


def test_an_error_stops_the_core_that_met_it_alone(made, images):
    stride = memory_bytes(ARCH, made.program.window_bytes) - made.program.window_bytes
    assert stride % 4096 == 0
    first = stride + made.program.host.input_offset         # of core 1's window
    one, two = run_jobs(made.verilog, [job(
        made, images[:2], fault=(READ_ERROR, first, first))]).runs[0]
    assert one.check() and two.status.error == ErrorCode.BUS and two.status.unit == "load"
    assert two.status.address == made.program.host.input_offset
