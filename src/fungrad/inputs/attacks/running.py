"""Programs run in chunks of examples: as many at once as there is memory for."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fungrad.inputs.attacks import programs
from fungrad.inputs.attacks.method import Method
from fungrad.inputs.attacks.programs import Task

SMALL = 1 << 26  # bytes that a program may need without anyone asking how many there are
PER_BYTE = 1024  # of x, that a program is taken to need at most where it is not looked at

Rows = Sequence[Any]


@dataclass
class Runner:
    """A model and a task, ready to run any program on any number of examples.

    Attributes:
        model, shape, dtype: what is read, at examples of that shape and dtype.
        task: without the graphs, which depend on how many examples there are at once.
        chunk: the most examples at once; None: as many as fit into memory.
        concrete: whether values are known; where they are traced, nothing is compiled here.
        advance: told how many examples are done.
    """

    model: Callable[..., Any]
    task: Task
    chunk: int | None
    concrete: bool
    advance: Callable[[int], Any] = field(default_factory=lambda: lambda count: None)
    known: dict[int, Any] = field(default_factory=dict)

    def read(self, size: int) -> Any:
        """The graphs and constants of the model at `size` examples, read once for each size."""
        if size not in self.known:
            self.known[size] = programs.read(self.model, (size, *self.task.shape), self.task.dtype)
        return self.known[size]

    def run(
        self,
        part: Callable[..., Any],
        method: Method | None,
        rows: Rows,
        shared: Any = (),
        most: int | None = None,
    ) -> Any:
        """The program's outcome for all rows; `most` is a limit besides `chunk`."""
        count = len(rows[0])
        sizes = [size for size in (count, self.chunk, most) if size is not None]
        size = min(sizes) if self.concrete else count
        program = self._program(part, method, size)
        if self.concrete and self.chunk is None:
            while size > 1 and not _fits(program, self._first(rows, size), shared):
                size = -(-size // 2)
                program = self._program(part, method, size)
        if size == count:
            found = program(rows, shared)
            self.advance(count)
            return found
        # On the host: picking rows on the device takes a program for every number of them.
        rows, found = [np.asarray(row) for row in rows], []
        for start in range(0, count, size):
            chosen = np.arange(start, start + size) % count
            found.append(jax.tree.map(np.asarray, program([row[chosen] for row in rows], shared)))
            self.advance(min(size, count - start))
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *found)
        return jax.tree.map(jnp.asarray, joined)

    def _first(self, rows: Rows, size: int) -> Rows:
        return [jax.ShapeDtypeStruct((size, *row.shape[1:]), row.dtype) for row in rows]

    def _program(self, part: Callable[..., Any], method: Method | None, size: int) -> Any:
        graphs, constants = self.read(size)
        norm = self.task.norm if method is None else method.norm
        task = replace(self.task, graphs=graphs, method=method, norm=norm)
        if self.concrete:
            return functools.partial(programs.compiled(part, task), constants)
        return functools.partial(part, task, constants)


def _fits(program: Any, rows: Rows, shared: Any) -> bool:
    """Whether there is memory for the program, asked of the compiler where x is not small."""
    if PER_BYTE * sum(row.size * row.dtype.itemsize for row in rows) <= SMALL:
        return True
    memory = _free_memory()
    if memory is None:
        return True
    leaves, tree = jax.tree.flatten((*program.args, rows, shared))
    return _needed(program.func, tree, tuple(map(_type, leaves))) <= memory // 2


@functools.lru_cache(maxsize=256)
def _needed(function: Any, tree: Any, types: tuple[jax.ShapeDtypeStruct, ...]) -> int:
    """Bytes that it takes besides its arguments, as compiled; 0 where the compiler is silent."""
    analysis = function.lower(*jax.tree.unflatten(tree, types)).compile().memory_analysis()
    if analysis is None:
        return 0
    return analysis.temp_size_in_bytes + analysis.output_size_in_bytes


def _type(x: Any) -> jax.ShapeDtypeStruct:
    if isinstance(x, jax.ShapeDtypeStruct):
        return x
    aval = jax.typeof(x)
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)


def _free_memory() -> int | None:
    """Bytes that the device, or the machine if it computes itself, has left; None: unknown."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics["bytes_in_use"]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


@contextlib.contextmanager
def bar(show: bool, title: str, total: int) -> Iterator[Callable[[int], Any]]:
    """A function that moves a progress bar by so many examples; no bar where rich is missing."""
    if not show:
        yield lambda count: None
        return
    try:
        from rich import progress
        from rich.console import Console
    except ImportError:
        yield lambda count: None
        return
    with progress.Progress(console=Console(stderr=True)) as shown:
        task = shown.add_task(title, total=total)
        yield lambda count: shown.update(task, advance=count)
