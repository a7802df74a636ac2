"""``cs231n.classifiers.k_nearest_neighbor``: nearest neighbours by Euclidean distance."""

from __future__ import annotations

import numpy as np

from chainrule.course.arrays import as_floats
from chainrule.errors import ConfigError, InputError, ShapeError, explain

__all__ = ["KNearestNeighbor"]


class KNearestNeighbor:
    """Classifies by a vote of the nearest training examples."""

    def __init__(self) -> None:
        self.X_train = np.empty((0, 0))
        self.y_train = np.empty(0, np.int64)

    def train(self, X: np.ndarray, y: np.ndarray) -> None:
        """Remember the training examples.

        Parameters
        ----------
        X : ndarray, shape (N, D)
            Examples.
        y : ndarray, shape (N,), integer
            Labels from 0.

        Raises
        ------
        ShapeError
            If X has not two axes, or not as many rows as there are labels.
        """
        (self.X_train,) = as_floats("KNearestNeighbor.train", X=X)
        self.y_train = np.asarray(y)
        if self.X_train.ndim != 2 or self.y_train.shape != self.X_train.shape[:1]:
            rule = "have shape (N, D) for N labels"
            got = f"{self.X_train.shape} for labels {self.y_train.shape}"
            raise ShapeError(explain("KNearestNeighbor.train", "X", rule, got))

    def predict(self, X: np.ndarray, k: int = 1, num_loops: int = 0) -> np.ndarray:
        """Predict labels.

        Parameters
        ----------
        X : ndarray, shape (M, D)
            Test examples.
        k : int, default 1
            How many neighbours vote.
        num_loops : {0, 1, 2}, default 0
            Which way to compute distances.

        Returns
        -------
        ndarray, shape (M,)
            Labels.

        Raises
        ------
        InputError
            If `num_loops` is none of these.
        """
        ways = {
            0: self.compute_distances_no_loops,
            1: self.compute_distances_one_loop,
            2: self.compute_distances_two_loops,
        }
        if num_loops not in ways:
            raise InputError(explain("predict", "num_loops", "be 0, 1 or 2", repr(num_loops)))
        return self.predict_labels(ways[num_loops](X), k=k)

    def compute_distances_two_loops(self, X: np.ndarray) -> np.ndarray:
        """Compute distances pair by pair.

        Parameters
        ----------
        X : ndarray, shape (M, D)
            Test examples.

        Returns
        -------
        ndarray, shape (M, N)
            Distance of each test example to each training example.
        """
        X, train = self._both("compute_distances_two_loops", X)
        pairs = [[np.linalg.norm(test - other) for other in train] for test in X]
        return np.array(pairs, X.dtype).reshape(len(X), len(train))

    def compute_distances_one_loop(self, X: np.ndarray) -> np.ndarray:
        """Compute distances test example by test example.

        Parameters
        ----------
        X : ndarray, shape (M, D)
            Test examples.

        Returns
        -------
        ndarray, shape (M, N)
            Distance of each test example to each training example.
        """
        from scipy.spatial.distance import cdist

        X, train = self._both("compute_distances_one_loop", X)
        rows = [cdist(test[None], train) for test in X]
        return np.array(rows, X.dtype).reshape(len(X), len(train))

    def compute_distances_no_loops(self, X: np.ndarray) -> np.ndarray:
        """Compute all distances at once, by one matrix product.

        Parameters
        ----------
        X : ndarray, shape (M, D)
            Test examples.

        Returns
        -------
        ndarray, shape (M, N)
            Distance of each test example to each training example.
        """
        from sklearn.metrics.pairwise import euclidean_distances

        X, train = self._both("compute_distances_no_loops", X)
        if not len(X) or not len(train):  # scikit-learn wants at least one of each
            return np.empty((len(X), len(train)), X.dtype)
        distances: np.ndarray = euclidean_distances(X, train)
        return distances

    def predict_labels(self, dists: np.ndarray, k: int = 1) -> np.ndarray:
        """Let the nearest training examples vote.

        Parameters
        ----------
        dists : ndarray, shape (M, N)
            Distance of each test example to each training example.
        k : int, default 1
            How many vote, at most N.

        Returns
        -------
        ndarray, shape (M,)
            The most frequent label, the smallest of equally frequent ones.

        Raises
        ------
        ShapeError
            If there is no column for each training example.
        InputError
            If k is out of range.
        """
        dists = np.asarray(dists)
        count = len(self.y_train)
        if dists.ndim != 2 or dists.shape[1] != count:
            rule = f"have shape (M, {count})"
            raise ShapeError(explain("predict_labels", "dists", rule, dists.shape))
        if not 1 <= k <= count:
            raise InputError(explain("predict_labels", "k", f"lie between 1 and {count}", k))
        nearest = self.y_train[np.argsort(dists, axis=1, kind="stable")[:, :k]]
        votes = [np.unique(labels, return_counts=True) for labels in nearest]
        winners = [labels[counts.argmax()] for labels, counts in votes]
        return np.array(winners, self.y_train.dtype)

    def _both(self, where: str, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Test and training examples in one dtype."""
        if not self.y_train.size:
            raise ConfigError(
                explain(where, "training examples", "be there", "none", "Call train.")
            )
        X, train = as_floats(where, X=X, X_train=self.X_train)
        if X.ndim != 2 or X.shape[1] != train.shape[1]:
            raise ShapeError(explain(where, "X", f"have shape (M, {train.shape[1]})", X.shape))
        return X, train
