"""Explanations of a function: objects to print, to see in a notebook, and to assert on."""

from fungrad.inspect.diagnose import diagnose
from fungrad.inspect.diagnosis.report import Diagnosis, Finding, Norm
from fungrad.inspect.draw import Box, Drawing, Operation, draw
from fungrad.inspect.missing import MissingRule, MissingRules, missing
from fungrad.inspect.saved import SavedValue, SavedValues, saved
from fungrad.inspect.story import BackwardStep, Contribution, ForwardStep, Story, UpdateStep, story

__all__ = [
    "BackwardStep",
    "Box",
    "Contribution",
    "Diagnosis",
    "Drawing",
    "Finding",
    "ForwardStep",
    "MissingRule",
    "MissingRules",
    "Norm",
    "Operation",
    "SavedValue",
    "SavedValues",
    "Story",
    "UpdateStep",
    "diagnose",
    "draw",
    "missing",
    "saved",
    "story",
]
