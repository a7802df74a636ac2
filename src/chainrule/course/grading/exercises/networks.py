"""Tests of whole networks: losses and gradients by composition of chainrule's layers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from chainrule.course.cs231n import layers as course
from chainrule.course.grading.exercises.catalog import enter, linspace
from chainrule.course.grading.inside.codec import Other
from chainrule.course.grading.script import Plan, Ref, Tolerance, target

__all__ = ["convnet", "dense_net"]

Arrays = dict[str, np.ndarray]
_TWO = "cs231n.classifiers.neural_net:"
_FC = "cs231n.classifiers.fc_net:"


def dense_net(
    x: np.ndarray,
    y: np.ndarray | None,
    params: Arrays,
    reg: float,
    normalization: str | None = None,
) -> tuple[Any, ...]:
    """Scores, loss and gradients of affine - [norm] - ReLU blocks and an affine layer.

    Parameters
    ----------
    x : ndarray of shape (N, ...)
        Examples.
    y : ndarray of shape (N,) or None
        Labels; without them only scores are computed.
    params : dict
        ``W1, b1, ...`` and ``gamma1, beta1, ...`` where there are norms.
    reg : float
        Half of it times the squared weights is added to the loss.
    normalization : {None, "batchnorm", "layernorm"}
        As in training.

    Returns
    -------
    tuple
        Scores, or scores, loss and gradients.
    """
    depth = sum(key.startswith("W") for key in params)
    out, caches = x, []
    for i in range(1, depth + 1):
        out, cache = course.affine_forward(out, params[f"W{i}"], params[f"b{i}"])
        caches.append(("affine", i, cache))
        if i == depth:
            break
        if normalization is not None:
            forward = getattr(course, f"{normalization}_forward")
            param = {"mode": "train"}
            out, cache = forward(out, params[f"gamma{i}"], params[f"beta{i}"], param)
            caches.append((normalization, i, cache))
        out, cache = course.relu_forward(out)
        caches.append(("relu", i, cache))
    if y is None:
        return (out,)
    loss, dout = course.softmax_loss(out, y)
    grads: Arrays = {}
    for kind, i, cache in reversed(caches):
        if kind == "affine":
            dout, grads[f"W{i}"], grads[f"b{i}"] = course.affine_backward(dout, cache)
        elif kind == "relu":
            dout = course.relu_backward(dout, cache)
        else:
            backward = getattr(course, f"{kind}_backward")
            dout, grads[f"gamma{i}"], grads[f"beta{i}"] = backward(dout, cache)
    return out, *_regularise(loss, params, grads, reg)


def _regularise(loss: float, params: Arrays, grads: Arrays, reg: float) -> tuple[float, Arrays]:
    for key, value in params.items():
        if key.startswith("W"):
            loss += 0.5 * reg * float(np.sum(value * value))
            grads[key] = grads[key] + reg * value
    return loss, grads


def convnet(x: np.ndarray, y: np.ndarray | None, params: Arrays, reg: float) -> tuple[Any, ...]:
    """Scores, loss and gradients of conv - ReLU - 2x2 pool - [affine - ReLU -] affine - softmax."""
    width = params["W1"].shape[2]
    conv = {"stride": 1, "pad": (width - 1) // 2}
    pool = {"pool_height": 2, "pool_width": 2, "stride": 2}
    out, first = course.conv_forward_naive(x, params["W1"], params["b1"], conv)
    out, second = course.relu_forward(out)
    out, third = course.max_pool_forward_naive(out, pool)
    rest = {key: value for key, value in params.items() if key[1:] != "1"}
    shape = out.shape
    head = {f"{key[0]}{int(key[1:]) - 1}": value for key, value in rest.items()}
    if y is None:
        return dense_net(out, None, head, 0.0)
    scores, caches = out.reshape(len(out), -1), []
    for i in range(1, len(head) // 2 + 1):
        scores, cache = course.affine_forward(scores, head[f"W{i}"], head[f"b{i}"])
        caches.append((i, cache))
        if i < len(head) // 2:
            scores, cache = course.relu_forward(scores)
            caches.append((0, cache))
    loss, dout = course.softmax_loss(scores, y)
    grads: Arrays = {}
    for i, cache in reversed(caches):
        if i:
            dout, grads[f"W{i + 1}"], grads[f"b{i + 1}"] = course.affine_backward(dout, cache)
        else:
            dout = course.relu_backward(dout, cache)
    dout = course.max_pool_backward_naive(dout.reshape(shape), third)
    dout = course.relu_backward(dout, second)
    _, grads["W1"], grads["b1"] = course.conv_backward_naive(dout, first)
    return scores, *_regularise(loss, params, grads, reg)


def _check_gradients(
    plan: Plan, given: Ref, expected: Arrays, where: str = "", loose: float = 1.0
) -> None:
    for key, value in sorted(expected.items()):
        plan.check(f"gradient of {key}{where}", given[key], value, loose=loose)


def _toy() -> tuple[Arrays, np.ndarray, np.ndarray]:
    """The toy network of the notebook."""
    model = {
        "W1": linspace(-0.2, 0.6, 4, 10), "b1": linspace(-0.3, 0.7, 10),
        "W2": linspace(-0.4, 0.1, 10, 3), "b2": linspace(-0.5, 0.9, 3),
    }  # fmt: skip
    return model, linspace(-0.2, 0.5, 5, 4), np.array([0, 1, 2, 2, 1])


# --- generation A ---------------------------------------------------------------------------


@enter("two_layer_net", "init", "Initial parameters", "A", 0.5)
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    plan.script.seed(1)
    model = plan.script.call(_TWO + "init_two_layer_model", 40, 30, 5)
    _check_shapes(plan, model, {"W1": (40, 30), "b1": (30,), "W2": (30, 5), "b2": (5,)})
    return plan


def _check_shapes(plan: Plan, params: Ref, shapes: dict[str, tuple[int, ...]]) -> None:
    for key, shape in shapes.items():
        zero = key[0] == "b"
        plan.check(f"shape and scale of {key}", params[key], _begins(shape, zero))


def _begins(shape: tuple[int, ...], zero: bool) -> Any:
    def fault(value: Any, tolerance: Tolerance) -> str:
        if isinstance(value, Other) or not isinstance(value, np.ndarray):
            return "it should be an array"
        if value.shape != shape:
            return f"its shape should be {shape}; yours is {value.shape}"
        if not np.isfinite(value).all() or np.abs(value).max(initial=0) > 2:
            return "its values are not small"
        if not zero and np.ptp(value) == 0:
            return "all its values are the same, so that all units would learn the same"
        return ""

    return fault


@enter("two_layer_net", "forward", "Scores", "A")
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    model, X, _ = _toy()
    scores = plan.script.call(_TWO + "two_layer_net", X, model)
    golden = {
        0: [-0.5328368, 0.20031504, 0.93346689],
        1: [-0.59412164, 0.15498488, 0.9040914],
        4: [-0.89110401, -0.08754544, 0.71601312],
    }
    for row, values in golden.items():
        plan.check(f"row {row} of the notebook's example", scores[row], values, loose=10)
    for count in (1, 7):
        X = rng.normal(size=(count, 4))
        scores = plan.script.call(_TWO + "two_layer_net", X, model)
        plan.check(f"scores of {count} examples", scores, dense_net(X, None, model, 0)[0])
    return plan


@enter("two_layer_net", "loss", "Loss", "A")
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    model, X, y = _toy()
    out = plan.script.call(_TWO + "two_layer_net", X, model, y, 0.1)
    plan.check("the loss of the notebook's example", out[0], 1.38191946092)
    for reg in (0.0, 0.7):
        out = plan.script.call(_TWO + "two_layer_net", X, model, y, reg)
        plan.check(f"the loss with reg = {reg}", out[0], dense_net(X, y, model, reg)[1])
    return plan


@enter("two_layer_net", "gradients", "Gradients", "A", 2)
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    model, X, y = _toy()
    out = plan.script.call(_TWO + "two_layer_net", X, model, y, 0.1)
    where = " of the notebook's example"
    _check_gradients(plan, out[1], dense_net(X, y, model, 0.1)[2], where)
    model = {key: rng.normal(size=value.shape) for key, value in model.items()}
    X = rng.normal(size=(6, 4))
    y = rng.integers(3, size=6)
    out = plan.script.call(_TWO + "two_layer_net", X, model, y, 0.5)
    _check_gradients(plan, out[1], dense_net(X, y, model, 0.5)[2])
    plan.diagnose_net(_TWO + "two_layer_net", model, X, y, reg=0.5)
    return plan


@enter("convnet", "init", "Initial parameters", "A", 0.5)
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    plan.script.seed(1)
    options: dict[str, Any] = {
        "input_shape": (3, 8, 6),
        "num_classes": 7,
        "num_filters": 4,
        "filter_size": 3,
    }
    model = plan.script.call("cs231n.classifiers.convnet:init_two_layer_convnet", **options)
    _check_shapes(plan, model, {"W1": (4, 3, 3, 3), "b1": (4,), "W2": (48, 7), "b2": (7,)})
    return plan


@enter("convnet", "two_layer_convnet", "Scores, loss and gradients", "A", 2)
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    shapes = {"W1": (3, 2, 5, 5), "b1": (3,), "W2": (3 * 3 * 4, 5), "b2": (5,)}
    model = {key: rng.normal(scale=0.3, size=shape) for key, shape in shapes.items()}
    X, y = rng.normal(size=(3, 2, 6, 8)), rng.integers(5, size=3)
    function = "cs231n.classifiers.convnet:two_layer_convnet"
    scores, loss, grads = convnet(X, y, model, 0.4)
    plan.check("scores", plan.script.call(function, X, model), scores)
    out = plan.script.call(function, X, model, y)
    plan.check("loss without regulariser", out[0], convnet(X, y, model, 0.0)[1])
    out = plan.script.call(function, X, model, y, reg=0.4)
    plan.check("loss", out[0], loss)
    _check_gradients(plan, out[1], grads)
    return plan


# --- generation B ---------------------------------------------------------------------------


@enter("two_layer_net", "init_b", "Initial parameters", "B", 0.5)
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    plan.script.seed(1)
    options = {"input_dim": 60, "hidden_dim": 50, "num_classes": 7, "weight_scale": 1e-3}
    net = plan.script.call(_FC + "TwoLayerNet", **options)
    params = net.attribute("params")
    _check_shapes(plan, params, {"W1": (60, 50), "b1": (50,), "W2": (50, 7), "b2": (7,)})
    plan.check("spread of W1", params["W1"], _spread(1e-3))
    return plan


def _spread(scale: float) -> Any:
    def fault(value: Any, tolerance: Tolerance) -> str:
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            return "it should be an array"
        std = float(value.std())
        return (
            ""
            if abs(std / scale - 1) < 0.1
            else f"its standard deviation is {std:.2g}, of {scale:g}"
        )

    return fault


def _enter_two_layer() -> None:
    @enter("two_layer_net", "loss_b", "Scores and loss", "B")
    def _(rng: np.random.Generator, generation: str) -> Plan:
        plan, _ = _two_layer(rng, with_gradients=False)
        return plan

    @enter("two_layer_net", "gradients_b", "Gradients", "B", 2)
    def _(rng: np.random.Generator, generation: str) -> Plan:
        plan, _ = _two_layer(rng, with_gradients=True)
        return plan


def _two_layer(rng: np.random.Generator, with_gradients: bool) -> tuple[Plan, Arrays]:
    plan = Plan()
    shapes = {"W1": (5, 8), "b1": (8,), "W2": (8, 4), "b2": (4,)}
    params = {key: rng.normal(size=shape) for key, shape in shapes.items()}
    X, y = rng.normal(size=(6, 5)), rng.integers(4, size=6)
    sizes = {"input_dim": 5, "hidden_dim": 8, "num_classes": 4}
    for reg in (0.0, 0.6):
        net = plan.script.call(_FC + "TwoLayerNet", **sizes, reg=reg)
        plan.script.update(net.attribute("params"), params)
        scores, loss, grads = dense_net(X, y, params, reg)
        out = plan.script.call((net, "loss"), X, y)
        if with_gradients:
            _check_gradients(plan, out[1], grads, f" with reg = {reg}")
            continue
        plan.check(f"the loss with reg = {reg}", out[0], loss)
        plan.check("the scores", plan.script.call((net, "loss"), X), scores)
    if with_gradients:
        plan.diagnose_net(_FC + "TwoLayerNet", params, X, y, options={**sizes, "reg": 0.6})
    return plan, params


_enter_two_layer()


def _enter_deep(name: str, title: str, normalization: str | None, weight: float = 1.0) -> None:
    @enter("fc_net", name, title, "B", weight)
    def _(rng: np.random.Generator, generation: str) -> Plan:
        plan = Plan()
        X, y = rng.normal(size=(6, 5)), rng.integers(4, size=6)
        for hidden in ([7], [6, 8]) if normalization is None else ([7, 6],):
            params = _deep_params(rng, hidden, normalization is not None)
            options: dict[str, Any] = {
                "input_dim": 5,
                "num_classes": 4,
                "reg": 0.3,
                "dtype": _float64(),
            }
            if normalization is not None:
                options["normalization"] = normalization
            net = plan.script.call(_FC + "FullyConnectedNet", hidden, **options)
            plan.script.update(net.attribute("params"), params)
            out = plan.script.call((net, "loss"), X, y)
            _, loss, grads = dense_net(X, y, params, 0.3, normalization)
            plan.check(f"the loss with {len(hidden)} hidden layers", out[0], loss)
            depth = f" with {len(hidden)} hidden layers" if normalization is None else ""
            _check_gradients(plan, out[1], grads, depth, loose=10)
        # The doctor knows networks of one hidden layer; a bug of deeper ones is mostly theirs too.
        params = _deep_params(rng, [7], normalization is not None)
        options |= {"hidden_dims": [7]}
        plan.diagnose_net(_FC + "FullyConnectedNet", params, X, y, options=options)
        return plan


def _float64() -> dict[str, str]:
    """The type ``numpy.float64``, as an argument: networks of the course default to float32."""
    return target("numpy:float64")


def _deep_params(rng: np.random.Generator, hidden: list[int], norms: bool) -> Arrays:
    sizes, params = [5, *hidden, 4], {}
    for i, (inputs, outputs) in enumerate(pairwise(sizes), 1):
        params[f"W{i}"] = rng.normal(size=(inputs, outputs))
        params[f"b{i}"] = rng.normal(size=outputs)
        if norms and i < len(sizes) - 1:
            params[f"gamma{i}"] = rng.uniform(0.5, 2, outputs)
            params[f"beta{i}"] = rng.normal(size=outputs)
    return params


_enter_deep("plain", "Without normalisation", None, 2)
_enter_deep("with_batchnorm", "With batch normalisation", "batchnorm")
_enter_deep("with_layernorm", "With layer normalisation", "layernorm")


@enter("fc_net", "with_dropout", "With dropout", "B")
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    X, y = rng.normal(size=(6, 5)), rng.integers(4, size=6)
    params = _deep_params(rng, [7], False)
    options: dict[str, Any] = {"input_dim": 5, "num_classes": 4, "dtype": _float64()}
    net = plan.script.call(
        _FC + "FullyConnectedNet", [7], dropout_keep_ratio=0.5, seed=3, **options
    )
    plan.script.update(net.attribute("params"), params)
    scores = plan.script.call((net, "loss"), X)
    plan.check("the scores in test mode", scores, dense_net(X, None, params, 0.0)[0])
    losses = [plan.script.call((net, "loss"), X, y)[0] for _ in range(2)]
    whole = dense_net(X, y, params, 0.0)[1]

    def fault(value: Any, tolerance: Tolerance) -> str:
        if not isinstance(value, list) or not all(isinstance(v, int | float) for v in value):
            return "the loss should be a number"
        if abs(value[0] - value[1]) > 1e-9:
            return "it differs from call to call, although a seed is given"
        return "" if abs(value[0] - whole) > 1e-9 else "it is the loss without dropout"

    plan.check("the loss in training", plan.script.make(losses), fault)
    return plan


@enter("convnet", "three_layer", "Scores, loss and gradients", "B", 2)
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    shapes = {
        "W1": (3, 2, 3, 3),
        "b1": (3,),
        "W2": (3 * 3 * 4, 6),
        "b2": (6,),
        "W3": (6, 5),
        "b3": (5,),
    }
    params = {key: rng.normal(scale=0.3, size=shape) for key, shape in shapes.items()}
    X, y = rng.normal(size=(3, 2, 6, 8)), rng.integers(5, size=3)
    options = {"input_dim": (2, 6, 8), "num_filters": 3, "filter_size": 3, "hidden_dim": 6,
               "num_classes": 5, "reg": 0.4, "dtype": _float64()}  # fmt: skip
    net = plan.script.call("cs231n.classifiers.cnn:ThreeLayerConvNet", **options)
    given = net.attribute("params")
    plan.script.update(given, params)
    scores, loss, grads = convnet(X, y, params, 0.4)
    plan.check("scores", plan.script.call((net, "loss"), X), scores)
    out = plan.script.call((net, "loss"), X, y)
    plan.check("loss", out[0], loss)
    _check_gradients(plan, out[1], grads)
    return plan


@enter("convnet", "init_b", "Initial parameters", "B", 0.5)
def _(rng: np.random.Generator, generation: str) -> Plan:
    plan = Plan()
    options = {
        "input_dim": (3, 8, 6),
        "num_filters": 4,
        "filter_size": 3,
        "hidden_dim": 9,
        "num_classes": 7,
    }
    net = plan.script.call("cs231n.classifiers.cnn:ThreeLayerConvNet", **options)
    shapes: dict[str, tuple[int, ...]] = {
        "W1": (4, 3, 3, 3),
        "b1": (4,),
        "W2": (48, 9),
        "b2": (9,),
        "W3": (9, 7),
        "b3": (7,),
    }
    _check_shapes(plan, net.attribute("params"), shapes)
    return plan
