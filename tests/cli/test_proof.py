"""``chainrule verify`` and ``chainrule doctor``."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from chainrule import proof
from chainrule.layers import PAIRS

LAYERS = """\
import numpy as np

from helpers import scaled


def affine_forward(x, w, b):
    return x @ w + b, (x, w, b)


def affine_backward(dout, cache):
    x, w, b = cache
    return dout @ w.T, x.T @ dout, dout.sum(axis=0)


def bias_averaged(dout, cache):
    x, w, b = cache
    return dout @ w.T, x.T @ dout, dout.mean(axis=0)


def softmax_forward(scores, y):
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return -np.log(p[np.arange(len(y)), y]).mean(), (p, y)


def softmax_backward(cache):
    p, y = cache
    return scaled(p, y)


def flaky_forward(x):
    raise RuntimeError("no luck")
"""
HELPERS = """\
import numpy as np


def scaled(p, y):
    d = p.copy()
    d[np.arange(len(y)), y] -= 1
    return d / len(y)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a student's file, as the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    monkeypatch.delitem(__import__("sys").modules, "helpers", raising=False)
    (tmp_path / "helpers.py").write_text(HELPERS)
    (tmp_path / "mine.py").write_text(LAYERS)
    return tmp_path


class TestVerify:
    def test_table(self, chainrule):
        done = chainrule("verify", "relu", "cross_entropy")
        assert done.code == 0
        header, relu, loss = done.out.splitlines()
        assert header.split() == [
            "layer", "cases", "numeric", "autodiff", "PyTorch", "reference", "float32",
        ]  # fmt: skip
        assert relu.split()[0] == "relu"
        assert relu.endswith("ok")
        assert loss.startswith("cross_entropy")
        assert "what passes: numeric 1e-06" in done.err

    def test_json_says_where_the_worst_error_is(self, chainrule):
        (row,) = json.loads(chainrule("verify", "linear", "--json").out)
        assert (row["layer"], row["num_cases"], row["ok"]) == ("linear", 3, True)
        numeric = row["findings"][0]
        assert numeric["witness"] == "numeric"
        assert 0 < numeric["error"] < numeric["limit"] == 1e-6
        assert "bias, d" in numeric["where"]

    def test_a_wrong_layer_ends_with_code_5(self, chainrule, monkeypatch):
        wrong = replace(PAIRS["tanh"], backward=lambda dout, cache: dout)
        monkeypatch.setattr(proof.verification, "PAIRS", {"tanh": wrong})
        done = chainrule("verify")
        assert done.code == 5
        assert "FAILED" in done.out
        assert "chainrule: verify: tanh differs from numeric by" in done.err

    def test_unknown_layer(self, chainrule):
        done = chainrule("verify", "conv2")
        assert (done.code, done.out) == (2, "")
        assert done.err == (
            "chainrule: verify: layer must name a layer; got 'conv2'. Did you mean 'conv2d'?\n"
        )


class TestDoctor:
    AFFINE = ("x=normal(4,6)", "w=normal(6,3)", "b=normal(3)")

    def test_a_right_backward(self, chainrule, mine):
        done = chainrule(
            "doctor", "mine.py:affine_forward", "mine.py:affine_backward", *self.AFFINE
        )
        assert (done.code, done.err) == (0, "")
        assert "right" in done.out

    def test_a_wrong_one_is_named_and_ends_with_code_5(self, chainrule, mine):
        words = ("doctor", "mine.py:affine_forward", "mine.py:bias_averaged", *self.AFFINE)
        done = chainrule(*words)
        assert done.code == 5
        assert "by b is divided by N = 4" in done.out
        record = json.loads(chainrule(*words, "--json").out)
        assert not record["ok"]
        assert record["causes"][0]["code"] == "double_mean"
        assert record["worst_relative_error"] == pytest.approx(0.6, abs=0.01)

    def test_a_loss_with_labels_and_imports_of_its_own(self, chainrule, mine):
        done = chainrule(
            "doctor",
            "mine.py:softmax_forward",
            "mine.py:softmax_backward",
            "scores=normal(5,3)",
            "y=labels(5,3)",
        )
        assert done.code == 0, done

    @pytest.mark.parametrize(
        "inputs",
        [
            "inputs = {'x': np.ones((2, 3)), 'w': np.eye(3), 'b': np.zeros(3)}",
            "inputs = (np.ones((2, 3)), np.eye(3), np.zeros(3))",
            "def inputs(rng):\n    return rng.random((2, 3)), rng.random((3, 2)), rng.random(2)",
        ],
    )
    def test_inputs_from_the_file(self, chainrule, mine, inputs):
        mine.joinpath("mine.py").write_text(f"{LAYERS}\n{inputs}\n")
        done = chainrule("doctor", "mine.py:affine_forward", "mine.py:affine_backward")
        assert done.code == 0, done

    def test_the_seed_draws_the_inputs(self, chainrule, mine):
        words = ("doctor", "mine.py:affine_forward", "mine.py:bias_averaged", *self.AFFINE)
        first = chainrule(*words, "--seed", "1").out
        assert chainrule(*words, "--seed", "1").out == first
        assert chainrule(*words, "--seed", "2").out != first

    @pytest.mark.parametrize(
        ("words", "code", "message"),
        [
            ("mine.py x.py:b", 2, "'mine.py' must be FILE.py:FUNCTION"),
            ("none.py:a none.py:b", 3, "none.py must be a Python file; there is none."),
            ("mine.py:affine_forwrd mine.py:b", 2, "Did you mean 'affine_forward'?"),
            ("mine.py:affine_forward mine.py:affine_backward", 2, "x=normal(4,6) y=labels(4,10)"),
            (
                "mine.py:affine_forward mine.py:affine_backward x=normal(4,6)",
                2,
                "affine_forward needs 'w'",
            ),
            (
                "mine.py:softmax_forward mine.py:softmax_backward scores=normal(4,6)",
                2,
                "softmax_forward needs 'y'. Give it, as in y=labels(4,10)",
            ),
            (
                "mine.py:affine_forward mine.py:affine_backward weight=normal(4,6)",
                2,
                "affine_forward has no parameter 'weight'",
            ),
            ("mine.py:affine_forward mine.py:affine_backward x=nrml(4)", 2, "mean 'normal'?"),
            ("mine.py:affine_forward mine.py:affine_backward y=labels(4)", 2, "COUNT,CLASSES"),
            ("mine.py:affine_forward mine.py:affine_backward x=normal(9999999)", 2, "1,000,000"),
            ("mine.py:affine_forward mine.py:affine_backward x=1 x=2", 2, "x is given twice."),
            ("mine.py:affine_forward mine.py:affine_backward 4x6", 2, "must be NAME=VALUE"),
            (
                "mine.py:affine_forward mine.py:affine_backward "
                "x=normal(4,6) w=normal(5,3) b=normal(3)",
                1,
                "mine.py, line 7: ValueError: ",
            ),
            (
                "mine.py:flaky_forward mine.py:affine_backward x=normal(2)",
                1,
                "mine.py, line 32: RuntimeError: no luck",
            ),
            ("mine.py:affine_forward", 2, "the following arguments are required: BACKWARD"),
        ],
    )
    def test_what_it_refuses(self, chainrule, mine, words, code, message):
        done = chainrule("doctor", *words.split())
        assert (done.code, done.out) == (code, "")
        assert done.err.count("\n") == 1
        assert message in done.err

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("def broken(:\n", "SyntaxError in line 1"),
            ("import numpy\n\nnumpy.nothing\n", "AttributeError in line 3"),
        ],
    )
    def test_files_that_cannot_be_imported(self, chainrule, mine, text, message):
        mine.joinpath("bad.py").write_text(text)
        done = chainrule("doctor", "bad.py:a", "bad.py:b", "x=1")
        assert done.code == 2
        assert f"doctor: bad.py cannot be imported: {message}" in done.err
