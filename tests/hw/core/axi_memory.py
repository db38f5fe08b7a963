"""External memory and host for simulations of single units: Amaranth testbenches on AXI ports."""

from collections import deque

__all__ = ["AxiMemory", "put"]


class AxiMemory:
    """A memory that answers as `sim.cycles` assumes, or with random stalls.

    A read burst's first beat is offered `latency` cycles after its address was accepted, beats
    follow one a cycle, in the order of addresses; a response `latency` cycles after the last
    write beat. It checks the protocol's rules as it goes: what waits is held, bursts are INCR,
    of whole beats and within a page, and a write has as many beats as promised.

    Parameters
    ----------
    content : bytearray
        From address `base` on.
    stalls : random.Random or None
        Draws every ready, and every valid, at one in two.
    bad : container of int
        Byte addresses whose beats (reads) or bursts (writes, by first address) answer SLVERR.
    flipped, twice : container of int
        Byte addresses of beats that are read with the wrong RLAST, or that come twice.
    """

    def __init__(self, content, *, bus_bits, base=0, latency=32, stalls=None, bad=(), flipped=(),
                 twice=()):
        self.content, self.base, self.latency = content, base, latency
        self.size, self.stalls, self.bad = bus_bits // 8, stalls, bad
        self.flipped, self.twice = flipped, twice
        self.reads, self.addresses, self.responses = deque(), deque(), deque()
        self.data = deque()         # write beats whose address has not come
        self.waits = False          # a read beat was offered and not taken
        self.written = []           # (address of the beat, strobes)
        self.bursts = []            # (channel, offset, beats, cycle)
        self.cycle = 0

    def _lucky(self):
        return self.stalls is None or self.stalls.random() < 0.5

    def _burst(self, channel, address, length, size, burst):
        beats = length + 1
        assert (1 << size, burst) == (self.size, 1)
        assert address % self.size == 0
        assert address // 4096 == (address + beats * self.size - 1) // 4096
        self.bursts.append((channel, address - self.base, beats, self.cycle))
        return beats

    async def read(self, ctx, axi):
        """Testbench for the channels AR and R."""
        await self._watch(ctx, axi, ("ar", "r"))

    async def write(self, ctx, axi):
        """Testbench for the channels AW, W and B."""
        await self._watch(ctx, axi, ("aw", "w", "b"))

    async def serve(self, ctx, axi):
        """Testbench for all channels."""
        await self._watch(ctx, axi, ("ar", "r", "aw", "w", "b"))

    async def _watch(self, ctx, axi, channels):
        held = {}
        names = [name for name in axi.signature.members if name.startswith(channels)]
        while True:
            if "ar" in channels:
                self._offer_read(ctx, axi)
            if "aw" in channels:
                self._offer_write(ctx, axi)
            _, _, *values = await ctx.tick().sample(*(getattr(axi, name) for name in names))
            now = dict(zip(names, values, strict=True))
            self._check_held(now, held, channels)
            if "ar" in channels:
                self._accept_read(now)
            if "aw" in channels:
                self._accept_write(now)
            self.cycle += 1

    def _check_held(self, now, held, channels):
        for channel in channels:
            if channel in ("ar", "aw", "w"):
                payload = {name: value for name, value in now.items() if name.startswith(channel)
                           and not name.endswith("ready")}
                if channel in held:
                    assert payload == held[channel], f"{channel} changed while it waited"
                held.pop(channel, None)
                if now[f"{channel}valid"] and not now[f"{channel}ready"]:
                    held[channel] = payload

    def _offer_read(self, ctx, axi):
        ctx.set(axi.arready, self._lucky())
        offered = bool(self.reads) and self.cycle >= self.reads[0][0] and (
            (bool(ctx.get(axi.rvalid)) and self.waits) or self._lucky())
        ctx.set(axi.rvalid, offered)
        if offered:
            _, identifier, address, last = self.reads[0]
            start = address - self.base
            data = bytes(self.content[start:start + self.size]).ljust(self.size, b"\xEE")
            ctx.set(axi.rid, identifier)
            ctx.set(axi.rdata, int.from_bytes(data, "little"))
            ctx.set(axi.rresp, 2 * (address in self.bad))
            ctx.set(axi.rlast, last ^ (address in self.flipped))

    def _accept_read(self, now):
        self.waits = now["rvalid"] and not now["rready"]
        if now["rvalid"] and now["rready"]:
            self.reads.popleft()
        if now["arvalid"] and now["arready"]:
            beats = self._burst("ar", now["araddr"], now["arlen"], now["arsize"], now["arburst"])
            for beat in range(beats):
                address = now["araddr"] + beat * self.size
                for _ in range(1 + (address in self.twice)):
                    self.reads.append((self.cycle + self.latency, now["arid"], address,
                                       beat == beats - 1))

    def _offer_write(self, ctx, axi):
        ctx.set(axi.awready, self._lucky())
        ctx.set(axi.wready, self._lucky())
        offered = bool(self.responses) and self.cycle >= self.responses[0][0]
        ctx.set(axi.bvalid, offered)
        ctx.set(axi.bresp, 2 * self.responses[0][1] if offered else 0)

    def _accept_write(self, now):
        if now["bvalid"] and now["bready"]:
            self.responses.popleft()
        if now["awvalid"] and now["awready"]:
            beats = self._burst("aw", now["awaddr"], now["awlen"], now["awsize"], now["awburst"])
            self.addresses.append([now["awaddr"], beats, now["awaddr"] in self.bad])
        if now["wvalid"] and now["wready"]:
            self.data.append((now["wdata"], now["wstrb"], now["wlast"]))
        while self.data and self.addresses:
            data, strobes, last = self.data.popleft()
            address, beats, bad = burst = self.addresses[0]
            assert last == (beats == 1)
            for byte in range(self.size):
                if strobes >> byte & 1:
                    self.content[address - self.base + byte] = data >> 8 * byte & 0xFF
            self.written.append((address - self.base, strobes))
            burst[:2] = address + self.size, beats - 1
            if last:
                self.addresses.popleft()
                self.responses.append((self.cycle + self.latency, bad))


async def put(ctx, stream, payload):
    """Transfer one payload; returns after the cycle of the transfer."""
    ctx.set(stream.payload, payload)
    ctx.set(stream.valid, 1)
    ready = False
    while not ready:
        *_, ready = await ctx.tick().sample(stream.ready)
    ctx.set(stream.valid, 0)
