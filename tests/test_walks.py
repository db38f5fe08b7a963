"""How far the name of a chip's key travels: which source files say it.

A file that says a key has to be read, and perhaps edited, whenever such a key is added or changed.
What can follow from a row (the key's own, that of its memory, those of `legality.OPTIONS`) does not
name it. A file is added here only with a reason.
"""

import tokenize
from pathlib import Path

import pytest
from systolith.hw.spec.arch import KEYS

ROOT = Path(__file__).parent.parent
#: What follows from the keys is computed there; it may say any.
DERIVED = "hw/spec/arch.py"
#: The row, contradictions, what its area grows with; what layers need of it.
DESCRIBED = {"hw/spec/chip_keys.py", "hw/spec/rules.py", "gen/measure/module_terms.py"}
OPTION = DESCRIBED | {"gen/compile/needs.py"}
#: {key: files that say its name in code}
WALKS = {
    "shared_columns": DESCRIBED | {
        "hw/spec/timing.py",                    # when a column's sums come
        "gen/measure/estimate.py",              # how many elements there are
        "hw/element/element.py"},               # how many columns an element has
    "depthwise": OPTION | {
        "hw/spec/legality.py",                  # ARRAY.starts
        "hw/core/array.py",                     # the bus that brings activations
        "hw/spec/widths.py",                    # bits of its counts
        "gen/compile/from_above.py",            # the arrangement of taps
        "gen/compile/halves.py",                # which groups read halves
        "gen/compile/layer.py",                 # which lanes of its input hold something
        # a kind of layer of the same name
        "sim/model/conv.py", "gen/flow/fates.py", "gen/importer/passes/copies.py"},
    # ARRAY.signs and POST.signs are for chips whose codes hold parts (`Arch.part`), of either kind
    "packed_signs": OPTION | {
        "hw/element/element.py", "hw/core/array.py",            # what multiplies
        "sim/random/graphs.py",                 # which layers random networks have
        # which layers use it; results that are signs, not halves
        "gen/compile/layer.py", "gen/compile/signs.py"},
    "packed_halves": OPTION | {
        "hw/element/element.py",                # what multiplies
        "sim/machine/iss.py",                   # how halves are multiplied
        "sim/random/graphs.py",                 # which layers random networks have
        "gen/compile/halves.py", "gen/compile/maps.py"},        # which layers use it
    "wide_weights": OPTION - {"gen/measure/module_terms.py"} | {
        "gen/measure/estimate.py",              # refused, as it was not measured
        "hw/core/accumulator.py", "hw/core/compute.py",         # what counts more
        "sim/machine/iss.py", "sim/random/programs.py", "sim/random/graphs.py",
        "sim/random/values.py", "gen/compile/layer.py"},        # which layers use it
    "side_taps": OPTION | {
        "hw/spec/legality.py",                  # ARRAY.side
        "hw/core/array.py", "hw/core/compute.py",               # the rows' delays
        "hw/spec/memories.py", "hw/core/arbiter.py", "hw/core/load.py",   # words that repeat
        "hw/core/near_passes.py",               # not for taps from the side
        "gen/compile/side_by_side.py", "gen/compile/parameters.py"},    # which layers use it
    "plane_rows": OPTION | {
        "hw/spec/legality.py",                  # ARRAY.planes
        "hw/spec/near.py",                      # rows that differ by more than their place
        "hw/core/array.py", "hw/core/compute.py",               # what doubles, and its flag
        "gen/compile/planes.py"},               # which layers use it
    "tap_rows": OPTION | {
        "hw/spec/legality.py"},                 # ARRAY.side; all else asks for `Arch.banks`
    "two_fillings": OPTION | {
        "gen/measure/estimate.py", "gen/measure/ram_choice.py",        # its memories' words
        "hw/spec/timing.py",                    # when a filling may follow another one
        "hw/core/array.py", "hw/core/compute.py", "hw/core/feeder.py", "hw/core/top.py",
        "hw/core/near_passes.py",
        "sim/machine/array_passes.py"},         # when a filling may follow one of another base
    "two_writes": OPTION - {"hw/spec/rules.py"} | {
        "gen/measure/estimate.py", "gen/measure/ram_choice.py",        # its memories' words
        "hw/core/compute.py", "hw/core/top.py",                 # which memory has a word
        "sim/machine/cycles.py",                # which words of LOAD's wait
        "gen/compile/taps.py"},                 # which windows pay
    "load_windows": OPTION | {
        "gen/compile/plan.py",                  # sub-tiles of a first layer that reads them
        "hw/spec/legality.py", "hw/spec/widths.py",             # LOAD's steps
        "hw/core/load.py",                      # what makes windows
        "hw/core/arbiter.py", "hw/spec/timing.py",              # what a short run counts
        "gen/measure/estimate.py",              # its queue
        "gen/compile/taps.py"},                 # which layers use it
    "weight_widths": OPTION | {
        "hw/spec/narrow.py",                    # how rows share a word; others ask `code_widths`
        "gen/compile/few_weights.py",           # which width a layer's weights have
        "gen/flow/fit_chip.py",                 # which widths pay
        "gen/cli/commands/network.py",          # widths that `quantize --budget` may choose
        "sim/random/graphs.py"},                # random weights of such widths
    "weight_pools": OPTION - {"gen/measure/module_terms.py"} | {
        "gen/measure/estimate.py",              # refused, as it was not measured
        "hw/spec/legality.py",                  # LOAD's memory
        "hw/spec/narrow.py", "hw/spec/timing.py",               # where a pool is, a cycle more
        "hw/core/compute.py", "hw/core/top.py",                 # the memory
        "gen/compile/few_weights.py",           # which layers use it
        "gen/flow/fit_chip.py",                 # whether it pays
        "sim/random/graphs.py"},                # random weights, few of them different
    "bit_planes": OPTION | {
        "hw/spec/legality.py",                  # ARRAY.double
        "hw/core/accumulator.py",               # what doubles
        "sim/machine/iss.py", "sim/random/programs.py",         # what ARRAY.double means
        # functions of the same name: integers cut into their bits
        "sim/machine/host.py", "sim/model/narrow_sums.py"},
    "leaky": OPTION | {
        "hw/spec/timing.py",                    # a step more in a post lane
        "hw/core/post_lane.py",                 # the second multiplier
        # a kind of layer of the same name, and the operators that make one
        "sim/model/conv.py", "hw/spec/host.py", "gen/flow/fates.py",
        "gen/importer/operators/functions.py", "gen/importer/operators/elements.py"},
    "slope_offsets": OPTION | {
        "hw/spec/legality.py",                  # POST.operand
        "hw/spec/timing.py",                    # a step more in a post lane
        "hw/core/post.py", "hw/core/post_lane.py", "hw/core/operand_lane.py",   # what is added
        # what the importer may make of a function
        "gen/flow/compile.py", "gen/flow/build.py", "gen/flow/check.py", "gen/flow/fit_chip.py",
        "gen/study/sweep/net.py"},
    "operand_depth": OPTION | {
        "hw/spec/memories.py",                  # the memory
        "hw/spec/legality.py",                  # POST.operand and destinations
        "hw/spec/timing.py",                    # the second turn
        "hw/core/post.py", "hw/core/post_lane.py", "hw/core/result_writer.py",  # the unit's ports
        "gen/measure/estimate.py",              # its blocks
        "gen/compile/operands.py"},             # its allocation
    "table_depth": OPTION | {
        "hw/spec/memories.py",                  # the memory
        "hw/spec/legality.py",                  # POST.table, and which results fit
        "hw/spec/timing.py",                    # a step more
        "hw/core/post.py", "hw/core/table_lane.py",             # the unit
        "gen/measure/estimate.py",              # its blocks
        "gen/compile/tables.py"},               # its allocation
}


def names(text, name):
    """Whether Python code says a name: as an identifier, or as a text of its own."""
    lines = iter(text.splitlines(keepends=True))
    return any(token.string == name if token.type == tokenize.NAME else
               token.type == tokenize.STRING and token.string.strip("\"'") == name
               for token in tokenize.generate_tokens(lambda: next(lines, "")))


@pytest.mark.parametrize("key", WALKS)
def test_no_other_file_names_a_key(key):
    files = {path.relative_to(ROOT).as_posix(): text for top in ("hw", "sim", "gen")
             for path in (ROOT / top).rglob("*.py") if key in (text := path.read_text())}
    found = {file for file, text in files.items() if names(text, key)}
    assert found - {DERIVED} == WALKS[key]


def test_every_part_that_a_chip_may_lack_has_a_walk():
    assert {key.field for key in KEYS.values() if key.optional} <= WALKS.keys() <= KEYS.keys()


def test_what_names_a_key():
    assert names("if arch.leaky:\n    pass\n", "leaky") and names('x = "leaky"\n', "leaky")
    assert not names('"""On leaky chips."""\nx = leaky_2    # leaky\n', "leaky")
