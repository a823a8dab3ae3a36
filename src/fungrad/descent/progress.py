"""A progress bar with the cost; rich is imported when one is asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def bar(show: bool, total: int, done: int) -> Iterator[Callable[[int, float], None]]:
    """A function `(steps made, cost)` that moves the bar; it does nothing unless `show`."""
    if not show:
        yield lambda step, cost: None
        return
    try:
        from rich import progress
        from rich.console import Console
    except ImportError as error:
        raise ImportError("progress=True needs rich: pip install 'fungrad[experiments]'") from error
    columns = (
        progress.TextColumn("descent"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("cost {task.fields[cost]:.6g}"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task("descent", total=total, completed=done, cost=float("nan"))
        yield lambda step, cost: shown.update(task, completed=step, cost=cost)
