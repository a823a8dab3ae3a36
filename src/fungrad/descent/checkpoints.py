"""Checkpoints by orbax: a run that was killed goes on where it was, bit for bit.

A checkpoint holds the loop's whole state, the history, and a description of the run. Keys and
batches follow from the step's number, so nothing else is needed. orbax writes into a temporary
folder and renames it, so a checkpoint is whole or absent.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fungrad.descent.problem import Problem

# Without `every`, checkpoints may take this share of the time.
SHARE = 0.1
DIGEST = hashlib.sha256().digest_size * 2


@dataclass(frozen=True)
class Checkpoint:
    """Where a descent writes its checkpoints, and how often.

    Attributes:
        folder: made if it is missing; it belongs to one run.
        every: the number of steps between two; None: as often as costs a tenth of the time.
    """

    folder: str | os.PathLike[str]
    every: int | None = None

    def __post_init__(self):
        if self.every is not None and (not isinstance(self.every, int) or self.every < 1):
            raise ValueError(f"every must be a number of steps of at least 1, got {self.every!r}")


class Store:
    """The checkpoints of one run: the newest whole one is kept."""

    def __init__(self, checkpoint: Checkpoint | str | os.PathLike[str]):
        self.every = checkpoint.every if isinstance(checkpoint, Checkpoint) else None
        folder = checkpoint.folder if isinstance(checkpoint, Checkpoint) else checkpoint
        self.folder = Path(folder).absolute()
        self._orbax = _import_orbax()
        _require_writable(self.folder)
        options = self._orbax.CheckpointManagerOptions(
            max_to_keep=1, enable_async_checkpointing=False, cleanup_tmp_directories=True
        )
        self._manager = self._orbax.CheckpointManager(self.folder, options=options)
        self._description: Mapping[str, Any] = {}
        self._saved = 0.0  # when the last save ended, and how long it took
        self._took = 0.0

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def restore(self, state: Any, description: Mapping[str, Any]) -> tuple[Any, np.ndarray]:
        """The newest checkpoint's state and history; `state` itself where there is none.

        `description` is that of the run, for this checkpoint and for those to come.

        Raises:
            ValueError: if another run wrote it.
        """
        self._description = description
        label = self._manager.latest_step()
        if label is None:
            return state, np.zeros(0)
        args = self._orbax.args
        try:
            items = dict(description=args.JsonRestore(), arrays=args.StandardRestore())
            found = self._manager.restore(label, args=args.Composite(**items))
        except (KeyError, FileNotFoundError, ValueError) as error:
            raise ValueError(
                f"{self.folder} holds a checkpoint that fungrad.descent did not write; "
                "choose another folder"
            ) from error
        self._compare(found["description"])
        arrays = found["arrays"]
        return _unpacked(arrays, state), np.asarray(arrays["history"])

    def due(self, step: int, now: float) -> bool:
        """Whether a checkpoint is to be written after `step` updates."""
        if self.every is not None:
            return step % self.every == 0
        return now - self._saved >= self._took * (1 / SHARE - 1)

    def save(self, state: Any, history: np.ndarray) -> None:
        """Writes a checkpoint: all of it, or nothing."""
        began = time.monotonic()
        args = self._orbax.args
        self._manager.save(
            len(history),
            args=args.Composite(
                description=args.JsonSave(dict(self._description)),
                arrays=args.StandardSave(_packed(state) | {"history": history}),
            ),
        )
        self._saved = time.monotonic()
        self._took = self._saved - began

    def _compare(self, theirs: Mapping[str, Any]) -> None:
        for name in {**self._description, **theirs}:  # the plainest differences come first
            mine, other = self._description.get(name), theirs.get(name)
            if mine != other:
                raise ValueError(
                    f"the checkpoint in {self.folder} is of another run: {name}: "
                    f"{_difference(mine, other)}; choose another folder, or delete this one"
                )


def describe(problem: Problem, state: Any, data: Any, keys: Any, traced: Any) -> dict[str, Any]:
    """What must agree between a checkpoint and the run that goes on from it.

    The last entry is a digest of the traced steps, which hold the cost's and the optimizer's
    operations and constants: another learning rate makes other steps.
    """
    return {
        "params": _shapes(state.params),
        "the optimizer's state": _shapes(state.method),
        "data": _shapes(data),
        "batch_size": problem.batch_size,
        "window": problem.window,
        "tolerance": problem.tolerance,
        "the values of the data": _digest(jax.tree.leaves(data)),
        "the key": _digest(jax.tree.leaves(keys)),
        "the version of JAX": jax.__version__,
        "the cost, or a setting of the optimizer": _program(traced),
    }


def _difference(mine: Any, other: Any) -> str:
    """What differs, as a phrase."""
    if isinstance(mine, dict) and isinstance(other, dict):
        name = next(n for n in [*mine, *other] if mine.get(n) != other.get(n))
        there, here = other.get(name, "nothing"), mine.get(name, "nothing")
        return f"{name or 'it'} is {there} there and {here} here"
    if isinstance(mine, str) and len(mine) == DIGEST:  # says nothing to a reader
        return "not the same"
    return f"{other} there and {mine} here"


def _shapes(tree: Any) -> dict[str, str]:
    named = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): jax.typeof(leaf).str_short() for path, leaf in named}


def _digest(arrays: list[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(jax.typeof(array).str_short().encode())
        digest.update(np.ascontiguousarray(_raw(array)).tobytes())
    return digest.hexdigest()


def _program(traced: Any) -> str:
    """A digest of a traced function that is the same in every process."""
    text = re.sub(r"0x[0-9a-f]+", "", str(traced.jaxpr))
    text = re.sub(r"\{[^{}]*\}", lambda match: "".join(sorted(match.group())), text)
    return hashlib.sha256((text + _digest(list(traced.jaxpr.consts))).encode()).hexdigest()


def _raw(leaf: Any) -> np.ndarray:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _packed(state: Any) -> dict[str, np.ndarray]:
    """The arrays by their paths; those without entries need no keeping, and orbax takes none."""
    named = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): _raw(leaf) for path, leaf in named if leaf.size}


def _unpacked(arrays: Mapping[str, np.ndarray], state: Any) -> Any:
    def restored(path: Any, leaf: jax.Array) -> jax.Array:
        if not leaf.size:
            return leaf
        value = arrays[jax.tree_util.keystr(path)]
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jnp.asarray(value), impl=jax.random.key_impl(leaf))
        return jax.device_put(value, leaf.sharding)

    return jax.tree_util.tree_map_with_path(restored, state)


def _import_orbax() -> Any:
    try:
        import orbax.checkpoint
    except ImportError as error:
        raise ImportError("checkpoint= needs orbax: pip install 'fungrad[experiments]'") from error
    return orbax.checkpoint


def _require_writable(folder: Path) -> None:
    """Makes the folder, and a file in it, before any work is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            error.errno, f"checkpoint: cannot write into the folder ({error.strerror})", str(folder)
        ) from error
