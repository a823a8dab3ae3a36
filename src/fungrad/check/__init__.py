"""Prove gradients: of rules, of functions with rules of their author, of any function.

>>> import fungrad as fg
>>> import jax.numpy as jnp
>>> print(fg.check.function(jnp.tanh, witnesses=["reference"])(0.5))
✓ tanh: all witnesses agree
  numbers compared: reference 1
"""

from fungrad.check.asserts import assert_custom_vjp, assert_rule, assert_vjp
from fungrad.check.books import rule, rulebook
from fungrad.check.functions import custom_vjp, function
from fungrad.check.verdict import Finding, Verdict

__all__ = [
    "Finding",
    "Verdict",
    "assert_custom_vjp",
    "assert_rule",
    "assert_vjp",
    "custom_vjp",
    "function",
    "rule",
    "rulebook",
]
