"""Every layer against PyTorch: one lambda runs in both libraries, values and gradients agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from chainrule import kernels, layers

torch = pytest.importorskip("torch")

Arrays = dict[str, np.ndarray]


class ChainruleLayers:
    """Chainrule's forwards under their names; remembers what backward needs."""

    def __init__(self, implementation: str) -> None:
        self.implementation = implementation
        self.running: tuple[np.ndarray, np.ndarray] | None = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        forward, self.backward = layers.pair(name, self.implementation)

        def run(*args: Any, **kwargs: Any) -> Any:
            out, self.cache, *rest = forward(*args, **kwargs)
            self.running = rest[0] if rest else None
            return out

        return run


class TorchLayers:
    """The same names in PyTorch: its own functions, and compositions where it has none."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(torch.nn.functional, name)

    def flatten(self, x: Any) -> Any:
        return torch.flatten(x, 1)

    def global_avg_pool2d(self, x: Any) -> Any:
        return torch.nn.functional.adaptive_avg_pool2d(x, 1)[:, :, 0, 0]

    def layer_norm(self, x: Any, weight: Any, bias: Any, **kwargs: Any) -> Any:
        return torch.nn.functional.layer_norm(x, weight.shape, weight, bias, **kwargs)

    def multiclass_hinge(self, scores: Any, y: Any, **kwargs: Any) -> Any:
        hinge = torch.nn.functional.multi_margin_loss(scores, y, **kwargs)
        return hinge * scores.shape[1]  # PyTorch divides the sum over classes by their number

    def linear_relu(self, *args: Any) -> Any:
        return self.linear(*args).relu()

    def conv_relu(self, *args: Any, **kwargs: Any) -> Any:
        return self.conv2d(*args, **kwargs).relu()

    def conv_relu_pool(self, *args: Any, pool_kernel_size: Any, pool_stride: Any) -> Any:
        return self.max_pool2d(self.conv2d(*args).relu(), pool_kernel_size, pool_stride)

    def conv_bn_relu(
        self,
        x: Any,
        weight: Any,
        bias: Any,
        bn_weight: Any,
        bn_bias: Any,
        running_mean: Any,
        running_var: Any,
        training: bool,
        **kwargs: Any,
    ) -> Any:
        hidden = self.conv2d(x, weight, bias, **kwargs)
        return self.batch_norm(
            hidden, running_mean, running_var, bn_weight, bn_bias, training=training
        ).relu()


IMAGES = (4, 6, 9, 8)
CONV = {"x": IMAGES, "weight": (8, 6, 3, 2), "bias": (8,)}
CHANNELS = {"weight": (6,), "bias": (6,)}
STATISTICS = {"running_mean": (6,), "running_var": (6,)}
Y = np.array([0, 4, 2, 2])

# name, shapes of the arguments with a gradient, call; `F` is either library, `a` holds arrays
CASES: list[tuple[str, dict[str, tuple[int, ...]], Callable[[Any, Any], Any]]] = [
    (
        "linear",
        {"x": (5, 7), "weight": (3, 7), "bias": (3,)},
        lambda F, a: F.linear(a["x"], a["weight"], a["bias"]),
    ),
    (
        "linear without bias",
        {"x": (5, 7), "weight": (3, 7)},
        lambda F, a: F.linear(a["x"], a["weight"]),
    ),
    ("flatten", {"x": IMAGES}, lambda F, a: F.flatten(a["x"])),
    ("relu", {"x": IMAGES}, lambda F, a: F.relu(a["x"])),
    ("leaky_relu", {"x": IMAGES}, lambda F, a: F.leaky_relu(a["x"], negative_slope=0.2)),
    ("sigmoid", {"x": IMAGES}, lambda F, a: F.sigmoid(10 * a["x"])),
    ("tanh", {"x": IMAGES}, lambda F, a: F.tanh(10 * a["x"])),
    ("silu", {"x": IMAGES}, lambda F, a: F.silu(a["x"])),
    ("gelu", {"x": IMAGES}, lambda F, a: F.gelu(a["x"])),
    ("gelu tanh", {"x": IMAGES}, lambda F, a: F.gelu(a["x"], approximate="tanh")),
    ("cross_entropy", {"scores": (4, 5)}, lambda F, a: F.cross_entropy(a["scores"], a["y"])),
    (
        "cross_entropy smoothed",
        {"scores": (4, 5)},
        lambda F, a: F.cross_entropy(a["scores"], a["y"], label_smoothing=0.1),
    ),
    (
        "multiclass_hinge",
        {"scores": (4, 5)},
        lambda F, a: F.multiclass_hinge(a["scores"], a["y"], margin=1.5),
    ),
    ("conv2d", CONV, lambda F, a: F.conv2d(a["x"], a["weight"], a["bias"])),
    (
        "conv2d strided",
        CONV,
        lambda F, a: F.conv2d(a["x"], a["weight"], a["bias"], stride=(2, 3), padding=(1, 2)),
    ),
    (
        "conv2d grouped",
        {"x": IMAGES, "weight": (4, 3, 3, 3)},
        lambda F, a: F.conv2d(a["x"], a["weight"], stride=2, padding=1, groups=2),
    ),
    (
        "conv2d depthwise",
        {"x": IMAGES, "weight": (12, 1, 3, 3), "bias": (12,)},
        lambda F, a: F.conv2d(a["x"], a["weight"], a["bias"], padding=1, groups=6),
    ),
    ("max_pool2d", {"x": IMAGES}, lambda F, a: F.max_pool2d(a["x"], 2)),
    (
        "max_pool2d overlapping",
        {"x": IMAGES},
        lambda F, a: F.max_pool2d(a["x"], (3, 2), stride=(2, 1), padding=(1, 1)),
    ),
    ("avg_pool2d", {"x": IMAGES}, lambda F, a: F.avg_pool2d(a["x"], 2)),
    (
        "avg_pool2d overlapping",
        {"x": IMAGES},
        lambda F, a: F.avg_pool2d(a["x"], (3, 2), stride=(2, 1), padding=(1, 1)),
    ),
    ("global_avg_pool2d", {"x": IMAGES}, lambda F, a: F.global_avg_pool2d(a["x"])),
    *[
        (
            f"batch_norm {len(shape)}d {training=}",
            {"x": shape, **CHANNELS},
            lambda F, a, training=training: F.batch_norm(
                a["x"],
                weight=a["weight"],
                bias=a["bias"],
                running_mean=a["running_mean"],
                running_var=a["running_var"],
                training=training,
                momentum=0.3,
                eps=1e-4,
            ),
        )
        for shape in ((8, 6), IMAGES)
        for training in (True, False)
    ],
    (
        "layer_norm",
        {"x": (5, 4, 6), "weight": (4, 6), "bias": (4, 6)},
        lambda F, a: F.layer_norm(a["x"], a["weight"], a["bias"], eps=1e-4),
    ),
    (
        "layer_norm last axis",
        {"x": (5, 4, 6), **CHANNELS},
        lambda F, a: F.layer_norm(a["x"], a["weight"], a["bias"]),
    ),
    (
        "group_norm",
        {"x": IMAGES, **CHANNELS},
        lambda F, a: F.group_norm(
            a["x"], num_groups=3, weight=a["weight"], bias=a["bias"], eps=1e-4
        ),
    ),
    ("dropout in evaluation", {"x": IMAGES}, lambda F, a: F.dropout(a["x"], 0.5, training=False)),
    (
        "linear_relu",
        {"x": (5, 7), "weight": (3, 7), "bias": (3,)},
        lambda F, a: F.linear_relu(a["x"], a["weight"], a["bias"]),
    ),
    (
        "conv_relu",
        CONV,
        lambda F, a: F.conv_relu(a["x"], a["weight"], a["bias"], stride=2, padding=1),
    ),
    (
        "conv_relu_pool",
        CONV,
        lambda F, a: F.conv_relu_pool(
            a["x"], a["weight"], a["bias"], 1, 1, pool_kernel_size=3, pool_stride=2
        ),
    ),
    *[
        (
            f"conv_bn_relu {training=}",
            {
                "x": IMAGES,
                "weight": (6, 6, 3, 3),
                "bias": (6,),
                "bn_weight": (6,),
                "bn_bias": (6,),
            },
            lambda F, a, training=training: F.conv_bn_relu(
                **{key: value for key, value in a.items() if key != "y"},
                training=training,
                padding=1,
            ),
        )
        for training in (True, False)
    ],
]


def draw(shapes: dict[str, tuple[int, ...]], dtype: Any) -> Arrays:
    rng = np.random.default_rng(7)
    arrays = {key: rng.standard_normal(shape).astype(dtype) for key, shape in shapes.items()}
    if "running_var" in arrays:
        arrays["running_var"] **= 2
    return arrays


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "implementation", ["reference", "numpy", *kernels.instruction_sets()], indirect=True
)
@pytest.mark.parametrize(("name", "shapes", "call"), CASES, ids=[case[0] for case in CASES])
def test_values_and_gradients_are_pytorchs(
    name: str,
    shapes: dict[str, tuple[int, ...]],
    call: Callable[[Any, Any], Any],
    implementation: str,
    dtype: Any,
) -> None:
    needs_statistics = "batch_norm" in name or "conv_bn" in name
    constants = draw(STATISTICS, dtype) if needs_statistics else {}
    if "scores" in shapes:
        constants["y"] = Y
    arrays = draw(shapes, dtype)
    ours = ChainruleLayers(implementation)
    out = call(ours, {**arrays, **constants})

    tensors = {key: torch.tensor(value, requires_grad=True) for key, value in arrays.items()}
    tensor_constants = {key: torch.tensor(value) for key, value in constants.items()}
    expected = call(TorchLayers(), {**tensors, **tensor_constants})
    tolerance = (
        {"rtol": 1e-4, "atol": 2e-5} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-12}
    )
    np.testing.assert_allclose(out, expected.detach().numpy(), **tolerance)

    dout = np.asarray(np.random.default_rng(8).standard_normal(np.shape(out)), dtype=dtype)
    expected.backward(torch.tensor(dout))
    grads = (
        ours.backward(ours.cache, float(dout))
        if "y" in constants
        else ours.backward(dout, ours.cache)
    )
    grads = grads if isinstance(grads, tuple) else (grads,)
    factor = 10 if name in ("sigmoid", "tanh") else 1  # their lambdas scale x before the layer
    for tensor, grad in zip(tensors.values(), grads, strict=False):  # no tensor for a None bias
        scale = max(1.0, float(np.abs(grad).max()))
        np.testing.assert_allclose(factor * grad / scale, tensor.grad.numpy() / scale, **tolerance)
    if needs_statistics:
        assert ours.running is not None
        for new, key in zip(ours.running, STATISTICS, strict=True):
            np.testing.assert_allclose(new, tensor_constants[key].numpy(), **tolerance)


def test_every_layer_has_a_parity_case() -> None:
    assert {name.split()[0] for name, _, _ in CASES} == set(layers.PAIRS)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda F, f, i: F.linear(f((2, 3)), f((4, 5))), id="linear shapes"),
        pytest.param(lambda F, f, i: F.conv2d(f((1, 3, 4, 4)), f((2, 2, 3, 3))), id="channels"),
        pytest.param(lambda F, f, i: F.conv2d(f((1, 3, 2, 2)), f((2, 3, 3, 3))), id="small image"),
        pytest.param(lambda F, f, i: F.max_pool2d(f((1, 3, 4, 4)), 2, padding=2), id="padding"),
        pytest.param(lambda F, f, i: F.cross_entropy(f((2, 3)), i([0, 3])), id="label too large"),
        pytest.param(
            lambda F, f, i: F.multiclass_hinge(f((2, 3)), i([0, -1])), id="negative label"
        ),
        pytest.param(
            lambda F, f, i: F.batch_norm(
                f((1, 3)),
                running_mean=f((3,)),
                running_var=f((3,)),
                weight=f((3,)),
                bias=f((3,)),
                training=True,
            ),
            id="one value per channel",
        ),
        pytest.param(
            lambda F, f, i: F.group_norm(f((2, 3)), num_groups=2, weight=f((3,)), bias=f((3,))),
            id="groups",
        ),
        pytest.param(lambda F, f, i: F.dropout(f((2, 3)), 1.5, training=False), id="p"),
    ],
)
def test_what_pytorch_refuses_is_refused(call: Callable[[Any, Any, Any], Any]) -> None:
    with pytest.raises((ValueError, RuntimeError, IndexError), match=r"."):
        call(TorchLayers(), torch.ones, torch.tensor)
    with pytest.raises(ValueError, match=r"_forward: \w+ must .*; got"):
        call(ChainruleLayers("fast"), np.ones, np.array)
