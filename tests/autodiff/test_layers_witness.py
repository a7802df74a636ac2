"""Two strangers agree: the layers' backwards, and autodiff of their reference forwards.

The backwards are derived by hand, autodiff works by its table of rules; neither knows of the
other. What they have in common are the reference forwards, which run here on traced arrays as
they stand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from chainrule.autodiff import ties, vjp
from chainrule.layers import PAIRS

LOSSES = ("cross_entropy", "multiclass_hinge")  # their backward takes (cache, dloss)
RNG = np.random.default_rng(5)
LABELS = np.array([2, 0, 2, 1])


@dataclass(frozen=True)
class Case:
    """A layer, shapes of what backward differentiates by, in its order, and other arguments."""

    name: str
    shapes: dict[str, tuple[int, ...] | None]
    others: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = {k: v for k, v in self.others.items() if not isinstance(v, np.ndarray)}
        return f"{self.name} {options or ''} {'x'.join(map(str, next(iter(self.shapes.values()))))}"


IMAGES = (3, 4, 6, 5)
STATISTICS = {"running_mean": RNG.standard_normal(4), "running_var": RNG.uniform(0.5, 2, 4)}
CONV = {"x": IMAGES, "weight": (6, 4, 3, 2), "bias": (6,)}
BATCH_NORM = {"weight": (4,), "bias": (4,)}
CONV_BN = {"x": IMAGES, "weight": (4, 4, 3, 3), "bias": (4,), "bn_weight": (4,), "bn_bias": (4,)}

CASES = [
    Case("linear", {"x": (5, 3), "weight": (4, 3), "bias": (4,)}),
    Case("linear", {"x": (5, 3), "weight": (4, 3), "bias": None}),
    Case("linear", {"x": (0, 3), "weight": (4, 3), "bias": (4,)}),
    Case("flatten", {"x": IMAGES}),
    *(
        Case(name, {"x": shape})
        for name in ("relu", "leaky_relu", "sigmoid", "tanh", "silu", "gelu")
        for shape in ((5,), (4, 3), IMAGES)
    ),
    Case("leaky_relu", {"x": IMAGES}, {"negative_slope": 0.3}),
    Case("gelu", {"x": IMAGES}, {"approximate": "tanh"}),
    *(
        Case("cross_entropy", {"scores": (4, 3)}, {"y": LABELS, "label_smoothing": smoothing})
        for smoothing in (0.0, 0.1, 1.0)
    ),
    *(
        Case("multiclass_hinge", {"scores": (4, 3)}, {"y": LABELS, "margin": margin})
        for margin in (0.5, 1.0)
    ),
    Case("conv2d", CONV),
    Case("conv2d", {**CONV, "bias": None}, {"stride": 2, "padding": 1}),
    Case("conv2d", {**CONV, "weight": (6, 2, 3, 2)}, {"stride": (1, 2), "groups": 2}),
    Case(
        "conv2d", {**CONV, "weight": (4, 1, 3, 3), "bias": (4,)}, {"padding": (1, 2), "groups": 4}
    ),
    *(
        Case(name, {"x": IMAGES}, options)
        for name in ("max_pool2d", "avg_pool2d")
        for options in (
            {"kernel_size": 2},
            {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)},
        )
    ),
    Case("global_avg_pool2d", {"x": IMAGES}),
    *(
        Case("batch_norm", {"x": shape, **BATCH_NORM}, {**STATISTICS, "training": training})
        for shape in ((7, 4), IMAGES)
        for training in (True, False)
    ),
    Case("layer_norm", {"x": (5, 4), **BATCH_NORM}),
    Case("layer_norm", {"x": (3, 4, 2), "weight": (4, 2), "bias": (4, 2)}, {"eps": 1e-3}),
    Case("group_norm", {"x": IMAGES, **BATCH_NORM}, {"num_groups": 2}),
    Case("group_norm", {"x": (5, 4, 2), **BATCH_NORM}, {"num_groups": 1}),
    *(
        Case("dropout", {"x": IMAGES}, {"p": p, "training": training, "rng": 3})
        for p in (0.0, 0.4, 1.0)
        for training in (True, False)
    ),
    Case("linear_relu", {"x": (5, 3), "weight": (4, 3), "bias": (4,)}),
    Case("linear_relu", {"x": (5, 3), "weight": (4, 3), "bias": None}),
    Case("conv_relu", CONV, {"stride": 2, "padding": 1}),
    Case("conv_relu_pool", CONV, {"padding": 1}),
    Case("conv_relu_pool", CONV, {"pool_kernel_size": 3, "pool_stride": 1}),
    *(
        Case("conv_bn_relu", CONV_BN, {**STATISTICS, "training": training, "padding": 1})
        for training in (True, False)
    ),
]


def arrays_of(case: Case) -> dict[str, np.ndarray | None]:
    rng = np.random.default_rng(11)
    return {
        key: None if shape is None else rng.standard_normal(shape)
        for key, shape in case.shapes.items()
    }


def run(forward: Callable[..., Any], case: Case, arrays: dict[str, Any]) -> Any:
    """out and cache; a new generator at each call."""
    others = dict(case.others)
    if "rng" in others:
        others["rng"] = np.random.default_rng(others["rng"])
    out, cache, *_ = forward(**arrays, **others)
    return out, cache


def by_hand(
    forward: Callable[..., Any], backward: Callable[..., Any], case: Case, dout: Any
) -> dict[str, Any]:
    _, cache = run(forward, case, arrays_of(case))
    grads = backward(cache, dloss=float(dout)) if case.name in LOSSES else backward(dout, cache)
    grads = grads if isinstance(grads, tuple) else (grads,)
    return dict(zip(case.shapes, grads, strict=True))


def by_autodiff(case: Case, dout: Any) -> dict[str, Any]:
    entry = PAIRS[case.name]
    _, pull_back = vjp(
        lambda arrays: run(entry.reference_forward, case, arrays)[0], arrays_of(case)
    )
    return pull_back(dout)[0]


def cotangent(case: Case) -> Any:
    out, _ = run(PAIRS[case.name].reference_forward, case, arrays_of(case))
    return np.random.default_rng(12).standard_normal(np.shape(out))


def test_every_pair_has_a_witness() -> None:
    assert {case.name for case in CASES} == set(PAIRS)


@pytest.mark.parametrize("implementation", ["reference", "numpy", "fast"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_backward_is_that_of_autodiff(case: Case, implementation: str) -> None:
    entry = PAIRS[case.name]
    prefix = "" if implementation == "fast" else f"{implementation}_"
    forward, backward = (getattr(entry, f"{prefix}{way}") for way in ("forward", "backward"))
    dout = cotangent(case)
    mine = by_hand(forward, backward, case, dout)
    witness = by_autodiff(case, dout)
    for key, shape in case.shapes.items():
        if shape is None:
            assert mine[key] is None
            assert witness[key] is None
        else:
            scale = max(1.0, float(np.max(np.abs(witness[key]), initial=0.0)))
            np.testing.assert_allclose(mine[key], witness[key], rtol=1e-12, atol=1e-12 * scale)


def test_the_cases_reach_both_sides_of_every_kink() -> None:
    """Otherwise agreement would mean little."""
    for case in CASES:
        if "relu" in case.name and 0 not in next(iter(case.shapes.values())):
            out, _ = run(PAIRS[case.name].reference_forward, case, arrays_of(case))
            if case.name != "leaky_relu":
                assert np.any(out > 0)
            if case.name in ("relu", "linear_relu", "conv_relu", "conv_bn_relu"):
                assert np.any(out == 0)


def test_relu_agrees_at_zero_where_ties_go_to_the_constant() -> None:
    """numpy.maximum(x, 0) gives half at 0 by default; the layer gives nothing."""
    case = Case("relu", {"x": (3,)})
    entry = PAIRS["relu"]
    x, dout = np.array([-1.0, 0.0, 1.0]), np.ones(3)
    _, cache = entry.reference_forward(x)
    mine = entry.reference_backward(dout, cache)
    for convention, expected in (("last", [0, 0, 1]), ("split", [0, 0.5, 1])):
        with ties(convention):
            _, pull_back = vjp(lambda x: run(entry.reference_forward, case, {"x": x})[0], x)
        np.testing.assert_array_equal(pull_back(dout)[0], expected)
    np.testing.assert_array_equal(mine, [0, 0, 1])
