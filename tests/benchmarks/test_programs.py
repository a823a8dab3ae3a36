"""The programs that are measured: each is differentiable, and a wrapped block changes nothing."""

import jax
import numpy as np
import pytest

import fungrad as fg
from benchmarks.programs import PROGRAMS, plain

WRAPPED = {name for name in PROGRAMS if not PROGRAMS[name](small=True).eager}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_has_a_gradient(name):
    program = PROGRAMS[name](small=True)
    of = program.of_known_length or program.loss
    found = jax.eval_shape(fg.grad(of(plain)), *program.arguments)
    expected = jax.eval_shape(lambda x: x, program.arguments[0])
    assert jax.tree.all(
        jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), found, expected)
    )


@pytest.mark.parametrize("name", sorted(WRAPPED))
def test_a_program_wraps_its_blocks(name):
    program, wrapped = PROGRAMS[name](small=True), []

    def wrap(block, **options):
        wrapped.append(options)
        return block

    jax.eval_shape(program.loss(wrap), *program.arguments)
    assert wrapped
    in_a_scan = program.scanned and program.of_known_length is None
    assert all(options == ({"prevent_cse": False} if in_a_scan else {}) for options in wrapped)


@pytest.mark.parametrize("name", ["vit", "transformer"])
def test_what_policies_name_is_in_the_program(name):
    program = PROGRAMS[name](small=True)
    graph = str(jax.make_jaxpr(program.loss(plain))(*program.arguments))
    assert program.names
    assert all(f"name={one}]" in graph for one in program.names)


def test_the_loop_of_known_length_is_the_same_function():
    program = PROGRAMS["ode-dynamic"](small=True)
    dynamic, known = (
        of(plain)(*program.arguments) for of in (program.loss, program.of_known_length)
    )
    np.testing.assert_allclose(dynamic, known, rtol=1e-6)
