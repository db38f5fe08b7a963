"""How a layer whose input is in external memory is cut into tiles: of all cuts into even pieces the
fastest, and of those that are about as fast the one that loads the fewest bytes.
"""

from itertools import product

from systolith.gen.kit.errors import UserError

from .boxes import Box, even, pieces
from .layer import Layer
from .limits import LIMITS, POST
from .plan import STEP_CYCLES, Plan, overlapping

__all__ = ["estimate", "plan_layer", "traffic"]

#: Cycles that each tile is estimated to cost besides its passes: among others, during small tiles
#: there is little time to load for the next layer.
_TILE_CYCLES = 128
#: By a first estimate, `_TRIED` of the fastest tilings and as many of those with the least traffic
#: are selected. Chosen is the one with the least traffic among those of them that take at most
#: `_SLACK` times the cycles of the fastest.
_TRIED, _SLACK = 6, 1.02


def _loaded(layer, words, tiles, sub_tiles, group):
    """(input bytes, weight bytes) that a layer loads whose tiles have inputs of `words` words in
    all; `group` column blocks are computed on a tile before the next tile comes."""
    arch, images = layer.arch, layer.images
    rounds = -(-layer.column_blocks // group) if tiles * images > 1 else 1
    if layer.stored.most_words > arch.weight_depth:
        times = images * sub_tiles
    else:
        times = 1 if group * layer.stored.most_words <= arch.weight_depth else tiles * images
    return (rounds * images * words * (layer.input_bytes or arch.activation_bytes),
            times * layer.stored.bytes)


def traffic(plan: Plan) -> tuple[int, int]:
    """(input bytes, weight bytes) that a layer loads by a plan with input buffers."""
    layer = plan.layer
    group = 1 if len(plan.parts) > 1 else plan.column_group
    return _loaded(layer, plan.loaded_words, len(plan.tiles),
                   sum(len(plan.sub_tiles(tile)) for tile in plan.tiles), group)


def _accumulator_pixels(layer):
    """The most pixels of a sub-tile: half of the accumulators, so that post-processing reads one
    half while the array fills the other; all of them where half does not hold one pooling window.
    Raises UserError where all of them do not, and for windows that POST cannot pool."""
    depth = layer.arch.accumulator_depth
    if not layer.in_order and (layer.y.pool > POST["pool_y"]
                               or layer.x.pool > POST["row"]):
        raise UserError(
            f"{layer.title}: pools windows of {layer.y.pool} x {layer.x.pool} that overlap or are "
            f"padded, and may pool {POST['pool_y']} x {POST['row']} at most; choose "
            "a smaller window")
    if layer.pool > depth:
        raise UserError(
            f"{layer.title}: a pooling window of {layer.y.pool} x {layer.x.pool} needs "
            f"{layer.pool} accumulator words, the chip has {depth}; raise buffers.accumulators")
    return depth // 2 if depth // 2 >= layer.pool else depth


def _cuts(axis):
    """[(pieces, input positions of the longest piece, those of all pieces)]: the ways to cut the
    results of an axis into even pieces, one for each length of the longest piece."""
    found = []
    for count in sorted({-(-axis.out // size) for size in range(1, axis.out + 1)}):
        pieces = even(axis.out, count)
        lengths = [b - a for a, b, _ in (axis.span(piece, (0, axis.kernel)) for piece in pieces)]
        found.append((pieces, max(lengths), sum(lengths)))
    return found


def _groups(layer):
    """Numbers of column blocks that may be computed on a tile before the next one comes: all of
    them, and an even share whose weights fit the weight memory."""
    resident = min(layer.column_blocks,
                   max(1, layer.arch.weight_depth // layer.stored.most_words))
    rounds = -(-layer.column_blocks // resident)
    return dict.fromkeys((layer.column_blocks, -(-layer.column_blocks // rounds)))


def _estimated_cycles(layer, tiles, rows, columns, pixels):
    """(sub-tiles of a tile, cycles of all passes) of `tiles` tiles of the size [rows) x [columns)
    results."""
    rows, columns = rows[1] - rows[0], columns[1] - columns[0]
    if not layer.in_order:
        return 1, layer.images * tiles * _step(layer, layer.cycles(rows, columns))
    each = -(-layer.results // tiles) * layer.pool
    sub_tiles = -(-each // pixels)
    return sub_tiles, layer.images * tiles * sub_tiles * _step(
        layer, layer.fillings * layer.pass_cycles(-(-each // sub_tiles)))


def _whole_kernel(layer, words, buffers, pixels, results):
    """Plans whose tiles have the input of all taps and blocks in memory: of all cuts into even
    rectangles that fit `words` activation words, with each of `_groups`, those that a first
    estimate selects."""
    found, limit = [], words // buffers // layer.blocks
    for (down, height, rows), (across, width, columns) in product(_cuts(layer.y), _cuts(layer.x)):
        if height * width > limit or (layer.whole_rows and len(across) > 1):
            continue
        tiles = len(down) * len(across)
        sub_tiles, cycles = _estimated_cycles(layer, tiles, down[0], across[0], pixels)
        for group in _groups(layer):
            loaded = _loaded(layer, rows * columns * layer.blocks, tiles, tiles * sub_tiles, group)
            found.append((_span(layer, loaded, cycles, tiles, buffers), sum(loaded), tiles,
                          (down, across, height * width * layer.blocks, group)))
    chosen = [n for order in ((0, 1), (1, 0)) for n in sorted(
        range(len(found)), key=lambda n: [found[n][key] for key in order])[:_TRIED]]
    return [Plan(layer, list(product(down, across)), [layer.kernel], pixels,
                 min(buffers, tiles * layer.images), size, group, results)
            for _, _, tiles, (down, across, size, group) in map(found.__getitem__, sorted(
                dict.fromkeys(chosen)))]


def _input_parts(layer, rows, columns, limit):
    """Boxes that together are the kernel, each with an input of at most `limit` words for a tile
    of `rows` x `columns` results; None where one tap and one block exceed it. Results of saturating
    accumulators depend on the order of the passes, so for them the boxes keep it. Bit planes follow
    each other in any case."""
    (_, kernel_y, _, kernel_x, _, blocks) = layer.kernel
    y, x, blocks = layer.y, layer.x, blocks // layer.planes

    def fits(taps_y, taps_x, count):
        return y.extent(rows, taps_y) * x.extent(columns, taps_x) * count <= limit

    def cut(taps_y, taps_x, count):
        return [Box(a, b - a, c, d - c, n * blocks + e, f - e) for n in range(layer.planes)
                for a, b in pieces(kernel_y, taps_y) for c, d in pieces(kernel_x, taps_x)
                for e, f in pieces(blocks, count)]

    if layer.arch.exact_sums:
        shapes = ([(kernel_y, kernel_x, n) for n in range(blocks, 0, -1)]
                  + [(n, kernel_x, 1) for n in range(kernel_y - 1, 0, -1)]
                  + [(1, n, 1) for n in range(kernel_x - 1, 0, -1)])
    else:
        shapes = ([(n, kernel_x, blocks) for n in range(kernel_y, 0, -1)]
                  + [(1, n, blocks) for n in range(kernel_x - 1, 0, -1)]
                  + [(1, 1, n) for n in range(blocks - 1, 0, -1)])
    return next((cut(*shape) for shape in shapes if fits(*shape)), None)


def _split_kernel(layer, words, buffers, pixels, results):
    """[The plan whose tiles are sub-tiles and whose input is loaded part by part]; [] where not
    even the input of one tap and one block fits, or rows are loaded as a whole."""
    if layer.whole_rows:
        return []
    if layer.in_order:
        columns = min(layer.x.out, pixels // layer.pool, LIMITS["out_x"])
        rows = min(layer.y.out, pixels // layer.pool // columns, LIMITS["out_y"])
    else:
        rows, columns = overlapping(layer, layer.y.out, layer.x.out, pixels, results)
    while True:
        parts = _input_parts(layer, rows, columns, words // buffers)
        if parts:
            break
        if rows > 1:
            rows = (rows + 1) // 2
        elif columns > 1:
            columns = (columns + 1) // 2
        else:
            return []
    size = max(layer.y.extent(rows, part.rows) * layer.x.extent(columns, part.columns) * part.blocks
               for part in parts)
    tiles = product(pieces(layer.y.out, rows), pieces(layer.x.out, columns))
    return [Plan(layer, list(tiles), parts, pixels, buffers, size)]


def _step(layer, cycles):
    """Cycles of a sub-tile whose passes take `cycles`: at least STEP_CYCLES for each
    instruction."""
    return max(cycles, STEP_CYCLES * layer.column_blocks)


def _span(layer, loaded, cycles, tiles, buffers):
    """Estimated cycles of a layer from what it loads (bytes) and the cycles of its passes. With two
    input buffers, loading overlaps with computing except for the first tile, whose input must be
    there before its first column block. A quarter of the loading time is added in any case, because
    neighbouring layers load at the same time."""
    pixels, weights = (size / layer.arch.beat_bytes for size in loaded)
    load, tiles = pixels + weights, tiles * layer.images
    if buffers == 1 and tiles > 1:
        total = load + cycles
    else:
        first = pixels / tiles - cycles / tiles / layer.column_blocks
        total = max(load, cycles + max(first, 0))
    return total + load / 4 + _TILE_CYCLES * tiles


def estimate(plan: Plan) -> float:
    """Estimated cycles of a plan."""
    layer = plan.layer
    cycles = layer.images * sum(_step(layer, layer.cycles(b - a, d - c)) for tile in plan.tiles
                                for (a, b), (c, d) in plan.sub_tiles(tile))
    return _span(layer, traffic(plan), cycles, len(plan.tiles), plan.buffers)


def plan_layer(layer: Layer, words: int | None, results: int | None = None) -> Plan:
    """The `Plan` for a layer.

    Parameters
    ----------
    layer : Layer
    words : int or None
        Activation words for its input buffers; None: its whole input is in activation memory.
    results : int or None
        The most results of a sub-tile; None: any number.

    Raises UserError where the memories are too small for any plan.
    """
    pixels = _accumulator_pixels(layer)
    if results is not None and layer.in_order:
        pixels = min(pixels, results * layer.pool)
    everything = ((0, layer.y.out), (0, layer.x.out))
    if words is None:
        return Plan(layer, [everything], [layer.kernel], pixels, most_results=results)
    for make in (_whole_kernel, _split_kernel):
        plans = [plan for buffers in (2, 1)
                 for plan in make(layer, words, buffers, pixels, results)]
        if plans:
            cycles = [estimate(plan) for plan in plans]
            limit = _SLACK * min(cycles)
            good = (n for n, taken in enumerate(cycles) if taken <= limit)
            return plans[min(good, key=lambda n: (sum(traffic(plans[n])), cycles[n]))]
    raise UserError(
        f"{layer.title}: one result needs {layer.window} input words at least (pooling window "
        f"{layer.y.pool} x {layer.x.pool}, stride {layer.y.stride} x {layer.x.stride}), and the "
        f"activation memory has {words}; raise buffers.activations")
