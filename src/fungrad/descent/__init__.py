"""Descent: one loop that minimises any cost over any pytree, and the ways to make its steps.

zeroth order    J(θ) alone                      `spsa`, `evolution`
first order     J(θ) and ∂J/∂θ                  every optax optimizer
second order    J(θ), ∂J/∂θ and v -> ∂²J/∂θ² v  `newton_cg`; from gradients `optax.lbfgs`
"""

from fungrad.descent.checkpoints import Checkpoint
from fungrad.descent.classifiers import OneVsOne, OneVsRest, one_vs_one, one_vs_rest
from fungrad.descent.methods import Method
from fungrad.descent.minimize import minimize
from fungrad.descent.names import optimizer, optimizers
from fungrad.descent.newton import newton_cg
from fungrad.descent.result import Descent, Failure
from fungrad.descent.zeroth import evolution, spsa

__all__ = [
    "Checkpoint",
    "Descent",
    "Failure",
    "Method",
    "OneVsOne",
    "OneVsRest",
    "evolution",
    "minimize",
    "newton_cg",
    "one_vs_one",
    "one_vs_rest",
    "optimizer",
    "optimizers",
    "spsa",
]
