"""`draw`: the graph of a small function, a value and a gradient on every edge.

What is shown is read here, where it goes is decided in layout.py, how it looks in drawing.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_flatten

from fungrad import _arguments, _jax
from fungrad.inspect import programs
from fungrad.inspect.arguments import named_graph
from fungrad.inspect.drawing import Box, Drawing, Operation
from fungrad.inspect.programs import Cutter, Program, Unit, Value
from fungrad.rulebook import Rulebook
from fungrad.transforms import vjp

SYMBOLS = {
    "add": "+",
    "add_any": "+",
    "sub": "−",
    "neg": "−",
    "mul": "×",
    "div": "÷",
    "dot_general": "·",
    "reduce_sum": "Σ",
    "reduce_prod": "Π",
    "sqrt": "√",
    "square": "x²",
    "transpose": "xᵀ",
    "logistic": "σ",
    "reduce_max": "max",
    "reduce_window_max": "max pool",
    "reduce_window_sum": "sum pool",
    "conv_general_dilated": "conv",
    "broadcast_in_dim": "broadcast",
    "convert_element_type": "convert",
    "select_n": "select",
    "dynamic_slice": "slice",
}
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def draw(
    fun: Callable[..., Any],
    *,
    unfold: bool | str | Sequence[str] = False,
    cotangent: Any = None,
    rules: Rulebook | None = None,
) -> Callable[..., Drawing]:
    """Draw the graph of a function: `draw(fun)(*args)`.

    Boxes are edges, "name | value | gradient", circles are operations; a call (jit, scan, ...) is
    one of them, and so is what is done in a `jax.named_scope`, unless it is unfolded. An edge bears
    the name of its argument, or the one that `fungrad.name` gave it. The larger a value or a
    gradient, the deeper its colour. All comes from one forward and one backward pass. Arrays are
    inputs of the graph, and so are Python floats; other Python numbers are part of the function.

    Args:
        fun: a function of pytrees of arrays.
        unfold: which scopes and jitted functions are drawn with what is inside: `True` all of
            them, or their names; a path ("block0/attention") and globs ("block*") are names too.
        cotangent: the gradient at the output, in the output's structure; `None` is 1, for a
            function whose output is a real scalar.
        rules: the rulebook; `None` is `fungrad.rules`.

    Raises:
        TypeError: `fun` is no function; when called: the output is no real scalar and there is no
            cotangent, or the arguments are being traced.
        ValueError: when called: the cotangent does not fit the output.
        LookupError: when called: no scope and no function has a name to unfold.

    >>> import fungrad as fg
    >>> print(fg.draw(lambda w, x, b: w * x + b)(2.0, 3.0, 1.0))
    edge   value | gradient
    w          2 | 3
    x          3 | 2
    b          1 | 1
    ×          6 | 1
    + out      7 | 1
    """
    if not callable(fun):
        raise TypeError(f"fun must be a function, got {fun!r}")

    def drawing(*args: Any, **kwargs: Any) -> Drawing:
        graph, arrays, names, tree = named_graph(fun, args, kwargs)
        program = programs.program(graph)
        units = _units(program, unfold)
        pairs = zip(graph.jaxpr.jaxpr.outvars, program.outputs, strict=True)
        edges = {v: names[x] for x, v in pairs if not isinstance(x, _jax.Literal)}
        pairs = zip(graph.jaxpr.jaxpr.invars, program.inputs, strict=True)
        edges.update((v, names[variable]) for variable, v in pairs)
        values, gradients = _run(program, units, arrays, tree, cotangent, rules)
        return _assembled(program, units, {**edges, **program.given}, values, gradients)

    return drawing


# --- Scopes, folded or not ----------------------------------------------------------------------


def _units(program: Program, unfold: bool | str | Sequence[str]) -> list[Unit]:
    """The operations of the program; those of a folded scope or function are one."""
    if isinstance(unfold, str):
        unfold = [unfold]
    addresses = [_address(operation) for operation in program.operations]
    paths = {"/".join(n for n, _ in at[:k]) for at in addresses for k in range(1, len(at) + 1)}
    for pattern in unfold if not isinstance(unfold, bool) else ():
        if not any(_is_named(path, pattern) for path in paths):
            raise LookupError(
                f"unfold: no scope and no function is called {pattern!r}; there are {sorted(paths)}"
            )

    def is_open(path):
        return unfold if isinstance(unfold, bool) else any(_is_named(path, p) for p in unfold)

    opened = {path for path in paths if is_open(path)}
    folds = [_fold(*pair, opened) for pair in zip(program.operations, addresses, strict=True)]
    active = _depending(program)
    cutter, found = Cutter(program, set()), []
    for (key, name), pairs in groupby(zip(folds, program.operations, strict=True), lambda p: p[0]):
        run = [operation for _, operation in pairs]
        if key is None:  # what is not in a scope
            found += _by_calls(cutter, run, active)
        else:
            found.append(cutter.unit(run, name))
    return found


def _by_calls(cutter: Cutter, run: list[programs.Operation], active: set[Value]) -> Iterator[Unit]:
    """Each operation is drawn; of what no float has a part in, such as labels, the calls only."""

    def call(operation):
        passive = active.isdisjoint(operation.outputs) and operation.function
        return operation.frames if passive and operation.frames else id(operation)

    for _, group in groupby(run, call):
        whole = cutter.unit(each := list(group), each[-1].function if len(each) > 1 else "")
        several = len(each) > 1 and len(whole.outputs) != 1
        yield from (cutter.unit([one], "") for one in each) if several else [whole]


def _depending(program: Program) -> set[Value]:
    """The floats that depend on arguments of floats."""
    active = {v for v in program.inputs if v.is_float}
    for operation in program.operations:
        if not active.isdisjoint(operation.inputs):
            active.update(v for v in operation.outputs if v.is_float)
    return active


def _is_named(path: str, pattern: str) -> bool:
    """Whether a pattern names a path, its last part, or something inside of it."""
    parts, wanted = path.split("/"), pattern.split("/")
    along = len(parts) <= len(wanted) and all(map(fnmatchcase, parts, wanted))
    return along or fnmatchcase(parts[-1], pattern)


def _address(operation: programs.Operation) -> tuple[tuple[str, int], ...]:
    """The scopes and functions around an operation, outermost first; each call is another."""
    found: list[tuple[str, int]] = []
    for node in (*operation.path, operation.node):
        inner = node.scope.split("/") if node.scope else []
        scopes = [name for name, call in found if not call]
        found += [(name, 0) for name in inner[len(scopes) :]]
        if node is not operation.node:
            found.append((node.callee or node.primitive, id(node)))
    return tuple(found)


def _fold(operation: programs.Operation, address: Any, opened: set[str]) -> tuple[Any, str]:
    """The first scope around an operation that is not open, if there is one, and its name."""
    for k in range(1, len(address) + 1):
        if "/".join(name for name, _ in address[:k]) not in opened:
            return address[:k], address[k - 1][0]
    return None, ""


# --- Values and gradients -----------------------------------------------------------------------


def _run(
    program: Program,
    units: Sequence[Unit],
    arrays: list[Any],
    tree: Any,
    cotangent: Any,
    rules: Rulebook | None,
) -> tuple[dict[Value, Any], dict[Value, Any]]:
    """The value of every edge, and the gradient of every edge of floats or complex numbers."""
    edges = [*program.inputs, *program.constants, *(v for u in units for v in u.outputs)]
    watched = [v for v in edges if v.is_float]

    def shifted(shifts):
        """Every edge x is x + shift, so that ∂out/∂shift is the gradient of the edge."""
        shift_of, values = dict(zip(watched, shifts, strict=True)), {}

        def put(edges, given):
            for v, x in zip(edges, given, strict=True):
                values[v] = _jax.add(x, shift_of[v]) if v in shift_of else x

        put(program.inputs, arrays)
        put(program.constants, [v.constant for v in program.constants])
        for unit in units:
            put(unit.outputs, unit.run(values))
        return [values.get(v, v.constant) for v in program.outputs], [values[v] for v in edges]

    # x + (−0) is x, to the sign of a zero.
    shifts = [_jax.with_weakness_of(-_jax.zeros(v.aval), v.aval) for v in watched]
    outputs, pullback, values = vjp(shifted, shifts, has_aux=True, rules=rules)
    if not _arguments.known(*values):
        raise TypeError("draw shows values, which a function under jit, vmap or grad has none of")
    (gradients,) = pullback(_at_outputs(outputs, tree, cotangent))
    return dict(zip(edges, values, strict=True)), dict(zip(watched, gradients, strict=True))


def _at_outputs(outputs: Sequence[Any], tree: Any, cotangent: Any) -> list[Any]:
    """The gradients at the leaves of the output."""
    types = [_arguments.describe(x) for x in outputs]
    if cotangent is None:
        scalar = len(types) == 1 and jnp.shape(outputs[0]) == ()
        if not scalar or not jnp.issubdtype(jnp.result_type(outputs[0]), jnp.floating):
            raise TypeError(
                "draw shows the gradients of one real scalar, but the function returns "
                f"{', '.join(types)}; reduce it, e.g. by jnp.sum, or give cotangent="
            )
        return [jnp.ones_like(outputs[0])]
    given, structure = tree_flatten(cotangent)
    if structure == tree:
        pairs = zip(given, outputs, strict=True)
        given = [jnp.asarray(g, jnp.result_type(x)) if np.isscalar(g) else g for g, x in pairs]
    got = [_arguments.describe(g) for g in given]
    if structure != tree or got != types:
        raise ValueError(
            f"cotangent must be like the function's output, {', '.join(types)} in the structure "
            f"{tree}; got {', '.join(got)} in {structure}"
        )
    return given


# --- Items and links ----------------------------------------------------------------------------


def _assembled(
    program: Program,
    units: Sequence[Unit],
    names: dict[Value, str],
    values: dict[Value, Any],
    gradients: dict[Value, Any],
) -> Drawing:
    """Boxes and circles in program order, and the links between them."""
    items: list[Box | Operation] = []
    links: list[tuple[int, int]] = []
    place: dict[Value, int] = {}
    fixed = _constants(program, units)

    def box(v):
        if v not in place:
            place[v] = len(items)
            value = values.get(v, v.constant)
            items.append(Box(names.get(v, ""), value, None if v in fixed else gradients.get(v)))
        return place[v]

    for v in (*program.inputs, *program.constants):
        box(v)
    for unit in units:
        if not fixed.isdisjoint(unit.outputs):
            continue
        operands = [box(v) for v in dict.fromkeys(_operands(unit))]
        circle = len(items)
        items.append(Operation(_symbol(unit), bool(unit.title)))
        links += dict.fromkeys((operand, circle) for operand in operands)
        links += [(circle, box(v)) for v in unit.outputs]
    for v in program.outputs:
        if v not in place:
            box(v)
    return Drawing(tuple(items), tuple(links))


def _operands(unit: Unit) -> Iterator[Value]:
    """What a unit reads; the numbers that are part of a folded scope are not shown."""
    made = {v for operation in unit.operations for v in operation.outputs}
    for operation in unit.operations:
        for v in operation.inputs:
            if v not in made and (v in unit.inputs or not unit.title):
                yield v


def _constants(program: Program, units: Sequence[Unit]) -> set[Value]:
    """What no argument has a part in: zeros that are broadcast, say. A box without an operation."""
    known: set[Value] = set()
    for unit in units:
        if not unit.title and all(v.constant is not None or v in known for v in _operands(unit)):
            known.update(unit.outputs)
    return known - set(program.outputs)


def _symbol(unit: Unit) -> str:
    node = unit.operations[-1].node
    if unit.title:
        return unit.title
    if node.primitive == "integer_pow":
        return "x" + str(node.params["y"]).translate(SUPERSCRIPTS)
    return SYMBOLS.get(node.primitive) or (node.callee or node.primitive).lstrip("_")
