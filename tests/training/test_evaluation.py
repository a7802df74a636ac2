"""Accuracy, confusion and the gallery of mistakes, counted by hand or by scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score
from sklearn.metrics import confusion_matrix as sklearn_confusion

from chainrule.errors import InputError
from chainrule.models import FunctionModel, svm
from chainrule.training.evaluation import (
    accuracy_of,
    confusion_matrix,
    evaluate,
    probabilities,
    summarise,
)

CLASSES = ("cat", "dog", "owl")


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(200, 3)) * 5
    return scores, rng.integers(0, 3, 200), rng.integers(0, 255, (200, 1, 4, 4), dtype=np.uint8)


def test_counts_are_scikit_learns(scored):
    scores, y, _ = scored
    predicted = scores.argmax(axis=1)
    assert accuracy_of(scores, y) == accuracy_score(y, predicted)
    counts = confusion_matrix(y, predicted, 3)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, sklearn_confusion(y, predicted, labels=range(3)))


def test_classes_that_never_occur_have_their_row():
    counts = confusion_matrix(np.array([0]), np.array([1]), 4)
    assert counts.shape == (4, 4)
    assert counts.sum() == counts[0, 1] == 1


def test_accuracy_without_examples():
    assert np.isnan(accuracy_of(np.zeros((0, 3)), np.zeros(0, np.int64)))


def test_probabilities_of_huge_scores():
    rows = probabilities(np.array([[1e4, 0.0], [-1e4, -1e4], [0.0, np.log(3)]]))
    np.testing.assert_allclose(rows, [[1, 0], [0.5, 0.5], [0.25, 0.75]], atol=1e-12)


def test_summary_and_the_most_confident_mistakes(scored):
    scores, y, images = scored
    record, tensors = summarise("test", 1.5, scores, y, CLASSES, images, num_mistakes=7)
    assert record["split"] == "test"
    assert record["num_examples"] == 200
    assert record["loss"] == 1.5
    assert record["classes"] == list(CLASSES)
    assert np.trace(record["confusion"]) == round(record["accuracy"] * 200)
    mistakes = []
    for i in range(200):
        chances = np.exp(scores[i]) / np.exp(scores[i]).sum()
        if chances.argmax() != y[i]:
            mistakes.append((-chances.max(), i))
    expected = [i for _, i in sorted(mistakes)[:7]]
    assert tensors["mistake_index"].tolist() == expected
    np.testing.assert_array_equal(tensors["mistake_images"], images[expected])
    np.testing.assert_array_equal(tensors["mistake_true"], y[expected])
    np.testing.assert_array_equal(tensors["mistake_predicted"], scores[expected].argmax(axis=1))
    assert tensors["mistake_confidence"].dtype == np.float32
    assert (np.diff(tensors["mistake_confidence"]) <= 0).all()


def test_summary_without_pictures_or_mistakes(scored):
    scores, y, images = scored
    assert summarise("val", 0.0, scores, y, CLASSES)[1] == {}
    record, tensors = summarise("val", 0.0, scores, scores.argmax(axis=1), CLASSES, images)
    assert record["accuracy"] == 1
    assert tensors["mistake_images"].shape == (0, 1, 4, 4)


def test_scores_of_other_examples(scored):
    scores, y, _ = scored
    with pytest.raises(InputError, match=r"scores must have shape \(199, 3\); got \(200, 3\)"):
        summarise("val", 0.0, scores, y[1:], CLASSES)


def test_loss_of_a_function_is_weighed_by_its_batches():
    """1,250 examples are evaluated in batches of 500, 500 and 250."""

    def loss_and_grads(params, x, y):
        return float(x.mean()), {"w": np.zeros(1)}

    x = np.arange(1250.0)[:, None]
    loss, accuracy, scores = evaluate(FunctionModel(loss_and_grads, {"w": np.ones(1)}), x, x[:, 0])
    assert loss == pytest.approx(x.mean())
    assert accuracy is None
    assert scores is None


def test_function_with_scores():
    def loss_and_grads(params, x, y):
        return 2.5, {"w": np.zeros(1)}

    model = FunctionModel(loss_and_grads, {"w": np.ones(1)}, scores=lambda params, x: x)
    loss, accuracy, scores = evaluate(model, np.eye(4), np.array([0, 1, 2, 0]))
    assert (loss, accuracy) == (2.5, 0.75)
    np.testing.assert_array_equal(scores, np.eye(4))


def test_network_with_another_loss():
    model = svm(3)
    model.init(np.random.default_rng(0), (4,), 0.0, np.float64)
    model.params["linear1.weight"][...] = 0
    model.params["linear1.bias"][...] = [1.0, 0.0, 3.0]
    loss, accuracy, _ = evaluate(model, np.zeros((2, 4)), np.array([0, 2]))
    assert loss == pytest.approx(((0 - 1 + 1) + (3 - 1 + 1) + 0 + 0) / 2)
    assert accuracy == 0.5
