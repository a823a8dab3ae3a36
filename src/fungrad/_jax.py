"""The one door to JAX's internals: what differs between JAX 0.10, 0.11 and 0.12 differs here.

Two words used throughout: a *graph* is a closed jaxpr (a program with the values of its
constants), an *equation* is one operation in it.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib
import itertools
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.ref
import numpy as np
from jax._src import (
    ad_util,
    api,
    api_util,
    config,
    core,
    dispatch,
    dtypes,
    pjit,
    source_info_util,
    traceback_util,
    util,
)
from jax._src import linear_util as lu
from jax._src import shard_map as sharded
from jax._src.ad_checkpoint import name_p
from jax._src.interpreters import ad, batching, mlir
from jax._src.interpreters import partial_eval as pe
from jax._src.lax import lax as lax_internal
from jax._src.lax.control_flow.conditionals import cond_p
from jax._src.lax.control_flow.loops import scan_p
from jax._src.lib.mlir import ir  # pyright: ignore[reportPrivateImportUsage]
from jax._src.lib.mlir.dialects import hlo  # pyright: ignore[reportPrivateImportUsage]
from jax._src.named_sharding import UNSPECIFIED
from jax._src.state import discharge
from jax._src.state.primitives import addupdate_p as addupdate_p

flattree: Any
try:  # JAX 0.12 describes the operands of a scan by trees, JAX 0.10 by counts
    flattree = importlib.import_module("jax._src.flattree")
except ImportError:
    flattree = None

# fungrad's own frames are no user's: what its layers emit bears the line that called them.
source_info_util.register_exclusion(os.path.dirname(__file__))
# Nor do they show in the tracebacks of errors that JAX filters for its users.
traceback_util.register_exclusion(os.path.dirname(__file__))
api_boundary = traceback_util.api_boundary

Jaxpr = core.Jaxpr
Literal = core.Literal
DropVar = core.DropVar
ClosedJaxpr: Any = getattr(core, "ClosedJaxpr", core.Jaxpr)  # one class from JAX 0.12 on


def _batch_in_front(values: Sequence[Any], axes: Sequence[int], **params: Any) -> tuple[Any, int]:
    return name_p.bind(jax.numpy.moveaxis(values[0], axes[0], 0), **params), 0


# Under `jax.vmap` a named value has the axis of the examples in front of the others, wherever JAX's
# own rule would have left it: whoever asks for the value knows where they are.
batching.primitive_batchers[name_p] = _batch_in_front

without_references = discharge.discharge_state  # what they hold is handed on as a value
cached_by_graph = util.weakref_lru_cache
"""Decorator: a cache keyed by the identity of the first argument, which it holds weakly."""


def cached_by_value(size: int) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: a cache of the last `size` answers, which `jax.clear_caches` clears."""

    def decorate(function):
        cached = functools.lru_cache(size)(function)
        util.register_cache(cached, function.__name__)
        return cached

    return decorate


def cached_by_value_in_context(size: int) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: the same, of answers that depend on JAX's settings, meshes and axes as well."""
    return util.cache(max_size=size, trace_context_in_key=True)


def checks_backward_functions() -> bool:
    """Whether the gradients that an author's function returns must fit (jax_disable_bwd_checks)."""
    return not config.disable_bwd_checks.value


def may_keep() -> bool:
    """Whether what is traced may be kept; not while JAX looks for tracers that are."""
    return not config.check_tracer_leaks.value


# The checks of JAX's own transforms, so that their users meet the errors that they know.
check_input_dtype = api._check_input_dtype_revderiv
check_output_dtype = api._check_output_dtype_revderiv
check_scalar = api._check_scalar
check_cotangents = api._vjp_check_ct_avals


# --- Types -------------------------------------------------------------------------------


canonical: Callable[[Any], Any] = dtypes.canonicalize_value
"""A value as JAX's operations see it: Python scalars become weakly typed arrays."""
type_of: Callable[[Any], Any] = core.typeof


def argument(value: Any) -> Any:
    """An argument of a transform, `canonical`; what is no array is refused."""
    dispatch.check_arg(value)
    return canonical(value)


def is_tracer(value: Any) -> bool:
    return isinstance(value, core.Tracer)


def is_reading() -> bool:
    """Whether what is computed now becomes part of a graph, under whatever transformations."""
    trace: Any = core.trace_ctx.trace
    while trace is not None and not isinstance(trace, pe.DynamicJaxprTrace):
        trace = getattr(trace, "parent_trace", None)
    return trace is not None


def is_concrete(value: Any) -> bool:
    """Whether the value is known now: no tracer, or one that knows what it stands for."""
    return core.to_concrete_value(value) is not None


def type_or_struct(value: Any) -> Any:
    """The type of an array, or the one that a `jax.ShapeDtypeStruct` describes."""
    if isinstance(value, jax.ShapeDtypeStruct):
        return core.ShapedArray(value.shape, value.dtype, weak_type=value.weak_type)
    return core.typeof(canonical(value))


def is_reference(value: Any) -> bool:
    return isinstance(value, jax.Array | jax.ref.Ref) and isinstance(
        core.typeof(value), jax.ref.AbstractRef
    )


def is_differentiable(aval: Any) -> bool:
    """Whether values of this type have gradients: arrays of floats or complex numbers.

    References to such arrays too, unless they were made to be left alone.
    """
    if isinstance(aval, core.ShapedArray):
        extended = isinstance(aval.dtype, dtypes.ExtendedDType)  # a format names its gradients'
        dtype = core.primal_dtype_to_tangent_dtype(aval.dtype) if extended else aval.dtype
        return dtypes.issubdtype(dtype, np.inexact)
    plain = isinstance(aval, jax.ref.AbstractRef) and aval.kind != "no_grad_no_remat"
    return plain and is_differentiable(aval.inner_aval)


def is_reference_type(aval: Any) -> bool:
    return isinstance(aval, jax.ref.AbstractRef)


def gradient_type(aval: Any) -> Any:
    return aval.to_ct_aval()


@dataclass(frozen=True, eq=False)
class Unknown:
    """Stands for a value that nobody has: a tangent, in a graph that is linear in it."""

    aval: Any

    shape = property(lambda self: self.aval.shape)
    dtype = property(lambda self: self.aval.dtype)
    ndim = property(lambda self: len(self.aval.shape))
    size = property(lambda self: self.aval.size)


def filler(aval: Any) -> Any:
    """Some value of a type, for a place that nobody reads."""
    if is_reference_type(aval):
        return jax.new_ref(filler(aval.inner_aval))
    if dtypes.issubdtype(aval.dtype, dtypes.extended):  # its zeros are those of gradients
        return jax.lax.full(aval.shape, 0, aval.dtype)
    return ad_util.zeros_like_aval(aval)


def filled(values: Sequence[Any]) -> list[Any]:
    """The values, with something in the place of those that are unknown."""
    return [filler(x.aval) if isinstance(x, Unknown) else x for x in values]


def zeros(aval: Any) -> Any:
    """The zero gradient of a value of type `aval`, built."""
    return zeros_of(aval.to_ct_aval())


def zeros_of(gradient_aval: Any) -> Any:
    return ad.instantiate_zeros(ad_util.Zero(gradient_aval))


def zeros_at(value: Any) -> Any:
    """The zero gradient at a value."""
    return zeros(value.aval if isinstance(value, Unknown) else core.typeof(value))


def with_weakness_of(g: Any, aval: Any) -> Any:
    """The gradient at a weakly typed input (a Python scalar) is weakly typed too."""
    if not aval.weak_type or core.typeof(g).weak_type:
        return g
    return lax_internal._convert_element_type(g, aval.dtype, weak_type=True)


NotNeeded = api.NotNeeded  # in a VJP, an argument that the backward pass does not read
one = lax_internal._one_vjp  # the gradient of a scalar output at itself
add = ad_util.add_jaxvals


def sharding_of(aval: Any, axes: Sequence[int | None] | None = None) -> Any:
    """Where a value of this type lives, for `out_sharding=`; `None` where types do not say that.

    Or where one with other axes would: with axes of this type, or `None` for new ones.
    """
    mesh, spec = aval.sharding.mesh, aval.sharding.spec
    if mesh.empty:  # a type that no mesh has seen yet: its values are everywhere
        mesh = jax.sharding.get_abstract_mesh()
    if not mesh._any_axis_explicit:
        return None
    axes = range(len(aval.shape)) if axes is None else axes
    partitions = tuple(None if axis is None else spec.partitions[axis] for axis in axes)
    return aval.sharding.update(mesh=mesh, spec=spec.update(partitions=partitions))


def gradient_sharding(value: Any, axes: Sequence[int | None] | None = None) -> Any:
    """Where the gradient at a value lives, likewise."""
    aval = value.aval if isinstance(value, Unknown) else core.typeof(value)
    sharding = sharding_of(aval, axes)
    return sharding and core.primal_sharding_to_cotangent_sharding(sharding)


def moved_to(g: Any, gradient_aval: Any) -> Any:
    """A gradient of the right shape and dtype where a mesh wants it: on its devices, varying."""
    aval, due = core.typeof(g), gradient_aval.sharding
    explicit = aval.sharding.mesh._any_axis_explicit or due.mesh._any_axis_explicit
    if explicit and aval.sharding != due and not due.mesh.empty:
        with jax.sharding.use_abstract_mesh(due.mesh):
            g = jax.sharding.reshard(g, due)
    return varying_as(g, gradient_aval)


def varying_as(value: Any, aval: Any) -> Any:
    """In shard_map: a value that may differ from device to device wherever another type does."""
    varying = aval.mat.varying - core.typeof(value).mat.varying
    return core.pvary(value, tuple(varying)) if varying else value


# --- Graphs ------------------------------------------------------------------------------


def trace(fun: Callable[..., Any], avals: Sequence[Any], name: str = "fungrad") -> Any:
    """The graph of a function of flat arguments that returns a list.

    Values of enclosing transformations that `fun` closes over become constants of the graph.
    """
    info = lu.DebugInfo("fungrad", name, None, None)
    jaxpr, _, consts = pe.trace_to_jaxpr_dynamic(lu.wrap_init(fun, debug_info=info), avals)
    return ClosedJaxpr(jaxpr, consts)


def trace_at(
    fun: Callable[..., Any], values: Sequence[Any], name: str = "fungrad", run: bool = False
) -> Any:
    """The graph of a function at given values, which its Python code may branch on.

    As under `jax.grad`, which runs a function rather than reads it: values that are concrete stay
    so, and what is computed from them is evaluated when Python asks for it, or with `run` at once.
    """
    info = lu.DebugInfo("fungrad", name, None, None)
    tracing = (_TraceThatRuns if run else _TraceAtValues)(info, parent_trace=core.trace_ctx.trace)
    tracing.around = None
    tracing.concrete = not values or any(is_concrete(x) or is_reference(x) for x in values)
    with core.ensure_no_leaks(tracing), source_info_util.reset_name_stack(), pe.TracebackScope():
        here = source_info_util.current()
        inputs = [tracing.new_arg(core.typeof(x), here) for x in values]
        tracing.known = {x.val: value for x, value in zip(inputs, values, strict=True)}
        with core.set_current_trace(tracing):
            outputs = fun(*inputs)
        found = [tracing.to_jaxpr_tracer(canonical(x), here) for x in outputs]
        jaxpr, consts = tracing.frame.to_jaxpr(tracing, found, info, here)
        del inputs, outputs, found, tracing  # whoever still holds a tracer is told so
    return ClosedJaxpr(jaxpr, consts)


class _TraceAtValues(pe.DynamicJaxprTrace):
    """Reads a graph, and evaluates as much of it as Python code asks the values of.

    Afterwards `around` holds values that its tracers stand for, for rules that close over them.
    """

    __slots__ = ("around", "concrete", "known")

    def invalidate(self) -> None:
        self.around: Any = {}
        self._invalidated = True
        self.frame.tracing_eqns = list(map(weakref.ref, self.frame.tracing_eqns))

    def var_to_tracer(self, *arguments: Any) -> Any:
        return _at_value(super().var_to_tracer(*arguments))

    def new_arg(self, *arguments: Any) -> Any:
        return _at_value(super().new_arg(*arguments))

    def _new_const(self, *arguments: Any) -> Any:
        return _at_value(super()._new_const(*arguments))

    def value_around(self, tracer: Any) -> Any:
        """What a tracer of the graph that has been read stands for, made again outside of it."""
        if isinstance(tracer.val, Literal):
            return tracer.val.val
        if tracer.val not in self.around:
            frame: Any = self.frame
            whole = ClosedJaxpr(*frame.to_jaxpr(self, [tracer], frame.debug_info, None))
            variables, outputs, equations = without_dead_code(whole)
            held = {**self.known, **frame.constvar_to_val}
            inputs = {v: held[v] for v in variables if v is not None}
            graph = graph_of(list(inputs), outputs, equations, {}, frame.debug_info)
            moved = [v not in frame.constvar_to_val and is_differentiable(v.aval) for v in inputs]
            depends = any(moved) and any(ad.jvp_jaxpr(graph, moved, False)[1])
            if depends or any(map(is_effectful, equations)):
                return tracer  # which JAX refuses, as it is not valid any more
            with core.set_current_trace(self.parent_trace):
                (self.around[tracer.val],) = evaluate(graph, list(inputs.values()))
        return canonical(self.around[tracer.val])  # its graph may have been read, too

    def value_of(self, tracer: Any) -> Any:
        """The concrete value at a tracer; `None` if it has none, or if an effect makes it."""
        constant = self.get_const(tracer)
        if constant is None and tracer.val not in self.known:
            self.known[tracer.val] = None
            if self.concrete and tracer.parent is not None and not tracer.parent.effects:
                self._evaluate(tracer.parent)
        return core.to_concrete_value(self.known[tracer.val] if constant is None else constant)

    def _evaluate(self, equation: Any) -> None:
        inputs = [self.value_of(x) for x in equation.in_tracers]
        if all(x is not None for x in inputs):
            with core.set_current_trace(core.eval_trace):
                outputs = bind(equation, inputs)
            self.known.update(zip(equation.outvars, outputs, strict=True))

    def process_custom_jvp_call(self, primitive, fun, jvp, tracers, /, **params):
        fun = _batched_as_its_tangent(fun, jvp)
        fun, jvp = (self._at_values(f, tracers, 1) for f in (fun, jvp))
        return super().process_custom_jvp_call(primitive, fun, jvp, tracers, **params)

    def process_custom_vjp_call(self, primitive, fun, fwd, bwd, tracers, /, **params):
        fun, fwd = self._at_values(fun, tracers, 1), self._at_values(fwd, tracers, 2)
        return super().process_custom_vjp_call(primitive, fun, fwd, bwd, tracers, **params)

    def _at_values(self, fun: Any, tracers: Sequence[Any], stride: int) -> Any:
        """A function of `tracers`, among others, that may branch on their values as well."""
        fun = fun.with_unknown_names()  # they are also those of arguments that are no tracers
        if config.check_tracer_leaks.value:  # what follows holds tracers for as long as the rule
            return fun
        places = slice(0, stride * len(tracers), stride)

        def read(*arguments):
            # It must be known which references are one, and JAX's checks be met with no names.
            if not (config.enable_checks.value or any(map(is_reference, tracers))):
                with contextlib.suppress(jax.errors.ConcretizationTypeError):
                    return _call_again(fun, arguments)

            def at(*chosen):
                every = list(arguments)
                every[places] = chosen
                return _call_again(fun, every)

            return evaluate(trace_at(at, tracers, fun.debug_info.func_name), arguments[places])

        return lu.wrap_init(read, debug_info=fun.debug_info)


class _TraceThatRuns(_TraceAtValues):
    """Evaluates each operation that it reads; one that fails does so there, and is not read."""

    __slots__ = ()

    def make_eqn(self, *arguments: Any, **named: Any) -> Any:
        equation, tracers = super().make_eqn(*arguments, **named)
        for tracer in tracers:
            self.value_of(tracer)
        return equation, tracers


class _TracerAtValue(pe.DynamicJaxprTracer):
    __slots__ = ()

    _trace: _TraceAtValues

    def full_lower(self) -> Any:
        value = _known_around(self)
        return super().full_lower() if value is self else value

    def to_concrete_value(self) -> Any:
        return self._trace.value_of(self)

    def _short_repr(self) -> str:
        value, tangent = self.to_concrete_value(), self.aval.to_tangent_aval().str_short(True)
        known = f"GradTracer(primal={value!s}, typeof(tangent)={tangent})"
        return super()._short_repr() if value is None else known

    def get_referent(self) -> Any:
        """What a reference refers to, by which JAX knows one that is passed twice."""
        constant = self._trace.get_const(self)
        value = self._trace.known.get(self.val) if constant is None else constant
        return self if value is None else core.get_referent(value)


def _at_value(tracer: Any) -> Any:
    tracer.__class__ = _TracerAtValue
    return tracer


def _known_around(tracer: Any) -> Any:
    """The tracer; the value that it stands for, once its graph has been read."""
    trace = tracer._trace
    return tracer if trace.around is None else trace.value_around(tracer)


_in_backward: Any = contextvars.ContextVar("in_backward", default=False)


def _in_its_vmap(tracer: Any) -> Any:
    """The tracer; if its `jax.vmap` is over, and a rule is read in that again, one of now.

    Not for plain JAX, nor for a backward function, which JAX refuses: g may be a sum of examples'.
    """
    trace, ended = core.trace_ctx.trace, tracer._trace
    around: Any = ended
    while around is not None and not isinstance(around, _TraceAtValues):
        around = getattr(around, "parent_trace", None)
    if around is None or ended.is_valid() or _in_backward.get():
        return tracer
    while trace is not None and getattr(trace, "tag", None) is not ended.tag:
        trace = getattr(trace, "parent_trace", None)
    return tracer if trace is None else batching.BatchTracer(trace, tracer.val, tracer.batch_dim)


# Every operation makes its operands canonical first.
dtypes.canonicalize_value_handlers[_TracerAtValue] = _known_around
dtypes.canonicalize_value_handlers[batching.BatchTracer] = _in_its_vmap


def _batched_as_its_tangent(fun: Any, jvp: Any) -> Any:
    """Under `jax.vmap` the function has a value for each example if its tangent has."""
    tags = [any(isinstance(x, core.TraceTag) for x in own) for _, own in fun.transforms]
    pairs = zip(fun.stores, jvp.stores, tags, strict=False)
    levels = [(own, of_tangent) for own, of_tangent, is_of_vmap in pairs if is_of_vmap]

    def read(*inputs):
        outputs = _call_again(fun, inputs)
        if any(None in own.val for own, _ in levels):
            tangents = [tangent_zero(core.typeof(x), symbolic=False) for x in inputs]
            made, start = core.trace_ctx.trace.frame.tracing_eqns, equations_so_far()
            with contextlib.suppress(Exception):  # the author's, who will hear of it in time
                outputs = _call_again(jvp, [*inputs, *tangents])[: len(outputs)]
                for own, of_tangent in levels:
                    own.reset()
                    own.store(of_tangent.val)
            made[start:] = [e for e in made[start:] if getattr(e, "outvars", True)]  # no prints
            for store in filter(None, jvp.stores):
                store.reset()
        return outputs

    return lu.wrap_init(read, debug_info=fun.debug_info) if levels else fun


def _call_again(fun: Any, arguments: Sequence[Any]) -> Any:
    for store in fun.stores:
        if store:
            store.reset()
    return fun.call_wrapped(*arguments)


def type_now(value: Any) -> Any:
    """The type, with what JAX 0.10 knows besides of what a box holds now."""
    aval = core.typeof(value)
    return core.AvalQDD(aval, core.cur_qdd(value)) if getattr(aval, "has_qdd", False) else aval


def input_types(graph: Any) -> list[Any]:
    """The types of the inputs, with what JAX 0.10 knows besides of what boxes hold at first."""
    return getattr(graph, "in_aval_qdds", graph.in_avals)


def source_of(fun: Callable[..., Any]) -> str:
    """The function's name, file and line, as errors print them."""
    return api_util.fun_sourceinfo(fun) or getattr(fun, "__name__", "<unknown>")


def close(jaxpr: Any) -> Any:
    """The graph of a jaxpr without constants; a graph is its own."""
    return jaxpr if hasattr(jaxpr, "consts") else pe.close_jaxpr(jaxpr)


def open_constants(graph: Any) -> tuple[Any, list[Any]]:
    """The graph with its constants as leading inputs, and their values."""
    return pe.close_jaxpr(pe.convert_constvars_jaxpr(graph.jaxpr)), list(graph.consts)


def graph_of(
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    equations: Sequence[Any],
    constants: dict[Any, Any],
    info: Any,
) -> Any:
    """A new graph of equations; `constants` maps variables to values."""
    variables, values = list(constants), list(constants.values())
    effects = pe.make_jaxpr_effects(variables, inputs, outputs, equations)
    info = info.with_unknown_names()
    parts = (variables, list(inputs), list(outputs), list(equations), effects, info)
    jaxpr = core.Jaxpr(*parts, is_high=any(map(_is_high, equations)))
    return ClosedJaxpr(jaxpr, values)


def equations_so_far() -> int:
    """How many equations the function that is being traced has emitted."""
    return len(core.trace_ctx.trace.frame.tracing_eqns)


def is_effectful(equation: Any) -> bool:
    """Whether it matters when, and how often, an equation is run."""
    effects = [e for e in equation.effects if not isinstance(e, core.NamedAxisEffect)]
    return bool(effects) or not equation.outvars


def is_collective(graph: Any) -> bool:
    """Whether the graph has devices, or examples, exchange values."""
    return any(isinstance(effect, core.NamedAxisEffect) for effect in graph.jaxpr.effects)


def without_dead_code(graph: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """Inputs that are used (`None` for the others), outputs and equations of the live graph.

    The constants lead the inputs.
    """
    opened = pe.convert_constvars_jaxpr(graph.jaxpr)
    live, used = pe.dce_jaxpr(opened, [True] * len(opened.outvars))
    variables = iter(live.invars)
    inputs = [next(variables) if use else None for use in used]
    return inputs, list(live.outvars), list(live.eqns)


def policy_saves(policy: Callable[..., Any], equation: Any) -> bool:
    """Whether a policy of `jax.checkpoint` lets the outputs of an equation be saved."""
    answer = policy(equation.primitive, *(v.aval for v in equation.invars), **equation.params)
    return pe.ensure_enum(answer) is not pe.Recompute


def may_copy() -> bool:
    """Whether a graph is being read into which equations can be copied as they are."""
    trace = core.trace_ctx.trace
    return isinstance(trace, pe.DynamicJaxprTrace) and not (
        trace.requires_low
        or core.current_jaxpr_eqn_context().xla_metadata
        or config.eager_constant_folding.value
        or config.enable_checks.value
    )


def is_read(value: Any) -> bool:
    """Whether it is a value of the graph that is being read."""
    return _belongs(value, core.trace_ctx.trace)


def evaluate(graph: Any, inputs: Sequence[Any]) -> list[Any]:
    """The graph's outputs; where a graph is being read, the equations are copied into that one."""
    jaxpr = graph.jaxpr
    pairs = zip(inputs, jaxpr.invars, strict=True)
    if may_copy() and not jaxpr.is_high and all(core.typeof(x) == v.aval for x, v in pairs):
        return copy(graph, inputs)
    return core.eval_jaxpr(jaxpr, graph.consts, *inputs)


def copy(graph: Any, inputs: Sequence[Any], here: bool = False) -> list[Any]:
    """What `evaluate` emits; it bears the graph's source lines, or the one being read, `here`."""
    trace, now, jaxpr = core.trace_ctx.trace, source_info_util.current(), graph.jaxpr
    scopes: dict[Any, Any] = {}
    tracers: dict[Any, Any] = {}
    for v, x in zip([*jaxpr.constvars, *jaxpr.invars], [*graph.consts, *inputs], strict=True):
        tracers[v] = x if _belongs(x, trace) else trace.to_jaxpr_tracer(canonical(x), now)
    for e in jaxpr.eqns:
        operands = [
            trace.var_to_tracer(v, now) if isinstance(v, Literal) else tracers[v] for v in e.invars
        ]
        if e.effects:  # they name operands
            outputs = bind(e, operands)
        else:
            traceback, own = e.source_info.traceback, e.source_info.name_stack
            if own not in scopes:
                scopes[own] = now.name_stack + own
            place = (now.traceback if here else traceback, scopes[own])
            outputs = _emit(trace, e, operands, place, e.ctx)
        tracers.update(zip(e.outvars, outputs, strict=True))
    return [v.val if isinstance(v, Literal) else tracers[v] for v in jaxpr.outvars]


def _belongs(value: Any, trace: Any) -> bool:
    return isinstance(value, pe.DynamicJaxprTracer) and value._trace is trace


def _emit(trace: Any, equation: Any, operands: Sequence[Any], place: Any, ctx: Any) -> list[Any]:
    """Add an equation to the graph that is being read: the same, of operands of the same types."""
    avals, source = [v.aval for v in equation.outvars], source_info_util.SourceInfo(*place)
    parts = (equation.primitive, equation.params, equation.effects, source, ctx)
    return trace.emit_eqn(operands, avals, *parts)


def lowered(fun: Callable[..., Any], *avals: Any) -> Any:
    """The program of a function of these types, ready to be compiled."""
    with core.set_current_trace(core.eval_trace):
        return jax.jit(fun).lower(*avals)


# --- Equations ---------------------------------------------------------------------------


@contextlib.contextmanager
def in_pass(*names: str) -> Iterator[None]:
    """What is emitted inside bears the name of the pass, as in `jax.grad`'s: jvp, transpose(jvp).

    Profiles tell the two passes apart by them.
    """
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(source_info_util.transform_name_stack(name))
        yield


_place: Any = contextvars.ContextVar("place", default=(None, None))


@contextlib.contextmanager
def place_of(equation: Any) -> Iterator[None]:
    """What is emitted inside bears the equation's source line, scope and settings."""
    traceback, scope = _place_of(equation)
    token = _place.set((core.trace_ctx.trace, traceback))
    try:
        with source_info_util.user_context(traceback, name_stack=scope), equation.ctx.manager:
            yield
    finally:
        _place.reset(token)


def _place_of(equation: Any) -> tuple[Any, Any]:
    """Line and scope; an operation inside a library's jit has no line but that of the call."""
    source, (trace, traceback) = equation.source_info, _place.get()
    of_its_own = source_info_util.user_frame(source.traceback) is not None
    if of_its_own or trace is not core.trace_ctx.trace:
        traceback = source.traceback
    return traceback, source_info_util.current_name_stack() + source.name_stack


def bind(equation: Any, inputs: Sequence[Any]) -> list[Any]:
    """The equation's outputs for other inputs."""
    primitive, trace = equation.primitive, core.trace_ctx.trace
    if may_copy() and not (equation.effects or primitive.ref_allocating or _is_high(equation)):
        place, pairs = _place_of(equation), zip(inputs, equation.invars, strict=True)
        operands = [_operand(trace, x, v) for x, v in pairs]
        settings = getattr(equation.ctx, "settings", equation.ctx)  # without a rule (placing.py)
        if all(x is not None for x in operands):
            return _emit(trace, equation, operands, place, settings)
    with place_of(equation):
        out = primitive.bind(*inputs, **primitive.get_bind_params(equation.params))
    return list(out) if primitive.multiple_results else [out]


def _is_high(equation: Any) -> bool:
    # Whether it holds operations that JAX replaces by others before it compiles them.
    return equation.primitive.is_high(*(v.aval for v in equation.invars), **equation.params)


def _operand(trace: Any, value: Any, variable: Any) -> Any:
    """A value of the graph that is being read, if it is that of a variable of the same type."""
    if isinstance(variable, Literal) and value is variable.val:
        return trace.var_to_tracer(variable, source_info_util.current())
    return value if _belongs(value, trace) and value.aval == variable.aval else None


def function_name(equation: Any) -> str | None:
    """The name of the function that a call-like equation calls."""
    params = equation.params
    if "name" in params and "jaxpr" in params:
        return params["name"]
    if "call_jaxpr" in params:
        return close(params["call_jaxpr"]).jaxpr.debug_info.func_name
    return None


def differentiated_by_jax() -> set[str]:
    """The names of the primitives that JAX has a rule for, in whichever of its tables."""
    tables = [table for table in vars(ad).values() if isinstance(table, dict)]
    return {key.name for table in tables for key in table if isinstance(key, core.Primitive)}


def subgraphs(equation: Any) -> list[Any]:
    """The graphs that an equation holds, in the order of its parameters."""
    values = [x if isinstance(x, tuple | list) else (x,) for x in equation.params.values()]
    return [close(x) for value in values for x in value if is_graph(x)]


def is_graph(value: Any) -> bool:
    """Whether it is a whole program: a jaxpr whose constants are kept elsewhere is none."""
    whole = hasattr(value, "consts") or not getattr(value, "constvars", ())
    return isinstance(value, ClosedJaxpr | core.Jaxpr) and whole


def line_of(equation: Any) -> tuple[str, int, str]:
    """File, line and function of the innermost frame of the user's; ("?", 0, "?") if unknown."""
    frame = source_info_util.user_frame(equation.source_info.traceback)
    return (frame.file_name, frame.start_line, frame.function_name) if frame else ("?", 0, "?")


def calls_of(equation: Any, shown: str | tuple[str, ...] = ()) -> tuple[list[Any], tuple[Any, ...]]:
    """Where an equation was made: the user's frames, and the library's inside of them.

    Both from the innermost outwards: frames with file_name, function_name, start_line,
    start_column, end_line and end_column, and pairs of a code object and a place in it. Files of
    the library whose paths begin with `shown` count as the user's.
    """
    traceback = equation.source_info.traceback
    frames = list(zip(*traceback.raw_frames(), strict=True)) if traceback else []

    def is_the_users(frame):
        file = frame[0].co_filename
        return file.startswith(shown) or source_info_util.is_user_filename(file)

    users = [source_info_util.raw_frame_to_frame(*frame) for frame in frames if is_the_users(frame)]
    return users, tuple(itertools.takewhile(lambda frame: not is_the_users(frame), frames))


def scope_of(equation: Any) -> str:
    """The `jax.named_scope` path of an equation, within its graph."""
    return str(equation.source_info.name_stack)


# --- Calls -------------------------------------------------------------------------------


ANYWHERE = (UNSPECIFIED, None)
"""The sharding and the layout of an array of which the author of a jit says nothing."""


def call_jit(
    params: dict[str, Any],
    where_in: Sequence[Any],
    where_out: Sequence[Any],
    graph: Any,
    inputs: Sequence[Any],
) -> list[Any]:
    """Emit `jax.jit` of another graph, at other places, under the parameters of a jit equation."""
    changed = {"jaxpr": graph, "donated_invars": (False,) * len(inputs)}
    for side, places in (("in", where_in), ("out", where_out)):
        changed[f"{side}_shardings"] = tuple(sharding for sharding, _ in places)
        changed[f"{side}_layouts"] = tuple(layout for _, layout in places)
    try:
        return pjit.jit_p.bind(*inputs, **{**params, **changed})
    except api_util.InternalFloatingPointError as error:  # jax_debug_nans: find the operation
        api_util.maybe_recursive_nan_check(error, functools.partial(evaluate, graph), (inputs,), {})


def call(graph: Any, inputs: Sequence[Any]) -> list[Any]:
    """Emit a call of another graph, which stays one until XLA sees it."""
    primitive, (graph, closed_over) = core.closed_call_p, open_constants(graph)
    return primitive.bind(*closed_over, *inputs, **primitive.get_bind_params({"call_jaxpr": graph}))


class ScanOperands(NamedTuple):
    """How the operands of a scan divide: constants, carry, scanned inputs."""

    consts: list[Any]
    carry: list[Any]
    xs: list[Any]


def scan_operands(params: dict[str, Any], values: Sequence[Any]) -> ScanOperands:
    """Divide `values`, one per operand of a scan."""
    values = list(values)
    if flattree is None:
        consts, carry = params["num_consts"], params["num_carry"]
    else:
        consts, carry, _ = (len(group) for group in params["ft_in"].unpack())
    return ScanOperands(values[:consts], values[consts : consts + carry], values[consts + carry :])


def slice_type(aval: Any) -> Any:
    """The type of one slice along the leading axis."""
    return core.mapped_aval(aval.shape[0], 0, aval)


def stacked_type(aval: Any, length: int) -> Any:
    """The type of `length` such values, stacked along a leading axis."""
    return core.unmapped_aval(length, 0, aval)


def call_scan(params: dict[str, Any], graph: Any, operands: ScanOperands, reverse: bool):
    """Emit a scan of another body; returns the last carry and the stacked outputs, in one list."""
    graph, closed_over = open_constants(graph)
    operands = operands._replace(consts=[*closed_over, *operands.consts])
    counts = [len(group) for group in operands]
    outputs = len(graph.jaxpr.outvars) - counts[1]
    if flattree is None:
        division = {"num_consts": counts[0], "num_carry": counts[1]}
    else:
        nones = flattree.nones
        division = {
            "ft_in": flattree.pack(tuple(map(nones, counts))),
            "ft_out": flattree.pack((nones(counts[1]), nones(outputs))),
        }
    kept = {name: params[name] for name in ("length", "unroll")}
    flat = [value for group in operands for value in group]
    return scan_p.bind(*flat, jaxpr=graph, reverse=reverse, **kept, **division)


def call_cond(params: dict[str, Any], index: Any, branches: Sequence[Any], inputs: Sequence[Any]):
    """Emit a cond of other branches."""
    return cond_p.bind(index, *inputs, **{**params, "branches": tuple(branches)})


def barrier(values: Sequence[Any]) -> list[Any]:
    """XLA merges no work after this point with equal work before it."""
    arrays = [x for x in values if not is_reference_type(core.typeof(x))]
    guarded = iter(jax.lax.optimization_barrier(tuple(arrays)) if arrays else ())
    return [x if is_reference_type(core.typeof(x)) else next(guarded) for x in values]


# --- What waits for a gradient ---------------------------------------------------------------
#
# Two identities. `awaiting` hands x on once the value that `arrival` of the same place saw last is
# there. XLA does what it can as soon as it can, and takes `optimization_barrier` away before it
# makes its schedule; so x is chosen by a condition that holds always, as only we know:
#
#     x' = 0 if (g₀ ≠ g₀ and g₀ = g₀) else x        g₀: one entry of the value that arrived
#
# Where that would cost communication, or g is out of sight, a barrier must do. The dependence shows
# in the lowered program alone: for JAX both are linear, and so is all that reads them.

arrival_p, awaiting_p = core.Primitive("arrival"), core.Primitive("awaiting")


def _lower_arrival(context: Any, value: Any, *, place: int) -> list[Any]:
    seen = context.module_context.cached_primitive_lowerings
    if getattr(context.module_context.axis_context, "num_devices", None) == 1:
        never = mlir.lower_fun(_never, multiple_results=False)
        (seen[arrival_p, place],) = never(context, value)
    return [value]


def _lower_awaiting(context: Any, value: Any, *, place: int) -> list[Any]:
    never = context.module_context.cached_primitive_lowerings.get((arrival_p, place))
    (aval,) = context.avals_in
    is_key = dtypes.issubdtype(aval.dtype, dtypes.extended)
    if is_key or never is None or never.owner.operation.block != _current_block():
        return mlir.lower_fun(lambda x: jax.lax.optimization_barrier((x,)))(context, value)
    zeros = mlir.full_like_aval(context, 0, aval)
    return [hlo.select(never, zeros, value)]


def _current_block() -> Any:
    point: Any = ir.InsertionPoint
    return point.current.block


def _never(g: Any) -> Any:
    first = jax.lax.slice(g, (0,) * g.ndim, (1,) * g.ndim).reshape(())
    return jax.lax.bitwise_and(jax.lax.ne(first, first), jax.lax.eq(first, first))


for _primitive, _lower in ((arrival_p, _lower_arrival), (awaiting_p, _lower_awaiting)):
    _primitive.def_impl(lambda x, *, place: x)
    _primitive.def_abstract_eval(lambda x, *, place: x)
    ad.deflinear2(_primitive, lambda g, x, *, place: [g])
    batching.defvectorized(_primitive)
    mlir.register_lowering(_primitive, _lower, cacheable=False)


# --- Calls of all devices of a mesh --------------------------------------------------------


@contextlib.contextmanager
def inside_shard_map(params: dict[str, Any]) -> Iterator[None]:
    """What the body of a shard_map equation is traced in: its mesh, and how strict types are."""
    mesh, axes = params["mesh"], params["newly_manual_axes"]
    manual = jax.sharding.use_abstract_mesh(sharded._as_manual_mesh(mesh, axes))
    strict = config._check_vma(params["check_vma"])
    with sharded._extend_axis_env(mesh, axes), manual, strict:
        yield


def call_shard_map(
    params: dict[str, Any],
    graph: Any,
    in_specs: Sequence[Any],
    out_specs: Sequence[Any],
    inputs: Sequence[Any],
) -> list[Any]:
    """Emit a shard_map of another graph of shards under the parameters of a shard_map equation."""
    with inside_shard_map(params):
        graph, constants = open_constants(graph)
    whole = [sharded._repspec(core.typeof(x)) for x in constants]
    specs = {"in_specs": (*whole, *in_specs), "out_specs": tuple(out_specs)}
    primitive = sharded.shard_map_p
    changed = primitive.get_bind_params({**params, **specs, "jaxpr": graph.jaxpr})
    return list(primitive.bind(*constants, *inputs, **changed))


def spec_of_shards(params: dict[str, Any], aval: Any) -> Any:
    """The partition that puts everything that the devices have, of a type, in a row."""
    mesh, typed = params["mesh"], params["check_vma"]
    names = sharded._all_newly_manual_mesh_names(mesh, params["newly_manual_axes"])
    row = tuple(name for name in names if not typed or name in aval.mat.varying)
    return aval.nospec(mesh, typed, names).update(partitions=(row,) if row else ())


def copies(params: dict[str, Any], spec: Any) -> tuple[Any, ...]:
    """The axes of the mesh along which a value that is partitioned so is repeated."""
    return tuple(sharded._unmentioned2(params["mesh"], spec, params["newly_manual_axes"]))


# --- Functions with rules of their author -------------------------------------------------


def custom_jvp_function(equation: Any, active: Sequence[bool]) -> tuple[Any, ...]:
    """The graph alone, which inputs have no tangent in it, and which outputs have one."""
    shown = active[equation.params["num_consts"] :]
    left_out = tuple(equation.params["symbolic_zeros"] and not a for a in shown)
    jaxpr, consts, zeros = equation.params["jvp_jaxpr_fun"].call_wrapped(*left_out)
    return ClosedJaxpr(jaxpr, consts), left_out, tuple(not zero for zero in zeros)


def run_custom_forward(equation: Any, inputs: Sequence[Any], active: Sequence[bool]):
    """Run the author's forward function: outputs and residuals."""
    _, fwd, _ = _subfunctions(equation)
    interleaved = [x for pair in zip(inputs, active, strict=True) for x in pair]
    answers = fwd.call_wrapped(*interleaved)
    _, residual_tree, forwarded = equation.params["out_trees"]()
    # A residual that is an input of the function is not returned again but named by its index.
    count = residual_tree.num_leaves - sum(source is not None for source in forwarded)
    returned = iter(answers[:count])
    residuals = [next(returned) if i is None else inputs[i] for i in forwarded]
    return list(answers[count:]), residuals


def run_custom_backward(equation: Any, residuals: Sequence[Any], g: Sequence[Any]) -> list[Any]:
    """Run the author's backward function; a gradient that it declares zero is `None`."""
    *_, bwd = _subfunctions(equation)
    trees, symbolic = (equation.params.get(name) for name in ("out_trees", "symbolic_zeros"))
    full = [
        tangent_zero(variable.aval, symbolic) if entry is None else entry
        for entry, variable in zip(g, equation.outvars, strict=True)
    ]
    own = trees()[0].num_leaves if trees else len(full)
    token = _in_backward.set(True)
    try:
        answers = bwd.call_wrapped(*residuals, *full[len(full) - own :])
    finally:
        _in_backward.reset(token)
    if isinstance(answers, tuple) and len(answers) == 2 and not hasattr(answers[1], "dtype"):
        answers, _ = answers  # JAX 0.12 returns what the author logs beside the gradients
    return [x if _is_nonzero(x) else None for x in answers]


def _subfunctions(equation: Any) -> tuple[Any, ...]:
    params = equation.primitive.get_bind_params(equation.params)
    return params.get("subfuns") or (params["bwd"],)


def tangent_zero(aval: Any, symbolic: bool) -> Any:
    tangent = aval.to_tangent_aval()
    return ad_util.SymbolicZero(tangent) if symbolic else zeros_of(tangent)


def _is_nonzero(value: Any) -> bool:
    """Whether a tangent or gradient is there at all: no symbolic zero, no float0."""
    if isinstance(value, ad_util.SymbolicZero | ad_util.Zero):
        return False
    return getattr(value, "dtype", None) != jax.dtypes.float0
