"""Numbers printed in the CS231n assignments (2015 to 2020), for the same evenly spaced inputs.

The course stores a linear layer's weight as (D, F), chainrule as PyTorch does, (F, D).
"""

from __future__ import annotations

import numpy as np
import pytest

from chainrule import kernels
from chainrule.layers import pair

both = pytest.mark.parametrize(
    "implementation", ["reference", "numpy", *kernels.instruction_sets()], indirect=True
)


def spaced(low: float, high: float, *shape: int) -> np.ndarray:
    return np.linspace(low, high, int(np.prod(shape))).reshape(shape)


@both
def test_affine(implementation: str) -> None:
    x = spaced(-0.1, 0.5, 2, 4, 5, 6)
    weight = spaced(-0.2, 0.3, 120, 3).T
    flat, _ = pair("flatten", implementation)[0](x)
    out, _ = pair("linear", implementation)[0](flat, weight, spaced(-0.3, 0.1, 3))
    expected = [[1.49834967, 1.70660132, 1.91485297], [3.25553199, 3.5141327, 3.77273342]]
    np.testing.assert_allclose(out, expected, rtol=0, atol=5e-9)


@both
def test_relu(implementation: str) -> None:
    out, _ = pair("relu", implementation)[0](spaced(-0.5, 0.5, 3, 4))
    expected = [0.04545455, 0.13636364, 0.22727273, 0.31818182, 0.40909091, 0.5]
    np.testing.assert_allclose(out.ravel(), [0] * 6 + expected, rtol=0, atol=5e-9)


@both
def test_convolution(implementation: str) -> None:
    out, _ = pair("conv2d", implementation)[0](
        spaced(-0.1, 0.5, 2, 3, 4, 4),
        spaced(-0.2, 0.3, 3, 3, 4, 4),
        spaced(-0.1, 0.2, 3),
        stride=2,
        padding=1,
    )
    assert out.shape == (2, 3, 2, 2)
    first = [[-0.08759809, -0.10987781], [-0.18387192, -0.2109216]]
    last = [[2.36270298, 2.36904306], [2.38090835, 2.38247847]]
    np.testing.assert_allclose(out[0, 0], first, rtol=0, atol=5e-9)
    np.testing.assert_allclose(out[1, 2], last, rtol=0, atol=5e-9)


@both
def test_max_pool(implementation: str) -> None:
    out, _ = pair("max_pool2d", implementation)[0](spaced(-0.3, 0.4, 2, 3, 4, 4), 2)
    first = [[-0.26315789, -0.24842105], [-0.20421053, -0.18947368]]
    last = [[0.32631579, 0.34105263], [0.38526316, 0.4]]
    np.testing.assert_allclose(out[0, 0], first, rtol=0, atol=5e-9)
    np.testing.assert_allclose(out[1, 2], last, rtol=0, atol=5e-9)


@both
def test_losses_of_scores_near_zero(implementation: str) -> None:
    rng = np.random.default_rng(0)
    scores, y = 0.001 * rng.standard_normal((50, 10)), rng.integers(10, size=50)
    svm, _ = pair("multiclass_hinge", implementation)[0](scores, y)
    softmax, _ = pair("cross_entropy", implementation)[0](scores, y)
    assert svm == pytest.approx(9, abs=5e-3)
    assert softmax == pytest.approx(2.3026, abs=5e-4)


@both
def test_two_layer_net(implementation: str) -> None:
    """The toy network of the two-layer exercise: scores, and the loss with 0.5 reg |W|^2."""
    w1, b1 = spaced(-0.2, 0.6, 4, 10).T, spaced(-0.3, 0.7, 10)
    w2, b2 = spaced(-0.4, 0.1, 10, 3).T, spaced(-0.5, 0.9, 3)
    hidden, _ = pair("linear_relu", implementation)[0](spaced(-0.2, 0.5, 5, 4), w1, b1)
    scores, _ = pair("linear", implementation)[0](hidden, w2, b2)
    expected = {
        0: [-0.5328368, 0.20031504, 0.93346689],
        1: [-0.59412164, 0.15498488, 0.9040914],
        4: [-0.89110401, -0.08754544, 0.71601312],
    }
    for row, values in expected.items():
        np.testing.assert_allclose(scores[row], values, rtol=0, atol=5e-9)
    loss, _ = pair("cross_entropy", implementation)[0](scores, np.array([0, 1, 2, 2, 1]))
    penalty = 0.5 * 0.1 * (np.sum(w1**2) + np.sum(w2**2))
    assert loss + penalty == pytest.approx(1.38191946092, abs=5e-12)
