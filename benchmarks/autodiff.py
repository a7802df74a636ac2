"""Gradients of small and large functions beside HIPS autograd, PyTorch eager and JAX without jit.

    python benchmarks/autodiff.py [--json FILE] [--rounds N]

Needs PyTorch (the extra `torch`), and takes in what there is of `pip install autograd jax`; a
line says what is missing. Everything runs on one thread and in float64. Gradients are compared
with chainrule's before anything is timed. README.md, beside this file, says how times are taken.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.autodiff import grad
from chainrule.bench import allocator
from chainrule.bench.timing import take_turns
from chainrule.training.environment import describe_environment, limited_threads

OURS = "chainrule"
OTHERS = ("autograd", "torch", "jax")
RNG = np.random.default_rng(0)
MATRIX = RNG.standard_normal((10, 10)) / 3
VECTOR = RNG.standard_normal(10)
MANY = RNG.uniform(0.5, 1.5, 100_000)


@dataclass(frozen=True)
class Case:
    """A function of a library's namespace `np`, constants and arguments, and its arguments."""

    name: str
    function: Callable[..., Any]
    arguments: Sequence[Any]
    constants: Sequence[Any] = ()


def f1(np: Any, w1: Any, w2: Any) -> Any:
    """The example of CS7643: exp(s) + sigmoid(s) with s = exp(w1) + exp(2 w2)."""
    s = np.exp(w1) + np.exp(2 * w2)
    return np.exp(s) + 1 / (1 + np.exp(-s))


def product(np: Any, x: Any, y: Any) -> Any:
    return (x + y) * (y + 1)


def layer(np: Any, a: Any, w: Any) -> Any:
    return np.sum(np.exp(np.tanh(a @ w)))


def recurrence(np: Any, a: Any, w: Any) -> Any:
    for _ in range(100):
        w = w + 0.1 * np.tanh(a @ w)
    return np.sum(w * w)


def arithmetic(np: Any, x: Any) -> Any:
    """15 operations, most of them as quick as memory allows."""
    y = x
    for _ in range(5):
        y = 0.5 * (y + x / y)
    return np.sum(y)


def transcendental(np: Any, x: Any) -> Any:
    """16 operations, some of them costly by themselves."""
    for _ in range(4):
        x = np.exp(-np.sin(x)) + 0.1 * x
    return np.sum(x)


def activations(np: Any, x: Any) -> Any:
    """12 operations."""
    for _ in range(4):
        x = x * np.tanh(1 + x)
    return np.sum(x)


CASES = [
    Case("f1", f1, (1.0, -1.0)),
    Case("(x + y) (y + 1)", product, (2.0, 1.0)),
    Case("sum exp tanh A w", layer, (VECTOR,), (MATRIX,)),
    Case("100 steps of 10-vectors", recurrence, (VECTOR,), (MATRIX,)),
    Case("arithmetic on 1e5", arithmetic, (MANY,)),
    Case("exp and sin on 1e5", transcendental, (MANY,)),
    Case("tanh on 1e5", activations, (MANY,)),
]


def numpy_like(namespace: str, gradient: Callable[..., Any]) -> Callable[[Case], Any]:
    """Libraries whose grad turns a function into another."""
    np = import_module(namespace)

    def prepare(case: Case) -> Callable[[], Any]:
        constants = [np.asarray(each) for each in case.constants]
        arguments = [
            each if isinstance(each, float) else np.asarray(each) for each in case.arguments
        ]
        several = len(arguments) > 1
        differentiated = gradient(
            lambda *arguments: case.function(np, *constants, *arguments),
            tuple(range(len(arguments))) if several else 0,  # one alone is quicker for autograd
        )
        if several:
            return lambda: differentiated(*arguments)
        (argument,) = arguments
        return lambda: (differentiated(argument),)

    return prepare


def with_autograd() -> Callable[[Case], Any]:
    from autograd import grad as autograd_grad

    return numpy_like("autograd.numpy", autograd_grad)


def with_jax() -> Callable[[Case], Any]:
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")
    prepare = numpy_like("jax.numpy", jax.grad)

    def waiting(case: Case) -> Callable[[], Any]:
        run = prepare(case)
        return lambda: jax.block_until_ready(run())

    return waiting


def with_torch() -> Callable[[Case], Any]:
    import torch

    torch.set_num_threads(1)

    def prepare(case: Case) -> Callable[[], Any]:
        constants = [torch.tensor(each) for each in case.constants]
        arguments = [
            torch.tensor(each, dtype=torch.float64, requires_grad=True) for each in case.arguments
        ]
        return lambda: torch.autograd.grad(case.function(torch, *constants, *arguments), arguments)

    return prepare


def contestants() -> dict[str, Callable[[Case], Any]]:
    """All that are installed, chainrule first."""
    found = {OURS: numpy_like("numpy", grad)}
    for name in OTHERS:
        try:
            found[name] = {"autograd": with_autograd, "torch": with_torch, "jax": with_jax}[name]()
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return found


def validated(case: Case, runs: dict[str, Callable[[], Any]]) -> float:
    """The largest relative difference from chainrule's gradient; ends the program if it is one."""
    ours = [np.asarray(part) for part in runs[OURS]()]
    worst = 0.0
    for name, run in runs.items():
        for mine, other in zip(ours, run(), strict=True):
            error = float(np.max(np.abs(np.asarray(other) - mine)) / np.max(np.abs(mine)))
            worst = max(worst, error)
            if not error < 1e-10:
                sys.exit(f"{case.name}: {name} differs from chainrule by {error:.1e}")
    return worst


def measure(rounds: int) -> dict[str, Any]:
    """Validate and time all cases."""
    prepared = contestants()
    record: dict[str, Any] = {
        "format": "chainrule-autodiff-benchmark-1",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "rounds": rounds,
        "threads": 1,
        "environment": describe_environment(),
        "versions": {name: version(name) for name in prepared if name != OURS},
        "cases": [],
    }
    if allocator.can_be_tuned():
        allocator.settle()
    for case in CASES:
        runs = {name: prepare(case) for name, prepare in prepared.items()}
        error = validated(case, runs)
        forms = take_turns(runs, rounds, tune=False)
        ours = forms[OURS]["median"]
        ratios = {name: each["median"] / ours for name, each in forms.items() if name != OURS}
        record["cases"].append(
            {"name": case.name, "error": error, "forms": forms, "ratios": ratios}
        )
    return record


def table(record: dict[str, Any]) -> str:
    """Median times, with half the distance of the quartiles, and ratios to chainrule's."""
    names = list(record["versions"])
    head = ["case", "us", "+-", *(f"{name}/ours" for name in names)]
    rows = [head]
    for case in record["cases"]:
        ours = case["forms"][OURS]
        spread = (ours["upper_quartile"] - ours["lower_quartile"]) / 2
        ratios = [f"{case['ratios'][name]:.2f}" for name in names]
        rows.append([case["name"], f"{1e6 * ours['median']:.1f}", f"{1e6 * spread:.1f}", *ratios])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each (default: 15)")
    options = parser.parse_args()
    with limited_threads(1):
        record = measure(options.rounds)
    print(table(record))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
