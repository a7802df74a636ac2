"""Answering ``import cs231n``, and putting names back that Python's packages have dropped since.

A finder in `sys.meta_path` answers imports of ``cs231n``, of its modules and of
``load_cifar10_tvt`` with the modules of `chainrule.course.cs231n`: the same objects under a second
name. It is put there by `activate` or by importing `chainrule.course.cs231n`, and acts only once
a program says ``import cs231n``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

from chainrule.course import generations, vanished
from chainrule.errors import ConfigError, explain, nearest

__all__ = ["CourseFinder", "activate", "install"]

_COURSE = "cs231n"
_KIT = "chainrule.course.cs231n"
_TOP_LEVEL = {_COURSE: _KIT, "load_cifar10_tvt": f"{_KIT}.load_cifar10_tvt"}
_MODULES = (
    "classifier_trainer",
    "classifiers",
    "data_utils",
    "fast_layers",
    "features",
    "gradient_check",
    "im2col",
    "im2col_cython",
    "layer_utils",
    "layers",
    "load_cifar10_tvt",
    "optim",
    "solver",
    "vis_utils",
)


class CourseFinder(MetaPathFinder):
    """Finds the course's modules in the kit."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Answer for the course's names and for nothing else.

        Parameters
        ----------
        fullname : str
            The module that a program imports.
        path, target : object
            Ignored: the kit is in one place.

        Returns
        -------
        ModuleSpec or None
            None for all other names.

        Raises
        ------
        ModuleNotFoundError
            For a module of ``cs231n`` that the kit does not have.
        """
        head, _, rest = fullname.partition(".")
        if head not in _TOP_LEVEL or (rest and head != _COURSE):
            return None
        name = f"{_TOP_LEVEL[head]}.{rest}" if rest else _TOP_LEVEL[head]
        if rest and find_spec(name) is None:
            rule = "be a module of the course kit"
            text = explain("import", fullname, rule, "an unknown one", nearest(rest, _MODULES))
            raise ModuleNotFoundError(text, name=fullname)
        return ModuleSpec(fullname, _Alias(name))


class _Alias(Loader):
    """Loads a module by importing it under its own name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.name)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec  # the import system has set that of the alias
        vanished.provide()


_FINDER = CourseFinder()


def install() -> None:
    """Make ``import cs231n`` mean the kit, in this process.

    Raises
    ------
    ConfigError
        If another ``cs231n`` has been imported already.
    """
    present = sys.modules.get(_COURSE)
    if present is not None and present.__name__ != _KIT:
        where = getattr(present, "__file__", None) or "another place"
        rule = "not be imported before the kit is activated"
        remedy = "Restart Python, and import chainrule.course.cs231n first."
        raise ConfigError(explain("chainrule.course", _COURSE, rule, f"that of {where}", remedy))
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def activate(generation: str | None = None) -> None:
    """Make ``import cs231n`` mean the kit; what the files that `enable` writes call.

    Parameters
    ----------
    generation : {"A", "B"}, optional
        Passed on to `use`; by default the choice stays as it is.

    Raises
    ------
    ConfigError
        If the generation is unknown, or another ``cs231n`` has been imported already.

    Notes
    -----
    Names that the notebooks use and that packages have dropped since are back in this process then:
    ``scipy.misc.imread``, ``imresize``, ``imsave`` and ``toimage``, ``scipy.ndimage.imread``,
    ``np.float``, ``np.int`` and the like, ``xrange``, and the modules ``past.builtins`` and
    ``cPickle``. No other process is affected.

    Examples
    --------
    >>> activate("A")  # doctest: +SKIP
    >>> from cs231n.layers import affine_forward  # doctest: +SKIP
    """
    if generation is not None:
        generations.use(generation)
    if _is_stub(sys.modules.get(_COURSE)):
        del sys.modules[_COURSE]
    install()
    # Where a stub is being imported, the import system takes from here what it hands out.
    importlib.import_module(_COURSE)


def _is_stub(module: ModuleType | None) -> bool:
    """Whether this is the file that `enable` writes, in the middle of its import."""
    return module is not None and getattr(module, "CHAINRULE_COURSE_KIT", False) is True
