"""The pullback of a function: read it, run it forward, keep what the backward pass needs.

The transforms differ in how they present arguments and gradients; what they share is here, on
flat lists of arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.ref
import numpy as np
from jax import ad  # pyright: ignore[reportPrivateImportUsage]
from jax.tree_util import (
    register_pytree_node_class,
    tree_flatten,
    tree_leaves,
    tree_unflatten,
)

from fungrad import _jax, budget, formats, passes, saving
from fungrad.passes import Settings
from fungrad.rulebook import Rulebook
from fungrad.rules import default


def settings_of(rules: Rulebook | None, save: Any) -> Settings:
    """The settings that the keyword arguments `rules` and `save` of a transform ask for."""
    rules = default if rules is None else rules
    if not isinstance(rules, Rulebook):
        raise TypeError(f"rules must be a Rulebook such as fungrad.rules, got {rules!r}")
    is_number = isinstance(save, int | np.integer) and not isinstance(save, bool) and save > 0
    if not (is_number or save is None or save in ("everything", "nothing") or callable(save)):
        raise ValueError(
            "save must be None, 'everything', 'nothing', a policy of jax.checkpoint or a number of "
            f"bytes, got {save!r}"
        )
    return Settings(rules, save)


class _Program(NamedTuple):
    """What a `VJP` is besides its arrays.

    Attributes:
        pullback: the backward pass.
        sources: for each array that it reads, the index of the primal's leaf that it is, or `None`.
        saved: the structure of what it reads.
        primals: the structure of the primals.
        name: the name of the function.
    """

    pullback: _Pullback
    sources: tuple[int | None, ...]
    saved: Any
    primals: Any
    name: str


@register_pytree_node_class
class VJP:
    """g at the output ↦ g · ∂fun/∂primals: what `vjp` returns, a pytree of what it reads.

    Attributes:
        args_res: the primals that the backward pass reads again, in their own structure, with
            `NotNeeded` in the place of the others. They may be dropped, to save memory, and put
            back before the call.
        opaque_residuals: the other arrays that it reads.
    """

    def __init__(self, program: _Program, args_res: list[Any], opaque_residuals: list[Any]):
        self.program = program
        self.args_res, self.opaque_residuals = args_res, opaque_residuals

    @classmethod
    def of(cls, pullback: _Pullback, saved: Any, leaves: Sequence[Any], tree: Any, name: str):
        """The pullback of a function called `name`, whose primals have these leaves."""
        read, saved_tree = tree_flatten(saved)
        places = {id(leaf): i for i, leaf in enumerate(leaves)}
        sources = tuple(places.get(id(x)) for x in read)
        shown = [x if i in sources else _jax.NotNeeded() for i, x in enumerate(leaves)]
        args_res = list(tree_unflatten(tree, shown))
        opaque = [x for x, source in zip(read, sources, strict=True) if source is None]
        return cls(_Program(pullback, sources, saved_tree, tree, name), args_res, opaque)

    def __call__(self, *g: Any) -> Any:
        return tree_unflatten(self.program.primals, self._gradients(g))

    def with_refs(self, *targets: Any) -> Callable[..., Any]:
        """The pullback with its gradients added into mutable references, or left out.

        Args:
            *targets: in the structure of the primals, for each of them a reference, to which its
                gradient is added, `jax.ad.GradValue()`, to get it as an array as usual, or
                `jax.ad.DontWant()`. The gradient at a primal that is a reference itself can only
                be left in one: it holds the gradient at what the primal holds in the end, and
                then at what it held before.
        """
        goals, tree = tree_flatten(targets)
        due = self.program.primals
        if tree != due:
            raise ValueError(
                "unexpected tree structure: with_refs, of the result of vjp applied to "
                f"{self.program.name}, takes one entry per array of the primals, {due}, got {tree}"
            )
        asked = [not isinstance(goal, ad.DontWant) for goal in goals]

        def into_refs(*g):
            gradients = self._gradients(g, asked, goals)
            return tree_unflatten(due, list(map(_deliver, goals, gradients)))

        return into_refs

    def _gradients(self, g: Any, asked: Any = None, goals: Any = None) -> list[Any]:
        pullback, sources, saved, _, name = self.program
        if len(g) != 1:
            raise TypeError(
                f"the result of vjp applied to {name} was called with {len(g)} arguments; it takes "
                "one, a gradient of the output's structure: one tuple if the output is one"
            )
        leaves = tree_leaves(self.args_res, is_leaf=lambda x: isinstance(x, _jax.NotNeeded))
        opaque = iter(self.opaque_residuals)
        read = [next(opaque) if i is None else _jax.canonical(leaves[i]) for i in sources]
        return pullback(tree_unflatten(saved, read), g[0], asked, goals)

    def tree_flatten(self):
        """The arrays that it reads, and the program: what makes it a pytree."""
        return (self.args_res, self.opaque_residuals), self.program

    @classmethod
    def tree_unflatten(cls, program, children):
        """The pullback with other arrays."""
        return cls(program, *children)


def _deliver(goal: Any, g: Any) -> Any:
    """Hand a gradient to whoever asked for it: as it is, into a reference, or not at all."""
    if isinstance(goal, ad.GradValue) or getattr(g, "dtype", None) == jax.dtypes.float0:
        return g
    if isinstance(goal, ad.DontWant):
        return ad.DidntWant()
    if not _jax.is_reference(goal):
        raise TypeError(
            "with_refs takes a reference (jax.new_ref), jax.ad.GradValue() or jax.ad.DontWant() "
            f"per array of the primals, got {goal!r}"
        )
    if g is not None:  # else it is there already
        jax.ref.addupdate(goal, (), g)
    return ad.GradRef()


def pullback_of(
    flat: Callable[..., Any],
    leaves: Sequence[Any],
    fun: Callable[..., Any],
    has_aux: bool,
    settings: Settings,
) -> tuple[Any, _Pullback, Any, Any]:
    """Output, pullback, what it reads, and aux of a function of flat arguments."""
    types = [_jax.type_of(leaf) for leaf in leaves]
    # What has no gradient stays concrete, so that Python code may branch on it.
    active = [_jax.is_differentiable(aval) for aval in types]
    reader = _Reader(flat, leaves, active, has_aux)
    inputs = [leaf for leaf, a in zip(leaves, active, strict=True) if a]
    for run in (False, True):  # the function may catch what the device refuses, if it is run
        effects: Any = ()
        try:
            graph = _jax.trace_at(reader, inputs, _jax.source_of(fun), run)
            effects = graph.jaxpr.effects
            values, backward, saved = _run(graph, inputs, reader.wanted(graph), settings)
            break
        except Exception as error:
            if run or effects or not _is_refusal(error):
                raise
    size = reader.tree.num_leaves
    backward = _Pullback(backward, reader.tree, graph.out_avals, types)
    outputs = tree_unflatten(reader.tree, values[:size])
    return outputs, backward, saved, reader.restore_aux(values[size:])


def _is_refusal(error: Exception) -> bool:
    """Whether an error says that the device has not what an operation asks for."""
    return any(
        words in str(error) for words in ("not supported", "UNIMPLEMENTED", "implemented on")
    )


class _Reader:
    """A function of the differentiated leaves alone, and what was seen when it was traced."""

    def __init__(self, flat: Any, leaves: Sequence[Any], active: Sequence[bool], has_aux: bool):
        self.flat, self.leaves, self.active, self.has_aux = flat, leaves, active, has_aux
        self.tree: Any = None
        self.aux_leaves: list[Any] = []
        self.aux_tree: Any = None

    def __call__(self, *chosen: Any) -> list[Any]:
        given = iter(chosen)
        values = [next(given) if a else x for x, a in zip(self.leaves, self.active, strict=True)]
        out = self.flat(*values)
        if self.has_aux:
            if not isinstance(out, tuple | list) or len(out) != 2:
                raise TypeError(
                    "with has_aux=True the function must return a two-element tuple (output, aux), "
                    f"got {out!r}"
                )
            out, aux = out
            self.aux_leaves, self.aux_tree = tree_flatten(aux)
        outputs, self.tree = tree_flatten(out)
        outputs = [_jax.canonical(x) for x in outputs]  # what is no array is refused by name
        # Aux may hold anything; only what depends on this trace passes through the graph.
        return [*outputs, *(x for x in self.aux_leaves if _jax.is_tracer(x))]

    def wanted(self, graph: Any) -> list[bool]:
        """Which outputs of the graph have gradients: none of aux, the others if their types do."""
        types = enumerate(graph.out_avals)
        return [i < self.tree.num_leaves and _jax.is_differentiable(aval) for i, aval in types]

    def restore_aux(self, values: Sequence[Any]) -> Any:
        if self.aux_tree is None:
            return None
        given = iter(values)
        leaves = [next(given) if _jax.is_tracer(x) else x for x in self.aux_leaves]
        return tree_unflatten(self.aux_tree, leaves)


def _run(graph: Any, inputs: Sequence[Any], wanted: Sequence[bool], settings: Settings):
    """The graph's outputs, its backward pass, and what that reads."""
    active, graph = (True,) * len(inputs), settings.rules.placed(graph)
    passes.refuse_writes_outside(graph, active, settings)
    # Where no graph is being read, or one at values, operations are run as they come.
    at_once = not _jax.is_reading() or all(map(_jax.is_concrete, inputs))
    if settings.save == "everything" or (settings.save is None and at_once):
        steps = passes.plan(graph, active, wanted, settings)
        with _jax.in_pass("jvp"):
            record = passes.forward(graph, inputs, steps)
        left = (list(record.values.values()), list(record.saved.values()))
        return record.outputs, _Backward(graph, steps, record), left
    # What the function closes over is saved with the inputs, so that the pullback may leave the
    # trace that these values belong to.
    graph, closed_over = _jax.open_constants(graph)
    active = (False,) * len(closed_over) + active
    masks = active, tuple(wanted), (True,) * len(wanted)
    if isinstance(settings.save, int | np.integer):
        settings = settings._replace(save=budget.effort_within(graph, *masks, settings))
    cut = saving.split(graph, *masks, settings)

    def behind(half, values):
        return _jax.evaluate(half, values if cut.tied else _jax.barrier(values))

    halves = cut.halves(active, wanted, _jax.evaluate, behind)
    with _jax.in_pass("jvp"):
        outputs, saved = halves.forward(*closed_over, *inputs)

    def backward(saved, g, asked, held):
        gradients = halves.backward(saved, g, *held)[len(closed_over) :]
        return [x for x, w in zip(gradients, asked, strict=True) if w]

    return outputs, backward, saved


class _Backward:
    """The backward pass of a graph, a function of the values that its forward pass left."""

    def __init__(self, graph: Any, steps: Any, record: passes.Record):
        self.graph, self.steps = graph, steps
        self.variables, self.calls = list(record.values), list(record.saved)

    def __call__(self, left: Any, g: Any, asked: Sequence[bool], held: Sequence[Any]) -> list[Any]:
        values, saved = left
        record = passes.Record(
            [],
            dict(zip(self.variables, values, strict=True)),
            dict(zip(self.calls, saved, strict=True)),
        )
        return passes.backward(self.graph, self.steps, record, g, asked, held)


class _Pullback:
    """g at the output's leaves ↦ gradients at all leaves of the arguments.

    The graph's outputs are the leaves of the function's output, then those of aux.
    """

    def __init__(self, backward: Any, tree: Any, outputs: Sequence[Any], types: Sequence[Any]):
        self.backward, self.tree, self.outputs, self.types = backward, tree, outputs, types

    def __call__(self, saved: Any, g: Any, asked: Any = None, goals: Any = None) -> list[Any]:
        """Gradients at the leaves that are `asked` for; at the others `None`, or not.

        `goals` are where they go: the gradient at a leaf that is a reference is left in one.
        """
        leaves, tree = tree_flatten(g)
        if tree != self.tree:
            raise ValueError(
                "unexpected tree structure: the pullback's argument must have the structure of "
                f"the function's output, {self.tree}, got {tree}"
            )
        leaves = [_jax.canonical(leaf) for leaf in leaves]
        _jax.check_cotangents(leaves, self.outputs[: len(leaves)])
        arriving = [
            formats.as_array(leaf) if _jax.is_differentiable(aval) else None
            for leaf, aval in zip(leaves, self.outputs, strict=False)
        ]
        aux = [None] * (len(self.outputs) - len(leaves))
        active = [_jax.is_differentiable(aval) for aval in self.types]
        asked = [True] * len(active) if asked is None else asked
        mutable = [a and _jax.is_reference_type(t) for a, t in zip(active, self.types, strict=True)]
        held = [self._held(i, asked, goals) for i, m in enumerate(mutable) if m]
        of_active = [w or m for w, m, a in zip(asked, mutable, active, strict=True) if a]
        with _jax.in_pass("transpose", "jvp"):
            gradients = iter(self.backward(saved, arriving + aux, of_active, held))
        return [
            self._built(gradients, aval) if w or not a else None
            for aval, a, w in zip(self.types, active, asked, strict=True)
        ]

    def _held(self, i: int, asked: Sequence[bool], goals: Sequence[Any] | None) -> Any:
        """The reference to the gradient at what leaf i refers to."""
        if not asked[i]:
            return passes.gradient_reference(self.types[i])
        if goals is None or not _jax.is_reference(goals[i]):
            raise ValueError(
                f"leaf {i} of the primals, a {self.types[i]}, is Ref-typed, so its gradient must "
                "be accumulated into a ref, but no gradient ref was provided. Give one to the "
                "pullback, with the others' places: pullback.with_refs(jax.ad.GradValue(), ref)(g)"
            )
        return goals[i]

    def _built(self, gradients: Any, aval: Any) -> Any:
        if _jax.is_reference_type(aval) and _jax.is_differentiable(aval):
            return next(gradients)
        if not _jax.is_differentiable(aval):
            return np.zeros(aval.shape, jax.dtypes.float0)
        g = next(gradients)
        return _jax.zeros(aval) if g is None else _jax.with_weakness_of(g, aval)


# --- Jacobians --------------------------------------------------------------------------------


def rows_through(
    pullback: Callable[..., Any], outputs: Sequence[Any], leaves: Sequence[Any]
) -> list[list[Any]]:
    """For each output the list of its Jacobians, one per leaf of the arguments."""
    if not outputs:
        return []
    sizes = [int(np.size(leaf)) for leaf in outputs]
    starts = np.cumsum([0, *sizes])
    count = starts[-1]
    types = [_jax.gradient_type(_jax.type_of(leaf)) for leaf in outputs]
    units = zip(types, sizes, starts, strict=False)
    units = [(aval, jnp.eye(count, n, -start, dtype=aval.dtype)) for aval, n, start in units]
    basis = [
        _jax.moved_to(rows.reshape(count, *aval.shape), _jax.stacked_type(aval, count))
        for aval, rows in units
    ]
    active = [_jax.is_differentiable(_jax.type_of(leaf)) for leaf in leaves]

    def row(*g):
        return [x for x, a in zip(pullback(g), active, strict=True) if a]

    rows = iter(jax.vmap(row)(*basis))
    stacks = [next(rows) if a else None for a in active]
    return [
        [
            _block(stack, start, n, np.shape(leaf) + np.shape(argument))
            for stack, argument in zip(stacks, leaves, strict=True)
        ]
        for leaf, start, n in zip(outputs, starts, sizes, strict=False)
    ]


def _block(stack: Any, start: int, n: int, shape: tuple[int, ...]) -> Any:
    """The rows of one output, their first axis folded into the output's; float0 for no rows."""
    if stack is None:
        return np.zeros(shape, jax.dtypes.float0)
    axes = [*[None] * (len(shape) - stack.ndim + 1), *range(1, stack.ndim)]
    place = _jax.sharding_of(_jax.type_of(stack), axes)
    return jax.lax.reshape(stack[start : start + n], shape, out_sharding=place)
