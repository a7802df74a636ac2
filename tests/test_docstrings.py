"""Docstrings agree with signatures and have the sections they need.

What a room exports (``chainrule.optim.Adam``) is documented in full: each parameter, each
return value, an example for each function. What its modules share among themselves, and
methods, need a summary at least, and a list of parameters only if it is complete and right.
"""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

import chainrule

docscrape = pytest.importorskip("numpydoc.docscrape", reason="numpydoc is not installed")
validate = pytest.importorskip("numpydoc.validate", reason="numpydoc is not installed").validate

# https://numpydoc.readthedocs.io/en/latest/validation.html says what each code means.
STRUCTURE = {
    "GL05",  # tabs
    "GL06",  # unknown section
    "GL07",  # sections out of order
    "GL08",  # no docstring
    "SS01",  # no summary
    "SS03",  # summary without full stop
}
PARAMETERS = {
    "PR01",  # parameter not documented
    "PR02",  # documented parameter that does not exist
    "PR03",  # parameters out of order
    "PR04",  # no type
    "PR05",  # type with full stop
    "PR07",  # no description
    "PR10",  # no space before the colon
}
RESULTS = {
    "RT01",  # returns a value that is not documented
    "RT03",  # return value without description
    "YD01",  # yields values that are not documented
}
EXAMPLES = {"EX01"}


def rooms() -> list[str]:
    """Modules whose exports are the public interface: the package and its rooms."""
    found = pkgutil.iter_modules(chainrule.__path__, "chainrule.")
    return ["chainrule", *(each.name for each in found if each.name != "chainrule.__main__")]


def all_modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(chainrule.__path__, "chainrule."):
        if found.name != "chainrule.__main__":
            yield importlib.import_module(found.name)


def exports(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Name and value of the functions and classes in a module's ``__all__``."""
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            yield name, value


def public_objects() -> dict[str, Any]:
    """What rooms export, by its public name."""
    return {
        f"{room}.{name}": value
        for room in rooms()
        for name, value in exports(importlib.import_module(room))
        if value.__module__.startswith("chainrule.")
    }


def inner_objects() -> dict[str, Any]:
    """Methods, and what modules export to their own room only."""
    public = {id(value) for value in public_objects().values()}
    found = {}
    for module in all_modules():
        for name, value in exports(module):
            if value.__module__ != module.__name__:
                continue
            path = f"{module.__name__}.{name}"
            if id(value) not in public:
                found[path] = value
            if inspect.isclass(value):
                found |= {
                    f"{path}.{member}": method
                    for member, method in vars(value).items()
                    if inspect.isfunction(method)
                    and not member.startswith("_")
                    # One that overrides a documented method means what that one says.
                    and (method.__doc__ or not any(hasattr(b, member) for b in value.__bases__))
                }
    return found


def record_fields(value: Any) -> set[str] | None:
    """What a class is built from, where its signature does not say so.

    These are the fields of a dataclass, named tuple or pydantic model, which may be described
    under Attributes, and the options of a preprocessor, which come as ``**options``.
    """
    if inspect.isclass(value) and hasattr(value, "option_names"):
        return set(value.option_names())
    if dataclasses.is_dataclass(value):
        return {field.name for field in dataclasses.fields(value)}
    fields = getattr(value, "model_fields", None) or getattr(value, "_fields", None)
    return set(fields) if inspect.isclass(value) and fields else None


def documented(value: Any, *sections: str) -> set[str]:
    """The names that sections of a docstring describe."""
    doc = docscrape.NumpyDocString(inspect.getdoc(value) or "")
    entries = [entry for section in sections for entry in doc[section]]
    return {name.lstrip("*") for entry in entries for name in entry.name.split(", ")}


def faults(path: str, value: Any, public: bool) -> list[str]:
    """What is wrong with one docstring, as "code: message"."""
    chosen = set(STRUCTURE)
    found = []
    fields = record_fields(value)
    is_function = inspect.isfunction(value)
    is_special = inspect.isclass(value) and (
        issubclass(value, BaseException) or getattr(value, "_is_protocol", False)
    )
    if fields is not None:
        names = documented(value, "Parameters", "Attributes")
        if (public or names) and (missing := fields - names):
            found.append(f"PR01: fields {sorted(missing)} not documented")
    elif not is_special and (public or documented(value, "Parameters")):
        chosen |= PARAMETERS
    if public:
        chosen |= RESULTS | EXAMPLES if is_function else set()
    return found + [f"{code}: {text}" for code, text in validate(path)["errors"] if code in chosen]


PUBLIC = public_objects()
INNER = inner_objects()


@pytest.mark.parametrize("path", PUBLIC)
def test_public(path):
    assert faults(path, PUBLIC[path], public=True) == []


@pytest.mark.parametrize("path", INNER)
def test_inner(path):
    assert faults(path, INNER[path], public=False) == []


def test_there_is_something_to_check():
    assert "chainrule.optim.make_optimizer" in PUBLIC
    assert "chainrule.optim.base.Optimizer.step" in INNER
    assert "chainrule.optim.checks.check_number" in INNER


def no_docstring(x: int) -> int:
    return x


def no_parameters(x: int) -> int:
    """Say what it does.

    Returns
    -------
    int
        The same.

    Examples
    --------
    >>> no_parameters(1)
    1
    """
    return x


def another_parameter(x: int) -> int:
    """Say what it does.

    Parameters
    ----------
    y : int
        Not there.

    Returns
    -------
    int
        The same.
    """
    return x


def no_returns(x: int) -> int:
    """Say what it does.

    Parameters
    ----------
    x : int
        A number.

    Examples
    --------
    >>> no_returns(1)
    1
    """
    return x


@dataclasses.dataclass
class HalfDocumented:
    """Say what it is.

    Attributes
    ----------
    x : int
        A number.
    """

    x: int
    y: int


@pytest.mark.parametrize(
    ("value", "public", "inner"),
    [
        (no_docstring, {"GL08"}, {"GL08"}),
        (no_parameters, {"PR01"}, set()),
        (another_parameter, {"PR01", "PR02", "EX01"}, {"PR01", "PR02"}),
        (no_returns, {"RT01"}, set()),
        (HalfDocumented, {"PR01"}, {"PR01"}),
    ],
)
def test_the_check_can_fail(
    monkeypatch: pytest.MonkeyPatch, value: Callable[..., Any], public: set[str], inner: set[str]
) -> None:
    monkeypatch.setattr(chainrule, value.__name__, value, raising=False)
    path = f"chainrule.{value.__name__}"
    assert {each.partition(":")[0] for each in faults(path, value, public=True)} == public
    assert {each.partition(":")[0] for each in faults(path, value, public=False)} == inner
