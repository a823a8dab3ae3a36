"""The pytest plugin of fungrad: `check_vjp` and `check_custom_vjp`, over grids of arguments.

Without a marker the fixtures take a function and its arguments:

    def test_softplus(check_custom_vjp):
        check_custom_vjp(softplus, jnp.linspace(-3.0, 3.0, 7))

With the marker the test runs once for each shape and dtype, and the arguments are drawn, one for
each shape where there is a list of them:

    @pytest.mark.fungrad(shapes=[(), (3,), [(2, 3), (3,)]], dtypes=["float32", "bfloat16"])
    def test_add(check_vjp):
        check_vjp(add)

It stands outside of the package, so that pytest does not import JAX before the user's own
conftest.py has configured it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

_MARKER = "fungrad(shapes, dtypes=['float32'], low=-2.0, high=2.0): arguments to check gradients at"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each shape and each dtype of the marker."""
    marker = metafunc.definition.get_closest_marker("fungrad")
    if marker is not None and "_fungrad_grid" in metafunc.fixturenames:
        grid, wrong = [], ""
        try:
            grid = _grid(*marker.args, **marker.kwargs)
        except (TypeError, ValueError) as error:
            wrong = str(error)
        if wrong:
            pytest.fail(f"{metafunc.definition.nodeid}, marker fungrad: {wrong}", pytrace=False)
        metafunc.parametrize("_fungrad_grid", grid, ids=[_label(point) for point in grid])


def _grid(
    shapes: Any = None,
    dtypes: Any = ("float32",),
    low: float = -2.0,
    high: float = 2.0,
    **others: Any,
) -> list[Any]:
    if others:
        raise TypeError(f"there is no {', '.join(others)}, only shapes, dtypes, low and high")
    if not isinstance(shapes, list | tuple) or not all(map(_is_argument, shapes)) or not shapes:
        raise TypeError(
            "shapes must be a list of shapes, or of lists of them where there are several "
            f"arguments, such as shapes=[(), (3,), [(2, 3), (3,)]], got {shapes!r}"
        )
    if not isinstance(dtypes, list | tuple):
        raise TypeError(f"dtypes must be a list of names, such as ['float32'], got {dtypes!r}")
    names = [getattr(dtype, "name", None) or getattr(dtype, "__name__", dtype) for dtype in dtypes]
    for name in names:
        if name not in _DTYPES:
            raise ValueError(f"dtypes: {name!r} has no gradient; there are {', '.join(_DTYPES)}")
    if not low < high:
        raise ValueError(f"low must be less than high, got low={low} and high={high}")
    each = [shape if isinstance(shape, list) else [shape] for shape in shapes]
    return [(several, name, low, high) for several in each for name in names]


_DTYPES = ("bfloat16", "float16", "float32", "float64", "complex64", "complex128")


def _is_argument(given: Any) -> bool:
    """Whether it is a shape, or a list of shapes."""
    several = given if isinstance(given, list) else [given]
    return bool(several) and all(
        isinstance(shape, tuple) and all(isinstance(n, int) and n >= 0 for n in shape)
        for shape in several
    )


def _label(point: Any) -> str:
    shapes, dtype, *_ = point
    return "-".join([*("x".join(map(str, shape)) or "scalar" for shape in shapes), dtype])


@pytest.fixture
def _fungrad_grid() -> Any:
    return None


def _drawn(point: Any) -> list[Any]:
    """Arguments drawn at a point of the grid."""
    import jax
    import numpy as np

    shapes, dtype, low, high = point
    draw = np.random.default_rng(0)
    if dtype in ("float64", "complex128") and not jax.config.read("jax_enable_x64"):
        raise ValueError(f"dtypes: {dtype!r} needs jax.config.update('jax_enable_x64', True)")
    numbers = [draw.uniform(low, high, shape) for shape in shapes]
    if dtype.startswith("complex"):
        numbers = [x + 1j * draw.uniform(low, high, x.shape) for x in numbers]
    return [jax.numpy.asarray(x, dtype) for x in numbers]


def _checker(name: str, point: Any) -> Callable[..., None]:
    import fungrad

    check = getattr(fungrad.check, name)

    def at(fun: Callable[..., Any], *args: Any, **options: Any) -> None:
        __tracebackhide__ = True
        if not args and point is None:
            raise TypeError(
                "no arguments to check at; give them after the function, or mark the test with "
                "@pytest.mark.fungrad(shapes=[...])"
            )
        check(fun, *(args or (_drawn(point) if point else ())), **options)

    return at


@pytest.fixture
def check_vjp(_fungrad_grid: Any) -> Callable[..., None]:
    """`fungrad.check.assert_vjp`, at the arguments given, or at those that the marker draws."""
    return _checker("assert_vjp", _fungrad_grid)


@pytest.fixture
def check_custom_vjp(_fungrad_grid: Any) -> Callable[..., None]:
    """`fungrad.check.assert_custom_vjp`, likewise."""
    return _checker("assert_custom_vjp", _fungrad_grid)
