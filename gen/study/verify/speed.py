"""How long simulations take: to the first compared layer with nothing kept, clocks and seeds."""

import json
import os
import tempfile
from compileall import compile_dir
from pathlib import Path

from systolith import gen, hw, sim
from systolith.gen.kit.errors import UserError

from .part import Figure, Settings, command, seconds_of

__all__ = ["speed"]


def speed(settings: Settings) -> list[Figure]:
    """Seconds from `build` to the first compared layers of the digits on `sim-16x16-int8`, with an
    empty cache; clocks a second there, of all processors; seeds of the regression a minute,
    compiling included. The first and the last are also given in seconds of processors, which other
    work on the machine does not change much. Python's bytecode is there, as after an installation
    from a wheel."""
    from systolith.gen.study.regress import regress
    chip = "tiny-2x4-int4" if settings.quick else "sim-16x16-int8"
    network = "digits-mlp-bnn" if settings.quick else "digits-cnn-int8"
    chip = "tiny-2x4-bnn" if settings.quick else chip
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = os.environ | {"SYSTOLITH_CACHE": f"{name}/cache", "XDG_CACHE_HOME": f"{name}/cache"}
        for package in (hw, sim, gen):
            compile_dir(str(Path(str(package.__file__)).parent), quiet=2)

        def run(*words):
            made = command("-m", "systolith.gen.cli", *words, cwd=folder, env=env)
            if made.returncode:
                raise UserError(f"systolith {words[0]} failed: {made.stderr[-300:]}")

        def first():
            run("build", f"digits/{network}.onnx", "--chip", chip, "--no-area", "-o", "out")
            images(1)

        def images(count):
            run("simulate", "out", "--engine", "rtl", "--inputs", "digits/x.npy", "--limit",
                str(count), "--json", "run.json")
        run("demo", "--files", "digits")
        _, passed, spent = seconds_of(first)
        settings.show(f"first layers after {passed:.1f} s, {spent:.1f} s of processors")
        images(2 if settings.quick else 200)
        clocks = json.loads((folder / "run.json").read_text())["clocks_per_second"]
        settings.show(f"{clocks:,.0f} clocks/s")
    seeds = 2 if settings.quick else 60
    chips = ["random-3"] if settings.quick else None
    cases, took, used = seconds_of(lambda: regress(chips, seeds, settings.jobs,
                                                   show=lambda line: None))
    rate = 60 * len(cases) / took
    return [
        Figure(f"from build to the first compared layers, {network} on {chip}, empty cache",
               f"{passed:.1f} s ({spent:.1f} s of processors; {cores} cores, "
               f"load {os.getloadavg()[0]:.1f})", "10 s on 2 cores", passed <= 10),
        Figure(f"clocks a second, {network} on {chip}", f"{clocks:,.0f}", "400,000",
               clocks >= 400_000),
        Figure(f"seeds a minute of regress, {settings.jobs} at a time, cores compiled before "
               "where they are known", f"{rate:.0f} ({60 * len(cases) / used:.0f} a minute of "
               "one processor)", "60", rate >= 60)]
