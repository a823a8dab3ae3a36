"""fungrad: reverse-mode differentiation for JAX that a person can read, ask and change."""

from fungrad import notation
from fungrad.custom import custom
from fungrad.graph import Edge, Graph, Node, Selector, at, name, trace
from fungrad.rulebook import Rulebook
from fungrad.rules import default as rules
from fungrad.transforms import grad, hessian, hvp, jacobian, jacrev, value_and_grad, vjp
