"""make bench: it measures every contender, refuses wrong gradients, and writes its page."""

import dataclasses
import re

import jax
import pytest

from benchmarks import gradients, measuring, page
from benchmarks.programs import PROGRAMS, plain
from benchmarks.results import JAX, NOTHING, OURS, POLICIES, STAGES, Outcome, Ratio, Results, Row
from experiments.common.command import ExperimentError


@pytest.fixture(scope="module")
def results():
    return gradients.run(gradients.Config(smoke=True))


def test_every_contender_is_measured(results):
    outcomes = results.rows["mlp-scanned"].outcomes
    assert set(outcomes) == set(gradients.SMOKE_CONTENDERS)
    for outcome in outcomes.values():
        assert not outcome.refused
        assert set(outcome.samples) == set(STAGES)
        assert all(samples[0] >= 0 for samples in outcome.samples.values())


def test_a_function_called_eagerly_is_timed_alone(results):
    outcomes = results.rows["neuron-eager"].outcomes
    assert set(outcomes) == {OURS, NOTHING, JAX}
    assert all(set(outcome.samples) == {"time"} for outcome in outcomes.values())


def test_a_loop_that_jax_refuses_is_compared_with_one_of_known_length(results):
    row = results.rows["ode-dynamic"]
    assert row.substitute
    assert set(row.outcomes[JAX].samples) == set(STAGES)
    assert "ode-dynamic" not in results.ratios("time")


def test_samples_are_written_and_read(results, tmp_path):
    results.save(tmp_path / "samples.json")
    read = gradients.run(gradients.Config(read=tmp_path / "samples.json"))
    assert dataclasses.asdict(read) == dataclasses.asdict(results)


def test_the_page_shows_every_program(results, tmp_path):
    page.write(results, tmp_path)
    text = (tmp_path / "benchmarks.md").read_text("utf-8")
    assert results.machine in text
    for name in results.rows:
        assert len(re.findall(rf"^\| `{name}`", text, re.MULTILINE)) >= 2
    assert "mlp-scanned" in (tmp_path / "benchmarks.svg").read_text("utf-8")


# ---- guards --------------------------------------------------------------------------------------


def test_a_wrong_gradient_is_not_timed():
    program = PROGRAMS["mlp"](small=True)

    def twice(*arguments):
        return jax.tree.map(lambda x: 2 * x, jax.grad(program.loss(plain))(*arguments))

    builders = {JAX: lambda factor: jax.grad(program.loss(plain)), OURS: lambda factor: twice}
    outcomes = measuring.measure(program, builders, traces=1, compiles=1, rounds=1)
    assert outcomes[OURS].refused.startswith("wrong: at [0][0] the gradients are")
    assert "time" not in outcomes[OURS].samples
    assert not outcomes[JAX].refused
    assert outcomes[JAX].samples["time"]


def test_a_refusal_is_told_with_its_reason():
    program = PROGRAMS["ode-dynamic"](small=True)
    builders = {JAX: lambda factor: jax.grad(program.loss(plain))}
    outcomes = measuring.measure(program, builders, traces=1, compiles=1, rounds=1)
    assert outcomes[JAX].refused.startswith(
        "ValueError: Reverse-mode differentiation does not work"
    )


def test_a_run_with_a_wrong_gradient_fails(tmp_path):
    row = Row({}, False, False, {OURS: Outcome(refused="wrong: at the argument")})
    Results("here", "0", {"mlp": row}).save(tmp_path / "samples.json")
    with pytest.raises(ExperimentError, match="mlp, fungrad: wrong: at the argument"):
        gradients.run(gradients.Config(read=tmp_path / "samples.json"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (gradients.Config(programs=("mlp,mpl",)), "--programs: unknown name 'mpl'"),
        (gradients.Config(contenders=("jaks",)), "--contenders: unknown name 'jaks'"),
    ],
)
def test_an_unknown_name_is_named(config, message):
    with pytest.raises(ExperimentError, match=message):
        gradients.run(config)


def test_every_policy_is_a_contender():
    assert set(measuring.contenders(PROGRAMS["vit"](small=True))) == set(gradients.CONTENDERS)
    assert set(measuring.contenders(PROGRAMS["lstm"](small=True))) == {
        *(OURS, NOTHING, JAX),
        *POLICIES,
    }


# ---- ratios --------------------------------------------------------------------------------------


def test_ratios_are_those_of_the_rounds():
    ratio = Ratio.of([1.0, 4.0, 9.0], [1.0, 2.0, 3.0])
    assert ratio == (1.5, 2.0, 2.5)


def test_no_memory_is_as_much_as_none():
    assert Ratio.of([0], [0]).median == 1


def test_the_front_is_what_nothing_beats():
    points = [(2.0, 1.0), (1.0, 3.0), (2.0, 4.0), (3.0, 2.0)]
    assert page.front(points) == [(1.0, 3.0), (2.0, 1.0)]
