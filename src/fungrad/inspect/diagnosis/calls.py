"""Equations that hold graphs: they are entered, and so is the derivative that an author wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fungrad import _jax
from fungrad.inspect.diagnosis.levels import level_inside
from fungrad.inspect.diagnosis.loops import Loop
from fungrad.inspect.diagnosis.record import Frame, Gradients, Part
from fungrad.inspect.diagnosis.sharded import Sharded
from fungrad.inspect.diagnosis.values import Value
from fungrad.rulebook import CallRule
from fungrad.rules.authored import authors_graph

_ONCE = (
    "jit",
    "closed_call",
    "core_call",
    "eval_jaxpr",
    "remat2",
    "checkpoint",
    "call",
    "composite",
    "custom_vmap_call",
    "remat_opt",
    "program_order",
    "xla_metadata_call",
)
"""Calls that run the one graph that they hold once."""


class Call(Part):
    """A graph that is run once."""

    def __init__(self, frame: Frame, i: int, which: int = 0):
        super().__init__(frame, i)
        self.which = which

    def run(self) -> list[Value]:
        """Those of the graph inside."""
        # A cond's index leads its inputs; a call that hides its constants ends with them.
        level = self.inside[self.which]
        inputs = self.inputs[len(self.inputs) - len(level.graph.jaxpr.invars) :]
        active = self.frame.takes(self.equation)[len(self.inputs) - len(inputs) :]
        self.entered = Frame(level, inputs, active, self.within)
        return self.entered.outputs

    def pull(self, g: Sequence[Value | None], takes: tuple[bool, ...]) -> Gradients:
        """Those of the graph inside, by its own passes."""
        answers = self.entered.pull(g)
        return [None] * (len(takes) - len(answers)) + answers


def _branch(frame: Frame, i: int) -> Part:
    """The branch of a cond that is taken."""
    index = frame.read(frame.level.nodes[i].equation.invars[0]).array
    taken = min(max(int(index), 0), len(frame.level.inside[i]) - 1)
    call = Call(frame, i, taken)
    call.within = replace(call.within, branches=(*frame.where.branches, taken))
    return call


class CustomJVP(Call):
    """A function whose author wrote (x, t) ↦ (f(x), ∂f/∂x · t), which is linear in t.

    The passes over that graph give the gradient at t, which is the one at x. They need no t: that
    is zero here.
    """

    def pull(self, g: Sequence[Value | None], takes: tuple[bool, ...]) -> Gradients:
        """By the passes over what the author wrote."""
        if self.where.settings.linear:
            return super().pull(g, takes)
        graph, tangents, has_tangent = authors_graph(self.equation, takes)
        hidden = self.equation.params["num_consts"]
        asked = [isinstance(t, _jax.Unknown) for t in tangents]
        filled = [Value(x, name="a tangent") for x in _jax.filled(tangents)]
        linear = self.where.settings._replace(linear=True)
        where = replace(self.within, is_backward=True, settings=linear)
        primals = self.inputs[hidden:]
        active = [False] * len(primals) + asked
        written = Frame(level_inside(graph, self.node), [*primals, *filled], active, where)
        arriving = [entry for entry, there in zip(g, has_tangent, strict=True) if there]
        gradients = written.pull([None] * len(self.outputs) + arriving)[len(primals) :]
        given = iter([x for x, a in zip(gradients, asked, strict=True) if a])
        return [None] * hidden + [next(given) if a else None for a in takes[hidden:]]


class CustomVJP(Part):
    """A function whose author wrote a forward function, which leaves residuals, and a backward."""

    def run(self) -> list[Value]:
        """Those of the forward function; its residuals are kept."""
        takes = self.frame.takes(self.equation)
        sizes: list[int] = []

        def forward(*inputs):
            outputs, residuals = _jax.run_custom_forward(self.equation, inputs, takes)
            sizes[:] = [len(outputs)]
            return [*outputs, *residuals]

        graph = _jax.trace_at(forward, [value.array for value in self.inputs])
        level, inactive = level_inside(graph, self.node), [False] * len(takes)
        written = Frame(level, self.inputs, inactive, self.within)
        self.residuals = written.outputs[sizes[0] :]
        return written.outputs[: sizes[0]]

    def pull(self, g: Sequence[Value | None], takes: tuple[bool, ...]) -> Gradients:
        """Those of the backward function."""
        known = [*self.residuals, *(entry for entry in g if entry is not None)]
        there: list[bool] = []

        def backward(*values):
            given = iter(values[len(self.residuals) :])
            arriving = [None if entry is None else next(given) for entry in g]
            residuals = values[: len(self.residuals)]
            answers = _jax.run_custom_backward(self.equation, residuals, arriving)
            there[:] = [answer is not None for answer in answers]
            return [answer for answer in answers if answer is not None]

        graph = _jax.trace_at(backward, [value.array for value in known])
        where = replace(self.within, is_backward=True)
        written = Frame(level_inside(graph, self.node), known, [False] * len(known), where)
        answers = iter(written.outputs)
        return [next(answers) if is_there else None for is_there in there]


class PushedVJP(Part):
    """Where the derivative of a CustomJVP asks for forward mode of a CustomVJP: t is zero there."""

    def _bind(self, *arrays):
        return _jax.filled([_jax.Unknown(v.aval) for v in self.equation.outvars])


def enter(frame: Frame, i: int) -> Part:
    """How to run an equation: entered if there is a way."""
    equation, settings = frame.level.nodes[i].equation, frame.where.settings
    name, rule = equation.primitive.name, settings.rules.find(equation)
    if rule is not None and not isinstance(rule, CallRule):
        return Part(frame, i)
    if name in _ONCE:
        return Call(frame, i)
    if name == "cond":
        return _branch(frame, i)
    if name in ("scan", "while"):
        return Loop(frame, i)
    if name == "shard_map":
        return Sharded(frame, i)
    if name == "custom_jvp_call":
        return CustomJVP(frame, i)
    if name == "custom_lin":
        return PushedVJP(frame, i)
    if name == "custom_vjp_call":
        return CustomVJP(frame, i) if any(frame.takes(equation)) else Call(frame, i)
    return Part(frame, i)
