"""`missing`: which primitives of a function have no hand-written rule, and how to write one.

The function is differentiated in type only, and where the passes find no rule, the equation is
noted here instead of being left to JAX.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.tree_util import tree_flatten, tree_unflatten

from fungrad import _jax, saving
from fungrad.graph import Graph, Node
from fungrad.pullback import settings_of
from fungrad.rulebook import Gap, Halves, Rulebook

NAMES = "xywv"
"""What a stub calls the inputs, as far as the letters go."""


def missing(
    fun: Callable[..., Any], *, rules: Rulebook | None = None
) -> Callable[..., MissingRules]:
    """The primitives without a hand-written rule: `missing(fun)(*args)`.

    Only what is differentiated counts, in the function's own graph and in those of its calls. A
    gap, which keeps JAX's own rule on purpose, is listed with its reason.

    Args:
        fun: a function of pytrees of arrays; it is differentiated by all that are floats.
        rules: the rulebook; `None` is `fungrad.rules`.

    Returns:
        A function of the arguments of `fun`, arrays or `jax.ShapeDtypeStruct`s; nothing is
        computed.

    Raises:
        TypeError: `fun` is no function.

    >>> import fungrad as fg
    >>> import jax, jax.numpy as jnp
    >>> print(fg.missing(lambda x: jnp.tanh(x) ** 2)(1.0))
    every primitive that is differentiated has a hand-written rule
    >>> book = fg.Rulebook({name: fg.rules[name] for name in ("mul", "integer_pow")})
    >>> fg.missing(lambda x: jnp.tanh(x) ** 2, rules=book)(1.0).primitives
    ['tanh']
    """
    if not callable(fun):
        raise TypeError(f"fun must be a function, got {fun!r}")

    def find(*args: Any, **kwargs: Any) -> MissingRules:
        found: dict[int, tuple[Any, Gap | None]] = {}
        settings = settings_of(rules, None)._replace(missed=partial(_note, found))
        graph = settings.rules.placed(_read(fun, args, kwargs))
        active = [_jax.is_differentiable(v.aval) for v in graph.jaxpr.invars]
        wanted = [_jax.is_differentiable(v.aval) for v in graph.jaxpr.outvars]
        saving.join(graph, active, wanted, wanted, settings)
        # Nodes know the line of the call around them; derivatives by custom_jvp are no nodes.
        nodes = {id(node.equation): node for node in Graph(graph)}
        nodes |= {i: Node(e, "") for i, (e, _) in found.items() if i not in nodes}
        return _gathered([(node, found[i][1]) for i, node in nodes.items() if i in found])

    return find


def _read(fun: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The graph of `fun`, a function of those arguments alone that have gradients."""
    leaves, tree = tree_flatten((args, kwargs))
    types = [_jax.type_or_struct(leaf) for leaf in leaves]
    # Concrete integers stay what they are, so that Python code may branch on them.
    abstract = [
        _jax.is_differentiable(aval) or isinstance(leaf, jax.ShapeDtypeStruct)
        for leaf, aval in zip(leaves, types, strict=True)
    ]

    def flat(*values):
        given = iter(values)
        whole = [next(given) if a else x for x, a in zip(leaves, abstract, strict=True)]
        args, kwargs = tree_unflatten(tree, whole)
        return tree_flatten(fun(*args, **kwargs))[0]

    chosen = [aval for aval, a in zip(types, abstract, strict=True) if a]
    return _jax.trace(flat, chosen, _jax.source_of(fun))


def _note(found: dict[int, Any], equation: Any, gap: Gap | None, active, wanted, settings):
    """Note an equation, and let no gradient pass: only its type is of interest."""
    found.setdefault(id(equation), (equation, gap))

    def forward(*inputs):
        if settings.linear:
            return [_jax.Unknown(v.aval) for v in equation.outvars], []
        return _jax.bind(equation, inputs), []

    return Halves(forward, lambda saved, g, *references: [None] * len(active))


def _gathered(found: Sequence[tuple[Node, Gap | None]]) -> MissingRules:
    """One entry per primitive, in the order of the program."""
    entries: dict[str, MissingRule] = {}
    for node, gap in sorted(found, key=lambda each: each[1] is not None):
        known = entries.get(node.primitive)
        nodes = (*known.nodes, node) if known else (node,)
        entries[node.primitive] = MissingRule(node.primitive, nodes, gap and gap.reason)
    return MissingRules(tuple(entries.values()))


@dataclass(frozen=True)
class MissingRule:
    """A primitive without a hand-written rule.

    Attributes:
        primitive: its name.
        nodes: where it is used, a node for each place; `file`, `line` and `function` tell where.
        reason: why it is a gap; `None` if it is none.
    """

    primitive: str
    nodes: tuple[Node, ...]
    reason: str | None = None

    @property
    def count(self) -> int:
        """How many nodes of the graph it is."""
        return len(self.nodes)

    @property
    def places(self) -> list[str]:
        """The source lines, "file.py:41 (function)", each once."""
        lines = (f"{node.file}:{node.line} ({node.function})" for node in self.nodes)
        return list(dict.fromkeys(lines))

    @property
    def stub(self) -> str:
        """The beginning of a rule, to be pasted into a module of `fungrad.rules`."""
        return _stub(self.nodes[0].equation)


@dataclass(frozen=True)
class MissingRules:
    """The primitives without a hand-written rule; true if there are any.

    Attributes:
        entries: one per primitive; gaps come last.
    """

    entries: tuple[MissingRule, ...]

    @property
    def primitives(self) -> list[str]:
        return [entry.primitive for entry in self.entries]

    def __iter__(self) -> Iterator[MissingRule]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, primitive: str) -> MissingRule:
        for entry in self.entries:
            if entry.primitive == primitive:
                return entry
        raise KeyError(f"{primitive!r} is not missing; these are: {self.primitives}")

    def __str__(self) -> str:
        if not self.entries:
            return "every primitive that is differentiated has a hand-written rule"
        return "\n\n".join(map(_described, self.entries))

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        return "\n\n".join(map(_in_markdown, self.entries)) or str(self)


def _described(entry: MissingRule) -> str:
    lines = [f"{entry.primitive}, {entry.count} ×", *(f"    {place}" for place in entry.places)]
    if entry.reason is not None:
        return "\n".join([*lines, f"  A gap, which keeps JAX's own rule: {entry.reason}."])
    lines.append("  JAX's own rule is used there. To write one, fill in:\n")
    return "\n".join([*lines, *(f"    {line}".rstrip() for line in entry.stub.splitlines())])


def _in_markdown(entry: MissingRule) -> str:
    places = ", ".join(f"`{place}`" for place in entry.places)
    head = f"**{entry.primitive}**, {entry.count} ×: {places}"
    if entry.reason is not None:
        return f"{head}\n\nA gap, which keeps JAX's own rule: {entry.reason}."
    return f"{head}\n\n```python\n{entry.stub}```"


# --- Stubs ----------------------------------------------------------------------------------


def _stub(equation: Any) -> str:
    """A rule of the equation's primitive with holes, which are written `...`."""
    name, params = equation.primitive.name, equation.params
    inputs = _input_names(len(equation.invars), params)
    outputs = [f"g{i + 1}" for i in range(len(equation.outvars))]
    out = "z" if len(outputs) == 1 else "out"
    active = [_jax.is_differentiable(v.aval) for v in equation.invars]
    jacobian = [f"∂{out}/∂{x} = ..." for x, a in zip(inputs, active, strict=True) if a]
    answers = ["lambda: ..." if a else "None" for a in active]
    arguments = ["g", out, *inputs, *(["*", *params] if params else [])]
    lines = [
        f'@rule(\n    "{name}",\n    example=lambda draw: {_example(equation, inputs)},\n)',
        f"def {name}({', '.join(arguments)}):",
        f'    """{out} = {name}({", ".join(inputs)})        {", ".join(jacobian)}"""',
    ]
    if len(outputs) > 1:
        lines.append(f"    {', '.join(outputs)} = g  # None where no gradient arrives")
    lines.append(f"    return {', '.join(answers) if len(answers) > 1 else '...'}")
    return "\n".join(lines) + "\n"


def _input_names(count: int, params: Any) -> list[str]:
    plain = count <= len(NAMES) and not set(NAMES) & set(params)
    return list(NAMES[:count]) if plain else [f"x{i + 1}" for i in range(count)]


def _example(equation: Any, inputs: Sequence[str]) -> str:
    """A call of the primitive at drawn arguments, as `example` wants them."""
    name = equation.primitive.name
    drawn = ", ".join(_drawn(v.aval) for v in equation.invars)
    if hasattr(lax, name) and all(value is None for value in equation.params.values()):
        return drawn if len(inputs) == 1 else f"({drawn})"
    given = ", ".join([*inputs, *(f"{k}={_written(v)}" for k, v in equation.params.items())])
    return f"(lambda {', '.join(inputs)}: {name}_p.bind({given}), {drawn})"


def _drawn(aval: Any) -> str:
    """The method of `fungrad.check.examples.Draw` that draws such a value."""
    shape = ", ".join(map(str, aval.shape))
    kinds = {"f": "uniform", "c": "complex", "b": "boolean", "i": "integers", "u": "integers"}
    kind = "f" if aval.dtype.name == "bfloat16" else getattr(aval.dtype, "kind", "")
    return f"draw.{kinds[kind]}({shape})" if kind in kinds else "..."


def _written(value: Any) -> str:
    """The value as Python writes it, `...` if it has no short form."""
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_written, value))}{',' * (len(value) == 1)})"
    return repr(str(value)) if isinstance(value, np.dtype) else "..."
