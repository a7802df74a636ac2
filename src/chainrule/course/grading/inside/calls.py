"""Carry out a script of calls of the student's functions, and collect what they return.

A script is plain data: a list of steps, each a call whose arguments are plain data or refer to
the results of earlier steps. The expected results are not in it; they stay with the grader.
"""

from __future__ import annotations

import importlib
import random
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from .codec import Other
from .functions import FUNCTIONS

__all__ = ["Failure", "Machine", "plain", "seed_numpy"]

LARGEST_TEXT = 2000


class Failure(Exception):
    """A step that did not work out; `record` is what the grader is told of it."""

    def __init__(self, record: dict[str, Any]) -> None:
        super().__init__(record.get("message", ""))
        self.record = record


class Machine:
    """Carries out the steps of one script.

    Parameters
    ----------
    home : str
        The folder of the submission: of a traceback, only lines of its files are told.
    tell : callable
        Given a few words before each import and each step, so that the grader knows how far the
        process came if it ends early.
    """

    def __init__(self, home: str, tell: Callable[[str], None]) -> None:
        self.home = home
        self.tell = tell
        self.results: list[Any] = []

    def run(self, script: dict[str, Any]) -> dict[str, Any]:
        """Carry out all steps; a step whose arguments failed fails with them."""
        for number, step in enumerate(script["steps"]):
            self.tell(f"step {number}")
            try:
                self.results.append(self._step(step))
            except Failure as failure:
                self.results.append(failure)
            except BaseException as error:  # SystemExit and KeyboardInterrupt are the step's too
                self.results.append(Failure(self._record(error)))
        return {"gives": [self._give(reference) for reference in script["gives"]]}

    def _give(self, reference: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"value": plain(self.value(reference))}
        except Failure as failure:
            return {"error": failure.record}
        except BaseException as error:
            return {"error": self._record(error)}

    def _step(self, step: dict[str, Any]) -> Any:
        kind = step["do"]
        if kind == "seed":
            random.seed(step["seed"])
            seed_numpy(step["seed"])
            return None
        if kind == "make":
            return self.value(step["value"])
        if kind == "update":
            target = self.value(step["on"])
            for key, value in self.value(step["values"]).items():
                target[key] = value
            return None
        if kind == "set":
            setattr(self.value(step["on"]), step["name"], self.value(step["value"]))
            return None
        function = self._function(step["target"])
        args = [self.value(value) for value in step["args"]]
        kwargs = {key: self.value(value) for key, value in step["kwargs"].items()}
        if kind == "time":
            return self._time(function, args, kwargs, step)
        return function(*args, **kwargs)

    def _time(self, function: Any, args: Any, kwargs: Any, step: dict[str, Any]) -> dict[str, Any]:
        """Times of the call beside those of a loop over rows, in turns, the shortest of each."""
        now = time.perf_counter
        rows = np.ones((16, step["width"]))
        ours, loops = [], []
        out = None
        for _ in range(step["rounds"]):
            start = now()
            out = function(*args, **kwargs)
            ours.append(now() - start)
            start, total = now(), 0.0
            for i in range(step["loops"]):
                total += float(rows[i % 16].dot(rows[(i + 1) % 16]))
            loops.append(now() - start)
        return {"out": out, "seconds": min(ours), "loop_seconds": min(loops)}

    def _function(self, target: Any) -> Any:
        if isinstance(target, dict):
            owner, name = self.value(target["of"]), target["name"]
            where = type(owner).__name__
        else:
            module, _, name = target.partition(":")
            owner, where = self.load(module), module
        function = getattr(owner, name, None)
        if function is None:
            lacking = f"{where} has no {name}"
            raise Failure({"kind": "missing", "message": lacking, "trace": []})
        return function

    def load(self, module: str) -> Any:
        """Import a module of the submission."""
        self.tell(f"import {module}")
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            # The module itself, or a package that it is in, was not submitted.
            if error.name is not None and f"{module}.".startswith(f"{error.name}."):
                file = module.replace(".", "/") + ".py"
                lacking = f"{file} was not submitted"
                raise Failure({"kind": "missing", "message": lacking, "trace": []}) from error
            raise Failure(self._record(error, f"import of {module}")) from error
        except BaseException as error:
            raise Failure(self._record(error, f"import of {module}")) from error
        finally:
            self.tell("imported")

    def value(self, tree: Any) -> Any:
        """Replace the references in an argument by what they refer to; arrays are copied."""
        if isinstance(tree, np.ndarray):
            return tree.copy()
        if isinstance(tree, list):
            return [self.value(item) for item in tree]
        if not isinstance(tree, dict):
            return tree
        if "$ref" in tree:
            return self._follow(self.results[tree["$ref"]], tree["path"])
        if "$tuple" in tree:
            return tuple(self.value(item) for item in tree["$tuple"])
        if "$target" in tree:
            return self._function(tree["$target"])
        if "$function" in tree:
            return FUNCTIONS[tree["$function"]](**self.value(tree["with"]))
        return {key: self.value(item) for key, item in tree.items()}

    def _follow(self, value: Any, path: list[Any]) -> Any:
        if isinstance(value, Failure):
            raise value
        for part in path:
            if isinstance(part, str) and part.startswith("."):
                if not hasattr(value, part[1:]):
                    raise Failure(_lack(f"{type(value).__name__} has no {part[1:]}"))
                value = getattr(value, part[1:])
            elif value is None:
                raise Failure(_lack("the function returned None: is it written yet?", "empty"))
            else:
                try:
                    value = value[part]
                except (KeyError, IndexError, TypeError) as error:
                    what = f"result {part}" if isinstance(part, int) else repr(part)
                    message = f"{what} is not in what was returned ({type(value).__name__})"
                    raise Failure(_lack(message)) from error
        return value

    def _record(self, error: BaseException, where: str = "") -> dict[str, Any]:
        """What a student is told of an exception: its words, and the lines of their own files."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if f.filename.startswith(self.home)]
        lines = [
            f"{f.filename[len(self.home) :].lstrip('/')}:{f.lineno}, in {f.name}: {f.line}"
            for f in own[-4:]
        ]
        if isinstance(error, SyntaxError) and error.filename:
            lines = [f"{error.filename[len(self.home) :].lstrip('/')}:{error.lineno}: {error.text}"]
        try:
            words = str(error)[:LARGEST_TEXT]
        except BaseException:  # an exception of the student's, whose __str__ fails
            words = ""
        name = type(error).__name__
        kind = "empty" if isinstance(error, NotImplementedError) else "error"
        if isinstance(error, MemoryError):
            kind = "memory"
        message = f"{name}: {words}" if words else name
        message = f"{where}: {message}" if where else message
        return {"kind": kind, "message": message, "trace": [line[:400] for line in lines]}


def _lack(message: str, kind: str = "shape") -> dict[str, Any]:
    return {"kind": kind, "message": message, "trace": []}


def plain(value: Any, depth: int = 0) -> Any:
    """Turn what a student's function returned into plain data, by value."""
    if value is None or type(value) in (bool, int, float, str):
        return value[:LARGEST_TEXT] if isinstance(value, str) else value
    if depth > 8:
        return Other("deeply nested data")
    if isinstance(value, list | tuple):
        if len(value) > 64 and all(isinstance(v, int | float | np.number) for v in value):
            return np.asarray(value)
        return [plain(item, depth + 1) for item in value[:10_000]]
    if isinstance(value, dict):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item()
    if isinstance(value, np.ndarray | np.generic):
        return np.array(value, subok=False)
    return Other(type(value).__name__)


def seed_numpy(seed: int) -> None:
    """Seed NumPy's global generator, which the course's code draws from."""
    np.random.mtrand._rand.seed(seed)
