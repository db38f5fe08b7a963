"""How a layer whose input is outside is cut into tiles: of all even cuts the fastest, and of those
that are about as fast the one that loads the fewest bytes.
"""

from itertools import product

from systolith.gen.kit.errors import UserError

from .tile import LIMITS, POST_LIMITS, STEP_CYCLES, Plan, even, overlapping, pieces

__all__ = ["estimate", "plan_layer", "traffic"]

#: What a tile costs beyond its passes, in cycles: small tiles also leave the next layer's loads
#: little time to hide in.
_TILE_CYCLES = 128
#: Of the tilings that a first estimate finds, so many of the fastest and of those of the least
#: traffic are looked at closely; chosen is the one of the least traffic among those that take
#: `_SLACK` times the cycles of the fastest at most.
_TRIED, _SLACK = 6, 1.02


def _loaded(layer, words, tiles, sub_tiles, group):
    """(input bytes, weight bytes) when all tiles have `words` words together."""
    arch, images = layer.arch, layer.images
    rounds = -(-layer.column_blocks // group) if tiles * images > 1 else 1
    if layer.most_weight_words > arch.weight_depth:
        times = images * sub_tiles
    else:
        times = 1 if group * layer.most_weight_words <= arch.weight_depth else tiles * images
    return (rounds * images * words * arch.activation_bytes,
            times * layer.weight_words * arch.weight_bytes)


def traffic(plan):
    """(input bytes, weight bytes) that a plan with input buffers loads."""
    layer = plan.layer
    group = 1 if len(plan.parts) > 1 else plan.column_group
    return _loaded(layer, plan.loaded_words, len(plan.tiles),
                   sum(len(plan.sub_tiles(tile)) for tile in plan.tiles), group)


def _accumulator_pixels(layer):
    """The most pixels of a sub-tile: half of the accumulators, so that post-processing drains one
    half while the array fills the other."""
    depth = layer.arch.accumulator_depth
    if not layer.in_order and (layer.y.pool > POST_LIMITS["pool_y"]
                               or layer.x.pool > POST_LIMITS["row"]):
        raise UserError(
            f"{layer.title}: pools windows of {layer.y.pool} x {layer.x.pool} that overlap or are "
            f"padded, and may pool {POST_LIMITS['pool_y']} x {POST_LIMITS['row']} at most; choose "
            "a smaller window")
    if layer.pool > depth:
        raise UserError(
            f"{layer.title}: a pooling window of {layer.y.pool} x {layer.x.pool} needs "
            f"{layer.pool} accumulator words, the chip has {depth}; raise buffers.accumulators")
    return depth // 2 if depth // 2 >= layer.pool else depth


def _cuts(axis):
    """[(pieces, input positions of the longest, those of all together)]: all ways to cut the
    results of an axis evenly that differ in the longest piece."""
    found = []
    for count in sorted({-(-axis.out // size) for size in range(1, axis.out + 1)}):
        pieces = even(axis.out, count)
        lengths = [b - a for a, b, _ in (axis.span(piece, (0, axis.kernel)) for piece in pieces)]
        found.append((pieces, max(lengths), sum(lengths)))
    return found


def _groups(layer):
    """Numbers of column blocks for a tile that may load the fewest bytes: all of them, and even
    shares whose weights stay."""
    resident = min(layer.column_blocks,
                   max(1, layer.arch.weight_depth // layer.most_weight_words))
    rounds = -(-layer.column_blocks // resident)
    return dict.fromkeys((layer.column_blocks, -(-layer.column_blocks // rounds)))


def _estimated_cycles(layer, tiles, rows, columns, pixels):
    """(sub-tiles of a tile, cycles of all passes) with tiles as large as one of [rows) x
    [columns) results."""
    rows, columns = rows[1] - rows[0], columns[1] - columns[0]
    if not layer.in_order:
        return 1, layer.images * tiles * _step(layer, layer.cycles(rows, columns))
    each = -(-layer.results // tiles) * layer.pool
    sub_tiles = -(-each // pixels)
    return sub_tiles, layer.images * tiles * sub_tiles * _step(
        layer, layer.passes * layer.pass_cycles(-(-each // sub_tiles)))


def _whole_kernel(layer, words, buffers, pixels, results):
    """Plans whose tiles hold all taps and blocks: of all even cuts into rectangles that fit, and
    all groups of column blocks, the few that seem to be the fastest."""
    found, limit = [], words // buffers // layer.blocks
    for (down, height, rows), (across, width, columns) in product(_cuts(layer.y), _cuts(layer.x)):
        if height * width > limit:
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
    of `rows` x `columns` results; None where there are none. Saturating accumulators depend on
    the order of the passes, so for them the boxes keep it, and planes follow each other."""
    (_, kernel_y, _, kernel_x, _, blocks) = layer.kernel
    y, x, blocks = layer.y, layer.x, blocks // layer.planes

    def fits(taps_y, taps_x, count):
        return y.extent(rows, taps_y) * x.extent(columns, taps_x) * count <= limit

    def cut(taps_y, taps_x, count):
        return [(a, b - a, c, d - c, n * blocks + e, f - e) for n in range(layer.planes)
                for a, b in pieces(kernel_y, taps_y) for c, d in pieces(kernel_x, taps_x)
                for e, f in pieces(blocks, count)]

    if layer.arch.accumulator is None:
        shapes = ([(kernel_y, kernel_x, n) for n in range(blocks, 0, -1)]
                  + [(n, kernel_x, 1) for n in range(kernel_y - 1, 0, -1)]
                  + [(1, n, 1) for n in range(kernel_x - 1, 0, -1)])
    else:
        shapes = ([(n, kernel_x, blocks) for n in range(kernel_y, 0, -1)]
                  + [(1, n, blocks) for n in range(kernel_x - 1, 0, -1)]
                  + [(1, 1, n) for n in range(blocks - 1, 0, -1)])
    return next((cut(*shape) for shape in shapes if fits(*shape)), None)


def _split_kernel(layer, words, buffers, pixels, results):
    """[A plan whose tiles are sub-tiles and whose input is loaded part by part]; none where not
    even one tap and one block fit."""
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
    size = max(layer.y.extent(rows, p[1]) * layer.x.extent(columns, p[3]) * p[5] for p in parts)
    tiles = product(pieces(layer.y.out, rows), pieces(layer.x.out, columns))
    return [Plan(layer, list(tiles), parts, pixels, buffers, size)]


def _step(layer, cycles):
    """Cycles of a sub-tile's passes, at least those of its instructions."""
    return max(cycles, STEP_CYCLES * layer.column_blocks)


def _span(layer, loaded, cycles, tiles, buffers):
    """Cycles of a layer, roughly: with two buffers loading runs while the array computes, but for
    the first tile, whose first column block needs all of it. What is loaded counts a little in any
    case, since neighbouring layers load, too."""
    pixels, weights = (size / layer.arch.beat_bytes for size in loaded)
    load, tiles = pixels + weights, tiles * layer.images
    if buffers == 1 and tiles > 1:
        total = load + cycles
    else:
        first = pixels / tiles - cycles / tiles / layer.column_blocks
        total = max(load, cycles + max(first, 0))
    return total + load / 4 + _TILE_CYCLES * tiles


def estimate(plan):
    """Estimated cycles of a plan."""
    layer = plan.layer
    cycles = layer.images * sum(_step(layer, layer.cycles(b - a, d - c)) for tile in plan.tiles
                                for (a, b), (c, d) in plan.sub_tiles(tile))
    return _span(layer, traffic(plan), cycles, len(plan.tiles), plan.buffers)


def plan_layer(layer, words, results=None):
    """The Plan for a layer whose input is outside, with `words` activation words for its
    buffers; None for `words`: the input lies in activation memory. Sub-tiles have at most
    `results` results.

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
            limit = _SLACK * min(map(estimate, plans))
            return min((plan for plan in plans if estimate(plan) <= limit),
                       key=lambda plan: (sum(traffic(plan)), estimate(plan)))
    raise UserError(
        f"{layer.title}: one result needs {layer.window} input words at least (pooling window "
        f"{layer.y.pool} x {layer.x.pool}, stride {layer.y.stride} x {layer.x.stride}), and the "
        f"activation memory has {words}; raise buffers.activations")
