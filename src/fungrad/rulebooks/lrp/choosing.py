"""Which rule a layer gets: by a selector, by its depth, by its kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from fungrad import _jax, passes, placing
from fungrad.graph import Graph, Node, Selector
from fungrad.passes import Settings
from fungrad.rulebook import Rule, Rulebook
from fungrad.rulebooks.lrp.entering import inner_masks
from fungrad.rulebooks.lrp.formulas import STABILIZER, LayerRule
from fungrad.rulebooks.lrp.joining import joined
from fungrad.rulebooks.lrp.layers import PRODUCTS
from fungrad.rulebooks.lrp.recognising import AtLayer

Key = Selector | str | int | range


@dataclass(frozen=True)
class Relevance:
    """The placement of a book of relevance: gives each layer its rule, and joins its operations.

    Attributes:
        usual: the rule of the layers that nothing else chooses.
        chosen: keys, in order, with what counts at the layers that they fit.
        stabilizer: keeps the denominators of what is no layer away from 0.
    """

    usual: LayerRule
    chosen: tuple[tuple[Key, Relevance], ...] = ()
    stabilizer: float = STABILIZER

    def __call__(self, graph: Any, book: Rulebook) -> Any:
        """The graph with its layers joined, each carrying its rule.

        Raises:
            LookupError: a selector matches no node of the graph.
        """
        whole = Graph(graph)
        active = (True,) * len(graph.jaxpr.invars)
        layers = list(_layers(graph, active, iter(whole.nodes), Settings(book)))
        selectors: dict[Any, None] = {k: None for k, _ in self.chosen if isinstance(k, Selector)}
        by_selector = placing.selected(whole, selectors, lambda _: None)
        rules = {}
        for i, node in enumerate(layers):
            place = _Place(i, len(layers), node.primitive, by_selector.get(id(node)))
            rules[id(node)] = Rule(node.primitive, AtLayer(self.rule_for(place)))

        def rule_at(node: Node, is_chosen_inside: bool) -> Any:
            return rules.get(id(node)) or placing.carried(node.equation)

        graph = placing.placed(graph, placing.choices(whole, rule_at))
        return joined(graph, active, book, self.stabilizer)

    def rule_for(self, place: _Place) -> LayerRule:
        """The rule of a layer: depths count before selectors, these before kinds, later first."""
        by_depth = [value for key, value in self.chosen if place.is_at(key)]
        where = dict(self.chosen)
        others = [where[key] for key in (place.selector, place.kind) if key in where]
        for value in (*by_depth[::-1], *others):
            return value.rule_for(place)
        return self.usual


class _Place(NamedTuple):
    """Where a layer is: its number among so many, its primitive, the selector that counts there."""

    depth: int
    count: int
    kind: str
    selector: Selector | None

    def is_at(self, key: Key) -> bool:
        """Whether a key is a depth, from the input or (negative) from the output, and this one."""
        if isinstance(key, range):
            return self.depth in key or self.depth - self.count in key
        return isinstance(key, int) and key in (self.depth, self.depth - self.count)


def _layers(
    graph: Any, active: tuple[bool, ...], nodes: Iterator[Node], settings: Settings
) -> Iterator[Node]:
    """The products, in program order, of which one operand is differentiated."""
    reached = passes.flow(graph, active, settings)
    for equation in graph.jaxpr.eqns:
        node = next(nodes)
        takes = tuple(not isinstance(v, _jax.Literal) and v in reached for v in equation.invars)
        if node.primitive in PRODUCTS and sum(takes) == 1 and not placing.carried(equation):
            yield node
        masks = inner_masks(equation, takes, settings)
        for inner, mask in zip(_jax.subgraphs(equation), masks, strict=True):
            yield from _layers(inner, mask, nodes, settings)
