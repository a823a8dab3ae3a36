"""Checkpoints: a killed run ends where it would have ended; a stranger's checkpoint is refused."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fungrad.descent import Checkpoint, minimize
from fungrad.descent.checkpoints import Store
from tests.descent import interrupted

ROOT = Path(__file__).parents[2]


def same_bits(one, other):
    """Whether two trees hold the same bits, NaN included."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


def outcome(descent):
    return descent.params, descent.optimizer_state, descent.history


def steps_done(folder):
    """The steps of the newest checkpoint that is whole; 0 without one."""
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    return max([int(name) for name in names if name.isdigit()], default=0)


@pytest.fixture(scope="module")
def uninterrupted():
    return interrupted.run()


# --- interruptions --------------------------------------------------------------------------------


def test_a_run_that_is_killed_ends_bit_for_bit_where_it_would_have_ended(tmp_path, uninterrupted):
    """SIGKILL twice, each at a random moment, also in the middle of a save; then to the end."""
    folder = tmp_path / "checkpoint"
    seed = random.SystemRandom().randrange(1000)
    moments = random.Random(seed)
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    reached = 0
    for _ in range(2):
        command = [sys.executable, "-m", "tests.descent.interrupted", str(folder), "20"]
        with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths}) as child:
            wanted = reached + 20 * moments.randint(2, 15)
            while steps_done(folder) < wanted:
                assert child.poll() is None, f"seed {seed}: the run ended before it was killed"
                time.sleep(0.002)
            time.sleep(moments.uniform(0.0, 0.1))
            child.send_signal(signal.SIGKILL)
        assert child.returncode == -signal.SIGKILL
        reached = steps_done(folder)
        assert 0 < reached < uninterrupted.steps, f"seed {seed}"

    resumed = interrupted.run(Checkpoint(folder, every=500))
    assert same_bits(outcome(resumed), outcome(uninterrupted)), f"seed {seed}"
    assert resumed.steps == uninterrupted.steps == 1600
    assert resumed.stopped_because == uninterrupted.stopped_because


def test_more_epochs_go_on_from_fewer(tmp_path, uninterrupted):
    interrupted.run(tmp_path, epochs=37)
    assert steps_done(tmp_path) == 37 * 4
    assert same_bits(outcome(interrupted.run(tmp_path)), outcome(uninterrupted))


def test_a_finished_run_comes_back_as_it_was(tmp_path):
    def run():
        return minimize(
            lambda x: jnp.sum((x - 3.0) ** 2),
            jnp.zeros(2),
            optimizer=optax.lbfgs(),
            steps=100,
            tolerance=1e-12,
            checkpoint=tmp_path,
        )

    first, again = run(), run()
    assert first.converged
    assert same_bits(outcome(first), outcome(again))
    assert first.stopped_because == again.stopped_because


def test_a_run_that_fails_fails_again_the_same_way(tmp_path):
    """What is kept is from before the failure, so the failing step can be looked at again."""

    def run(checkpoint=None):
        return minimize(
            jnp.log, jnp.array(5.0), optimizer=optax.sgd(0.1), steps=1000, checkpoint=checkpoint
        )

    plain, first, again = run(), run(tmp_path), run(tmp_path)
    assert 0 < steps_done(tmp_path) <= plain.failure.step
    for other in (first, again):
        assert same_bits(outcome(plain), outcome(other))
        assert plain.stopped_because == other.stopped_because


def test_every_format_comes_back(tmp_path):
    """Half precision, complex numbers, scalars, arrays without entries, an optimizer's key."""

    def cost(p):
        return jnp.abs(p["z"]) ** 2 + jnp.sum(p["half"].astype(float) ** 2) + p["s"] ** 2

    params = {
        "z": jnp.array(1 + 2j),
        "half": jnp.ones(3, jnp.bfloat16),
        "s": 2.0,
        "none": jnp.zeros((0, 3)),
    }
    noise = optax.add_noise(0.1, 0.5, jax.random.key(5))
    given = dict(optimizer=optax.chain(noise, optax.sgd(0.1)))
    plain = minimize(cost, params, steps=20, **given)
    minimize(cost, params, steps=7, checkpoint=tmp_path, **given)
    resumed = minimize(cost, params, steps=20, checkpoint=tmp_path, **given)
    assert same_bits(plain.params, resumed.params)
    assert plain.params["half"].dtype == resumed.params["half"].dtype == jnp.bfloat16


# --- when they are written ------------------------------------------------------------------------


def labels_saved(monkeypatch):
    """The numbers of steps after which checkpoints were written."""
    saved, save = [], Store.save

    def noted(store, state, history):
        saved.append(int(state.step))
        save(store, state, history)

    monkeypatch.setattr(Store, "save", noted)
    return saved


def test_every_so_many_steps_and_at_the_end(tmp_path, monkeypatch):
    saved = labels_saved(monkeypatch)
    interrupted.run(Checkpoint(tmp_path, every=30), epochs=25)
    assert saved == [30, 60, 90, 100]
    assert [path.name for path in tmp_path.iterdir()] == ["100"], "the newest one is kept"


def test_without_an_interval_they_cost_a_tenth_of_the_time(tmp_path):
    store = Store(tmp_path)
    assert store.due(1, time.monotonic()), "the first one comes at once"
    store._saved, store._took = 100.0, 2.0
    assert not store.due(2, 117.9)
    assert store.due(3, 118.1)


# --- refusals -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    interrupted.run(folder, epochs=2)
    return folder


def other_params():
    return {"W": jnp.zeros((5, 4)), "v": jnp.zeros(5)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"params": other_params()}, r"params: \['W'\] is float64\[8,4\] there and float64\[5,4\]"),
        ({"optimizer": optax.sgd(0.02)}, "the optimizer's state: .* there and nothing here"),
        ({"optimizer": optax.adam(0.02)}, "the optimizer's state: "),
        ({"batch_size": 30}, "batch_size: 20 there and 30 here"),
        ({"tolerance": 1e-3}, "tolerance: None there and 0.001 here"),
        ({"window": 7}, "window: 4 there and 7 here"),
        ({"key": jax.random.key(8)}, "the key: not the same"),
        (
            {"optimizer": optax.adam(optax.cosine_decay_schedule(0.03, 2000))},
            "the cost, or a setting of the optimizer: not the same",
        ),
    ],
)
def test_another_runs_checkpoint_is_refused(written, changes, message):
    with pytest.raises(ValueError, match=f"is of another run: {message}"):
        interrupted.run(written, **changes)


def test_another_cost_and_other_data_are_refused(tmp_path):
    def run(power=2, shift=0.0):
        return minimize(
            lambda x, batch: jnp.mean((batch - x) ** power),
            1.0,
            np.arange(5.0) + shift,
            optimizer=optax.sgd(0.1),
            steps=2,
            checkpoint=tmp_path,
        )

    run()
    with pytest.raises(ValueError, match="the cost, or a setting of the optimizer: not the same"):
        run(power=4)
    with pytest.raises(ValueError, match="the values of the data: not the same"):
        run(shift=1.0)
    assert run().steps == 2


def test_a_checkpoint_beyond_the_end_is_refused(written):
    with pytest.raises(ValueError, match="has made 8 steps, more than the 4 asked for"):
        interrupted.run(written, epochs=1)


def test_another_programs_checkpoint_is_refused(tmp_path):
    import orbax.checkpoint as orbax

    with orbax.CheckpointManager(tmp_path) as manager:
        manager.save(3, args=orbax.args.Composite(weights=orbax.args.StandardSave({"a": 1})))
    with pytest.raises(ValueError, match=r"holds a checkpoint that fungrad\.descent did not write"):
        interrupted.run(tmp_path)


def test_the_description_can_be_read(written):
    """What a checkpoint is of stands in it as JSON."""
    described = json.loads((written / "8" / "description" / "metadata").read_text())
    assert described["params"] == {"['W']": "float64[8,4]", "['v']": "float64[8]"}


@pytest.mark.parametrize("place", ["file", "file/inside"])
def test_a_folder_that_cannot_be_written_is_an_error_before_work_starts(tmp_path, place):
    (tmp_path / "file").write_text("not a folder")
    asked = []

    def cost(x):
        asked.append(1)
        return x**2

    with pytest.raises(OSError, match=rf"checkpoint: cannot write into the folder.*{place}"):
        minimize(cost, 1.0, optimizer=optax.sgd(0.1), steps=2, checkpoint=tmp_path / place)
    assert asked == []


@pytest.mark.parametrize("every", [0, 2.5])
def test_a_bad_interval(every):
    with pytest.raises(ValueError, match="every must be a number of steps of at least 1, got"):
        Checkpoint("somewhere", every=every)
