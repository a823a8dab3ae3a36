"""Functions of shards, and constraints on where arrays live."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import compress
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from fungrad import _jax
from fungrad.rulebook import CallRule, Halves, rule
from fungrad.rules.calls import activity_inside, cut_of, graph_inside

# --- shard_map -----------------------------------------------------------------------------------
#
# Every device runs the body f on its shards, so every device runs the two halves of f, on its
# shards and on what it saved. A gradient is partitioned as its value is. Where a spec does not
# mention an axis of the mesh, the devices along it hold copies of one value:
#
#     z, an output, is any of the n copies zᵢ:       z = Σᵢ zᵢ / n           gᵢ = g / n
#     x, an input, is copied to all xᵢ:              xᵢ = x                  g = Σᵢ gᵢ
#
# With check_vma, types tell copies from values that differ: the copying of x and the sums are
# equations of the body, whose rules do all this (collective.py).


def _split_shard_map(equation, active, wanted, settings) -> Halves:
    """z = f(x) on each device's shards        ∂z/∂x = ∂f/∂x on each device"""
    with _jax.inside_shard_map(equation.params):
        cut = cut_of(graph_inside(equation), active, wanted, settings)
    devices = _Devices(equation, cut, active, wanted)
    return Halves(devices.forward, devices.backward)


class _Devices:
    """The two halves of a body, each run by all devices of a mesh.

    `arriving` are the types and the partitions of the gradients that arrive: at wanted outputs,
    then in the references to gradients. `gives` are the inputs that get a gradient.
    """

    def __init__(self, equation: Any, cut: Any, active: Sequence[bool], wanted: Sequence[bool]):
        self.cut, self.active, self.wanted, self.params = cut, active, wanted, equation.params
        self.in_specs, self.out_specs = self.params["in_specs"], self.params["out_specs"]
        self.saved = [_jax.spec_of_shards(self.params, aval) for aval in cut.saved]
        self.outputs = [v.aval for v in equation.outvars]
        asked = [i for i, a in enumerate(active) if a]
        self.gives = [i for i, gives in zip(asked, cut.gives, strict=True) if gives]
        inputs = [(v.aval, spec) for v, spec in zip(equation.invars, self.in_specs, strict=True)]
        self.arriving = list(compress(zip(self.outputs, self.out_specs, strict=True), wanted))
        self.arriving += [inputs[i] for i in asked if _jax.is_reference_type(inputs[i][0])]

    def forward(self, *inputs):
        cut, kept = self.cut, [i for i, keep in enumerate(self.cut.kept) if keep]

        def ahead(*shards):
            answers = _jax.evaluate(cut.forward, shards)
            return [*answers[: len(kept)], *map(_with_axis, answers[len(kept) :])]

        in_specs = [self.in_specs[i] for i in cut.reads]
        out_specs = [*(self.out_specs[i] for i in kept), *self.saved]
        types = [v.aval for v in cut.forward.jaxpr.invars]
        read = _jax.filled([inputs[i] for i in cut.reads])
        answers = self._call(ahead, types, in_specs, out_specs, read)
        outputs: list[Any] = [_jax.Unknown(aval) for aval in self.outputs]
        for i, answer in zip(kept, answers, strict=False):
            outputs[i] = answer
        return outputs, [*_jax.filled([inputs[i] for i in cut.free]), *answers[len(kept) :]]

    def backward(self, saved, g, *references):
        cut, first, size = self.cut, len(self.cut.free), len(saved)
        arriving = [*compress(g, self.wanted), *references]
        built = [
            _jax.zeros(self.arriving[i][0]) if arriving[i] is None else arriving[i]
            for i in cut.takes
        ]
        g_specs = [self.arriving[i][1].to_ct_spec() for i in cut.takes]
        x_specs = [self.in_specs[i].to_ct_spec() for i in self.gives]

        def behind(*shards):
            held = map(_without_axis, shards[first:size], cut.saved)
            arriving = map(self._of_copies, shards[size:], g_specs)
            answers = _jax.evaluate(cut.backward, [*shards[:first], *held, *arriving])
            return list(map(self._over_copies, answers, x_specs))

        types = [v.aval for v in cut.backward.jaxpr.invars]
        types[first:size] = map(_type_with_axis, cut.saved)
        in_specs = [*(self.in_specs[i] for i in cut.free), *self.saved, *g_specs]
        answers = self._call(behind, types, in_specs, x_specs, [*saved, *built])
        gradients = dict(zip(self.gives, answers, strict=True))
        return [gradients.get(i) for i in range(len(self.active))]

    def _of_copies(self, g, spec):
        names = self._copies(spec)
        if names and _jax.is_reference_type(_jax.type_of(g)):
            raise NotImplementedError(
                f"shard_map with check_vma=False is differentiated through a mutable reference, "
                f"whose in_specs {spec} leave a copy to each device along the mesh axes {names}. "
                "Name all axes in its in_specs, or leave check_vma True"
            )
        n = math.prod(self.params["mesh"].shape[name] for name in names)
        return g / n if n > 1 else g

    def _over_copies(self, g, spec):
        return lax.psum(g, names) if (names := self._copies(spec)) else g

    def _copies(self, spec):
        return () if self.params["check_vma"] else _jax.copies(self.params, spec)

    def _call(self, function, types, in_specs, out_specs, values):
        with _jax.inside_shard_map(self.params):
            graph = _jax.trace(function, types)
        return _jax.call_shard_map(self.params, graph, in_specs, out_specs, values)


# The devices' shards are put in a row along their first axis; a scalar has none, and gets one.


def _with_axis(x):
    return x if x.shape else lax.expand_dims(x, [0])


def _without_axis(x, aval):
    return x if aval.shape else lax.squeeze(x, [0])


def _type_with_axis(aval):
    return aval if aval.shape else _jax.stacked_type(aval, 1)


def _mesh(axis_type):
    return jax.make_mesh((jax.device_count(),), ("i",), axis_types=(axis_type,))


def _shard_map_example(draw):
    n, mesh = jax.device_count(), _mesh(AxisType.Auto)

    def body(x, w):
        return jnp.sin(x * w[0]) @ w, lax.psum(jnp.sum(x * x), "i")

    for check in (True, False):
        how = {"in_specs": (P("i"), P()), "out_specs": (P("i"), P()), "check_vma": check}
        yield jax.shard_map(body, mesh=mesh, **how), draw.uniform(2 * n, 3), draw.uniform(3)


shard_map = CallRule("shard_map", _split_shard_map, activity_inside, example=_shard_map_example)


# --- where arrays live ---------------------------------------------------------------------------


def _constraint_example(draw):
    where = NamedSharding(_mesh(AxisType.Auto), P("i"))
    return partial(lax.with_sharding_constraint, shardings=where), draw.uniform(jax.device_count())


@rule("sharding_constraint", example=_constraint_example)
def sharding_constraint(g, z, x, **params):
    """z = x, partitioned as its author asks        ∂z/∂x = I, likewise"""
    return lax.sharding_constraint_p.bind(g, **params)


def _reshard_example(draw):
    where = NamedSharding(_mesh(AxisType.Explicit), P("i"))
    x = jax.device_put(draw.uniform(jax.device_count()), where.update(spec=P()))
    return jax.jit(lambda x: jax.sharding.reshard(x, where)), x


@rule("reshard", example=_reshard_example)
def reshard(g, z, x):
    """z = x, partitioned otherwise        ∂z/∂x = I: the pass moves g to where x's type says"""
    return g
