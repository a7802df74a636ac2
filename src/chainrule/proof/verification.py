"""The proof table: each layer's gradients before four independent witnesses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from chainrule import autodiff, gradcheck, kernels, twin
from chainrule.errors import ConfigError, GradientMismatchError, explain, nearest
from chainrule.layers import PAIRS, Pair
from chainrule.proof.cases import CASES, Case

__all__ = ["LIMITS", "WITNESSES", "Finding", "LayerProof", "raise_if_any_failed", "verify"]

LIMITS = {"numeric": 1e-6, "autodiff": 1e-10, "PyTorch": 1e-9, "reference": 1e-10, "float32": 1e-4}
WITNESSES = tuple(LIMITS)

Gradients = Mapping[str, np.ndarray]
# One tensor of one case: its error and what it is; or None and why it was not tried.
Testimony = tuple[float | None, str]


@dataclass(frozen=True)
class Finding:
    """What one witness says of one layer.

    Parameters
    ----------
    witness : str
        One of `WITNESSES`.
    error : float or None
        The worst relative error over all cases; None if the witness could not be heard.
    limit : float
        The largest error that passes.
    where : str
        The case and the tensor with that error; or why the witness was not heard.
    """

    witness: str
    error: float | None
    limit: float
    where: str

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against the layer."""
        return self.error is None or self.error <= self.limit


@dataclass(frozen=True)
class LayerProof:
    """One row of the proof table.

    Parameters
    ----------
    layer : str
        Name of the layer.
    num_cases : int
        How many cases it was tried on.
    findings : tuple of Finding
        One for each witness.
    """

    layer: str
    num_cases: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether no witness speaks against the layer."""
        return all(finding.ok for finding in self.findings)


def verify(layers: Sequence[str] | None = None) -> Iterator[LayerProof]:
    """Hold every layer's backward against four independent witnesses.

    Parameters
    ----------
    layers : sequence of str, optional
        Names of layers, keys of `chainrule.layers.PAIRS`; all by default.

    Returns
    -------
    iterator of LayerProof
        One for each layer, worked out when it is asked for.

    Raises
    ------
    ConfigError
        If there is no such layer.

    Notes
    -----
    What is judged is the pair that training uses, in float64:

    - *numeric*: its backward against differences of its own forward (`gradcheck.check_layer`);
    - *autodiff*: against reverse mode applied to the reference forward, which shares no line
      with any hand-written backward;
    - *PyTorch*: forward and backward against PyTorch's, if it is installed;
    - *reference*: the pair on NumPy and that of each instruction set with compiled kernels that
      this processor runs, forward and backward, against the reference pair; once more in *float32*.

    An error is ``max |a - b|`` over a tensor, as a share of its largest element or, where that is
    more, of a thousandth of the largest in all the layer's gradients: some are zero but for
    rounding. For differences it is that of `gradcheck`.

    Examples
    --------
    >>> [proof] = verify(["sigmoid"])
    >>> proof.layer, proof.ok
    ('sigmoid', True)
    """
    names = list(PAIRS) if layers is None else list(layers)
    for name in names:
        if name not in PAIRS:
            known = nearest(str(name), PAIRS)
            raise ConfigError(explain("verify", "layer", "name a layer", repr(name), known))
    return (_prove(PAIRS[name]) for name in names)


def raise_if_any_failed(proofs: Sequence[LayerProof]) -> None:
    """Raise if a witness spoke against a layer.

    Parameters
    ----------
    proofs : sequence of LayerProof
        What `verify` gave.

    Raises
    ------
    GradientMismatchError
        With layer, witness, error, and the case it was met in.

    Examples
    --------
    >>> raise_if_any_failed(list(verify(["relu"])))
    """
    failed = [(p.layer, f) for p in proofs for f in p.findings if not f.ok]
    if failed:
        raise GradientMismatchError(
            "verify: "
            + "; ".join(
                f"{layer} differs from {f.witness} by {f.error:.1e}, more than {f.limit:.0e}, "
                f"in {f.where}"
                for layer, f in failed
            )
            + "."
        )


def _prove(pair: Pair) -> LayerProof:
    cases = CASES[pair.name]
    witnesses: tuple[Callable[[Pair, Case], Iterator[Testimony]], ...] = (
        _ask_numeric,
        _ask_autodiff,
        _ask_pytorch,
        partial(_ask_reference, dtype=np.float64),
        partial(_ask_reference, dtype=np.float32),
    )
    findings = [
        _worst(witness, [testimony for case in cases for testimony in ask(pair, case)])
        for witness, ask in zip(WITNESSES, witnesses, strict=True)
    ]
    return LayerProof(pair.name, len(cases), tuple(findings))


def _worst(witness: str, testimonies: Sequence[Testimony]) -> Finding:
    heard = [(error, where) for error, where in testimonies if error is not None]
    if not heard:
        return Finding(witness, None, LIMITS[witness], testimonies[0][1])
    error, where = max(heard, key=lambda each: np.inf if np.isnan(each[0]) else each[0])
    return Finding(witness, np.inf if np.isnan(error) else error, LIMITS[witness], where)


def _ask_numeric(pair: Pair, case: Case) -> Iterator[Testimony]:
    given = [key for key, value in case.arrays.items() if value is not None]
    arguments = case.arguments()
    fixed = {key: value for key, value in arguments.items() if key not in given}

    def forward(**arrays: np.ndarray) -> Any:
        again = {key: case.arguments()[key] for key in fixed if key == "rng"}
        return pair.forward(**arrays, **{**fixed, **again})

    def backward(dout: Any, cache: Any) -> Any:
        gradients = _backward(pair.backward, pair.name, dout, cache)
        return tuple(g for g, key in zip(gradients, case.arrays, strict=False) if key in given)

    report = gradcheck.check_layer(forward, backward, {key: arguments[key] for key in given})
    for entry in report.entries:
        yield entry.relative_error, f"{case.label}, d{entry.name}"
    for problem in report.problems:
        if problem.fails:
            yield np.inf, f"{case.label}: {problem.sentence}"


def _ask_autodiff(pair: Pair, case: Case) -> Iterator[Testimony]:
    arguments = case.arguments()
    given = {key: arguments[key] for key, value in case.arrays.items() if value is not None}
    fixed = {key: value for key, value in arguments.items() if key not in given}
    _, ours, dout = _differentiate(pair.name, pair.forward, pair.backward, case, np.float64)

    def forward(arrays: dict[str, Any]) -> Any:
        return pair.reference_forward(**arrays, **fixed)[0]

    _, pull_back = autodiff.vjp(forward, given)
    (theirs,) = pull_back(dout)
    yield from _compare(case, ours, theirs)


def _ask_pytorch(pair: Pair, case: Case) -> Iterator[Testimony]:
    if not twin.available():
        yield None, "PyTorch is not installed"
        return
    if "rng" in case.others:
        yield None, "PyTorch draws other random numbers"
        return
    out, ours, dout = _differentiate(pair.name, pair.forward, pair.backward, case, np.float64)
    arguments = case.arguments()
    arrays = {key: arguments.pop(key) for key in case.arrays}
    expected, theirs = twin.differentiate(pair.name, arrays, arguments, dout)
    yield _error(out, expected), f"{case.label}, out"
    yield from _compare(case, ours, theirs)


def _ask_reference(pair: Pair, case: Case, dtype: Any) -> Iterator[Testimony]:
    reference = (pair.reference_forward, pair.reference_backward)
    expected, theirs, _ = _differentiate(pair.name, *reference, case, dtype)
    compiled = () if pair.forward is pair.numpy_forward else kernels.instruction_sets()
    for name in ("none", *compiled):
        with kernels.use(name):
            out, ours, _ = _differentiate(pair.name, pair.forward, pair.backward, case, dtype)
        used = "NumPy" if name == "none" else name
        yield _error(out, expected), f"{case.label}, out, {used}"
        for error, where in _compare(case, ours, theirs):
            yield error, f"{where}, {used}"


def _differentiate(
    name: str, forward: Callable[..., Any], backward: Callable[..., Any], case: Case, dtype: Any
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Return out, the gradients by name and the dout that they belong to."""
    out, cache, *_ = forward(**case.arguments(dtype))
    dout = np.random.default_rng(0).standard_normal(np.shape(out)).astype(dtype)
    gradients = _backward(backward, name, dout, cache)
    named = dict(zip(case.arrays, gradients, strict=False))
    return np.asarray(out), {key: g for key, g in named.items() if g is not None}, dout


def _backward(backward: Callable[..., Any], name: str, dout: Any, cache: Any) -> tuple[Any, ...]:
    """Call a backward; those of losses take the cache first."""
    loss = np.ndim(dout) == 0
    gradients = backward(cache, float(dout)) if loss else backward(dout, cache)
    return gradients if isinstance(gradients, tuple) else (gradients,)


def _compare(case: Case, ours: Gradients, theirs: Gradients) -> Iterator[tuple[float, str]]:
    largest = max((float(np.abs(g).max(initial=0.0)) for g in theirs.values()), default=0.0)
    for key, gradient in ours.items():
        yield _error(gradient, theirs[key], 1e-3 * largest), f"{case.label}, d{key}"
    for key in theirs.keys() - ours.keys():
        yield np.inf, f"{case.label}, no d{key}"


def _error(a: Any, b: Any, floor: float = 0.0) -> float:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        return np.inf
    scale = max(float(np.abs(b).max(initial=0.0)), floor, 1e-8)
    return float(np.abs(a - b).max(initial=0.0)) / scale
