"""A picture of the units' timeline."""

from pathlib import Path

import numpy as np
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import new_file
from systolith.hw.spec.isa import Unit
from systolith.hw.spec.program import Program
from systolith.hw.spec.registers import UnitState
from systolith.sim.machine.access import merge
from systolith.sim.machine.cycles import Timing

from .profile import layer_windows, measure
from .trace import clip, tracks

__all__ = ["FORMATS", "write_picture"]

FORMATS = (".png", ".svg", ".pdf")
_WAITS = {UnitState.TOKENS: ("waits for tokens", "#d9d9d9", ""),
          UnitState.MEMORY: ("waits for memory", "#ffffff", "////"),
          UnitState.UNIT: ("waits for its neighbour", "#ffffff", "....")}
#: Across the picture; what is shorter shows as a part of the height.
_STEPS = 1600


def _shares(ranges, edges):
    """{look: float array [steps]}: the share of each step between two edges that the (begin, end,
    look) ranges of this look cover."""
    looks: dict[tuple, list] = {}
    for begin, end, look in ranges:
        looks.setdefault(look, []).append((begin, end))
    return {look: np.diff(measure(merge(*np.array(own).T), edges)) / np.diff(edges)
            for look, own in sorted(looks.items())}


def _draw(axes, row, edges, heights, **look):
    """Bars around a row, as high as said for each step."""
    heights = np.append(heights, 0)
    axes.fill_between(edges, row - heights / 2, row + heights / 2, step="post", linewidth=0,
                      **look)


def write_picture(program: Program, timing: Timing, path: Path | str, begin: int = 0,
                  end: int | None = None) -> Path:
    """Draw the cycles [begin, end) of a program's run: its layers, and what each unit does for
    which of them, or waits for. PNG, SVG or PDF, by the file's name."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{path}: pictures are {', '.join(FORMATS)} files")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    end = timing.cycles if end is None else end
    edges = np.linspace(begin, end, _STEPS + 1)
    names = [layer.name for layer in program.host.layers]
    palette = matplotlib.color_sequences["tab20"]
    palette = palette[::2] + palette[1::2]

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()

    def coloured(row, ranges):
        """Each step in the colour of the layer that has most of it."""
        shares = _shares(ranges, edges)
        if not shares:
            return
        whole = sum(shares.values())
        most = np.argmax(list(shares.values()), axis=0)
        for place, layer in enumerate(shares):
            _draw(axes, row, edges, np.where(most == place, 0.8 * whole, 0),
                  facecolor=palette[layer % len(palette)])

    windows = clip(layer_windows(program, timing), begin, end)
    coloured(0, windows)
    for first, last, layer in windows:
        if last - first > (end - begin) * 0.011 * max(4, len(names[layer])):
            axes.text((first + last) / 2, 0, names[layer], ha="center", va="center", fontsize=8)
    seen = set()
    for unit, track in tracks(program, timing).items():
        coloured(1 + unit, [(first, last, program.instructions[number].layer)
                            for first, last, number in clip(track.slices, begin, end)])
        waits = [item[:3] for item in clip(track.waits, begin, end)]
        for state, share in _shares(waits, edges).items():
            seen.add(state)
            _, colour, hatch = _WAITS[state]
            _draw(axes, 1 + unit, edges, 0.5 * share, facecolor=colour, hatch=hatch,
                  edgecolor="#555555")
    rows = ["layer", *(unit.name for unit in Unit)]
    axes.set(xlim=(begin, end), ylim=(len(rows) - 0.5, -0.5), yticks=range(len(rows)),
             yticklabels=rows, xlabel="cycle",
             title=f"{program.host.network} on {program.arch.name}")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    marks = [Patch(facecolor=colour, hatch=hatch, edgecolor="#555555", linewidth=0.5, label=text)
             for state, (text, colour, hatch) in _WAITS.items() if state in seen]
    figure.legend(handles=marks, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    with (new_file(path) as temporary, matplotlib.rc_context({"svg.hashsalt": "systolith",
                                                              "hatch.linewidth": 0.5})):
        metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
        figure.savefig(temporary, dpi=150, format=path.suffix[1:].lower(),
                       metadata=metadata.get(path.suffix.lower()))
    return path
