"""From a quantized network and a description of a chip to a working accelerator.

The face of the package: what a Python user needs, by short names. Installed as `systolith`.

    chip = systolith.load_chip("ulx3s-8x8", ["array.columns=16"])
    made = systolith.build("network.onnx", chip, "folder")
    result = systolith.simulate(made, images, "isa")

Names are loaded when they are first used, so that `import systolith` and the command line start
at once.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from systolith.gen.chip.presets import preset_names
    from systolith.gen.chip.toml import load_chip
    from systolith.gen.chip.verilog import core_verilog
    from systolith.gen.flow.build import Build, build, open_build
    from systolith.gen.flow.check import Check, check
    from systolith.gen.flow.run import DeviceRun, run
    from systolith.gen.flow.simulate import Simulation, simulate
    from systolith.gen.kit.errors import UserError
    from systolith.gen.quantize.quantize import Quantized, quantize
    from systolith.gen.quantize.recipe import Recipe
    from systolith.hw import formats
    from systolith.hw.spec.arch import Arch

__all__ = ["Arch", "Build", "Check", "DeviceRun", "Quantized", "Recipe", "Simulation", "UserError",
           "__version__", "build", "check", "core_verilog", "formats", "load_chip", "open_build",
           "preset_names", "quantize", "run", "simulate"]

__version__ = version("systolith")

#: Module -> what is taken of it.
_HOMES = {"gen.chip.presets": ("preset_names",),
          "gen.chip.toml": ("load_chip",),
          "gen.chip.verilog": ("core_verilog",),
          "gen.flow.build": ("Build", "build", "open_build"),
          "gen.flow.check": ("Check", "check"),
          "gen.flow.run": ("DeviceRun", "run"),
          "gen.flow.simulate": ("Simulation", "simulate"),
          "gen.kit.errors": ("UserError",),
          "gen.quantize.quantize": ("Quantized", "quantize"),
          "gen.quantize.recipe": ("Recipe",),
          "hw.spec.arch": ("Arch",)}


def __getattr__(name):
    """Load what `name` stands for. Raises AttributeError for what is not in `__all__`."""
    if name == "formats":
        return import_module("systolith.hw.formats")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"systolith.{home}"), name)
    raise AttributeError(f"module 'systolith' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
