"""Components in Verilated RTL, one vector a clock: several in one executable."""

import numpy as np
from amaranth.back import verilog
from amaranth.hdl import Module, Signal, Value
from amaranth.lib.wiring import In
from systolith.sim import verilate

#: Reads the vectors of one component, if its file is there, and writes what comes out. A vector is
#: applied at a falling edge; outputs are written at the next one, after the rising edge between.
PLAYER = """
module player_{name}(input clk, output reg done, output reg [{inputs}-1:0] stimulus,
                     input [{outputs}-1:0] response);
  integer source, sink, found;
  initial begin
    source = $fopen("{name}.in", "r");
    done = source == 0;
    stimulus = 0;
    if (!done) sink = $fopen("{name}.out", "w");
    found = 0;
  end
  always @(negedge clk) if (!done) begin
    if (found == 1) $fwrite(sink, "%h\\n", response);
    found = $fscanf(source, "%h", stimulus);
    if (found != 1) begin
      done <= 1;
      $fclose(sink);
    end
  end
endmodule
"""

#: One component between its player and its ports of `components`.
CONNECTION = """
  wire [{inputs}-1:0] {name}_in;
  wire [{outputs}-1:0] {name}_out;
  player_{name} player_{name}(clk, done[{number}], {name}_in, {name}_out);
"""

TOP = """
module players(input clk);
  wire [{count}-1:0] done;
  {connections}
  components components(.clk(clk), .rst(1'b0), {ports});
  always @(posedge clk) if (&done) $finish;
endmodule
"""

MAIN = """
#include "Vtop.h"
int main() {
  VerilatedContext context;
  Vtop top{&context};
  while (!context.gotFinish()) { top.clk = !top.clk; top.eval(); }
  top.final();
  return 0;
}
"""


class Players:
    """An executable with the components {name: component}; names are Verilog identifiers."""

    def __init__(self, components):
        module, signals, players, connections = Module(), [], [], []
        self._ports = {}
        for number, (name, component) in enumerate(components.items()):
            module.submodules[name] = component
            self._ports[name] = ports = {True: [], False: []}
            for path, member, value in component.signature.flatten(component):
                value = Value.cast(value)
                ports[member.flow == In].append(
                    ("_".join(map(str, path)), value, value.shape().signed))
            sizes = {is_input: sum(len(value) for _, value, _ in ports[is_input])
                     for is_input in (True, False)}
            stimulus = Signal(sizes[True], name=f"{name}_in")
            response = Signal(sizes[False], name=f"{name}_out")
            for bits, values in ((stimulus, ports[True]), (response, ports[False])):
                place = 0
                for _, value, _ in values:
                    part = bits[place:place + len(value)]
                    module.d.comb += value.eq(part) if bits is stimulus else part.eq(value)
                    place += len(value)
            signals += [stimulus, response]
            facts = {"name": name, "number": number, "inputs": sizes[True],
                     "outputs": sizes[False]}
            players.append(PLAYER.format(**facts))
            connections.append(CONNECTION.format(**facts))
        top = TOP.format(count=len(components), connections="".join(connections),
                         ports=", ".join(f".{signal.name}({signal.name})" for signal in signals))
        self._executable = verilate.build({
            "components.v": verilog.convert(module, name="components", ports=signals,
                                            strip_internal_attrs=True),
            "players.v": "".join(players) + top, "main.cpp": MAIN}, "players")

    def play(self, folder, name, **inputs):
        """Give the component one vector a clock; each output after each clock, by name.

        Inputs are sequences of integers, or one for all vectors; outputs int64 arrays, or Python
        integers where they have more than 63 bits.
        """
        ports = self._ports[name]
        assert {port for port, _, _ in ports[True]} == set(inputs)
        vectors, place = 0, 0
        for port, value, _ in ports[True]:
            mask = (1 << len(value)) - 1
            vectors = vectors + ((np.asarray(inputs[port]).astype(object) & mask) << place)
            place += len(value)
        (folder / f"{name}.in").write_text("".join(f"{vector:x}\n" for vector in vectors))
        verilate.run(self._executable, folder=folder, timeout=60)
        lines = (folder / f"{name}.out").read_text().split()
        (folder / f"{name}.in").unlink()
        assert len(lines) == len(vectors) > 0
        words, outputs, place = np.array([int(line, 16) for line in lines], object), {}, 0
        for port, value, is_signed in ports[False]:
            found = words >> place & ((1 << len(value)) - 1)
            sign = 1 << (len(value) - 1) if is_signed else 0
            found = (found ^ sign) - sign
            outputs[port] = found.astype(np.int64) if len(value) < 64 else found
            place += len(value)
        return outputs
