"""Rules of differentiation as values: what a rule is, and the immutable book that holds them.

A rule is a pure function `(g, out, *inputs, **params)` that returns one gradient per input:
`g_in = g · ∂out/∂in`, where g is the gradient at the node's output. Its docstring states the
function and its Jacobian; that line is data, for tests, docs and error messages print it.

What a rule may return, per input:

- an array of the input's shape and dtype (where the primitive broadcasts, the backward pass sums
  a gradient of the output's shape back to the input's);
- a function without arguments that returns such an array, called only when someone asks for
  the gradient of that input (`lambda: g @ W`);
- `None`, a zero that is never built.

An equation's parameters arrive as keywords; a rule names those that it reads.

A primitive of several outputs hands its rule tuples `g` and `out`; an entry of `g` is `None`
where no gradient arrives. A rule with a keyword `active` is told which inputs are differentiated.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

from fungrad import _jax, placing
from fungrad.graph import Graph, Node, Selector


@dataclass(frozen=True)
class Rule:
    """One primitive's rule: its function, its Jacobian line, its lazy example.

    Attributes:
        primitive: the primitive's name in a jaxpr, or a function's name ("relu").
        function: `(g, out, *inputs, **params)` -> one gradient, or a tuple of them.
        broadcasts: gradients of the output's shape are summed back to the input's shape.
        reason: why there is no gradient, for the primitives that have none.
        example: `draw -> (function, *arguments)`, or the arguments alone for `jax.lax.NAME`, or
            a list of such. It is called by the tests only.
        kink: what the gradient is where the function has none, as one line; empty if smooth.
        instead: the rule that it replaces in a book, if it does.
    """

    primitive: str
    function: Callable[..., Any]
    broadcasts: bool = False
    reason: str | None = None
    example: Callable[[Any], Any] | None = field(default=None, compare=False)
    kink: str = field(default="", compare=False)
    instead: Any = field(default=None, compare=False)

    @property
    def jacobian(self) -> str:
        """The docstring's first line: what the function is, and its Jacobian."""
        return (self.function.__doc__ or "").strip().split("\n")[0]

    @property
    def is_the_users(self) -> bool:
        """Whether it was written outside of fungrad, and put into a book by `replace`."""
        module = getattr(self.function, "__module__", None) or ""
        return self.example is None and self.reason is None and module.split(".")[0] != "fungrad"

    def __call__(self, g: Any, out: Any, *inputs: Any, **params: Any) -> Any:
        """Apply the rule; a function that takes no `**params` is given those that it names."""
        if self.named is not None:
            taken = self.positional[: 2 + len(inputs)]
            named = [name for name in self.named if name not in taken]
            params = {name: params[name] for name in named if name in params}
        return self.function(g, out, *inputs, **params)

    @cached_property
    def named(self) -> tuple[str, ...] | None:
        """The names of the function's parameters, `None` if it takes any."""
        parameters = inspect.signature(self.function).parameters.values()
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            return None
        return tuple(p.name for p in parameters if p.kind is not p.POSITIONAL_ONLY)

    @cached_property
    def asks_what_is_active(self) -> bool:
        """Whether the function has a keyword `active`: which inputs are differentiated."""
        parameter = inspect.signature(self.function).parameters.get("active")
        return parameter is not None and parameter.kind is parameter.KEYWORD_ONLY

    @cached_property
    def positional(self) -> tuple[str, ...]:
        """The names of the function's positional parameters: g, out, the inputs, then others."""
        parameters = inspect.signature(self.function).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)


def rule(
    primitive: str, *, example: Callable[[Any], Any], kink: str = "", broadcasts: bool = False
):
    """Decorator: the function below is the rule of `primitive`."""

    def register(function: Callable[..., Any]) -> Rule:
        return Rule(primitive, function, broadcasts, None, example, kink)

    return register


def elementwise(primitive: str, *, example: Callable[[Any], Any], kink: str = ""):
    """Decorator: the rule of a function with a diagonal Jacobian; its inputs may broadcast."""
    return rule(primitive, example=example, kink=kink, broadcasts=True)


def no_gradient(primitive: str, *, reason: str, example: Callable[[Any], Any]) -> Rule:
    """A primitive through which no gradient flows, and the reason why."""

    def nothing(g, out, *inputs, **params):
        return (None,) * len(inputs)

    nothing.__doc__ = f"∂out/∂in = 0: {reason}"
    return Rule(primitive, nothing, False, reason, example)


@dataclass(frozen=True)
class Halves:
    """A differentiated call, cut in two.

    Attributes:
        forward: `(*inputs) -> (outputs, saved)`, both lists.
        backward: `(saved, g, *references) -> gradients`; g holds one entry per output, `None` for
            zero; the answer one entry per input. A mutable reference among the differentiated
            inputs has no gradient of its own: `references` are those, one for each, that hold
            the gradients at what they hold.
        any_format: whether g may come in other formats than the outputs' (formats.py).
    """

    forward: Callable[..., tuple[list[Any], list[Any]]]
    backward: Callable[..., list[Any]]
    any_format: bool = False


@dataclass(frozen=True)
class CallRule:
    """The rule of an equation that holds a sub-graph (jit, scan, cond, a custom function).

    Attributes:
        primitive: the primitive's name.
        split: `(equation, active, wanted, settings) -> Halves`. `active` tells which inputs are
            differentiated, `wanted` which outputs bring a gradient back.
        activity: `(equation, active, settings) -> tuple[bool, ...]`: which outputs depend on the
            active inputs; then, if it writes to references, which inputs are active in the end.
        example: as for `Rule`.
    """

    primitive: str
    split: Callable[..., Halves]
    activity: Callable[..., tuple[bool, ...]]
    example: Callable[[Any], Any] | None = field(default=None, compare=False)
    reason = None
    kink = ""

    @property
    def jacobian(self) -> str:
        return (self.split.__doc__ or "").strip().split("\n")[0]


@dataclass(frozen=True)
class Gap:
    """A primitive that keeps JAX's own rule, and the reason why.

    Attributes:
        primitive: the primitive's name.
        reason: why no rule is written for it.
    """

    primitive: str
    reason: str
    example = None
    kink = ""

    @property
    def jacobian(self) -> str:
        return f"∂out/∂in: {self.reason}"


def gap(primitive: str, *, reason: str) -> Gap:
    """A primitive that keeps JAX's own rule, because `reason`; a strict book refuses it."""
    return Gap(primitive, reason)


AnyRule = Rule | CallRule | Gap


class Rulebook:
    """An immutable, hashable set of rules; `fungrad.rules` is the default one.

    `replace` makes another book. Equal replacements make equal books, so a book may be a static
    argument of `jax.jit` and is part of the key of every cache.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> straight = fg.rules.replace({"tanh": lambda g, out, x: g})
    >>> float(fg.grad(jnp.tanh, rules=straight)(0.5))
    1.0
    >>> float(fg.grad(jnp.tanh)(0.5)).__round__(3)
    0.786
    """

    __slots__ = (
        "__weakref__",
        "_contents",
        "_hash",
        "_rules",
        "_selects",
        "placement",
        "replaced",
        "strict",
    )

    replaced: Mapping[str | Selector, Rule]
    strict: bool
    placement: Callable[..., Any] | None

    def __init__(
        self,
        rules: Mapping[str, AnyRule],
        replaced: Mapping[str | Selector, Rule] | None = None,
        strict: bool = False,
        placement: Callable[..., Any] | None = None,
    ):
        set_once = super().__setattr__
        set_once("_rules", dict(rules))
        set_once("replaced", MappingProxyType(dict(replaced or {})))
        set_once("strict", strict)
        set_once("placement", placement)
        # The order of replacements matters, but not that of names between two selectors.
        ordered = list(self.replaced.items())
        selected = [(key, rule) for key, rule in ordered if isinstance(key, Selector)]
        named = [
            (key, rule, sum(isinstance(earlier, Selector) for earlier, _ in ordered[:i]))
            for i, (key, rule) in enumerate(ordered)
            if isinstance(key, str)
        ]
        set_once("_selects", bool(selected))
        said = (frozenset(self._rules.items()), frozenset(named), tuple(selected))
        contents = (*said, strict, placement)
        set_once("_contents", contents)
        set_once("_hash", hash(contents))

    @classmethod
    def of(cls, *modules: Any) -> Rulebook:
        """The book of all rules in the modules, singly or in tuples; no two may have one name."""
        rules: dict[str, AnyRule] = {}
        defined = [value for module in modules for value in vars(module).values()]
        for value in defined:
            for one in value if isinstance(value, tuple) else (value,):
                if isinstance(one, AnyRule) and rules.setdefault(one.primitive, one) is not one:
                    raise ValueError(f"two rules for the primitive {one.primitive!r}")
        return cls(rules)

    def replace(
        self,
        replacements: Mapping[str | Selector, Callable[..., Any]],
        *,
        strict: bool | None = None,
    ) -> Rulebook:
        """The book with other rules in place of some.

        Where several replacements fit a node, the narrower one counts: the one whose nodes are some
        of the other's, not all; if neither is narrower in this sense, the one with more fields (a
        name has one); and if they have as many, the later one. Among names, a function's beats the
        primitive's. A call (a jit, a custom function) that has a rule here is not looked into; a
        function whose author wrote the derivative is differentiated through its body, if a node
        in there is selected.

        Args:
            replacements: from a primitive's name ("tanh"), the name of a jitted or custom function
                ("relu"), or a selector, made by `fungrad.at`, to a rule: a function
                `(g, out, *inputs, **params)` that returns one gradient, or a tuple of them; `None`
                is zero. The rule of a function gets no `params`.
            strict: make a primitive without a rule an error instead of a warning.

        Raises:
            TypeError: `replacements` is no mapping, a key is neither a string nor a selector, or a
                rule is no function.
            LookupError: when a function is differentiated in which a selector matches no node.

        >>> import fungrad as fg
        >>> import jax.numpy as jnp
        >>> outer = fg.at(primitive="tanh", index=1)
        >>> book = fg.rules.replace({outer: lambda g, out, x: 10 * g, "tanh": lambda g, out, x: g})
        >>> float(fg.grad(lambda x: jnp.tanh(jnp.tanh(x)), rules=book)(0.5))
        10.0
        """
        if not isinstance(replacements, Mapping):
            raise TypeError(
                f"replacements must be a dictionary {{key: rule}}, got {replacements!r}"
            )
        replaced = dict(self.replaced)
        for key, function in replacements.items():
            if not isinstance(key, str | Selector):
                raise TypeError(
                    "replacements: a key is the name of a primitive or function, or a selector "
                    f"made by at(...), got {key!r}"
                )
            if not callable(function):
                raise TypeError(
                    f"replacements[{key!r}] must be a function (g, out, *inputs, **params), "
                    f"got {function!r}"
                )
            plain = function.function if isinstance(function, Rule) else function
            replaced.pop(key, None)  # the later replacement comes last
            replaced[key] = self._rule_for(key if isinstance(key, str) else "", plain)
        strict = self.strict if strict is None else strict
        return Rulebook(self._rules, replaced, strict, self.placement)

    def with_placement(self, placement: Callable[..., Any]) -> Rulebook:
        """The book that looks at the whole graph before it is differentiated.

        Args:
            placement: `(graph, book) -> graph` puts other equations, or equations that carry their
                rules (placing.py), in place of some; a function that compares and hashes by what
                it does.
        """
        return Rulebook(self._rules, self.replaced, self.strict, placement)

    def only(self, *keys: str | Selector) -> Rulebook:
        """The book with some of its replacements, and no placement."""
        return Rulebook(self._rules, {key: self.replaced[key] for key in keys}, self.strict)

    def _rule_for(self, name: str, function: Callable[..., Any]) -> Rule:
        known = self._rules.get(name)
        return Rule(name, function, isinstance(known, Rule) and known.broadcasts, instead=known)

    def find(self, equation: Any) -> AnyRule | None:
        """The rule of an equation, `None` if the book has none."""
        if (self._selects or self.placement) and (rule := placing.carried(equation)):
            return rule
        name = self._name_of(_jax.function_name(equation), equation.primitive.name)
        return self._rules.get(equation.primitive.name) if name is None else self.replaced[name]

    def _name_of(self, function: str | None, primitive: str) -> str | None:
        """The name under which a rule was replaced: that of the function called comes first."""
        return next((name for name in (function, primitive) if name in self.replaced), None)

    def _name_at(self, node: Node) -> str | None:
        return self._name_of(node.callee, node.primitive)

    def placed(self, graph: Any) -> Any:
        """The graph, its equations carrying the rules that selectors choose for them (placing.py).

        Then as the book's placement leaves it.

        Raises:
            LookupError: a selector matches no node of the graph.
        """
        if self._selects or self.placement:
            graph = self._selected(graph)
        return self.placement(graph, self) if self.placement else graph

    def _selected(self, graph: Any) -> Any:
        whole = Graph(graph)
        selected = placing.selected(whole, self.replaced, self._name_at)

        def rule_at(node: Node, is_chosen_inside: bool) -> AnyRule | None:
            if selector := selected.get(id(node)):
                name = _jax.function_name(node.equation) or node.primitive
                return self._rule_for(name, self.replaced[selector].function)
            by_author = node.primitive in ("custom_jvp_call", "custom_vjp_call")
            if is_chosen_inside and by_author and self._name_at(node) is None:
                return self._rules["core_call"]  # through its body
            return None

        return placing.placed(graph, placing.choices(whole, rule_at))

    def __iter__(self) -> Iterator[AnyRule]:
        """The rules that go by a name."""
        named = {key: rule for key, rule in self.replaced.items() if isinstance(key, str)}
        return iter({**self._rules, **named}.values())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: str | Selector) -> bool:
        return key in self.replaced or key in self._rules

    def __getitem__(self, key: str | Selector) -> AnyRule:
        return self.replaced.get(key) or self._rules[key]  # type: ignore[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rulebook) and (self is other or self._contents == other._contents)

    def __hash__(self) -> int:
        return self._hash

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a Rulebook never changes; replace() makes another one")

    def __repr__(self) -> str:
        changed = f", {sorted(self.replaced, key=str)} replaced" if self.replaced else ""
        return f"Rulebook({len(self._rules)} rules{changed})"
