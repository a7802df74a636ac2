"""Train a small convolutional network on handwritten digits, and look at what it has learned.

    python examples/train_and_look.py --out out

Everything here is an array: the data, the parameters, the predictions. The figures show how
training went, what the filters of the first layer respond to, which digits are taken for which,
and the mistakes that the network is surest of.
"""

import argparse
from pathlib import Path

import numpy as np

import chainrule as cr


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)

    # 1,797 real images of 8 x 8 pixels, in three splits; images are (N, C, H, W), labels (N,).
    data = cr.data.load("digits")
    prepare = cr.data.make_preprocessor("mean_image").fit(data.train.x)
    x_train, x_val, x_test = (
        prepare.transform(split.x) for split in (data.train, data.val, data.test)
    )

    # A network is layers in order and one flat dictionary of parameters.
    rng = np.random.default_rng(0)
    net = cr.models.convnet(data.num_classes, filters=24, kernel_size=5)
    net.init(rng, data.input_shape)
    print(net.summary(), "\n")

    # Fitting ends with the weights that did best on the validation split.
    history = cr.training.fit(
        net,
        x_train,
        data.train.y,
        x_val,
        data.val.y,
        rng=rng,
        epochs=20,
        optimizer="adam",
        lr=3e-3,
        schedule="cosine",
        l2=2e-3,  # keeps the filters free of weights that nothing asks for
    )
    for record in history.records:
        if record["kind"] == "evaluation":
            print(
                f"epoch {record['epoch']:2.0f}"
                f"   train loss {record['train_loss']:.3f}"
                f"   val loss {record['val_loss']:.3f}"
                f"   val accuracy {record['val_accuracy']:.1%}"
            )

    # Scores become probabilities by the softmax: the largest is the network's confidence.
    scores = net.scores(x_test)
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    confidence = odds.max(axis=1) / odds.sum(axis=1)
    predicted = scores.argmax(axis=1)
    wrong = np.flatnonzero(predicted != data.test.y)
    wrong = wrong[np.argsort(-confidence[wrong])]  # the surest mistake first
    print(f"\ntest accuracy {np.mean(predicted == data.test.y):.1%}, {len(wrong)} mistakes")

    confusion = np.zeros((data.num_classes, data.num_classes), dtype=int)
    np.add.at(confusion, (data.test.y, predicted), 1)

    figures = {
        "learning_curves": cr.report.learning_curves(history.records),
        "filters": cr.report.weights(net.params),
        "confusion_matrix": cr.report.confusion_matrix(confusion, data.classes),
        "mistakes": cr.report.mistakes(
            data.test.x[wrong],
            data.test.y[wrong],
            predicted[wrong],
            confidence[wrong],
            data.classes,
        ),
    }
    for name, figure in figures.items():
        figure.savefig(out / f"{name}.png")
        print(out / f"{name}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the figures")
    main(parser.parse_args().out)
