"""Runs from configuration to directory and back to a model that predicts."""

import json
import os

import numpy as np
import pytest

from chainrule.errors import (
    ConfigError,
    DataFormatError,
    DataMissingError,
    DivergedError,
    RunError,
    ShapeError,
)
from chainrule.models import Whiten2d, layers_to_tables
from chainrule.records import RunDirectory, load_tensors
from chainrule.training import (
    Callback,
    evaluate_run,
    list_runs,
    load_config,
    load_run,
    predict_run,
    prepare,
    resume_run,
    train_run,
)

VOLATILE = {"seconds", "images_per_second"}
SMALL = ["data.num_train=200", "data.num_test=50", "epochs=2", "batch_size=32", "hidden=12"]

NETWORK = """
loss = "multiclass_hinge"
[[layers]]
type = "conv2d"
out_channels = 4
kernel_size = 3
bias = false
[[layers]]
type = "batch_norm"
[[layers]]
type = "relu"
[[layers]]
type = "flatten"
[[layers]]
type = "dropout"
p = 0.2
[[layers]]
type = "linear"
out_features = "num_classes"
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def trained(*overrides, base=SMALL, **options):
    return train_run(load_config(overrides=[*base, *overrides]), "runs", **options)


def weights(run):
    return {key: value.tobytes() for key, value in run.best_parameters().items()}


def stable(run):
    return [
        {key: value for key, value in record.items() if key not in VOLATILE}
        for record in run.metrics()
    ]


def stop_at(step):
    class Stop(Callback):
        def on_start(self, trainer):
            self.trainer = trainer

        def on_step(self, record):
            if record["step"] == step:
                self.trainer.stop_requested = "interrupted"

    return [Stop()]


@pytest.fixture
def features(tmp_path):
    """A small data set that is no image: two rings."""
    rng = np.random.default_rng(12)
    y = np.arange(200) % 2
    angle = rng.uniform(0, 2 * np.pi, 200)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (1 + y[:, None])
    path = tmp_path / "rings.npz"
    np.savez(path, x=x + 0.1 * rng.normal(size=x.shape), y=y, classes=["inner", "outer"])
    return path


@pytest.fixture
def colours(tmp_path):
    """Small colour pictures of two kinds: stripes along and stripes across."""
    rng = np.random.default_rng(12)
    y = np.arange(120) % 2
    stripes = np.zeros((120, 3, 16, 16))
    stripes[:, :, ::4] = 200
    stripes[y == 1] = stripes[y == 1].swapaxes(2, 3)
    path = tmp_path / "stripes.npz"
    np.savez(path, x=(stripes + rng.uniform(0, 50, stripes.shape)).astype(np.uint8), y=y)
    return path


class TestDirectory:
    def test_holds_everything(self):
        run = trained().run
        files = {str(p.relative_to(run.path)) for p in run.path.rglob("*") if p.is_file()}
        assert {
            "config.toml",
            "environment.json",
            "metrics.jsonl",
            "data.json",
            "preprocessing.safetensors",
            "checkpoints/last.json",
            "checkpoints/best.json",
            "checkpoints/previous.json",
            "evaluation/val.json",
            "evaluation/val.safetensors",
        } <= files
        assert not [name for name in files if name.endswith(".tmp")]
        assert run.name.endswith("_two_layer_digits")
        assert run.data() == {
            "name": "digits",
            "classes": [str(n) for n in range(10)],
            "input_shape": [1, 8, 8],
            "num_train": 200,
            "num_val": 200,
            "num_test": 50,
        }
        environment = run.environment()
        assert environment["packages"]["numpy"] == np.__version__
        (session,) = environment["sessions"]
        assert (session["command"], session["step"]) == ("train", 0)

    def test_result_is_that_of_the_model(self):
        """The evaluation that is written, against the model that is returned."""
        done = trained()
        prepared = prepare(load_config(overrides=SMALL))
        record = done.run.evaluation("val")
        predicted = done.model.predict(prepared.val.x)
        assert record["accuracy"] == np.mean(predicted == prepared.val.y)
        assert record["accuracy"] == done.history.best["val_accuracy"]
        assert record["loss"] == pytest.approx(done.history.best["val_loss"])
        mistakes = done.run.evaluation_tensors("val")
        index = mistakes["mistake_index"]
        assert len(index) == min(36, (predicted != prepared.val.y).sum())
        np.testing.assert_array_equal(mistakes["mistake_predicted"], predicted[index])
        np.testing.assert_array_equal(mistakes["mistake_true"], prepared.val.y[index])
        np.testing.assert_array_equal(mistakes["mistake_images"], prepared.splits.val.x[index])

    def test_nothing_is_written_when_the_configuration_is_wrong(self):
        with pytest.raises(ConfigError, match="augmentation must be off for data that are not"):
            trained("data.preprocess=pca_whiten", "data.flip=true")
        assert os.listdir() == []

    def test_diverged_run_stays(self):
        with pytest.raises(DivergedError, match="must stay finite"):
            trained("optimizer.name=sgd", "lr=1e36")
        (row,) = list_runs("runs")
        assert row["status"] == "diverged"


class TestRepetition:
    @pytest.mark.parametrize(
        "overrides",
        [
            [],
            ["model.dtype=float64", "optimizer.name=rmsprop", "schedule.name=one_cycle"],
            ["preprocess=pca_whiten", "n_components=20", "ema_decay=0.9", "dropout=0.5"],
            ["flip=true", "shift=1", "cutout=3", "seed=5", "threads=1"],
        ],
        ids=["plain", "float64", "whitened", "augmented"],
    )
    def test_the_configuration_of_a_run_repeats_it(self, overrides):
        first = trained(*overrides).run
        second = train_run(load_config(first.path / "config.toml"), "again").run
        assert second.config() == first.config()
        assert weights(second) == weights(first)
        assert stable(second) == stable(first)
        assert second.evaluation("val") == first.evaluation("val")

    def test_network_of_ones_own_needs_its_file_once(self, tmp_path):
        (tmp_path / "net.toml").write_text(NETWORK)
        small = [word for word in SMALL if "hidden" not in word]
        first = trained("model.name=net.toml", base=small).run
        (tmp_path / "net.toml").unlink()
        assert first.config()["model"]["loss"] == "multiclass_hinge"
        assert first.name.endswith("_net_digits")
        second = train_run(load_config(first.path / "config.toml"), "again").run
        assert weights(second) == weights(first)
        _, _, model, _ = load_run(first.path)
        assert layers_to_tables(model.layers)[0]["out_channels"] == 4
        saved = first.checkpoints.load("best").named("buffers")
        assert saved["bn1.running_mean"].any()
        for key, value in saved.items():
            np.testing.assert_array_equal(model.buffers[key], value)

    def test_threads(self):
        """The same number of threads, the same bits."""
        runs = [trained("threads=2", "hidden=300").run for _ in range(2)]
        assert weights(runs[0]) == weights(runs[1])

    @pytest.mark.parametrize("key", ["seed=1", "model.init=glorot", "lr=0.002", "l2=0.1"])
    def test_what_is_changed_changes_the_weights(self, key):
        assert weights(trained(key).run) != weights(trained().run)


class TestResume:
    SETTINGS = ("flip=true", "shift=1", "ema_decay=0.9", "dropout=0.4", "log_every=1")

    def test_interrupted_and_continued(self):
        whole = trained(*self.SETTINGS)
        begun = trained(*self.SETTINGS, callbacks=stop_at(9))
        assert begun.history.stopped == "interrupted"
        assert begun.run.evaluation("val") is None
        said = []
        done = resume_run(begun.run.path, message=said.append)
        assert (done.history.stopped, said) == ("completed", [])
        assert weights(done.run) == weights(whole.run)
        assert stable(done.run) == stable(whole.run)
        assert done.run.evaluation("val") == whole.run.evaluation("val")
        sessions = done.run.environment()["sessions"]
        assert [(s["command"], s["step"]) for s in sessions] == [("train", 0), ("resume", 9)]

    def test_a_finished_run_is_left_alone(self):
        first = trained()
        before = weights(first.run), stable(first.run), first.run.evaluation("val")
        (first.run.path / "evaluation" / "val.json").unlink()
        again = resume_run(first.run.path)
        assert again.history.records == []
        assert again.history.best == first.history.best
        assert (weights(again.run), stable(again.run), again.run.evaluation("val")) == before
        assert {k: v.tobytes() for k, v in again.model.params.items()} == before[0]

    @pytest.mark.parametrize("left", ["config.toml", "environment.json", "data.json"])
    def test_before_the_first_checkpoint(self, left):
        """A kill may come after any of the files that are written first."""
        whole = trained()
        order = ["config.toml", "environment.json", "preprocessing.safetensors", "data.json"]
        path = trained().run.path
        keep = order[: order.index(left) + 1]
        for file in sorted(path.rglob("*"), reverse=True):
            if file.is_dir():
                file.rmdir()
            elif file.name not in keep:
                file.unlink()
        said = []
        done = resume_run(path, message=said.append)
        assert said == ["No checkpoint had been written yet: starting this run from its beginning."]
        assert weights(done.run) == weights(whole.run)
        assert stable(done.run) == stable(whole.run)
        assert done.run.environment()["packages"]["numpy"] == np.__version__

    def test_damaged_last_checkpoint(self):
        whole = trained("checkpoint_every=2")
        begun = trained("checkpoint_every=2", callbacks=stop_at(9))
        manifest = json.loads((begun.run.path / "checkpoints" / "last.json").read_text())
        os.truncate(begun.run.path / "checkpoints" / manifest["body"]["tensors"], 100)
        said = []
        done = resume_run(begun.run.path, message=said.append)
        (sentence,) = said
        assert "is damaged" in sentence
        assert sentence.endswith("Continuing from the checkpoint before it.")
        assert weights(done.run) == weights(whole.run)
        assert stable(done.run) == stable(whole.run)

    def test_all_checkpoints_damaged(self):
        begun = trained("checkpoint_every=2", callbacks=stop_at(9))
        for path in (begun.run.path / "checkpoints").glob("*.safetensors"):
            os.truncate(path, 100)
        with pytest.raises(RunError, match="There is no checkpoint to continue from"):
            resume_run(begun.run.path)

    def test_lost_history(self):
        begun = trained(callbacks=stop_at(9))
        os.truncate(begun.run.metrics_path, 30)
        with pytest.raises(RunError, match="is shorter than its checkpoint recorded"):
            resume_run(begun.run.path)

    def test_other_data(self, features):
        begun = trained(f"data.name={features}", callbacks=stop_at(3))
        arrays = dict(np.load(features))
        np.savez(features, **(arrays | {"x": arrays["x"] + 1}))
        with pytest.raises(RunError, match="the training data are not those that the run was"):
            resume_run(begun.run.path)

    def test_no_run(self, tmp_path):
        with pytest.raises(RunError, match="is not a run directory"):
            resume_run(tmp_path)


class TestEvaluate:
    def test_splits(self):
        done = trained()
        test = evaluate_run(done.run.path)
        assert done.run.evaluation("test") == test
        assert (test["split"], test["num_examples"]) == ("test", 50)
        assert evaluate_run(done.run.path, "val") == done.run.evaluation("val")
        train = evaluate_run(done.run.path, "train")
        arrays = prepare(load_config(overrides=SMALL)).train
        assert train["num_examples"] == 200
        assert train["accuracy"] == np.mean(done.model.predict(arrays.x) == arrays.y)

    def test_augmented_tests_are_means_over_versions(self, tmp_path):
        """In training, of the test split, and of files; against sums written out."""
        from PIL import Image

        done = trained("tta=flip_shift", "ema_decay=0.5")
        prepared = prepare(load_config(overrides=SMALL))
        test = prepared.splits.test
        x = prepared.preprocessor.transform(test.x)
        moved = [x, np.zeros_like(x), np.zeros_like(x)]
        moved[1][:, :, :-1, :-1] = x[:, :, 1:, 1:]
        moved[2][:, :, 1:, 1:] = x[:, :, :-1, :-1]
        both = [image[..., ::step] for image in moved for step in (1, -1)]
        scores = np.mean([done.model.forward(image) for image in both], axis=0)
        record = evaluate_run(done.run.path)
        assert record["accuracy"] == np.mean(scores.argmax(axis=1) == test.y)
        loss = done.model.loss(scores, test.y)[0]
        assert record["loss"] == pytest.approx(loss, rel=1e-5)
        best = done.history.best
        assert done.run.evaluation("val")["loss"] == pytest.approx(best["val_loss"], rel=1e-6)
        Image.fromarray(test.x[0, 0]).save(tmp_path / "0.png")
        (row,) = predict_run(done.run.path, [tmp_path / "0.png"])
        chances = np.exp(scores[0]) / np.exp(scores[0]).sum()
        assert row["probability"] == pytest.approx(chances.max(), rel=1e-4)

    def test_unknown_split(self):
        path = trained("fast_dev_run=true").run.path
        with pytest.raises(ConfigError, match=r"split 'tset' is not known\. Did you mean 'test'\?"):
            evaluate_run(path, "tset")

    def test_data_that_have_moved(self, features, tmp_path, monkeypatch):
        monkeypatch.setenv("CHAINRULE_DATA", str(tmp_path / "empty"))
        done = trained(f"data.name={features}")
        features.rename(tmp_path / "moved.npz")
        with pytest.raises(DataMissingError, match=r"rings\.npz"):
            evaluate_run(done.run.path)

    def test_run_without_checkpoint(self):
        path = trained("fast_dev_run=true").run.path
        for file in (path / "checkpoints").glob("*.json"):
            file.unlink()
        with pytest.raises(RunError, match=r"last\.json: could not be read"):
            evaluate_run(path)


class TestLoadAndPredict:
    def test_best_weights_not_the_last(self):
        """At so large a rate the accuracy goes up and down."""
        done = trained("lr=0.8", "epochs=5")
        assert done.history.best["epoch"] < 5
        _, _, model, _ = load_run(done.run.path)
        for key, value in done.model.params.items():
            np.testing.assert_array_equal(model.params[key], value)
        last = done.run.checkpoints.load("last").named("params")
        assert (last["linear1.weight"] != model.params["linear1.weight"]).any()

    def test_averages_where_there_are_any(self):
        done = trained("ema_decay=0.9", callbacks=stop_at(14))
        _, _, model, _ = load_run(done.run.path)
        checkpoint = done.run.checkpoints.load("best")
        for key, value in checkpoint.named("average").items():
            np.testing.assert_array_equal(model.params[key], value)
            assert (value != checkpoint.named("params")[key]).any() or not value.any()

    def test_files_are_predicted_as_their_pixels(self, tmp_path):
        from PIL import Image

        done = trained()
        splits = prepare(load_config(overrides=SMALL)).splits
        paths = []
        for i in range(5):
            paths.append(tmp_path / f"{i}.png")
            Image.fromarray(splits.test.x[i, 0]).save(paths[-1])
        rows = predict_run(done.run.path, paths)
        _, config, model, preprocessor = load_run(done.run.path)
        assert config.training.epochs == 2
        scores = model.scores(preprocessor.transform(splits.test.x[:5])).astype(np.float64)
        chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        assert [row["file"] for row in rows] == [str(path) for path in paths]
        assert [row["label"] for row in rows] == chances.argmax(axis=1).tolist()
        assert [row["class"] for row in rows] == [str(n) for n in chances.argmax(axis=1)]
        np.testing.assert_allclose([r["probability"] for r in rows], chances.max(axis=1), rtol=1e-4)

    def test_images_of_another_size(self, tmp_path):
        from PIL import Image

        Image.new("L", (20, 20)).save(tmp_path / "large.png")
        path = trained("fast_dev_run=true").run.path
        with pytest.raises(ShapeError, match=r"large\.png: image must be 8 pixels high"):
            predict_run(path, [tmp_path / "large.png"])
        (tmp_path / "text.png").write_text("no image")
        with pytest.raises(DataFormatError, match=r"text\.png"):
            predict_run(path, [tmp_path / "text.png"])
        (row,) = predict_run(path, [tmp_path / "large.png"], resize=True)
        assert 0.1 <= row["probability"] <= 1
        with pytest.raises(DataMissingError, match=r"gone\.png"):
            predict_run(path, [tmp_path / "gone.png"])

    def test_run_of_features(self, features, tmp_path):
        done = trained(f"data.name={features}", "fast_dev_run=true")
        with pytest.raises(ShapeError, match="input_shape"):
            predict_run(done.run.path, [tmp_path / "a.png"])


class TestWhitening:
    SPEED = ("model.name=speednet", "channels=[4]", "components=3", "epochs=1", "data.num_train=90")

    def test_filters_are_those_of_the_training_images(self):
        done = trained(*self.SPEED, base=[])
        x = prepare(load_config(overrides=self.SPEED)).train.x
        expected = Whiten2d(3, 3).fit(x)["weight"].astype(np.float32)
        np.testing.assert_array_equal(done.model.buffers["whiten1.weight"], expected)
        kept = done.run.checkpoints.load("last").named("buffers")["whiten1.weight"]
        np.testing.assert_array_equal(kept, expected)
        np.testing.assert_array_equal(load_run(done.run.path)[2].buffers["whiten1.weight"], kept)

    def test_another_run_starts_from_its_filters(self):
        first = trained(*self.SPEED, base=[])
        other = load_config(overrides=[*self.SPEED, "data.num_train=60", "seed=3"])
        second = train_run(other, "runs", start=first.run.path)
        np.testing.assert_array_equal(
            second.model.buffers["whiten1.weight"], first.model.buffers["whiten1.weight"]
        )


class TestData:
    def test_features(self, features):
        done = trained(f"data.name={features}", "epochs=60", "lr=0.05")
        assert done.run.name.endswith("_two_layer_rings")
        assert done.history.best["val_accuracy"] > 0.9
        assert done.run.evaluation("val")["classes"] == ["inner", "outer"]
        assert done.run.evaluation_tensors("val") is None
        assert evaluate_run(done.run.path)["accuracy"] > 0.9

    def test_histograms_of_gradients(self, colours):
        done = trained(
            f"data.name={colours}", "preprocess=hog_color", "model.name=softmax", base=[]
        )
        _, _, model, preprocessor = load_run(done.run.path)
        assert model.input_shape == preprocessor.output_shape((3, 16, 16))
        assert len(model.input_shape) == 1
        assert done.run.data()["input_shape"] == [3, 16, 16]
        assert evaluate_run(done.run.path)["accuracy"] > 0.9
        assert done.run.evaluation_tensors("test")["mistake_images"].shape[1:] == (3, 16, 16)

    def test_whitening_is_kept_with_the_run(self):
        done = trained("preprocess=pca_whiten", "n_components=20")
        tensors, options = load_tensors(done.run.preprocessing_path)
        assert options["name"] == "pca_whiten"
        assert options["n_components"] == 20
        prepared = prepare(load_config(done.run.path / "config.toml"))
        restored = load_run(done.run.path)[3]
        x = prepared.splits.test.x
        assert (restored.transform(x) == prepared.preprocessor.transform(x)).all()
        assert prepared.train.x.shape == (200, 20)
        assert tensors.keys() == prepared.preprocessor.state()[0].keys()

    def test_preprocessing_sees_training_images_only(self):
        prepared = prepare(load_config(overrides=[*SMALL, "preprocess=mean_image"]))
        mean = prepared.splits.train.x.astype(np.float64).mean(axis=0) / 255
        np.testing.assert_allclose(prepared.preprocessor.state()[0]["mean"], mean)
        np.testing.assert_allclose(prepared.val.x, prepared.splits.val.x / 255 - mean, atol=1e-6)

    def test_sizes(self):
        config = load_config(
            overrides=["num_train=100", "num_validation=60", "num_test=40", "hidden=3"]
        )
        splits = prepare(config).splits
        assert (len(splits.train), len(splits.val), len(splits.test)) == (100, 60, 40)

    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            (["model.name=convnt"], r"'convnt' is not known\. Did you mean 'convnet'"),
            (["optimizer.name=adamm"], "Did you mean 'adam'"),
            (["schedule.name=cosin"], "Did you mean 'cosine'"),
            (["preprocess=pca"], "pca"),
            (["model.name=svm", "label_smoothing=0.1"], "label_smoothing must be 0 with the loss"),
            (["loss=multiclass_hinge", "label_smoothing=0.1"], "label_smoothing must be 0"),
            (["preprocess=none", "n_components=3"], "n_components"),
        ],
    )
    def test_not_understood(self, overrides, message):
        """Said before the data are loaded: these are not there."""
        config = load_config(overrides=["data.name=nowhere.npz", *overrides])
        with pytest.raises(ConfigError, match=message):
            prepare(config)

    def test_label_smoothing_reaches_the_loss(self):
        config = load_config(overrides=[*SMALL, "label_smoothing=0.3"])
        loss = prepare(config).model.loss
        scores, y = np.array([[2.0, 0.0, -1.0]]), np.array([0])
        logs = scores[0] - np.log(np.exp(scores[0]).sum())
        assert loss(scores, y)[0] == pytest.approx(-0.7 * logs[0] - 0.3 * logs.mean())


class TestList:
    def test_best_first(self):
        good = trained("epochs=6", "lr=0.01")
        trained("fast_dev_run=true", "lr=1e-5")
        trained(callbacks=stop_at(2))
        evaluate_run(good.run.path)
        rows = list_runs("runs")
        assert [row["status"] for row in rows] == ["completed", "fast_dev_run", "interrupted"]
        best = rows[0]
        assert best["run"] == good.run.name
        assert best["path"] == str(good.run.path)
        assert (best["model"], best["data"], best["steps"]) == ("two_layer", "digits", 42)
        assert best["val_accuracy"] == good.history.best["val_accuracy"]
        assert best["val_loss"] == good.history.best["val_loss"]
        assert best["test_accuracy"] == good.run.evaluation("test")["accuracy"]
        assert best["seconds"] > 0
        assert rows[2]["val_accuracy"] is None
        assert rows[2]["steps"] == 0

    def test_a_damaged_run_does_not_hide_the_others(self):
        good = trained("fast_dev_run=true")
        for file, content in [
            ("metrics.jsonl", "{\n{}\n"),
            ("checkpoints/last.json", "{}"),
            ("config.toml", "= ="),
            ("evaluation/test.json", "{"),
        ]:
            path = trained("fast_dev_run=true").run.path
            (path / file).write_text(content)
        rows = {row["run"]: row["status"] for row in list_runs("runs")}
        assert rows.pop(good.run.name) == "fast_dev_run"
        assert list(rows.values()) == ["damaged"] * 4

    def test_started_only(self):
        path = trained("fast_dev_run=true").run.path
        for file in (path / "checkpoints").iterdir():
            file.unlink()
        assert list_runs("runs")[0]["status"] == "started"

    def test_other_folders_are_no_runs(self, tmp_path):
        (tmp_path / "runs" / "notes").mkdir(parents=True)
        assert list_runs("runs") == []
        with pytest.raises(RunError, match="there is no such folder of runs"):
            list_runs("nowhere")


def test_run_directory_of_a_finished_run_answers_everything():
    run = RunDirectory(trained().run.path)
    kinds = {record["kind"] for record in run.metrics()}
    assert kinds == {"step", "evaluation", "layers"}
    assert run.figures_dir == run.path / "figures"
    assert set(run.best_parameters()) == {
        "linear1.weight",
        "linear1.bias",
        "linear2.weight",
        "linear2.bias",
    }
