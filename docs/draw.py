"""Draws the pictures of the documentation: `python docs/draw.py [NAME ...]`.

array.svg shows the array; timeline.png, first-chip.png and compare.png are what `systolith trace
--picture` and `systolith simulate --compare` draw of the digits networks. pareto.png is not drawn
here: `systolith sweep examples/sweep/formats.toml -o sweep` makes it, in about half an hour.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from systolith.gen.cli.main import main as main_of_systolith

HERE = Path(__file__).parent
DIGITS = HERE.parent / "examples" / "digits"
CHIP = "ulx3s-8x8-e3m2"

STYLE = """.t{font-size:14px;font-weight:bold;text-anchor:middle;fill:#222}
.s{font-size:12px;text-anchor:middle;fill:#333}.l{font-size:13px;fill:#555}
.a{fill:none;stroke:#4a6fa5;stroke-width:2}.d{fill:none;stroke:#b8862d;stroke-width:2}
.pe{fill:#eef3fb;stroke:#4a6fa5;stroke-width:1.5}.sum{fill:#fdf3df;stroke:#b8862d;stroke-width:1.5}
.px{fill:#dcebdc;stroke:#4b8b4b;stroke-width:1.2}"""
ARROW = ('<marker id="{0}" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
         '<path d="M0,0 L8,4 L0,8 z" fill="{1}"/></marker>')


def _box(look, x, y, width, height):
    return f'<rect class="{look}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>'


def _text(look, x, y, text, more=""):
    return f'<text class="{look}" x="{x}" y="{y}"{more}>{text}</text>'


def _line(look, x0, y0, x1, y1):
    return (f'<line class="{look}" x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" '
            f'marker-end="url(#h{look})"/>')


def array_svg(rows=3, columns=4):
    """The array as SVG: pixels enter from the left with a skew, sums leave below."""
    left, top, step, size = 300, 70, 104, 74
    width, height = left + columns * step + 40, top + rows * step + 90
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
             f'font-family="Helvetica, Arial, sans-serif">', f"<style>{STYLE}</style>",
             f'<defs>{ARROW.format("ha", "#4a6fa5")}{ARROW.format("hd", "#b8862d")}</defs>',
             f'<rect width="{width}" height="{height}" fill="white"/>',
             _text("l", left, 24, "one column for each output channel"),
             _text("l", 12, 24, "pixels, one a cycle,"),
             _text("l", 12, 41, "each row one cycle later")]
    for row in range(rows):
        y = top + row * step
        for pixel in range(3):
            x = left - 84 - 52 * (pixel + row)
            parts += [_box("px", x, y + size / 2 - 16, 44, 32),
                      _text("s", x + 22, y + size / 2 + 4,
                            f"p{'₀₁₂'[pixel]}[{row}]")]
        parts.append(_line("a", left - 38, y + size / 2, left - 2, y + size / 2))
        for column in range(columns):
            x = left + column * step
            parts += [_box("pe", x, y, size, size), _text("t", x + size / 2, y + 30, "PE"),
                      _text("s", x + size / 2, y + 50, f"w[{row}, {column}]")]
            if column + 1 < columns:
                parts.append(_line("a", x + size, y + size / 2, x + step - 2, y + size / 2))
            parts.append(_line("d", x + size / 2, y + size, x + size / 2, y + step - 2))
    y = top + rows * step
    for column in range(columns):
        x = left + column * step
        parts += [_box("sum", x - 6, y, size + 12, 44),
                  _text("t", x + size / 2, y + 19, f"sum {column}"),
                  _text("s", x + size / 2, y + 35, "per pixel")]
    parts += [_text("l", 12, y + 20, "accumulators: add the passes"),
              _text("l", 12, y + 37, "of one result"),
              _text("l", left, y + 74, "then: bias, scale, round, clip, pool; and back as the next "
                    "layer's pixels")]
    return "\n".join([*parts, "</svg>\n"])


def draw_array(path):
    path.write_text(array_svg())


def systolith(*arguments):
    """Run a command of the command line."""
    assert main_of_systolith([str(argument) for argument in arguments]) == 0, arguments


def draw_timeline(path, model="digits-cnn.onnx", chip=CHIP):
    with tempfile.TemporaryDirectory() as folder:
        systolith("build", DIGITS / model, "--chip", chip, "--no-area", "-o", folder)
        systolith("trace", folder, "--picture", path)


def draw_first_chip(path):
    draw_timeline(path, "digits-cnn-int8.onnx", "ulx3s-8x8")


def draw_compare(path):
    with np.load(DIGITS / "digits-test.npz") as file:
        calibration, images = (file[key][:, None].astype(np.float32) / np.float32(255)
                               for key in ("calibration", "images"))
    with tempfile.TemporaryDirectory() as folder:
        data, inputs, build = (Path(folder) / name for name in ("data.npy", "x.npy", "build"))
        np.save(data, calibration)
        np.save(inputs, images[:100])
        systolith("build", DIGITS / "digits-cnn-float.onnx", "--calibration", data,
                  "--chip", CHIP, "--no-area", "-o", build)
        systolith("simulate", build, "--inputs", inputs, "--compare")
        path.write_bytes((build / path.name).read_bytes())


PICTURES = {"array.svg": draw_array, "timeline.png": draw_timeline,
            "first-chip.png": draw_first_chip, "compare.png": draw_compare}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *PICTURES], default=[],
                        help="default: all of " + ", ".join(PICTURES))
    for name in parser.parse_args().names or PICTURES:
        path = HERE / "pictures" / name
        PICTURES[name](path)
        print(path, "written")


if __name__ == "__main__":
    main()
