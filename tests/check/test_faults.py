"""Test the prover: it finds every planted fault, names its place, and passes what is right."""

import jax
import pytest
from jax import numpy as jnp

import fungrad as fg
from tests.check.faults import FAULTS
from tests.check.sound import RIGHT


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_its_place_named(name):
    fault = FAULTS[name]
    check = fg.check.custom_vjp(fault.fun, witnesses=[fault.witness], **fault.options)
    verdict = check(*fault.args)
    assert any(
        fault.argument in ("", finding.argument) and fault.index in (None, finding.index)
        for finding in verdict.faults
    ), str(verdict)


def test_all_witnesses_hear_of_a_fault():
    fault = FAULTS["a wrong factor"]
    verdict = fg.check.custom_vjp(fault.fun)(*fault.args)
    guilty = {finding.witness for finding in verdict.faults}
    assert guilty >= {"reference", "differences", "jacobian", "second order", "rounding", "zeros"}
    assert {finding.argument for finding in verdict.faults} >= {"x"}


def test_a_kink_in_the_eyes_of_one_witness_may_be_a_fault_in_those_of_the_next():
    fault = FAULTS["all of the gradient to each side of a tie"]
    verdict = fg.check.custom_vjp(fault.fun, witnesses=["reference", "differences"])(*fault.args)
    assert {finding.witness for finding in verdict.faults} == {"differences"}
    assert [finding.witness for finding in verdict.kinks] == ["reference"]


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(name):
    fun, args, options = RIGHT[name]
    verdict = fg.check.custom_vjp(fun, **options)(*args)
    assert verdict, str(verdict)


def test_where_kinks_meet_the_choice_of_jax_is_a_convention():
    """The slopes of 2 relu x − relu(−x) at 0 are 2 and 1, and relu' 0 is 0."""
    check = fg.check.function(
        lambda x: 2 * jax.nn.relu(x) - jax.nn.relu(-x), witnesses=["differences"]
    )
    verdict = check(jnp.zeros(()))
    assert verdict, str(verdict)
    low, high = verdict.kinks[0].want
    assert (verdict.kinks[0].got, round(high / low, 5)) == (0, 2)


def test_a_fault_of_the_first_order_is_not_called_right_in_the_second():
    fault = FAULTS["a wrong factor"]
    verdict = fg.check.custom_vjp(fault.fun, witnesses=["reference", "second order"])(*fault.args)
    assert {(finding.kind, finding.witness) for finding in verdict.findings} >= {
        ("fault", "reference"),
        ("fault", "second order"),
    }
    assert all(finding.kind == "fault" for finding in verdict.findings)
