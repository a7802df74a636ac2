"""`enable`, `disable`, `status` and their command line: what is written, and what never is."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chainrule.course import disable, enable, status
from chainrule.errors import ConfigError, InputError


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_enable_writes_two_small_files(tmp_path: Path) -> None:
    stub = enable(tmp_path, "A")
    assert set(tree(tmp_path)) == {"cs231n/__init__.py", "load_cifar10_tvt.py"}
    assert sum(map(len, tree(tmp_path).values())) < 1000
    assert status(tmp_path) == stub
    assert stub.generation == "A"


def test_disable_removes_exactly_those(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    before = tree(tmp_path)
    enable(tmp_path)
    done = python(tmp_path, "-c", "import cs231n.layers, load_cifar10_tvt")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cs231n" / "__pycache__").exists()
    assert len(disable(tmp_path)) == 2
    assert tree(tmp_path) == before
    assert not (tmp_path / "cs231n").exists()
    assert status(tmp_path) is None
    assert disable(tmp_path) == ()


def test_data_in_the_folder_stay(tmp_path: Path) -> None:
    data = tmp_path / "cs231n" / "datasets" / "cifar-10-batches-py" / "data_batch_1"
    data.parent.mkdir(parents=True)
    data.write_bytes(b"data")
    (tmp_path / "cs231n" / "datasets" / "fetch.py").write_text("pass")
    before = tree(tmp_path)
    enable(tmp_path)
    disable(tmp_path)
    assert tree(tmp_path) == before


def test_an_empty_folder_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "cs231n").mkdir()
    enable(tmp_path)
    enable(tmp_path)
    disable(tmp_path)
    assert (tmp_path / "cs231n").is_dir()


def test_enabling_again_changes_the_generation(tmp_path: Path) -> None:
    enable(tmp_path)
    assert enable(tmp_path, "B").generation == "B"
    code = "import cs231n, chainrule.course as c; print(c.generation())"
    assert python(tmp_path, "-c", code).stdout == "B\n"
    disable(tmp_path)
    assert not (tmp_path / "cs231n").exists()


@pytest.mark.parametrize(
    "own",
    ["cs231n/__init__.py", "cs231n/classifiers/softmax.py", "load_cifar10_tvt.py", "cs231n.py"],
)
def test_own_files_are_never_overwritten(tmp_path: Path, own: str) -> None:
    path = tmp_path / own
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("answer = 42\n")
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match=f"no cs231n of your own; got {own}. They stay as they"):
        enable(tmp_path)
    assert disable(tmp_path) == ()
    assert tree(tmp_path) == before


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "cs231n").symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="got cs231n"):
        enable(tmp_path / "work")
    assert tree(elsewhere) == {}


def test_the_own_package_counts_and_can_be_overruled(tmp_path: Path) -> None:
    (tmp_path / "cs231n").mkdir()
    (tmp_path / "cs231n" / "__init__.py").write_text("")
    (tmp_path / "cs231n" / "layers.py").write_text("answer = 42\n")
    own = "from cs231n import layers; print(hasattr(layers, 'answer'))"
    assert python(tmp_path, "-c", own).stdout == "True\n"
    assert python(tmp_path, "-c", f"import chainrule.course.cs231n; {own}").stdout == "False\n"
    late = python(tmp_path, "-c", "import cs231n, chainrule.course.cs231n")
    assert "cs231n must not be imported before the kit is activated" in late.stderr


def test_folders_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"folder of your notebooks; got .*missing, which is not"):
        enable(tmp_path / "missing")
    with pytest.raises(InputError, match="which is a file"):
        status(tmp_path / "file")
    with pytest.raises(ConfigError, match="enable: generation must be 'A'"):
        enable(tmp_path, "C")


def test_command_line(tmp_path: Path) -> None:
    def run(*words: str) -> tuple[int, str, str]:
        done = python(tmp_path, "-m", "chainrule.course", *words)
        return done.returncode, done.stdout, done.stderr

    assert run("status", ".") == (0, ".: the kit is not enabled.\n", "")
    code, out, _ = run("enable", ".", "--generation", "A")
    assert (code, out) == (0, ".: `import cs231n` gives chainrule's course kit, generation A.\n")
    assert run("status", ".")[1] == out
    code, out, _ = run("disable", ".")
    assert (code, out.startswith("Removed cs231n")) == (0, True)
    code, out, err = run("enable", "nowhere")
    assert (code, out) == (1, "")
    assert err.startswith("chainrule: enable: folder must be the folder of your notebooks")
    code, _, err = run("enable", ".", "--generation", "C")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("chainrule: argument --generation: invalid choice")
    assert run()[0] == 2
    code, out, _ = run("--help")
    assert code == 0
    assert "never overwritten" in " ".join(out.split())
    (tmp_path / "cs231n").mkdir()
    (tmp_path / "cs231n" / "layers.py").write_text("")
    code, _, err = run("enable", ".")
    assert (code, err.count("\n")) == (2, 1)


def test_a_folder_that_cannot_be_written_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "work/cs231n")

    main = importlib.import_module("chainrule.course.__main__")
    monkeypatch.setattr(main, "enable", refuse)
    assert main._run(["enable", "work"]) == 1
    assert capsys.readouterr().err == "chainrule: work/cs231n: Permission denied.\n"
