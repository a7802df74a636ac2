"""A small CIFAR-10 in the official files, and the course's commands run in one process."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

OFFICIAL = runpy.run_path(str(Path(__file__).parents[2] / "data" / "official_files.py"))


@pytest.fixture(scope="session")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder ``cifar-10-batches-py`` with 90, 10 and 20 images."""
    folder: Path = OFFICIAL["write_cifar10"](
        tmp_path_factory.mktemp("data"), OFFICIAL["cifar10_content"]()
    )
    return folder


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run one of the commands in an empty folder without data; returns its exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHAINRULE_DATA", str(tmp_path / "nothing"))

    def call(name: str, *words: object) -> int:
        shared = import_module("chainrule.course.pytorch.command")
        module = import_module(f"chainrule.course.pytorch.{name}")
        code: int = shared.run(module.main, [str(word) for word in words])
        return code

    return call
