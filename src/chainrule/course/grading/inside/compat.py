"""Names that old course code imports and that current Python and NumPy no longer have."""

from __future__ import annotations

import builtins
import pickle
import sys
from importlib.util import find_spec
from types import ModuleType

import numpy as np

__all__ = ["add_old_names"]


def add_old_names() -> None:
    """Provide ``xrange``, ``np.float``, ``past.builtins``, ``future``, ``six.moves`` and more."""
    vars(builtins).setdefault("xrange", range)
    for name in ("bool", "int", "float", "complex", "object", "str"):
        if name not in vars(np):
            setattr(np, name, getattr(builtins, name))
    old = {"xrange": range, "basestring": str, "unicode": str, "long": int, "raw_input": input}
    wanted: dict[str, dict[str, object]] = {
        "past": {},
        "past.builtins": old,
        "future": {},
        "future.standard_library": {"install_aliases": lambda: None},
        "six": {"string_types": (str,), "PY2": False, "PY3": True},
        "six.moves": {**old, "range": range, "map": map, "zip": zip, "cPickle": pickle},
        "cPickle": {name: getattr(pickle, name) for name in ("load", "loads", "dump", "dumps")},
    }
    for name, contents in wanted.items():
        top = name.partition(".")[0]
        if top not in sys.modules and find_spec(top) is not None:
            continue  # the real one is installed
        module = ModuleType(name)
        vars(module).update(contents)
        module.__path__ = []
        sys.modules[name] = module
        if "." in name:
            setattr(sys.modules[top], name.partition(".")[2], module)
