"""Explanations of a function: objects to print, to see in a notebook, and to assert on."""

from fungrad.inspect.draw import Box, Drawing, Operation, draw
from fungrad.inspect.missing import MissingRule, MissingRules, missing

__all__ = ["Box", "Drawing", "MissingRule", "MissingRules", "Operation", "draw", "missing"]
