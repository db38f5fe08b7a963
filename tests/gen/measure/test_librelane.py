"""LibreLane's own loader reads the configuration of a layout: every key is one that it knows, every
value of its type, every file there. The PDK is an empty one: nothing of it is read."""

import importlib.util
import json

import pytest
from systolith.gen.measure.librelane import librelane_files
from systolith.gen.measure.macros import Macro, read_macros
from systolith.sim.random.arch import random_arch

from .test_asic import SKY130

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("librelane") is None,
                       reason="LibreLane is not installed; `make asic-test` brings it"),
    pytest.mark.filterwarnings("ignore")]  # those of its packages


def load(folder):
    """What LibreLane makes of config.json in a folder."""
    from librelane.config import Config
    from librelane.flows import Flow
    pdk = folder / "pdks" / "none" / "libs.tech" / "librelane"
    (pdk / "cells").mkdir(parents=True, exist_ok=True)
    (pdk / "config.tcl").write_text("set ::env(STD_CELL_LIBRARY) cells\n")
    (pdk / "cells" / "config.tcl").write_text("")
    flow = Flow.factory.get("Classic")
    variables = [variable for variable in flow.get_all_config_variables(flow)
                 if not variable.pdk or variable.name == "STD_CELL_LIBRARY"]
    return Config.load(str(folder / "config.json"), variables, pdk="none",
                       pdk_root=str(folder / "pdks"))[0]


def layout(folder, *, views=True):
    """The input of a layout, with files for the macro's views."""
    (macro,) = read_macros(SKY130)
    if views:
        paths = {key: str(folder / f"sram.{key}") for key in ("lef", "gds", "liberty")}
        for path in paths.values():
            open(path, "w").close()
        macro = Macro(macro.name, macro.words, macro.bits, macro.write_bits, macro.pins,
                      macro.area, paths)
    files = librelane_files(random_arch(1), "module systolith_core; endmodule\n", [macro], mhz=125)
    for name, text in files.items():
        (folder / name).write_text(text)
    return macro


def test_librelane_loads_the_configuration(tmp_path):
    macro = layout(tmp_path)
    config = load(tmp_path)
    assert config["DESIGN_NAME"] == "systolith" and config["CLOCK_PERIOD"] == 8
    assert [str(path) for path in config["VERILOG_FILES"]] == [
        str(tmp_path / name) for name in ("core.v", "systolith.v")]
    loaded = config["MACROS"][macro.name]
    assert [str(path) for path in loaded.lef] == [macro.views["lef"]]
    assert [str(path) for path in loaded.vh] == [str(tmp_path / "macros.v")]


@pytest.mark.parametrize("change", [
    {"CLOCK_PERIODS": 8}, {"FP_CORE_UTIL": "much"}, {"VERILOG_FILES": ["dir::absent.v"]},
    {"SYNTH_HIERARCHY_MODE": "some"}])
def test_librelane_refuses_what_it_does_not_know(change, tmp_path):
    from librelane.config import InvalidConfig
    layout(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InvalidConfig):
        load(tmp_path)


def test_what_is_to_be_filled_in_is_refused_until_it_is(tmp_path):
    from librelane.config import InvalidConfig
    layout(tmp_path, views=False)
    with pytest.raises(InvalidConfig):
        load(tmp_path)
