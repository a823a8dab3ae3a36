"""Values that know what made them, and which entry of them is to blame for a NaN or an infinity.

Both passes are recorded as operations on values. Where an entry of a value is not finite, the
operation that made it is asked whether it would be so without the NaNs and infinities among its
own inputs. If it would, they are innocent, and the entry was born here. If not, those that matter
are found by trying, and blame moves on to what made them. No knowledge of what an operation
does is needed, and NaNs that are masked without harm are never met.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from fungrad.graph import Node

Entry = tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """Where in a run of a program an operation is.

    Attributes:
        node: the node of the graph.
        iteration: of each loop around it, outermost first.
        branches: the branch taken of each cond around it, outermost first.
        is_backward: it is part of the backward pass.
        order: the positions of the equation and of the calls around it, outermost first.
    """

    node: Node
    iteration: tuple[int, ...] = ()
    branches: tuple[int, ...] = ()
    is_backward: bool = False
    order: tuple[int, ...] = ()


class Value:
    """An array, and the operation that made it.

    Attributes:
        array: the value.
        op: the operation that made it; `None` for arguments and constants.
        index: which of the operation's outputs it is.
        name: what it is, if it is an argument ("x") or a constant.
    """

    __slots__ = ("_same_as", "array", "index", "is_argument", "name", "op")

    def __init__(
        self,
        array: Any,
        op: Operation | None = None,
        index: int = 0,
        name: str = "",
        is_argument: bool = False,
        same_as: Callable[[Entry | None], tuple[Value, Entry | None]] | None = None,
    ):
        self.array, self.op, self.index, self.name = array, op, index, name
        self.is_argument, self._same_as = is_argument, same_as

    def resolved(self) -> Value:
        """The value that this one is the same as: what crosses the border of a loop's iteration."""
        value = self
        while value._same_as is not None:
            value, _ = value._same_as(None)
        return value

    def traced(self, entry: Entry) -> tuple[Value, Entry]:
        """The value and the entry to look at for one that is not finite: maybe iterations ago."""
        value = self
        while value._same_as is not None:
            value, found = value._same_as(entry)
            entry = entry if found is None else found
        return value, entry


class Operation:
    """What made some values from others, and can be repeated with other inputs.

    Attributes:
        place: where it is.
        inputs: the values that it reads.
        roles: what each of them is to it: "out", "in", or "g", a gradient that arrives.
        run: from the arrays of the inputs to those of the outputs.
        targets: in the backward pass, for each output the position of the node's input whose
            gradient it is.
        look_inside: finds the entry of a value inside that is to blame, where nothing else is.
    """

    look_inside: Callable[[], Any] | None = None

    def __init__(
        self,
        place: Place,
        inputs: Sequence[Value],
        run: Callable[..., Sequence[Any]],
        roles: Sequence[str] = (),
        targets: Sequence[int] = (),
    ):
        self.place, self.inputs, self.run = place, list(inputs), run
        self.roles = list(roles) or ["in"] * len(self.inputs)
        self.targets = list(targets)

    def outputs(self) -> list[Value]:
        """Run it as recorded."""
        arrays = self.run(*(value.array for value in self.inputs))
        return [Value(array, self, i) for i, array in enumerate(arrays)]

    def source(self, index: int, entry: Entry) -> tuple[Value, Entry] | None:
        """The entry of an input to blame for an output's that is not finite; `None`: none is."""
        return _Suspects(self, index, entry).culprit()

    def others(self, index: int, entry: Entry) -> list[tuple[Value, Entry]]:
        """Entries of inputs that would each be enough to make it so, if there are several."""
        return _Suspects(self, index, entry).sufficient()


class Gathered(Operation):
    """A value of which each entry comes from one other value: slices and stacks of loops."""

    def __init__(
        self,
        place: Place,
        inputs: Sequence[Value],
        run: Callable[..., Sequence[Any]],
        origin: Callable[[Entry], tuple[Value, Entry] | None],
    ):
        super().__init__(place, inputs, run)
        self.origin = origin

    def source(self, index: int, entry: Entry) -> tuple[Value, Entry] | None:
        """Where the entry comes from."""
        return self.origin(entry)

    def others(self, index: int, entry: Entry) -> list[tuple[Value, Entry]]:
        """None."""
        return []


class _Suspects:
    """The inputs of an operation that are not finite, and an entry of its output that is not."""

    def __init__(self, op: Operation, index: int, entry: Entry):
        self.op, self.index, self.entry = op, index, entry
        self.arrays = [value.array for value in op.inputs]
        self.found = [not_finite(x) for x in self.arrays]
        self.masks = self._nans() or self.found
        dirty = [i for i, mask in enumerate(self.masks) if mask.any()]
        self.only_nan = False
        # What the forward pass made comes before what arrives from behind.
        self.dirty = sorted(dirty, key=lambda i: op.roles[i] == "g")

    def sufficient(self) -> list[tuple[Value, Entry]]:
        """Of two entries or more, one of each input that makes the output's bad alone."""
        self.only_nan, self.masks = False, self.found
        dirty = [i for i, mask in enumerate(self.found) if mask.any()]
        if sum(mask.sum() for mask in self.found) < 2 or self._is_bad({}):
            return []
        alone = [i for i in dirty if self._is_bad({i: self.found[i]})]
        return [(self.op.inputs[i], self._entry_of(i, {})) for i in alone]

    def _nans(self) -> list[np.ndarray] | None:
        """The NaNs among the inputs, if they alone make the output's entry NaN."""
        pairs = zip(self.arrays, self.found, strict=True)
        nans = [mask & np.asarray(x != x) if mask.any() else mask for x, mask in pairs]
        if not any(mask.any() for mask in nans) or not np.isnan(
            self._output(dict(enumerate(self.found)))
        ):
            return None
        return nans if np.isnan(self._output(dict(enumerate(nans)))) else None

    def _output(self, left: dict[int, np.ndarray]) -> Any:
        """The output's entry with only some of the bad entries left as they are."""
        changed = [
            _cleaned(x, mask & ~left[i] if i in left else mask)
            for i, (x, mask) in enumerate(zip(self.arrays, self.found, strict=True))
        ]
        return np.asarray(self.op.run(*changed)[self.index])[self.entry]

    def culprit(self) -> tuple[Value, Entry] | None:
        """The input's entry to blame; `None` if it would be no better without those of the inputs.

        What would be infinite anyway, but is NaN because of its inputs, was a NaN before.
        """
        if not self.dirty:
            return None
        alone, whole = self._output({}), self._output(dict(enumerate(self.found)))
        self.only_nan = bool(np.isnan(whole) and np.isinf(alone))
        if not self.only_nan and self._is_bad({}):
            return None
        everything = {i: self.masks[i] for i in self.dirty}
        for i in self.dirty:
            others = {j: mask for j, mask in everything.items() if j != i}
            if not self._is_bad(others):
                return self.op.inputs[i], self._entry_of(i, others)
        for i in self.dirty:
            if self._is_bad({i: self.masks[i]}):
                return self.op.inputs[i], self._entry_of(i, {})
        i = self.dirty[0]
        return self.op.inputs[i], first(self.masks[i])

    def _is_bad(self, left: dict[int, np.ndarray]) -> bool:
        x = self._output(left)
        return bool(np.isnan(x) if self.only_nan else not np.isfinite(x))

    def _entry_of(self, i: int, others: dict[int, np.ndarray]) -> Entry:
        """An entry of an input that the output's depends on: found by halving."""
        mask = self.masks[i]
        if mask.sum() == 1:
            return first(mask)
        if len(self.entry) == mask.ndim and all(
            e < n for e, n in zip(self.entry, mask.shape, strict=True)
        ):
            same = np.zeros_like(mask)
            same[self.entry] = mask[self.entry]
            if same.any() and self._is_bad({**others, i: same}):
                return self.entry
        places = np.flatnonzero(mask)
        low, high = 0, len(places)  # with the first `low` it is fine, with the first `high` bad
        while high - low > 1:
            middle = (low + high) // 2
            some = np.zeros(mask.size, bool)
            some[places[:middle]] = True
            if self._is_bad({**others, i: some.reshape(mask.shape)}):
                high = middle
            else:
                low = middle
        return tuple(int(e) for e in np.unravel_index(places[high - 1], mask.shape))


def _cleaned(x: Any, mask: np.ndarray) -> Any:
    return with_benign(x, mask) if mask.any() else x


# --- Arrays -----------------------------------------------------------------------------------


def literal(variable: Any) -> Any:
    """The number that a literal of a graph is, as an array."""
    return jnp.asarray(variable.val, variable.aval.dtype)


def is_inexact(x: Any) -> bool:
    """Whether an array holds floats or complex numbers."""
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, np.inexact)


def not_finite(x: Any) -> np.ndarray:
    """Where an array is NaN or infinite."""
    if not is_inexact(x):
        return np.zeros(np.shape(x) if is_numeric(x) else (), bool)
    return ~np.asarray(jnp.isfinite(x))


def is_numeric(x: Any) -> bool:
    """Whether NumPy can hold an array: it is no array of keys, and no reference."""
    return jnp.issubdtype(getattr(x, "dtype", np.float32), np.generic)


def nonzero(x: Any) -> np.ndarray:
    """Where an array is not zero; NaN is not."""
    return np.asarray(x != 0)


def with_benign(x: Any, mask: np.ndarray) -> Any:
    """The array with entries replaced where the mask is set, by numbers where functions are tame.

    No two neighbours are equal, and none is 0 or 1: differences and logarithms do not vanish.
    """
    numbers = 0.4 + 0.2 * ((np.arange(1, mask.size + 1) * 0.6180339887498949) % 1.0)
    numbers = jnp.asarray(numbers.reshape(mask.shape), jnp.asarray(x).dtype)
    return jnp.where(mask, numbers, x)


def first(mask: np.ndarray) -> Entry:
    """The index of the first entry that is set."""
    return tuple(int(e) for e in np.unravel_index(int(np.argmax(mask)), mask.shape))
