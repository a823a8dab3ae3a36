"""The hand-written rules, one module per kind, from easy to hard; `default` is the book of all."""

import importlib, pkgutil
from fungrad.rulebook import Rulebook
_modules = [importlib.import_module(f"fungrad.rules.{m.name}") for m in pkgutil.iter_modules(__path__)]
default = Rulebook.of(*_modules)
