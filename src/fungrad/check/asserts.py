"""One-line assertions: an `AssertionError` that says what the verdict says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fungrad.check.books import rule
from fungrad.check.functions import custom_vjp, function
from fungrad.check.verdict import Verdict
from fungrad.rulebook import Rulebook
from fungrad.selector import Selector


def assert_vjp(
    fun: Callable[..., Any],
    *args: Any,
    reference: Callable[..., Any] | None = None,
    rules: Rulebook | None = None,
    dtypes: Sequence[str] = (),
    witnesses: Sequence[str] | None = None,
) -> None:
    """Assert that the gradients of `fun` at `args` are right; see `fungrad.check.function`.

    Raises:
        AssertionError: they are not; its message is the verdict.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> fg.check.assert_vjp(jnp.sinc, jnp.array([0.0, 0.5]))
    """
    __tracebackhide__ = True
    options: Any = dict(reference=reference, rules=rules, dtypes=dtypes, witnesses=witnesses)
    _assert(function(fun, **options)(*args))


def assert_custom_vjp(
    fun: Callable[..., Any],
    *args: Any,
    reference: Callable[..., Any] | None = None,
    dtypes: Sequence[str] = (),
    witnesses: Sequence[str] | None = None,
) -> None:
    """Assert that the written rule of `fun` is right at `args`; see `fungrad.check.custom_vjp`.

    Raises:
        AssertionError: it is not; its message is the verdict.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> square = fg.custom(lambda x: x * x, lambda g, out, x: 2 * g * x)
    >>> fg.check.assert_custom_vjp(square, jnp.arange(3.0))
    """
    __tracebackhide__ = True
    options: Any = dict(reference=reference, dtypes=dtypes, witnesses=witnesses)
    _assert(custom_vjp(fun, **options)(*args))


def assert_rule(name: str | Selector, **options: Any) -> None:
    """Assert that a rule of a rulebook is right; the options are those of `fungrad.check.rule`.

    Raises:
        AssertionError: it is not; its message is the verdict.

    >>> import fungrad as fg
    >>> fg.check.assert_rule("neg", dtypes=["float32"], witnesses=["reference"])
    """
    __tracebackhide__ = True
    _assert(rule(name, **options))


def _assert(verdict: Verdict) -> None:
    __tracebackhide__ = True
    if not verdict.passed:
        raise AssertionError(str(verdict))
