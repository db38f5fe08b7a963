"""A picture of the units' timeline."""

from pathlib import Path

from ..hw.csr import UnitState
from ..hw.isa import Unit
from .errors import UserError
from .files import new_file
from .profile import layer_windows
from .trace import clip, tracks

__all__ = ["FORMATS", "write_picture"]

FORMATS = (".png", ".svg", ".pdf")
_WAITS = {UnitState.TOKENS: ("waits for tokens", "#d9d9d9", ""),
          UnitState.MEMORY: ("waits for memory", "#ffffff", "////"),
          UnitState.UNIT: ("waits for its neighbour", "#ffffff", "....")}
#: Ranges that are less than this share of the picture apart, and look the same, become one.
_FINEST = 1 / 4000


def _merged(ranges, gap):
    """(begin, end, look) ranges in order, those of one look that are close to each other joined."""
    found = []
    for begin, end, look in ranges:
        if found and found[-1][2] == look and begin - found[-1][1] <= gap:
            found[-1][1] = max(end, found[-1][1])
        else:
            found.append([begin, end, look])
    return found


def write_picture(program, timing, path, begin=0, end=None):
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
    gap = (end - begin) * _FINEST
    names = [layer["name"] for layer in program.host["layers"]]
    palette = matplotlib.colormaps["tab20"].colors
    palette = palette[::2] + palette[1::2]

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()

    def bars(row, ranges, height=0.8, **look):
        axes.broken_barh([(first, last - first) for first, last, _ in ranges],
                         (row - height / 2, height), **look)

    def coloured(row, ranges):
        for first, last, layer in _merged(ranges, gap):
            bars(row, [(first, last, layer)], facecolors=palette[layer % len(palette)], linewidth=0)

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
        for state, (_, colour, hatch) in _WAITS.items():
            ranges = _merged([item for item in waits if item[2] == state], gap)
            if ranges:
                seen.add(state)
                bars(1 + unit, ranges, height=0.5, facecolors=colour, hatch=hatch, linewidth=0,
                     edgecolor="#555555")
    rows = ["layer", *(unit.name for unit in Unit)]
    axes.set(xlim=(begin, end), ylim=(len(rows) - 0.5, -0.5), yticks=range(len(rows)),
             yticklabels=rows, xlabel="cycle",
             title=f"{program.host['network']} on {program.arch.name}")
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
