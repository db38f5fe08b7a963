"""What a user gets from a package index: an sdist and a wheel, tried apart from the checkout.

`make wheel-test` runs this as a script. The sdist is made of the files that git knows, so that no
leftover of an earlier build can stand in for a file that is missing; the wheel is made of the
sdist, and installed with its extra `dev` into a new environment. All of it lies in a temporary
folder.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: Imports every module, and prints name and file of each. Modules that only a walk through the
#: installed package finds are imported too.
_IMPORT = """
import importlib, pkgutil, sys, systolith
def fail(name):
    raise
found = {m.name for m in pkgutil.walk_packages(systolith.__path__, "systolith.", fail)}
for name in sorted(found | set(sys.argv[1:])):
    print(name, importlib.import_module(name).__file__)
"""


def step(text):
    print(f"wheel-test: {text}", flush=True)


def call(*command, cwd):
    """Run a command, which must succeed; its output, standard error included."""
    environment = {key: value for key, value in os.environ.items()
                   if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        print(done.stdout, flush=True)
        sys.exit(f"wheel-test: exit code {done.returncode} of: {' '.join(map(str, command))}")
    return done.stdout


def tracked():
    """Files of the checkout that git knows or would add, relative to it."""
    names = call("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    return sorted(Path(name) for name in names.split("\0") if name and (ROOT / name).is_file())


def copy(files, folder):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes((ROOT / file).read_bytes())


def modules(files):
    """Name of each module that the wheel must hold, from the sources' paths: all but examples'
    scripts."""
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    tops = {Path(folder): name for name, folder in setup["package-dir"].items()}
    for file in files:
        if file.match("examples/*/*"):
            continue
        top = next((folder for folder in file.parents if folder in tops), None)
        if file.suffix == ".py" and top is not None:
            names = [*tops[top].split("."), *file.relative_to(top).with_suffix("").parts]
            yield ".".join(names[:-1] if names[-1] == "__init__" else names)


def make(files, folder):
    """Paths of a new sdist, and of a wheel made of it."""
    step("building the sdist, and the wheel from it")
    copy(files, folder / "source")
    call(sys.executable, "-m", "build", "--outdir", folder / "dist", folder / "source", cwd=folder)
    sdist, = (folder / "dist").glob("*.tar.gz")
    wheel, = (folder / "dist").glob("*.whl")
    return sdist, wheel


def unpack(sdist, files, folder):
    """The folder that the sdist unpacks to; it must hold every file but those of git and CI."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    found = folder / sdist.name.removesuffix(".tar.gz")
    missing = [str(file) for file in files
               if not file.parts[0].startswith(".") and not (found / file).is_file()]
    if missing:
        sys.exit(f"wheel-test: missing from the sdist: {', '.join(missing)}; see MANIFEST.in")
    return found


def install(wheel, folder):
    """The folder of commands of a new environment that has the wheel with its extra `dev`."""
    step(f"installing {wheel.name}[dev] into a new environment")
    call(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    commands = folder / "venv" / "bin"
    call(commands / "python", "-m", "pip", "install", "--disable-pip-version-check", "--quiet",
         f"{wheel}[dev]", cwd=folder)
    return commands


def check_imports(files, commands, folder):
    """Every module of the sources is in the wheel, and can be imported from there alone."""
    expected = set(modules(files))
    lines = call(commands / "python", "-c", _IMPORT, *sorted(expected), cwd=folder).splitlines()
    found = dict(line.split(" ", 1) for line in lines)
    elsewhere = {name: file for name, file in found.items()
                 if not Path(file).is_relative_to(commands.parent)}
    if set(found) != expected or elsewhere:
        sys.exit(f"wheel-test: modules that are not those of the sources: "
                 f"{sorted(set(found) ^ expected)}; imported from elsewhere: {elsewhere}")
    step(f"{len(found)} modules imported from the wheel")


def check_tests(commands, folder):
    """The tests of an unpacked sdist are found, and all that they import."""
    text = call(commands / "python", "-m", "pytest", "--collect-only", "-q", cwd=folder)
    step(f"{text.count('::'):,} tests found in the unpacked sdist")


def check_commands(commands, folder):
    """The demo, and a build and a simulation of its chip, in a folder that is empty before."""
    systolith = commands / "systolith"
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    if call(systolith, "--version", cwd=folder).strip() != version:
        sys.exit(f"wheel-test: systolith --version does not say {version}")
    step("systolith demo")
    print(call(systolith, "demo", "--images", 2, cwd=folder))
    step("systolith demo --files, systolith check: the tutorial's network")
    call(systolith, "demo", "--files", "digits", cwd=folder)
    call(systolith, "check", "digits/digits-cnn-int8.onnx", "--chip", "ulx3s-8x8", cwd=folder)
    step("systolith build, systolith simulate --engine rtl")
    call(systolith, "build", "build/demo/model.onnx", "--chip", "ulx3s-8x8-e3m2", "--no-area", "-o",
         "out", cwd=folder)
    print(call(systolith, "simulate", "out", "--engine", "rtl", "--inputs",
               "build/demo/digits-inputs.npy", "--limit", 2, "--outputs", "y.npy", cwd=folder))


def main():
    files = tracked()
    with tempfile.TemporaryDirectory(prefix="systolith-wheel-") as name:
        folder = Path(name).resolve()
        (folder / "empty").mkdir()
        sdist, wheel = make(files, folder)
        unpacked = unpack(sdist, files, folder)
        commands = install(wheel, folder)
        check_imports(files, commands, folder / "empty")
        check_tests(commands, unpacked)
        check_commands(commands, folder / "empty")
    step("done")


if __name__ == "__main__":
    main()
