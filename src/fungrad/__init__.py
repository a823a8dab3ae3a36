"""fungrad: reverse-mode differentiation for JAX that a person can read, ask and change."""

from fungrad import check, descent, inputs, layers, losses, models, nodes, notation, rulebooks
from fungrad.attributions import integrated_gradients, smooth_gradient
from fungrad.custom import custom
from fungrad.fallback import MissingRuleError, MissingRuleWarning
from fungrad.graph import Edge, Graph, Node, name, trace
from fungrad.inspect import diagnose, draw, missing, saved, story
from fungrad.nodes import gradients, replace, values
from fungrad.rulebook import Rule, Rulebook
from fungrad.rules import default as rules
from fungrad.selector import Selector, at
from fungrad.teaching import RuleError
from fungrad.transforms import grad, hessian, hvp, jacobian, jacrev, value_and_grad, vjp

__all__ = [
    "Edge",
    "Graph",
    "MissingRuleError",
    "MissingRuleWarning",
    "Node",
    "Rule",
    "RuleError",
    "Rulebook",
    "Selector",
    "at",
    "check",
    "custom",
    "descent",
    "diagnose",
    "draw",
    "grad",
    "gradients",
    "hessian",
    "hvp",
    "inputs",
    "integrated_gradients",
    "jacobian",
    "jacrev",
    "layers",
    "losses",
    "missing",
    "models",
    "name",
    "nodes",
    "notation",
    "replace",
    "rulebooks",
    "rules",
    "saved",
    "smooth_gradient",
    "story",
    "trace",
    "value_and_grad",
    "values",
    "vjp",
]
