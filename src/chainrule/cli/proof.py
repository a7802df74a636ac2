"""``chainrule verify`` and ``chainrule doctor``: are chainrule's gradients right, and are yours?

Nothing is imported before the command runs, as for all commands.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import math
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chainrule.cli.parser import Command, argument
from chainrule.errors import ChainruleError, ConfigError, DataMissingError, nearest

if TYPE_CHECKING:
    import numpy as np

__all__ = ["PROOF"]

ARRAY = re.compile(r"(\w+)\(([\d\s,]*)\)")
SYNTAX = """\
inputs, as NAME=VALUE, by the names of forward's parameters:
  x=normal(4,6)       float64 array of that shape, standard normal
  x=uniform(4,6)      between 0 and 1;  x=positive(4,6) between 0.5 and 2
  x=distinct(4,6)     all values different, 0.1 apart
  y=labels(4,10)      four integers from 0 to 9
  stride=2            a number, text or other Python constant, passed on

Without any, FILE.py must have them: a dict or tuple named inputs, or a function
inputs(rng) that returns one.
"""


def _verify(options: Namespace) -> int:
    """Print the proof table."""
    from chainrule.cli import output
    from chainrule.proof import raise_if_any_failed, verify

    proofs = list(verify(options.layer or None))
    output.show_proofs(proofs, options.json)
    raise_if_any_failed(proofs)
    return 0


def _doctor(options: Namespace) -> int:
    """Diagnose a backward pass of the user's own."""
    import numpy as np

    from chainrule.cli import output
    from chainrule.gradcheck import diagnose

    rng = np.random.default_rng(options.seed or 0)
    forward, module = _load(options.forward)
    backward, _ = _load(options.backward)
    if options.inputs:
        inputs = _drawn(forward, options.inputs, rng)
    else:
        inputs = _from_module(module, options.forward, rng)
    try:
        diagnosis = diagnose(forward, backward, inputs, rng=rng)
    except ChainruleError:
        raise
    except Exception as error:  # in the user's code, or that NumPy raised there
        file = options.forward.rpartition(":")[0]
        line = _last_line(error, str(Path(file).resolve()))
        if line is None:
            raise
        raise ChainruleError(
            f"doctor: {file}, line {line}: {type(error).__name__}: {error}. Do the shapes fit?"
        ) from error
    record = {
        "ok": diagnosis.ok,
        "worst_relative_error": diagnosis.report.worst,
        "causes": [asdict(cause) for cause in diagnosis.causes],
        "notes": diagnosis.report.notes,
        "excluded_at_kinks": diagnosis.report.excluded,
    }
    output.show_record(str(diagnosis), record, options.json)
    return 0 if diagnosis.ok else 5


def _load(place: str) -> tuple[Callable[..., Any], Any]:
    """Import the function that FILE.py:NAME names."""
    file, colon, name = place.rpartition(":")
    if not colon or not file or not name.isidentifier():
        raise ConfigError(
            f"doctor: {place!r} must be FILE.py:FUNCTION. Example: layers.py:relu_forward"
        )
    path = Path(file)
    if not path.is_file():
        raise DataMissingError(f"doctor: {file} must be a Python file; there is none.")
    key = str(path.resolve())
    module = sys.modules.get(key)
    if module is None:
        spec = importlib.util.spec_from_loader(key, loader=None, origin=key)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        module.__file__ = key
        sys.modules[key] = module
        folder = str(path.resolve().parent)
        if folder not in sys.path:  # for its own imports, as when Python runs the file
            sys.path.insert(0, folder)
        try:
            exec(compile(path.read_bytes(), key, "exec"), module.__dict__)
        except Exception as error:
            del sys.modules[key]
            line = error.lineno if isinstance(error, SyntaxError) else _last_line(error, key)
            where = f" in line {line}" if line else ""
            raise ConfigError(
                f"doctor: {file} cannot be imported: {type(error).__name__}{where}: {error}"
            ) from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        hint = nearest(name, known) if known else "It defines no function."
        raise ConfigError(f"doctor: {file} has no function {name!r}. {hint}")
    return function, module


def _last_line(error: BaseException, file: str) -> int | None:
    """Where in the file the error arose."""
    line, place = None, error.__traceback__
    while place is not None:
        if place.tb_frame.f_code.co_filename == file:
            line = place.tb_lineno
        place = place.tb_next
    return line


def _from_module(module: Any, place: str, rng: np.random.Generator) -> Any:
    inputs = getattr(module, "inputs", None)
    if callable(inputs):
        inputs = inputs(rng)
    if not isinstance(inputs, Mapping | Sequence) or not inputs:
        file = place.rpartition(":")[0]
        raise ConfigError(
            f"doctor: what forward is called with must be given. Write it as in x=normal(4,6) "
            f"y=labels(4,10) stride=2, or put a dict or a function inputs(rng) into {file}."
        )
    return inputs


def _drawn(
    forward: Callable[..., Any], words: Sequence[str], rng: np.random.Generator
) -> dict[str, Any]:
    """Make the arguments that NAME=VALUE words describe."""
    inputs: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"doctor: {word!r} must be NAME=VALUE. Example: x=normal(4,6)")
        if name in inputs:
            raise ConfigError(f"doctor: {name} is given twice.")
        inputs[name] = _value(name, value.strip(), rng)
    parameters = inspect.signature(forward).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for name in inputs:
            if name not in parameters:
                hint = nearest(name, parameters)
                raise ConfigError(f"doctor: {forward.__name__} has no parameter {name!r}. {hint}")
    for name, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_ONLY,
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        )
        if required and name not in inputs:
            example = "labels(4,10)" if name in ("y", "labels", "target") else "normal(4,6)"
            raise ConfigError(
                f"doctor: {forward.__name__} needs {name!r}. Give it, as in {name}={example}"
            )
    return inputs


def _value(name: str, text: str, rng: np.random.Generator) -> Any:
    found = ARRAY.fullmatch(text)
    if found is None:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return text
    kind, numbers = found.groups()
    dims = tuple(int(number) for number in numbers.split(",") if number.strip())
    kinds: dict[str, Callable[[tuple[int, ...]], Any]] = {
        "normal": rng.standard_normal,
        "uniform": rng.random,
        "positive": lambda shape: rng.uniform(0.5, 2.0, shape),
        "distinct": lambda shape: 0.1 * rng.permutation(math.prod(shape)).reshape(shape),
    }
    if kind == "labels":
        if len(dims) != 2 or 0 in dims:
            raise ConfigError(f"doctor: {name} must be labels(COUNT,CLASSES); got {text}")
        return rng.integers(dims[1], size=dims[0])
    if kind not in kinds:
        hint = nearest(kind, [*kinds, "labels"])
        raise ConfigError(f"doctor: {name}={text}: {kind!r} is no kind of array. {hint}")
    if math.prod(dims) > 1_000_000:
        raise ConfigError(f"doctor: {name} must have at most 1,000,000 elements; got {text}")
    return kinds[kind](dims)


PROOF = (
    Command(
        "verify",
        "Prove chainrule's own gradients by four independent witnesses.",
        "[LAYER ...] [options]",
        _verify,
        (
            argument("layer", metavar="LAYER", nargs="*", help="layers to prove; all by default"),
            argument("--json", action="store_true", help="print JSON, for programs"),
        ),
        ("chainrule verify", "chainrule verify conv2d batch_norm"),
        "The exit code is 5 if a witness speaks against a layer.\n",
    ),
    Command(
        "doctor",
        "Check a backward pass of yours, and say what is wrong with it.",
        "FORWARD BACKWARD [NAME=VALUE ...] [options]",
        _doctor,
        (
            argument(
                "forward",
                metavar="FORWARD",
                help="FILE.py:FUNCTION; returns (out, cache), or (loss, cache)",
            ),
            argument(
                "backward",
                metavar="BACKWARD",
                help="FILE.py:FUNCTION; takes (dout, cache), or (cache) of a loss; returns the "
                "gradients in the order of forward's arguments",
            ),
            argument("inputs", metavar="NAME=VALUE", nargs="*", default=[], help="see below"),
            argument("--seed", metavar="N", type=int, help="for the random inputs (default: 0)"),
            argument("--json", action="store_true", help="print JSON, for programs"),
        ),
        (
            "chainrule doctor layers.py:affine_forward layers.py:affine_backward \\\n"
            '      "x=normal(4,6)" "w=normal(6,3)" "b=normal(3)"',
        ),
        SYNTAX + "\nThe file is run. The exit code is 5 if the gradient is wrong.\n",
    ),
)
