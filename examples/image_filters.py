"""Filter photographs with convolutions whose weights are set by hand.

    python examples/image_filters.py --out out

A convolution layer is usually trained. Set by hand, its weights are the filters of image
processing, and one call applies all of them: the call below turns photographs grey and finds
the edges in them, as an aside in Stanford's course CS231n does.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from chainrule.layers import conv2d_forward
from chainrule.report import image_grid

SOBEL = np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]])  # the difference of the rows around
GREY = np.array([0.299, 0.587, 0.114])  # how bright red, green and blue look: ITU-R BT.601


def filters() -> tuple[np.ndarray, np.ndarray]:
    """Weights (F, C, 3, 3) and biases (F,) of four filters that see red, green and blue."""
    weight = np.zeros((4, 3, 3, 3))
    weight[0, :, 1, 1] = GREY  # nothing but the pixel itself: the photograph in grey
    weight[1] = GREY[:, None, None] * SOBEL  # bright above, dark below: horizontal edges
    weight[2] = GREY[:, None, None] * SOBEL.T  # bright on the left: vertical edges
    weight[3, 0, 1, 1], weight[3, 2, 1, 1] = 0.5, -0.5  # red against blue: warm or cold
    bias = np.array([0.0, 128.0, 128.0, 128.0])  # no edge is a middle grey
    return weight, bias


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    photographs = np.stack([load_sample_image(name) for name in ("china.jpg", "flower.jpg")])
    x = photographs.transpose(0, 3, 1, 2).astype(np.float64)  # (N, H, W, C) -> (N, C, H, W)

    weight, bias = filters()
    filtered, _ = conv2d_forward(x, weight, bias, padding=1)
    print("photographs", x.shape, "-> filtered", filtered.shape)

    # The first filter is a weighted mean of the channels, which is a plain dot product too.
    error = np.abs(filtered[:, 0] - photographs @ GREY).max()
    print(f"grey by convolution and by dot product differ by {error:.1e}")

    steepest = np.abs(filtered[:, 1:3] - 128).mean(axis=(2, 3))
    for name, (horizontal, vertical) in zip(("temple", "flower"), steepest, strict=True):
        print(f"{name}: mean slope {horizontal:.1f} up and down, {vertical:.1f} left and right")

    # One row for each photograph: itself, grey, horizontal edges, vertical edges, warm and cold.
    grey = np.clip(filtered, 0, 255)[..., None].repeat(3, axis=-1)  # (N, F, H, W, 3)
    rows = np.concatenate([photographs[:, None], grey], axis=1)
    tiles = rows[:, :, ::2, ::2].reshape(-1, 214, 320, 3)
    picture = image_grid(tiles, padding=4, columns=5, fill=255, normalize=False)
    Image.fromarray(picture.astype(np.uint8)).save(out / "filters.png")
    print(out / "filters.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the picture")
    main(parser.parse_args().out)
