"""What is compared: cases, who takes part in them, and whether the results are right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from chainrule.errors import DataMissingError, GradientMismatchError, explain

__all__ = [
    "CHAINRULE",
    "CHANNELS_LAST",
    "EAGER",
    "TUNED",
    "Arrays",
    "Case",
    "Contest",
    "Contestant",
    "duel",
    "load_torch",
    "sixteenths",
    "validate",
]

Arrays = Mapping[str, np.ndarray]

# The forms of a contest, as they are called in records.
CHAINRULE = "chainrule"
EAGER = "eager"
CHANNELS_LAST = "channels_last"
TUNED = "tuned_allocator"  # runs what EAGER runs


@dataclass(frozen=True)
class Contestant:
    """One of those that compute the same thing.

    Attributes
    ----------
    run : callable
        What is timed. Its result is dropped at once.
    result : callable
        What is validated: named arrays, computed from the state that the contest began with.
    """

    run: Callable[[], object]
    result: Callable[[], Arrays]


@dataclass(frozen=True)
class Contest:
    """A case with its data in memory.

    Attributes
    ----------
    contestants : dict of str to Contestant
        ``chainrule``, ``eager`` and, where there are images, ``channels_last``.
    expected : callable
        The results that are right: PyTorch's, in float64.
    tolerance : float
        Largest relative error that passes, in the Euclidean norm of each array.
    """

    contestants: dict[str, Contestant]
    expected: Callable[[], Arrays]
    tolerance: float


@dataclass(frozen=True)
class Case:
    """Something to time.

    Attributes
    ----------
    name : str
        Such as ``conv/S1``; what comes before the slash is its group.
    dtype : {"float32", "float64"}
        Type of all arrays.
    shape : str
        Its sizes, for people.
    prepare : callable
        Makes the `Contest`.
    flops : float, optional
        Floating-point operations of one run, where arithmetic is what takes the time. A
        multiply-add counts as two; operations on padding count, as is usual.
    bytes_read : int, optional
        Bytes that one run has to read from memory at least, where that gives a lower bound.
    images : int, optional
        Examples of one training step.
    network : str, optional
        Name of the network that is trained, if one is.
    """

    name: str
    dtype: str
    shape: str
    prepare: Callable[[], Contest]
    flops: float | None = None
    bytes_read: int | None = None
    images: int | None = None
    network: str | None = None

    @property
    def group(self) -> str:
        """Name of the group."""
        return self.name.partition("/")[0]


def load_torch() -> Any:
    """Import PyTorch.

    Raises
    ------
    DataMissingError
        If it is not installed.
    """
    try:
        return import_module("torch")
    except ModuleNotFoundError:
        raise DataMissingError(
            "bench: PyTorch is not installed, and there is nothing to compare with. Install it "
            "with: pip install 'chainrule[torch]'"
        ) from None


def sixteenths(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Draw normal numbers and round them to sixteenths.

    Sums of a million products of such numbers are exact in float32. So results can be compared
    to the last bit, also the positions of maxima, which rounding would decide otherwise.

    Examples
    --------
    >>> 16 * sixteenths(np.random.default_rng(0), (3,), "float32")
    array([ 18., -22.,  -7.], dtype=float32)
    """
    return (np.rint(16 * rng.standard_normal(shape, np.float32)) / 16).astype(dtype)


def duel(
    ours: Callable[[], Arrays],
    theirs: Callable[[dict[str, Any]], Mapping[str, Any]],
    inputs: Arrays,
    leaves: tuple[str, ...],
    tolerance: float,
) -> Contest:
    """Make a contest of two functions of the same arrays.

    Parameters
    ----------
    ours : callable
        Computes named arrays.
    theirs : callable
        The same for PyTorch: takes the inputs as tensors, and computes named tensors.
    inputs : mapping of str to ndarray
        The arrays, as ``ours`` uses them.
    leaves : tuple of str
        Which of them need gradients.
    tolerance : float
        As in `Contest`.

    Returns
    -------
    Contest
        With a ``channels_last`` form if an input has four axes.
    """
    torch = load_torch()

    def tensors(layout: Any, dtype: Any = None) -> dict[str, Any]:
        made = {}
        for name, array in inputs.items():
            tensor = torch.from_numpy(array)
            if dtype is not None and tensor.is_floating_point():
                tensor = tensor.to(dtype)
            if tensor.dim() == 4:
                tensor = tensor.contiguous(memory_format=layout)
            made[name] = tensor.requires_grad_(name in leaves)
        return made

    def contestant(layout: Any) -> Contestant:
        given = tensors(layout)
        return Contestant(lambda: theirs(given), lambda: _to_numpy(theirs(given)))

    contestants = {
        CHAINRULE: Contestant(ours, ours),
        EAGER: contestant(torch.contiguous_format),
    }
    if any(array.ndim == 4 for array in inputs.values()):
        contestants[CHANNELS_LAST] = contestant(torch.channels_last)
    exact = (torch.contiguous_format, torch.float64)
    return Contest(contestants, lambda: _to_numpy(theirs(tensors(*exact))), tolerance)


def _to_numpy(results: Mapping[str, Any]) -> Arrays:
    return {name: tensor.detach().numpy() for name, tensor in results.items()}


def validate(case: Case, contest: Contest) -> float:
    """Compare the results of all contestants with those that are right.

    Parameters
    ----------
    case : Case
        For messages.
    contest : Contest
        Its contestants are run once.

    Returns
    -------
    float
        Largest relative error of chainrule's results.

    Raises
    ------
    GradientMismatchError
        If a result is further off than the tolerance of the contest, or has another shape.
    """
    expected = contest.expected()
    worst = 0.0
    for form, contestant in contest.contestants.items():
        results = contestant.result()
        for name, right in expected.items():
            error = _relative_error(results[name], right)
            if not error <= contest.tolerance:  # NaN is wrong as well
                raise GradientMismatchError(
                    explain(
                        f"bench {case.name} {case.dtype}",
                        f"{name} of {form}",
                        f"be within {contest.tolerance:g} of PyTorch's in float64",
                        f"a relative error of {error:.2g}",
                        "Nothing was timed.",
                    )
                )
            worst = max(worst, error) if form == CHAINRULE else worst
    return worst


def _relative_error(found: np.ndarray, right: np.ndarray) -> float:
    """Error in the Euclidean norm; infinite if the shapes differ."""
    if found.shape != right.shape:
        return float("inf")
    error = float(np.linalg.norm(np.ravel(found - right)))
    size = float(np.linalg.norm(np.ravel(right)))
    return error / size if size else error
