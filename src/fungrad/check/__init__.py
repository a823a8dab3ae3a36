"""Checks of rules: examples drawn for a rule, and the witnesses that test it on them."""
