"""Layers that are computed together give what they give one by one."""

import numpy as np
import pytest

from chainrule.models import (
    BatchNorm,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Sigmoid,
    build_model,
)
from chainrule.models.steps import plan_steps

NETWORKS = {
    "two_layer": {"hidden": 9},
    "mlp": {"hidden": [7, 6], "norm": "batch"},
    "convnet": {"filters": 6, "kernel_size": 5, "hidden": 8},
    "vgg_small": {"channels": [[5, 6], [7]]},
}


def names(layers, fuse=True):
    network = Sequential(layers)
    steps = plan_steps(network.layers, "numpy", fuse)
    return [[layer.name for layer in step.layers] for step in steps]


@pytest.mark.parametrize("implementation", ["fast", "numpy", "reference"])
@pytest.mark.parametrize("name", NETWORKS)
def test_fused_equals_one_by_one(name, implementation):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 3, 8, 8)), rng.integers(0, 4, 6)
    results = []
    for fuse in (True, False):
        model = build_model(name, 4, implementation=implementation, fuse=fuse, **NETWORKS[name])
        model.init(np.random.default_rng(1), (3, 8, 8), 0.3, np.float64)
        loss, grads = model.loss_and_grads(x, y, l2=0.1)
        results.append((loss, grads, dict(model.buffers), model.forward(x)))
    together, apart = results
    assert together[0] == pytest.approx(apart[0], rel=1e-12)
    for ours, theirs in zip(together[1:3], apart[1:3], strict=True):
        assert list(ours) == list(theirs)
        for key, value in ours.items():
            np.testing.assert_allclose(value, theirs[key], 1e-10, 1e-12, err_msg=key)
    np.testing.assert_allclose(together[3], apart[3], 1e-10, 1e-12)


def test_the_longest_sandwich_is_taken():
    layers = [Conv2d(4, 3), ReLU(), MaxPool2d(2), Conv2d(4, 3), ReLU(), Conv2d(4, 3), BatchNorm()]
    assert names([*layers, ReLU(), Flatten(), Linear(3), ReLU(), Linear(2)]) == [
        ["conv1", "relu1", "pool1"],
        ["conv2", "relu2"],
        ["conv3", "bn1", "relu3"],
        ["flatten1"],
        ["linear1", "relu4"],
        ["linear2"],
    ]


def test_what_is_no_sandwich_stays_apart():
    assert names([Conv2d(4, 3), Sigmoid(), MaxPool2d(2)]) == [["conv1"], ["sigmoid1"], ["pool1"]]


def test_pooling_with_padding_is_left_out():
    layers = [Conv2d(4, 3), ReLU(), MaxPool2d(3, 1, padding=1)]
    assert names(layers) == [["conv1", "relu1"], ["pool1"]]


def test_fusing_can_be_turned_off():
    layers = [Conv2d(4, 3), ReLU(), MaxPool2d(2)]
    assert names(layers, fuse=False) == [["conv1"], ["relu1"], ["pool1"]]
