"""fg.diagnose names the line, the iteration, the example and the branch of what is wrong."""

import os

import pytest

import fungrad as fg
from tests.inspect import blocked, sick, sick_within, sound


def by_name(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.fun.__name__)


def check(case, found):
    told = str(found)
    where = os.path.basename(case.fun.__code__.co_filename)
    assert (os.path.basename(found.file), found.line) == (where, case.line), told
    assert (found.iteration, found.example, found.branch) == case[3:6], told
    assert case.backward in (None, found.is_backward), told
    assert case.says in told, told


@by_name(sick.CASES + sick_within.CASES)
def test_origin_of_nan_and_infinity(case):
    found = fg.diagnose(case.fun)(*case.args)
    assert not found.healthy
    check(case, found)
    assert "<table>" in found._repr_html_()


@by_name(sound.CASES)
def test_no_alarm_without_harm(case):
    found = fg.diagnose(case.fun)(*case.args)
    assert found.healthy, str(found)
    assert (found.cause, found.line, found.node, found.iteration) == (None,) * 4
    assert found.word


@by_name(blocked.CASES)
def test_what_blocks_a_gradient(case):
    found = fg.diagnose(case.fun)(*case.args)
    first = next(iter(case.fun.__code__.co_varnames))
    finding = next(f for f in found.findings if f.argument == first)
    assert finding.kind == "zero"
    check(case, finding)
