"""What in a graph is a layer, an average, a softmax, a value that meets a statistic of itself."""

from __future__ import annotations

from typing import Any, NamedTuple

from fungrad import _jax, placing
from fungrad.rulebook import Rule
from fungrad.rulebooks.lrp.extents import axes_after, varying_axes
from fungrad.rulebooks.lrp.layers import SCALES, SHIFTS, Layer, is_tap, kernel_axes
from fungrad.rulebooks.lrp.statistics import normalises
from fungrad.rulebooks.lrp.structure import Average, Passes, Select, Softmax, evenly
from fungrad.rulebooks.lrp.view import Region, View

# --- Layers -------------------------------------------------------------------------------------


class AtLayer(NamedTuple):
    """z = W x + b        R ↦ what a rule of formulas.py makes of it"""

    formula: Any

    def __call__(self, g, out, x, kernel, *others, call_jaxpr):
        (R,), (z,) = g, out
        graph = _jax.close(call_jaxpr)
        layer = Layer.of(graph, z, (x, kernel, *others))
        taps = map(layer.tap_of, graph.jaxpr.invars[2:])
        beside = [None if tap is None else layer.moved_back(R, tap) for tap in taps]
        return self.formula(R, layer), None, *beside


def layers(view: View) -> list[Region]:
    """The products that carry a layer's rule, each with all that belongs to its layer."""
    marked = [e for e in view.graph.jaxpr.eqns if isinstance(_formula(e), AtLayer)]
    return [_layer(product, view) for product in marked]


def _formula(equation: Any) -> Any:
    return getattr(placing.carried(equation), "function", None)


def _layer(product: Any, view: View) -> Region:
    """A product and all that shifts and scales its output by constants of its own axes."""
    kernel = 0 if view.is_active(product.invars[1]) else 1
    axes, steps = set(kernel_axes(product, kernel)), [product]
    pending: list[Any] = []
    (output,) = product.outvars
    last = output
    while (step := view.only_user(last)) is not None:
        if _shifts_or_scales(step, last, axes, view):
            steps, pending = [*steps, *pending, step], []
            output = last = step.outvars[0]
        elif (moved := axes if is_tap(step) else axes_after(step, axes)) is not None:
            axes, last, pending = moved, step.outvars[0], [*pending, step]
        else:
            break
    inputs = [product.invars[1 - kernel], product.invars[kernel]]
    rule = placing.carried(product)
    steps[0] = placing.carrying(product, None)
    return Region(steps, inputs, output, rule.function)


def _shifts_or_scales(step: Any, value: Any, axes: set[int], view: View) -> bool:
    """Whether a step shifts or scales by constants that vary along the kernel's axes only."""
    name, operands = step.primitive.name, step.invars
    if name not in SHIFTS + SCALES or step.outvars[0].aval.shape != value.aval.shape:
        return False
    if name == "div" and operands[0] is not value:
        return False
    others = [v for v in operands if v is not value]
    return not any(map(view.is_active, others)) and all(
        varying_axes(v, view.makers) <= axes for v in others
    )


# --- Averages -----------------------------------------------------------------------------------


def averages(view: View, stabilizer: float) -> list[Region]:
    """Sums over axes or windows with the constants that scale them."""
    sums = [
        e for e in view.graph.jaxpr.eqns if e.primitive.name in ("reduce_sum", "reduce_window_sum")
    ]
    found = (_average(e, view, stabilizer) for e in sums if view.is_active(e.invars[0]))
    return [region for region in found if region is not None]


def _average(total: Any, view: View, stabilizer: float) -> Region | None:
    steps, output = [total], None
    last = total.outvars[0]
    while not placing.carried(total) and (step := view.only_user(last)) is not None:
        if _scales(step, last, view):
            output = step.outvars[0]
        elif axes_after(step, set()) is None:
            break
        steps, last = [*steps, step], step.outvars[0]
    if output is None:
        return None
    size = next(i for i, step in enumerate(steps) if output in step.outvars)
    return Region(steps[: size + 1], [total.invars[0]], output, Average(stabilizer))


def _scales(step: Any, value: Any, view: View) -> bool:
    """Whether a step multiplies a value by a constant, or divides it by one."""
    name, operands = step.primitive.name, step.invars
    if name not in ("mul", "div") or step.outvars[0].aval.shape != value.aval.shape:
        return False
    return (operands[0] is value and not view.is_active(operands[1])) or (
        name == "mul" and operands[1] is value and not view.is_active(operands[0])
    )


# --- Values and their statistics ----------------------------------------------------------------


def with_related_operands(equation: Any, view: View) -> Any:
    """The equation, with a rule for operands of which one is made of the other, if they are."""
    name = equation.primitive.name
    if name == "select_n" and not placing.carried(equation):
        variables = [v for v in equation.invars if not isinstance(v, _jax.Literal)]
        units = {view.sources[v].unit for v in variables if v in view.sources}
        by_value = variables[0] in view.sources and len(units) == 1
        return placing.carrying(equation, Rule(name, Select(by_value), True))
    if name not in ("add", "sub", "mul", "div") or placing.carried(equation):
        return equation
    if not all(map(view.is_active, equation.invars)):
        return equation
    first, second = (view.sources[v] for v in equation.invars)
    rule = None
    if name != "add" and normalises(second, first):
        rule = Passes(0)
    elif name in ("sub", "mul") and normalises(first, second):
        rule = Passes(1)
    elif name in ("add", "sub") and first.unit is second.unit:
        rule = evenly
    return equation if rule is None else placing.carrying(equation, Rule(name, rule, True))


# --- Softmax ------------------------------------------------------------------------------------


def softmaxes(view: View) -> list[Region]:
    """The operations of each softmax."""
    divisions = [e for e in view.graph.jaxpr.eqns if e.primitive.name == "div"]
    found = [_softmax(e, view) for e in divisions if all(map(view.is_active, e.invars))]
    return [region for region in found if region is not None]


def _softmax(division: Any, view: View) -> Region | None:
    """exp(x − m) / Σ exp(x − m), masked or not, from x on; `None` if it is another division."""
    top, bottom = division.invars
    total, behind = _past(bottom, ("broadcast_in_dim", "reshape", "add", "max"), view)
    if total is None or total.primitive.name != "reduce_sum" or placing.carried(division):
        return None
    power, masks = _past(top, ("select_n", "mul"), view)
    same, others = _past(total.invars[0], ("select_n", "mul"), view)
    if power is None or power.primitive.name != "exp" or not _are_twins(power, same, view):
        return None
    steps, x = [power, same, *masks, *others, total, *behind, division], power.invars[0]
    shift = view.maker(x)
    if shift is not None and shift.primitive.name == "sub" and _is_shift(shift, view):
        steps, x = [shift, view.maker(same.invars[0]), *steps], shift.invars[0]
    order = {v: i for i, e in enumerate(view.graph.jaxpr.eqns) for v in e.outvars}
    steps = sorted({id(e): e for e in steps}.values(), key=lambda e: order[e.outvars[0]])
    rule = Softmax(tuple(total.params["axes"]))
    return Region(steps, [x], division.outvars[0], rule)


def _past(variable: Any, names: tuple[str, ...], view: View) -> tuple[Any, list[Any]]:
    """The equation behind those of the given names that have one active operand, and these."""
    steps: list[Any] = []
    while (maker := view.maker(variable)) is not None and maker.primitive.name in names:
        operands = [v for v in maker.invars if view.is_active(v)]
        if len(operands) != 1:
            return None, []
        (variable,), steps = operands, [*steps, maker]
    return maker, steps


def _are_twins(one: Any, other: Any, view: View) -> bool:
    """Whether two equations compute the same from the same values."""
    if one is other or one is None or other is None:
        return one is other
    if one.primitive is not other.primitive or one.params != other.params:
        return False
    return all(
        v is w or _are_twins(view.maker(v), view.maker(w), view)
        for v, w in zip(one.invars, other.invars, strict=True)
    )


def _is_shift(difference: Any, view: View) -> bool:
    """Whether a constant, or a statistic, is subtracted from what is differentiated."""
    x, m = difference.invars
    if not view.is_active(m):
        return True
    return view.is_active(x) and normalises(view.sources[m], view.sources[x])
