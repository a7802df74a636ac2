"""Train a function of one's own: an autoencoder, written with its gradient, line by line.

    python examples/own_loss.py --out out

The trainer needs one function: parameters and a batch in, the loss and its gradients out. Here
that is an autoencoder. It squeezes a digit of 64 pixels through 12 numbers and has to draw it
again; where it fails, the 12 numbers did not hold what mattered. The backward pass is the
forward pass read from the end, and is checked against numerical differentiation before use.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import chainrule as cr
from chainrule.layers import (
    linear_backward,
    linear_forward,
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
)

Arrays = dict[str, np.ndarray]
SIZES = {"encode1": (64, 64), "encode2": (64, 12), "decode1": (12, 64), "decode2": (64, 64)}


def forward(params: Arrays, x: np.ndarray) -> tuple[np.ndarray, list]:
    """Squeeze and draw again: pixels (N, 64) in 0..1 to pixels, and what backward needs."""
    caches = []
    out = x
    for name in SIZES:
        out, cache = linear_forward(out, params[f"{name}.weight"], params[f"{name}.bias"])
        caches.append(cache)
        if name != "encode2":  # the 12 numbers are free to be negative
            activation = sigmoid_forward if name == "decode2" else relu_forward
            out, cache = activation(out)
            caches.append(cache)
    return out, caches


def loss_and_grads(params: Arrays, x: np.ndarray, target: np.ndarray) -> tuple[float, Arrays]:
    """Squared error, summed over pixels, averaged over images; and its gradients."""
    drawn, caches = forward(params, x)
    error = drawn - target
    loss = float(np.square(error).sum() / len(x))

    grads = {}
    dout = 2 * error / len(x)
    for name in reversed(SIZES):
        if name != "encode2":
            activation = sigmoid_backward if name == "decode2" else relu_backward
            dout = activation(dout, caches.pop())
        dout, grads[f"{name}.weight"], grads[f"{name}.bias"] = linear_backward(dout, caches.pop())
    return loss, grads


def initial(rng: np.random.Generator, dtype: type = np.float32) -> Arrays:
    """He's initial weights: the variance of activations stays what it is from layer to layer."""
    params = {}
    for name, (inputs, outputs) in SIZES.items():
        weight = rng.standard_normal((outputs, inputs)) * np.sqrt(2 / inputs)
        params[f"{name}.weight"] = weight.astype(dtype)
        params[f"{name}.bias"] = np.zeros(outputs, dtype)
    return params


def check_gradients(x: np.ndarray, rng: np.random.Generator) -> float:
    """Largest relative error of all gradients on a few images, in float64."""
    params, x = initial(rng, np.float64), x.astype(np.float64)
    _, grads = loss_and_grads(params, x, x)
    errors = []
    for name, value in params.items():

        def loss_of(probe: np.ndarray, name: str = name) -> float:
            return loss_and_grads(params | {name: probe}, x, x)[0]

        numeric = cr.gradcheck.numeric_gradient(loss_of, value)
        errors.append(np.abs(grads[name] - numeric).max() / np.abs(numeric).max())
    return max(errors)


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    data = cr.data.load("digits")
    x_train, x_val, x_test = (
        split.x.reshape(len(split), -1).astype(np.float32) / 255
        for split in (data.train, data.val, data.test)
    )
    rng = np.random.default_rng(0)
    print(f"largest relative error of a gradient: {check_gradients(x_train[:5], rng):.1e}")

    model = cr.models.FunctionModel(loss_and_grads, initial(rng))
    history = cr.training.fit(
        model, x_train, x_train, x_val, x_val, rng=rng, epochs=120, lr=2e-3, schedule="cosine"
    )
    print(f"validation loss {history.series('val_loss')[0]:.2f} -> {history.best['val_loss']:.2f}")

    # How good is that? The best linear way through 12 numbers is PCA.
    mean = x_train.mean(axis=0)
    axes = np.linalg.svd(x_train - mean, full_matrices=False)[2][:12]
    by_pca = mean + (x_test - mean) @ axes.T @ axes
    drawn, _ = forward(model.params, x_test)
    for name, pixels in (("PCA", by_pca), ("autoencoder", drawn)):
        print(f"test loss of {name:12}{np.square(pixels - x_test).sum(axis=1).mean():.2f}")

    # First row: digits. Second: by PCA. Third: by the autoencoder.
    rows = [pixels[:16].reshape(-1, 8, 8) for pixels in (x_test, by_pca, drawn)]
    tiles = np.concatenate(rows).clip(0, 1).repeat(8, axis=1).repeat(8, axis=2)
    picture = cr.report.image_grid(255 * tiles, 4, columns=16, fill=128, normalize=False)
    Image.fromarray(picture.astype(np.uint8)).save(out / "drawn_again.png")
    cr.report.learning_curves(history.records).savefig(out / "learning_curves.png")
    print(out / "drawn_again.png", out / "learning_curves.png", sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the pictures")
    main(parser.parse_args().out)
