"""What a person sees of a run: progress on standard error, and what it ran on."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from chainrule.models import softmax
from chainrule.training import Arrays, ProgressBar, Trainer, load_config
from chainrule.training.environment import describe_environment, limited_threads, session_record
from chainrule.training.progress import describe_evaluation


def trainer(bar, epochs=2):
    rng = np.random.default_rng(0)
    data = Arrays(rng.normal(size=(20, 3)), np.arange(20) % 2)
    model = softmax(2)
    model.init(rng, (3,))
    config = load_config(settings={"epochs": epochs, "batch_size": 5})
    return Trainer(model, data, data, config, rng, callbacks=[bar])


class TestProgressBar:
    def test_one_line_an_evaluation_where_there_is_no_terminal(self):
        out = io.StringIO()
        trainer(ProgressBar(Console(file=out, width=40))).fit()
        lines = out.getvalue().splitlines()
        assert len(lines) == 2
        assert lines[0].startswith("epoch 1  step 4  train loss 0.")
        assert " acc 0." in lines[0].partition("val loss ")[2]
        assert lines[0].endswith(" *")
        assert "\x1b" not in out.getvalue()

    def test_a_bar_on_a_terminal(self):
        out = io.StringIO()
        console = Console(file=out, force_terminal=True, width=120, color_system=None)
        trainer(ProgressBar(console), epochs=60).fit()
        shown = out.getvalue()
        assert "240/240" in shown
        assert "images/s" in shown
        assert "loss 0." in shown

    def test_begins_where_the_run_continues(self):
        bar = ProgressBar(Console(file=io.StringIO()))
        begun = trainer(bar)
        begun.step = 3
        bar.on_start(begun)
        (task,) = bar._progress.tasks
        assert (task.completed, task.total) == (3, 8)
        bar.on_end(begun.history)

    def test_goes_to_standard_error(self, capsys):
        trainer(ProgressBar()).fit()
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("epoch 1")

    def test_what_is_not_known_is_left_out(self):
        text = describe_evaluation({"epoch": 2.5, "step": 7, "train_loss": 0.25, "best": False})
        assert text == "epoch 2.5  step 7  train loss 0.25"


class TestEnvironment:
    def test_says_what_a_result_depends_on(self):
        record = json.loads(json.dumps(describe_environment()))
        assert record["packages"]["numpy"] == np.__version__
        assert record["cores"] >= 1
        assert record["cpu"]
        assert record["python"].count(".") == 2
        assert all("num_threads" in pool for pool in record["blas"])

    def test_git_commit_of_the_caller_if_any(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
        assert "git_commit" not in describe_environment()
        monkeypatch.setenv("PATH", str(tmp_path))  # nor a failure where there is no git
        assert "git_commit" not in describe_environment()

    def test_session(self):
        record = session_record("resume", 40)
        assert (record["command"], record["step"]) == ("resume", 40)
        assert record["started"].endswith("+00:00")

    def test_threads_are_limited_inside_only(self):
        from threadpoolctl import threadpool_info

        def blas():
            return {p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"}

        if not blas():
            pytest.skip("threadpoolctl does not know this linear algebra")
        before = blas()
        with limited_threads(2):
            assert blas() == {2}
            with limited_threads(1):
                assert blas() == {1}
            with limited_threads(0):
                assert blas() == {2}
        assert blas() == before
