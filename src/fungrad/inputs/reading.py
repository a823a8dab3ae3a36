"""What a model has at a node for a batch of images: one value per image, its channels last.

The node is the last one of floats that a selector matches. What its axes mean is found out, so
that models of any layout are read in one way, as h[N, ..., C]:

- the batch axis is the one that grows with the batch: `vmap` may have put it anywhere;
- the channel axis is the last of the others, except at a convolution, whose dimension numbers
  say which it is (an edge that `fungrad.name` named counts as what it names);
- of a node in a scan the last iteration counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fungrad import editing, nodes, selecting
from fungrad.graph import Graph, Node, trace
from fungrad.selector import Selector

Where = Selector | str | None
Model = Callable[[jax.Array], Any]


@dataclass(frozen=True)
class Place:
    """Where a value is read, and how its axes are brought in order.

    Attributes:
        label: the node's; None is the model's output.
        output: which of the node's outputs.
        iterations: the number of scans around the node.
        batch: the axis with the batch, or with a multiple of it.
        order: the other axes, positions first, the channels last; None: as they are.
        shape: of one image's value, [..., C].
    """

    label: str | None
    output: int
    iterations: int
    batch: int
    order: tuple[int, ...] | None
    shape: tuple[int, ...]

    def value(self, found: Any, count: int) -> jax.Array:
        """h[N, ..., C] from what was found at the node."""
        found = found[self.output] if isinstance(found, tuple | list) else found
        h = found[(-1,) * self.iterations] if self.iterations else found
        if self.order is not None:
            h = jnp.transpose(h, (self.batch, *self.order))
        return _by_image(jnp.moveaxis(h, self.batch, 0) if self.order is None else h, count)

    def __str__(self) -> str:
        name = "the model's output" if self.label is None else f"node {self.label!r}"
        return f"{name} of shape {list(self.shape)} for one image"


def _by_image(h: jax.Array, count: int) -> jax.Array:
    """[N, ..., C] from an axis that holds the batch, or the batch times positions."""
    h = h if h.shape[0] == count else h.reshape(count, h.shape[0] // count, *h.shape[1:])
    return h[:, None] if h.ndim == 1 else h


class Reading:
    """A model's values at several places, from one run.

    Args:
        model: x[N, H, W, C] -> anything; x[N, ...] -> [N, ...] where its output is read.
        wheres: selectors, names, or None for the model's output.
        images: the shape and dtype of x.

    Raises:
        LookupError: nothing matches a selector.
        TypeError: the node, or the output, is no array of floats, or does not grow with the batch.
        NotImplementedError: the node is in a loop of unknown length.
    """

    def __init__(self, model: Model, wheres: Sequence[Where], images: jax.ShapeDtypeStruct):
        self.model = model
        self.count = images.shape[0]
        graphs = [
            trace(model)(jax.ShapeDtypeStruct((n, *images.shape[1:]), images.dtype))
            for n in (self.count, self.count + 1, self.count + 2)
        ]
        self.graph = graphs[0]
        self.places = {where: _place(graphs, where, self.count) for where in wheres}
        self._labels = tuple({p.label for p in self.places.values() if p.label is not None})

    def __call__(self, images: jax.Array) -> dict[Where, jax.Array]:
        """{where: h[N, ..., C]}"""
        if self._labels:
            out, found = nodes.values(self.model, _Labelled(labels=self._labels))(images)
        else:
            out, found = self.model(images), {}
        return {
            where: place.value(out if place.label is None else found[place.label], len(images))
            for where, place in self.places.items()
        }

    def has_kinks_of_relu(self) -> bool:
        """Whether there is a relu, or a maximum, whose rule can be swapped."""
        return any(node.callee == "relu" or node.primitive == "max" for node in self.graph.nodes)


@dataclass(frozen=True)
class _Labelled(Selector):
    """The nodes with these labels."""

    labels: tuple[str, ...] = ()

    def select(self, nodes: list[Node]) -> list[Node]:
        return [node for node in nodes if node.label in self.labels]


# --- Finding the place ------------------------------------------------------------------------


def _place(graphs: Sequence[Graph], where: Where, count: int) -> Place:
    """`graphs` are the model's for batches of N, N + 1 and N + 2 images."""
    if where is None:
        avals = [_output_type(graph) for graph in graphs]
        what, label, output, iterations, order = "the model's output", None, 0, 0, None
    else:
        found = [_last(graph, where) for graph in graphs]
        avals = [node.equation.outvars[i].aval for node, i in found]
        node, output = found[0]
        _refuse_unreachable(node)
        what, label, iterations = (
            f"node {node.label!r}",
            node.label,
            len(editing.steps_around(node)),
        )
        order = _convolution_order(graphs[0], node)
    batch = _batch_axis(what, avals[1].shape, avals[2].shape, count + 1)
    if order is not None:
        batch, order = order[0], order[1:]
    place = Place(label, output, iterations, batch, order, ())
    shaped = jax.eval_shape(lambda h: place.value(h, count), _stacked(avals[0], iterations))
    return Place(label, output, iterations, batch, order, shaped.shape[1:])


def _stacked(aval: Any, iterations: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1,) * iterations + aval.shape, aval.dtype)


def _refuse_unreachable(node: Node) -> None:
    for call in node.path:
        if call.primitive == "while":
            raise NotImplementedError(
                f"node {node.label!r} is inside the while loop at {call.file}:{call.line}, whose "
                "last step is not known beforehand; select a node outside, or one in a scan"
            )
    if (error := editing.refusal(node)) is not None:
        raise error


def _output_type(graph: Graph) -> Any:
    outputs = graph.jaxpr.out_avals
    if len(outputs) != 1 or not jnp.issubdtype(outputs[0].dtype, jnp.floating):
        given = ", ".join(f"{aval.dtype}{list(aval.shape)}" for aval in outputs) or "nothing"
        raise TypeError(
            f"where=None reads the model's output, which must be one array of floats [N, ...], "
            f"got {given}; return the logits alone, or select a node by where"
        )
    return outputs[0]


def _last(graph: Graph, where: Where) -> tuple[Node, int]:
    """The last node of floats that matches, and which of its outputs it is."""
    found = graph.find(where)
    for node in reversed(found):
        if selecting.has_gradient(node):
            avals = [v.aval for v in node.equation.outvars]
            (output, *more) = [i for i, a in enumerate(avals) if _is_float(a)]
            if more:
                raise TypeError(
                    f"node {node.label!r} has {1 + len(more)} outputs of floats; select a node of "
                    f"one output, such as one inside of it, or a name given by fungrad.name"
                )
            return node, output
    raise TypeError(f"{where!r} matches {found[-5:]}, of which none is of floats")


def _is_float(aval: Any) -> bool:
    return jnp.issubdtype(aval.dtype, jnp.floating)


def _batch_axis(what: str, first: Sequence[int], second: Sequence[int], count: int) -> int:
    """The axis that grows when one image more comes in."""
    if len(first) == len(second):
        for axis, (n, m) in enumerate(zip(first, second, strict=True)):
            if n != m and n % count == 0 and m == n // count * (count + 1):
                return axis
    raise TypeError(
        f"{what} must have one value per image, but has shape {list(first)} for {count} images and "
        f"{list(second)} for {count + 1}; the model must take batches x[N, H, W, C]"
    )


def _convolution_order(graph: Graph, node: Node) -> tuple[int, ...] | None:
    """(batch, y, x, ..., channel) of a convolution's output; None where there is none."""
    while node.primitive == "name":
        (edge,) = node.inputs
        makers = [other for other in graph.nodes if edge in other.outputs]
        if not makers:
            return None
        node = makers[0]
    if node.primitive != "conv_general_dilated":
        return None
    batch, channel, *positions = node.params["dimension_numbers"].out_spec
    return (batch, *positions, channel)
