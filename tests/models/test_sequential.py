"""Networks as a whole: gradients by differences, initial values, batches, errors."""

import copy
import pickle

import numpy as np
import pytest

from chainrule.errors import ConfigError, DTypeError, InputError, ShapeError
from chainrule.gradcheck import numeric_gradient, relative_error
from chainrule.models import (
    BUILTIN,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    GroupNorm,
    LayerNorm,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    SiLU,
    Tanh,
    convnet,
    make_loss,
    mlp,
    softmax,
    svm,
    two_layer,
    vgg_small,
)

IMAGE = (2, 6, 6)

# Small enough for the difference quotient of every single parameter.
NETWORKS = {
    "softmax": lambda: softmax(3),
    "svm": lambda: svm(3),
    "two_layer": lambda: two_layer(3, hidden=4, dropout=0.4),
    "mlp with batch norm": lambda: mlp(3, hidden=[4, 3], norm="batch", dropout=0.3),
    "mlp with layer norm": lambda: mlp(3, hidden=[4], norm="layer", activation="gelu"),
    "mlp leaky_relu": lambda: mlp(3, hidden=[4], activation="leaky_relu"),
    "mlp sigmoid": lambda: mlp(3, hidden=[4], activation="sigmoid"),
    "mlp silu": lambda: mlp(3, hidden=[4], activation="silu"),
    "convnet": lambda: convnet(3, filters=2, kernel_size=3, hidden=4, dropout=0.2),
    "vgg_small": lambda: vgg_small(3, channels=[[2], [3]], dropout=0.2),
    "all that is left": lambda: Sequential(
        [
            Conv2d(4, (3, 2), stride=(1, 2), padding=(1, 0), groups=2, bias=False),
            GroupNorm(2),
            Tanh(),
            AvgPool2d(3, 1, 1),
            LayerNorm(),
            MaxPool2d((2, 1)),
            SiLU(),
            GlobalAvgPool2d(),
            Linear(3, bias=False),
        ],
        loss="multiclass_hinge",
    ),
    "parameters after layers without": lambda: Sequential(
        [Tanh(), MaxPool2d(2), *softmax(3).layers]
    ),
    "nothing but scores": lambda: Sequential([Tanh(), GlobalAvgPool2d()]),
}


def initialised(make, dtype=np.float64, seed=0, shape=IMAGE):
    model = make()
    rng = np.random.default_rng(seed)
    model.init(rng, shape, "glorot", dtype)
    for value in model.params.values():
        value += rng.normal(scale=0.2, size=value.shape)
    return model


def batch(size=5, seed=1, dtype=np.float64, shape=IMAGE, classes=3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(size, *shape)).astype(dtype), rng.integers(0, classes, size)


@pytest.mark.parametrize("case", NETWORKS)
def test_gradients_are_those_of_the_loss(case):
    model = initialised(NETWORKS[case])
    x, y = batch(classes=2)

    def loss_and_grads():
        return model.loss_and_grads(x, y, l2=0.1, rng=np.random.default_rng(5))

    _, grads = loss_and_grads()
    assert list(grads) == list(model.params)
    for key, value in model.params.items():

        def loss_of(candidate, key=key):
            model.params[key] = candidate
            return loss_and_grads()[0]

        numeric = numeric_gradient(loss_of, value)
        model.params[key] = value
        # A bias in front of a batch normalisation has no gradient: compare zero with zero.
        scale = max(1e-3, np.abs(numeric).max())
        np.testing.assert_allclose(grads[key] / scale, numeric / scale, 0, 1e-7, err_msg=key)


@pytest.mark.parametrize("case", NETWORKS)
def test_training_loss_is_the_loss_that_is_trained(case):
    x, y = batch(classes=2)
    for l2 in (0.0, 0.1):
        one, two = (initialised(NETWORKS[case]) for _ in "ab")
        loss, _ = one.loss_and_grads(x, y, l2=l2, rng=np.random.default_rng(5))
        assert two.training_loss(x, y, l2=l2, rng=np.random.default_rng(5)) == loss
        for key, value in one.buffers.items():
            np.testing.assert_array_equal(two.buffers[key], value)


def test_relative_error_would_notice_a_wrong_gradient():
    model = initialised(NETWORKS["two_layer"])
    x, y = batch()
    key = "linear1.weight"
    _, grads = model.loss_and_grads(x, y, rng=np.random.default_rng(5))

    def loss_of(candidate):
        model.params[key] = candidate
        return model.loss_and_grads(x, y, rng=np.random.default_rng(5))[0]

    numeric = numeric_gradient(loss_of, model.params[key])
    assert relative_error(grads[key], numeric) < 1e-6
    assert relative_error(grads[key] * 1.001, numeric) > 1e-4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", NETWORKS)
def test_reference_equals_fast(case, dtype):
    fast = initialised(NETWORKS[case], dtype)
    loss = fast.loss_name
    slow = Sequential(fast.layers, loss=loss, implementation="reference")
    slow.init(np.random.default_rng(0), IMAGE, dtype=dtype)
    assert slow.params.keys() == fast.params.keys()
    slow.params = {key: value.copy() for key, value in fast.params.items()}
    x, y = batch(dtype=dtype, classes=2)
    tolerance = 1e-5 if dtype is np.float32 else 1e-12
    results = [m.loss_and_grads(x, y, l2=0.1, rng=np.random.default_rng(3)) for m in (fast, slow)]
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=tolerance)
    for key, grad in results[0][1].items():
        np.testing.assert_allclose(grad, results[1][1][key], 0, 20 * tolerance, err_msg=key)
    for key, value in fast.buffers.items():
        np.testing.assert_allclose(value, slow.buffers[key], 0, tolerance, err_msg=key)
    np.testing.assert_allclose(fast.scores(x), slow.scores(x), 0, 20 * tolerance)


class TestInit:
    def test_same_generator_same_network(self):
        make = NETWORKS["vgg_small"]
        first, second, other = (initialised(make, seed=seed).params for seed in (3, 3, 4))
        for key, value in first.items():
            assert value.tobytes() == second[key].tobytes()
        assert any((value != other[key]).any() for key, value in first.items())

    def test_float32_is_float64_rounded(self):
        model = convnet(10)
        wide = dict(model.init(np.random.default_rng(0), (3, 8, 8), dtype="float64"))
        narrow = model.init(np.random.default_rng(0), (3, 8, 8), dtype=np.float32)
        for key, value in narrow.items():
            assert value.dtype == np.float32
            assert (value == wide[key].astype(np.float32)).all()

    @pytest.mark.parametrize("init", ["he", "glorot", 0.02, 0.0])
    @pytest.mark.parametrize(
        ("layer", "shape", "fan_in", "fan_out"),
        [
            (Linear(300), (400,), 400, 300),
            (Conv2d(64, 5), (40, 8, 8), 40 * 25, 64 * 25),
            (Conv2d(64, 5, groups=4), (40, 8, 8), 10 * 25, 16 * 25),
        ],
        ids=["linear", "conv", "grouped conv"],
    )
    def test_spread_of_the_weights(self, init, layer, shape, fan_in, fan_out):
        weights = layer.init(np.random.default_rng(0), shape, init)["weight"].ravel()
        expected = {"he": np.sqrt(2 / fan_in), "glorot": np.sqrt(2 / (fan_in + fan_out))}.get(
            init, init
        )
        deviation = 4 * expected / np.sqrt(len(weights))  # four standard errors
        assert abs(weights.mean()) <= deviation
        assert abs(weights.std() - expected) <= deviation
        if init == "glorot":
            limit = np.sqrt(6 / (fan_in + fan_out))
            assert 0.999 * limit < np.abs(weights).max() <= limit
        elif init:  # normal: a 32 in 10,000 lies beyond three standard deviations, of 16,000 draws
            tails = np.mean(np.abs(weights) > 3 * expected)
            assert 0.0017 < tails < 0.0037

    @pytest.mark.parametrize(
        ("filters", "channels", "kernel", "groups"),
        [(6, 4, 3, 1), (3, 5, (3, 5), 1), (8, 6, 3, 2), (4, 8, 2, 4)],
    )
    def test_dirac_passes_channels_on(self, filters, channels, kernel, groups):
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        layer = Conv2d(filters, kernel, groups=groups, init_weight="dirac")
        weight = layer.init(np.random.default_rng(0), (channels, 8, 8), "glorot")["weight"]
        expected = torch.nn.init.dirac_(torch.empty(weight.shape), groups).numpy()
        passing = expected.any(axis=(1, 2, 3))
        np.testing.assert_array_equal(weight[passing], expected[passing])
        he = Conv2d(filters, kernel, groups=groups).init(
            np.random.default_rng(0), (channels, 8, 8), "he"
        )
        np.testing.assert_array_equal(weight[~passing], he["weight"][~passing])

    def test_he_keeps_the_size_of_activations_through_depth(self):
        layers = [layer for _ in range(12) for layer in (Linear(400), ReLU())]
        model = Sequential([*layers, Linear(2)])
        model.init(np.random.default_rng(0), (400,), "he", np.float64)
        sizes = {}
        x = np.random.default_rng(1).normal(size=(200, 400))
        model.forward(x, observe=lambda name, out: sizes.update({name: np.mean(out**2)}))
        assert 0.5 < sizes["relu12"] / sizes["relu1"] < 2

    def test_own_scheme_of_a_layer_goes_before(self):
        model = Sequential([Linear(50, init_weight=0.5), Linear(50)])
        params = model.init(np.random.default_rng(0), (50,), 1e-3)
        assert params["linear1.weight"].std() == pytest.approx(0.5, rel=0.05)
        assert params["linear2.weight"].std() == pytest.approx(1e-3, rel=0.05)

    def test_biases_and_norms_start_neutral(self):
        model = Sequential(
            [Conv2d(4, 3), BatchNorm(), LayerNorm(), GroupNorm(2), Flatten(), Linear(2)]
        )
        model.init(np.random.default_rng(0), IMAGE)
        for key, value in (model.params | model.buffers).items():
            layer, what = key.split(".")
            if what in ("bias", "running_mean"):
                assert (value == 0).all()
            elif what == "running_var" or layer[:2] in ("bn", "ln", "gn"):
                assert (value == 1).all()

    @pytest.mark.parametrize("name", BUILTIN)
    def test_first_loss_is_that_of_guessing(self, name):
        model = BUILTIN[name](10)
        model.init(np.random.default_rng(0), (1, 8, 8))
        x, y = batch(50, shape=(1, 8, 8), classes=10)
        loss, _ = model.loss(model.scores(x), y)
        assert loss == pytest.approx(9 if name == "svm" else np.log(10), rel=0.05)

    @pytest.mark.parametrize("init", ["hee", -1.0, np.inf, np.nan])
    def test_unknown_scheme(self, init):
        message = "init must be 'he', 'glorot' or a scale >= 0; got"
        with pytest.raises(ConfigError, match=message):
            Sequential([Linear(2)]).init(np.random.default_rng(0), (3,), init)

    def test_unknown_dtype(self):
        with pytest.raises(ConfigError, match="dtype must be float32 or float64; got float16"):
            Sequential([Linear(2)]).init(np.random.default_rng(0), (3,), dtype=np.float16)


class TestForward:
    def test_empty_batch(self):
        for case, make in NETWORKS.items():
            model = initialised(make)
            x, y = batch(0)
            assert model.forward(x).shape[0] == 0, case
            assert model.predict(x).shape == (0,), case
            loss, grads = model.loss_and_grads(x, y, rng=np.random.default_rng(0))
            assert loss == 0
            assert all(not grad.any() and np.isfinite(grad).all() for grad in grads.values()), case

    @pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100])
    def test_size_of_the_batches_makes_no_difference(self, size):
        model = initialised(NETWORKS["vgg_small"])
        x, _ = batch(5)
        np.testing.assert_allclose(model.scores(x, batch_size=size), model.forward(x), 0, 1e-12)

    def test_predicts_the_highest_score(self):
        model = softmax(3)
        model.init(np.random.default_rng(0), (3,), dtype=np.float64)
        model.params["linear1.weight"][...] = np.eye(3)
        x = np.array([[0.0, 2, 1], [3, 0, 0], [0, 0, 0]])
        predicted = model.predict(x)
        assert predicted.tolist() == [1, 0, 0]  # the first of equals
        assert predicted.dtype == np.int64

    def test_neither_input_nor_parameters_change(self):
        model = initialised(NETWORKS["vgg_small"])
        x, y = batch()
        before = x.copy(), {key: value.copy() for key, value in model.params.items()}
        model.loss_and_grads(x, y, l2=0.1, rng=np.random.default_rng(0))
        np.testing.assert_array_equal(x, before[0])
        for key, value in model.params.items():
            np.testing.assert_array_equal(value, before[1][key])

    def test_input_is_cast_to_the_parameters(self):
        model = initialised(NETWORKS["two_layer"], np.float32)
        x, y = batch(dtype=np.float64)
        assert model.forward(x).dtype == np.float32
        _, grads = model.loss_and_grads(x, y, rng=np.random.default_rng(0))
        assert {grad.dtype for grad in grads.values()} == {np.dtype(np.float32)}

    def test_observer_of_forward_sees_every_layer_and_last_the_scores(self):
        model = initialised(NETWORKS["convnet"])
        seen = []
        scores = model.forward(batch()[0], observe=lambda name, out: seen.append((name, out)))
        assert [name for name, _ in seen] == [layer.name for layer in model.layers]
        assert seen[-1][1] is scores

    def test_observer_of_gradients_sees_what_is_computed_together_once(self):
        model = initialised(NETWORKS["convnet"])
        x, y = batch()
        seen = []
        model.loss_and_grads(
            x, y, rng=np.random.default_rng(0), observe=lambda name, out: seen.append((name, out))
        )
        assert [name for name, _ in seen][:2] == ["pool1", "flatten1"]
        assert seen[-1][1].shape == (5, 3)

    def test_nothing_is_propagated_to_the_input(self, monkeypatch):
        """The gradient by the images, the costliest of a convolution, is of use to nobody."""
        from chainrule.models import sequential

        right, asked = sequential.pairs.pair, []

        def spied(name, implementation):
            forward, backward = right(name, implementation)

            def spy(*args, **options):
                asked.append((name, options))
                return backward(*args, **options)

            return forward, spy

        monkeypatch.setattr(sequential.pairs, "pair", spied)
        model = initialised(lambda: Sequential([Tanh(), Conv2d(2, 3), Flatten(), Linear(3)]))
        model.loss_and_grads(*batch())
        assert asked[1:] == [("linear", {}), ("flatten", {}), ("conv2d", {"need_dx": False})]
        assert asked[0] == ("cross_entropy", {})

    def test_dropout_in_training_only(self):
        model = initialised(lambda: two_layer(3, hidden=400, dropout=0.5))
        x, _ = batch()
        once, again, other = (
            model.forward(x, training=True, rng=np.random.default_rng(seed)) for seed in (0, 0, 1)
        )
        assert (once == again).all()
        assert (once != other).any()
        assert (model.forward(x) == model.forward(x)).all()

    def test_penalty_is_of_the_weights_of_linear_and_convolutional_layers(self):
        model = Sequential([Conv2d(3, 3), LayerNorm(), BatchNorm(), Flatten(), Linear(2)])
        model.init(np.random.default_rng(0), IMAGE, dtype=np.float64)
        x, y = batch(classes=2)
        (plain, grads), (more, penalised) = (model.loss_and_grads(x, y, l2=l2) for l2 in (0, 0.6))
        weights = {key: model.params[key] for key in ("conv1.weight", "linear1.weight")}
        assert more - plain == pytest.approx(0.3 * sum((w**2).sum() for w in weights.values()))
        for key, grad in grads.items():
            np.testing.assert_allclose(penalised[key] - grad, 0.6 * weights.get(key, 0.0), 0, 1e-12)

    def test_loss_of_ones_own(self):
        def squares(scores, y):
            return float((scores**2).mean()), 2 * scores / scores.size

        model = Sequential([Linear(3)], loss=squares)
        model.init(np.random.default_rng(0), (4,), dtype=np.float64)
        x, y = batch(shape=(4,))
        loss, grads = model.loss_and_grads(x, y)
        scores = model.forward(x)
        assert model.loss_name == "custom"
        assert loss == pytest.approx((scores**2).mean())
        np.testing.assert_allclose(grads["linear1.weight"], 2 * scores.T @ x / scores.size)


class TestCopies:
    """Estimators are pickled and copied with their network."""

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
    def test_computes_the_same_and_shares_nothing(self, copied):
        model = initialised(NETWORKS["mlp with batch norm"])
        model.loss = make_loss("cross_entropy", label_smoothing=0.1)
        twin = copied(model)
        x, y = batch()
        one, two = (m.loss_and_grads(x, y, rng=np.random.default_rng(0)) for m in (model, twin))
        assert one[0] == two[0]
        for key, grad in one[1].items():
            assert (grad == two[1][key]).all()
        twin.params["linear1.weight"][...] = 0
        assert model.params["linear1.weight"].any()


class TestErrors:
    def test_no_layers(self):
        with pytest.raises(ConfigError, match="layers must hold at least one layer"):
            Sequential([])

    def test_same_name_twice(self):
        with pytest.raises(ConfigError, match="layer names must be unique; got a"):
            Sequential([Linear(2, name="a"), Linear(2, name="a")])

    def test_given_name_and_number_meet(self):
        with pytest.raises(ConfigError, match="layer names must be unique; got linear2"):
            Sequential([Linear(2, name="linear2"), Linear(2)])

    def test_unknown_loss(self):
        with pytest.raises(
            ConfigError, match=r"'crossentropy' is not known\. Did you mean 'cross_e"
        ):
            softmax(3, loss="crossentropy")

    def test_unknown_implementation(self):
        with pytest.raises(ConfigError, match="implementation"):
            softmax(3, implementation="quick")

    def test_before_init(self):
        message = (
            r"the network must be initialised; got no parameters\. Call init\(rng, input_shape\)"
        )
        with pytest.raises(InputError, match=message):
            softmax(3).forward(np.zeros((1, 4), np.float32))
        with pytest.raises(InputError, match="input_shape must be known"):
            softmax(3).summary()

    @pytest.mark.parametrize("shape", [(5, 2, 6), (5, 6, 6, 2), (2, 6, 6), (5, 72), (5,)])
    def test_shape_of_the_input(self, shape):
        model = initialised(NETWORKS["convnet"])
        with pytest.raises(ShapeError, match=r"x must have shape \(N, 2, 6, 6\); got \("):
            model.forward(np.zeros(shape))

    def test_labels(self):
        model = initialised(NETWORKS["softmax"])
        x, y = batch()
        with pytest.raises(InputError, match="labels from 0 to 2; got 3 at position"):
            model.loss_and_grads(x, np.full(5, 3))
        with pytest.raises(ShapeError, match=r"y must have shape \(5,\)"):
            model.loss_and_grads(x, y[:4])
        with pytest.raises(DTypeError, match="y must be an array of integer labels"):
            model.loss_and_grads(x, y.astype(float))

    def test_dropout_without_a_generator(self):
        model = initialised(NETWORKS["two_layer"])
        x, y = batch()
        with pytest.raises(InputError, match=r"dropout1: rng must be .* in training"):
            model.loss_and_grads(x, y)

    @pytest.mark.parametrize(
        ("layers", "shape", "message"),
        [
            ([Linear(2)], IMAGE, r"linear1: input must be flat.*Put a Flatten layer before it"),
            ([Conv2d(2, 3)], (4,), r"conv1: input must be an image of shape \(C, H, W\)"),
            ([MaxPool2d(2)], (4,), "pool1: input must be an image"),
            ([GlobalAvgPool2d()], (4,), "pool1: input must be an image"),
            (
                [Conv2d(2, 7)],
                IMAGE,
                "conv1: kernel_size must be at most the padded input, 6; got 7",
            ),
            ([MaxPool2d(4), MaxPool2d(4)], IMAGE, r"pool2: kernel_size .* Use fewer poolings"),
            (
                [Conv2d(3, 3, groups=3)],
                IMAGE,
                "conv1: input channels must be divisible by groups = 3",
            ),
            ([GroupNorm(3)], IMAGE, "gn1: input channels must be divisible by num_groups = 3"),
            ([BatchNorm()], (2, 3), "bn1: input must be"),
        ],
        ids=lambda value: type(value[0]).__name__ if isinstance(value, list) else "",
    )
    def test_layers_that_do_not_fit(self, layers, shape, message):
        model = Sequential([*layers, Flatten(), Linear(3)])
        with pytest.raises(ShapeError, match=message):
            model.init(np.random.default_rng(0), shape)

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Linear(0), "out_features must be at least 1; got 0"),
            (lambda: Conv2d(0, 3), "out_channels must be at least 1"),
            (lambda: Conv2d(2, 0), "kernel_size must be at least 1"),
            (lambda: Conv2d(2, 3, stride=(1, 0)), "stride must be at least 1"),
            (lambda: Conv2d(2, 3, padding=-1), "padding must be at least 0 or 'same'"),
            (lambda: Conv2d(2, 4, padding="same"), "kernel_size must be odd with padding 'same'"),
            (lambda: Conv2d(4, 3, groups=3), "groups must divide out_channels = 4"),
            (lambda: Conv2d(4, 3, groups=0), "groups must be at least 1"),
            (lambda: MaxPool2d(0), "kernel_size must be at least 1"),
            (lambda: AvgPool2d(2, stride=0), "stride must be at least 1"),
            (lambda: AvgPool2d(2, padding=-1), "padding must be at least 0"),
            (lambda: MaxPool2d(2, padding=2), "padding must be at most half the kernel; got 2"),
            (lambda: BatchNorm(momentum=2), r"momentum must lie in \[0, 1\]"),
            (lambda: BatchNorm(eps=0), "eps must be positive"),
            (lambda: LayerNorm(eps=-1.0), "eps must be positive"),
            (lambda: GroupNorm(2, eps=0.0), "eps must be positive"),
            (lambda: GroupNorm(0), "num_groups must be at least 1"),
            (lambda: Dropout(1.0), r"p must lie in \[0, 1\)"),
        ],
        ids=lambda value: value[:30] if isinstance(value, str) else "",
    )
    def test_options_out_of_range(self, make, message):
        with pytest.raises(ConfigError, match=message):
            make()
