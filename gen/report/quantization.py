"""The error of every layer of a quantized network, as a table on the screen, CSV and JSON."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from systolith.gen.kit.files import write_file
from systolith.gen.kit.tables import text_table

__all__ = ["error_table", "files_beside", "rows_csv", "write_errors", "write_quantized"]


def decibels(number: float | None) -> str:
    """dB as text; None: nothing was lost."""
    return "exact" if number is None else f"{number:.1f}"


def error_table(rows: Sequence[Any]) -> str:
    """`rows` of `RoundedNetwork.measure` as text."""
    lines = [["layer", "operators", "format", "range", "clipped", "weights", "weights dB",
              "alone dB", "with all before dB", "relative error"]]
    for row in rows:
        weights = row["weight_sqnr"]
        lines.append([
            row["layer"], row["operators"], row["format"],
            f"{row['low']:.4g} ... {row['high']:.4g}",
            "" if row["format"] == "sums" else f"{100 * row['clipped']:.2f} %",
            row["weight"] or "", "" if row["weight"] is None else decibels(weights),
            decibels(row["alone_sqnr"]),
            decibels(row["sqnr"]), f"{100 * row['relative_error']:.2f} %"])
    return text_table(lines, "llllrlrrrr")


def rows_csv(rows: Sequence[dict]) -> str:
    """Dicts with the same keys as the text of a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_errors(made: Any, table: Path | str, data: Path | str) -> list[Path]:
    """Write the rows of a `Quantized` as CSV, and as JSON with its recipe."""
    write_file(table, rows_csv(made.rows))
    write_file(data, json.dumps({"recipe": asdict(made.recipe), "images": made.images,
                                 "equalized": made.equalized, "layers": made.rows}, indent=2)
               + "\n")
    return [Path(table), Path(data)]


def files_beside(path: Path | str) -> dict[str, Path]:
    """{"float", "csv", "json": path} of what is written beside a quantized model."""
    path = Path(path)
    return {"float": path.with_suffix(".float.onnx"), "csv": path.with_suffix(".csv"),
            "json": path.with_suffix(".json")}


def write_quantized(made: Any, path: Path | str) -> list[Path]:
    """Write a `Quantized`: the model, and beside it the float network that it is compared with and
    the errors. Returns the paths."""
    beside = files_beside(path)
    written = [write_file(path, made.model.SerializeToString()),
               write_file(beside["float"], made.float_model.SerializeToString())]
    return [*written, *write_errors(made, beside["csv"], beside["json"])]
