"""Numbers and sizes as a page has them: four digits, rows and columns, large arrays in short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

DIGITS, MOST = 4, 24


def number(x: Any) -> str:
    """A number to four digits.

    >>> number(-0.186895), number(3.0), number(-0.0), number(True)
    ('-0.1869', '3', '0', '1')
    """
    if np.iscomplexobj(x):
        return f"{complex(x):.{DIGITS}g}"
    return f"{float(x) + 0.0:.{DIGITS}g}"  # −0 + 0 is 0


def fits(x: Any) -> bool:
    """Whether all numbers of an array are shown."""
    return np.size(x) <= MOST and np.ndim(x) <= 3


def array(x: Any) -> str:
    """An array in one line: entries apart by commas, rows by semicolons, matrices by bars.

    >>> array([0.5, 1.0]), array([[1, -3], [0.2, 1]]), array(np.zeros((50, 2)))
    ('(0.5, 1)', '(1, -3; 0.2, 1)', '100 numbers from 0 to 0, norm 0')
    """
    if not isinstance(getattr(x, "dtype", None), np.dtype | None):
        return str(x.dtype)  # random keys
    x = np.asarray(x)
    if not fits(x):
        return _summary(x)
    return number(x) if x.ndim == 0 else number(x.ravel()[0]) if x.size == 1 else f"({_rows(x)})"


def _rows(x: np.ndarray) -> str:
    separators = (", ", "; ", " | ")
    if x.ndim == 0:
        return number(x)
    return separators[x.ndim - 1].join(map(_rows, x))


def _summary(x: np.ndarray) -> str:
    x = x.astype(complex if np.iscomplexobj(x) else float)
    norm = number(np.sqrt(np.sum(np.abs(x) ** 2)))
    if np.iscomplexobj(x):
        return f"{x.size} numbers, norm {norm}"
    return f"{x.size} numbers from {number(x.min())} to {number(x.max())}, norm {norm}"


def size(shape: Sequence[int]) -> str:
    """The size of an array; a vector is a column, a number [1 × 1].

    >>> size(()), size((2,)), size((2, 3)), size((2, 3, 4))
    ('[1 × 1]', '[2 × 1]', '[2 × 3]', '[2 × 3 × 4]')
    """
    shape = tuple(shape)
    whole = {0: (1, 1), 1: (*shape, 1)}.get(len(shape), shape)
    return f"[{' × '.join(map(str, whole))}]"


def in_layout(g: Any) -> np.ndarray:
    """A gradient in the lecture's layout: of x[n] the row [1 × n], of W[m, n] the matrix [n × m].

    What has more axes stays as it is.

    >>> in_layout(np.arange(2.0)).shape, in_layout(np.zeros((2, 3))).shape
    ((1, 2), (3, 2))
    """
    g = np.asarray(g)
    if g.ndim > 2:
        return g
    return g.T if g.ndim == 2 else g.reshape(1, -1)
