"""Notebooks of both generations, in a Jupyter kernel and as scripts, in an enabled folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chainrule.course import enable
from chainrule.data.cifar10 import find_cifar10

NOTEBOOKS = Path(__file__).parent / "notebooks"
WITHOUT_DATA = ["a_two_layer", "a_convnet", "b_normalization", "b_convnet"]
WITH_DATA = ["a_softmax", "b_knn", "b_linear", "b_fully_connected"]

RUN_NOTEBOOK = """
import sys
import nbclient, nbformat
cells = [nbformat.v4.new_code_cell(text) for text in sys.stdin.read().split("\\f")]
notebook = nbformat.v4.new_notebook(cells=cells)
nbclient.NotebookClient(notebook, timeout=240, kernel_name="python3").execute()
streams = [out for cell in notebook.cells for out in cell.outputs if out.output_type == "stream"]
sys.stdout.write("".join(out.text for out in streams if out.name == "stdout"))
sys.stderr.write("".join(out.text for out in streams if out.name == "stderr"))
"""


def cells(name: str) -> list[str]:
    text = (NOTEBOOKS / f"{name}.cells").read_text(encoding="utf-8")
    return [cell.strip() for cell in re.split(r"^# %%$", text, flags=re.MULTILINE) if cell.strip()]


def as_script(name: str) -> str:
    """The cells in one file; magics, which are no Python, left out."""
    kept = (re.sub(r"^%.*\n?", "", cell, flags=re.MULTILINE) for cell in cells(name))
    return "\n\n".join(kept) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An enabled folder with the two pictures that the notebooks show."""
    rng = np.random.default_rng(0)
    for picture, size in (("kitten", (50, 70, 3)), ("puppy", (60, 60, 3))):
        pixels = rng.integers(0, 256, size, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{picture}.jpg")
    enable(tmp_path)
    return tmp_path


def run(command: list[str], folder: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "IPYTHONDIR": str(folder / ".ipython"),
        "JUPYTER_RUNTIME_DIR": str(folder / ".runtime"),
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": str(folder / ".matplotlib"),
    }
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def need_data() -> None:
    there = os.environ.get("CHAINRULE_DATA", "")
    if not there or find_cifar10(Path(there)) is None:
        pytest.skip("CHAINRULE_DATA names no folder with cifar10")


def run_notebook(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    return run([sys.executable, "-c", RUN_NOTEBOOK], folder, "\f".join(cells(name)))


def check(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning" not in done.stderr


@pytest.mark.parametrize("name", WITHOUT_DATA)
def test_notebook(name: str, folder: Path) -> None:
    check(run_notebook(name, folder))


@pytest.mark.parametrize("name", WITHOUT_DATA)
def test_script(name: str, folder: Path) -> None:
    (folder / "work.py").write_text(as_script(name), encoding="utf-8")
    check(run([sys.executable, "work.py"], folder))


@pytest.mark.parametrize("name", WITH_DATA)
def test_notebook_on_real_data(name: str, folder: Path) -> None:
    need_data()
    check(run_notebook(name, folder))


def test_script_on_real_data(folder: Path) -> None:
    need_data()
    (folder / "work.py").write_text(as_script("b_knn"), encoding="utf-8")
    check(run([sys.executable, "work.py"], folder))


def test_a_failing_cell_is_noticed(folder: Path) -> None:
    (folder / "work.py").write_text("from cs231n.layers import *\nassert False, 'noticed'\n")
    done = run([sys.executable, "work.py"], folder)
    assert done.returncode == 1
    assert "noticed" in done.stderr


def test_every_notebook_is_run() -> None:
    assert {path.stem for path in NOTEBOOKS.glob("*.cells")} == {*WITHOUT_DATA, *WITH_DATA}
