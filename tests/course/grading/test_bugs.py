"""Typical bugs get the partial credit they deserve, and the words that help."""

import pytest

BUGS = {
    "1/N missing": (
        "layers.py", "log_probs[rows, y].mean(), dx / len(x)", "log_probs[rows, y].mean(), dx",
        "losses/softmax_loss", 5 / 7, "division by the number of examples is missing",
    ),
    "sign": (
        "layers.py", "dx = (dout @ w.T)", "dx = -(dout @ w.T)",
        "layers/affine_backward", 2 / 3, "wrong sign",
    ),
    "bias not summed over the batch": (
        "layers.py", "db = dout.sum(axis=0)", "db = dout.sum(axis=1)",
        "layers/affine_backward", 2 / 3, "summed over axes (1,) instead of (0,)",
    ),
    "path through the variance": (
        "layers.py", "inner = inner - normed * (", "inner = inner - 0 * normed * (",
        "batchnorm/batchnorm_backward", 1 / 2, "path through the variance is missing",
    ),
    "dropout without its scale": (
        "layers.py", "else dout * cache", "else dout * (cache > 0)",
        "dropout/dropout_backward", 1 / 2, "without its scale",
    ),
    "padding not stripped at the front": (
        "layers.py", "dpadded[:, :, pad : pad + x.shape[2], pad : pad + x.shape[3]]",
        "dpadded[:, :, : x.shape[2], : x.shape[3]]", "conv/conv_backward", 7 / 9, "padding",
    ),
    "overwritten where windows overlap": (
        "layers.py", "+ s] += dout", "+ s] = dout",
        "conv/max_pool_backward", 1 / 2, "keeps the last dout only",
    ),
    "regulariser of a network doubled in the gradients": (
        "classifiers/fc_net.py", "+= self.reg * self.params", "+= 2 * self.reg * self.params",
        "two_layer_net/gradients_b", 3 / 4, "by W1, W2 has twice its size",
    ),
    "no regulariser in the gradients of a deep network": (
        "classifiers/fc_net.py", "+= self.reg * self.params", "+= 0 * self.params",
        "fc_net/plain", 7 / 12, "regulariser's gradient by W1, W2 is missing",
    ),
    "regulariser halved in the gradient": (
        "classifiers/softmax.py", "X.T.dot(dscores) + 2 * reg * W", "X.T.dot(dscores) + reg * W",
        "softmax/softmax_loss_vectorized", 2 / 3, "regulariser's gradient by W has half its size",
    ),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_the_doctor_names_the_bug(student_b, bug, change, grade_tests):
    file, old, new, test, share, words = BUGS[bug]
    change(student_b, file, old, new)
    result = grade_tests(student_b, test)[test]
    assert result.score == pytest.approx(100 * share)
    assert result.status == "partial"
    assert any(words in text for text in result.diagnosis), result.diagnosis


def test_a_wrong_forward_with_the_backward_that_belongs_to_it(student_b, change, grade_tests):
    change(
        student_b, "layers.py", "gamma * normed + beta, (normed", "gamma * normed - beta, (normed"
    )
    change(
        student_b, "layers.py", "sum(axis=0), dout.sum(axis=0)", "sum(axis=0), -dout.sum(axis=0)"
    )
    result = grade_tests(student_b, "batchnorm/batchnorm_backward")["batchnorm/batchnorm_backward"]
    assert result.diagnosis == [
        "The backward agrees with your own forward: look for the fault in the forward."
    ]


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ("return None", "it is None: is the function written yet?"),
        ("pass", "the function returned None: is it written yet?"),
        ("raise NotImplementedError", "not written yet"),
        ("return x[0], x", "its shape should be (3, 4); yours is (4,)"),
        ("return -np.maximum(x, 0), x", "all of it has the wrong sign"),
        ("return 3 * np.maximum(x, 0), x", "all of it is off by one factor, 3"),
        ("return np.maximum(x, 0) + 1, x", "all of it is off by the same amount"),
        ("return np.maximum(x, 0) * np.nan, x", "all 12 of its numbers are nan"),
        ("return 'relu', x", "it should be an array of numbers; yours is 'relu'"),
        ("return 1 / 0", "ZeroDivisionError: division by zero"),
        ("print('here'); return y", "NameError: name 'y' is not defined"),
    ],
)
def test_words_about_a_wrong_forward(student_a, new, words, change, grade_tests):
    change(student_a, "layers.py", "return np.maximum(x, 0), x", new)
    result = grade_tests(student_a, "layers/relu_forward")["layers/relu_forward"]
    assert result.status == "failed"
    found = [finding.message for finding in result.findings]
    assert any(words in message for message in found) or "the function returned None" in found[0]
    if "Error" in words:
        assert result.trace == [f"cs231n/layers.py:17, in relu_forward: {new}"]
        assert result.printed == ("here\n" * 2 if "print" in new else "")


def test_a_module_that_cannot_be_imported(student_a, change, grade_tests):
    change(
        student_a,
        "layers.py",
        "import numpy as np\n",
        "import numpy as np\nfrom nowhere import x\n",
    )
    results = grade_tests(student_a, "layers/relu_forward", "two_layer_net/init")
    assert (
        "ModuleNotFoundError: No module named 'nowhere'"
        in results["layers/relu_forward"].findings[0].message
    )
    assert results["two_layer_net/init"].status == "failed"  # it imports the layers


def test_a_syntax_error_is_shown_with_its_line(student_a, change, grade_tests):
    change(student_a, "layers.py", "return np.maximum(x, 0), x", "return np.maximum(x, 0), x)")
    result = grade_tests(student_a, "layers/relu_forward")["layers/relu_forward"]
    assert "SyntaxError: unmatched ')'" in result.findings[0].message
    assert result.trace == ["cs231n/layers.py:17:     return np.maximum(x, 0), x)"]


def test_a_function_that_is_not_there(student_a, change, grade_tests):
    change(student_a, "layers.py", "def relu_forward", "def rule_forward")
    result = grade_tests(student_a, "layers/relu_forward")["layers/relu_forward"]
    assert (result.status, result.score) == ("missing", 0)
    assert result.findings[0].message == "cs231n.layers has no relu_forward"


def test_what_the_rubric_keeps_from_students(student_b, change, grade_tests):
    change(student_b, "layers.py", "dx = (dout @ w.T)", "print('x'); dx = -(dout @ w.T)")
    shown = {"diagnosis": False, "trace": False, "printed": False}
    result = grade_tests(student_b, "layers/affine_backward", **shown)["layers/affine_backward"]
    assert (result.diagnosis, result.trace, result.printed) == ([], [], "")


def test_arguments_cannot_be_spoiled_for_the_next_call(student_a, change, grade_tests):
    change(student_a, "layers.py", "return np.maximum(x, 0), x", "x[x < 0] = 0\n    return x, x")
    results = grade_tests(student_a, "layers/relu_forward")
    assert results["layers/relu_forward"].status == "passed"
