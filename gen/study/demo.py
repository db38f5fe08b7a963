"""The whole path on handwritten digits: network, chip, program, proof and figures."""

import shutil
from dataclasses import astuple, dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from systolith.gen.chip.toml import load_chip
from systolith.gen.flow.build import build
from systolith.gen.flow.simulate import simulate, write_arrays
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import new_folder, written_files
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.gen.kit.tables import text_table
from systolith.gen.measure.area import FIGURES
from systolith.gen.report.report import read_report

__all__ = ["Demo", "demo", "read_digits", "write_example"]

MODEL, CHIP, DIGITS = "digits-cnn.onnx", "ulx3s-8x8-e3m2", "digits-test.npz"


@dataclass
class Demo:
    """What the demo found: the table that it prints, mismatching bits, and files written."""
    table: str
    mismatches: int
    files: list


def read_digits(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(float32 images (N, *shape) from 0 to 1, labels [N]) of the held-out digits."""
    try:
        with np.load(path) as file:
            images, labels = file["images"], file["labels"]
    except OSError:
        raise UserError(f"{path}: not found; without --examples, the digits that come with "
                        "Systolith are read") from None
    return (images.astype(np.float32) / np.float32(255)).reshape(-1, *shape), labels


def _shipped():
    """The folder of networks and digits that come with Systolith."""
    return Path(str(resources.files("systolith.examples") / "digits"))


def write_example(folder: Path | str, examples: Path | str | None = None) -> list[Path]:
    """Copy the shipped networks to `folder` (made), with the digits as arrays; the paths.

    x.npy holds the held-out digits, float32 (1000, 1, 28, 28) from 0 to 1, labels.npy which digit
    each is, calibration.npy 100 others, for `quantize`; digits.npz all three, for `sweep`.
    `examples` names another folder to read.
    """
    examples, folder = Path(examples or _shipped()), Path(folder)
    images, labels = read_digits(examples / DIGITS, (1, 28, 28))
    with np.load(examples / DIGITS) as file:
        calibration = file["calibration"][:, None].astype(np.float32) / np.float32(255)
    with new_folder(folder) as new:
        for model in examples.glob("*.onnx"):
            shutil.copyfile(model, new / model.name)
        for name, array in (("x", images), ("labels", labels), ("calibration", calibration)):
            np.save(new / f"{name}.npy", array)
        np.savez(new / "digits.npz", images=images, labels=labels, calibration=calibration)
    return written_files(folder)


def demo(examples: Path | str | None = None, folder: Path | str = "build/demo", *,
         images: int = 16, progress: Reporter = SILENT) -> Demo:
    """Build the shipped network for a ULX3S, measure accuracy, prove the RTL; a `Demo`.

    Parameters
    ----------
    examples : path or None
        A folder with the network and the held-out digits. None: those that come with Systolith.
    folder : path
        Where the build goes.
    images : int
        Digits that the RTL simulates.
    """
    examples, folder = Path(examples or _shipped()), Path(folder)
    digits = examples / DIGITS
    if not digits.is_file():
        read_digits(digits, ())
    made = build(examples / MODEL, load_chip(CHIP), folder, progress=progress)
    inputs, labels = read_digits(digits, made.graph.encoders[0].shape)
    golden = simulate(made, inputs, "golden", progress=progress)
    rtl = simulate(made, inputs, "rtl", limit=images, progress=progress)
    extra = [folder / "digits-inputs.npy", folder / "digits-outputs.npy"]
    for path, array in zip(extra, (inputs, golden.outputs), strict=True):
        write_arrays(path, array)

    report = read_report(folder)
    clock, area, board = report.clock, report.area, report.board
    accuracy = np.mean(np.asarray(golden.outputs).argmax(1) == labels)
    compared = rtl.comparison
    run = rtl.run
    assert compared is not None and run is not None, "RTL says both"
    assert run.compute_cycles is not None, "the demo's chip has counters"
    computing = rtl.arch.utilization(rtl.macs, run.compute_cycles)
    assert area is not None and board is not None, "the build has an area, and the chip a board"
    rows = [
        ["network", f"{made.graph.name}: {len(made.graph.layers)} layers, "
                    f"{made.graph.macs:,} multiply-accumulates, weights and activations in "
                    f"{made.arch.activation}"],
        ["chip", f"{made.arch.name}: {made.arch.rows} x {made.arch.columns} processing elements"],
        ["accuracy on held-out digits", f"{100 * accuracy:.1f} % of {len(labels):,} "
                                        "(golden model)"],
        ["RTL against golden model", f"{rtl.images} images, {compared.elements:,} results of all "
                                     f"layers, mismatching bits: {compared.bits}"],
        ["cycles per image", f"{run.cycles:,} in RTL, {rtl.cycles_model:,} by the cycle model"],
        ["array utilization", f"{100 * rtl.utilization:.1f} %, all traffic included "
                              f"({100 * computing:.1f} % while computing)"],
        ["throughput", f"{clock.images_per_second(rtl.batch, run.cycles):,.0f} images/s at "
                       f"{clock.mhz:g} MHz ({clock.source})"],
        [f"area on the {board.part}", ", ".join(
            f"{used:,} {key.upper()} ({100 * used / there:.0f} %)" for key, used, there in
            zip(FIGURES, astuple(area.total), astuple(board.has), strict=True))],
        ["simulation speed", f"{rtl.clocks_per_second:,.0f} clocks/s"]]
    if compared.first:
        rows.append(["first difference", str(compared.first)])
    return Demo(text_table([["", ""], *rows]), compared.bits, sorted({*made.files, *extra}))
