"""The adapters: conventions of the generations, dtypes, shapes, errors, training."""

from __future__ import annotations

import random as stdlib_random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from chainrule import course
from chainrule.course.arrays import global_random
from chainrule.course.cs231n import (
    data_utils,
    features,
    gradient_check,
    im2col,
    im2col_cython,
    layer_utils,
    layers,
    load_cifar10_tvt,
    optim,
    vis_utils,
)
from chainrule.course.cs231n.classifier_trainer import ClassifierTrainer
from chainrule.course.cs231n.classifiers import (
    KNearestNeighbor,
    LinearClassifier,
    LinearSVM,
    Softmax,
    convnet,
    neural_net,
    softmax,
)
from chainrule.course.cs231n.classifiers.cnn import ThreeLayerConvNet
from chainrule.course.cs231n.classifiers.fc_net import FullyConnectedNet, TwoLayerNet
from chainrule.course.cs231n.classifiers.linear_svm import svm_loss_naive, svm_loss_vectorized
from chainrule.course.cs231n.solver import Solver
from chainrule.errors import (
    ConfigError,
    DataMissingError,
    DTypeError,
    InputError,
    RunError,
    ShapeError,
)

LINEAR_LOSSES = [
    softmax.softmax_loss_naive,
    softmax.softmax_loss_vectorized,
    svm_loss_naive,
    svm_loss_vectorized,
]


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    """Leave the global generator and the chosen generation as they were."""
    state = global_random().get_state()
    global_random().seed(0)
    yield
    global_random().set_state(state)
    course.use(None)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def blobs(rng: np.random.Generator, count: int = 120, size: int = 6) -> tuple[np.ndarray, ...]:
    """Three well separated classes."""
    y = np.arange(count) % 3
    return rng.standard_normal((count, size)) + 4 * np.eye(3, size)[y], y


# --- generations ----------------------------------------------------------------------------


@pytest.mark.parametrize("function", LINEAR_LOSSES)
def test_both_layouts_are_told_by_shape(function, rng: np.random.Generator) -> None:
    """The same data loss and half or all of the penalty, whatever generation is chosen."""
    W, X, y = rng.standard_normal((3, 5)), rng.standard_normal((5, 7)), np.arange(7) % 3
    for chosen in (None, "A", "B"):
        course.use(chosen)
        columns, dcolumns = function(W, X, y, 0.0)
        rows, drows = function(W.T, X.T, y, 0.0)
        assert columns == pytest.approx(rows, rel=1e-13)
        np.testing.assert_allclose(dcolumns, drows.T, rtol=1e-12)
        squares = np.sum(W**2)
        assert function(W, X, y, 0.4)[0] == pytest.approx(columns + 0.2 * squares)
        assert function(W.T, X.T, y, 0.4)[0] == pytest.approx(columns + 0.4 * squares)


@pytest.mark.parametrize("function", LINEAR_LOSSES)
@pytest.mark.parametrize("transposed", [False, True])
def test_linear_gradients(function, transposed: bool, rng: np.random.Generator) -> None:
    W, X, y = rng.standard_normal((3, 5)), rng.standard_normal((5, 7)), np.arange(7) % 3
    if transposed:
        W, X = W.T.copy(), X.T.copy()
    _, dW = function(W, X, y, 0.7)
    numeric = gradient_check.eval_numerical_gradient(
        lambda w: function(w, X, y, 0.7)[0], W, verbose=False
    )
    assert gradient_check.rel_error(dW, numeric) < 1e-6


def test_what_shapes_do_not_tell_is_chosen(rng: np.random.Generator) -> None:
    W, X, y = rng.standard_normal((4, 4)), rng.standard_normal((4, 4)), np.arange(4)
    with pytest.raises(ShapeError, match=r'Say which: chainrule.course.use\("A"\)'):
        softmax.softmax_loss_vectorized(W, X, y, 0.0)
    for chosen, scores in (("A", (W @ X).T), ("B", X @ W)):
        course.use(chosen)
        loss, _ = softmax.softmax_loss_vectorized(W, X, y, 0.0)
        assert loss == pytest.approx(layers.softmax_loss(scores, y)[0], rel=1e-13)


def test_shapes_that_fit_nothing(rng: np.random.Generator) -> None:
    with pytest.raises(ShapeError, match=r"X must have shape .*; got .*with W .* and 7 labels"):
        svm_loss_naive(np.zeros((3, 4)), np.zeros((5, 7)), np.zeros(7, int), 0.0)
    with pytest.raises(ShapeError, match="X must have two axes; got"):
        svm_loss_naive(np.zeros((3, 4)), np.zeros((7, 2, 2)), np.zeros(7, int), 0.0)
    with pytest.raises(ShapeError, match="W must have two axes"):
        svm_loss_naive(np.zeros(4), np.zeros((7, 4)), np.zeros(7, int), 0.0)


@pytest.mark.parametrize("kind", [Softmax, LinearSVM])
@pytest.mark.parametrize("columns", [True, False])
def test_linear_classifiers_learn(kind, columns: bool, rng: np.random.Generator, capsys) -> None:
    X, y = blobs(rng)
    X = X.T if columns else X
    classifier = kind()
    history = classifier.train(X, y, 1e-2, 1e-4, num_iters=250, batch_size=40, verbose=True)
    assert classifier.W.shape == ((3, 6) if columns else (6, 3))
    assert np.mean(classifier.predict(X) == y) > 0.95
    assert len(history) == 250
    assert history[-1] < history[0] / 2
    assert capsys.readouterr().out.startswith("iteration 0 / 250: loss ")
    before = classifier.W.copy()
    classifier.train(X, y, num_iters=1)
    assert 0 < np.abs(classifier.W - before).max() < 0.1


def test_weights_set_by_hand_predict(rng: np.random.Generator) -> None:
    classifier = Softmax()
    with pytest.raises(ConfigError, match=r"Softmax.predict: W must be set; got None. Call train"):
        classifier.predict(np.zeros((2, 5)))
    classifier.W = rng.standard_normal((3, 5))
    X = rng.standard_normal((5, 9))
    expected = (classifier.W @ X).argmax(axis=0)
    np.testing.assert_array_equal(classifier.predict(X), expected)
    classifier.W = classifier.W.T
    np.testing.assert_array_equal(classifier.predict(X.T), expected)
    assert classifier.loss(X.T, expected, 0.0)[0] > 0


def test_a_base_without_a_loss() -> None:
    base = LinearClassifier()
    base.W = np.zeros((2, 3))
    with pytest.raises(ConfigError, match="use LinearSVM or Softmax"):
        base.loss(np.zeros((4, 2)), np.zeros(4, int), 0.0)
    with pytest.raises(InputError, match="hold at least one label"):
        Softmax().train(np.zeros((0, 3)), np.zeros(0, int))


# --- layers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_dtypes(dtype, rng: np.random.Generator) -> None:
    """float32 stays, integers count as float64, and mixtures go to the wider one."""
    x, w, b = (rng.integers(-5, 5, s).astype(dtype) for s in ((4, 2, 3), (6, 5), (5,)))
    expected = np.float32 if dtype == np.float32 else np.float64
    out, cache = layers.affine_forward(x, w, b)
    assert out.dtype == expected
    dx, dw, db = layers.affine_backward(np.ones((4, 5)), cache)
    assert (dx.dtype, dw.dtype, db.dtype) == (expected,) * 3
    assert (dx.shape, dw.shape, db.shape) == (x.shape, w.shape, b.shape)
    assert layers.affine_forward(x, w.astype(np.float64), b)[0].dtype == np.float64
    with pytest.raises(DTypeError, match="w must be an array of real numbers; got complex"):
        layers.affine_forward(x, w * 1j, b)


def test_an_empty_batch() -> None:
    out, cache = layers.affine_forward(np.zeros((0, 2, 3)), np.ones((6, 5)), np.ones(5))
    dx, dw, _ = layers.affine_backward(out, cache)
    assert (dx.shape, dw.shape) == ((0, 2, 3), (6, 5))


def test_batchnorm_moves_its_statistics_as_the_course_does(rng: np.random.Generator) -> None:
    x = rng.standard_normal((5, 3)) * 4 + 2
    start = {"running_mean": np.ones(3), "running_var": np.full(3, 2.0)}
    param = {"mode": "train", "momentum": 0.8, **start}
    layers.batchnorm_forward(x, np.ones(3), np.zeros(3), param)
    np.testing.assert_allclose(param["running_mean"], 0.8 * 1 + 0.2 * x.mean(axis=0))
    np.testing.assert_allclose(param["running_var"], 0.8 * 2 + 0.2 * x.var(axis=0))
    np.testing.assert_array_equal(start["running_mean"], 1)
    fresh = {"mode": "train"}
    layers.batchnorm_forward(x, np.ones(3), np.zeros(3), fresh)
    np.testing.assert_allclose(fresh["running_var"], 0.1 * x.var(axis=0))
    test = {**param, "mode": "test"}
    out, _ = layers.batchnorm_forward(x, np.ones(3), np.zeros(3), test)
    scaled = (x - param["running_mean"]) / np.sqrt(param["running_var"] + 1e-5)
    np.testing.assert_allclose(out, scaled)
    np.testing.assert_array_equal(test["running_var"], param["running_var"])


def test_spatial_batchnorm_is_batchnorm_of_pixels(rng: np.random.Generator) -> None:
    x, dout = rng.standard_normal((2, 2, 3, 4, 5))
    gamma, beta = rng.standard_normal((2, 3))
    spatial, flat = {"mode": "train"}, {"mode": "train"}
    out, cache = layers.spatial_batchnorm_forward(x, gamma, beta, spatial)
    pixels = x.transpose(0, 2, 3, 1).reshape(-1, 3)
    rows, row_cache = layers.batchnorm_forward(pixels, gamma, beta, flat)
    np.testing.assert_allclose(out.transpose(0, 2, 3, 1).reshape(-1, 3), rows, atol=1e-12)
    np.testing.assert_allclose(spatial["running_var"], flat["running_var"])
    dx, dgamma, dbeta = layers.spatial_batchnorm_backward(dout, cache)
    drows = dout.transpose(0, 2, 3, 1).reshape(-1, 3)
    dpixels, dgamma2, dbeta2 = layers.batchnorm_backward(drows, row_cache)
    np.testing.assert_allclose(dx.transpose(0, 2, 3, 1).reshape(-1, 3), dpixels, atol=1e-12)
    np.testing.assert_allclose([dgamma, dbeta], [dgamma2, dbeta2])


def test_modes_and_images_are_checked() -> None:
    with pytest.raises(ConfigError, match="mode must be 'train' or 'test'; got 'training'"):
        layers.batchnorm_forward(np.ones((3, 2)), np.ones(2), np.ones(2), {"mode": "training"})
    with pytest.raises(ConfigError, match="dropout_forward: mode must be"):
        layers.dropout_forward(np.ones(3), {"p": 0.5})
    for function, extra in (
        (layers.spatial_batchnorm_forward, ({"mode": "train"},)),
        (layers.spatial_groupnorm_forward, (1, {})),
    ):
        with pytest.raises(ShapeError, match=r"x must have shape \(N, C, H, W\); got \(3, 2\)"):
            function(np.ones((3, 2)), np.ones(2), np.ones(2), *extra)


def test_conv_bn_relu_gradients(rng: np.random.Generator) -> None:
    x, w = rng.standard_normal((3, 2, 5, 5)), rng.standard_normal((4, 2, 3, 3))
    b, gamma, beta = rng.standard_normal((3, 4))
    conv, dout = {"stride": 1, "pad": 1}, rng.standard_normal((3, 4, 5, 5))

    def run(*arrays: np.ndarray):
        return layer_utils.conv_bn_relu_forward(*arrays, conv, {"mode": "train"})

    arrays = [x, w, b, gamma, beta]
    _, cache = run(*arrays)
    for position, gradient in enumerate(layer_utils.conv_bn_relu_backward(dout, cache)):
        numeric = gradient_check.eval_numerical_gradient_array(
            lambda _: run(*arrays)[0], arrays[position], dout
        )
        np.testing.assert_allclose(gradient, numeric, atol=1e-7)


def test_im2col_is_the_course_s_layout(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 3, 5, 6))
    cols = im2col.im2col_indices(x, 3, 2, padding=1, stride=2)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    expected = [
        padded[n, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 2].ravel()
        for i in range(3)
        for j in range(4)
        for n in range(2)
    ]
    np.testing.assert_array_equal(cols, np.array(expected).T)
    np.testing.assert_array_equal(im2col_cython.im2col_cython(x, 3, 2, 1, 2), cols)
    other = rng.standard_normal(cols.shape)
    back = im2col.col2im_indices(other, x.shape, 3, 2, padding=1, stride=2)
    assert np.vdot(cols, other) == pytest.approx(np.vdot(x, back))
    np.testing.assert_array_equal(im2col_cython.col2im_cython(other, *x.shape, 3, 2, 1, 2), back)
    with pytest.raises(ShapeError, match=r"cols must have shape \(18, 24\)"):
        im2col.col2im_indices(other[:, :-1], x.shape, 3, 2, padding=1, stride=2)


# --- optimizers and gradient checks -----------------------------------------------------------


def test_update_rules_fill_in_their_config() -> None:
    w, dw = np.ones(3), np.full(3, 0.5)
    for rule, keys in (
        (optim.sgd, {"learning_rate"}),
        (optim.sgd_momentum, {"learning_rate", "momentum", "velocity"}),
        (optim.rmsprop, {"learning_rate", "decay_rate", "epsilon", "cache"}),
        (optim.adam, {"learning_rate", "beta1", "beta2", "epsilon", "m", "v", "t"}),
    ):
        next_w, config = rule(w, dw)
        assert set(config) == keys
        assert (next_w < w).all()
        np.testing.assert_array_equal(w, 1)
        assert rule(next_w, dw, config)[1] is config


def test_momentum_of_zero_and_a_rate_of_zero() -> None:
    w, dw = np.ones(2), np.ones(2)
    next_w, config = optim.sgd_momentum(w, dw, {"learning_rate": 0.5, "momentum": 0})
    np.testing.assert_allclose(next_w, 0.5)
    np.testing.assert_allclose(config["velocity"], -0.5)
    np.testing.assert_array_equal(optim.adam(w, dw, {"learning_rate": 0.0})[0], w)


def test_rmsprop_adds_epsilon_outside_the_root() -> None:
    next_w, config = optim.rmsprop(np.zeros(1), np.full(1, 1e-5), {"learning_rate": 1.0})
    np.testing.assert_allclose(config["cache"], 1e-12)
    np.testing.assert_allclose(next_w, -1e-5 / (1e-6 + 1e-8))


def test_numerical_gradients_change_the_array_they_are_given_and_put_it_back(capsys) -> None:
    params = {"W": np.array([1.0, 2.0])}
    found = gradient_check.eval_numerical_gradient(
        lambda _: float(np.sum(params["W"] ** 3)), params["W"]
    )
    np.testing.assert_allclose(found, [3, 12], rtol=1e-6)
    np.testing.assert_array_equal(params["W"], [1, 2])
    assert capsys.readouterr().out.startswith("(0,) 3.0")
    with pytest.raises(ZeroDivisionError):
        gradient_check.eval_numerical_gradient(lambda _: 1 / 0, params["W"])
    np.testing.assert_array_equal(params["W"], [1, 2])
    with pytest.raises(DTypeError, match="x must be an array of floats; got int64"):
        gradient_check.eval_numerical_gradient(np.sum, np.arange(3))
    with pytest.raises(DTypeError, match="got list"):
        gradient_check.eval_numerical_gradient(np.sum, [1.0])


def test_gradients_of_blobs() -> None:
    inputs = [SimpleNamespace(vals=np.array([1.0, 2.0])), SimpleNamespace(vals=np.array([3.0]))]
    output = SimpleNamespace(vals=np.zeros(2), diffs=np.array([1.0, 10.0]))

    def forward(*blobs) -> None:
        output.vals[...] = inputs[0].vals * inputs[1].vals

    one, two = gradient_check.eval_numerical_gradient_blobs(forward, inputs, output)
    np.testing.assert_allclose(one, [3, 30], rtol=1e-6)
    np.testing.assert_allclose(two, [21], rtol=1e-6)
    net = SimpleNamespace(forward=forward)
    again = gradient_check.eval_numerical_gradient_net(net, inputs, output)
    np.testing.assert_allclose(again[0], one)


def test_sparse_checks_print_their_errors(capsys) -> None:
    stdlib_random.seed(0)
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    gradient_check.grad_check_sparse(lambda v: np.sum(v**2), x, 2 * x, 3)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("numerical: ") for line in lines)
    assert all(float(line.rpartition(" ")[2]) < 1e-7 for line in lines)
    gradient_check.grad_check_sparse(lambda v: np.sum(v**2), x, 3 * x, 1)
    assert float(capsys.readouterr().out.split()[-1]) == pytest.approx(0.2)


# --- networks and training --------------------------------------------------------------------


def test_networks_see_arrays_changed_in_place_or_replaced(rng: np.random.Generator) -> None:
    X = rng.standard_normal((4, 6))
    net = TwoLayerNet(input_dim=6, hidden_dim=5, num_classes=3, weight_scale=1.0)
    before = net.loss(X)
    net.params["b2"][0] += 1
    np.testing.assert_allclose(net.loss(X)[:, 0], before[:, 0] + 1)
    net.params["W2"] = np.zeros((5, 3))
    np.testing.assert_allclose(net.loss(X), np.tile(net.params["b2"], (4, 1)))


def test_parameters_are_checked(rng: np.random.Generator) -> None:
    net = TwoLayerNet(input_dim=6, hidden_dim=5, num_classes=3)
    net.params["W1"] = net.params["W1"].T
    with pytest.raises(ShapeError, match=r"TwoLayerNet.loss: W1 must have shape \(6, 5\)"):
        net.loss(np.zeros((2, 6)))
    del net.params["W1"]
    with pytest.raises(ConfigError, match="W1 must be in the model; got none"):
        net.loss(np.zeros((2, 6)))
    with pytest.raises(ConfigError, match="two_layer_net: W2 must be a matrix in the model"):
        neural_net.two_layer_net(np.zeros((2, 6)), {"W1": np.zeros((6, 5))})
    with pytest.raises(ConfigError, match="two_layer_convnet: W1 must be an array of 4 axes"):
        convnet.two_layer_convnet(np.zeros((2, 3, 4, 4)), {"W1": np.zeros((6, 5))})
    with pytest.raises(InputError, match="filter_size must be odd"):
        convnet.init_two_layer_convnet(filter_size=4)
    with pytest.raises(InputError, match="filter_size must be odd"):
        ThreeLayerConvNet(filter_size=4)
    with pytest.raises(InputError, match="dropout_keep_ratio must be above 0"):
        FullyConnectedNet([5], dropout_keep_ratio=1.5)
    with pytest.raises(ConfigError, match="normalization must be 'batchnorm'"):
        FullyConnectedNet([5], normalization="batch")


def test_old_keywords_of_the_fully_connected_net(rng: np.random.Generator) -> None:
    X = rng.standard_normal((8, 6))
    net = FullyConnectedNet([5, 4], input_dim=6, dropout=0, use_batchnorm=True, dtype=np.float64)
    assert not net.use_dropout
    assert net.normalization == "batchnorm"
    assert {"gamma1", "beta2"} <= set(net.params)
    assert "gamma3" not in net.params
    net.loss(X, np.zeros(8, int))
    first = X @ net.params["W1"]
    np.testing.assert_allclose(net.bn_params[0]["running_mean"], 0.1 * first.mean(axis=0))
    np.testing.assert_allclose(net.bn_params[0]["running_var"], 0.1 * first.var(axis=0))
    assert FullyConnectedNet([5], dropout=0.5).use_dropout


def test_float32_networks_stay_float32(rng: np.random.Generator) -> None:
    net = FullyConnectedNet([5], input_dim=6, normalization="batchnorm")
    loss, grads = net.loss(rng.standard_normal((4, 2, 3)), np.zeros(4, int))
    assert {g.dtype for g in grads.values()} == {np.dtype(np.float32)}
    assert isinstance(loss, float)


def test_saving_a_network(tmp_path: Path) -> None:
    net, other = (TwoLayerNet(input_dim=4, hidden_dim=3, num_classes=2) for _ in range(2))
    net.save(tmp_path / "best.npy")
    assert other.load(tmp_path / "best.npy")
    np.testing.assert_array_equal(other.params["W1"], net.params["W1"])
    with pytest.raises(RunError, match=r"missing.npy: could not be read"):
        other.load(tmp_path / "missing.npy")


def make_data(rng: np.random.Generator) -> dict[str, np.ndarray]:
    X, y = blobs(rng)
    return {"X_train": X[:90], "y_train": y[:90], "X_val": X[90:], "y_val": y[90:]}


@pytest.mark.parametrize("rule", ["sgd", "sgd_momentum", "rmsprop", "adam", optim.adam])
def test_solver_learns(rule, rng: np.random.Generator, capsys) -> None:
    net = TwoLayerNet(input_dim=6, hidden_dim=20, num_classes=3, weight_scale=0.1)
    rate = 0.1 if rule == "sgd" else 1e-2
    config = {"learning_rate": rate}
    solver = Solver(
        net,
        make_data(rng),
        update_rule=rule,
        optim_config=config,
        num_epochs=15,
        batch_size=30,
        print_every=5,
        lr_decay=0.9,
    )
    solver.train()
    assert solver.best_val_acc > 0.9
    assert solver.check_accuracy(solver.X_train, solver.y_train) > 0.9
    assert len(solver.loss_history) == 45
    assert len(solver.val_acc_history) == 16
    assert solver.optim_configs["W1"]["learning_rate"] == pytest.approx(rate * 0.9**15)
    assert config == {"learning_rate": rate}
    assert net.params is solver.best_params
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("(Iteration 1 / 45) loss: ")
    assert lines[1].startswith("(Epoch 0 / 15) train acc: ")


def test_solver_checkpoints_are_no_pickles(tmp_path: Path, rng: np.random.Generator) -> None:
    from chainrule.records import load_tensors

    net = TwoLayerNet(input_dim=6, hidden_dim=5, num_classes=3)
    name = str(tmp_path / "run")
    Solver(net, make_data(rng), num_epochs=2, verbose=False, checkpoint_name=name).train()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "run_epoch_1.safetensors",
        "run_epoch_2.safetensors",
    ]
    tensors, histories = load_tensors(tmp_path / "run_epoch_2.safetensors")
    assert tensors.keys() == net.params.keys()
    assert histories["epoch"] == 2
    assert len(histories["loss_history"]) == 2


def test_solver_refuses(rng: np.random.Generator) -> None:
    net, data = TwoLayerNet(), make_data(rng)
    with pytest.raises(ConfigError, match=r"got 'sgd_momentun'. Did you mean 'sgd_momentum'"):
        Solver(net, data, update_rule="sgd_momentun")
    del data["y_val"]
    with pytest.raises(ConfigError, match="y_val must be in the data"):
        Solver(net, data)


def test_classifier_trainer(rng: np.random.Generator, capsys) -> None:
    X, y = blobs(rng)
    model = neural_net.init_two_layer_model(6, 20, 3)
    arguments = (X, y, X[:30], y[:30], model, neural_net.two_layer_net)
    with pytest.raises(ConfigError, match="update must be one of momentum, rmsprop, sgd; got 'x'"):
        ClassifierTrainer().train(*arguments, update="x")
    best, losses, train, val = ClassifierTrainer().train(
        *arguments,
        learning_rate=0.5,
        momentum=0.9,
        num_epochs=20,
        batch_size=40,
        acc_frequency=2,
        verbose=True,
    )
    assert len(losses) == 60
    assert len(train) == len(val) > 20
    assert train[-1] > 0.9
    assert best.keys() == model.keys()
    assert best["W1"] is not model["W1"]
    assert "finished optimization. best validation accuracy" in capsys.readouterr().out


@pytest.mark.parametrize("sample", [True, False])
def test_classifier_trainer_s_steps(sample: bool) -> None:
    """A constant gradient shows the velocity, and when the learning rate decays."""

    def loss_function(X, model, y=None, reg=0.0):
        if y is None:
            return np.zeros((len(X), 2))
        return float(model["w"][0]), {"w": np.ones(1)}

    X, y = np.zeros((4, 1)), np.zeros(4, int)
    options = {"learning_rate": 0.1, "momentum": 0.5, "learning_rate_decay": 0.5, "num_epochs": 4}
    _, losses, train, _ = ClassifierTrainer().train(
        X,
        y,
        X,
        y,
        {"w": np.zeros(1)},
        loss_function,
        sample_batches=sample,
        batch_size=2,
        **options,
    )
    w, velocity, rate, expected = 0.0, 0.0, 0.1, []
    per_epoch = 2 if sample else 1
    for step in range(4 * per_epoch):
        expected.append(w)
        velocity = 0.5 * velocity - rate
        w += velocity
        if (step + 1) % per_epoch == 0 and step > 0:
            rate *= 0.5
    np.testing.assert_allclose(losses, expected)
    assert train == [1.0] * (5 if sample else 4)


def test_initial_weights_are_the_course_s() -> None:
    classifier = LinearSVM()
    classifier.train(np.zeros((7, 4)), np.arange(7) % 3, num_iters=0)
    expected = 0.001 * np.random.RandomState(0).randn(4, 3)
    np.testing.assert_array_equal(classifier.W, expected)


def test_the_two_layer_net_of_2016_learns(rng: np.random.Generator, capsys) -> None:
    X, y = blobs(rng)
    net = neural_net.TwoLayerNet(6, 20, 3, std=0.1)
    history = net.train(X, y, X, y, learning_rate=0.1, batch_size=60, num_iters=150, verbose=True)
    assert np.mean(net.predict(X) == y) > 0.9
    assert len(history["val_acc_history"]) == 75
    assert capsys.readouterr().out.count("iteration") == 2


def test_the_two_layer_net_of_2016_decays_its_rate(rng: np.random.Generator) -> None:
    X, y = blobs(rng)
    nets = []
    for steps in (1, 5):
        global_random().seed(1)
        net = neural_net.TwoLayerNet(6, 4, 3)
        net.train(X, y, X, y, learning_rate_decay=0.0, num_iters=steps, batch_size=60)
        nets.append(net)
    np.testing.assert_array_equal(nets[0].params["W1"], nets[1].params["W1"])


def test_solver_draws_as_many_examples_as_it_is_told(rng: np.random.Generator) -> None:
    net = TwoLayerNet(input_dim=6, hidden_dim=5, num_classes=3)
    solver = Solver(net, make_data(rng), num_epochs=9, num_train_samples=1, verbose=False)
    solver.train()
    assert set(solver.train_acc_history) <= {0.0, 1.0}
    assert len(set(solver.val_acc_history) - {0.0, 1.0}) > 0


# --- nearest neighbours -----------------------------------------------------------------------


def test_distances_agree(rng: np.random.Generator) -> None:
    knn = KNearestNeighbor()
    with pytest.raises(ConfigError, match="training examples must be there"):
        knn.predict(np.zeros((1, 3)))
    train, test = rng.standard_normal((9, 4)), rng.standard_normal((5, 4))
    knn.train(train, np.arange(9) % 3)
    expected = np.sqrt(((test[:, None] - train) ** 2).sum(axis=2))
    for way in ("two_loops", "one_loop", "no_loops"):
        found = getattr(knn, f"compute_distances_{way}")(test)
        np.testing.assert_allclose(found, expected, atol=1e-7)
        assert getattr(knn, f"compute_distances_{way}")(test[:0]).shape == (0, 9)
    for loops in (0, 1, 2):
        np.testing.assert_array_equal(knn.predict(train, k=1, num_loops=loops), knn.y_train)


def test_votes_and_ties() -> None:
    knn = KNearestNeighbor()
    knn.train(np.arange(5.0)[:, None], np.array([3, 1, 1, 2, 2]))
    dists = np.array([[0.0, 1, 2, 3, 4], [9, 3, 2, 1, 0]])
    np.testing.assert_array_equal(knn.predict_labels(dists, k=1), [3, 2])
    np.testing.assert_array_equal(knn.predict_labels(dists, k=3), [1, 2])
    np.testing.assert_array_equal(knn.predict_labels(dists, k=5), [1, 1])  # 1 and 2 tie
    np.testing.assert_array_equal(knn.predict_labels(dists[:1], k=2), [1])
    with pytest.raises(InputError, match="k must lie between 1 and 5; got 6"):
        knn.predict_labels(dists, k=6)
    with pytest.raises(ShapeError, match=r"dists must have shape \(M, 5\)"):
        knn.predict_labels(dists[:, :4])
    with pytest.raises(InputError, match="num_loops must be 0, 1 or 2"):
        knn.predict(np.zeros((1, 1)), num_loops=3)
    with pytest.raises(ShapeError, match=r"X must have shape \(M, 1\)"):
        knn.predict(np.zeros((1, 2)))
    with pytest.raises(ShapeError, match="for N labels"):
        knn.train(np.zeros((3, 2)), np.zeros(4, int))


# --- pictures and features --------------------------------------------------------------------


def test_visualize_grid() -> None:
    images = np.arange(3 * 2 * 2 * 1, dtype=float).reshape(3, 2, 2, 1)
    grid = vis_utils.visualize_grid(images, ubound=3.0, padding=1)
    assert grid.shape == (5, 5, 1)
    np.testing.assert_array_equal(grid[:2, 3:, 0], [[0, 1], [2, 3]])
    assert (grid[2] == 0).all()
    assert (vis_utils.visualize_grid(np.ones((1, 2, 2, 3))) == 127.5).all()
    with pytest.raises(ShapeError, match="Xs must have shape"):
        vis_utils.visualize_grid(np.ones((2, 2, 3)))


def test_vis_grid_and_vis_nn() -> None:
    images = np.arange(3 * 2 * 2, dtype=float).reshape(3, 2, 2, 1)
    grid = vis_utils.vis_grid(images)
    assert grid.shape == (6, 6, 1)
    assert (grid.min(), grid.max()) == (0, 1)
    np.testing.assert_allclose(grid[3:5, :2, 0], images[2, ..., 0] / 11)
    assert (grid[:, 2] == 0).all()
    rows = vis_utils.vis_nn([[images[0], images[1]], [images[2], images[0]]])
    assert rows.shape == (6, 6, 1)
    np.testing.assert_allclose(rows[3:5, 3:5, 0], images[0, ..., 0] / 11)
    with pytest.raises(ShapeError, match="hold as many images"):
        vis_utils.vis_nn([[images[0]], [images[1], images[2]]])


def test_features(rng: np.random.Generator, capsys) -> None:
    images = rng.uniform(0, 255, (1000, 16, 16, 3))
    functions = [features.hog_feature, lambda image: features.color_histogram_hsv(image, nbin=5)]
    some = features.extract_features(images[:4], functions)
    assert some.shape == (4, 36 + 5)
    np.testing.assert_allclose(some[:, 36:].sum(axis=1), 1)
    features.extract_features(images, [np.mean], verbose=True)
    assert capsys.readouterr().out == "Done extracting features for 1000 / 1000 images\n"
    course.use("A")
    np.testing.assert_array_equal(features.extract_features(images[:4], functions), some.T)
    with pytest.raises(InputError, match="feature_fns must hold a function"):
        features.extract_features(images, [])


def test_color_histogram_is_that_of_matplotlib_s_hues(rng: np.random.Generator) -> None:
    colors = pytest.importorskip("matplotlib.colors")
    image = rng.uniform(0, 255, (8, 9, 3))
    hues = colors.rgb_to_hsv(image / 255)[..., 0] * 255
    edges = np.linspace(0, 255, 11)
    density, _ = np.histogram(hues, bins=edges, density=True)
    shares = features.color_histogram_hsv(image)
    np.testing.assert_allclose(shares, density * np.diff(edges))
    counts, _ = np.histogram(hues, bins=edges)
    found = features.color_histogram_hsv(image, normalized=False)
    np.testing.assert_allclose(found, counts * np.diff(edges))
    with pytest.raises(InputError, match="xmin and xmax must be 0 and above 0"):
        features.color_histogram_hsv(image, xmin=1)
    with pytest.raises(ShapeError, match=r"im must have shape \(H, W, 3\)"):
        features.color_histogram_hsv(image[..., 0])
    large = image.repeat(3, 0).repeat(3, 1)
    grey = large @ [0.299, 0.587, 0.144]
    np.testing.assert_allclose(features.rgb2gray(large), grey)
    np.testing.assert_allclose(features.hog_feature(large), features.hog_feature(grey))
    assert features.hog_feature(image[..., 0].repeat(2, 0).repeat(2, 1)).shape == (36,)


# --- data -------------------------------------------------------------------------------------


@pytest.fixture
def small_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with 20 images a batch, and an empty current folder."""
    import runpy

    official = runpy.run_path(str(Path(__file__).parents[1] / "data" / "official_files.py"))
    found: Path = official["write_cifar10"](tmp_path / "data", official["cifar10_content"]())
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("CHAINRULE_DATA", str(tmp_path / "data"))
    return found


def test_cifar10_of_the_data_folder(small_cifar: Path) -> None:
    X, y, X_test, y_test = data_utils.load_CIFAR10("cs231n/datasets/cifar-10-batches-py")
    assert (X.shape, X.dtype, y.shape) == ((100, 32, 32, 3), np.float64, (100,))
    assert (X_test.shape, y_test.shape) == ((20, 32, 32, 3), (20,))
    batches = [data_utils.load_CIFAR_batch(f"elsewhere/data_batch_{i}") for i in range(1, 6)]
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in batches]), X)
    np.testing.assert_array_equal(np.concatenate([batch[1] for batch in batches]), y)
    y[0] = 5  # the student's own copy


def test_cifar10_where_the_notebook_points(
    small_cifar: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Path("cs231n/datasets").mkdir(parents=True)
    small_cifar.rename("cs231n/datasets/cifar-10-batches-py")
    monkeypatch.setenv("CHAINRULE_DATA", str(tmp_path / "nothing"))
    assert len(data_utils.load_CIFAR10("cs231n/datasets/cifar-10-batches-py")[0]) == 100
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataMissingError, match="Run `chainrule data fetch cifar10`"):
        data_utils.load_CIFAR10("cs231n/datasets/cifar-10-batches-py")
    with pytest.raises(DataMissingError, match="batch of CIFAR-10 must be at nowhere or at"):
        data_utils.load_CIFAR_batch("nowhere")


def test_data_for_networks(small_cifar: Path) -> None:
    data = data_utils.get_CIFAR10_data(num_training=80, num_validation=15, num_test=10)
    assert {name: value.shape[0] for name, value in data.items()} == {
        "X_train": 80, "y_train": 80, "X_val": 15, "y_val": 15, "X_test": 10, "y_test": 10,
    }  # fmt: skip
    assert data["X_train"].shape[1:] == (3, 32, 32)
    np.testing.assert_allclose(data["X_train"].mean(axis=0), 0, atol=1e-11)
    raw = data_utils.get_CIFAR10_data(80, 15, 10, subtract_mean=False)
    mean = raw["X_train"].mean(axis=0)
    np.testing.assert_allclose(data["X_test"], raw["X_test"] - mean)
    with pytest.raises(InputError, match="number of examples must be at most 100 in training"):
        data_utils.get_CIFAR10_data()


def test_columns_of_generation_a(small_cifar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_cifar10_tvt, "_TRAINING", 80)
    monkeypatch.setattr(load_cifar10_tvt, "_VALIDATION", 20)
    X, y, X_val, y_val, X_test, y_test = load_cifar10_tvt.load_cifar10_train_val()
    assert (X.shape, X_val.shape, X_test.shape) == ((3073, 80), (3073, 20), (3073, 20))
    assert (len(y), len(y_val), len(y_test)) == (80, 20, 20)
    np.testing.assert_allclose(X[:-1].mean(axis=1), 0, atol=1e-11)
    np.testing.assert_array_equal(X_val[-1], 1)
    images, labels, _, _ = data_utils.load_CIFAR10("nowhere")
    rows = images.reshape(100, -1)
    np.testing.assert_allclose(X_val[:-1].T, rows[80:] - rows[:80].mean(axis=0))
    np.testing.assert_array_equal(y_val, labels[80:])


def test_a_hostile_batch_is_not_run(small_cifar: Path) -> None:
    (small_cifar / "data_batch_1").write_bytes(b"cos\nsystem\n(S'exit 3'\ntR.")
    with pytest.raises(ValueError, match=r"reference to os.system"):
        data_utils.load_CIFAR_batch(small_cifar / "data_batch_1")
    (small_cifar / "data_batch_1").write_bytes((small_cifar / "batches.meta").read_bytes())
    with pytest.raises(ValueError, match="batch must hold images of 3072 bytes"):
        data_utils.load_CIFAR_batch(small_cifar / "data_batch_1")
