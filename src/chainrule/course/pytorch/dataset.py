"""CIFAR-10 as a PyTorch `Dataset`, normalised by one colour for all pixels, as in the course."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from chainrule.course.cifar import locate_cifar10
from chainrule.data import Augment, DataSplits
from chainrule.data.cifar10 import CIFAR10_CLASSES, load_cifar10
from chainrule.errors import ConfigError, InputError, explain, nearest

__all__ = ["CIFAR10", "MEAN_COLOR", "STD_COLOR", "Images", "normalize", "read_splits"]

# The course's numbers. The mean is that of the training images; what the course calls the standard
# deviation is a tenth of theirs (0.247, 0.243, 0.262), and is kept because learning rates that were
# found there belong to it.
MEAN_COLOR = (0.49131522, 0.48209435, 0.44646862)
STD_COLOR = (0.01897398, 0.03039277, 0.03872553)


def normalize(images: np.ndarray) -> Tensor:
    """Subtract the course's mean colour from images and divide by its standard deviation.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, 3, H, W)
        Images.

    Returns
    -------
    Tensor of float32, shape (N, 3, H, W)
        ``(images / 255 - mean) / std`` for each channel.

    Examples
    --------
    >>> normalize(np.full((1, 3, 1, 1), 125, np.uint8)).flatten()
    tensor([-0.0590,  0.2666,  1.1292])
    """
    # A byte has 256 values: looking them up is quicker than computing each pixel.
    mean, std = (np.array(color, np.float32)[:, None] for color in (MEAN_COLOR, STD_COLOR))
    table = (np.arange(256, dtype=np.float32) / np.float32(255) - mean) / std  # (3, 256)
    out = np.empty(images.shape, np.float32)
    for channel, values in enumerate(table):
        out[:, channel] = values[images[:, channel]]
    return torch.from_numpy(out)


class Images(Dataset[tuple[Tensor, int]]):
    """Images and labels in memory, as a PyTorch data set.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, 3, 32, 32)
        Kept as bytes; normalised when they are asked for.
    labels : ndarray of int64, shape (N,)
        Their classes.
    flip : bool, default False
        Mirror each image left to right with probability 1/2, each time that it is asked for.
    shift : int, default 0
        Move each image by up to this many pixels in both directions; what moves in has the mean
        colour.
    rng : numpy.random.Generator, optional
        Draws flips and shifts.

    Raises
    ------
    InputError
        If images are to be changed and there is no generator.

    Examples
    --------
    >>> data = Images(np.zeros((4, 3, 32, 32), np.uint8), np.arange(4))
    >>> image, label = data[3]
    >>> tuple(image.shape), label, len(data)
    ((3, 32, 32), 3, 4)
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        flip: bool = False,
        shift: int = 0,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.images, self.labels = images, labels
        self.augment, self.rng = Augment(flip=flip, shift=shift), rng
        if self.augment and rng is None:
            rule = "be given with flip or shift"
            raise InputError(explain(type(self).__name__, "rng", rule, None))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return an image (3, 32, 32) and its label."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Return a batch; `DataLoader` calls this instead of fetching images one by one."""
        chosen = np.asarray(indices)
        images = normalize(self.images[chosen])
        if self.augment and self.rng is not None:
            images = torch.from_numpy(self.augment(images.numpy(), self.rng))
        return list(zip(images, self.labels[chosen].tolist(), strict=True))


def read_splits(where: str, root: str | os.PathLike[str]) -> DataSplits:
    """Read CIFAR-10 and cut it as the course does.

    Parameters
    ----------
    where : str
        Who asks, for messages.
    root : path
        The folder with ``cifar-10-batches-py``, that folder, or the folder with the archive. If
        CIFAR-10 is not there, chainrule's data folder is looked through. Nothing is downloaded.

    Returns
    -------
    DataSplits
        The first 49,000 images for training, the next 1,000 for validation, and the test images.

    Raises
    ------
    DataMissingError
        If CIFAR-10 is in neither place.
    DataFormatError
        If a file is damaged or hostile.
    """
    return load_cifar10(locate_cifar10(where, root))


class CIFAR10(Images):
    """One split of CIFAR-10, as the course's ``cifar10.py`` has it.

    Parameters
    ----------
    root : path, default "data"
        The folder with ``cifar-10-batches-py``, or that folder.
    split : {'train', 'val', 'test'}, default "train"
        49,000, 1,000 or 10,000 images.
    flip : bool, default False
        Mirror images at random.
    shift : int, default 0
        Move images at random; see `Images`.
    rng : numpy.random.Generator, optional
        Draws both.

    Attributes
    ----------
    classes : tuple of str
        Names of the labels.

    Raises
    ------
    ConfigError
        If there is no such split.
    DataMissingError
        If CIFAR-10 is not there. Nothing is downloaded.
    """

    classes = CIFAR10_CLASSES

    def __init__(
        self,
        root: str | os.PathLike[str] = "data",
        split: str = "train",
        *,
        flip: bool = False,
        shift: int = 0,
        rng: np.random.Generator | None = None,
    ) -> None:
        if split not in ("train", "val", "test"):
            hint = nearest(split, ["train", "val", "test"])
            raise ConfigError(f"CIFAR10: there is no split {split!r}. {hint}")
        chosen = getattr(read_splits("CIFAR10", root), split)
        super().__init__(chosen.x, chosen.y, flip=flip, shift=shift, rng=rng)
