"""The classifier does what scikit-learn asks of a classifier."""

import pickle

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, make_moons
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from chainrule.errors import ConfigError, DivergedError
from chainrule.training import ChainruleClassifier


@parametrize_with_checks(
    [
        ChainruleClassifier(),
        ChainruleClassifier(model="softmax", epochs=30, lr=0.05),
        ChainruleClassifier(patience=20, dtype="float64"),
        ChainruleClassifier("mlp", model_options={"hidden": [16], "norm": "batch"}),
    ]
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def moons():
    return make_moons(200, noise=0.15, random_state=0)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:400], y[:400]


def probabilities_of(classifier, X):
    return classifier.predict_proba(X).tobytes()


class TestInScikitLearn:
    def test_pipeline_and_cross_validation(self, moons):
        pipeline = make_pipeline(StandardScaler(), ChainruleClassifier(random_state=0))
        scores = cross_val_score(pipeline, *moons, cv=3)
        assert scores.mean() > 0.95
        assert scores.std() > 0  # three different fits

    def test_grid_search_finds_the_better_values(self, moons):
        search = GridSearchCV(
            ChainruleClassifier(random_state=0, epochs=20),
            {"lr": [1e-6, 3e-2], "model_options": [{"hidden": 1}, {"hidden": 32}]},
            cv=3,
        ).fit(*moons)
        assert search.best_params_ == {"lr": 3e-2, "model_options": {"hidden": 32}}
        assert search.best_score_ > 0.9
        assert search.score(*moons) > 0.9

    def test_clone_is_unfitted_and_equal(self, moons):
        options = {"model": "mlp", "model_options": {"hidden": [5]}, "settings": {"shift": 0}}
        fitted = ChainruleClassifier(**options, random_state=3, epochs=3).fit(*moons)
        copy = clone(fitted)
        assert copy.get_params() == fitted.get_params()
        with pytest.raises(NotFittedError, match="not fitted yet"):
            copy.predict(moons[0])
        assert probabilities_of(copy.fit(*moons), moons[0]) == probabilities_of(fitted, moons[0])

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_pickle_and_joblib(self, moons, tmp_path, dtype):
        X, y = moons
        fitted = ChainruleClassifier("mlp", model_options={"norm": "batch"}, epochs=3, dtype=dtype)
        fitted.fit(X, y)
        joblib.dump(fitted, tmp_path / "classifier.joblib")
        for copy in (
            pickle.loads(pickle.dumps(fitted)),
            joblib.load(tmp_path / "classifier.joblib"),
        ):
            assert probabilities_of(copy, X) == probabilities_of(fitted, X)
            assert copy.history_.best == fitted.history_.best

    def test_set_params(self):
        classifier = ChainruleClassifier().set_params(lr=0.5, epochs=2)
        assert (classifier.lr, classifier.epochs) == (0.5, 2)


class TestLabels:
    def test_words(self, moons):
        X, y = moons
        words = np.array(["waning", "waxing"])[y]
        classifier = ChainruleClassifier(random_state=0).fit(X, words)
        assert classifier.classes_.tolist() == ["waning", "waxing"]
        assert set(classifier.predict(X)) == {"waning", "waxing"}
        assert classifier.score(X, words) > 0.95
        plain = ChainruleClassifier(random_state=0).fit(X, y)
        assert (plain.classes_[plain.predict(X)] == (classifier.predict(X) == "waxing")).all()

    def test_numbers_that_are_no_indices(self):
        X, y = load_iris(return_X_y=True)
        values = np.array([-3, 70, 1000])[y]
        classifier = ChainruleClassifier(random_state=0).fit(X, values)
        assert classifier.classes_.tolist() == [-3, 70, 1000]
        assert classifier.score(X, values) > 0.95

    def test_scores_of_two_and_of_more_classes(self, moons):
        X, y = moons
        two = ChainruleClassifier(random_state=0, epochs=5).fit(X, y)
        assert two.decision_function(X).shape == (200,)
        assert ((two.decision_function(X) > 0) == (two.predict(X) == 1)).all()
        chances = two.predict_proba(X)
        np.testing.assert_allclose(chances.sum(axis=1), 1)
        np.testing.assert_allclose(
            chances[:, 1], 1 / (1 + np.exp(-two.decision_function(X).astype(float))), rtol=1e-5
        )
        iris = load_iris(return_X_y=True)
        three = ChainruleClassifier(random_state=0, epochs=5).fit(*iris)
        assert three.decision_function(iris[0]).shape == (150, 3)


class TestTraining:
    def test_random_state(self, moons):
        X, y = moons

        def fitted(state):
            model = ChainruleClassifier(random_state=state, epochs=3)
            return probabilities_of(model.fit(X, y), X)

        assert fitted(0) == fitted(0)
        assert fitted(0) != fitted(1)
        assert fitted(np.random.RandomState(4)) == fitted(np.random.RandomState(4))
        state = np.random.RandomState(4)
        assert fitted(state) != fitted(state)  # a generator goes on
        assert fitted(None) != fitted(None)

    def test_images_and_a_convolutional_network(self, digits):
        X, y = digits
        classifier = ChainruleClassifier(
            "convnet",
            model_options={"filters": 8, "kernel_size": 3},
            input_shape=(1, 8, 8),
            epochs=8,
            settings={"shift": 1},
            random_state=0,
        ).fit(X[:300], y[:300])
        assert classifier.model_.layers[0].pair == "conv2d"
        assert classifier.n_features_in_ == 64
        assert classifier.score(X[300:], y[300:]) > 0.8

    def test_network_of_ones_own(self, digits, tmp_path):
        path = tmp_path / "net.toml"
        path.write_text(
            "[[layers]]\ntype = 'linear'\nout_features = 30\n[[layers]]\ntype = 'tanh'\n"
            "[[layers]]\ntype = 'linear'\nout_features = 'num_classes'\n"
        )
        classifier = ChainruleClassifier(str(path), random_state=0, epochs=10).fit(*digits)
        assert classifier.score(*digits) > 0.95

    def test_history(self, moons):
        classifier = ChainruleClassifier(random_state=0, epochs=7).fit(*moons)
        losses = classifier.history_.series("train_loss")
        assert len(losses) == classifier.n_iter_ == 7
        assert losses[-1] < losses[0]
        assert classifier.history_.stopped == "completed"
        assert "val_loss" not in classifier.history_.best

    def test_epochs_are_counted_however_often_it_is_evaluated(self, moons):
        settings = {"eval_every": 1}
        classifier = ChainruleClassifier(random_state=0, epochs=3, settings=settings).fit(*moons)
        assert len(classifier.history_.series("epoch")) == 12
        assert classifier.n_iter_ == 3

    def test_patience_holds_out_a_part(self, moons):
        X, y = moons
        classifier = ChainruleClassifier(
            random_state=0, patience=5, epochs=500, validation_fraction=0.3
        ).fit(X, y)
        assert classifier.history_.stopped == "patience"
        assert classifier.n_iter_ < 500
        assert "val_accuracy" in classifier.history_.best
        best = classifier.history_.best["val_accuracy"] * 60
        assert best == pytest.approx(round(best))  # of 60 held-out examples

    @pytest.mark.parametrize("preprocess", ["none", "mean_image", "standardize", "pca_whiten"])
    def test_preprocessing_belongs_to_the_classifier(self, preprocess):
        X, y = load_iris(return_X_y=True)
        classifier = ChainruleClassifier(preprocess=preprocess, random_state=0).fit(X, y)
        assert classifier.score(X, y) > 0.9

    def test_scale_of_the_columns_does_not_matter_when_standardised(self):
        X, y = load_iris(return_X_y=True)
        one, other = (
            ChainruleClassifier(random_state=0, epochs=5).fit(X * scale, y).predict_proba(X * scale)
            for scale in (1.0, 1024.0)
        )
        np.testing.assert_allclose(one, other, atol=1e-4)

    def test_rows_are_left_as_they_are(self, moons):
        X, y = moons[0].copy(), moons[1].copy()
        ChainruleClassifier(epochs=2).fit(X, y).predict(X)
        np.testing.assert_array_equal(X, moons[0])
        np.testing.assert_array_equal(y, moons[1])


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"model": "two_layr"}, "Did you mean 'two_layer'"),
            ({"model_options": {"hiden": 3}}, "Did you mean 'hidden'"),
            ({"optimizer": "adamm"}, "Did you mean 'adam'"),
            ({"settings": {"patiance": 3}}, "Did you mean 'patience'"),
            ({"settings": {"dropout": 0.5}}, "'dropout' has no meaning here"),
            ({"lr": -1}, "optimizer.lr = -1 is not valid"),
            ({"epochs": 0}, "training.epochs = 0 is not valid"),
            ({"preprocess": "scale"}, "preprocess"),
        ],
    )
    def test_options(self, moons, options, message):
        with pytest.raises(ConfigError, match=message):
            ChainruleClassifier(**options).fit(*moons)

    def test_dtype(self, moons):
        with pytest.raises(TypeError, match="dtype must be float32 or float64; got float16"):
            ChainruleClassifier(dtype="float16").fit(*moons)

    def test_shape_of_images(self, digits):
        message = r"input_shape must hold as many values as X has columns, 64; got \(3, 8, 8\)"
        with pytest.raises(ValueError, match=message):
            ChainruleClassifier("convnet", input_shape=(3, 8, 8)).fit(*digits)

    def test_one_class(self, moons):
        with pytest.raises(ValueError, match="y must hold at least two classes; got 1 class"):
            ChainruleClassifier().fit(moons[0], np.zeros(200, int))

    def test_columns(self, moons):
        classifier = ChainruleClassifier(epochs=1).fit(*moons)
        with pytest.raises(ValueError, match="3 features, but ChainruleClassifier is expecting 2"):
            classifier.predict(np.zeros((1, 3)))

    def test_divergence(self, moons):
        with pytest.raises(DivergedError, match="must stay finite"):
            ChainruleClassifier(optimizer="sgd", lr=1e36, epochs=2).fit(*moons)


def test_it_is_imported_only_when_asked_for():
    import chainrule.training as training

    assert "ChainruleClassifier" in training.__all__
    name = "ChainruleClasifier"
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
        getattr(training, name)
