"""The loop: what is recorded, evaluated, kept and repeated."""

import json
import time

import numpy as np
import pytest

from chainrule.data import Augment, BatchIterator
from chainrule.errors import ConfigError, InputError, RunError
from chainrule.models import FunctionModel, mlp, softmax, two_layer, vgg_small
from chainrule.optim import make_schedule
from chainrule.records import CheckpointStore, MetricsLog
from chainrule.training import Arrays, Callback, History, Trainer, fit, load_config

VOLATILE = {"seconds", "images_per_second"}


def walker(start=0.0, target=3.0, sleep=0.0):
    """A model that walks along a line at the pace of the learning rate, whatever its loss.

    Its gradient is -1, so that after n steps of plain descent the weight is ``n * lr``; its loss
    is the squared distance from a target, which it passes and leaves behind.
    """

    def loss_and_grads(params, x, y):
        time.sleep(sleep)
        return float((params["w"][0] - target) ** 2), {"w": -np.ones(1)}

    return FunctionModel(loss_and_grads, {"w": np.full(1, start)})


def line(count=4):
    return np.zeros((count, 1)), np.zeros(count, np.int64)


def walk(model=None, count=4, **settings):
    """Train a walker; a step an epoch and half a unit a step unless said otherwise."""
    model = model or walker()
    defaults = {"optimizer": "sgd", "lr": 0.5, "epochs": 20, "batch_size": 4, "log_every": 1}
    rng = np.random.default_rng(0)
    return model, fit(model, *line(count), *line(2), rng=rng, **(defaults | settings))


def images(count=40, seed=0, classes=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 1, 6, 6)).astype(np.float32)
    return Arrays(x, (x.mean(axis=(1, 2, 3)) * 20).astype(np.int64) % classes)


def network(seed=0):
    """Everything that has a state: batch norm's statistics and dropout's generator."""
    model = vgg_small(3, channels=[[4], [5]], dropout=0.3)
    model.init(np.random.default_rng(seed), (1, 6, 6))
    return model


EVERYTHING = {
    "optimizer": "adam",
    "lr": 0.01,
    "epochs": 3,
    "batch_size": 12,
    "clip_norm": 1.0,
    "ema_decay": 0.9,
    "schedule": "cosine",
    "flip": True,
    "shift": 1,
    "cutout": 2,
    "l2": 1e-3,
    "log_every": 2,
}


def trainer(settings=EVERYTHING, seed=0, data=None, model=None, **options):
    config = load_config(settings=settings)
    rng = np.random.default_rng(seed)
    val = images(20, seed=9)
    return Trainer(model or network(), data or images(), val, config, rng, **options)


def bits(model):
    return {k: v.tobytes() for k, v in (model.params | model.buffers).items()}


def stable(records):
    return [{k: v for k, v in record.items() if k not in VOLATILE} for record in records]


class TestRecords:
    def test_steps(self):
        _, history = walk(epochs=3, count=10, log_every=4)
        steps = [r for r in history.records if r["kind"] == "step"]
        assert [r["step"] for r in steps] == [1, 4, 8, 9]  # the first, each fourth and the last
        assert [r["epoch"] for r in steps] == pytest.approx([1 / 3, 4 / 3, 8 / 3, 3])
        assert [r["loss"] for r in steps] == [(0.5 * (n - 1) - 3) ** 2 for n in (1, 4, 8, 9)]
        assert all(r["images_per_second"] > 0 for r in steps)
        assert "accuracy" not in steps[0]  # a function without scores has none
        assert history.series("loss", "step") == [r["loss"] for r in steps]
        seconds = [r["seconds"] for r in history.records if "seconds" in r]
        assert seconds == sorted(seconds)
        assert history.seconds >= seconds[-1] > 0

    @pytest.mark.parametrize(
        ("every", "expected"),
        [("epoch", [3, 6, 9]), (2, [2, 4, 6, 8, 9]), (100, [9])],
    )
    def test_evaluations(self, every, expected):
        _, history = walk(epochs=3, count=10, eval_every=every)
        evaluations = [r for r in history.records if r["kind"] == "evaluation"]
        assert [r["step"] for r in evaluations] == expected
        assert [r["val_loss"] for r in evaluations] == [(0.5 * n - 3) ** 2 for n in expected]
        assert [r["epoch"] for r in evaluations] == pytest.approx([n / 3 for n in expected])

    def test_evaluation_is_that_of_the_model(self):
        data = images()
        val = images(30, seed=5)
        model = two_layer(3, hidden=8)
        model.init(np.random.default_rng(0), (1, 6, 6))
        history = fit(
            model,
            data.x,
            data.y,
            val.x,
            val.y,
            rng=np.random.default_rng(1),
            epochs=1,
            eval_train_examples=15,
        )
        (record,) = [r for r in history.records if r["kind"] == "evaluation"]
        scores = model.forward(val.x).astype(np.float64)
        logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        assert record["val_loss"] == pytest.approx(-logs[np.arange(30), val.y].mean(), rel=1e-5)
        assert record["val_accuracy"] == np.mean(scores.argmax(axis=1) == val.y)
        assert record["train_accuracy"] == np.mean(model.predict(data.x[:15]) == data.y[:15])

    def test_layers(self):
        """Statistics of the step before each evaluation, against the arrays themselves."""
        data = images(12)
        model = mlp(3, hidden=[5], dropout=0.0)
        model.init(np.random.default_rng(0), (1, 6, 6))
        before = {key: value.copy() for key, value in model.params.items()}
        _, grads = model.loss_and_grads(data.x, data.y)
        outputs = {}
        model.forward(data.x, observe=outputs.__setitem__)
        history = fit(
            model,
            data.x,
            data.y,
            rng=np.random.default_rng(0),
            optimizer="sgd",
            lr=0.1,
            epochs=1,
            batch_size=12,
        )
        (record,) = [r for r in history.records if r["kind"] == "layers"]
        assert record["step"] == 1
        assert list(record["layers"]) == ["flatten1", "linear1", "relu1", "linear2"]
        for name, out in outputs.items():
            assert record["layers"][name] == pytest.approx(
                {
                    "activation_mean": out.mean(),
                    "activation_std": out.std(),
                    "activation_zeros": np.mean(out == 0),
                },
                rel=1e-4,
                abs=1e-6,
            )
        assert list(record["parameters"]) == list(model.params)
        for name, old in before.items():
            statistics = record["parameters"][name]
            assert statistics["weight_norm"] == pytest.approx(np.sqrt((old**2).sum()))
            assert statistics["grad_norm"] == pytest.approx(np.linalg.norm(grads[name]), rel=1e-4)
            if old.any():
                ratio = 0.1 * np.linalg.norm(grads[name]) / np.linalg.norm(old)
                assert statistics["update_ratio"] == pytest.approx(ratio, rel=1e-3)
            else:
                assert np.isnan(statistics["update_ratio"])  # biases begin at zero

    def test_log_holds_what_the_history_holds(self, tmp_path):
        with MetricsLog(tmp_path / "metrics.jsonl") as log:
            history = trainer(log=log).fit()
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        logged = [json.loads(line) for line in lines]
        kept = json.loads(json.dumps(history.records).replace("NaN", "null"))
        assert logged == kept

    def test_rates_are_those_of_the_schedule(self):
        settings = EVERYTHING | {"schedule": "one_cycle", "warmup_epochs": 0.5, "log_every": 1}
        history = trainer(settings).fit()
        schedule = make_schedule("one_cycle", 0.01, 12, 4, warmup_steps=2)
        rates = history.series("lr", "step")
        assert rates == [schedule.lr_at(step) for step in range(12)]
        assert len(set(rates)) > 6
        assert history.series("lr") == [rates[3], rates[7], rates[11]]


class TestBest:
    def test_weights_of_the_best_evaluation_are_left(self):
        model, history = walk()
        assert model.params["w"] == 3.0
        assert history.best["step"] == 6
        assert history.best["val_loss"] == 0
        assert history.stopped == "completed"
        best = [r["best"] for r in history.records if r["kind"] == "evaluation"]
        assert best == [True] * 6 + [False] * 14

    def test_the_first_of_equals(self):
        """Two halves of a step on either side of the target are equally good."""
        model, history = walk(walker(start=0.25))
        assert history.best["step"] == 5
        assert model.params["w"] == 2.75

    def test_accuracy_goes_before_loss(self):
        """A weight that makes all right at step 2, while the loss falls for ever."""

        def loss_and_grads(params, x, y):
            return -float(params["w"][0]), {"w": -np.ones(1)}

        def scores(params, x):
            right = 0.5 < params["w"][0] < 1.5
            return np.tile([1.0, 0.0] if right else [0.0, 1.0], (len(x), 1))

        model = FunctionModel(loss_and_grads, {"w": np.zeros(1)}, scores)
        _, history = walk(model)
        assert history.best["step"] == 2
        assert history.best["val_accuracy"] == 1
        assert model.params["w"] == 1.0

    def test_of_equal_accuracies_the_lower_loss(self):
        model = walker()
        model = FunctionModel(model._loss_and_grads, model.params, lambda params, x: np.eye(len(x)))
        _, history = walk(model)
        assert set(history.series("val_accuracy")) == {0.5}
        assert history.best["step"] == 6
        assert model.params["w"] == 3.0

    def test_training_loss_decides_without_validation(self):
        model = walker()
        fit(model, *line(), rng=np.random.default_rng(0), optimizer="sgd", lr=0.5, epochs=20)
        assert model.params["w"] == 3.0

    def test_from_the_checkpoint_where_there_is_one(self, tmp_path):
        store = CheckpointStore(tmp_path)
        model, config = walker(), load_config(settings={"optimizer": "sgd", "lr": 0.5})
        arrays = Arrays(*line())
        Trainer(model, arrays, arrays, config, np.random.default_rng(0), store=store).fit()
        assert model.params["w"] == 3.0
        assert store.load("best").state["step"] == 6
        assert store.load("best").tensors["params/w"] == 3.0
        assert store.load("last").state["step"] == 10
        assert store.load("last").tensors["params/w"] == 5.0

    def test_running_statistics_belong_to_the_weights(self):
        """The best evaluation's buffers come back with its weights."""

        class Remember(Callback):
            def on_start(self, trainer):
                self.trainer, self.kept = trainer, {}

            def on_evaluation(self, record):
                if record["best"]:
                    self.kept = bits(self.trainer.model)

        remember = Remember()
        settings = EVERYTHING | {"ema_decay": 0.0, "lr": 2.0, "epochs": 6}  # average = weights
        model = network()
        history = trainer(settings, model=model, callbacks=[remember]).fit()
        assert history.best["step"] < 24
        assert bits(model) == remember.kept


class TestStopping:
    def test_patience(self):
        model, history = walk(patience=3)
        assert history.stopped == "patience"
        assert history.series("step")[-1] == 9  # best at 6, then three that are worse
        assert model.params["w"] == 3.0

    def test_patience_begins_anew_at_each_improvement(self):
        _, history = walk(patience=1)
        assert history.series("step")[-1] == 7

    def test_max_time_evaluates_what_there_is(self):
        model, history = walk(walker(sleep=0.02), epochs=1, count=4000, max_time=0.2)
        assert history.stopped == "max_time"
        assert 0.2 <= history.seconds < 5
        (record,) = [r for r in history.records if r["kind"] == "evaluation"]
        assert 1 <= record["step"] <= 10
        assert model.params["w"] == record["step"] * 0.5
        assert [r["kind"] for r in history.records].count("layers") == 0  # not observed in time

    def test_fast_dev_run(self):
        _, history = walk(fast_dev_run=True, count=400)
        assert history.stopped == "fast_dev_run"
        assert history.series("step", "step") == [1, 2, 3, 4, 5]
        assert history.series("step") == [5]

    def test_fast_dev_run_evaluates_one_batch(self):
        assert len(trainer(EVERYTHING | {"fast_dev_run": True}).val.x) == 12

    def test_fast_dev_run_of_fewer_steps(self):
        _, history = walk(fast_dev_run=True, epochs=2)
        assert history.series("step", "step") == [1, 2]

    def test_request(self):
        class Impatient(Callback):
            def on_start(self, trainer):
                self.trainer = trainer

            def on_step(self, record):
                if record["step"] == 8:
                    self.trainer.stop_requested = "interrupted"

        model, history = walk(callbacks=[Impatient()])
        assert history.stopped == "interrupted"
        assert history.series("step")[-1] == 8
        assert model.params["w"] == 4.0  # where it was interrupted, not the best


class TestBatches:
    def test_each_epoch_visits_each_example_once(self):
        seen = []

        def loss_and_grads(params, x, y):
            seen.append(x[:, 0].copy())
            assert (x[:, 0] == y).all()
            return 1.0, {"w": np.ones(1)}

        x = np.arange(10.0)[:, None]
        model = FunctionModel(loss_and_grads, {"w": np.ones(1)})
        fit(model, x, np.arange(10), rng=np.random.default_rng(0), epochs=3, batch_size=4)
        batches = [batch for batch in seen if len(batch) < 10]  # evaluations see all ten
        assert [len(batch) for batch in batches] == [4, 4, 2] * 3
        epochs = np.concatenate(batches).reshape(3, 10)
        assert (np.sort(epochs, axis=1) == np.arange(10)).all()
        assert (epochs[0] != epochs[1]).any()

    def test_overfit_batches(self):
        seen = set()

        def loss_and_grads(params, x, y):
            seen.update(x[:, 0].tolist())
            return float(len(x)), {"w": np.ones(1)}

        x = np.arange(100.0)[:, None]
        model = FunctionModel(loss_and_grads, {"w": np.ones(1)})
        history = fit(
            model,
            x,
            np.arange(100),
            x + 1000,
            np.arange(100),
            rng=np.random.default_rng(0),
            overfit_batches=2,
            batch_size=5,
            epochs=3,
        )
        assert seen == set(range(10))
        assert history.series("step") == [2, 4, 6]
        assert history.series("val_loss") == history.series("train_loss")

    @pytest.mark.parametrize("norm", ["none", "batch"])
    def test_a_last_batch_of_one(self, norm):
        """Batch normalisation cannot have it; all others do."""
        model = mlp(3, hidden=[4], norm=norm)
        model.init(np.random.default_rng(0), (1, 6, 6))
        data = images(13)
        history = fit(model, data.x, data.y, rng=np.random.default_rng(0), epochs=2, batch_size=4)
        assert history.series("step") == ([3, 6] if norm == "batch" else [4, 8])
        assert history.series("epoch") == [1, 2]

    def test_one_example(self):
        data = images(1)
        model = softmax(3)
        model.init(np.random.default_rng(0), (1, 6, 6))
        history = fit(model, data.x, data.y, rng=np.random.default_rng(0), epochs=2)
        assert history.series("step") == [1, 2]

    def test_augmentation_in_training_only(self):
        data, seen = images(8), []

        class Spy(FunctionModel):
            def scores(self, x, batch_size=500):
                seen.append(("evaluation", x.copy()))
                return np.zeros((len(x), 3))

        def loss_and_grads(params, x, y):
            seen.append(("step", x.copy()))
            return 1.0, {"w": np.ones(1)}

        model = Spy(
            loss_and_grads, {"w": np.ones(1)}, scores=lambda params, x: np.zeros((len(x), 3))
        )
        fit(
            model,
            data.x,
            data.y,
            rng=np.random.default_rng(4),
            epochs=1,
            batch_size=8,
            flip=True,
            shift=2,
            cutout=1,
        )
        order, noise, _ = np.random.default_rng(4).spawn(3)
        _, indices = BatchIterator(8, 8, order).next_batch()
        expected = Augment(True, 2, 1)(data.x[indices], noise)
        np.testing.assert_array_equal(seen[0][1], expected)
        assert (expected != data.x[indices]).any()
        for kind, x in seen[1:]:
            np.testing.assert_array_equal(x, data.x, err_msg=kind)

    def test_data_are_not_touched(self):
        data = images()
        before = data.x.copy(), data.y.copy()
        for array in (data.x, data.y):
            array.setflags(write=False)
        trainer(data=data).fit()
        np.testing.assert_array_equal(data.x, before[0])
        np.testing.assert_array_equal(data.y, before[1])


class TestUpdates:
    def test_clip_norm(self):
        def loss_and_grads(params, x, y):
            return 1.0, {"w": np.array([30.0, 40.0])}

        model = FunctionModel(loss_and_grads, {"w": np.zeros(2)})
        fit(
            model,
            *line(),
            rng=np.random.default_rng(0),
            optimizer="sgd",
            lr=1,
            epochs=1,
            clip_norm=5,
        )
        np.testing.assert_allclose(model.params["w"], [-3, -4], rtol=1e-6)

    def test_evaluation_uses_the_averages(self):
        model, history = walk(ema_decay=0.5, epochs=8)
        average, expected = 0.5, []
        for step in range(1, 9):
            average += 0.5 * (0.5 * step - average)
            expected.append((average - 3) ** 2)
        assert history.series("val_loss") == pytest.approx(expected)
        assert history.series("loss", "step") == [(0.5 * n - 3) ** 2 for n in range(8)]
        best = history.best["step"]
        assert (model.params["w"][0] - 3) ** 2 == pytest.approx(expected[best - 1])

    def test_penalty_is_in_the_loss_of_steps_only(self):
        def loss_and_grads(params, x, y):
            return 0.0, {"w": np.zeros((1, 1))}

        model = FunctionModel(loss_and_grads, {"w": np.full((1, 1), 2.0)})
        _, history = walk(model, l2=0.1, epochs=1)
        assert history.series("loss", "step") == pytest.approx([0.2])
        assert history.series("val_loss") == [0]


class TestRepetition:
    def test_same_seed_same_bits(self):
        results = []
        for _ in range(2):
            model = network()
            history = trainer(model=model).fit()
            results.append((bits(model), stable(history.records)))
        assert repr(results[0]) == repr(results[1])  # repr: NaN equals itself

    @pytest.mark.parametrize("change", ["order", "weights"])
    def test_another_seed_other_bits(self, change):
        first, second = network(), network(seed=1 if change == "weights" else 0)
        trainer(model=first).fit()
        trainer(model=second, seed=1 if change == "order" else 0).fit()
        assert all(bits(first)[key] != value for key, value in bits(second).items())

    @pytest.mark.parametrize("rule", ["sgd", "nesterov", "rmsprop", "adagrad", "adam", "adamw"])
    def test_restored_at_any_step_it_goes_on_with_the_same_bits(self, tmp_path, rule):
        settings = EVERYTHING | {"optimizer": rule, "log_every": 1}
        undisturbed = network()
        whole = trainer(settings, model=undisturbed).fit()

        class Stop(Callback):
            def on_start(self, trainer):
                trainer.stop_requested = "interrupted"  # after the very next step

        model, records = network(), []
        for _ in range(13):
            model = network(seed=7)  # other weights: all must come from the checkpoint
            store = CheckpointStore(tmp_path)
            again = trainer(settings, seed=5 if records else 0, model=model, store=store)
            if records:
                again.restore(store.load("last"))
            else:
                model.params = {k: v.copy() for k, v in network().params.items()}
            again.callbacks = [Stop()]
            history = again.fit()
            records += history.records
        assert history.stopped == "completed"
        assert bits(model) == bits(undisturbed)
        assert repr(stable(records)) == repr(stable(whole.records))
        assert stable([history.best]) == stable([whole.best])

    def test_patience_counts_on(self, tmp_path):
        """Two evaluations without improvement before the interruption and one after it."""
        config = load_config(settings={"optimizer": "sgd", "lr": 0.5, "epochs": 20, "patience": 3})
        arrays, store = Arrays(*line()), CheckpointStore(tmp_path)
        first = Trainer(walker(), arrays, arrays, config, np.random.default_rng(0), store=store)

        class Stop(Callback):
            def on_step(self, record):
                if record["step"] == 8:
                    first.stop_requested = "interrupted"

        first.callbacks = [Stop()]
        first.fit()
        model = walker()
        second = Trainer(model, arrays, arrays, config, np.random.default_rng(0), store=store)
        second.restore(store.load("last"))
        history = second.fit()
        assert history.stopped == "patience"
        assert history.series("step") == [9]
        assert model.params["w"] == 3.0

    def test_a_finished_run_stays_as_it_is(self, tmp_path):
        store = CheckpointStore(tmp_path)
        model = network()
        trainer(model=model, store=store).fit()
        again = network(seed=3)
        finished = trainer(model=again, store=store)
        finished.restore(store.load("last"))
        history = finished.fit()
        assert (history.stopped, history.records) == ("completed", [])
        assert bits(again) == bits(model)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"data": images(40, seed=8)}, "training data are not those that the run was started"),
            ({"data": images(39)}, "training data are not those that the run was started"),
            ({"model": "mlp"}, "the checkpoint belongs to another network"),
            (
                {"settings": EVERYTHING | {"optimizer": "momentum"}},
                "Was it saved by another optimizer",
            ),
            ({"settings": EVERYTHING | {"batch_size": 10}}, "batch_size must be 10; got 12"),
        ],
        ids=["other images", "fewer images", "network", "optimizer", "batch size"],
    )
    def test_restored_into_something_else(self, change, message):
        begun = trainer()
        begun.fit()
        checkpoint = begun.state()
        if change.get("model"):
            change = {"model": mlp(3)}
            change["model"].init(np.random.default_rng(0), (1, 6, 6))
        with pytest.raises(RunError, match=message):
            trainer(**change).restore(checkpoint)

    def test_checkpoint_every(self, tmp_path):
        steps = []

        class Spy(CheckpointStore):
            def save(self, checkpoint, *, best=False):
                steps.append((checkpoint.state["step"], best))
                super().save(checkpoint, best=best)

        settings = {"optimizer": "sgd", "lr": 0.5, "epochs": 8, "checkpoint_every": 3}
        arrays, rng = Arrays(*line()), np.random.default_rng(0)
        Trainer(
            walker(target=1.0),
            arrays,
            arrays,
            load_config(settings=settings),
            rng,
            store=Spy(tmp_path),
        ).fit()
        # Each best one, each third and the last.
        assert steps == [(1, True), (2, True), (3, False), (6, False), (8, False)]


class TestCallbacks:
    def test_are_told_everything_in_order(self):
        told = []

        class Spy(Callback):
            def on_start(self, trainer):
                told.append(("start", trainer.total_steps))

            def on_step(self, record):
                told.append(("step", record["step"]))

            def on_evaluation(self, record):
                told.append(("evaluation", record["step"]))

            def on_end(self, history):
                told.append(("end", history.stopped))

        walk(epochs=2, count=8, log_every=100, callbacks=[Spy()])
        assert told == [
            ("start", 4),
            ("step", 1),
            ("step", 2),
            ("evaluation", 2),
            ("step", 3),
            ("step", 4),
            ("evaluation", 4),
            ("end", "completed"),
        ]

    def test_end_is_told_after_an_error_too(self):
        told = []

        class Spy(Callback):
            def on_step(self, record):
                raise RuntimeError("from the callback")

            def on_end(self, history):
                told.append("end")

        with pytest.raises(RuntimeError, match="from the callback"):
            walk(callbacks=[Spy()])
        assert told == ["end"]

    def test_may_leave_out_what_they_like(self):
        walk(epochs=1, callbacks=[Callback()])


class TestErrors:
    def test_no_examples(self):
        with pytest.raises(InputError, match="train must hold at least one example; got 0"):
            fit(walker(), *line(0), rng=np.random.default_rng(0))

    def test_lengths(self):
        with pytest.raises(InputError, match="y must have 4 labels; got 3"):
            Arrays(np.zeros((4, 1)), np.zeros(3))

    def test_half_a_validation_split(self):
        with pytest.raises(InputError, match="x_val and y_val must come together"):
            fit(walker(), *line(), np.zeros((2, 1)), rng=np.random.default_rng(0))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"epoch": 3}, r"key 'epoch' is not known\. Did you mean 'epochs'"),
            ({"optimizer": "adm"}, r"'adm'.*Did you mean 'adam'"),
            ({"schedule": "cosin"}, r"'cosin'.*Did you mean 'cosine'"),
            ({"optimizer": "sgd", "betas": [0.9, 0.9]}, "betas"),
            ({"dropout": 0.5}, "fit: 'dropout' has no meaning here"),
            ({"preprocess": "none"}, "fit: 'preprocess' has no meaning here"),
            ({"seed": 1}, "fit: 'seed' has no meaning here"),
        ],
    )
    def test_settings(self, settings, message):
        with pytest.raises(ConfigError, match=message):
            fit(walker(), *line(), rng=np.random.default_rng(0), **settings)


def test_history_without_records():
    history = History()
    assert history.series("loss") == []
    assert history.best == {}


def test_of_equal_accuracies_the_lower_loss_is_better():
    from chainrule.training.loop import _merit

    low, high = {"val_accuracy": 0.5, "val_loss": 1.0}, {"val_accuracy": 0.5, "val_loss": 2.0}
    assert _merit(low) > _merit(high)
    assert _merit(high | {"val_accuracy": 0.6}) > _merit(low)
    assert _merit({"val_accuracy": 0.5, "val_loss": float("nan")}) < _merit(high)
