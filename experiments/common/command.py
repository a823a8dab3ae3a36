"""The command line of an experiment: its dataclass, read by tyro; errors in one line."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape

Chosen = TypeVar("Chosen")


class ExperimentError(Exception):
    """Something that the user asked for cannot be done; the message says how to mend it."""


def choose(argument: str, name: str, known: Iterable[str]) -> str:
    """`name`, if it is among the known names.

    Raises:
        ExperimentError: otherwise; the message lists the names, and the nearest first.
    """
    names = sorted(known)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    raise ExperimentError(f"{argument}: unknown name {name!r}.{guess} Known: {', '.join(names)}.")


def command_line(run: Callable[[Any], Any], config: type, description: str | None) -> None:
    """Read `config` from the command line and run; what cannot be done ends in exit status 2."""
    import tyro

    options = tyro.cli(config, description=description, config=(tyro.conf.FlagCreatePairsOff,))
    try:
        run(options)
    except ExperimentError as error:
        console = Console(stderr=True, soft_wrap=True)
        console.print(f"[bold red]error[/bold red] {escape(str(error))}")
        sys.exit(2)
