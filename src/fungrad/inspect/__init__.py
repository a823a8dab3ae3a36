"""Explanations of a function: objects to print, to see in a notebook, and to assert on."""

from fungrad.inspect.draw import Box, Drawing, Operation, draw

__all__ = ["Box", "Drawing", "Operation", "draw"]
