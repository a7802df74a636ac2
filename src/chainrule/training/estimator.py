"""The scikit-learn face of chainrule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from chainrule.data import make_preprocessor
from chainrule.errors import InputError, ShapeError, explain
from chainrule.models import build_model
from chainrule.training.evaluation import probabilities
from chainrule.training.fitting import fit

__all__ = ["ChainruleClassifier"]


class ChainruleClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classifier that trains any chainrule network, for scikit-learn.

    Parameters
    ----------
    model : str, default "two_layer"
        Built-in name, or the path of a TOML network.
    model_options : dict, optional
        Options of the built-in network, e.g. ``{"hidden": 64, "dropout": 0.2}``.
    input_shape : tuple of int, optional
        Shape (C, H, W) of the images whose pixels the rows of X hold; default: rows stay
        vectors.
    preprocess : str, default "standardize"
        Preprocessing fitted on X: ``none``, ``mean_image``, ``standardize`` or ``pca_whiten``.
    optimizer : str, default "adam"
        Update rule.
    lr : float, default 1e-2
        Learning rate.
    epochs : int, default 60
        Passes over X.
    batch_size : int, default 64
        Rows per step.
    l2 : float, default 0
        Strength of ``l2 / 2 * sum(w ** 2)``.
    patience : int, optional
        Stop after this many epochs without improvement on a part of X that is held out.
    validation_fraction : float, default 0.1
        Size of that part; used with `patience` only.
    settings : dict, optional
        Any other setting of `fit`, e.g. ``{"schedule": "cosine", "ema_decay": 0.99}``.
    dtype : {"float32", "float64"}, default "float32"
        Type of the arithmetic.
    random_state : int, numpy.random.RandomState or None, default None
        An int makes the result repeatable.

    Attributes
    ----------
    classes_ : ndarray (C,)
        The labels seen in `fit`.
    model_ : chainrule.models.Sequential
        The trained network.
    history_ : chainrule.training.History
        How training went.
    n_features_in_ : int
        Columns of X.
    n_iter_ : int
        Epochs trained.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = ChainruleClassifier(model_options={"hidden": 16}, random_state=0)
    >>> classifier.fit(X, y).score(X, y) > 0.95
    True
    """

    def __init__(
        self,
        model: str = "two_layer",
        *,
        model_options: Mapping[str, Any] | None = None,
        input_shape: Sequence[int] | None = None,
        preprocess: str = "standardize",
        optimizer: str = "adam",
        lr: float = 1e-2,
        epochs: int = 60,
        batch_size: int = 64,
        l2: float = 0.0,
        patience: int | None = None,
        validation_fraction: float = 0.1,
        settings: Mapping[str, Any] | None = None,
        dtype: str = "float32",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.model = model
        self.model_options = model_options
        self.input_shape = input_shape
        self.preprocess = preprocess
        self.optimizer = optimizer
        self.lr = lr
        self.epochs = epochs
        self.batch_size = batch_size
        self.l2 = l2
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.settings = settings
        self.dtype = dtype
        self.random_state = random_state

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Train on rows of X and labels y.

        Parameters
        ----------
        X : array-like (N, D)
            Examples.
        y : array-like (N,)
            Labels of any kind.

        Returns
        -------
        ChainruleClassifier
            Itself.

        Raises
        ------
        ValueError
            If X or y are not usable, or there is only one class.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(
                explain("ChainruleClassifier", "y", "hold at least two classes", "1 class")
            )
        state = check_random_state(self.random_state)
        rng = np.random.default_rng(state.randint(2**31, size=4))
        held_out: tuple[np.ndarray | None, np.ndarray | None] = (None, None)
        x = self._examples(X)
        if self.patience is not None:
            x, x_val, labels, y_val = train_test_split(
                x, labels, test_size=self.validation_fraction, random_state=state
            )
            self._preprocessor = make_preprocessor(self.preprocess).fit(x)
            held_out = (self._preprocessor.transform(x_val, self.dtype), y_val)
        else:
            self._preprocessor = make_preprocessor(self.preprocess).fit(x)
        x = self._preprocessor.transform(x, self.dtype)
        self.model_ = build_model(self.model, len(self.classes_), **(self.model_options or {}))
        self.model_.init(rng, x.shape[1:], dtype=self.dtype, examples=x)
        self.history_ = fit(
            self.model_,
            x,
            labels,
            *held_out,
            rng=rng,
            optimizer=self.optimizer,
            lr=self.lr,
            epochs=self.epochs,
            batch_size=self.batch_size,
            l2=self.l2,
            patience=self.patience,
            **(self.settings or {}),
        )
        self.n_iter_ = math.ceil(self.history_.series("epoch")[-1])
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return the scores of the classes.

        Parameters
        ----------
        X : array-like (N, D)
            Examples.

        Returns
        -------
        ndarray (N, C), or (N,) for two classes
            Scores; for two classes the second's lead over the first.
        """
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the probabilities of the classes.

        Parameters
        ----------
        X : array-like (N, D)
            Examples.

        Returns
        -------
        ndarray (N, C)
            Rows add up to one.
        """
        return probabilities(self._scores(X).astype(np.float64))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the most probable class of each row.

        Parameters
        ----------
        X : array-like (N, D)
            Examples.

        Returns
        -------
        ndarray (N,)
            Values of `classes_`.
        """
        scores = self._scores(X)
        return np.asarray(self.classes_[np.argmax(scores, axis=1)])

    def _examples(self, X: np.ndarray) -> np.ndarray:
        if self.input_shape is None:
            return X
        shape = tuple(self.input_shape)
        if math.prod(shape) != X.shape[1]:
            rule = f"hold as many values as X has columns, {X.shape[1]}"
            raise ShapeError(explain("ChainruleClassifier", "input_shape", rule, shape))
        return X.reshape(len(X), *shape)

    def _scores(self, X: np.ndarray) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self.model_.scores(self._preprocessor.transform(self._examples(X), self.dtype))
