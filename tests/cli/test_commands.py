"""Each command from its words to what it prints and writes."""

import csv
import json
import os
import shutil
import signal
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chainrule import __version__, kernels
from chainrule.cli import output
from chainrule.data import load
from chainrule.training import Callback, load_config

SHORT = ("two_layer", "epochs=2", "num_train=300", "hidden=16")


@pytest.fixture
def images(tmp_path):
    """Three pictures of the test split, in a folder whose name has more than letters."""
    folder = tmp_path / "pictures à"
    folder.mkdir()
    digits = load("digits")
    for number, x in enumerate(digits.test.x[:3]):
        Image.fromarray(x[0]).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


def pairs(text):
    """What is printed as a name, blanks and a value."""
    return dict(line.split("  ", 1) for line in text.splitlines() if "  " in line)


def column(text, name):
    """One column of a table; none of its cells holds two blanks."""
    header, *rows = [line.split("  ") for line in text.splitlines()]
    header = [cell.strip() for cell in header if cell]
    rows = [[cell.strip() for cell in row if cell] for row in rows]
    return [row[header.index(name)] for row in rows]


class TestTrain:
    def test_writes_a_run_and_says_where(self, chainrule):
        done = chainrule("train", *SHORT, "--seed", 7, "lr=0.01")
        assert done.code == 0
        (run,) = Path("runs").iterdir()
        said = pairs(done.out)
        assert said["run"].strip() == str(run)
        assert said["stopped"].strip() == "completed"
        assert 0.5 < float(said["val accuracy"]) <= 1
        assert said["best step"].strip() in ("3 (epoch 1)", "6 (epoch 2)")
        lines = done.err.splitlines()
        assert lines[0] == f"chainrule: run directory {run}"
        assert [line[:7] for line in lines[1:3]] == ["epoch 1", "epoch 2"]
        assert lines[3:] == [
            f"chainrule: next: chainrule evaluate {run}",
            f"chainrule: next: chainrule report {run}",
        ]
        config = load_config(run / "config.toml")
        assert (config.seed, config.optimizer.lr, config.training.epochs) == (7, 0.01, 2)
        assert config.model.options == {"hidden": 16}

    def test_json(self, chainrule):
        done = chainrule("train", *SHORT, "--json", "--runs", "elsewhere")
        (run,) = Path("elsewhere").iterdir()
        assert done.json["run"] == str(run)
        assert done.json["stopped"] == "completed"
        assert 0 < done.json["best"]["val_accuracy"] <= 1
        assert done.json["test"] is None
        assert done.json["report"] is None

    def test_report_evaluates_and_draws(self, chainrule):
        done = chainrule("train", *SHORT, "--report", "--json")
        assert done.code == 0
        run = Path(done.json["run"])
        assert done.json["report"] == str(run / "report.html")
        assert (run / "report.html").stat().st_size > 10_000
        assert done.json["test"]["num_examples"] == 300
        assert f"{done.json['test']['accuracy']:.4f}" in chainrule("evaluate", run).out
        assert "next" not in done.err

    def test_later_words_prevail(self, chainrule):
        Path("mine.toml").write_text("seed = 5\n[training]\nepochs = 9\nbatch_size = 77\n")
        words = ("train", "softmax", "--config", "mine.toml", "--seed", "6", "epochs=3")
        config = tomllib.loads(chainrule(*words, "--dry-run").out)
        assert (config["seed"], config["training"]["epochs"]) == (6, 3)
        assert config["training"]["batch_size"] == 77
        assert config["model"]["name"] == "softmax"

    @pytest.mark.parametrize(
        "words",
        [
            ("--data", "digits", "mlp", "hidden=[8]", "lr=0.5"),
            ("mlp", "--data", "digits", "hidden=[8]", "lr=0.5"),
            ("mlp", "hidden=[8]", "--data=digits", "lr=0.5"),
            ("hidden=[8]", "lr=0.5", "model.name=mlp"),
        ],
    )
    def test_options_may_stand_anywhere(self, chainrule, words):
        done = chainrule("train", *words, "--dry-run", "--json")
        config = done.json["config"]
        assert (config["model"]["name"], config["model"]["hidden"]) == ("mlp", [8])
        assert (config["data"]["name"], config["optimizer"]["lr"]) == ("digits", 0.5)

    def test_dry_run_is_a_configuration_file_and_trains_nothing(self, chainrule):
        done = chainrule("train", "mlp", "hidden=[20]", "epochs=4", "--dry-run")
        assert (done.code, done.err) == (0, "")
        assert not Path("runs").exists()
        assert "# linear1   linear   (20,)        1,300  2,560" in done.out
        assert "#   1,297 train examples" in done.out
        Path("again.toml").write_text(done.out)
        assert chainrule("train", "--config", "again.toml", "--dry-run").out == done.out

    def test_a_run_can_be_repeated_from_its_configuration(self, chainrule):
        first = chainrule("train", *SHORT, "--seed", 4, "--json").json
        config = Path(first["run"]) / "config.toml"
        second = chainrule("train", "--config", config, "--json").json
        assert first["run"] != second["run"]
        assert first["best"] | {"seconds": 0} == second["best"] | {"seconds": 0}

    def test_network_and_data_of_ones_own(self, chainrule):
        rng = np.random.default_rng(0)
        for name, brightness in (("día", 200), ("noche", 40)):
            folder = Path("mis fotos", name)
            folder.mkdir(parents=True)
            for number in range(12):
                noise = rng.integers(0, 50, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(noise + np.uint8(brightness)).save(folder / f"{number}.png")
        Path("mi=red.toml").write_text(
            'name = "mi red"\n[[layers]]\ntype = "flatten"\n'
            '[[layers]]\ntype = "linear"\nout_features = "num_classes"\n'
        )
        words = ("./mi=red.toml", "--data", "mis fotos", "epochs=20", "lr=0.05", "batch_size=4")
        done = chainrule("train", *words, "--runs", "mis runs", "--json")
        assert done.json["best"]["val_accuracy"] == 1
        run = Path(done.json["run"])
        assert run.name.endswith("_mi-red_mis-fotos")
        Path("mi=red.toml").unlink()  # the run holds the layers
        done = chainrule("predict", run, "mis fotos/día/0.png", "mis fotos/noche/0.png")
        assert column(done.out, "class") == ["día", "noche"]

    def test_features_in_a_npz_file(self, chainrule):
        x = np.random.default_rng(0).standard_normal((200, 5))
        np.savez("points.npz", x=x, y=(x[:, 0] > 0).astype(np.int64))
        done = chainrule("train", "softmax", "--data", "points.npz", "epochs=30", "lr=0.1")
        assert float(pairs(done.out)["val accuracy"]) > 0.9

    def test_interrupt_saves_and_resume_completes(self, chainrule, monkeypatch):
        class Interrupt(Callback):
            def on_step(self, record):
                if record["step"] == 4:
                    os.kill(os.getpid(), signal.SIGINT)

        watching = output.callbacks
        with monkeypatch.context() as patch:
            patch.setattr(output, "callbacks", lambda: [*watching(), Interrupt()])
            done = chainrule("train", *SHORT, "--runs", "a folder", "--report")
        (run,) = Path("a folder").iterdir()
        assert done.code == 130
        assert pairs(done.out)["stopped"].strip() == "interrupted"
        last = done.err.splitlines()[-1]
        assert last == f"chainrule: interrupted. Continue with: chainrule train --resume '{run}'"
        assert not (run / "report.html").exists()

        done = chainrule("train", "--resume", run, "--json")
        assert (done.code, done.json["stopped"]) == (0, "completed")
        undisturbed = chainrule("train", *SHORT, "--json").json
        assert done.json["best"]["val_loss"] == undisturbed["best"]["val_loss"]

        done = chainrule("train", "--resume", run)
        assert done.code == 0
        assert "chainrule: this run had ended already" in done.err

    def test_interrupted_before_the_first_evaluation(self, chainrule, monkeypatch):
        class Interrupt(Callback):
            def on_step(self, record):
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(output, "callbacks", lambda: [Interrupt()])
        done = chainrule("train", *SHORT)
        assert done.code == 130
        assert pairs(done.out).keys() == {"run", "stopped", "time"}
        monkeypatch.setattr(output, "callbacks", lambda: [Interrupt()])
        done = chainrule("train", *SHORT, "--json")
        assert done.json["best"] is None


class TestEvaluate:
    def test_table(self, chainrule, trained):
        done = chainrule("evaluate", trained)
        assert (done.code, done.err) == (0, "")
        summary, table = done.out.split("\n\n")
        said = {name: value.strip() for name, value in pairs(summary).items()}
        assert (said["split"], said["examples"]) == ("test", "300")
        assert float(said["accuracy"]) > 0.85
        assert column(table, "class") == [str(digit) for digit in range(10)]
        counts = [int(cell) for cell in column(table, "examples")]
        shares = [float(cell) for cell in column(table, "accuracy")]
        assert sum(counts) == 300
        assert np.average(shares, weights=counts) == pytest.approx(
            float(said["accuracy"]), abs=1e-4
        )

    def test_most_frequent_mistake(self, capsys):
        record = {
            "split": "test",
            "num_examples": 1508,
            "loss": 0.5,
            "accuracy": 0.7,
            "classes": ["cat", "dog", "fox", "owl"],
            "confusion": [[3, 1, 2, 0], [0, 5, 0, 0], [1200, 3, 294, 0], [0, 0, 0, 0]],
        }
        output.show_evaluation(record, as_json=False)
        table = capsys.readouterr().out.partition("\n\n")[2]
        assert table == (
            "class  examples  accuracy  most often taken for\n"
            "cat           6    0.5000  fox (2)\n"
            "dog           5    1.0000  -\n"
            "fox       1,497    0.1964  cat (1,200)\n"
            "owl           0         -  -\n"
        )

    def test_letters_that_are_two_columns_wide(self, capsys):
        record = {"split": "val", "num_examples": 2, "loss": 0.0, "accuracy": 1.0}
        record |= {"classes": ["猫", "dog"], "confusion": [[1, 0], [0, 1]]}
        output.show_evaluation(record, as_json=False)
        lines = capsys.readouterr().out.splitlines()
        assert lines[-2:] == [
            "猫            1    1.0000  -",
            "dog           1    1.0000  -",
        ]

    def test_json_and_another_split(self, chainrule, trained):
        done = chainrule("evaluate", "--split", "val", trained, "--json")
        assert done.json["split"] == "val"
        assert np.sum(done.json["confusion"]) == done.json["num_examples"] == 200

    def test_numbers_that_json_lacks_become_null(self, capsys):
        output.show_evaluation({"loss": float("nan"), "list": [1, float("inf")]}, as_json=True)
        assert json.loads(capsys.readouterr().out) == {"loss": None, "list": [1, None]}


class TestPredict:
    def test_table(self, chainrule, trained, images):
        done = chainrule("predict", trained, *images)
        assert (done.code, done.err) == (0, "")
        assert column(done.out, "file") == [str(image) for image in images]
        truth = [str(label) for label in load("digits").test.y[:3]]
        assert column(done.out, "class") == truth

    def test_csv_file(self, chainrule, trained, images):
        done = chainrule("predict", trained, *images, "--csv", "a new folder/ü.csv")
        assert (done.code, done.out) == (0, "")
        assert done.err == "chainrule: 3 predictions written to a new folder/ü.csv\n"
        with open("a new folder/ü.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["file", "label", "class", "probability"]
        assert [row["file"] for row in rows] == [str(image) for image in images]
        assert [row["label"] for row in rows] == [row["class"] for row in rows]
        assert all(0.1 < float(row["probability"]) <= 1 for row in rows)

    def test_csv_on_standard_output(self, chainrule, trained, images):
        done = chainrule("predict", trained, images[0], "--csv", "-")
        assert done.err == ""
        header, row = done.out.splitlines()
        assert header == "file,label,class,probability"
        assert row.startswith(f"{images[0]},")

    def test_csv_file_and_json(self, chainrule, trained, images):
        done = chainrule("predict", trained, *images, "--csv", "x.csv", "--json")
        assert [row["file"] for row in done.json] == [str(image) for image in images]
        assert len(Path("x.csv").read_text().splitlines()) == 4

    def test_images_of_another_size(self, chainrule, refused, trained):
        Image.fromarray(np.zeros((20, 30), np.uint8)).save("big.png")
        assert "big.png: image must be 8 pixels high and 8 wide" in refused(
            1, "predict", trained, "big.png"
        )
        assert chainrule("predict", trained, "big.png", "--resize").code == 0

    @pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
    def test_file_names_that_are_no_text(self, process, trained, images):
        name = b"\xff.png"
        Path(os.fsdecode(name)).write_bytes(images[0].read_bytes())
        out, err = process("predict", trained, os.fsdecode(name)).communicate(timeout=60)
        assert err == ""
        assert column(out, "file") == [r"\udcff.png"]
        process("predict", trained, os.fsdecode(name), "--csv", "x.csv").communicate(timeout=60)
        assert Path("x.csv").read_bytes().splitlines()[1].startswith(name + b",")


class TestSanity:
    def test_table(self, chainrule):
        done = chainrule("sanity", "two_layer", "hidden=20", "--data", "digits")
        assert done.code == 0
        verdicts = [line[:4] for line in done.out.splitlines()]
        assert verdicts == ["    ", *["pass"] * 7]
        assert "log C = 2.3026     2.30" in done.out.splitlines()[1]
        assert done.err == "chainrule: 7 of 7 checks passed.\n"

    def test_json_and_a_failure(self, chainrule):
        # The built-in networks begin with small scores, so that the first loss is log C.
        Path("loud.toml").write_text(
            '[[layers]]\ntype = "flatten"\n'
            '[[layers]]\ntype = "linear"\nout_features = "num_classes"\n'
        )
        done = chainrule("sanity", "loud.toml", "--json")
        assert done.code == 1
        failed = [check["name"] for check in done.json if not check["passed"]]
        assert failed == ["initial loss is that of guessing"]
        assert len(done.json) == 5

    def test_a_wrong_gradient_has_its_own_exit_code(self, chainrule, monkeypatch):
        from chainrule.models import Sequential

        honest = Sequential.loss_and_grads

        def wrong(self, *arguments, **keywords):
            loss, grads = honest(self, *arguments, **keywords)
            return loss, grads | {"linear1.bias": 2 * grads["linear1.bias"]}

        monkeypatch.setattr(Sequential, "loss_and_grads", wrong)
        done = chainrule("sanity", "softmax")
        assert done.code == 5
        (failed,) = (line for line in done.out.splitlines() if line.startswith("FAIL"))
        assert failed.split()[1:4] == ["gradient", "of", "linear1.bias"]
        assert done.err == "chainrule: 4 of 5 checks passed.\n"


class TestReport:
    def test_lists_what_it_wrote(self, chainrule, trained):
        done = chainrule("report", trained, "--format", "png")
        assert (done.code, done.err) == (0, "")
        files = [Path(line) for line in done.out.splitlines()]
        assert files[0] == trained / "report.html"
        assert all(path.is_file() for path in files)
        assert {path.suffix for path in files[1:]} == {".png"}

    def test_tensorboard_and_json(self, chainrule, trained):
        done = chainrule("report", trained, "--format", "svg", "--tensorboard", "--json")
        assert Path(done.json[-1]).is_dir()
        assert {Path(path).suffix for path in done.json[1:-1]} == {".svg"}


class TestRuns:
    def test_best_first_and_ready_to_paste(self, chainrule, trained):
        shutil.copytree(trained, "runs/well trained")
        chainrule("train", *SHORT)
        done = chainrule("runs")
        assert (done.code, done.err) == (0, "")
        names = column(done.out, "run")
        assert names[0] == "runs/well trained"
        accuracies = [float(cell) for cell in column(done.out, "val acc")]
        assert accuracies == sorted(accuracies, reverse=True)
        assert column(done.out, "status") == ["completed"] * 2
        assert chainrule("evaluate", names[1], "--split", "val").code == 0

    def test_json(self, chainrule, trained):
        row = chainrule("runs", trained.parent, "--json").json[0]
        assert (row["model"], row["data"], row["status"]) == ("two_layer", "digits", "completed")
        assert row["test_accuracy"] > 0.85

    def test_a_run_that_came_to_nothing(self, chainrule):
        Path("runs/begun").mkdir(parents=True)
        Path("runs/begun/config.toml").touch()
        done = chainrule("runs")
        assert done.out.splitlines()[1].split() == ["runs/begun", "started", *"---", "0", "-"]

    def test_none(self, chainrule):
        Path("runs").mkdir()
        assert chainrule("runs", "--json").json == []
        assert len(chainrule("runs").out.splitlines()) == 1

    @pytest.mark.parametrize(
        ("seconds", "said"),
        [(0.04, "0.0 s"), (59.9, "59.9 s"), (61, "1 min 01 s"), (3600, "1 h 00 min")],
    )
    def test_times(self, capsys, seconds, said):
        row = dict.fromkeys(("val_accuracy", "val_loss", "test_accuracy"), 0.5)
        row |= {"path": "x", "status": "completed", "steps": 12345, "seconds": seconds}
        output.show_runs([row], as_json=False)
        assert capsys.readouterr().out.splitlines()[1].endswith(f"  12,345  {said}")


class TestData:
    def test_list(self, chainrule):
        done = chainrule("data", "list")
        assert column(done.out, "name") == ["digits", "mnist", "cifar10"]
        assert column(done.out, "there") == ["yes", "no", "no"]
        assert column(done.out, "train / val / test")[2] == "49,000 / 1,000 / 10,000"
        assert column(done.out, "where")[1] == os.environ["CHAINRULE_DATA"]
        assert done.err.endswith("chainrule data fetch mnist\n")

    def test_list_json(self, chainrule):
        done = chainrule("data", "list", "--json", "--data-dir", "elsewhere")
        assert done.err == ""
        assert [row["available"] for row in done.json] == [True, False, False]
        assert done.json[1]["where"] == "elsewhere"

    def test_info(self, chainrule):
        done = chainrule("data", "info", "digits")
        summary, table = done.out.split("\n\n")
        assert pairs(summary)["example"].strip() == "1x8x8, uint8"
        assert "scikit-learn" in pairs(summary)["description"]
        assert table.splitlines()[-1].split() == ["all", "1,297", "200", "300"]
        totals = np.array([[int(n) for n in line.split()] for line in table.splitlines()[1:-1]])
        assert totals.sum(axis=0)[1:].tolist() == [1297, 200, 300]

    def test_info_json(self, chainrule):
        done = chainrule("data", "info", "digits", "--json")
        assert done.json["input_shape"] == [1, 8, 8]
        assert done.json["examples"] == {"train": 1297, "val": 200, "test": 300}

    def test_info_of_a_file(self, chainrule):
        np.savez("points.npz", x=np.zeros((9, 4)), y=np.arange(9) % 3, classes=["a", "b", "c"])
        done = chainrule("data", "info", "points.npz")
        assert done.code == 0
        assert "licence" not in done.out

    def test_fetch_what_is_there(self, chainrule):
        done = chainrule("data", "fetch", "digits")
        assert Path(done.out.rstrip("\n")).is_file()


class TestInfo:
    def test_pairs(self, chainrule):
        done = chainrule("info")
        said = pairs(done.out)
        assert (done.code, done.err) == (0, "")
        assert said["chainrule"].strip() == __version__
        assert said["numpy"].strip() == np.__version__
        assert (
            said["kernels"]
            .strip()
            .startswith((f"{kernels.active()}: {kernels.reason()} (", "NumPy"))
        )

    def test_without_kernels(self, chainrule):
        with kernels.use("none"):
            said = pairs(chainrule("info").out)
        assert said["kernels"].strip() == "NumPy and BLAS: chosen by kernels.use"

    def test_json(self, chainrule):
        done = chainrule("info", "--json")
        assert done.json["packages"]["numpy"] == np.__version__
        assert done.json["cores"] >= 1
