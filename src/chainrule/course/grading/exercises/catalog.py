"""Which exercises there are, and the tests of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from chainrule.course.grading.script import Plan

__all__ = ["EXERCISES", "TESTS", "Exercise", "Test", "enter", "linspace"]


@dataclass(frozen=True)
class Exercise:
    """An exercise of the course.

    Attributes
    ----------
    name : str
        As on the command line.
    title : str
        For people.
    generations : str
        ``"A"``, ``"B"`` or ``"AB"``.
    points : float
        By default.
    """

    name: str
    title: str
    generations: str
    points: float


@dataclass(frozen=True)
class Test:
    """A test: one process, one part of an exercise.

    Attributes
    ----------
    exercise, name : str
        Together its key, ``exercise/name``.
    title : str
        For people.
    generations : str
        ``"A"``, ``"B"`` or ``"AB"``.
    weight : float
        Its share of the points of the exercise, beside the other tests.
    build : callable
        Given a generator and the generation, returns the plan.
    """

    exercise: str
    name: str
    title: str
    generations: str
    weight: float
    build: Callable[[np.random.Generator, str], Plan]

    __test__ = False  # pytest collects classes of this name otherwise

    @property
    def key(self) -> str:
        """Return ``exercise/name``."""
        return f"{self.exercise}/{self.name}"


EXERCISES = {
    one.name: one
    for one in (
        Exercise("knn", "k-nearest neighbours", "B", 10),
        Exercise("svm", "Linear support vector machine", "B", 10),
        Exercise("softmax", "Softmax classifier", "AB", 10),
        Exercise("linear_classifier", "Training a linear classifier", "AB", 10),
        Exercise("two_layer_net", "Two-layer network", "AB", 15),
        Exercise("classifier_trainer", "Trainer and its update rules", "A", 15),
        Exercise("layers", "Affine layer and ReLU", "AB", 15),
        Exercise("losses", "SVM and softmax loss layers", "AB", 10),
        Exercise("optim", "Update rules", "B", 15),
        Exercise("solver", "Solver", "B", 5),
        Exercise("fc_net", "Fully connected network of any depth", "B", 15),
        Exercise("batchnorm", "Batch and layer normalisation", "B", 20),
        Exercise("dropout", "Dropout", "B", 10),
        Exercise("conv", "Convolution and max pooling", "AB", 25),
        Exercise("spatial_norm", "Spatial batch and group normalisation", "B", 15),
        Exercise("convnet", "Convolutional network", "AB", 15),
        Exercise("gradient_check", "Numerical gradients", "AB", 5),
        Exercise("features", "Image features", "B", 5),
    )
}
TESTS: list[Test] = []


def enter(
    exercise: str, name: str, title: str, generations: str = "AB", weight: float = 1.0
) -> Callable[[Callable[..., Plan]], Callable[..., Plan]]:
    """Enter a function that builds a plan into the list of tests."""

    def add(build: Callable[..., Plan]) -> Callable[..., Plan]:
        TESTS.append(Test(exercise, name, title, generations, weight, build))
        return build

    return add


def linspace(low: float, high: float, *shape: int) -> np.ndarray:
    """Return evenly spaced numbers in a shape, as the notebooks of the course do."""
    return np.linspace(low, high, int(np.prod(shape))).reshape(shape)
