"""Numbers printed in the CS231n assignments (2015 to 2026), from the course kit's functions.

Those of the layers are exact to the digits printed; those that depend on a seed need the numbers
to be drawn from NumPy's global generator in the course's order.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from chainrule.course.arrays import global_random
from chainrule.course.cs231n import fast_layers, layer_utils, layers, optim
from chainrule.course.cs231n.classifier_trainer import ClassifierTrainer
from chainrule.course.cs231n.classifiers import convnet, linear_svm, neural_net, softmax
from chainrule.course.cs231n.classifiers.cnn import ThreeLayerConvNet
from chainrule.course.cs231n.classifiers.fc_net import FullyConnectedNet, TwoLayerNet
from chainrule.course.cs231n.gradient_check import (
    eval_numerical_gradient,
    eval_numerical_gradient_array,
    rel_error,
)

TOY_LABELS = np.array([0, 1, 2, 2, 1])


def spaced(low: float, high: float, *shape: int) -> np.ndarray:
    return np.linspace(low, high, int(np.prod(shape))).reshape(shape)


@pytest.fixture(autouse=True)
def _own_random_state() -> Iterator[None]:
    """Leave NumPy's global generator as it was."""
    state = global_random().get_state()
    yield
    global_random().set_state(state)


def seed(value: int) -> np.random.RandomState:
    global_random().seed(value)
    return global_random()


def close(found: np.ndarray, expected: object, digits: int = 8) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.51 * 10.0**-digits)


# --- generation A ---------------------------------------------------------------------------


def toy_model() -> dict[str, np.ndarray]:
    return {
        "W1": spaced(-0.2, 0.6, 4, 10),
        "b1": spaced(-0.3, 0.7, 10),
        "W2": spaced(-0.4, 0.1, 10, 3),
        "b2": spaced(-0.5, 0.9, 3),
    }


TOY = spaced(-0.2, 0.5, 5, 4)


def test_scores_of_the_toy_net() -> None:
    scores = neural_net.two_layer_net(TOY, toy_model())
    assert scores.shape == (5, 3)
    close(scores[0], [-0.5328368, 0.20031504, 0.93346689])
    close(scores[1], [-0.59412164, 0.15498488, 0.9040914])
    close(scores[4], [-0.89110401, -0.08754544, 0.71601312])


def test_loss_of_the_toy_net() -> None:
    loss, _ = neural_net.two_layer_net(TOY, toy_model(), TOY_LABELS, 0.1)
    assert loss == pytest.approx(1.38191946092, abs=5e-12)


def test_gradients_of_the_toy_net() -> None:
    model = toy_model()
    _, grads = neural_net.two_layer_net(TOY, model, TOY_LABELS, 0.1)
    assert grads.keys() == model.keys()
    for name, weight in model.items():
        numeric = eval_numerical_gradient(
            lambda _: neural_net.two_layer_net(TOY, model, TOY_LABELS, 0.1)[0],
            weight,
            verbose=False,
        )
        assert rel_error(numeric, grads[name]) < 1e-7


@pytest.mark.parametrize(
    ("update", "momentum", "final"),
    [("sgd", 0.0, 0.940686), ("momentum", 0.9, 0.494394), ("rmsprop", 0.0, 0.439368)],
)
def test_training_the_toy_net(update: str, momentum: float, final: float) -> None:
    _, losses, _, _ = ClassifierTrainer().train(
        TOY,
        TOY_LABELS,
        TOY,
        TOY_LABELS,
        toy_model(),
        neural_net.two_layer_net,
        reg=0.001,
        learning_rate=1e-1,
        momentum=momentum,
        learning_rate_decay=1,
        update=update,
        sample_batches=False,
        num_epochs=100,
    )
    assert len(losses) == 100
    assert losses[-1] == pytest.approx(final, abs=5.1e-7)


def test_convnet_sanity_loss() -> None:
    random = seed(0)
    model = convnet.init_two_layer_convnet()
    X, y = random.standard_normal((100, 3, 32, 32)), random.randint(10, size=100)
    loss, _ = convnet.two_layer_convnet(X, model, y, reg=0)
    assert loss == pytest.approx(np.log(10), abs=5e-3)
    penalised, _ = convnet.two_layer_convnet(X, model, y, reg=1)
    expected = 0.5e-6 * (model["W1"].size + model["W2"].size)  # weights of deviation 1e-3
    assert penalised - loss == pytest.approx(expected, rel=0.02)


def test_convnet_gradients() -> None:
    random = seed(1)
    X, y = random.standard_normal((2, 3, 16, 16)), random.randint(10, size=2)
    model = convnet.init_two_layer_convnet(
        num_filters=3, filter_size=3, input_shape=(3, 16, 16), weight_scale=1e-2
    )
    _, grads = convnet.two_layer_convnet(X, model, y, reg=0.3)
    for name, weight in model.items():
        numeric = eval_numerical_gradient(
            lambda _: convnet.two_layer_convnet(X, model, y, reg=0.3)[0],
            weight,
            verbose=False,
            h=1e-6,
        )
        assert np.abs(numeric - grads[name]).max() < 1e-8


# --- layers of both generations -------------------------------------------------------------


def test_affine_forward() -> None:
    x, w = spaced(-0.1, 0.5, 2, 4, 5, 6), spaced(-0.2, 0.3, 120, 3)
    out, _ = layers.affine_forward(x, w, np.linspace(-0.3, 0.1, 3))
    close(out, [[1.49834967, 1.70660132, 1.91485297], [3.25553199, 3.5141327, 3.77273342]])


def test_relu_forward() -> None:
    out, _ = layers.relu_forward(spaced(-0.5, 0.5, 3, 4))
    positive = [0.04545455, 0.13636364, 0.22727273, 0.31818182, 0.40909091, 0.5]
    close(out.ravel(), [0.0] * 6 + positive)


@pytest.mark.parametrize(
    "forward",
    [
        layers.conv_forward_naive,
        fast_layers.conv_forward_fast,
        fast_layers.conv_forward_im2col,
        fast_layers.conv_forward_strides,
    ],
)
def test_convolution_forward(forward) -> None:
    x, w = spaced(-0.1, 0.5, 2, 3, 4, 4), spaced(-0.2, 0.3, 3, 3, 4, 4)
    out, _ = forward(x, w, np.linspace(-0.1, 0.2, 3), {"stride": 2, "pad": 1})
    assert out.shape == (2, 3, 2, 2)
    close(out[0, 0], [[-0.08759809, -0.10987781], [-0.18387192, -0.2109216]])
    close(out[1, 2], [[2.36270298, 2.36904306], [2.38090835, 2.38247847]])


@pytest.mark.parametrize(
    "forward",
    [
        layers.max_pool_forward_naive,
        fast_layers.max_pool_forward_fast,
        fast_layers.max_pool_forward_im2col,
        fast_layers.max_pool_forward_reshape,
    ],
)
def test_max_pool_forward(forward) -> None:
    pool = {"pool_height": 2, "pool_width": 2, "stride": 2}
    out, _ = forward(spaced(-0.3, 0.4, 2, 3, 4, 4), pool)
    close(out[0, 0], [[-0.26315789, -0.24842105], [-0.20421053, -0.18947368]])
    close(out[1, 2], [[0.32631579, 0.34105263], [0.38526316, 0.4]])


def test_losses_of_scores_near_zero() -> None:
    random = seed(231)
    x, y = 0.001 * random.standard_normal((50, 10)), random.randint(10, size=50)
    svm, dsvm = layers.svm_loss(x, y)
    cross_entropy, dcross = layers.softmax_loss(x, y)
    assert svm == pytest.approx(8.999602749096233, abs=1e-12)
    assert cross_entropy == pytest.approx(2.302545844500738, abs=1e-12)
    for loss, gradient in ((layers.svm_loss, dsvm), (layers.softmax_loss, dcross)):
        numeric = eval_numerical_gradient(lambda v, f=loss: f(v, y)[0], x, verbose=False)
        assert rel_error(numeric, gradient) < 1e-7


def test_linear_losses_near_zero() -> None:
    """A random W gives a softmax loss near -log(0.1), whichever way the data lie."""
    random = seed(0)
    W, X, y = (
        random.standard_normal((10, 50)) * 1e-4,
        random.standard_normal((50, 200)),
        random.randint(10, size=200),
    )
    for function, expected in (
        (softmax.softmax_loss_vectorized, np.log(10)),
        (softmax.softmax_loss_naive, np.log(10)),
        (linear_svm.svm_loss_vectorized, 9),
        (linear_svm.svm_loss_naive, 9),
    ):
        assert function(W, X, y, 0.0)[0] == pytest.approx(expected, abs=5e-3)
        assert function(W.T, X.T, y, 0.0)[0] == pytest.approx(expected, abs=5e-3)


# --- generation B ---------------------------------------------------------------------------


def toy_net() -> tuple[neural_net.TwoLayerNet, np.ndarray]:
    """The toy network of two_layer_net.ipynb (2016 to 2019)."""
    seed(0)
    net = neural_net.TwoLayerNet(4, 10, 3, std=1e-1)
    return net, 10 * seed(1).standard_normal((5, 4))


def test_scores_of_the_toy_net_of_2016() -> None:
    net, X = toy_net()
    expected = [
        [-0.81233741, -1.27654624, -0.70335995],
        [-0.17129677, -1.18803311, -0.47310444],
        [-0.51590475, -1.01354314, -0.8504215],
        [-0.15419291, -0.48629638, -0.52901952],
        [-0.00618733, -0.12435261, -0.15226949],
    ]
    close(net.loss(X), expected)


def test_loss_of_the_toy_net_of_2017() -> None:
    net, X = toy_net()
    loss, _ = net.loss(X, TOY_LABELS, reg=0.05)
    assert loss == pytest.approx(1.30378789133, abs=5e-12)


def test_training_the_toy_net_of_2016() -> None:
    net, X = toy_net()
    history = net.train(X, TOY_LABELS, X, TOY_LABELS, learning_rate=1e-1, reg=5e-6, num_iters=100)
    assert history["loss_history"][-1] < 0.02


def test_two_layer_net_of_fc_net() -> None:
    """FullyConnectedNets.ipynb: scores and losses of evenly spaced weights."""
    seed(231)
    model = TwoLayerNet(input_dim=5, hidden_dim=50, num_classes=7, weight_scale=1e-3)
    model.params = {
        "W1": spaced(-0.7, 0.3, 5, 50),
        "b1": np.linspace(-0.1, 0.9, 50),
        "W2": spaced(-0.3, 0.4, 50, 7),
        "b2": np.linspace(-0.9, 0.1, 7),
    }
    X = np.linspace(-5.5, 4.5, 15).reshape(5, 3).T
    expected = [
        [11.53165108, 12.2917344, 13.05181771, 13.81190102, 14.57198434, 15.33206765, 16.09215096],
        [12.05769098, 12.74614105, 13.43459113, 14.1230412, 14.81149128, 15.49994135, 16.18839143],
        [12.58373087, 13.20054771, 13.81736455, 14.43418138, 15.05099822, 15.66781506, 16.2846319],
    ]
    close(model.loss(X), expected)
    y = np.array([0, 5, 1])
    assert model.loss(X, y)[0] == pytest.approx(3.4702243556, abs=5e-11)
    model.reg = 1.0
    assert model.loss(X, y)[0] == pytest.approx(26.5948426952, abs=5e-10)


def test_initial_losses_of_a_fully_connected_net() -> None:
    random = seed(231)
    X, y = random.standard_normal((2, 15)), random.randint(10, size=2)
    found = []
    for reg in (0, 3.14):
        net = FullyConnectedNet(
            [20, 30],
            input_dim=15,
            num_classes=10,
            reg=reg,
            weight_scale=5e-2,
            dtype=np.float64,
        )
        found.append(net.loss(X, y)[0])
    assert found == pytest.approx([2.3004790897684924, 7.052114776533016], abs=1e-12)


SMALL = {"input_dim": 15, "num_classes": 10, "weight_scale": 5e-2, "dtype": np.float64}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            [{"normalization": "batchnorm", "reg": reg} for reg in (0, 3.14)],
            [2.2611955101340957, 6.996533220108303],
        ),
        (
            [{"dropout_keep_ratio": keep, "seed": 123} for keep in (1, 0.75, 0.5)],
            [2.3004790897684924, 2.302371489704412, 2.3042759220785896],
        ),
    ],
    ids=["BatchNormalization.ipynb", "Dropout.ipynb"],
)
def test_initial_losses_one_after_the_other(options, expected) -> None:
    random = seed(231)
    X, y = random.standard_normal((2, 15)), random.randint(10, size=2)
    losses = [FullyConnectedNet([20, 30], **SMALL, **each).loss(X, y)[0] for each in options]
    assert losses == pytest.approx(expected, abs=1e-12)


UPDATED = {
    "sgd_momentum": [
        [0.1406, 0.20738947, 0.27417895, 0.34096842, 0.40775789],
        [0.47454737, 0.54133684, 0.60812632, 0.67491579, 0.74170526],
        [0.80849474, 0.87528421, 0.94207368, 1.00886316, 1.07565263],
        [1.14244211, 1.20923158, 1.27602105, 1.34281053, 1.4096],
    ],
    "rmsprop": [
        [-0.39223849, -0.34037513, -0.28849239, -0.23659121, -0.18467247],
        [-0.132737, -0.08078555, -0.02881884, 0.02316247, 0.07515774],
        [0.12716641, 0.17918792, 0.23122175, 0.28326742, 0.33532447],
        [0.38739248, 0.43947102, 0.49155973, 0.54365823, 0.59576619],
    ],
    "adam": [
        [-0.40094747, -0.34836187, -0.29577703, -0.24319299, -0.19060977],
        [-0.1380274, -0.08544591, -0.03286534, 0.01971428, 0.0722929],
        [0.1248705, 0.17744702, 0.23002243, 0.28259667, 0.33516969],
        [0.38774145, 0.44031188, 0.49288093, 0.54544852, 0.59801459],
    ],
}


@pytest.mark.parametrize(
    ("rule", "state"),
    [
        ("sgd_momentum", {"velocity": spaced(0.6, 0.9, 4, 5)}),
        ("rmsprop", {"cache": spaced(0.6, 0.9, 4, 5)}),
        ("adam", {"m": spaced(0.6, 0.9, 4, 5), "v": spaced(0.7, 0.5, 4, 5), "t": 5}),
    ],
)
def test_update_rules(rule: str, state: dict[str, object]) -> None:
    w, dw = spaced(-0.4, 0.6, 4, 5), spaced(-0.6, 0.4, 4, 5)
    learning_rate = 1e-3 if rule == "sgd_momentum" else 1e-2
    next_w, config = getattr(optim, rule)(w, dw, {"learning_rate": learning_rate, **state})
    close(next_w, UPDATED[rule])
    close(w, spaced(-0.4, 0.6, 4, 5))
    if rule == "sgd_momentum":
        close(config["velocity"][0], [0.5406, 0.55475789, 0.56891579, 0.58307368, 0.59723158])
    elif rule == "rmsprop":
        close(config["cache"][0], [0.5976, 0.6126277, 0.6277108, 0.64284931, 0.65804321])
    else:
        close(config["v"][0], [0.69966, 0.68908382, 0.67851319, 0.66794809, 0.65738853])
        close(config["m"][0], [0.48, 0.49947368, 0.51894737, 0.53842105, 0.55789474])
        assert config["t"] == 6


def test_batchnorm_statistics() -> None:
    """BatchNormalization.ipynb: after training means are beta and deviations gamma."""
    random = seed(231)
    X, W1, W2 = (random.standard_normal(s) for s in ((200, 50), (50, 60), (60, 3)))
    a = np.maximum(0, X @ W1) @ W2
    close(a.mean(axis=0), [-2.3814598, -13.18038246, 1.91780462])
    close(a.std(axis=0), [27.18502186, 34.21455511, 37.68611762])
    gamma, beta = np.array([1.0, 2.0, 3.0]), np.array([11.0, 12.0, 13.0])
    out, _ = layers.batchnorm_forward(a, gamma, beta, {"mode": "train"})
    close(out.mean(axis=0), beta)
    close(out.std(axis=0), [0.99999999, 1.99999999, 2.99999999], digits=7)


def test_three_layer_convnet_initial_loss() -> None:
    """ConvolutionalNetworks.ipynb: log(10) without the penalty, about 2.5 with it."""
    random = seed(0)
    model = ThreeLayerConvNet()
    X, y = random.standard_normal((50, 3, 32, 32)), random.randint(10, size=50)
    loss, _ = model.loss(X, y)
    assert loss == pytest.approx(np.log(10), abs=1e-4)
    model.reg = 0.5
    assert model.loss(X, y)[0] == pytest.approx(2.508, abs=2e-3)


@pytest.mark.parametrize("keep", [0.25, 0.4, 0.7])
def test_dropout_masks(keep: float) -> None:
    """Dropout.ipynb: the masks are those of the course's formula for the same seed."""
    x = seed(231).standard_normal((500, 500)) + 10
    out, _ = layers.dropout_forward(x, {"mode": "train", "p": keep, "seed": 3})
    mask = (seed(3).random_sample(x.shape) < keep) / keep
    np.testing.assert_allclose(out, x * mask, rtol=1e-15)
    test, _ = layers.dropout_forward(x, {"mode": "test", "p": keep})
    np.testing.assert_array_equal(test, x)


def test_sandwiches_are_their_parts() -> None:
    random = seed(231)
    x, w = random.standard_normal((2, 3, 16, 16)), random.standard_normal((3, 3, 3, 3))
    b, dout = random.standard_normal(3), random.standard_normal((2, 3, 8, 8))
    conv, pool = {"stride": 1, "pad": 1}, {"pool_height": 2, "pool_width": 2, "stride": 2}
    out, cache = layer_utils.conv_relu_pool_forward(x, w, b, conv, pool)
    convolved, conv_cache = layers.conv_forward_naive(x, w, b, conv)
    positive, relu_cache = layers.relu_forward(convolved)
    expected, pool_cache = layers.max_pool_forward_naive(positive, pool)
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-12)
    dpositive = layers.max_pool_backward_naive(dout, pool_cache)
    parts = layers.conv_backward_naive(layers.relu_backward(dpositive, relu_cache), conv_cache)
    for found, part in zip(layer_utils.conv_relu_pool_backward(dout, cache), parts, strict=True):
        np.testing.assert_allclose(found, part, rtol=0, atol=1e-11)
    numeric = eval_numerical_gradient_array(
        lambda v: layer_utils.conv_relu_pool_forward(x, v, b, conv, pool)[0], w, dout
    )
    assert rel_error(numeric, parts[1]) < 1e-6
