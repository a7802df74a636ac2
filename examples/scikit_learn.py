"""Use a chainrule network as a scikit-learn classifier: in a pipeline, in a grid search.

    python examples/scikit_learn.py --out out

It fits, predicts, scores and clones as any other estimator, and keeps how its training went.
"""

import argparse
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import classification_report, confusion_matrix
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline

import chainrule as cr


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.25, stratify=y, random_state=0
    )

    pipeline = Pipeline(
        [
            ("pca", PCA(whiten=True, random_state=0)),
            ("network", cr.ChainruleClassifier(epochs=15, preprocess="none", random_state=0)),
        ]
    )

    # Every parameter of the estimator can be searched over, the network itself among them.
    search = GridSearchCV(
        pipeline,
        {
            "pca__n_components": [15, 30],
            "network__model": ["softmax", "two_layer"],
            "network__l2": [0.0, 1e-3],
        },
        cv=3,
    )
    search.fit(X_train, y_train)
    for rank, score, parameters in sorted(
        zip(
            search.cv_results_["rank_test_score"],
            search.cv_results_["mean_test_score"],
            search.cv_results_["params"],
            strict=True,
        ),
        key=lambda row: row[0],
    ):
        print(f"{rank}. {score:.1%}  {parameters}")

    predicted = search.predict(X_test)
    print(f"\ntest accuracy {search.score(X_test, y_test):.1%}\n")
    print(classification_report(y_test, predicted))

    # The winner has been fitted again on all of X_train, and kept how that went.
    history = search.best_estimator_["network"].history_
    names = [str(digit) for digit in search.classes_]
    figures = {
        "learning_curves": cr.report.learning_curves(history.records),
        "confusion_matrix": cr.report.confusion_matrix(confusion_matrix(y_test, predicted), names),
    }
    for name, figure in figures.items():
        figure.savefig(out / f"{name}.png")
        print(out / f"{name}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the figures")
    main(parser.parse_args().out)
