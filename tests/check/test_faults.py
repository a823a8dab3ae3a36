"""Test the prover: it finds every planted fault, names its place, and passes what is right."""

import pytest

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


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(name):
    fun, args, options = RIGHT[name]
    verdict = fg.check.custom_vjp(fun, **options)(*args)
    assert verdict, str(verdict)
