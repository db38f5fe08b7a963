"""Components in Verilated RTL, one vector a clock: several in one executable.

Each component reads its inputs from a file and writes its outputs to another, both binary, so that
65,536 vectors take well below a second.
"""

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.back import verilog
from amaranth.hdl import ClockSignal, Instance, Module, Signal, Value
from amaranth.lib.wiring import In
from systolith.hw.core.blocks import emit

from . import verilate

__all__ = ["play"]

#: Files consist of words of so many bits; every port has words of its own.
_WORD = 64
#: Seconds after which a simulation has failed.
_TIMEOUT = 1800

#: Reads the vectors of one component and writes what comes out. A vector is applied at a falling
#: edge; outputs are written at the next one, after the rising edge between.
_PLAYER = """
module player_{n}(input clk, output reg done, {ports});
  reg [{words_in}*64-1:0] vector;
  wire [{words_out}*64-1:0] response;
  integer source, sink, read;
  assign {{ {unpacked} }} = vector;
  assign response = {{ {packed} }};
  initial begin
    source = $fopen("{n}.in", "rb");
    sink = $fopen("{n}.out", "wb");
    done = 0;
    read = 0;
  end
  always @(negedge clk) if (!done) begin
    if (read != 0) $fwrite(sink, "%u", response);
    read = $fread(vector, source);
    if (read == 0) begin
      done <= 1;
      $fclose(source);
      $fclose(sink);
    end
  end
endmodule
"""

_TOP = """
module players(input clk);
  wire [{count}-1:0] done;
{instances}
  always @(posedge clk) if (&done) $finish;
endmodule
"""

_MAIN = """
#include "Vtop.h"
int main() {
  VerilatedContext context;
  Vtop top{&context};
  while (!context.gotFinish()) { top.clk = !top.clk; top.eval(); }
  top.final();
  return 0;
}
"""


def play(components: Sequence[Any],
         inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, np.ndarray]]:
    """Give every component one vector a clock.

    Parameters
    ----------
    components : list of Component
        With one clock, domain sync, and no other ports than their signature's. One that consists
        of blocks of its own (`hw.blocks`) names them in its property `blocks`.
    inputs : list of dict
        Of each component: port name to integers [N], of which the port's bits are taken.

    Returns a list of dicts, port name to integers [N] from 0 up, after each clock: int64, or
    Python integers where 63 bits do not hold them. Raises SimulationError.
    """
    executable = verilate.build(_sources(components), "players")
    with tempfile.TemporaryDirectory(prefix="systolith-") as name:
        folder = Path(name)
        for n, (component, given) in enumerate(zip(components, inputs, strict=True)):
            ports, _ = _ports(component)
            words = np.concatenate([_to_words(given[name], bits) for name, bits in ports.items()],
                                   axis=1)
            (folder / f"{n}.in").write_bytes(words.astype(">u8").tobytes())
        verilate.run(executable, folder=folder, timeout=_TIMEOUT)
        outputs: list[dict[str, np.ndarray]] = []
        for n, component in enumerate(components):
            _, ports = _ports(component)
            count = sum(map(_words, ports.values()))
            words = np.fromfile(folder / f"{n}.out", "<u8").reshape(-1, count)[:, ::-1]
            outputs.append({})
            for name, bits in ports.items():
                outputs[-1][name] = _from_words(words[:, :_words(bits)], bits)
                words = words[:, _words(bits):]
    return outputs


def _ports(component):
    """(inputs, outputs): names and widths in bits."""
    found: tuple[dict[str, int], dict[str, int]] = {}, {}
    for path, member, value in component.signature.flatten(component):
        found[member.flow != In]["_".join(map(str, path))] = len(Value.cast(value))
    return found


def _words(bits):
    return -(-bits // _WORD)


def _to_words(values, bits):
    """The low `bits` bits of integers [N] as file words [N, _words(bits)], highest first."""
    values = np.asarray(values)
    if bits < _WORD and values.dtype != object:
        return (values.astype(np.int64) & ((1 << bits) - 1)).astype(np.uint64)[:, None]
    values = values.astype(object) & ((1 << bits) - 1)
    return np.stack([(values >> _WORD * n & ((1 << _WORD) - 1)).astype(np.uint64)
                     for n in reversed(range(_words(bits)))], axis=1)


def _from_words(words, bits):
    """The numbers in words; the reverse of `_to_words`."""
    if bits < _WORD:
        return words[:, 0].astype(np.int64)
    values = words[:, 0].astype(object)
    for n in range(1, words.shape[1]):
        values = values << _WORD | words[:, n].astype(object)
    return values


def _sources(components):
    """Verilog and C++ of an executable that plays all components at the same time."""
    # One Verilog for all, since starting Amaranth's Yosys is what takes time; but blocks have the
    # same names in all components that consist of them.
    m, signals, players, instances, own = Module(), {}, [], [], []
    for n, component in enumerate(components):
        wires, connected = [], [".clk(clk)", f".done(done[{n}])"]
        declared, unpacked, packed, connections = [], [], [], {}
        flat = {"_".join(map(str, path)): Value.cast(value)
                for path, _, value in component.signature.flatten(component)}
        for direction, ports in zip(("output", "input"), _ports(component), strict=True):
            for name, bits in ports.items():
                signal = signals[f"{name}_{n}"] = Signal(bits, name=f"{name}_{n}")
                connections[f"{'i' if direction == 'output' else 'o'}_{name}"] = signal
                wires.append(f"  wire [{bits}-1:0] {name}_{n};")
                connected.append(f".{name}({name}_{n})")
                declared.append(f"{direction} [{bits}-1:0] {name}")
                filling = _words(bits) * _WORD - bits
                if direction == "output":
                    if filling:
                        declared.append(f"output [{filling}-1:0] over_{name}")
                        unpacked.append(f"over_{name}")
                    unpacked.append(name)
                else:
                    packed.append(f"{{ {filling}'d0, {name} }}" if filling else name)
        if hasattr(component, "blocks"):
            m.submodules += Instance(f"component_{n}", i_clk=ClockSignal(), **connections)
            text = [emit(component, f"component_{n}"),
                    *(emit(block, name) for name, block in component.blocks.items())]
            own.append(re.sub(rf"\b({'|'.join(component.blocks)})\b", rf"\1_of_{n}",
                              "".join(text)))
        else:
            m.submodules[f"component_{n}"] = component
            m.d.comb += [flat[name].eq(signal) if side == "i" else signal.eq(flat[name])
                         for (side, _, name), signal in
                         ((key.partition("_"), signal) for key, signal in connections.items())]
        words_in, words_out = (sum(map(_words, ports.values())) for ports in _ports(component))
        players.append(_PLAYER.format(
            n=n, ports=", ".join(declared), words_in=words_in, words_out=words_out,
            unpacked=", ".join(unpacked), packed=", ".join(packed)))
        instances += [*wires, f"  player_{n} player_{n}({', '.join(connected)});"]
    instances.append("  components components(.clk(clk), .rst(1'b0), "
                     + ", ".join(f".{name}({name})" for name in signals) + ");")
    return {"components.v": verilog.convert(m, name="components", ports=list(signals.values()),
                                            emit_src=False, strip_internal_attrs=True),
            "own.v": "".join(own), "main.cpp": _MAIN,
            "players.v": "".join(players) + _TOP.format(count=len(components),
                                                        instances="\n".join(instances))}
