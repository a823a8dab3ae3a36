"""Checks of functions: any function, and those that have rules of their author."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, wraps
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from fungrad import _arguments
from fungrad.check.arrays import checked_formats, formats_of, in_format, is_float, random_like
from fungrad.check.cases import Case, pull_by
from fungrad.check.judging import checked_witnesses, verdict_on
from fungrad.check.programs import primitives, stops, without_authored_rules
from fungrad.check.running import run_once
from fungrad.check.verdict import Verdict
from fungrad.rulebook import Rulebook
from fungrad.transforms import vjp

_CALLBACKS = frozenset({"pure_callback", "io_callback"})


def function(
    fun: Callable[..., Any],
    *,
    reference: Callable[..., Any] | None = None,
    rules: Rulebook | None = None,
    dtypes: Sequence[str] = (),
    witnesses: Sequence[str] | None = None,
) -> Callable[..., Verdict]:
    """Prove the gradients of a function, as `fungrad.vjp` computes them, at given arguments.

    They are compared with JAX's of the reference, with differences, and with themselves in other
    formats and under other transforms.

    Args:
        fun: a function of pytrees of arrays.
        reference: a function with the same values, whose gradients by JAX are those that `fun`
            should have; `None`: `fun` without the rules that authors wrote in it.
        rules: the rulebook; `None` is `fungrad.rules`.
        dtypes: formats in which to repeat the check, besides those of the arguments.
        witnesses: the names of those to hear; `None`: all.

    Returns:
        A function of `fun`'s arguments that returns the verdict; those given by keyword are not
        differentiated.

    Raises:
        TypeError: when called: no argument, or no output, is an array of floats.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> fg.check.function(jnp.logaddexp)(jnp.arange(3.0), 1.0).passed
    True
    """

    def transform(f, *points):
        return vjp(f, *points, rules=rules)

    is_stated = reference is not None
    return _checker(fun, transform, None, reference, is_stated, dtypes, witnesses)


def custom_vjp(
    fun: Callable[..., Any],
    *,
    reference: Callable[..., Any] | None = None,
    dtypes: Sequence[str] = (),
    witnesses: Sequence[str] | None = None,
) -> Callable[..., Verdict]:
    """Prove the written rule of a `jax.custom_vjp`, `jax.custom_jvp` or `fungrad.custom` function.

    Args:
        fun: the function.
        reference: a function with the same values, whose gradients by JAX are those that `fun`
            should have; `None`: the function that `fun` decorates.
        dtypes: formats in which to repeat the check, besides those of the arguments.
        witnesses: the names of those to hear; `None`: all.

    Returns:
        A function of `fun`'s arguments that returns the verdict; those given by keyword are not
        differentiated.

    Raises:
        TypeError: `fun` decorates no function, and there is no reference. When called: no
            argument, or no output, is an array of floats.

    >>> import fungrad as fg
    >>> import jax, jax.numpy as jnp
    >>> @jax.custom_vjp
    ... def double(x):
    ...     return 2.0 * x
    >>> double.defvjp(lambda x: (double(x), None), lambda _, g: (3.0 * g,))
    >>> verdict = fg.check.custom_vjp(double)(jnp.ones(3))
    >>> verdict.passed, verdict.faults[0].argument, verdict.faults[0].got / verdict.faults[0].want
    (False, 'x', 1.5)
    """
    is_stated = reference is not None
    plain = reference if is_stated else getattr(fun, "__wrapped__", None)
    if not callable(plain):
        raise TypeError(
            f"fun must be a custom_vjp, custom_jvp or fungrad.custom function, got {fun!r}; "
            "for another one give a reference, or use fungrad.check.function"
        )
    return _checker(fun, jax.vjp, vjp, plain, is_stated, dtypes, witnesses)


def _checker(
    fun: Callable[..., Any],
    transform: Callable[..., Any],
    other: Callable[..., Any] | None,
    reference: Callable[..., Any] | None,
    is_stated: bool,
    dtypes: Sequence[str],
    witnesses: Sequence[str] | None,
) -> Callable[..., Verdict]:
    name = getattr(fun, "__name__", type(fun).__name__)
    formats = checked_formats(dtypes)
    checked_witnesses(witnesses)
    for argument, given in {"fun": fun, "reference": reference}.items():
        if given is not None and not callable(given):
            raise TypeError(
                f"{argument} must be a function, got {given!r}; give the function itself, and "
                "its arguments to what this returns"
            )

    def check(*args: Any, **named: Any) -> Verdict:
        f, known = _with(fun, named), _with(reference, named)
        cases = [case_of(f, args, transform, known, other, is_stated)]
        for dtype in formats:
            with formats_of([np.zeros((), dtype)] if dtype == "float64" else []):
                moved = in_format(jax.tree.map(_as_array, args), dtype)
                case = case_of(f, moved, transform, known, other, is_stated)
            cases.append(replace(case, narrow=case.exact is not None))
        return verdict_on(name, cases, witnesses)

    return check


def _with(function: Callable[..., Any] | None, named: dict[str, Any]) -> Any:
    """The function with keyword arguments, which are not differentiated."""
    return wraps(function)(partial(function, **named)) if function and named else function


def case_of(
    fun: Callable[..., Any],
    args: Sequence[Any],
    transform: Callable[..., Any],
    reference: Callable[..., Any] | None = None,
    other: Callable[..., Any] | None = None,
    is_stated: bool = False,
) -> Case:
    """The case of a function at arguments, by `transform`, which is `jax.vjp` or the like."""
    named, tree = jax.tree_util.tree_flatten_with_path(tuple(args))
    leaves = [_as_array(leaf) for _, leaf in named]
    places = [i for i, leaf in enumerate(leaves) if _has_gradient(leaf)]
    names = _names_of(fun, len(args))
    paths = [names[path[0].idx] + jax.tree_util.keystr(path[1:]) for path, _ in named]
    points = [leaves[i] for i in places]

    def flattened(f):
        def flat(*points):
            given = list(leaves)
            for i, x in zip(places, points, strict=True):
                given[i] = x
            outputs = jax.tree.leaves(f(*jax.tree.unflatten(tree, given)))
            return [z for z in map(jnp.asarray, outputs) if is_float(z)]

        return flat

    flat = flattened(fun)
    name = getattr(fun, "__name__", type(fun).__name__)
    where = ", ".join(_describe(*pair) for pair in zip(paths, leaves, strict=True))
    if not points:
        raise TypeError(
            f"{name} was given no array of floats, so that it has no gradient: "
            f"{where or 'no arguments'}; give some argument as floats"
        )
    for path, x in zip((paths[i] for i in places), points, strict=True):
        if isinstance(x, jax.ShapeDtypeStruct):
            raise TypeError(f"{path} is a type, {x}; a check compares numbers, so give an array")
        if not _arguments.known(x):
            raise TypeError(
                f"{path} is traced; a check compares numbers, so call it outside of jax.jit, "
                "jax.vmap and jax.grad"
            )
        if np.isnan(np.asarray(x)).any():
            raise ValueError(f"{path} holds NaN, where nothing can be compared; give numbers")
    try:
        outputs = jax.eval_shape(flat, *points)
    except Exception as error:
        error.add_note(f"fungrad.check called {name} with {where}")
        raise
    if not outputs:
        raise TypeError(
            f"{name} returns no array of floats, so that it has no gradient; "
            "let it return the values that are to be differentiated"
        )
    known = flattened(fun if reference is None else reference)
    _check_reference(name, jax.eval_shape(known, *points), outputs)
    case = Case(
        name=name,
        where=where,
        paths=tuple(paths[i] for i in places),
        points=points,
        g=_at_numbers(random_like(outputs, seed=1), flat, points),
        function=flat,
        pull=pull_by(transform, flat),
        engine=None if other is None else pull_by(other, flat),
        vjp=lambda *points: transform(flat, *points),
        is_stated=is_stated,
        stops=stops(jax.make_jaxpr(flat)(*points)),
    )
    case = _with_reference(case, known)
    return replace(case, exact=_exactly(case, known))


def _at_numbers(g: list[Any], flat: Callable[..., list[Any]], points: list[Any]) -> list[Any]:
    """Gradients at outputs, with zeros at those that are no numbers: they have no slope."""
    try:
        outputs = run_once(flat, *points)
    except Exception:  # of any type: the witnesses say that it does not run, or why
        return g
    return [np.where(np.isnan(z), np.zeros_like(x), x) for x, z in zip(g, outputs, strict=True)]


def _check_reference(name: str, given: list[Any], due: list[Any]) -> None:
    kinds = [[f"{z.dtype}{list(z.shape)}" for z in outputs] for outputs in (given, due)]
    if kinds[0] != kinds[1]:
        raise TypeError(
            f"reference must return what {name} returns, {', '.join(kinds[1])}, got "
            f"{', '.join(kinds[0]) or 'no array of floats'}"
        )


def _with_reference(case: Case, known: Callable[..., Any]) -> Case:
    """The case with the reference if JAX can differentiate it, without its authors' rules.

    But with them, if the user stated it.
    """
    found = replace(case, reference=known if case.is_stated else without_authored_rules(known))
    try:
        jax.eval_shape(found.by_reference, list(case.g), list(case.points))
    except Exception:  # of any type: JAX cannot, as for a callback or a while loop
        return case
    return found


def _exactly(case: Case, known: Callable[..., Any]) -> Case | None:
    """The case in float64, if it is in a narrower format and the function takes that one."""
    if all(x.dtype in (np.float64, np.complex128) for x in case.points):
        return None
    # A callback runs in a thread of its own, where 64-bit formats are as the user has set them.
    calls_back = _CALLBACKS & primitives(jax.make_jaxpr(case.function)(*case.points))
    if calls_back and not jax.config.read("jax_enable_x64"):
        return None
    with formats_of([np.zeros((), "float64")]):
        points, g = in_format([case.points, case.g], "float64")
        # A rule may cast to the format that it was given.
        exact = replace(case, points=points, g=g, reference=None, granted=case.coarsest)
        try:
            outputs, gradients = run_once(case.function, *points), run_once(case.pull, g, points)
        except Exception:  # of any type: the function wants the format that it was given
            return None
        pairs = zip([*outputs, *gradients], [*g, *points], strict=True)
        if any(found.dtype != due.dtype for found, due in pairs):
            return None
        return _with_reference(exact, known)


def _as_array(leaf: Any) -> Any:
    """Floats become arrays; integers may be axes and the like, and stay as they are."""
    floats = float | complex | np.ndarray | np.generic
    return jnp.asarray(leaf) if isinstance(leaf, floats) else leaf


def _has_gradient(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and is_float(leaf)


def _names_of(fun: Callable[..., Any], count: int) -> list[str]:
    try:
        parameters = inspect.signature(fun).parameters.values()
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names[:count] + [f"argument {i}" for i in range(len(names), count)]


def _describe(path: str, leaf: Any) -> str:
    what = f"{leaf.dtype}{list(leaf.shape)}" if hasattr(leaf, "dtype") else repr(leaf)
    return f"{path} {what}"
