"""The commands, in the order of the help: each module holds some that belong together."""

from . import board, built, chip, element, litex, measure, network, study, sweep, verify

__all__ = ["COMMANDS"]

COMMANDS = (
    chip.Init(), chip.Verilog(), element.Pe(), network.Check(), network.Quantize(),
    network.Build(), built.Simulate(), built.Report(), built.Trace(), measure.Area(),
    measure.Timing(), chip.Asic(), board.Bitstream(), litex.Litex(), board.Run(),
    board.Host(), sweep.Sweep(), sweep.Pareto(), sweep.Explain(),
    built.Disasm(), study.Regress(), element.Prove(), study.Reproduce(), verify.Verify(),
    study.Demo(),
)
