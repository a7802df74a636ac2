"""Submissions are found in every form, copied without following links, and recognised."""

import os
import shutil
import zipfile

import pytest

from chainrule.course.grading import submission as module
from chainrule.course.grading.submission import collect, generation_of
from chainrule.errors import DataFormatError, DataMissingError


def taken(source, tmp_path):
    target = tmp_path / "taken"
    target.mkdir()
    return collect(source, target)


def zipped(folder, file):
    with zipfile.ZipFile(file, "w") as archive:
        for path in folder.rglob("*.py"):
            archive.write(path, path.relative_to(folder.parent))
    return file


@pytest.mark.parametrize("form", ["package", "around", "deep", "zip", "flat"])
def test_all_forms_give_the_same_files(student_b, tmp_path, form):
    expected = collect_files(student_b / "cs231n")
    source = student_b
    if form == "package":
        source = student_b / "cs231n"
    elif form == "deep":
        source = tmp_path / "outer"
        shutil.copytree(student_b, source / "assignment2" / "work")
    elif form == "zip":
        source = zipped(student_b, tmp_path / "s.zip")
    elif form == "flat":
        source = tmp_path / "flat"
        source.mkdir()
        for path in student_b.rglob("*.py"):
            shutil.copy(path, source)
    found = taken(source, tmp_path)
    assert set(found.files) == expected
    assert generation_of(found) == "B"


def collect_files(package):
    return {f"cs231n/{path.relative_to(package).as_posix()}" for path in package.rglob("*.py")}


def test_generations(student_a, tmp_path):
    assert generation_of(taken(student_a, tmp_path)) == "A"


def test_the_digest_is_that_of_names_and_contents(student_a, tmp_path, change):
    digests = []
    for step in range(4):
        target = tmp_path / f"taken{step}"
        target.mkdir()
        digests.append(collect(student_a, target).digest)
        if step == 1:
            change(student_a, "layers.py", "np.maximum(x, 0)", "np.maximum(0, x)")
        elif step == 2:
            (student_a / "cs231n" / "layers.py").rename(student_a / "cs231n" / "layer.py")
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_links_data_sets_and_strange_files_stay_behind(student_a, tmp_path):
    secret = tmp_path / "secret.py"
    secret.write_text("answer = 42", encoding="utf-8")
    package = student_a / "cs231n"
    (package / "link.py").symlink_to(secret)
    (package / "folder").symlink_to(tmp_path)
    (package / "datasets").mkdir()
    (package / "datasets" / "batch.py").write_text("", encoding="utf-8")
    (package / "fast.so").write_bytes(b"\x7fELF")
    os.mkfifo(package / "pipe.py")
    found = taken(student_a, tmp_path)
    assert set(found.skipped) == {
        "cs231n/link.py: a link", "cs231n/folder: a link", "cs231n/pipe.py: no file",
    }  # fmt: skip
    names = {path.name for path in found.folder.rglob("*")}
    assert not names & {"link.py", "folder", "datasets", "fast.so", "pipe.py", "secret.py"}


def test_zip_files_cannot_write_elsewhere(tmp_path):
    file = tmp_path / "s.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("cs231n/layers.py", "x = 1")
        for name in ("../up.py", "/etc/absolute.py", "cs231n/../../up.py", "C:/drive.py"):
            archive.writestr(name, "x = 1")
        link = zipfile.ZipInfo("cs231n/link.py")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    found = taken(file, tmp_path)
    assert found.files == ("cs231n/layers.py",)
    assert sum("unsafe" in why for why in found.skipped) == 4
    assert sum("a link" in why for why in found.skipped) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"s.zip", "taken"}


def test_zip_bombs(tmp_path, monkeypatch):
    file = tmp_path / "s.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(12):
            archive.writestr(f"cs231n/data{i}.py", b"#" * (2**20 + 2**19))
    with pytest.raises(DataFormatError, match="at most 2000 files and 16 MB"):
        taken(file, tmp_path)
    monkeypatch.setattr(module, "_MOST_FILES", 3)
    with pytest.raises(DataFormatError, match="at most 3 files"):
        collect(file, tmp_path)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda path: None, DataMissingError, "there is no such submission"),
        (lambda path: path.mkdir(), DataFormatError, "no Python file in this submission"),
        (lambda path: path.write_text("x"), DataFormatError, "is no folder, Python file or zip"),
    ],
)
def test_what_is_no_submission(tmp_path, make, error, words):
    make(tmp_path / "thing")
    with pytest.raises(error, match=words):
        taken(tmp_path / "thing", tmp_path)


def test_damaged_zip_files(tmp_path, student_a):
    file = zipped(student_a, tmp_path / "s.zip")
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DataFormatError, match="could not be unpacked"):
        taken(file, tmp_path)
