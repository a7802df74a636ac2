"""``chainrule train --backend torch`` and what the other commands do with its runs."""

import json
from pathlib import Path

import pytest

from chainrule import twin
from chainrule.records import RunDirectory

SMALL = ("two_layer", "hidden=6", "data.num_train=80", "data.num_test=30", "epochs=2")
TORCH = ("--backend", "torch", "--device", "cpu")


@pytest.fixture(autouse=True)
def _pytorch():
    pytest.importorskip("torch", reason="PyTorch is not installed")


def train(chainrule, *words):
    done = chainrule("train", *words, "--json")
    assert done.code == 0, done.err
    return done.json["run"]


def test_train_report_evaluate_predict(chainrule):
    done = chainrule("train", *SMALL, *TORCH, "--precision", "bf16", "--channels-last", "--report")
    assert done.code == 0
    run = RunDirectory(next(Path("runs").iterdir()))
    assert run.config()["backend"] == {
        "name": "torch",
        "device": "cpu",
        "precision": "bf16",
        "compile": False,
        "channels_last": True,
    }
    assert run.environment()["sessions"][0]["backend"].startswith("torch ")
    assert (run.path / "report.html").is_file()
    ours = chainrule("evaluate", run.path, "--json").json
    theirs = chainrule("evaluate", run.path, "--backend", "torch", "--json").json
    assert theirs["loss"] == pytest.approx(ours["loss"], abs=1e-6)
    assert theirs["loss"] != ours["loss"] or theirs["confusion"] == ours["confusion"]
    from PIL import Image

    Image.new("L", (8, 8)).save("black.png")
    rows = [
        chainrule("predict", run.path, "black.png", "--backend", name, "--json").json[0]
        for name in ("numpy", "torch")
    ]
    assert rows[0]["class"] == rows[1]["class"]


def test_resume_finds_the_backend_in_the_run(chainrule, monkeypatch):
    from chainrule.training import Trainer

    run = train(chainrule, *SMALL, *TORCH)
    learners = []
    right = Trainer.restore
    monkeypatch.setattr(
        Trainer, "restore", lambda self, c: (learners.append(self.learner), right(self, c))[1]
    )
    done = chainrule("train", "--resume", run, "--json")
    assert done.code == 0
    assert done.json["stopped"] == "completed"
    assert type(learners[0]).__name__ == "TorchLearner"


@pytest.mark.parametrize(("first", "second"), [((), TORCH), (TORCH, ("--backend", "numpy"))])
def test_from_a_run_of_the_other_backend(chainrule, first, second):
    start = train(chainrule, *SMALL, *first)
    run = train(chainrule, "--from", start, "lr=1e-12", "epochs=1", *second)
    before, after = (RunDirectory(path).best_parameters() for path in (start, run))
    assert before.keys() == after.keys()
    assert all(abs(before[key] - after[key]).max() < 1e-6 for key in before)
    config = RunDirectory(run).config()
    assert config["model"]["hidden"] == 6
    assert config["backend"]["name"] == second[1]
    assert json.loads(Path(run, "environment.json").read_text())["sessions"][0]["step"] == 0


def test_refusals(refused, monkeypatch):
    line = refused(2, "train", *SMALL, "--backend", "tensorflow")
    assert "'tensorflow' is not known. Known: numpy, torch." in line
    line = refused(2, "train", *SMALL, "--precision", "bf16")
    assert "backend.precision must be 'float32' with the backend 'numpy'; got 'bf16'" in line
    assert "set backend.name=torch" in line
    assert "--resume takes no other settings" in refused(2, "train", "--resume", "x", *TORCH)
    assert "is not a run directory" in refused(1, "train", "--from", "nowhere")
    monkeypatch.setattr(twin.functional, "find_spec", lambda name: None)
    line = refused(3, "train", *SMALL, *TORCH)
    assert "the backend 'torch': PyTorch is not installed. Install it with: pip install" in line
