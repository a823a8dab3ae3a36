"""What the tables of functions to be diagnosed are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp


class Case(NamedTuple):
    """A function, where to call it, and what must be said of it beside the marked line."""

    fun: Any
    args: tuple[Any, ...]
    says: str
    iteration: Any = None
    example: Any = None
    branch: Any = None
    backward: bool | None = None

    @property
    def line(self) -> int:
        """The line of the file whose comment is `# here`, or `# here: ` and the case's name."""
        lines = Path(self.fun.__code__.co_filename).read_text("utf-8").splitlines()
        first = self.fun.__code__.co_firstlineno
        name = self.fun.__name__
        elsewhere = [n for n, line in enumerate(lines, 1) if line.endswith(f"# here: {name}")]
        after = [n for n, line in enumerate(lines, 1) if n > first and line.endswith("# here")]
        return (elsewhere or after)[0]


def table():
    """An empty table of cases, and the decorator that puts a function into it."""
    cases: list[Case] = []

    def case(*args, says="", **expected):
        def register(fun):
            cases.append(Case(fun, args, says, **expected))
            return fun

        return register

    return cases, case


def floats(*x, dtype=jnp.float32):
    return jnp.array(x, dtype)
