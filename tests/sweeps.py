"""A space of chips, and measurements without Yosys and compiler."""

from systolith.gen.study.sweep.point import AreaOf, PlacedOf

__all__ = ["SPACE", "fake"]

SPACE = """
[[group]]
name = "int"
chip = "ulx3s-8x8"
networks = ["net.onnx"]
set = { "buffers.weights" = 512 }
vary = { "array.rows" = [2, 3], "array.columns" = [2, 4, 6] }
together = { "array.lanes" = [1, 2], "bus.data_bits" = [32, 64] }

[[group]]
name = "float"
chip = { array = { rows = 2, columns = 2, activation = "e3m2", weight = "e3m2" } }
networks = ["net.onnx"]
vary = { "array.lanes" = [1, 2] }
"""


def fake(task):
    """A result without Yosys: chips with more multipliers are larger and faster."""
    macs = task.arch.macs_per_cycle
    result = {"key": task.key, "kind": task.kind, "error": None}
    if isinstance(task, PlacedOf):
        mhz = 100.0 - macs
        return result | {"mhz": mhz, "by_seed": {1: mhz - 1, 2: mhz, 3: mhz + 2}, "cells": {},
                         "slowest": "a -> b"}
    if isinstance(task, AreaOf):
        if (task.arch.rows, macs) == (3, 6):
            return result | {"error": "Yosys failed: a test"}
        return result | {"lut": 100 * macs, "ff": 7, "dsp": 0, "bram": 300 if macs == 16 else 1,
                         "parts": {}, "processing_element": {}}
    return result | {"macs": 1000, "cycles": 5000 // macs,
                     "cycles_together": 5000 // macs, "compute_cycles": 4000 // macs,
                     "loaded_bytes": 10, "stored_bytes": 1, "instruction_bytes": 5,
                     "weight_bytes": 7, "ace": 64, "bops": 100, "reads": {"weight": 80},
                     "writes": {}}
