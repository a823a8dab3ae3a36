"""Explanations of a function: objects to print, to see in a notebook, and to assert on."""

from fungrad.inspect.draw import Box, Drawing, Operation, draw
from fungrad.inspect.missing import MissingRule, MissingRules, missing
from fungrad.inspect.saved import SavedValue, SavedValues, saved

__all__ = [
    "Box",
    "Drawing",
    "MissingRule",
    "MissingRules",
    "Operation",
    "SavedValue",
    "SavedValues",
    "draw",
    "missing",
    "saved",
]
