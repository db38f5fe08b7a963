"""Proof of the processing elements: RTL in Verilator on every pair of operands of every format.

A case is a pair of formats, a number of lanes and of columns that share activations, a structure
and a number of pipeline stages. Cases that make the same circuit are simulated together: once, on
every pair of codes, if an element's operands have at most 8 bits each, else on random ones and
corners. What came out is compared with what each case's own formats say. Circuits and results are
kept as they come; an interrupted proof goes on where it stopped.
"""

import csv
import hashlib
import io
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.back import rtlil
from systolith import hw
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import write_file
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.gen.kit.resume import in_processes, open_folder, open_results
from systolith.hw.element.arithmetic import Arithmetic
from systolith.hw.element.block_scale import BlockScaleCell, ScaledNumber, scaled_bits
from systolith.hw.element.element import arithmetic
from systolith.hw.element.one_kind import OneKind
from systolith.hw.formats import catalogue, parse, term_bound
from systolith.hw.spec.scale_words import ScaleWord
from systolith.hw.spec.structures import Structure
from systolith.sim.rtl import block_scales, elements
from systolith.sim.rtl.block_scales import (
    EXHAUSTIVE,
    observe_scales,
    scale_vectors,
    wrong_products,
)
from systolith.sim.rtl.elements import Bench, every_pair, mismatches, observe, random_vectors

__all__ = ["Case", "Circuit", "cases_of", "circuits_of", "prove", "summary"]

CIRCUITS, RESULTS, TABLE = "circuits.jsonl", "results.jsonl", "prove.csv"
#: Rows of a column for which widths are chosen and totals checked.
_ROWS = 16
#: Operands of at most so many bits each are proven on all pairs.
_EXHAUSTIVE = 8
#: Random vectors of an element with wider operands.
_VECTORS = 20_000
#: Circuits in one executable.
_TOGETHER = 24
#: Lanes of bipolar elements; up to 8 all operands are tried.
_BIPOLAR_LANES = (1, 2, 3, 4, 5, 6, 7, 8, 23, 64, 128, 256)
#: Lanes of elements that count several planes of bits.
_PLANES_LANES = (1, 2, 3, 4, 23)


#: The kind of a case that is no element, but what multiplies a column's sums by scales of blocks.
_SCALE = "scale"
#: What elements also multiply, by a case's kind.
_PARTS = {"numbers": {"signs": True}, "signs": {"signs": True},
          "whole": {"halves": True}, "halves": {"halves": True}}


@dataclass(frozen=True, order=True)
class Case:
    """What is to be proven; formats by the names of the catalogue. `kind`: "numbers" or "signs",
    what an element multiplies that multiplies both; "whole" or "halves" of codes, likewise;
    "scale": what multiplies a column's sums by scales of blocks; empty: it multiplies numbers
    alone."""
    activation: str
    weight: str
    lanes: int
    columns: int
    structure: str
    stages: int | None
    kind: str = ""

    def rules(self) -> Arithmetic:
        parts = _PARTS.get(self.kind, {})
        rules = arithmetic(parse(self.activation), parse(self.weight), self.lanes,
                           _ROWS * self.lanes, structure=self.structure, stages=self.stages,
                           columns=self.columns, **parts)
        return OneKind(rules, self.kind in ("signs", "halves")) if self.kind in _PARTS else rules

    def cell(self) -> BlockScaleCell:
        """What multiplies by scales, for sums of its elements."""
        scale = parse(self.weight).block_scale
        assert scale is not None
        bits = self.rules().sum_bits
        largest = _ROWS * self.lanes * term_bound(parse(self.activation), parse(self.weight))
        return BlockScaleCell(ScaledNumber(scale, bits, scaled_bits(scale, bits),
                                           Structure(self.structure), largest))


@dataclass(frozen=True)
class Circuit:
    """Cases that make the same circuit, with as many columns."""
    fingerprint: str
    cases: tuple[Case, ...]

    @property
    def operand_bits(self) -> tuple[int, int]:
        """Bits of the operands of all lanes: (activation, weight); of a cell: (sum, word of a
        scale)."""
        case = self.cases[0]
        if self.scales:
            scale = parse(case.weight).block_scale
            assert scale is not None
            return case.rules().sum_bits, ScaleWord(scale, Structure(case.structure)).width
        return case.lanes * parse(case.activation).width, case.lanes * parse(case.weight).width

    @property
    def scales(self) -> bool:
        """Whether it multiplies sums by scales of blocks."""
        return self.cases[0].kind == _SCALE

    @property
    def exhaustive(self) -> bool:
        if self.scales:
            return sum(self.operand_bits) <= EXHAUSTIVE
        return max(self.operand_bits) <= _EXHAUSTIVE

    @property
    def key(self) -> str:
        """A hash of all that the result depends on."""
        facts = [self.fingerprint, self.exhaustive, _definitions(),
                 sorted(map(repr, self.cases))]
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


@cache
def _definitions():
    """A hash of what defines right and wrong."""
    return _hash_of("formats/*.py")


@cache
def _hash_of(pattern):
    """A hash of these files of the hardware, and of those that simulate and judge."""
    files = sorted(Path(hw.__file__).parent.glob(pattern))
    digest = hashlib.sha256()
    for path in [*files, Path(elements.__file__), Path(block_scales.__file__), Path(__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def cases_of(formats: Sequence[str] | None = None,
             structures: Sequence[str] | None = None) -> list[Case]:
    """All cases of these formats, as activations and as weights.

    Parameters
    ----------
    formats : list of str or None
        Names; None: the catalogue.
    structures : list of str or None
        None: all.

    Of every pair of formats that the array multiplies: one lane, and two where both formats are
    the same; bipolar ones with more lanes. One column, and two where they share multiplications.
    Each with one stage and with the stages of its fast circuit. Integers of the same 3 or more bits
    also with elements that multiply signs, too: their numbers and their signs; those of 4, 8, 12
    and 16 bits with elements that multiply halves of codes, too. Formats of blocks are weights
    alone, by their elements; what multiplies sums by scales after them is a case of its own.
    Raises UserError for names that do not exist and where no pair can be multiplied.
    """
    try:
        named = {name: parse(name) for name in formats} if formats else catalogue()
    except ValueError as error:
        raise UserError(str(error)) from None
    for structure in structures or ():
        if structure not in set(Structure):
            raise UserError(f"structures must be among {', '.join(Structure)}, not {structure!r}")
    cases = []
    for activation, one in named.items():
        if one.block_scale:
            continue                                # activations have one scale
        for weight, other in named.items():
            lanes: tuple[int, ...] = (1, 2) if activation == weight else (1,)
            if other.binary:
                lanes = _BIPOLAR_LANES if one.width == other.width == 1 else _PLANES_LANES
            for count in lanes:
                kinds: tuple[str, ...] = ("",)
                if _have_signs(one, other):
                    kinds += ("numbers", "signs")
                if _have_signs(one, other) and one.width % 4 == 0 and count == 1:
                    kinds += ("whole", "halves")
                for structure, kind, columns in product(structures or Structure, kinds, (1, 2)):
                    case = Case(activation, weight, count, columns, structure, None, kind)
                    try:
                        rules = case.rules()
                    except ValueError:
                        break
                    if columns == 1 or (rules.across and kind not in ("whole", "halves")):
                        cases += [replace(case, stages=stages)
                                  for stages in sorted({1, rules.stages})]
                        if other.block_scale and columns == 1:
                            cases.append(replace(case, stages=1, kind=_SCALE))
    if not cases:
        raise UserError(f"no products are defined among {', '.join(named)}")
    return cases


def _have_signs(one, other):
    """Whether elements of these formats may multiply signs, too."""
    return one == other and one.family == "integer" and one.complete and one.signed and (
        one.width >= 3)


def circuits_of(cases: Sequence[Case], file: Path, jobs: int = 1,
                progress: Reporter = SILENT) -> list[Circuit]:
    """The Circuits of these cases; `file` keeps which are known, as long as the code is the same.

    Raises UserError where the file holds something else.
    """
    found = defaultdict(list)
    keys = [hashlib.sha256(repr((case, _hash_of("**/*.py"))).encode()).hexdigest()[:16]
            for case in cases]
    with open_results(file) as kept:
        missing = {key: case for case, key in zip(cases, keys, strict=True)
                   if key not in kept.known}
        with progress.step(f"Circuits of {len(cases):,} cases, {len(cases) - len(missing):,} known",
                           max(1, len(missing))) as done:
            fingerprints = in_processes(_fingerprint, missing.values(), jobs, ordered=True)
            for number, (key, fingerprint) in enumerate(zip(missing, fingerprints, strict=True), 1):
                kept.add({"key": key, "fingerprint": fingerprint})
                done(number)
        for case, key in zip(cases, keys, strict=True):
            found[kept.known[key]["fingerprint"], case.columns].append(case)
    return [Circuit(fingerprint, tuple(members)) for (fingerprint, _), members in found.items()]


def _fingerprint(case):
    if case.kind == _SCALE:
        text = rtlil.convert(case.cell(), name="cell", emit_src=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
    return Bench(case.rules()).fingerprint


def _prove_together(circuits):
    """Results of some circuits, all of elements or none, in one simulation: plain data, lines of
    results.jsonl."""
    start = time.monotonic()
    results = (_of_scales if circuits[0].scales else _of_elements)(circuits)
    seconds = round((time.monotonic() - start) / len(circuits), 3)
    return [result | {"seconds": seconds} for result in results]


def _of_scales(circuits):
    cells = [circuit.cases[0].cell() for circuit in circuits]
    vectors = [scale_vectors(cell, np.random.default_rng(int(circuit.fingerprint, 16)))
               for circuit, cell in zip(circuits, cells, strict=True)]
    results = []
    for circuit, cell, scaled in zip(circuits, cells, observe_scales(cells, vectors), strict=True):
        pairs = len(np.unique(scaled.sums << len(cell.code) | scaled.codes))
        if circuit.exhaustive and pairs != len(cell.sums) << len(cell.code):
            raise AssertionError(f"{circuit.cases[0]}: not every sum met every scale")
        wrong = wrong_products(cell, scaled)
        verdict: dict[str, Any] = {"checked": len(wrong), "mismatches": int(wrong.sum())}
        if wrong.any():
            n = np.flatnonzero(wrong)[0]
            verdict["first"] = (f"sum {scaled.sums[n]}, scale {scaled.codes[n]}: "
                                f"{scaled.products[n]}")
        results.append({"key": circuit.key, "fingerprint": circuit.fingerprint,
                        "exhaustive": circuit.exhaustive, "vectors": len(wrong),
                        "cases": [asdict(case) | verdict for case in circuit.cases]})
    return results


def _of_elements(circuits):
    benches = [Bench(circuit.cases[0].rules()) for circuit in circuits]
    vectors = []
    for circuit, bench in zip(circuits, benches, strict=True):
        random = np.random.default_rng(int(circuit.fingerprint, 16))
        vectors.append(every_pair(bench, random) if circuit.exhaustive
                       else random_vectors(bench, random, _VECTORS))
    observations = observe(benches, vectors)
    results = []
    for circuit, observed in zip(circuits, observations, strict=True):
        if circuit.exhaustive:
            _check_coverage(circuit, observed)
        results.append({"key": circuit.key, "fingerprint": circuit.fingerprint,
                        "exhaustive": circuit.exhaustive, "vectors": len(observed.a),
                        "cases": [_verdict(case, observed) for case in circuit.cases]})
    return results


def _check_coverage(circuit, observed):
    """A proof that has left out a pair of operands is none."""
    case = circuit.cases[0]
    rules = case.rules()
    for column in range(case.columns):
        met = np.zeros(len(observed.a), np.int64)
        for codes, form in ((observed.a, rules.activation), (observed.w[:, column], rules.weight)):
            for lane in range(rules.lanes):
                met = met << form.width | codes[:, lane]
        if len(np.unique(met)) != 1 << sum(circuit.operand_bits):
            raise AssertionError(f"{case}: not every pair of operands was simulated")


def _verdict(case, observed):
    wrong, checked = mismatches(case.rules(), observed)
    verdict = asdict(case) | {"checked": checked, "mismatches": int(wrong.sum())}
    if wrong.any():
        n = np.flatnonzero(wrong)[0]
        verdict["first"] = (f"a={observed.a[n].tolist()} w={observed.w[n].tolist()}: added "
                            f"{observed.added[n].tolist()}, total {observed.total[n].tolist()}")
    return verdict


def prove(folder: Path | str, formats: Sequence[str] | None = None,
          structures: Sequence[str] | None = None, *, jobs: int = 1,
          progress: Reporter = SILENT) -> tuple[list[dict[str, Any]], list[Path]]:
    """Prove every case that is not proven yet.

    Parameters
    ----------
    folder : path
        For circuits.jsonl (one line for each case: which circuit it makes), results.jsonl (one for
        each circuit) and prove.csv (one for each case); made if it does not exist.
    formats, structures : list of str or None
        See `cases_of`.
    jobs : int
        Simulations at the same time.

    Returns (results, paths of the files): results as in results.jsonl, of this call's circuits.
    Raises UserError.
    """
    cases = cases_of(formats, structures)
    folder = open_folder(folder)
    circuits = circuits_of(cases, folder / CIRCUITS, jobs, progress)
    file = folder / RESULTS
    with open_results(file) as kept:
        # Those of a similar number of vectors run together, since all wait for the longest.
        missing = sorted((circuit for circuit in circuits if circuit.key not in kept.known),
                         key=lambda circuit: (circuit.exhaustive, circuit.operand_bits))
        kinds = ([circuit for circuit in missing if circuit.scales is scales]
                 for scales in (False, True))
        parts = [kind[n:n + _TOGETHER] for kind in kinds for n in range(0, len(kind), _TOGETHER)]
        with progress.step(f"Proof of {len(circuits):,} circuits, "
                           f"{len(circuits) - len(missing):,} known",
                           max(1, len(missing))) as done:
            number = 0
            for found in in_processes(_prove_together, parts, jobs):
                for result in found:
                    kept.add(result)
                number += len(found)
                done(number)
        results = [kept.known[circuit.key] for circuit in circuits]
    return results, [file, write_file(folder / TABLE, _table(results))]


def _table(results):
    """CSV: one line for each case."""
    text = io.StringIO()
    names = ["activation", "weight", "lanes", "columns", "structure", "stages", "kind",
             "exhaustive", "checked", "mismatches", "first", "fingerprint"]
    writer = csv.DictWriter(text, names, lineterminator="\n", restval="")
    writer.writeheader()
    rows = [case | {"exhaustive": int(result["exhaustive"]),
                    "fingerprint": result["fingerprint"]}
            for result in results for case in result["cases"]]
    writer.writerows(sorted(rows, key=lambda row: [str(row[name]) for name in names[:7]]))
    return text.getvalue()


def summary(results: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Rows of texts, the first one the heading: what was proven, by structure, and in all."""
    rows = [["structure", "operands", "format pairs", "circuits", "vectors", "operand pairs",
             "mismatches", "seconds"]]
    groups = defaultdict(list)
    for result in results:
        kind = "all pairs" if result["exhaustive"] else "random and corners"
        for structure in {case["structure"] for case in result["cases"]} | {"together"}:
            groups[structure, kind].append(result)
    for structure in (*Structure, "together"):
        for kind in ("all pairs", "random and corners"):
            chosen = groups[structure, kind]
            cases = [case for result in chosen for case in result["cases"]
                     if structure in (case["structure"], "together")]
            if chosen:
                pairs = {(case["activation"], case["weight"]) for case in cases}
                rows.append([structure, kind, f"{len(pairs)}", f"{len(chosen)}",
                             f"{sum(result['vectors'] for result in chosen):,}",
                             f"{sum(case['checked'] for case in cases):,}",
                             f"{sum(case['mismatches'] for case in cases)}",
                             f"{sum(result['seconds'] for result in chosen):.0f}"])
    return rows
