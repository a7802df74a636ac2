"""Networks by name: the built-in ones, and a user's own in a TOML file."""

from __future__ import annotations

import dataclasses
import inspect
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from chainrule.errors import ConfigError, DataMissingError, explain, nearest
from chainrule.models.builtin import BUILTIN
from chainrule.models.module import Module
from chainrule.models.modules import MODULES
from chainrule.models.sequential import LOSSES, Sequential

__all__ = ["build_model", "layers_from_tables", "layers_to_tables", "read_network"]


def build_model(
    name: str | Path,
    num_classes: int,
    *,
    layers: Sequence[Mapping[str, Any]] | None = None,
    loss: str | None = None,
    implementation: str = "fast",
    fuse: bool = True,
    **options: Any,
) -> Sequential:
    """Build a network from a built-in name, a TOML file or a list of layer tables.

    Parameters
    ----------
    name : str or Path
        Built-in name, or a path that ends in ``.toml``. With `layers`, only a label.
    num_classes : int
        Number of classes.
    layers : sequence of mappings, optional
        Layer tables as in a TOML network; what is in the file of that name is not read then.
    loss : str, optional
        Name of the loss; default: the network's own, else the cross-entropy.
    implementation : {"fast", "numpy", "reference"}, default "fast"
        Which pairs of `chainrule.layers` compute it.
    fuse : bool, default True
        Compute sandwiches of layers together.
    **options
        Options of a built-in network, e.g. ``hidden=100``.

    Returns
    -------
    Sequential
        Without parameters; call its `init`.

    Raises
    ------
    ConfigError
        If a name, key or value is not understood; the message names the nearest known one.
    DataMissingError
        If the file does not exist.

    Examples
    --------
    >>> build_model("two_layer", 10, hidden=5).summary((2, 2)).parameters
    85
    >>> build_model("convnt", 10)
    Traceback (most recent call last):
    ...
    chainrule.errors.ConfigError: model: 'convnt' is not known. Did you mean 'convnet'?
    """
    name = str(name)
    if layers is None and name.endswith(".toml"):
        network = read_network(name)
        layers, loss = network["layers"], loss or network["loss"]
    keywords: dict[str, Any] = {"implementation": implementation, "fuse": fuse}
    if loss is not None:
        keywords["loss"] = loss
    if layers is not None:
        if options:
            key = next(iter(options))
            raise ConfigError(
                f"model {name}: option {key!r} has no meaning for a network given by its layers. "
                "Edit the layers instead."
            )
        return Sequential(layers_from_tables(layers, num_classes, name), **keywords)
    if name not in BUILTIN:
        raise ConfigError(f"model: {name!r} is not known. {nearest(name, BUILTIN)}")
    builder = BUILTIN[name]
    known = {
        key: parameter
        for key, parameter in inspect.signature(builder).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for key in options:
        if key not in known:
            hint = nearest(key, known) if known else "It has no options."
            raise ConfigError(f"model {name}: option {key!r} is not known. {hint}")
    checked = {key: _typed(builder, key, value, f"model {name}") for key, value in options.items()}
    return builder(num_classes, **checked, **keywords)


def read_network(path: str | Path) -> dict[str, Any]:
    """Read a network of one's own from a TOML file.

    Parameters
    ----------
    path : str or Path
        A file with an optional ``name`` and ``loss`` and one ``[[layers]]`` table per layer.

    Returns
    -------
    dict
        ``name``, ``loss`` (or None) and ``layers`` (a list of tables).

    Raises
    ------
    DataMissingError
        If there is no such file.
    ConfigError
        If it is not TOML, or a key is not understood.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "net.toml"
    >>> _ = path.write_text('''
    ... [[layers]]
    ... type = "flatten"
    ... [[layers]]
    ... type = "linear"
    ... out_features = "num_classes"
    ... ''')
    >>> read_network(path)["layers"][1]
    {'type': 'linear', 'out_features': 'num_classes'}
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataMissingError(
            f"{path}: there is no such network file. Give a built-in name "
            f"({', '.join(BUILTIN)}) or the path of a TOML file."
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: is not a TOML file ({error}).") from error
    for key in table:
        if key not in ("name", "loss", "layers"):
            hint = nearest(key, ("name", "loss", "layers"))
            raise ConfigError(f"{path}: key {key!r} is not known. {hint}")
    loss = table.get("loss")
    if loss is not None and loss not in LOSSES:
        raise ConfigError(f"{path}: loss {loss!r} is not known. {nearest(str(loss), LOSSES)}")
    if not isinstance(table.get("layers"), list) or not table["layers"]:
        raise ConfigError(explain(str(path), "layers", "be a list of [[layers]] tables", "none"))
    return {"name": str(table.get("name", path.stem)), "loss": loss, "layers": table["layers"]}


def layers_from_tables(
    tables: Sequence[Mapping[str, Any]], num_classes: int, where: str = "network"
) -> list[Module]:
    """Turn layer tables into layer objects.

    Parameters
    ----------
    tables : sequence of mappings
        Each has a ``type`` (``"conv2d"``) and the options of that layer. The value
        ``"num_classes"`` stands for the number of classes.
    num_classes : int
        Number of classes.
    where : str, default "network"
        Named in error messages.

    Returns
    -------
    list of Module
        The layers.

    Raises
    ------
    ConfigError
        If a type, key or value is not understood.

    Examples
    --------
    >>> layers_from_tables([{"type": "linear", "out_features": "num_classes"}], 10)
    [Linear(name='', out_features=10, bias=True, init_weight=None)]
    """
    layers = []
    for number, table in enumerate(tables, start=1):
        place = f"{where}: layer {number}"
        if not isinstance(table, Mapping) or not isinstance(table.get("type"), str):
            raise ConfigError(explain(place, "type", f"be one of {', '.join(MODULES)}", table))
        kind = table["type"]
        if kind not in MODULES:
            raise ConfigError(f"{place}: type {kind!r} is not known. {nearest(kind, MODULES)}")
        cls = MODULES[kind]
        fields = {field.name: field for field in dataclasses.fields(cls)}
        options = {}
        for key, value in table.items():
            if key == "type":
                continue
            if key not in fields:
                raise ConfigError(
                    f"{place} ({kind}): key {key!r} is not known. {nearest(key, fields)}"
                )
            value = num_classes if value == "num_classes" else value
            options[key] = _typed(cls, key, value, f"{place} ({kind})")
        for key, field in fields.items():
            if field.default is dataclasses.MISSING and key not in options:
                raise ConfigError(explain(f"{place} ({kind})", key, "be given", "nothing"))
        layers.append(cls(**options))
    return layers


def layers_to_tables(layers: Sequence[Module]) -> list[dict[str, Any]]:
    """Write layer objects as the tables of a TOML network; the inverse of reading them.

    Parameters
    ----------
    layers : sequence of Module
        The layers.

    Returns
    -------
    list of dict
        One table each, options at their defaults left out.

    Examples
    --------
    >>> from chainrule.models import Conv2d
    >>> layers_to_tables([Conv2d(8, (3, 5), padding=(1, 2))])
    [{'type': 'conv2d', 'out_channels': 8, 'kernel_size': [3, 5], 'padding': [1, 2]}]
    """
    return [{"type": layer.kind, **layer.options()} for layer in layers]


def _typed(owner: Any, key: str, value: Any, where: str) -> Any:
    """Check one option against its annotation; lists become the tuples that are meant."""
    from pydantic import TypeAdapter, ValidationError

    hint = get_type_hints(owner)[key]
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        reasons = "; ".join(dict.fromkeys(item["msg"] for item in error.errors()))
        raise ConfigError(f"{where}: {key} = {value!r} is not valid ({reasons}).") from error
