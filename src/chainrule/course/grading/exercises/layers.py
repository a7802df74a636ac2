"""Tests of single layers: affine, ReLU, losses, convolution and pooling."""

from __future__ import annotations

import numpy as np

from chainrule.course.cs231n import layers as course
from chainrule.course.grading.exercises.catalog import enter, linspace
from chainrule.course.grading.script import Plan

__all__ = ()

_L = "cs231n.layers:"


@enter("layers", "affine_forward", "Affine layer, forward")
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    x, w, b = linspace(-0.1, 0.5, 2, 4, 5, 6), linspace(-0.2, 0.3, 120, 3), linspace(-0.3, 0.1, 3)
    golden = [[1.49834967, 1.70660132, 1.91485297], [3.25553199, 3.5141327, 3.77273342]]
    out = plan.script.call(_L + "affine_forward", x, w, b)
    plan.check("the output of the notebook's example", out[0], golden, loose=10)
    for shape, features in (((3, 7), 4), ((4, 2, 3, 2), 5), ((1, 6), 1)):
        w = rng.normal(size=(int(np.prod(shape[1:])), features))
        x, b = rng.normal(size=shape), rng.normal(size=features)
        out = plan.script.call(_L + "affine_forward", x, w, b)
        label = f"the output for x of shape {shape}"
        plan.check(label, out[0], course.affine_forward(x, w, b)[0])
    return plan


@enter("layers", "affine_backward", "Affine layer, backward", weight=2)
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    for shape, features in (((6, 5), 4), ((3, 2, 2, 3), 5)):
        w = rng.normal(size=(int(np.prod(shape[1:])), features))
        x, b = rng.normal(size=shape), rng.normal(size=features)
        dout = rng.normal(size=(shape[0], features))
        out = plan.script.call(_L + "affine_forward", x, w, b)
        gradients = plan.script.call(_L + "affine_backward", dout, out[1])
        expected = course.affine_backward(dout, course.affine_forward(x, w, b)[1])
        plan.checks_of(gradients, "dx dw db", expected, f" for x of shape {shape}")
    plan.diagnose(_L + "affine_forward", _L + "affine_backward", {"x": x, "w": w, "b": b})
    return plan


@enter("layers", "relu_forward", "ReLU, forward", weight=0.5)
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    for what, x in (
        ("the notebook's example", linspace(-0.5, 0.5, 3, 4)),
        ("four axes", rng.normal(size=(2, 3, 4, 5))),
    ):
        out = plan.script.call(_L + "relu_forward", x)
        plan.check(f"the output for {what}", out[0], np.maximum(x, 0))
    return plan


@enter("layers", "relu_backward", "ReLU, backward", weight=0.5)
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    for shape in ((10, 10), (2, 3, 4, 5)):
        x, dout = rng.normal(size=shape), rng.normal(size=shape)
        out = plan.script.call(_L + "relu_forward", x)
        dx = plan.script.call(_L + "relu_backward", dout, out[1])
        plan.check(f"dx of shape {shape}", dx, dout * (x > 0))
    plan.diagnose(_L + "relu_forward", _L + "relu_backward", {"x": x})
    return plan


def _loss(name: str, near: float) -> None:
    function = getattr(course, name)
    title = "SVM loss" if name == "svm_loss" else "Softmax loss"

    @enter("losses", name, title)
    def _(rng: np.random.Generator, generation: str) -> Plan:
        plan = Plan()
        scores, labels = 0.001 * rng.normal(size=(50, 10)), rng.integers(10, size=50)
        sane = plan.script.call(_L + name, scores, labels)
        plan.check(
            f"the loss of scores near 0 (about {near:g})", sane[0], function(scores, labels)[0]
        )
        for shape in ((7, 4), (1, 3)):
            x, y = rng.normal(scale=3, size=shape), rng.integers(shape[1], size=shape[0])
            out = plan.script.call(_L + name, x, y)
            plan.checks_of(out, "loss dx", function(x, y), f" for scores of shape {shape}")
        about = {"x": rng.normal(size=(5, 4)), "y": rng.integers(4, size=5)}
        plan.diagnose_loss(_L + name, about)
        if name == "softmax_loss":
            x = np.array([[1000.0, 0.0, -1000.0], [-800.0, -801.0, -802.0]])
            out = plan.script.call(_L + name, x, np.array([0, 2]))
            right = function(x, np.array([0, 2]))
            plan.checks_of(out, "loss dx", right, " for large scores")
        return plan


_loss("svm_loss", 9)
_loss("softmax_loss", 2.3026)


@enter("conv", "conv_forward", "Convolution, forward", weight=1.5)
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    x, w = linspace(-0.1, 0.5, 2, 3, 4, 4), linspace(-0.2, 0.3, 3, 3, 4, 4)
    b = linspace(-0.1, 0.2, 3)
    out = plan.script.call(_L + "conv_forward_naive", x, w, b, {"stride": 2, "pad": 1})
    first = [[-0.08759809, -0.10987781], [-0.18387192, -0.2109216]]
    last = [[2.36270298, 2.36904306], [2.38090835, 2.38247847]]
    plan.check("the first map of the notebook's example", out[0][0][0], first, loose=20)
    plan.check("the last map of the notebook's example", out[0][1][2], last, loose=20)
    for size, window, stride, pad in (
        ((5, 5), (3, 3), 1, 1),
        ((7, 5), (3, 1), 2, 0),
        ((4, 6), (2, 4), 2, 2),
    ):
        param = {"stride": stride, "pad": pad}
        x, b = rng.normal(size=(2, 3, *size)), rng.normal(size=4)
        w = rng.normal(size=(4, 3, *window))
        out = plan.script.call(_L + "conv_forward_naive", x, w, b, param)
        label = f"the output for stride {stride}, pad {pad}, filters {window[0]} x {window[1]}"
        plan.check(label, out[0], course.conv_forward_naive(x, w, b, param)[0])
    return plan


@enter("conv", "conv_backward", "Convolution, backward", weight=2)
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    for size, window, stride, pad in (
        ((5, 5), (3, 3), 1, 1),
        ((7, 5), (3, 3), 2, 0),
        ((4, 6), (2, 4), 2, 2),
    ):
        param = {"stride": stride, "pad": pad}
        x, b = rng.normal(size=(2, 3, *size)), rng.normal(size=2)
        w = rng.normal(size=(2, 3, *window))
        expected, cache = course.conv_forward_naive(x, w, b, param)
        dout = rng.normal(size=expected.shape)
        out = plan.script.call(_L + "conv_forward_naive", x, w, b, param)
        gradients = plan.script.call(_L + "conv_backward_naive", dout, out[1])
        where = f" for stride {stride}, pad {pad}"
        plan.checks_of(gradients, "dx dw db", course.conv_backward_naive(dout, cache), where)
    x, w = rng.normal(size=(2, 2, 5, 5)), rng.normal(size=(2, 2, 3, 3))
    forward, backward = _L + "conv_forward_naive", _L + "conv_backward_naive"
    plan.diagnose(forward, backward, {"x": x, "w": w, "b": b}, {"stride": 1, "pad": 1})
    return plan


def _pool_param(height: int, width: int, stride: int) -> dict[str, int]:
    return {"pool_height": height, "pool_width": width, "stride": stride}


@enter("conv", "max_pool_forward", "Max pooling, forward", weight=0.75)
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    x = linspace(-0.3, 0.4, 2, 3, 4, 4)
    out = plan.script.call(_L + "max_pool_forward_naive", x, _pool_param(2, 2, 2))
    first = [[-0.26315789, -0.24842105], [-0.20421053, -0.18947368]]
    plan.check("the first map of the notebook's example", out[0][0][0], first, loose=20)
    for size, window, stride in (((6, 4), (2, 2), 2), ((5, 7), (3, 3), 2), ((6, 6), (2, 3), 1)):
        x, param = rng.normal(size=(2, 3, *size)), _pool_param(*window, stride)
        out = plan.script.call(_L + "max_pool_forward_naive", x, param)
        label = f"the output for windows {window[0]} x {window[1]}, stride {stride}"
        plan.check(label, out[0], course.max_pool_forward_naive(x, param)[0])
    return plan


@enter("conv", "max_pool_backward", "Max pooling, backward", weight=0.75)
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    for size, window, stride in (((6, 4), (2, 2), 2), ((7, 7), (3, 3), 2)):
        x, param = rng.normal(size=(2, 3, *size)), _pool_param(*window, stride)
        expected, cache = course.max_pool_forward_naive(x, param)
        dout = rng.normal(size=expected.shape)
        out = plan.script.call(_L + "max_pool_forward_naive", x, param)
        dx = plan.script.call(_L + "max_pool_backward_naive", dout, out[1])
        overlap = "overlapping" if stride < window[0] else "disjoint"
        plan.check(f"dx for {overlap} windows", dx, course.max_pool_backward_naive(dout, cache))
    forward, backward = _L + "max_pool_forward_naive", _L + "max_pool_backward_naive"
    plan.diagnose(forward, backward, {"x": x}, param)
    return plan
