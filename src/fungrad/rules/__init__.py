"""The hand-written rules, one module per kind; `default` is the book of them all."""

from fungrad.rulebook import Rulebook
from fungrad.rules import (
    calls,
    collective,
    contraction,
    control,
    elementwise,
    folding,
    fourier,
    gaps,
    indexing,
    nothing,
    numbers,
    powers,
    random,
    reduction,
    shape,
    sorting,
    special,
)

default = Rulebook.of(
    elementwise,
    powers,
    numbers,
    special,
    contraction,
    fourier,
    shape,
    reduction,
    folding,
    indexing,
    sorting,
    random,
    collective,
    nothing,
    gaps,
    calls,
    control,
)
