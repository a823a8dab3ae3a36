"""The pytest plugin, in a session of its own."""

import re
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

import pytest_fungrad

SESSION = """
import sys

before = "jax" in sys.modules  # as the plugin left it

import jax
import jax.numpy as jnp
import pytest

import fungrad as fg

right = fg.custom(lambda x: x * x, lambda g, out, x: 2 * g * x)
wrong = fg.custom(lambda x: x * x, lambda g, out, x: 2 * g)


def test_jax_is_not_imported_before_the_users_files():
    assert not before


@pytest.mark.fungrad(shapes=[(), (2, 3)], dtypes=["float32", "bfloat16"])
def test_right(check_custom_vjp):
    check_custom_vjp(right, witnesses=["reference", "rounding"])


@pytest.mark.fungrad(shapes=[[(2, 3), (3,)]])
def test_two_arguments(check_vjp):
    check_vjp(jnp.add, witnesses=["reference"])


def test_wrong(check_custom_vjp):
    check_custom_vjp(wrong, jnp.arange(3.0), witnesses=["reference"])


def test_without_arguments(check_vjp):
    with pytest.raises(TypeError, match="or mark the test with @pytest.mark.fungrad"):
        check_vjp(right)
"""


def test_a_session_with_the_plugin(tmp_path):
    (tmp_path / "test_session.py").write_text(SESSION)
    options = ["-p", "no:cacheprovider", "--strict-markers", "-v"]
    if not entry_points(group="pytest11", name="fungrad"):  # from a checkout, not installed
        options += ["-p", "pytest_fungrad"]
    path = [entry for entry in sys.path if entry]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-o", f"pythonpath={' '.join(path)}", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    out = done.stdout
    assert "1 failed, 7 passed" in out, out + done.stderr
    assert "test_right[2x3-bfloat16] PASSED" in out
    assert "test_two_arguments[2x3-3-float32] PASSED" in out
    # The failure is the user's line and the verdict, without a line of ours.
    report = out[out.index("FAILURES") :]
    assert "check_custom_vjp(wrong, jnp.arange(3.0)" in report
    assert "the worst is x[0]" in report
    assert "asserts.py" not in report


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": ()}, "there is no shape, only shapes, dtypes, low and high"),
        ({}, "shapes must be a list of shapes"),
        ({"shapes": [3]}, "such as shapes=[(), (3,), [(2, 3), (3,)]], got [3]"),
        ({"shapes": [()], "dtypes": "float32"}, "dtypes must be a list of names"),
        ({"shapes": [()], "dtypes": ["int32"]}, "dtypes: 'int32' has no gradient; there are"),
        ({"shapes": [()], "low": 1, "high": 0}, "low must be less than high, got low=1"),
    ],
)
def test_a_marker_that_cannot_be_is_refused(options, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        pytest_fungrad._grid(**options)
