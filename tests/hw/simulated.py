"""Components in Amaranth's own simulator: slow, but nothing is compiled."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from amaranth.hdl import Value
from amaranth.lib.wiring import In
from amaranth.sim import Simulator

__all__ = ["play"]


def play(components: Sequence[Any], inputs: Sequence[Mapping[str, Any]]) -> list[dict]:
    """As `sim.rtl.players.play`: what each component gives after each clock."""
    return [_played(*pair) for pair in zip(components, inputs, strict=True)]


def _played(component, given):
    ports = {"_".join(map(str, path)): (member.flow, Value.cast(value))
             for path, member, value in component.signature.flatten(component)}
    found: dict[str, list[int]] = {name: [] for name, (flow, _) in ports.items() if flow != In}
    simulator = Simulator(component)
    simulator.add_clock(1e-6)

    async def bench(ctx):
        for clock in range(len(next(iter(given.values())))):
            for name, values in given.items():
                port = ports[name][1]
                ctx.set(port, int(values[clock]) & ((1 << len(port)) - 1))
            await ctx.tick()
            for name, values in found.items():
                port = ports[name][1]
                values.append(ctx.get(port) & ((1 << len(port)) - 1))
    simulator.add_testbench(bench)
    simulator.run()
    return {name: np.array(values, object if len(ports[name][1]) > 62 else np.int64)
            for name, values in found.items()}
