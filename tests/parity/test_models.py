"""Whole networks equal the same networks in PyTorch: scores, loss, gradients, statistics.

The PyTorch networks are written out by hand, under the names that chainrule gives its layers:
``load_state_dict`` accepts our parameters only if every name and shape is PyTorch's.
"""

from collections import OrderedDict

import numpy as np
import pytest

from chainrule.models import build_model, make_loss

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
nn = torch.nn

CLASSES = 5
IMAGE = (3, 8, 9)
PIXELS = 3 * 8 * 9
L2 = 0.3


def network(**layers):
    return nn.Sequential(OrderedDict(layers))


def small_mlp(activation):
    """PyTorch's form of mlp(hidden=[7], activation=...)."""
    name, layer = activation
    layers = {"linear1": nn.Linear(PIXELS, 7), f"{name}1": layer, "linear2": nn.Linear(7, CLASSES)}
    return network(flatten1=nn.Flatten(), **layers)


def vgg(norm):
    """PyTorch's form of vgg_small(channels=[[4, 6], [5]])."""
    layers, inputs = {}, 3
    for number, outputs in enumerate([4, 6, 5], start=1):
        layers[f"conv{number}"] = nn.Conv2d(inputs, outputs, 3, padding=1, bias=not norm)
        if norm:
            layers[f"bn{number}"] = nn.BatchNorm2d(outputs)
        layers[f"relu{number}"] = nn.ReLU()
        if number != 1:
            layers[f"pool{number - 1}"] = nn.MaxPool2d(2)
        inputs = outputs
    return network(**layers, flatten1=nn.Flatten(), linear1=nn.Linear(5 * 2 * 2, CLASSES))


CHANNELS = [[4, 6], [5]]
BUILTIN = {
    "softmax": ({}, lambda: network(flatten1=nn.Flatten(), linear1=nn.Linear(PIXELS, CLASSES))),
    "svm": ({}, lambda: network(flatten1=nn.Flatten(), linear1=nn.Linear(PIXELS, CLASSES))),
    "two_layer": ({"hidden": 7}, lambda: small_mlp(("relu", nn.ReLU()))),
    "mlp relu": ({"hidden": [7]}, lambda: small_mlp(("relu", nn.ReLU()))),
    "mlp leaky_relu": (
        {"hidden": [7], "activation": "leaky_relu"},
        lambda: small_mlp(("leaky_relu", nn.LeakyReLU())),
    ),
    "mlp sigmoid": (
        {"hidden": [7], "activation": "sigmoid"},
        lambda: small_mlp(("sigmoid", nn.Sigmoid())),
    ),
    "mlp tanh": ({"hidden": [7], "activation": "tanh"}, lambda: small_mlp(("tanh", nn.Tanh()))),
    "mlp gelu": ({"hidden": [7], "activation": "gelu"}, lambda: small_mlp(("gelu", nn.GELU()))),
    "mlp silu": ({"hidden": [7], "activation": "silu"}, lambda: small_mlp(("silu", nn.SiLU()))),
    "mlp without hidden layers": (
        {"hidden": []},
        lambda: network(flatten1=nn.Flatten(), linear1=nn.Linear(PIXELS, CLASSES)),
    ),
    "mlp batch": (
        {"hidden": [7, 6], "norm": "batch"},
        lambda: network(
            flatten1=nn.Flatten(),
            linear1=nn.Linear(PIXELS, 7),
            bn1=nn.BatchNorm1d(7),
            relu1=nn.ReLU(),
            linear2=nn.Linear(7, 6),
            bn2=nn.BatchNorm1d(6),
            relu2=nn.ReLU(),
            linear3=nn.Linear(6, CLASSES),
        ),
    ),
    "mlp layer": (
        {"hidden": [7], "norm": "layer"},
        lambda: network(
            flatten1=nn.Flatten(),
            linear1=nn.Linear(PIXELS, 7),
            ln1=nn.LayerNorm(7),
            relu1=nn.ReLU(),
            linear2=nn.Linear(7, CLASSES),
        ),
    ),
    "convnet": (
        {"filters": 4, "kernel_size": 5},
        lambda: network(
            conv1=nn.Conv2d(3, 4, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            flatten1=nn.Flatten(),
            linear1=nn.Linear(4 * 4 * 4, CLASSES),
        ),
    ),
    "convnet hidden": (
        {"filters": 4, "kernel_size": 3, "hidden": 6},
        lambda: network(
            conv1=nn.Conv2d(3, 4, 3, padding="same"),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            flatten1=nn.Flatten(),
            linear1=nn.Linear(4 * 4 * 4, 6),
            relu2=nn.ReLU(),
            linear2=nn.Linear(6, CLASSES),
        ),
    ),
    "vgg_small": ({"channels": CHANNELS}, lambda: vgg(norm=True)),
    "vgg_small none": ({"channels": CHANNELS, "norm": "none"}, lambda: vgg(norm=False)),
}

TOML = {
    "strides, padding and groups": (
        """
        loss = "multiclass_hinge"
        [[layers]]
        type = "conv2d"
        name = "stem"
        out_channels = 6
        kernel_size = [3, 5]
        stride = [1, 2]
        padding = [1, 2]
        [[layers]]
        type = "group_norm"
        num_groups = 3
        eps = 1e-3
        [[layers]]
        type = "leaky_relu"
        negative_slope = 0.2
        [[layers]]
        type = "conv2d"
        out_channels = 4
        kernel_size = 3
        groups = 2
        bias = false
        [[layers]]
        type = "gelu"
        approximate = "tanh"
        [[layers]]
        type = "avg_pool2d"
        kernel_size = 3
        stride = 1
        padding = 1
        [[layers]]
        type = "global_avg_pool2d"
        [[layers]]
        type = "linear"
        out_features = "num_classes"
        bias = false
        """,
        lambda: network(
            stem=nn.Conv2d(3, 6, (3, 5), (1, 2), (1, 2)),
            gn1=nn.GroupNorm(3, 6, eps=1e-3),
            leaky_relu1=nn.LeakyReLU(0.2),
            conv2=nn.Conv2d(6, 4, 3, groups=2, bias=False),  # the second, though the first is named
            gelu1=nn.GELU("tanh"),
            pool1=nn.AvgPool2d(3, 1, 1),
            pool2=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            linear1=nn.Linear(4, CLASSES, bias=False),
        ),
    ),
    "norms of images": (
        """
        [[layers]]
        type = "batch_norm"
        momentum = 0.3
        eps = 1e-4
        [[layers]]
        type = "silu"
        [[layers]]
        type = "max_pool2d"
        kernel_size = 3
        stride = 2
        padding = 1
        [[layers]]
        type = "layer_norm"
        [[layers]]
        type = "tanh"
        [[layers]]
        type = "flatten"
        [[layers]]
        type = "dropout"
        p = 0.0
        [[layers]]
        type = "linear"
        out_features = 4
        [[layers]]
        type = "sigmoid"
        [[layers]]
        type = "linear"
        out_features = "num_classes"
        """,
        lambda: network(
            bn1=nn.BatchNorm2d(3, momentum=0.3, eps=1e-4),
            silu1=nn.SiLU(),
            pool1=nn.MaxPool2d(3, 2, 1),
            ln1=nn.LayerNorm([3, 4, 5]),
            tanh1=nn.Tanh(),
            flatten1=nn.Flatten(),
            dropout1=nn.Dropout(0.0),
            linear1=nn.Linear(60, 4),
            sigmoid1=nn.Sigmoid(),
            linear2=nn.Linear(4, CLASSES),
        ),
    ),
}


def ours(case, folder):
    if case in TOML:
        path = folder / "network.toml"
        path.write_text(TOML[case][0])
        return build_model(path, CLASSES)
    return build_model(case.split()[0], CLASSES, **BUILTIN[case][0])


def pair(case, dtype, folder):
    """The same network twice, with the same random parameters, none of them at rest."""
    rng = np.random.default_rng(1)
    model = ours(case, folder)
    model.init(rng, IMAGE, "glorot", dtype)
    for value in model.params.values():
        value += rng.normal(scale=0.2, size=value.shape)
    twin = (TOML | BUILTIN)[case][1]().to(getattr(torch, dtype))
    state = {key: torch.tensor(value) for key, value in (model.params | model.buffers).items()}
    counters = {key: value for key, value in twin.state_dict().items() if "num_batches" in key}
    twin.load_state_dict(state | counters, strict=True)
    assert list(model.params) == [name for name, _ in twin.named_parameters()]
    assert set(model.buffers) == {name for name, _ in twin.named_buffers()} - set(counters)
    return model, twin


def torch_loss(model, scores, y, **smoothing):
    if model.loss_name == "multiclass_hinge":  # ours is a sum over the classes, theirs a mean
        return CLASSES * nn.functional.multi_margin_loss(scores, y)
    return nn.functional.cross_entropy(scores, y, **smoothing)


def penalty(twin):
    """The weights that the L2 penalty is taken of, by PyTorch's kinds of layers."""
    layers = [each for each in twin.modules() if isinstance(each, (nn.Linear, nn.Conv2d))]
    return L2 / 2 * sum((layer.weight**2).sum() for layer in layers)


def batch(dtype, seed, size=6):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(size, *IMAGE)).astype(dtype), rng.integers(0, CLASSES, size)


def assert_close(actual, expected, dtype, what):
    expected = expected.detach().numpy()
    assert actual.dtype == expected.dtype == dtype, what
    tolerance = {"float64": 1e-10, "float32": 1e-4}[dtype]
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(actual / scale, expected / scale, 0, tolerance, err_msg=what)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", [*BUILTIN, *TOML])
def test_three_steps_of_training(case, dtype, tmp_path):
    model, twin = pair(case, dtype, tmp_path)
    stepper = torch.optim.SGD(twin.parameters(), lr=0.05)
    for step in range(3):
        x, y = batch(dtype, step)
        loss, grads = model.loss_and_grads(x, y, l2=L2)
        twin.train()
        stepper.zero_grad()
        total = torch_loss(model, twin(torch.tensor(x)), torch.tensor(y)) + penalty(twin)
        total.backward()
        assert_close(np.asarray(loss, dtype), total, dtype, "loss")
        assert list(grads) == list(model.params)
        for name, parameter in twin.named_parameters():
            assert_close(grads[name], parameter.grad, dtype, f"gradient of {name}")
            model.params[name] -= np.asarray(0.05, dtype) * grads[name]
        stepper.step()
        for name, value in twin.named_buffers():
            if "num_batches" not in name:
                assert_close(model.buffers[name], value, dtype, name)
    x, _ = batch(dtype, 99)
    twin.eval()
    assert_close(model.forward(x), twin(torch.tensor(x)), dtype, "scores of the trained network")
    assert_close(model.scores(x, batch_size=4), twin(torch.tensor(x)), dtype, "in batches")


@pytest.mark.parametrize("case", ["mlp batch", "vgg_small", "norms of images"])
def test_forward_in_training_mode_moves_the_statistics(case, tmp_path):
    model, twin = pair(case, "float64", tmp_path)
    x, _ = batch("float64", 0)
    before = {key: value.copy() for key, value in model.buffers.items()}
    assert_close(model.forward(x, training=True), twin.train()(torch.tensor(x)), "float64", "out")
    for name, value in twin.named_buffers():
        if "num_batches" not in name:
            assert_close(model.buffers[name], value, "float64", name)
            assert not np.allclose(model.buffers[name], before[name])


def test_label_smoothing(tmp_path):
    model, twin = pair("two_layer", "float64", tmp_path)
    model.loss = make_loss("cross_entropy", label_smoothing=0.2)
    x, y = batch("float64", 0)
    loss, grads = model.loss_and_grads(x, y)
    total = torch_loss(model, twin(torch.tensor(x)), torch.tensor(y), label_smoothing=0.2)
    total.backward()
    assert_close(np.asarray(loss), total, "float64", "loss")
    for name, parameter in twin.named_parameters():
        assert_close(grads[name], parameter.grad, "float64", name)


@pytest.mark.parametrize("case", [*BUILTIN, *TOML])
def test_summary_counts_what_pytorch_counts(case, tmp_path):
    """Parameters by ``numel``, multiply-adds by PyTorch's own counter."""
    from torch.utils.flop_counter import FlopCounterMode

    model, twin = pair(case, "float64", tmp_path)
    summary = model.summary()
    assert summary.parameters == sum(p.numel() for p in twin.parameters())
    x = torch.tensor(batch("float64", 0, size=2)[0])
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        twin.eval()(x)
    multiply_adds = sum(r.flops for r in summary.rows if r.type in ("linear", "conv2d"))
    assert counter.get_total_flops() == 2 * multiply_adds  # a batch of two
    for row, layer in zip(summary.rows, twin, strict=True):
        assert row.parameters == sum(p.numel() for p in layer.parameters())
        x = layer(x)
        assert row.output_shape == tuple(x.shape[1:]), row.name
