"""The sanity checks pass sound networks and fail broken ones, each for its own reason."""

import numpy as np
import pytest

from chainrule import layers
from chainrule.training import load_config, sanity_checks

SMALL = ["data.num_train=300", "data.num_test=10"]


def checks(*overrides, source=None):
    return {check.name: check for check in sanity_checks(load_config(source, [*SMALL, *overrides]))}


def failed(found):
    return {name for name, check in found.items() if not check.passed}


NETWORKS = [
    ["model.name=softmax"],
    ["model.name=svm"],
    ["hidden=20", "dropout=0.3"],
    ["model.name=mlp", "hidden=[20,15]", "norm=batch"],
    ["model.name=mlp", "hidden=[20]", "norm=layer", "activation=gelu", "label_smoothing=0.1"],
    ["model.name=convnet", "filters=4", "kernel_size=3"],
    ["model.name=vgg_small", "channels=[[6],[8]]"],
    ["hidden=20", "implementation=reference", "schedule.name=cosine", "warmup_epochs=3"],
    ["hidden=20", "preprocess=pca_whiten", "n_components=30", "optimizer.name=sgd", "lr=100"],
]


@pytest.mark.parametrize("overrides", NETWORKS, ids=" ".join)
def test_sound_networks_pass(overrides):
    found = checks(*overrides)
    assert failed(found) == set()
    assert "50 images are learned by heart" in found


@pytest.mark.parametrize("seed", [0, 8, 9])
def test_parameters_without_a_gradient_pass(seed):
    """A bias in front of a batch normalisation: rounding is neither an error nor a kink."""
    network = {
        "name": "mine",
        "layers": [
            {"type": "conv2d", "out_channels": 1, "kernel_size": 3},
            {"type": "batch_norm"},
            {"type": "tanh"},
            {"type": "conv2d", "out_channels": 2, "kernel_size": 3},
            {"type": "batch_norm"},
            {"type": "relu"},
            {"type": "flatten"},
            {"type": "linear", "out_features": "num_classes"},
        ],
    }
    found = checks(f"seed={seed}", source={"model": network})
    assert "gradient of conv1.bias" in found
    assert not [name for name in failed(found) if "gradient" in name]


def test_one_row_for_each_parameter():
    found = checks("hidden=20")
    gradients = {name for name, check in found.items() if check.is_gradient}
    layers = ("linear1", "linear2")
    assert gradients == {f"gradient of {n}.{k}" for n in layers for k in ("weight", "bias")}
    assert found["initial loss is that of guessing"].expected == "log C = 2.3026"
    assert checks("model.name=svm")["initial loss is that of guessing"].expected == "C - 1 = 9.0000"


def spoil(monkeypatch, name, change):
    """Put a wrong backward function in the place of the right one of a pair."""
    right = layers.pair

    def wrong(asked, implementation="fast"):
        forward, backward = right(asked, implementation)
        if asked != name:
            return forward, backward
        return forward, lambda *args, **options: change(backward(*args, **options))

    monkeypatch.setattr(layers, "pair", wrong)


def with_dweight(change):
    return lambda grads: (grads[0], change(grads[1]), *grads[2:])


MISTAKES = {
    "one per cent too large": ("linear", with_dweight(lambda g: 1.01 * g), "weight"),
    "opposite sign": ("linear", with_dweight(lambda g: -g), "weight"),
    "forgotten": ("linear", with_dweight(np.zeros_like), "weight"),
    "not a number": ("linear", with_dweight(lambda g: g * np.nan), "weight"),
    "infinite": ("linear", with_dweight(lambda g: g / 0.0), "weight"),
    "one wrong element": (
        "linear",
        with_dweight(lambda g: np.where(np.arange(g.size).reshape(g.shape) == 7, 9.0, g)),
        "weight",
    ),
    "bias counted twice": ("linear", lambda g: (*g[:2], 2 * g[2]), "bias"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_gradient_is_found(monkeypatch, mistake):
    name, change, parameter = MISTAKES[mistake]
    spoil(monkeypatch, name, change)
    with np.errstate(all="ignore"):
        found = failed(checks("hidden=20", "fuse=false"))
    wrong = {f"gradient of linear{n}.{parameter}" for n in (1, 2)}
    assert wrong <= found
    assert found - wrong <= {"50 images are learned by heart"}


def test_a_wrong_gradient_in_between_spoils_what_comes_before(monkeypatch):
    spoil(monkeypatch, "relu", lambda dx: 0.9 * dx)
    found = failed(checks("hidden=20", "fuse=false"))
    assert {name for name in found if "gradient" in name} == {
        "gradient of linear1.weight",
        "gradient of linear1.bias",
    }


@pytest.mark.parametrize("scale", ["3.0", "1e30"])
def test_a_bad_initial_scale_is_found(scale):
    found = checks("model.name=mlp", "hidden=[50,50,50]", f"init={scale}")
    assert "initial loss is that of guessing" in failed(found)
    assert not [name for name in failed(found) if "gradient" in name]


def test_a_network_that_cannot_learn_is_found():
    found = checks("hidden=1")
    assert failed(found) == {"50 images are learned by heart"}
    assert found["50 images are learned by heart"].measured.endswith("% after 1000 steps")


def test_a_penalty_that_is_left_out_is_found(monkeypatch):
    from chainrule.models import Sequential

    right = Sequential.loss_and_grads
    monkeypatch.setattr(
        Sequential,
        "loss_and_grads",
        lambda self, x, y, *, l2=0.0, **options: right(self, x, y, **options),
    )
    assert failed(checks("hidden=20")) == {
        "regularisation raises the loss",
        "gradient of linear1.weight",
        "gradient of linear2.weight",
    }


def test_repeatable():
    first, second = (list(sanity_checks(load_config(None, [*SMALL, "hidden=20"]))) for _ in "ab")
    assert first == second
