"""Progress on standard error: moving bars on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

__all__ = ["SILENT", "Reporter"]


class Reporter:
    """Shows the steps of a command. Use as a context manager; steps may overlap, also between
    threads.

    Parameters
    ----------
    shown : bool
        False: nothing is shown.
    stream : file or None
        Where to; None: standard error.
    """

    #: Seconds between two plain lines about the same step.
    INTERVAL = 10.0

    def __init__(self, shown: bool = True, stream: TextIO | None = None):
        self.shown = shown
        self.stream = stream or sys.stderr
        self.bars = self._new_bars() if shown else None

    def _new_bars(self):
        """Moving bars, or None where the stream is no terminal."""
        # Here, since the command line imports this module also where nothing is run.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        class Bars(Progress):
            """Bars with a table below them."""
            table: Any = None

            def get_renderables(self):
                yield from super().get_renderables()
                if self.table is not None:
                    yield self.table
        console = Console(file=self.stream)
        return Bars(
            SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description}"),
            BarColumn(bar_width=24), TextColumn("{task.fields[count]}"), TimeElapsedColumn(),
            console=console) if console.is_terminal else None

    def __enter__(self):
        if self.bars:
            self.bars.start()
        return self

    def __exit__(self, *error):
        if self.bars:
            self.bars.stop()

    def show(self, rows: list[list[str]]) -> None:
        """Show rows of texts, the first one the heading, below the bars; on a terminal only, until
        other rows take their place."""
        if self.bars:
            from rich.table import Table
            table = Table(*rows[0], box=None, header_style="bold")
            for row in rows[1:]:
                table.add_row(*row)
            self.bars.table = table

    @contextmanager
    def step(self, text: str, total: int | None = None) -> Iterator[Callable[[Any], None]]:
        """Show `text` while the block runs. The block is given a function: call it with the number
        of units done so far, out of `total`, to move the bar; or, where there is no total, with a
        text that says what is being done. As plain lines, such texts are shown at once where their
        part before the first comma is new, else every INTERVAL seconds."""
        start = last = time.monotonic()
        stage = None
        bars = self.bars
        if bars:
            task = bars.add_task(text, total=total, count="")

            def moved(number):
                if total is None:
                    bars.update(task, count=number)
                else:
                    bars.update(task, completed=number, count=f"{number:,} of {total:,}")
            yield moved
            bars.update(task, total=total or 1, completed=total or 1)
            return

        def done(number):
            nonlocal last, stage
            before, stage = stage, number.partition(",")[0] if total is None else None
            if self.shown and (time.monotonic() - last > self.INTERVAL or stage != before):
                last = time.monotonic()
                print(f"{text}: {number if total is None else f'{number:,} of {total:,}'}",
                      file=self.stream, flush=True)
        if self.shown:
            print(f"{text} ...", file=self.stream, flush=True)
        yield done
        if self.shown:
            print(f"{text}: {time.monotonic() - start:.1f} s", file=self.stream, flush=True)


#: Shows nothing.
SILENT = Reporter(shown=False)
