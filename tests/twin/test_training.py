"""Whole runs by PyTorch: equal to NumPy's, resumable, and open to the other backend."""

import json

import numpy as np
import pytest

from chainrule import twin as room
from chainrule.errors import ConfigError, DataMissingError, DivergedError, RunError
from chainrule.models import FunctionModel, Sequential, two_layer
from chainrule.optim import make_schedule
from chainrule.records import Checkpoint
from chainrule.report import make_report
from chainrule.training import (
    Arrays,
    Callback,
    Trainer,
    evaluate_run,
    load_config,
    load_run,
    predict_run,
    resume_run,
    train_run,
)
from chainrule.twin import BACKENDS

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
TwinScorer = room.TwinScorer
learner = pytest.importorskip("chainrule.twin.learner")

SMALL = ("data.num_train=150", "data.num_test=60", "batch_size=32", "epochs=3")
VGG = ("model.name=vgg_small", "channels=[[4],[5]]", "flip=true", "shift=1", "cutout=2")
RULES = ("l2=0.01", "clip_norm=0.5", "ema_decay=0.8", "schedule.name=one_cycle", "log_every=1")
SPEED = ("model.name=speednet", "channels=[4,5]", "ema_decay=0.9", "tta=flip_shift", "shift=1")
EVERYTHING = (*VGG, *RULES, "lr=0.01")


def config_of(backend, *settings):
    device = ["backend.device=cpu"] if backend == "torch" else []
    return load_config(overrides=[*SMALL, f"backend.name={backend}", *device, *settings])


def train(folder, backend, *settings, **options):
    return train_run(config_of(backend, *settings), folder, backends=BACKENDS, **options)


def bits(model):
    return {k: v.tobytes() for k, v in (model.params | model.buffers).items()}


def stop_at(step):
    class Stop(Callback):
        def on_start(self, trainer):
            self.trainer = trainer

        def on_step(self, record):
            if record["step"] == step:
                self.trainer.stop_requested = "interrupted"

    return [Stop()]


@pytest.mark.parametrize(
    "settings",
    [
        EVERYTHING,
        ("model.name=mlp", "optimizer.name=rmsprop", "norm=batch", "label_smoothing=0.1"),
        ("model.name=svm", "optimizer.name=momentum", "lr_in_velocity=true", "l2=0.1"),
        (*VGG, "backend.channels_last=true"),
        SPEED,
    ],
)
def test_the_same_run_as_by_numpy(tmp_path, settings):
    """Records, weights and files, in float64; NumPy knows nothing of the layout in memory."""
    ours = [s for s in settings if not s.startswith("backend")]
    numpy = train(tmp_path, "numpy", *ours, "dtype=float64")
    torch_run = train(tmp_path, "torch", *settings, "dtype=float64")
    for key, kind in (("loss", "step"), ("lr", "step"), ("accuracy", "step")):
        expected = numpy.history.series(key, kind)
        assert torch_run.history.series(key, kind) == pytest.approx(expected, abs=1e-9)
    for key in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        expected = numpy.history.series(key)
        assert torch_run.history.series(key) == pytest.approx(expected, abs=1e-9)
    assert list(torch_run.model.params) == list(numpy.model.params)
    for own, other in (
        (numpy.model.params, torch_run.model.params),
        (numpy.model.buffers, torch_run.model.buffers),
    ):
        for key, value in own.items():
            np.testing.assert_allclose(other[key], value, rtol=0, atol=1e-9, err_msg=key)
    files = [{p.relative_to(r.run.path) for p in r.run.path.rglob("*")} for r in (numpy, torch_run)]
    assert files[0] == files[1]


def test_statistics_of_layers_and_parameters(tmp_path):
    records = [
        next(r for r in train(tmp_path, b, *EVERYTHING).history.records if r["kind"] == "layers")
        for b in ("numpy", "torch")
    ]
    for group in ("layers", "parameters"):
        assert list(records[0][group]) == list(records[1][group])
        for name, expected in records[0][group].items():
            found = records[1][group][name]
            assert found == pytest.approx(expected, rel=1e-2, abs=1e-4, nan_ok=True)


class TestResume:
    SETTINGS = (*EVERYTHING, "dropout=0.4")

    def test_to_the_same_bits(self, tmp_path):
        whole = train(tmp_path, "torch", *self.SETTINGS)
        begun = train(tmp_path, "torch", *self.SETTINGS, callbacks=stop_at(7))
        assert begun.history.stopped == "interrupted"
        assert bits(begun.model) != bits(whole.model)
        done = resume_run(begun.run.path, backends=BACKENDS)
        assert done.history.stopped == "completed"
        assert bits(done.model) == bits(whole.model)
        for which in ("last", "best"):
            tensors = [r.run.checkpoints.load(which).tensors for r in (whole, done)]
            assert tensors[0].keys() == tensors[1].keys()
            assert all(tensors[0][k].tobytes() == tensors[1][k].tobytes() for k in tensors[0])
        losses = [[r["loss"] for r in one.run.metrics("step")] for one in (whole, done)]
        assert losses[0] == losses[1]

    @pytest.mark.parametrize(
        "settings",
        [
            ("optimizer.name=rmsprop",),
            ("optimizer.name=momentum", "lr_in_velocity=true"),
            ("optimizer.name=adagrad", "backend.precision=fp16"),
            ("optimizer.name=nesterov", "backend.precision=bf16", "backend.channels_last=true"),
        ],
    )
    def test_of_every_rule_and_precision(self, tmp_path, settings):
        words = (*VGG, "schedule.name=cosine", *settings)
        whole = train(tmp_path, "torch", *words)
        begun = train(tmp_path, "torch", *words, callbacks=stop_at(6))
        assert bits(resume_run(begun.run.path, backends=BACKENDS).model) == bits(whole.model)

    def test_dropout_is_the_runs_own(self, tmp_path):
        """Neither does the caller's generator change the run, nor the run the generator."""
        torch.manual_seed(1)
        first = train(tmp_path, "torch", *self.SETTINGS)
        state = torch.get_rng_state()
        torch.manual_seed(1)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(2)
        assert bits(train(tmp_path, "torch", *self.SETTINGS).model) == bits(first.model)
        other = train(tmp_path, "torch", *self.SETTINGS, "seed=1")
        assert bits(other.model) != bits(first.model)

    def test_a_checkpoint_of_the_other_backend(self, tmp_path):
        begun = train(tmp_path, "numpy", "model.name=softmax", callbacks=stop_at(2))
        file = begun.run.path / "config.toml"
        file.write_text(file.read_text().replace('name = "numpy"', 'name = "torch"'))
        with pytest.raises(RunError, match="checkpoint was written by the NumPy backend"):
            resume_run(begun.run.path, backends=BACKENDS)


class TestTheOtherBackend:
    @pytest.mark.parametrize("backend", ["numpy", "torch"])
    def test_evaluates_predicts_and_reports(self, tmp_path, backend):
        path = train(tmp_path, backend, *VGG).run.path
        first = evaluate_run(path, "test")
        second = evaluate_run(path, "test", scorer=TwinScorer)
        assert second["loss"] == pytest.approx(first["loss"], abs=1e-6)
        assert second["confusion"] == first["confusion"]
        from PIL import Image

        Image.new("L", (8, 8), 90).save(tmp_path / "grey.png")
        rows = [predict_run(path, [tmp_path / "grey.png"], scorer=s) for s in (None, TwinScorer)]
        assert rows[0][0]["probability"] == pytest.approx(rows[1][0]["probability"], abs=1e-6)
        assert rows[0][0]["class"] == rows[1][0]["class"]
        assert make_report(path, formats=("png",)).page.is_file()

    @pytest.mark.parametrize("backends", [("numpy", "torch"), ("torch", "numpy")])
    def test_goes_on_from_its_weights(self, tmp_path, backends):
        first = train(tmp_path, backends[0], *VGG)
        second = train(tmp_path, backends[1], *VGG, "lr=1e-12", "epochs=1", start=first.run.path)
        for key, value in first.model.params.items():
            np.testing.assert_allclose(second.model.params[key], value, rtol=0, atol=1e-6)

    def test_refuses_weights_that_do_not_fit(self, tmp_path):
        first = train(tmp_path, "numpy", "model.name=softmax")
        with pytest.raises(RunError, match=r"its weights do not fit this network"):
            train(tmp_path, "torch", *VGG, start=first.run.path)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_short_types_learn_much_the_same(tmp_path, precision):
    words = ("model.name=two_layer", "lr=0.01", "epochs=6")
    full = train(tmp_path, "torch", *words)
    short = train(tmp_path, "torch", *words, f"backend.precision={precision}")
    assert short.history.series("loss", "step") != full.history.series("loss", "step")
    expected = full.history.series("val_loss")
    assert short.history.series("val_loss") == pytest.approx(expected, abs=0.05)
    assert all(value.dtype == np.float32 for value in short.model.params.values())


class TestLossScale:
    """Of fp16, whose small gradients would vanish and whose large ones overflow."""

    def learner(self, scale=1.0):
        model = two_layer(3, hidden=4)
        model.init(np.random.default_rng(0), (5,), "glorot")
        config = config_of("torch", "backend.precision=fp16", "lr=0.1")
        schedule = make_schedule("constant", 0.1, 10, 10)
        made = learner.TorchLearner(model, config, schedule, np.random.default_rng(0))
        x = torch.full((6, 5), scale)
        return made, x, torch.tensor([0, 1, 2, 0, 1, 2])

    def test_a_step_that_overflows_is_skipped(self):
        made, x, y = self.learner(scale=1000.0)
        before, _ = made.network.to_numpy()
        scale = made._scaler.get_scale()
        made.step(x, y, 0, [], False)
        after, _ = made.network.to_numpy()
        assert all((before[key] == after[key]).all() for key in before)
        assert made._scaler.get_scale() < scale

    def test_it_is_part_of_the_state(self):
        made, x, y = self.learner(scale=1000.0)
        made.step(x, y, 0, [], False)
        other = self.learner()[0]
        assert other._scaler.get_scale() != made._scaler.get_scale()
        other.restore(Checkpoint(*made.state()))
        assert other._scaler.get_scale() == made._scaler.get_scale()


def test_what_is_compiled_is_what_is_trained(tmp_path, monkeypatch):
    compiled = []

    def compile_(network):
        compiled.append(network)
        return lambda x: 2 * network(x)

    monkeypatch.setattr(torch, "compile", compile_)
    plain = train(tmp_path, "torch", "model.name=softmax")
    doubled = train(tmp_path, "torch", "model.name=softmax", "backend.compile=true")
    assert len(compiled) == 1
    assert bits(doubled.model) != bits(plain.model)


def test_records_say_what_computed(tmp_path):
    run = train(tmp_path, "torch", "model.name=softmax", "backend.precision=bf16").run
    (session,) = run.environment()["sessions"]
    assert session["backend"] == f"torch {torch.__version__} on cpu, bf16"
    assert run.config()["backend"]["name"] == "torch"
    (session,) = train(tmp_path, "numpy", "model.name=softmax").run.environment()["sessions"]
    assert session["backend"] == "numpy"


def test_a_killed_checkpoint_is_json(tmp_path):
    run = train(tmp_path, "torch", *EVERYTHING, "dropout=0.1").run
    state = run.checkpoints.state("last")
    assert json.loads(json.dumps(state)) == state
    assert set(state["torch"]) == {"schedule", "scaler"}


class TestRefusals:
    def test_divergence_is_told_as_by_numpy(self, tmp_path):
        messages = []
        for backend in ("numpy", "torch"):
            with pytest.raises(DivergedError, match=r"^training: .* must stay finite") as raised:
                train(tmp_path, backend, "model.name=mlp", "optimizer.name=sgd", "lr=1e18")
            messages.append(str(raised.value))
        assert messages[0].partition("got")[0] == messages[1].partition("got")[0]
        assert messages[0].partition(" at step ")[2] == messages[1].partition(" at step ")[2]

    @pytest.mark.parametrize("device", ["cuda", "mps"])
    def test_a_device_that_is_not_there(self, tmp_path, device, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        with pytest.raises(ConfigError, match=rf"device must be cpu or auto .* got '{device}'"):
            train(tmp_path / "runs", "torch", f"backend.device={device}")
        assert not (tmp_path / "runs").exists()

    def test_precision_and_dtype(self, tmp_path):
        with pytest.raises(ConfigError, match=r"model\.dtype must be 'float32' with .*'bf16'"):
            train(tmp_path, "torch", "dtype=float64", "backend.precision=bf16")

    @pytest.mark.parametrize(
        "setting", ["device=cpu", "precision=bf16", "compile=true", "channels_last=true"]
    )
    def test_options_of_pytorch_for_numpy(self, tmp_path, setting):
        key = setting.partition("=")[0]
        with pytest.raises(ConfigError, match=rf"backend\.{key} must be .* the backend 'numpy'"):
            train(tmp_path, "numpy", f"backend.{setting}")

    def test_a_room_without_pytorch(self, tmp_path, monkeypatch):
        with pytest.raises(ConfigError, match=r"must be one of numpy here; got 'torch'"):
            train_run(config_of("torch"), tmp_path)
        monkeypatch.setattr(room.functional, "find_spec", lambda name: None)
        with pytest.raises(DataMissingError, match=r"the backend 'torch': PyTorch is not inst"):
            train(tmp_path, "torch")
        assert list(tmp_path.iterdir()) == []

    def test_models_that_are_no_network(self):
        model = FunctionModel(lambda params, x, y: (0.0, params), {"w": np.zeros(1)})
        arrays = Arrays(np.zeros((2, 1)), np.zeros(2, np.int64))
        with pytest.raises(ConfigError, match=r"must be a Sequential .* got FunctionModel"):
            Trainer(
                model,
                arrays,
                arrays,
                config_of("torch"),
                np.random.default_rng(0),
                learner=learner.TorchLearner,
            )

    def test_a_loss_of_ones_own(self):
        own = two_layer(2)
        model = Sequential(own.layers, loss=lambda scores, y: (0.0, scores))
        model.init(np.random.default_rng(0), (3,))
        arrays = Arrays(np.zeros((2, 3)), np.zeros(2, np.int64))
        with pytest.raises(ConfigError, match="loss must be known by name"):
            Trainer(
                model,
                arrays,
                arrays,
                config_of("torch"),
                np.random.default_rng(0),
                learner=learner.TorchLearner,
            )


def test_best_weights_are_left_in_the_model(tmp_path):
    trained = train(tmp_path, "torch", *EVERYTHING)
    assert bits(trained.model) == bits(load_run(trained.run.path)[2])
