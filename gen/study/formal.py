"""Formal equivalence of a multiply-add step with its specification, by Yosys's SAT solver.

The step is an element's whole combinational function with one pipeline stage: decoders of both
edges, products, and the addition to the partial sum. The specification is one line for each family,
written from the formats' definition with the solver's own `*`, `<<` and `+`; that it holds for
every partial sum is part of what is proven.
"""

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from amaranth.hdl import Array, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.hw.core.blocks import emit
from systolith.hw.element.arithmetic import Arithmetic, tree_sum
from systolith.hw.element.element import arithmetic
from systolith.hw.element.one_kind import OneKind
from systolith.hw.formats import parse

__all__ = ["CASES", "FormalResult", "Specification", "Step", "prove_formally", "prove_step"]

#: What is proven unless told otherwise: activation, weight, lanes.
CASES = (("int4", "int4", 1), ("uint4", "int4", 1), ("int6", "int6", 1), ("int8", "int8", 1),
         ("e2m1", "e2m1", 1), ("e2m3", "e2m3", 1), ("e3m2", "e3m2", 1), ("lns8", "lns8", 1),
         *(("bipolar1", "bipolar1", lanes) for lanes in (1, 3, 8, 16)))
#: Of elements that multiply signs, too: integers and lanes; their numbers and their signs.
SIGNS = (("int4", 1), ("int4", 2))
#: Likewise of elements that multiply halves of codes, too.
HALVES = (("int4", 1), ("int8", 1))
#: Structures without plain products, which would be proven against themselves.
STRUCTURES = ("lut6", "lut4", "gates")

#: Bits of two integers together up to which one problem is easier than many.
_WHOLE = 9

_WORKER = """
import sys
from pyosys import libyosys as ys
design = ys.Design()
for line in sys.stdin.read().splitlines():
    ys.run_pass(line, design)
"""


class _Component(wiring.Component):
    """a, w: codes of all lanes; psum, psum_out: partial sums of an element."""

    def __init__(self, arithmetic):
        self.arithmetic = arithmetic
        super().__init__({
            "a": In(arithmetic.lanes * arithmetic.activation.width),
            "w": In(arithmetic.lanes * arithmetic.weight.width),
            "psum": In(signed(arithmetic.psum_bits)), "psum_out": Out(arithmetic.psum_bits)})


class _Held:
    """An element's operands in its only stage."""

    prefix = ""

    def __init__(self, activation, weight):
        self._activation, self._weight = activation, weight

    def a(self, stage):
        return self._activation

    def w(self, stage):
        return self._weight


class Step(_Component):
    """What an element of one stage adds up, from codes on, without its registers."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rules = self.arithmetic
        decoded = []
        for name, bits, value in (
                ("activation", rules.activation_bits, rules.decode_activation(m, self.a)),
                ("weight", rules.weight_bits, rules.decode_weight(m, self.w))):
            decoded.append(Signal(bits, name=name))
            m.d.comb += decoded[-1].eq(value)
        m.d.comb += self.psum_out.eq(rules.accumulate(m, _Held(*decoded), self.psum))
        return m


class Specification(_Component):
    """psum plus the dot product as the formats define it, and plus a constant.

    The constant is what `head` and `total` say of a column of one element:
    total(head(1) + psum_out - psum, 1) must be the dot product, and `total` is psum * 2**psum_scale
    plus a constant below 2**psum_scale.
    """

    def elaborate(self, platform: object) -> Module:
        rules = self.arithmetic
        products = []
        for lane in range(rules.lanes):
            a = self.a.word_select(lane, rules.activation.width)
            w = self.w.word_select(lane, rules.weight.width)
            products.append(_product(rules.activation, a, rules.weight, w))
        m = Module()
        dot = Signal(signed(rules.sum_bits))
        scale = rules.psum_scale
        scaled = dot >> scale if scale >= 0 else dot << -scale
        m.d.comb += [dot.eq(tree_sum(products)),
                     self.psum_out.eq(self.psum + scaled - rules.head(1))]
        return m


def _product(activation, a, weight, w):
    """The product of two codes, from the formats' definition."""
    if activation.family != "logarithm":
        return _image(activation, a) * _image(weight, w)
    log = a[:-1] + w[:-1]
    constants = Array(Const(item, activation.table_bits + 1) for item in activation.table)
    magnitude = constants[log % activation.root] << (log // activation.root)
    magnitude = Mux(a[:-1].any() & w[:-1].any(), magnitude, 0)
    return Mux(a[-1] ^ w[-1], -magnitude, magnitude)


def _image(fmt, code):
    """A code's image, from the format's definition."""
    if fmt.binary:
        return (code << 1) - Const((1 << fmt.width) - 1)
    if fmt.complete:
        return code.as_signed() if fmt.signed else code.as_unsigned()
    if not fmt.floating or fmt.activation_fault():
        raise UserError(f"there is no formal specification of {fmt}")
    fraction, field = code[:fmt.man], code[fmt.man:fmt.man + fmt.exp]
    if fmt.hidden_at_zero:
        magnitude = (fraction + (code[:-1].any() << fmt.man)) << field
        return Mux(code[-1], -magnitude, magnitude)
    normal = (fraction + (1 << fmt.man)) << (field - 1)[:fmt.exp]
    magnitude = Mux(field == 0, fraction, normal)
    return Mux(code[-1], -magnitude, magnitude)


@dataclass
class FormalResult:
    """proven: True, False (`counterexample` says where), or None: no answer in time."""
    proven: bool | None
    seconds: float
    counterexample: dict | None = None


def prove_step(rules: Arithmetic, timeout: float = 60, split: bool | None = None) -> FormalResult:
    """Prove that the Step of one stage is its Specification.

    Parameters
    ----------
    rules : Arithmetic
        With stages=1, and formats all of whose codes are numbers.
    timeout : float
        Seconds.
    split : bool or None
        One problem for each word of weight codes instead of one for all: multiplications by a
        constant are easy. None: of integers of more than `_WHOLE` bits together.

    Returns a FormalResult. Raises UserError where there is no specification, and where Yosys
    fails.
    """
    start = time.monotonic()
    bits = [rules.lanes * fmt.width for fmt in (rules.activation, rules.weight)]
    if split is None:
        split = rules.activation.uniform and sum(bits) > _WHOLE
    with tempfile.TemporaryDirectory(prefix="systolith-") as name:
        folder = Path(name)
        (folder / "step.v").write_text(emit(Step(rules), "step"))
        (folder / "specification.v").write_text(emit(Specification(rules), "specification"))
        commands = [f"read_verilog {folder}/step.v {folder}/specification.v", "hierarchy",
                    "proc -norom", "flatten", "opt",
                    "miter -equiv -flatten specification step both", "hierarchy -top both",
                    "opt -full", "techmap", "opt -full"]
        cases = [f"-set in_w {bits[1]}'d{word}" for word in range(1 << bits[1])] if split else [""]
        commands += [f"sat -timeout {int(timeout)} -prove trigger 0 -show-inputs {case} both"
                     for case in cases]
        log = folder / "log"
        with log.open("w") as output, contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run([sys.executable, "-c", _WORKER], input="\n".join(commands), text=True,
                           stdout=output, stderr=subprocess.STDOUT, timeout=timeout)
        text = log.read_text()
    seconds = round(time.monotonic() - start, 2)
    if "model found: FAIL" in text:
        found = re.findall(r"^ +\\in_(\w+) +(-?\d+) ", text, re.MULTILINE)
        return FormalResult(False, seconds, {name: int(value) for name, value in found})
    if text.count("no model found: SUCCESS!") == len(cases):
        return FormalResult(True, seconds)
    if "ERROR" in text:
        raise UserError(f"Yosys failed: {text[text.index('ERROR'):].strip()}")
    return FormalResult(None, seconds)


def prove_formally(cases: Sequence[tuple[str, str, int]] = CASES,
                   structures: Sequence[str] = STRUCTURES, *, rows: int = 16, timeout: float = 900,
                   signs: Sequence[tuple[str, int]] = SIGNS,
                   halves: Sequence[tuple[str, int]] = HALVES,
                   progress: Reporter = SILENT) -> tuple[list[list[str]], int]:
    """`prove_step` of each case for each structure, those of `signs` and `halves` among
    them.

    Returns rows of texts, the first one the heading, and how many were found wrong.
    """
    table, wrong = [["activation", "weight", "lanes", "structure", "result", "seconds"]], 0
    every = [*((*case, "") for case in cases),
             *((name, name, lanes, kind) for name, lanes in signs for kind in ("numbers", "signs")),
             *((name, name, lanes, kind) for name, lanes in halves for kind in ("whole", "halves"))]
    with progress.step("Formal equivalence", len(every) * len(structures)) as done:
        for activation, weight, lanes, kind in every:
            for structure in structures:
                both = {"": {}, "numbers": {"signs": True}, "signs": {"signs": True}}.get(
                    kind, {"halves": True})
                rules = arithmetic(parse(activation), parse(weight), lanes, rows * lanes,
                                   structure=structure, stages=1, **both)
                if kind:
                    rules = OneKind(rules, kind in ("signs", "halves"))
                    activation = f"{weight} ({kind})"
                found = prove_step(rules, timeout)
                result = {True: "proven", None: f"no answer in {timeout} s",
                          False: f"wrong: {found.counterexample}"}[found.proven]
                table.append([activation, weight, str(lanes), structure, result,
                              f"{found.seconds:.0f}"])
                wrong += found.proven is False
                done(len(table) - 1)
    return table, wrong
