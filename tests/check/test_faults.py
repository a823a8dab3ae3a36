"""Test the prover: it finds every planted fault, names its place, and passes what is right."""

import pytest

import fungrad as fg
from tests.check.faults import FAULTS
from tests.check.sound import RIGHT


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_its_place_named(name):
    fault = FAULTS[name]
    verdict = fg.check.custom_vjp(fault.fun, **fault.options)(*fault.args)
    assert not verdict
    assert any(
        fault.argument in ("", finding.argument)
        and fault.index in (None, finding.index)
        and finding.witness.startswith(fault.witness)
        for finding in verdict.faults
    ), str(verdict)


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(name):
    fun, args, options = RIGHT[name]
    verdict = fg.check.custom_vjp(fun, **options)(*args)
    assert verdict, str(verdict)
