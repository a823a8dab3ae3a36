"""Every rule is proven at its examples, by all witnesses; `pytest -k tanh` proves one rule."""

import jax
import pytest
from jax import lax
from jax.experimental import xla_metadata

import fungrad as fg
from fungrad.rulebook import Gap, Rule
from fungrad.rules import collective

# The rules of primitives that this version of JAX lacks have nothing to be tested on.
ABSENT = {name for name in ("log2", "one_minus_square", "polynomial") if not hasattr(lax, name)}
ABSENT |= {name for name in ("xla_metadata_call",) if not hasattr(xla_metadata, name)}
ALL = {rule.primitive: rule for rule in fg.rules if rule.primitive not in ABSENT}
# What exists only across the devices of a mesh is tested in whole programs: test_collective.py.
ON_MESH = {"reshard"}
ON_MESH |= {rule.primitive for rule in vars(collective).values() if isinstance(rule, Rule)}
NODES = [rule for name, rule in ALL.items() if isinstance(rule, Rule) and name not in ON_MESH]
PROVEN = [rule.primitive for rule in NODES if not rule.reason]
PROVEN += [name for name, rule in ALL.items() if not isinstance(rule, Rule | Gap) and rule.example]

FORMATS = ("float64", "float32", "bfloat16")

# Where JAX, or LAPACK, does not know bfloat16, and where JAX has nothing to compare with.
WITHOUT_BFLOAT16 = {"cholesky", "eig", "eigh", "lu", "qr", "svd", "tridiagonal_solve"}
WITHOUT_BFLOAT16 |= {"complex", "conj", "custom_linear_solve", "fft"}
SILENT = {name: {"bfloat16"} for name in WITHOUT_BFLOAT16} | {
    "free_ref": {"vmap"},
    "linear_call": {"vmap"},
    "ragged_dot_general": {"reference", "jacobian", "second order", "vmap"},
    "random_gamma": {"differences", "second order"},
    "while": {"reference", "jacobian", "second order"},
}
SILENT |= {"igamma": {"second order"}, "igammac": {"second order"}}
if jax.__version_info__ < (0, 11):  # it could not differentiate references twice
    for name in ("new_ref", "free_ref", "freeze", "get", "swap", "addupdate"):
        SILENT[name] = SILENT.get(name, set()) | {"second order"}
# Questions that arise for every rule.
ASKED = {"reference", "differences", "jacobian", "linearity", "second order", "vmap", "rounding"}


@pytest.mark.parametrize("name", PROVEN)
def test_rule(name):
    verdict = fg.check.rule(name, dtypes=FORMATS)
    assert verdict, str(verdict)
    assert set(verdict.silent) == SILENT.get(name, set()), str(verdict)
    unheard = {witness for witness in ASKED if not verdict.compared[witness]}
    assert unheard <= SILENT.get(name, set()), f"{unheard} said nothing\n{verdict}"
