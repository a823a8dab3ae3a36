"""Every primitive that JAX differentiates has a verdict: a rule, a reason, or a proven gap."""

import os
import subprocess
import sys
from pathlib import Path

import fungrad as fg

SRC = Path(__file__).parents[1] / "src"
LIBRARY = """
import importlib, pkgutil
import jax.experimental.pallas, jax.experimental.sparse, jax.lax.linalg, jax.nn, jax.scipy
for module in pkgutil.walk_packages(jax.scipy.__path__, "jax.scipy."):
    importlib.import_module(module.name)
from fungrad import _jax
print(*sorted(_jax.differentiated_by_jax()))
"""


def primitives_of_jax():
    """Asked of a process of its own: the libraries of other tests bring primitives of theirs."""
    asked = [sys.executable, "-W", "ignore", "-c", LIBRARY]
    environment = os.environ | {"PYTHONPATH": str(SRC)}
    return subprocess.run(asked, capture_output=True, check=True, env=environment).stdout.split()


def test_every_primitive_has_a_verdict():
    names = [name.decode() for name in primitives_of_jax()]
    assert len(names) > 200
    assert [name for name in names if name not in fg.rules] == []
