"""Both backends in lock-step: they agree, and where one is spoiled the first tensor is named."""

import math

import numpy as np
import pytest

from chainrule.errors import DataMissingError, GradientMismatchError, InputError
from chainrule.models import BUILTIN
from chainrule.optim import OPTIMIZERS, make_schedule
from chainrule.optim import make_optimizer as numpy_optimizer
from chainrule.training import load_config, prepare

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
networks = pytest.importorskip("chainrule.twin.networks")
optimizers = pytest.importorskip("chainrule.twin.optimizers")
parity = pytest.importorskip("chainrule.twin.parity")
conventions = pytest.importorskip("chainrule.twin.conventions")

SMALL = {"vgg_small": "channels=[[4,4],[6]]", "convnet": "filters=4"}
MLP = ["model.name=mlp", "hidden=[7,6]"]


def compare(*settings, steps=5, **options):
    settings = ["batch_size=32", *settings]
    options = {"conventions": False} | options
    return parity.compare_backends(load_config(overrides=settings), steps, **options)


@pytest.mark.parametrize("name", BUILTIN)
def test_built_in_networks_agree(name):
    report = compare(f"model.name={name}", *([SMALL[name]] if name in SMALL else []))
    assert report.diverged is None
    assert report.largest < 1e-11
    assert [each.step for each in report.steps] == [1, 2, 3, 4, 5]
    parity.raise_if_parted(report)


@pytest.mark.parametrize(
    "settings",
    [
        *(f"optimizer.name={name}" for name in OPTIMIZERS),
        "optimizer.name=rmsprop eps_inside_root=false",
        "optimizer.name=momentum lr_in_velocity=true weight_decay=0.1",
        "optimizer.name=nesterov lr_in_velocity=true",
        "optimizer.name=sgd optimizer.momentum=0.8 optimizer.nesterov=true weight_decay=0.1",
        "optimizer.name=adamw weight_decay=0.3 decay_bias=false",
        "optimizer.name=adam weight_decay=0.3 betas=[0.8,0.9] optimizer.eps=1e-3",
        "optimizer.name=rmsprop weight_decay=0.3 alpha=0.5 decay_bias=false",
        "optimizer.name=adagrad weight_decay=0.3",
    ],
)
def test_optimizers_agree_under_a_changing_rate(settings):
    words = [*MLP, "schedule.name=one_cycle", "optimizer.lr=0.02", *settings.split()]
    report = compare(*words, steps=8)
    assert report.diverged is None
    assert report.largest < 1e-11


@pytest.mark.parametrize(
    "settings",
    [
        "norm=batch l2=0.1 clip_norm=0.1 label_smoothing=0.2",
        "dropout=0.4 norm=layer",
        "loss=multiclass_hinge activation=gelu flip=true shift=1 cutout=2",
        "activation=silu norm=batch dropout=0.2 implementation=numpy fuse=false",
    ],
)
def test_everything_else_agrees(settings):
    report = compare(*MLP, *settings.split())
    assert report.diverged is None
    assert report.largest < 1e-11


def test_a_network_of_ones_own(tmp_path):
    file = tmp_path / "net.toml"
    layers = [
        'type = "batch_norm"\nmomentum = 0.3',
        'type = "conv2d"\nout_channels = 3\nkernel_size = 3\nname = "stem"',
        'type = "tanh"',
        'type = "flatten"',
        'type = "linear"\nout_features = "num_classes"',
    ]
    file.write_text("".join(f"[[layers]]\n{layer}\n" for layer in layers))
    report = compare(f"model.name={file}", "fuse=false")
    names = [(row.kind, row.tensor) for row in report.tensors()]
    assert names == [
        *(("activation", n) for n in ("bn1", "stem", "tanh1", "flatten1", "linear1")),
        ("loss", "loss"),
        # of the last layer first, as they are computed
        *(
            ("gradient", f"{layer}.{key}")
            for layer in ("linear1", "stem", "bn1")
            for key in ("bias", "weight")
        ),
        *(
            ("update", f"{layer}.{key}")
            for layer in ("bn1", "stem", "linear1")
            for key in ("weight", "bias")
        ),
        ("statistic", "bn1.running_mean"),
        ("statistic", "bn1.running_var"),
    ]
    assert report.diverged is None


def test_the_tolerance_and_the_largest_difference():
    report = compare(*MLP, steps=3)
    assert 0 < report.largest == max(row.difference for row in report.tensors())
    strict = compare(*MLP, steps=3, tolerance=0.0)
    assert strict.diverged.step == 1
    worst = max(report.tensors(), key=lambda row: row.difference)
    assert report.steps[worst.step - 1].differences[worst.kind][worst.tensor] == worst.difference


def test_the_same_configuration_gives_the_same_report():
    assert compare(*MLP, "dropout=0.2") == compare(*MLP, "dropout=0.2")


class TestSpoiled:
    """What is wrong on one side is found in the first step and the first tensor it reaches."""

    def first(self, *settings):
        report = compare(*MLP, *settings)
        with pytest.raises(GradientMismatchError, match=r"NumPy and PyTorch must agree to 1e-09"):
            parity.raise_if_parted(report)
        assert len(report.steps) == report.diverged.step
        return report.diverged.step, report.diverged.kind, report.diverged.tensor

    def test_activation(self, monkeypatch):
        wrong = networks.MAKERS | {"relu": lambda layer, shape: torch.nn.GELU()}
        monkeypatch.setattr(networks, "MAKERS", wrong)
        assert self.first("fuse=false") == (1, "activation", "relu1")

    def test_loss(self, monkeypatch):
        right = networks.TwinNetwork.loss
        monkeypatch.setattr(networks.TwinNetwork, "loss", lambda *a: right(*a) + 1e-6)
        assert self.first() == (1, "loss", "loss")

    def test_gradient(self, monkeypatch):
        """The same scores with no gradient at all behind the last layer."""

        class Cut(torch.nn.ReLU):
            def forward(self, x):
                return super().forward(x).detach()

        wrong = networks.MAKERS | {"relu": lambda layer, shape: Cut()}
        monkeypatch.setattr(networks, "MAKERS", wrong)
        right = parity._TorchSide.step

        def padded(side, x, y):
            found = right(side, x, y)
            zeros = {k: np.zeros_like(v) for k, v in found["update"].items()}
            return found | {"gradient": zeros | found["gradient"]}

        monkeypatch.setattr(parity._TorchSide, "step", padded)
        assert self.first() == (1, "gradient", "linear2.bias")

    def test_update(self, monkeypatch):
        right = parity.make_torch_optimizer
        monkeypatch.setattr(
            parity, "make_torch_optimizer", lambda *a, **k: right(*a, **(k | {"eps": 1e-4}))
        )
        assert self.first() == (1, "update", "linear1.weight")

    def test_schedule(self, monkeypatch):
        right = parity.make_torch_schedule

        def stuck(optimizer, schedule):
            plan = right(optimizer, schedule)
            plan.step = lambda: None
            return plan

        monkeypatch.setattr(parity, "make_torch_schedule", stuck)
        words = ("schedule.name=cosine", "optimizer.name=sgd", "lr=0.1")
        assert self.first(*words) == (2, "update", "linear1.weight")

    def test_statistic(self, monkeypatch):
        def wrong(layer, shape):
            module = networks._batch_norm(layer, shape)
            module.momentum = 0.2
            return module

        monkeypatch.setattr(networks, "MAKERS", networks.MAKERS | {"batch_norm": wrong})
        assert self.first("norm=batch") == (1, "statistic", "bn1.running_mean")

    def test_what_is_not_finite(self):
        assert parity._distance(np.array([np.nan]), np.array([np.nan])) == math.inf
        assert parity._distance(np.array([np.inf]), np.array([np.inf])) == math.inf
        assert parity._distance(np.array([1.0, 3000.0]), np.array([1.5, 4000.0])) == 0.25
        assert parity._distance(np.zeros(0), np.zeros(0)) == 0


class TestConventions:
    """Each effect against NumPy's own computation of it."""

    def prepared(self, *settings):
        words = ["batch_size=32", "dtype=float64", *settings]
        return prepare(load_config(overrides=words))

    def effects(self, prepared):
        found = conventions.measure_conventions(prepared)
        return {each.name: each.effect for each in found}

    def batches(self, prepared):
        train = prepared.train
        for i in range(conventions.STEPS):
            yield train.x[32 * i : 32 * i + 32], train.y[32 * i : 32 * i + 32]

    def trained(self, rule, plan="constant", **options):
        prepared, lr = self.prepared(*MLP), options["lr"]
        optimizer = numpy_optimizer(rule, **options)
        schedule = make_schedule(plan, lr, conventions.STEPS, conventions.STEPS)
        for step, (x, y) in enumerate(self.batches(prepared)):
            _, grads = prepared.model.loss_and_grads(x, y)
            optimizer.step(prepared.model.params, grads, schedule.lr_at(step))
        return prepared.model.params

    @pytest.mark.parametrize(
        ("name", "rule", "plan", "lr", "option"),
        [
            ("rmsprop eps", "rmsprop", "constant", 1e-3, "eps_inside_root"),
            ("momentum and rate", "momentum", "cosine", 0.01, "lr_in_velocity"),
        ],
    )
    def test_update_rules(self, name, rule, plan, lr, option):
        first, second = (self.trained(rule, plan, lr=lr, **{option: v}) for v in (True, False))
        expected = max(np.abs(first[k] - second[k]).max() for k in first)
        effect = self.effects(self.prepared(*MLP))[name]
        assert effect == pytest.approx(expected, rel=1e-6)
        assert effect > 1e-5

    def test_statistics(self):
        """By hand, of the first normalised layer; the others' effects are not larger here."""
        prepared = self.prepared("model.name=mlp", "hidden=[7]", "norm=batch")
        effects = self.effects(prepared)
        weight, bias = (prepared.model.params[f"linear1.{k}"] for k in ("weight", "bias"))
        means, variances = [np.zeros(7), np.zeros(7)], [np.ones(7), np.ones(7)]
        for x, _ in self.batches(prepared):
            out = x.reshape(32, -1) @ weight.T + bias
            for i, momentum in enumerate((0.1, 0.9)):
                means[i] = (1 - momentum) * means[i] + momentum * out.mean(axis=0)
                variances[i] = 0.9 * variances[i] + 0.1 * out.var(axis=0, ddof=i)
        expected = np.abs(means[0] - means[1]).max()
        assert effects["batch-norm momentum"] == pytest.approx(expected, rel=1e-9)
        expected = np.abs(variances[0] - variances[1]).max()
        assert effects["batch-norm variance"] == pytest.approx(expected, rel=1e-9)

    def test_hinge(self):
        prepared = self.prepared("model.name=svm")
        x, y = next(self.batches(prepared))
        loss = prepared.model.loss(prepared.model.forward(x), y)[0]
        assert self.effects(prepared)["hinge loss"] == pytest.approx(0.9 * loss)

    def test_initialisation(self):
        prepared = self.prepared("model.name=two_layer")
        state = torch.get_rng_state()
        first, second = (self.effects(prepared)["initialisation"] for _ in range(2))
        assert first == second > 0.01
        assert torch.equal(torch.get_rng_state(), state)

    def test_what_a_network_does_not_have(self):
        effects = self.effects(self.prepared("model.name=softmax"))
        assert [name for name, effect in effects.items() if effect is None] == [
            "batch-norm momentum",
            "batch-norm variance",
            "hinge loss",
        ]

    def test_measured_before_training_and_without_a_trace(self):
        report = compare(*MLP, conventions=True)
        prepared = self.prepared(*MLP)
        before = {k: v.copy() for k, v in prepared.model.params.items()}
        assert report.conventions == conventions.measure_conventions(prepared)
        assert all((prepared.model.params[k] == v).all() for k, v in before.items())


def test_refusals(tmp_path):
    with pytest.raises(InputError, match="parity: steps must be at least 1; got 0"):
        compare(steps=0)
    with pytest.raises(DataMissingError, match=r"net\.toml: there is no such network file"):
        compare(f"model.name={tmp_path / 'net.toml'}")
