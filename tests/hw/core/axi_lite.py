"""The host's reads and writes of registers on an AXI4-Lite port, with delays drawn at random."""

import random

from systolith.hw.spec.registers import COUNTED, address

__all__ = ["read", "write"]

draw = random.Random(1)


async def write(ctx, bus, name, value):
    """Address and data in any order, the response taken at any time."""
    ctx.set(bus.awaddr, address(name))
    ctx.set(bus.wdata, value)
    if draw.random() < 0.5:
        first = draw.choice([bus.awvalid, bus.wvalid])
        ctx.set(first, 1)
        await ctx.tick()
    ctx.set(bus.awvalid, 1)
    ctx.set(bus.wvalid, 1)
    accepted = False
    while not accepted:
        *_, accepted = await ctx.tick().sample(bus.awready & bus.wready)
    ctx.set(bus.awvalid, 0)
    ctx.set(bus.wvalid, 0)
    for _ in range(draw.randrange(3)):
        await ctx.tick()
        assert ctx.get(bus.bvalid)
    ctx.set(bus.bready, 1)
    *_, valid, response = await ctx.tick().sample(bus.bvalid, bus.bresp)
    ctx.set(bus.bready, 0)
    assert valid and not response


async def read(ctx, bus, name):
    ctx.set(bus.araddr, name if isinstance(name, int) else address(name))
    ctx.set(bus.arvalid, 1)
    accepted = False
    while not accepted:
        *_, accepted = await ctx.tick().sample(bus.arready)
    ctx.set(bus.arvalid, 0)
    # the register's address, a counter that has just gone by, and what it was
    for _ in range(2 + sum(map(len, COUNTED.values()))):
        if not ctx.get(bus.rvalid):
            await ctx.tick()
    for _ in range(draw.randrange(3)):
        await ctx.tick()
        assert ctx.get(bus.rvalid)
    ctx.set(bus.rready, 1)
    *_, valid, data = await ctx.tick().sample(bus.rvalid, bus.rdata)
    ctx.set(bus.rready, 0)
    assert valid
    return data
