"""The course's four networks in plain PyTorch, with the course's constructors.

A batch of images (N, C, H, W) gives scores (N, n_classes). Layers are called as in chainrule's
`softmax`, `two_layer` and `convnet`, so that weights fit there as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CNN", "MODELS", "MyModel", "Softmax", "TwoLayerNN"]

ImageSize = tuple[int, int, int]


# Images that are normalised as in the course have values around 10. With weights of this size the
# first layer's outputs are around 1, and what it learns can be seen among what it started from.
_FIRST_LINEAR, _FIRST_CONV = 1e-3, 1e-2


def _start(layer: nn.Linear | nn.Conv2d, std: float = 1e-4) -> None:
    """Draw weights; by default so small that the first loss is near log(n_classes)."""
    nn.init.normal_(layer.weight, std=std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class Softmax(nn.Module):
    """Softmax classifier: one linear layer.

    Parameters
    ----------
    im_size : tuple of int
        Channels, height and width of an image.
    n_classes : int
        Number of classes.

    Examples
    --------
    >>> import torch
    >>> Softmax((3, 32, 32), 10)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, im_size: ImageSize, n_classes: int) -> None:
        super().__init__()
        channels, height, width = im_size
        self.linear1 = nn.Linear(channels * height * width, n_classes)
        _start(self.linear1)

    def forward(self, images: Tensor) -> Tensor:
        """Return scores (N, n_classes) of images (N, C, H, W)."""
        scores: Tensor = self.linear1(images.flatten(1))
        return scores


class TwoLayerNN(nn.Module):
    """Two linear layers with a ReLU between them.

    Parameters
    ----------
    im_size : tuple of int
        Channels, height and width of an image.
    hidden_dim : int
        Number of hidden units.
    n_classes : int
        Number of classes.
    """

    def __init__(self, im_size: ImageSize, hidden_dim: int, n_classes: int) -> None:
        super().__init__()
        channels, height, width = im_size
        self.linear1 = nn.Linear(channels * height * width, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, n_classes)
        _start(self.linear1, _FIRST_LINEAR)
        _start(self.linear2)

    def forward(self, images: Tensor) -> Tensor:
        """Return scores (N, n_classes) of images (N, C, H, W)."""
        hidden = F.relu(self.linear1(images.flatten(1)))
        scores: Tensor = self.linear2(hidden)
        return scores


class CNN(nn.Module):
    """Convolution, ReLU, 2 x 2 max pooling, linear layer.

    Parameters
    ----------
    im_size : tuple of int
        Channels, height and width of an image.
    hidden_dim : int
        Number of filters.
    kernel_size : int
        Side of the filters; images are padded by half of it, and so keep their size.
    n_classes : int
        Number of classes.
    """

    def __init__(
        self, im_size: ImageSize, hidden_dim: int, kernel_size: int, n_classes: int
    ) -> None:
        super().__init__()
        channels, height, width = im_size
        self.conv1 = nn.Conv2d(channels, hidden_dim, kernel_size, padding=kernel_size // 2)
        larger = (kernel_size + 1) % 2  # by a pixel, where the side is even
        pixels = ((height + larger) // 2) * ((width + larger) // 2)
        self.linear1 = nn.Linear(hidden_dim * pixels, n_classes)
        _start(self.conv1, _FIRST_CONV)
        _start(self.linear1)

    def forward(self, images: Tensor) -> Tensor:
        """Return scores (N, n_classes) of images (N, C, H, W)."""
        maps = F.max_pool2d(F.relu(self.conv1(images)), 2)
        scores: Tensor = self.linear1(maps.flatten(1))
        return scores


class MyModel(nn.Module):
    """Seven convolutions in four stages, each with batch normalisation, then dropout.

    Parameters
    ----------
    im_size : tuple of int
        Channels, height and width of an image; height and width at least 8.
    hidden_dim : int or None, default None
        Filters of the first stage, 32 if None; each further stage has twice as many.
    kernel_size : int or None, default None
        Side of the filters, 3 if None.
    n_classes : int, default 10
        Number of classes.

    Notes
    -----
    The network is a small VGG. A stage begins with a convolution and max pooling; normalising and
    ReLU come after the pooling, which selects the same pixels as before it (unless a scale of the
    normalisation turns negative) and leaves a quarter of the work.

    References
    ----------
    Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition",
    arXiv:1409.1556, 2014. Ioffe and Szegedy, "Batch normalization", arXiv:1502.03167, 2015.
    """

    def __init__(
        self,
        im_size: ImageSize,
        hidden_dim: int | None = None,
        kernel_size: int | None = None,
        n_classes: int = 10,
    ) -> None:
        super().__init__()
        width, side = hidden_dim or 32, kernel_size or 3
        self.stages = nn.Sequential(
            _block(im_size[0], width, side, pool=True),
            _block(width, 2 * width, side, pool=True),
            _block(2 * width, 2 * width, side),
            _block(2 * width, 4 * width, side, pool=True),
            _block(4 * width, 4 * width, side),
            _block(4 * width, 8 * width, side),
            _block(8 * width, 8 * width, side),
        )
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(8 * width, n_classes)
        _start(self.classifier)

    def forward(self, images: Tensor) -> Tensor:
        """Return scores (N, n_classes) of images (N, C, H, W)."""
        features = self.stages(images).amax((2, 3))  # (N, 8 hidden_dim)
        scores: Tensor = self.classifier(self.dropout(features))
        return scores


def _block(inputs: int, outputs: int, side: int, pool: bool = False) -> nn.Sequential:
    """Convolution, pooling if asked for, batch normalisation, ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False)]
    layers += [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(*layers, nn.BatchNorm2d(outputs), nn.ReLU())


MODELS: Mapping[str, type[nn.Module]] = MappingProxyType(
    {"softmax": Softmax, "twolayernn": TwoLayerNN, "convnet": CNN, "mymodel": MyModel}
)
"""By the names that the course's ``--model`` takes."""
