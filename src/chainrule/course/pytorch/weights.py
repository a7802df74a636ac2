"""Weights on disk: a state dictionary that says which network it belongs to.

``torch.load("softmax.pt")`` gives a plain state dictionary, for ``module.load_state_dict``. Pickled
modules, as the course's own ``torch.save(model, ...)`` writes them, can run any code when they are
read, and are refused.
"""

from __future__ import annotations

import importlib.util
import inspect
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from chainrule.course.pytorch.models import MODELS
from chainrule.errors import ConfigError, DataFormatError, DataMissingError, explain, nearest
from chainrule.records import write_atomically

__all__ = ["IM_SIZE", "N_CLASSES", "load_model", "load_weights", "make_model", "save_model"]

IM_SIZE = (3, 32, 32)
N_CLASSES = 10
_ABOUT = "chainrule_course"  # the attribute of a state dictionary that describes the network


def make_model(
    model: str, hidden_dim: int | None = None, kernel_size: int | None = None
) -> nn.Module:
    """Build a network of the course, or a student's own.

    Parameters
    ----------
    model : str
        ``softmax``, ``twolayernn``, ``convnet`` or ``mymodel``; or ``FILE.py:CLASS``, where the
        class may be left out if the file defines one module only. The file is run.
    hidden_dim, kernel_size : int, optional
        Given to those that ask for it.

    Returns
    -------
    torch.nn.Module
        With fresh weights, drawn from PyTorch's generator.

    Raises
    ------
    ConfigError
        If there is no such network, or its constructor takes other things than the course's.

    Examples
    --------
    >>> sum(weight.numel() for weight in make_model("twolayernn", hidden_dim=20).parameters())
    61670
    """
    if ".py" in model:
        file, _, name = model.partition(":")
        cls = _class_of(Path(file), name)
    elif model in MODELS:
        cls = MODELS[model]
    else:
        hint = nearest(model, MODELS)
        raise ConfigError(f"make_model: {model!r} is not known. {hint} Your own is FILE.py:CLASS.")
    given = {"im_size": IM_SIZE, "hidden_dim": hidden_dim, "kernel_size": kernel_size}
    return _call(cls, {**given, "n_classes": N_CLASSES})


def _call(cls: type[nn.Module], given: Mapping[str, Any]) -> nn.Module:
    """Pass what a constructor of the course takes: by name, or by place as the course does."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    taken = [p for p in inspect.signature(cls).parameters.values() if p.kind in kinds]
    if all(p.name in given or p.default is not p.empty for p in taken):
        return cls(**{p.name: given[p.name] for p in taken if p.name in given})
    places = {2: ("im_size", "n_classes"), 3: ("im_size", "hidden_dim", "n_classes"), 4: (*given,)}
    required = [p for p in taken if p.default is p.empty and p.kind is kinds[0]]
    if len(required) not in places:
        rule = "take (im_size, hidden_dim, kernel_size, n_classes)"
        got = f"({', '.join(p.name for p in taken)})"
        raise ConfigError(explain("make_model", cls.__name__, rule, got))
    return cls(*(given[name] for name in places[len(required)]))


def _class_of(file: Path, name: str) -> type[nn.Module]:
    """Run a student's file and return the module class in it."""
    if not file.is_file():
        raise ConfigError(f"make_model: there is no file {file}.")
    module = _run_file(file)
    own = {
        key: value
        for key, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, nn.Module)
        and (value.__module__ == module.__name__ or key == name)
    }
    if name in own:
        return own[name]
    if not own:
        raise ConfigError(f"make_model: {file} must define a subclass of nn.Module; got none.")
    if name:
        raise ConfigError(f"make_model: {file} has no module {name!r}. {nearest(name, own)}")
    if len(own) > 1:
        known = ", ".join(own)
        raise ConfigError(f"make_model: {file} has several modules: {known}. Name one: FILE:CLASS.")
    return next(iter(own.values()))


def _run_file(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_course_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"make_model: {file} must be a Python file (.py).")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and the like look their module up
    spec.loader.exec_module(module)
    return module


def save_model(
    path: str | os.PathLike[str], module: nn.Module, about: Mapping[str, str | int | None]
) -> None:
    """Write weights, and which network they belong to.

    Parameters
    ----------
    path : path
        Usually ``softmax.pt``; replaced as a whole or not at all.
    module : torch.nn.Module
        The network.
    about : mapping
        The arguments of `make_model`.

    Raises
    ------
    RunError
        If the file cannot be written.
    """
    state = {name: tensor.cpu().contiguous() for name, tensor in module.state_dict().items()}
    described = type(module.state_dict())(state)
    setattr(described, _ABOUT, dict(about))
    content = io.BytesIO()
    torch.save(described, content)
    write_atomically(Path(path), content.getvalue())


def load_weights(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a state dictionary without running anything that is in the file.

    Parameters
    ----------
    path : path
        What `save_model` wrote, or any file of ``torch.save(module.state_dict(), ...)``.

    Returns
    -------
    weights : dict of str to Tensor
        On the CPU.
    about : dict
        The arguments of `make_model` as far as the file tells; empty for other people's files.

    Raises
    ------
    DataMissingError
        If there is no such file.
    DataFormatError
        If it is damaged, or holds a pickled module or something else than weights.
    """
    if not Path(path).is_file():
        remedy = "`python -m chainrule.course.pytorch.train` writes such a file."
        raise DataMissingError(explain(str(path), "file", "exist", "none", remedy))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler, the archive and storages each raise their own kinds
        rule = "hold a state dictionary that can be read without running code"
        got = "a pickled object" if "GLOBAL" in str(error) else "a damaged file"
        remedy = "Save it with torch.save(model.state_dict(), ...)."
        raise DataFormatError(explain(str(path), "file", rule, got, remedy)) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        rule = "hold a state dictionary: tensors by name"
        raise DataFormatError(explain(str(path), "file", rule, f"a {type(state).__name__}"))
    about = getattr(state, _ABOUT, {})
    return dict(state), about if isinstance(about, dict) else {}


def load_model(
    path: str | os.PathLike[str],
    model: str | None = None,
    hidden_dim: int | None = None,
    kernel_size: int | None = None,
) -> nn.Module:
    """Read a trained network.

    Parameters
    ----------
    path : path
        Its weights.
    model, hidden_dim, kernel_size : optional
        See `make_model`. By default what the file says; but a file is never believed about code to
        run, so ``FILE.py:CLASS`` has to be given here.

    Returns
    -------
    torch.nn.Module
        In evaluation mode.

    Raises
    ------
    ConfigError
        If the network is not known.
    DataFormatError
        If weights and network do not fit together.

    Examples
    --------
    >>> import tempfile
    >>> path = f"{tempfile.mkdtemp()}/softmax.pt"
    >>> save_model(path, make_model("softmax"), {"model": "softmax"})
    >>> type(load_model(path)).__name__
    'Softmax'
    """
    weights, about = load_weights(path)
    told = str(about.get("model"))
    if model is None and told not in MODELS:
        known = f" It was trained as {told}." if "model" in about else ""
        raise ConfigError(
            f"{path}: the file names no network of the course.{known} "
            f"Say which it is: {', '.join(MODELS)} or FILE.py:CLASS."
        )
    sizes = {"hidden_dim": hidden_dim, "kernel_size": kernel_size}
    for name, size in sizes.items():
        read = about.get(name)
        if size is None and type(read) is int and 1 <= read <= 2**16:
            sizes[name] = read
    module = make_model(model or told, **sizes)
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        first = " ".join(str(error).split("\n", 1)[-1].split())
        rule = f"fit {type(module).__name__}"
        remedy = "Give the sizes it was trained with."
        raise DataFormatError(explain(str(path), "weights", rule, first[:200], remedy)) from error
    return module.eval()
