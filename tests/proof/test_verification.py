"""The proof table: right layers pass, and each witness notices what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from chainrule import kernels, proof, twin
from chainrule.errors import ConfigError, GradientMismatchError
from chainrule.layers import PAIRS
from chainrule.proof import CASES, WITNESSES, LayerProof, raise_if_any_failed, verify


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[..., LayerProof]:
    """Verify a layer after functions of its pair have been replaced."""

    def run(layer: str, **functions: Callable[..., Any]) -> LayerProof:
        pairs = {layer: replace(PAIRS[layer], **functions)}
        monkeypatch.setattr(proof.verification, "PAIRS", pairs)
        (found,) = verify([layer])
        return found

    return run


def failed(found: LayerProof) -> set[str]:
    return {finding.witness for finding in found.findings if not finding.ok}


@pytest.mark.parametrize("layer", PAIRS)
def test_every_layer_passes(layer: str) -> None:
    (found,) = verify([layer])
    assert found.ok, found
    assert found.num_cases == len(CASES[layer]) > 0
    heard = {f.witness for f in found.findings if f.error is not None}
    expected = set(WITNESSES) - (set() if twin.available() else {"PyTorch"})
    assert heard == expected
    raise_if_any_failed([found])


def test_all_layers_have_cases() -> None:
    assert set(CASES) == set(PAIRS)
    assert [found.layer for found in verify(["tanh", "relu"])] == ["tanh", "relu"]


def test_cases_cover_every_argument_with_a_gradient() -> None:
    for layer, cases in CASES.items():
        for case in cases:
            out, cache, *_ = PAIRS[layer].forward(**case.arguments())
            dout = np.ones(np.shape(out))
            gradients = (
                PAIRS[layer].backward(cache, 1.0)
                if dout.ndim == 0
                else PAIRS[layer].backward(dout, cache)
            )
            count = len(gradients) if isinstance(gradients, tuple) else 1
            assert count == len(case.arrays), (layer, case.label)


def test_a_backward_that_is_slightly_off_is_noticed_by_all(broken) -> None:
    def backward(dout: Any, cache: Any) -> Any:
        return PAIRS["tanh"].backward(dout, cache) * (1 + 1e-3)

    assert failed(broken("tanh", backward=backward)) >= {"numeric", "autodiff", "reference"}


@pytest.mark.parametrize("key", ["dx", "dweight", "dbias"])
def test_one_wrong_tensor_is_named(broken, key: str) -> None:
    def backward(dout: Any, cache: Any) -> Any:
        gradients = dict(
            zip(("dx", "dweight", "dbias"), PAIRS["linear"].backward(dout, cache), strict=True)
        )
        if gradients[key] is not None:
            gradients[key] = gradients[key] + 0.01
        return tuple(gradients.values())

    found = broken("linear", backward=backward)
    assert {"numeric", "autodiff", "reference", "float32"} <= failed(found)
    assert all(f.where.split(", ")[1] == key for f in found.findings if not f.ok)
    with pytest.raises(GradientMismatchError, match=rf"verify: linear differs from .*, {key}"):
        raise_if_any_failed([found])


def test_a_wrong_forward_with_its_own_right_backward_is_noticed(broken) -> None:
    """Numeric differentiation alone would be content."""

    def forward(x: np.ndarray) -> Any:
        return 2 * np.tanh(x), np.tanh(x)

    def backward(dout: np.ndarray, cache: Any) -> Any:
        return 2 * dout * (1 - cache**2)

    found = broken("tanh", forward=forward, backward=backward)
    expected = {"autodiff", "reference", "float32"} | ({"PyTorch"} if twin.available() else set())
    assert failed(found) == expected


def test_a_wrong_kernel_is_named(broken) -> None:
    if not kernels.instruction_sets():
        pytest.skip("no kernels")
    last = kernels.instruction_sets()[-1]

    def forward(x: np.ndarray) -> Any:
        out, cache = PAIRS["relu"].forward(x)
        return (out + 1e-3 if kernels.active() == last else out), cache

    found = broken("relu", forward=forward)
    reference = next(f for f in found.findings if f.witness == "reference")
    assert not reference.ok
    assert reference.where.endswith(f"out, {last}")


def test_nan_and_wrong_shapes_are_infinitely_wrong(broken) -> None:
    found = broken("tanh", backward=lambda dout, cache: np.full(np.shape(dout), np.nan))
    assert failed(found) == set(WITNESSES) - (set() if twin.available() else {"PyTorch"})
    found = broken("flatten", backward=lambda dout, cache: np.ones(3))
    assert {"numeric", "autodiff", "reference"} <= failed(found)


def test_a_missing_gradient_is_noticed(broken) -> None:
    def backward(dout: Any, cache: Any) -> Any:
        dx, dweight, _ = PAIRS["linear"].backward(dout, cache)
        return dx, dweight, None

    found = broken("linear", backward=backward)
    assert {"autodiff", "reference"} <= failed(found)


def test_without_pytorch_the_others_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof.verification.twin, "available", lambda: False)
    (found,) = verify(["relu"])
    silent = next(f for f in found.findings if f.witness == "PyTorch")
    assert found.ok
    assert (silent.error, silent.where) == (None, "PyTorch is not installed")


def test_unknown_layers_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"verify: layer must name a layer; got 'rellu'.*'relu'"):
        verify(["rellu"])
