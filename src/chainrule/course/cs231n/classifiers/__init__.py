"""``cs231n.classifiers``: linear classifiers, nearest neighbours and networks."""

from chainrule.course.cs231n.classifiers.k_nearest_neighbor import KNearestNeighbor
from chainrule.course.cs231n.classifiers.linear_classifier import (
    LinearClassifier,
    LinearSVM,
    Softmax,
)

__all__ = ["KNearestNeighbor", "LinearClassifier", "LinearSVM", "Softmax"]
