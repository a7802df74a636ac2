"""Networks in PyTorch: names, weights both ways, the same scores, losses and refusals."""

import numpy as np
import pytest

from chainrule import twin as room
from chainrule.errors import ConfigError, InputError, RunError, ShapeError
from chainrule.models import (
    BUILTIN,
    MODULES,
    BatchNorm,
    Conv2d,
    Flatten,
    Linear,
    Sequential,
    build_model,
    layers_from_tables,
)
from chainrule.records import load_tensors, save_tensors
from chainrule.training import load_config, train_run

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

TwinNetwork, twin_of_run = room.TwinNetwork, room.twin_of_run

IMAGE, CLASSES = (2, 8, 8), 4
EVERY_LAYER = [
    {"type": "whiten2d", "components": 3, "kernel_size": [3, 2], "padding": [1, 0]},
    {"type": "conv2d", "out_channels": 4, "kernel_size": [3, 5], "stride": 2, "padding": "same"},
    {"type": "batch_norm", "momentum": 0.3, "eps": 1e-3},
    {"type": "relu"},
    {"type": "conv2d", "out_channels": 6, "kernel_size": 2, "groups": 2, "bias": False},
    {"type": "group_norm", "num_groups": 3},
    {"type": "leaky_relu", "negative_slope": 0.2},
    {"type": "max_pool2d", "kernel_size": 3, "stride": 1, "padding": 1},
    {"type": "avg_pool2d", "kernel_size": 2, "stride": 1, "padding": 1},
    {"type": "layer_norm", "eps": 1e-4},
    {"type": "gelu", "approximate": "tanh"},
    {"type": "global_avg_pool2d"},
    {"type": "flatten"},
    {"type": "linear", "out_features": 5, "name": "head"},
    {"type": "batch_norm"},
    {"type": "silu"},
    {"type": "dropout", "p": 0.5},
    {"type": "tanh"},
    {"type": "sigmoid"},
    {"type": "linear", "out_features": "num_classes", "bias": False},
]
SMALL = {"speednet": {"channels": (4, 5)}}
CASES = [*BUILTIN, "mlp norm", "every layer"]


def network(case, dtype="float64", seed=0):
    if case == "every layer":
        model = Sequential(layers_from_tables(EVERY_LAYER, CLASSES))
    elif case == "mlp norm":
        model = build_model("mlp", CLASSES, hidden=[5], norm="batch")
    else:
        model = build_model(case, CLASSES, **SMALL.get(case, {}))
    rng = np.random.default_rng(seed)
    model.init(rng, IMAGE, "he", dtype)
    for value in model.params.values():
        value += rng.normal(scale=0.1, size=value.shape).astype(dtype)
    for key, value in model.buffers.items():
        model.buffers[key] = value + rng.random(value.shape).astype(dtype)
    return model


def batch(dtype="float64", size=6):
    rng = np.random.default_rng(7)
    return rng.normal(size=(size, *IMAGE)).astype(dtype), rng.integers(0, CLASSES, size)


def same(first, second):
    assert list(first) == list(second)
    return all(first[k].tobytes() == second[k].tobytes() for k in first)


def test_the_network_of_every_layer_has_every_layer():
    assert {table["type"] for table in EVERY_LAYER} == set(MODULES)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_names_weights_and_scores(case, dtype):
    model = network(case, dtype)
    twin = TwinNetwork(model)
    assert [name for name, _ in twin.named_parameters()] == list(model.params)
    assert [name for name, _ in twin.named_buffers()] == list(model.buffers)
    assert set(twin.state_dict()) == set(model.params) | set(model.buffers)
    params, buffers = twin.to_numpy()
    assert same(params, model.params)
    assert same(buffers, model.buffers)
    x, y = batch(dtype)
    twin.eval()
    scores = twin(torch.tensor(x))
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    np.testing.assert_allclose(scores.detach().numpy(), model.forward(x), 0, tolerance)
    loss = twin.loss(scores, torch.tensor(y)).item()
    assert loss == pytest.approx(model.loss(model.forward(x), y)[0], abs=tolerance)
    assert twin.penalty(0.5).item() == pytest.approx(model._penalty(0.5), rel=1e-6)


def test_weights_are_copies_in_both_directions():
    model = network("vgg_small")
    twin = TwinNetwork(model)
    before = {k: v.copy() for k, v in model.params.items()}
    with torch.no_grad():
        for value in twin.state_dict().values():
            value += 1
    assert same(before, model.params)
    twin.copy_to(model)
    for key, value in before.items():
        np.testing.assert_array_equal(model.params[key], value + 1)
    assert same(twin.to_numpy()[1], model.buffers)
    model.params["conv1.weight"] += 5
    assert not same(twin.to_numpy()[0], model.params)


def test_same_seed_same_network_and_no_draw_of_pytorch():
    before = torch.get_rng_state()
    first, second = (TwinNetwork(network("convnet", seed=s)).to_numpy()[0] for s in (3, 3))
    assert same(first, second)
    assert not same(first, TwinNetwork(network("convnet", seed=4)).to_numpy()[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_safetensors_both_ways(tmp_path):
    model = network("vgg_small", "float32")
    save_tensors(tmp_path / "numpy.safetensors", model.params | model.buffers)
    twin = TwinNetwork(network("vgg_small", "float32", seed=1))
    twin.load(tmp_path / "numpy.safetensors")
    assert same(twin.to_numpy()[0], model.params)
    twin.save(tmp_path / "twin.safetensors")
    tensors, _ = load_tensors(tmp_path / "twin.safetensors")
    assert same({k: tensors[k] for k in model.params}, model.params)
    assert same({k: tensors[k] for k in model.buffers}, model.buffers)


@pytest.mark.parametrize("options", [{"loss": "multiclass_hinge"}, {}])
def test_losses(options):
    model = build_model("softmax", CLASSES, **options)
    model.init(np.random.default_rng(0), IMAGE, dtype=np.float64)
    twin = TwinNetwork(model)
    scores, y = np.random.default_rng(1).normal(size=(6, CLASSES)), batch()[1]
    theirs = twin.loss(torch.tensor(scores), torch.tensor(y)).item()
    assert theirs == pytest.approx(model.loss(scores, y)[0], abs=1e-12)


def test_label_smoothing():
    from chainrule.models import make_loss

    model = network("softmax")
    model.loss = make_loss("cross_entropy", label_smoothing=0.3)
    scores, y = np.random.default_rng(1).normal(size=(6, CLASSES)), batch()[1]
    theirs = TwinNetwork(model).loss(torch.tensor(scores), torch.tensor(y)).item()
    assert theirs == pytest.approx(model.loss(scores, y)[0], abs=1e-12)


def test_best_weights_of_a_run(tmp_path):
    trained = train_run(load_config(overrides=["fast_dev_run=true"]), tmp_path)
    twin = twin_of_run(trained.run.path)
    assert same(twin.to_numpy()[0], trained.model.params)
    assert not twin.training


class TestRefusals:
    def test_a_network_without_parameters(self):
        with pytest.raises(InputError, match=r"TwinNetwork: model must be initialised"):
            TwinNetwork(build_model("softmax", 3))

    @pytest.mark.parametrize("name", ["a.b", "forward", "training", "append"])
    def test_a_name_that_pytorch_has_taken(self, name):
        model = Sequential([Flatten(), Linear(3, name=name)])
        model.init(np.random.default_rng(0), IMAGE)
        with pytest.raises(ConfigError, match=rf"layer name must have no dot .* got '{name}'"):
            TwinNetwork(model)

    def test_other_weights(self):
        twin = TwinNetwork(network("softmax"))
        params, _ = twin.to_numpy()
        weight, bias = params["linear1.weight"], params["linear1.bias"]
        with pytest.raises(RunError, match=r"got no 'linear1.bias'"):
            twin.load_numpy({"linear1.weight": weight}, {})
        with pytest.raises(RunError, match=r"got 'linear2.bias'\. Did you mean 'linear1.bias'\?"):
            twin.load_numpy(params | {"linear2.bias": bias}, {})
        with pytest.raises(ShapeError, match=r"linear1.bias must have shape \(4,\); got \(1,\)"):
            twin.load_numpy({"linear1.weight": weight + 1, "linear1.bias": bias[:1]}, {})
        assert same(twin.to_numpy()[0], params)

    def test_another_network(self):
        with pytest.raises(RunError, match="weights belong to another network"):
            TwinNetwork(network("softmax")).copy_to(network("convnet"))

    def test_a_pickled_file(self, tmp_path):
        torch.save({"w": torch.ones(1)}, tmp_path / "weights.pt")
        with pytest.raises(RunError, match="not a safetensors file"):
            TwinNetwork(network("softmax")).load(tmp_path / "weights.pt")

    def test_a_loss_of_ones_own(self):
        layers = [Conv2d(2, 3), BatchNorm(), Flatten(), Linear(CLASSES)]
        model = Sequential(layers, loss=lambda scores, y: (0.0, scores))
        model.init(np.random.default_rng(0), IMAGE)
        twin = TwinNetwork(model)
        with pytest.raises(ConfigError, match=r"loss must be known by name; got 'custom'"):
            twin.loss(torch.zeros(1, CLASSES), torch.zeros(1, dtype=torch.long))
