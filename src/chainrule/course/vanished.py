"""Names that the notebooks use and that Python's packages have dropped since.

They come back in the process that imports ``cs231n`` from the kit, and in no other.
"""

from __future__ import annotations

import builtins
import os
import pickle
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import IO, TYPE_CHECKING

import numpy as np

from chainrule.errors import InputError, ShapeError, explain

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["VanishedFinder", "imread", "imresize", "imsave", "provide", "toimage"]

File = str | os.PathLike[str] | IO[bytes]

_NUMPY = {
    "bool": np.bool_,
    "complex": complex,
    "float": float,
    "float_": np.float64,
    "int": int,
    "object": object,
    "product": np.prod,
    "str": str,
}
_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "cubic")


def imread(name: File, flatten: bool = False, mode: str | None = None) -> np.ndarray:
    """Read an image as ``scipy.misc.imread`` did.

    Parameters
    ----------
    name : path or file
        The image.
    flatten : bool, default False
        Whether to turn it into one channel of grey, float32.
    mode : str, optional
        The kind of image to convert to, such as ``"RGB"``.

    Returns
    -------
    ndarray of uint8, shape (H, W) or (H, W, C)
        Its pixels.
    """
    from PIL import Image

    with Image.open(name) as image:
        if mode is None and image.mode == "P":  # a palette: its numbers are no colours
            mode = "RGBA" if "transparency" in image.info else "RGB"
        converted = image.convert(mode) if mode else image
        if flatten:
            return np.array(converted.convert("F"))
        return np.array(converted.convert("L") if converted.mode == "1" else converted)


def toimage(
    arr: np.ndarray,
    high: float = 255,
    low: float = 0,
    cmin: float | None = None,
    cmax: float | None = None,
    mode: str | None = None,
) -> Image:
    """Turn an array into a picture as ``scipy.misc.toimage`` did.

    Parameters
    ----------
    arr : ndarray, shape (H, W), (H, W, 3) or (H, W, 4); (3, H, W) where that is the only reading
        Pixels. Anything but uint8 is stretched from `cmin`..`cmax` to `low`..`high`.
    high, low : float, default 255 and 0
        Range of the result.
    cmin, cmax : float, optional
        What becomes `low` and `high`; by default the smallest and largest value.
    mode : str, optional
        The kind of picture; ``"F"`` keeps floats.

    Returns
    -------
    PIL.Image.Image
        The picture.

    Raises
    ------
    ShapeError
        If the array is no picture.
    """
    from PIL import Image

    data = np.asarray(arr)
    if data.ndim == 3 and data.shape[2] not in (3, 4) and data.shape[0] in (3, 4):
        data = data.transpose(1, 2, 0)
    if data.ndim != 2 and not (data.ndim == 3 and data.shape[2] in (3, 4)):
        rule = "have shape (H, W), (H, W, 3) or (H, W, 4)"
        raise ShapeError(explain("toimage", "arr", rule, data.shape))
    if mode == "F":
        return Image.fromarray(data.astype(np.float32))
    picture = Image.fromarray(_to_bytes(data, high, low, cmin, cmax))
    return picture.convert(mode) if mode else picture


def _to_bytes(
    data: np.ndarray, high: float, low: float, cmin: float | None, cmax: float | None
) -> np.ndarray:
    """Stretch to `low`..`high`; bytes stay as they are, as they did in SciPy."""
    if data.dtype == np.uint8:
        return np.ascontiguousarray(data)
    bottom = float(data.min()) if cmin is None else cmin
    top = float(data.max()) if cmax is None else cmax
    scale = (high - low) / ((top - bottom) or 1.0)
    return (((data - bottom) * scale + low).clip(low, high) + 0.5).astype(np.uint8)


def imresize(
    arr: np.ndarray,
    size: float | tuple[int, ...],
    interp: str = "bilinear",
    mode: str | None = None,
) -> np.ndarray:
    """Resize an image as ``scipy.misc.imresize`` did.

    Parameters
    ----------
    arr : ndarray, shape (H, W) or (H, W, C)
        Pixels; anything but uint8 is stretched to 0..255 first, as it was there.
    size : int, float or tuple of int
        An int is a percentage, a float a factor, a tuple the new (H, W).
    interp : {"nearest", "lanczos", "bilinear", "bicubic", "cubic"}, default "bilinear"
        Interpolation.
    mode : str, optional
        See `toimage`.

    Returns
    -------
    ndarray of uint8, shape (new H, new W) or (new H, new W, C)
        The resized image.

    Raises
    ------
    InputError
        If the interpolation is unknown.
    """
    from PIL import Image

    if interp not in _FILTERS:
        rule = f"be one of {', '.join(_FILTERS)}"
        raise InputError(explain("imresize", "interp", rule, repr(interp)))
    picture = toimage(arr, mode=mode)
    if isinstance(size, tuple):
        height, width = size[:2]
    else:
        factor = size / 100 if isinstance(size, int | np.integer) else size
        width, height = (int(side * factor) for side in picture.size)
    method = Image.Resampling["BICUBIC" if interp == "cubic" else interp.upper()]
    return np.array(picture.resize((width, height), method))


def imsave(name: File, arr: np.ndarray, format: str | None = None) -> None:
    """Write an image as ``scipy.misc.imsave`` did.

    Parameters
    ----------
    name : path or file
        Where to.
    arr : ndarray, shape (H, W), (H, W, 3) or (H, W, 4)
        Pixels; see `toimage`.
    format : str, optional
        Such as ``"png"``; by default what the name ends in.
    """
    toimage(arr).save(name, format=format)


def _misc(module: ModuleType) -> None:
    for function in (imread, imresize, imsave, toimage):
        setattr(module, function.__name__, function)


def _ndimage(module: ModuleType) -> None:
    module.imread = imread  # type: ignore[attr-defined]


def _past(module: ModuleType) -> None:
    module.__path__ = []


def _past_builtins(module: ModuleType) -> None:
    names = {"xrange": range, "basestring": str, "unicode": str, "long": int, "raw_input": input}
    for name, value in names.items():
        setattr(module, name, value)


def _pickle(module: ModuleType) -> None:
    vars(module).update({name: getattr(pickle, name) for name in pickle.__all__})


# `scipy.misc` is empty by now and warns when it is imported: ours comes instead.
_INSTEAD: dict[str, Callable[[ModuleType], None]] = {"scipy.misc": _misc}
_AFTERWARDS: dict[str, Callable[[ModuleType], None]] = {"scipy.ndimage": _ndimage}
_IF_ABSENT: dict[str, Callable[[ModuleType], None]] = {
    "past": _past,
    "past.builtins": _past_builtins,
    "cPickle": _pickle,
}


class VanishedFinder(MetaPathFinder):
    """Answers imports of modules that are gone, or lack a name since.

    Parameters
    ----------
    modules : dict of str to callable
        What fills the module of that name.
    found : bool
        Whether the module exists, so that it is loaded from where it is before it is filled.
    """

    def __init__(self, modules: dict[str, Callable[[ModuleType], None]], found: bool) -> None:
        self.modules = modules
        self.found = found

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Answer for the modules that this finder was given.

        Parameters
        ----------
        fullname : str
            The module that a program imports.
        path : sequence of str, optional
            Where its package is.
        target : module, optional
            Ignored.

        Returns
        -------
        ModuleSpec or None
            None for all other names.
        """
        if fullname not in self.modules:
            return None
        fill = self.modules[fullname]
        if not self.found:
            return ModuleSpec(fullname, _Filled(fill, None), is_package=fullname == "past")
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Filled(fill, spec.loader)
        return spec


class _Filled(Loader):
    """Executes a module as its own loader would, if it has one, then fills it."""

    def __init__(self, fill: Callable[[ModuleType], None], own: Loader | None) -> None:
        self.fill = fill
        self.own = own

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None if self.own is None else self.own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if self.own is not None:
            self.own.exec_module(module)
        self.fill(module)


_FIRST = (VanishedFinder(_INSTEAD, found=False), VanishedFinder(_AFTERWARDS, found=True))
_LAST = VanishedFinder(_IF_ABSENT, found=False)


def provide() -> None:
    """Put the vanished names back in this process; calling it again does nothing."""
    for name, value in _NUMPY.items():
        if name not in vars(np):  # `hasattr` would make NumPy warn of some of them
            setattr(np, name, value)
    if not hasattr(builtins, "xrange"):
        builtins.xrange = range  # type: ignore[attr-defined]
    for name, fill in (_INSTEAD | _AFTERWARDS).items():
        if name in sys.modules:
            fill(sys.modules[name])
    for finder in _FIRST:
        if finder not in sys.meta_path:
            sys.meta_path.insert(0, finder)
    if _LAST not in sys.meta_path:
        sys.meta_path.append(_LAST)
