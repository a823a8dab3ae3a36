"""Which values cross from the forward half to the backward half at the least cost.

The joint graph becomes a network, which a minimum cut parts in two. On the side of the source is
what only the forward half does, on that of the sink what the backward half must have. An edge that
leads across is paid for:

    source → equation     the operations that it takes: it is repeated
    source → input        the price of its bytes, if it must be stacked to be at hand later
    equation → output     the price of its bytes: it is kept
    input → equation      ∞: to repeat an equation one must have what it reads
    output → sink         ∞: the backward half reads it
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from fungrad import _jax, costs
from fungrad.costs import Effort
from fungrad.joint import Joint
from fungrad.mincut import SINK, SOURCE, sink_side
from fungrad.segments import checkpoints, worthwhile


def cheapest(
    joint: Joint,
    ahead: set[int],
    after: set[int],
    at_hand: set[int],
    stacked: Sequence[bool],
    effort: Effort,
    apart: bool,
) -> set[Any]:
    """The values that cross the minimum cut.

    Where the halves are one program and to repeat would spare little, all is kept.

    A loop that keeps more than `costs.LARGE` bytes pays twice for each of them, and so keeps what
    is worth it. As far as that leaves room, others are let in at the usual price, from the end of
    the forward pass on: the nearer to its end a value is made, the sooner it is done with.

    Args:
        ahead: the equations that the forward half does in any case.
        after: those that read g: no part of the forward half.
        at_hand: equations whose outputs both halves may have for nothing.
        stacked: which inputs are not at hand later.
        effort: what the cut goes by.
        apart: whether the halves are run in different loops or branches.
    """
    network = _Network(joint, ahead, after, at_hand, stacked, effort, apart)
    kept = network.crossing()
    if network.spares_little(kept):
        return network.crossing(share=costs.NEVER)
    room = costs.LARGE / effort.steps
    if effort.steps == 1 or costs.bytes_of_all(kept) <= room:
        return kept
    fewer = network.crossing(costs.DEARER)
    last_first = sorted(kept - fewer, key=lambda v: joint.producer.get(v, -1), reverse=True)
    sizes = (costs.bytes_of(v.aval) for v in last_first)
    _, *sums = accumulate(sizes, initial=costs.bytes_of_all(fewer))
    let_in = {v for v, total in zip(last_first, sums, strict=True) if total <= room}
    return network.crossing(costs.DEARER, let_in) if let_in else fewer


class _Network:
    def __init__(self, joint, ahead, after, at_hand, stacked, effort: Effort, apart: bool):
        self.joint, self.ahead, self.after, self.effort = joint, ahead, after, effort
        self.apart, self.price = apart, effort.price_of_byte(apart)
        later = joint.needed([*joint.gradients, *joint.read_by(after)]) - ahead
        read = {v for v in joint.read_by(later) if not isinstance(v, _jax.Literal)}
        made = (v for i in ahead for v in joint.equations[i].outvars)
        self.read = costs.bytes_of_all(read.intersection(made))
        self.at_hand = {v for i in at_hand for v in joint.equations[i].outvars}
        dear = zip(joint.inputs, stacked, strict=False)
        self.dear = {v for v, s in dear if s and v is not None}
        # Where the halves are one program of XLA's, what products make and read has been put in
        # memory by the forward half, and is as good as kept.
        in_memory = self._of_products()
        self.in_memory = set() if apart or effort.operands else in_memory
        if effort.steps > 1:
            self.free = worthwhile(joint, ahead, in_memory, effort.steps)
        else:
            self.free = set() if apart else checkpoints(joint, ahead, effort.parts)

    def spares_little(self, kept: set[Any]) -> bool:
        """Whether what is kept is almost as much as the backward half reads."""
        usual = not self.apart and self.effort.thrift == 1.0
        return usual and costs.bytes_of_all(kept) > (1 - costs.LITTLE) * self.read

    def _share(self) -> float:
        """What it costs to start an operation again, besides the operation."""
        if self.apart:
            return 0.0
        count = sum(costs.started(self.joint.equations[i]) for i in self.ahead)
        small = costs.SMALL * self.read / max(count, 1)
        return max(costs.SHARE, Effort().price_of_byte(self.apart) * small)

    def crossing(
        self, dearness: float = 1.0, let_in: Container[Any] = (), share: float | None = None
    ) -> set[Any]:
        """What crosses if a byte is so many times dearer, but for the values that are let in."""
        self.dearness, self.let_in = dearness, let_in
        self.share = self._share() if share is None else share
        self.nodes: dict[Any, int] = {SOURCE: SOURCE, SINK: SINK}
        self.edges: dict[tuple[int, int], float] = {}
        self.waiting: list[int] = []
        self._reach([*self.joint.gradients, *self.joint.read_by(self.after)], SINK)
        equations: set[int] = set()
        while self.waiting:
            i = self.waiting.pop()
            if i not in equations:
                equations.add(i)
                if i in self.ahead:
                    self._edge(SOURCE, ("equation", i), self._operations(i))
                self._reach(self.joint.equations[i].invars, ("equation", i))
        if not self.edges:
            return set()
        behind = sink_side(len(self.nodes), self.edges)
        made_ahead = (i for i in equations if not behind[self.nodes["equation", i]])
        here = [*self.dear, *(v for i in made_ahead for v in self.joint.equations[i].outvars)]
        return {v for v in here if v in self.nodes and behind[self.nodes[v]]}

    def _reach(self, variables: Iterable[Any], reader: Any) -> None:
        """Lead edges from variables to what reads them, and to variables from what makes them."""
        for variable in variables:
            if isinstance(variable, _jax.Literal) or variable in self.at_hand:
                continue
            i = self.joint.producer.get(variable)
            if i in self.after or (i is None and variable not in self.dear):
                continue
            if variable not in self.nodes:
                maker = SOURCE if i is None else ("equation", i)
                self._edge(maker, variable, self._bytes(variable, i))
                if i is not None:
                    self.waiting.append(i)
            self._edge(variable, reader, costs.NEVER)

    def _edge(self, start: Any, end: Any, capacity: float) -> None:
        nodes = self.nodes
        ends = nodes.setdefault(start, len(nodes)), nodes.setdefault(end, len(nodes))
        self.edges[ends] = capacity

    def _bytes(self, variable: Any, i: int | None) -> float:
        # What the forward half would not make otherwise must be put in memory first.
        if variable in self.free:
            return 0.0
        extra = 1.0 if i is None or i in self.ahead else costs.WRITING
        price = self.price if variable in self.let_in else self.price * self.dearness
        return price * extra * costs.bytes_of(variable.aval)

    def _operations(self, i: int) -> float:
        equation = self.joint.equations[i]
        if not self.in_memory.isdisjoint(equation.outvars):
            return costs.NEVER
        return self.effort.price_of(equation, self.share)

    def _of_products(self) -> set[Any]:
        """What products of the forward half make, and what those of the backward half read."""
        equations, producer = self.joint.equations, self.joint.producer
        early = {v: equations[i] for v, i in producer.items() if i not in self.after}
        made = {v for v, equation in early.items() if costs.is_unfused(equation)}
        return made | operands_of((equations[i] for i in self.after), early)


def operands_of(equations: Iterable[Any], producer: Mapping[Any, Any]) -> set[Any]:
    """What products among the equations read, or that of which it is a rearrangement.

    Args:
        producer: the equation that makes a variable, as far back as rearrangements are looked at.
    """
    waiting = [v for e in equations if costs.is_unfused(e) for v in e.invars]
    found = set()
    while waiting:
        variable = waiting.pop()
        if isinstance(variable, _jax.Literal) or variable in found:
            continue
        found.add(variable)
        maker = producer.get(variable)
        if maker is not None and costs.moves(maker) and len(maker.invars) == 1:
            waiting += maker.invars
    return found
