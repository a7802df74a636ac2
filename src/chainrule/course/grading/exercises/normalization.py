"""Tests of normalisation and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.course.cs231n import layers as course
from chainrule.course.grading.exercises.catalog import enter
from chainrule.course.grading.inside.codec import Other
from chainrule.course.grading.script import Plan, Tolerance

__all__ = ()

_L = "cs231n.layers:"


def _affine(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(0.5, 2, size), rng.normal(size=size)


@enter("batchnorm", "batchnorm_train", "Batch normalisation, training", "B")
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    x = rng.normal(3, 2, size=(8, 5))
    gamma, beta = _affine(rng, 5)
    for what, scale, shift in (
        ("gamma 1 and beta 0", np.ones(5), np.zeros(5)), ("any gamma and beta", gamma, beta),
    ):  # fmt: skip
        out = plan.script.call(_L + "batchnorm_forward", x, scale, shift, {"mode": "train"})
        expected = course.batchnorm_forward(x, scale, shift, {"mode": "train"})[0]
        plan.check(f"the output for {what}", out[0], expected)
    return plan


@enter("batchnorm", "batchnorm_test", "Batch normalisation, running statistics and test", "B")
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    gamma, beta = _affine(rng, 4)
    ours: dict[str, Any] = {"mode": "train", "momentum": 0.8}
    theirs = plan.script.make(dict(ours))
    for _step in range(5):
        x = rng.normal(1, 3, size=(20, 4))
        plan.script.call(_L + "batchnorm_forward", x, gamma, beta, theirs)
        course.batchnorm_forward(x, gamma, beta, ours)
    plan.check("running_mean after 5 batches", theirs["running_mean"], ours["running_mean"])
    variance = np.asarray(ours["running_var"])
    plan.check(
        "running_var after 5 batches", theirs["running_var"], variance, any_of=(variance * 20 / 19,)
    )
    given = {
        "mode": "test",
        "running_mean": rng.normal(size=4),
        "running_var": rng.uniform(1, 2, 4),
    }
    x = rng.normal(size=(3, 4))
    out = plan.script.call(_L + "batchnorm_forward", x, gamma, beta, dict(given))
    plan.check(
        "the output in test mode", out[0], course.batchnorm_forward(x, gamma, beta, given)[0]
    )
    return plan


def _backward(
    exercise: str,
    name: str,
    title: str,
    shape: tuple[int, ...],
    forward: str,
    param: Any,
    *more: Any,
) -> None:
    """Enter the test of a normalising layer's backward."""

    @enter(exercise, name, title, "B", weight=1.5 if name == "batchnorm_backward" else 1.0)
    def _(rng: np.random.Generator, generation: str) -> Plan:
        plan = Plan()
        x, dout = rng.normal(5, 3, size=shape), rng.normal(size=shape)
        gamma, beta = _affine(rng, shape[1])
        if more:  # the group norm of the course has gamma and beta of four axes
            gamma, beta = gamma.reshape(1, -1, 1, 1), beta.reshape(1, -1, 1, 1)
        out = plan.script.call(_L + forward, x, gamma, beta, *more, dict(param))
        gradients = plan.script.call(_L + name, dout, out[1])
        ours = getattr(course, forward)(x, gamma, beta, *more, dict(param))
        expected = getattr(course, name)(dout, ours[1])
        plan.check("dx", gradients[0], expected[0], weight=2)
        for index, label in ((1, "dgamma"), (2, "dbeta")):
            plan.check(label, gradients[index], expected[index], any_of=(expected[index].ravel(),))
        inputs = {"x": x, "gamma": gamma, "beta": beta}
        plan.diagnose(_L + forward, _L + name, inputs, *more, dict(param))
        return plan


_TRAIN = {"mode": "train"}
_backward("batchnorm", "batchnorm_backward", "Batch normalisation, backward",
          (7, 5), "batchnorm_forward", _TRAIN)  # fmt: skip
_backward("batchnorm", "batchnorm_backward_alt", "Batch normalisation, short backward",
          (7, 5), "batchnorm_forward", _TRAIN)  # fmt: skip
_backward("batchnorm", "layernorm_backward", "Layer normalisation, backward",
          (6, 5), "layernorm_forward", {})  # fmt: skip
_backward("spatial_norm", "spatial_batchnorm_backward", "Spatial batch normalisation, backward",
          (3, 4, 3, 2), "spatial_batchnorm_forward", _TRAIN)  # fmt: skip
_backward("spatial_norm", "spatial_groupnorm_backward", "Spatial group normalisation, backward",
          (2, 6, 3, 2), "spatial_groupnorm_forward", {}, 3)  # fmt: skip


@enter("batchnorm", "layernorm_forward", "Layer normalisation, forward", "B")
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    for shape in ((4, 6), (1, 9)):
        x = rng.normal(2, 4, size=shape)
        gamma, beta = _affine(rng, shape[1])
        out = plan.script.call(_L + "layernorm_forward", x, gamma, beta, {})
        expected = course.layernorm_forward(x, gamma, beta, {})[0]
        plan.check(f"the output for {shape[0]} examples", out[0], expected)
    return plan


@enter("spatial_norm", "spatial_batchnorm_forward", "Spatial batch normalisation, forward", "B")
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    x = rng.normal(2, 4, size=(2, 3, 4, 5))
    gamma, beta = _affine(rng, 3)
    given = {
        "mode": "test",
        "running_mean": rng.normal(size=3),
        "running_var": rng.uniform(1, 2, 3),
    }
    for what, param in (("training", {"mode": "train"}), ("test mode", given)):
        out = plan.script.call(_L + "spatial_batchnorm_forward", x, gamma, beta, dict(param))
        expected = course.spatial_batchnorm_forward(x, gamma, beta, dict(param))[0]
        plan.check(f"the output in {what}", out[0], expected)
    return plan


@enter("spatial_norm", "spatial_groupnorm_forward", "Spatial group normalisation, forward", "B")
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    x = rng.normal(2, 4, size=(2, 6, 4, 5))
    gamma, beta = (part.reshape(1, 6, 1, 1) for part in _affine(rng, 6))
    for groups in (2, 3):
        out = plan.script.call(_L + "spatial_groupnorm_forward", x, gamma, beta, groups, {})
        expected = course.spatial_groupnorm_forward(x, gamma, beta, groups, {})[0]
        plan.check(f"the output for {groups} groups", out[0], expected)
    return plan


@enter("dropout", "dropout_forward", "Dropout, forward", "B")
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    x = rng.uniform(1, 2, size=(200, 100))
    for keep in (0.25, 0.7):
        param = {"mode": "train", "p": keep}
        out = plan.script.call(_L + "dropout_forward", x, param)
        plan.check(f"the values kept, with p = {keep}", out[0], _kept_values(x, keep))
        plan.check(f"the share kept, with p = {keep}", out[0], _kept_share(keep))
    out = plan.script.call(_L + "dropout_forward", x[:5], {"mode": "test", "p": 0.3})
    plan.check("the output in test mode", out[0], x[:5])
    return plan


def _kept_values(x: np.ndarray, keep: float) -> Any:
    def fault(value: Any, tolerance: Tolerance) -> str:
        out = _numbers(value, x.shape)
        if isinstance(out, str):
            return out
        kept = out != 0
        if np.allclose(out[kept], x[kept] / keep, rtol=tolerance.relative):
            return ""
        if np.allclose(out[kept], x[kept], rtol=tolerance.relative):
            return "values that are kept are not scaled by 1/p"
        if np.allclose(out[kept], x[kept] / (1 - keep), rtol=tolerance.relative):
            return "values are scaled by 1/(1 - p), but p is the probability of keeping one"
        return "values that are kept are not x / p"

    return fault


def _kept_share(keep: float) -> Any:
    def fault(value: Any, tolerance: Tolerance) -> str:
        out = _numbers(value, None)
        if isinstance(out, str):
            return out
        share = float((out != 0).mean())
        if abs(share - keep) < 0.03:
            return ""
        hint = ": p is the probability of keeping one" if abs(share + keep - 1) < 0.03 else ""
        return f"{share:.0%} of the values are kept instead of {keep:.0%}{hint}"

    return fault


def _numbers(value: Any, shape: tuple[int, ...] | None) -> np.ndarray | str:
    """The value as an array of numbers, or what is wrong with it."""
    if isinstance(value, Other | str | dict) or value is None:
        return f"it should be an array of numbers; yours is {value!r}"[:120]
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return "it should be an array of numbers"
    if shape is not None and array.shape != shape:
        return f"its shape should be {shape}; yours is {array.shape}"
    return array


@enter("dropout", "dropout_backward", "Dropout, backward", "B")
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    x, dout = np.ones((60, 50)), rng.uniform(1, 2, size=(60, 50))
    param = {"mode": "train", "p": 0.4, "seed": 7}
    out = plan.script.call(_L + "dropout_forward", x, param)
    dx = plan.script.call(_L + "dropout_backward", dout, out[1])
    pair = plan.script.make([out[0], dx])

    def fault(value: Any, tolerance: Tolerance) -> str:
        parts = value if isinstance(value, list) and len(value) == 2 else [None, None]
        arrays = [_numbers(part, x.shape) for part in parts]
        for array in arrays:
            if isinstance(array, str):
                return array
        forward, backward = arrays
        if not np.array_equal(np.asarray(forward) != 0, np.asarray(backward) != 0):
            return "gradients do not pass exactly where values were kept"
        same = np.allclose(backward, dout * np.asarray(forward), rtol=tolerance.relative)
        return "" if same else "gradients that pass are not scaled as the values were"

    plan.check("dx where values were kept", pair, fault)
    out = plan.script.call(_L + "dropout_forward", x, {"mode": "test", "p": 0.4})
    dx = plan.script.call(_L + "dropout_backward", dout, out[1])
    plan.check("dx in test mode", dx, dout)
    plan.diagnose(_L + "dropout_forward", _L + "dropout_backward", {"x": x + dout}, param)
    return plan
