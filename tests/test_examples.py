"""Each example runs as its first lines say, prints what it promises and draws pictures."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chainrule.cli import main

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


@pytest.fixture
def run(tmp_path):
    """Run an example in a process and a folder of its own; return what it printed."""

    def run(name):
        # No display and no chosen backend, as on a server; warnings are errors, as in all tests.
        hidden = ("MPLBACKEND", "DISPLAY", "WAYLAND_DISPLAY")
        environment = {key: value for key, value in os.environ.items() if key not in hidden}
        done = subprocess.run(
            [sys.executable, "-W", "error", EXAMPLES / name, "--out", "a new/folder"],
            cwd=tmp_path,
            env=environment | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert [path.name for path in tmp_path.iterdir()] == ["a new"]
        assert str(tmp_path) not in done.stdout
        return done.stdout

    return run


def number(text, pattern):
    """The one number that a line of the output gives."""
    (found,) = re.findall(pattern, text)
    return float(found)


def picture(tmp_path, text, name):
    """A picture that was announced and drawn: more than one colour, more than a few pixels."""
    file = Path("a new", "folder", name)
    assert str(file) in text.splitlines()
    pixels = np.asarray(Image.open(tmp_path / file).convert("RGB"))
    assert min(pixels.shape[:2]) >= 100
    assert pixels.std() > 10
    return pixels


def test_train_and_look(run, tmp_path):
    text = run("train_and_look.py")
    assert re.search(r"^total +4,474 ", text, re.M)
    assert len(re.findall(r"^epoch +\d+ .*val accuracy", text, re.M)) == 20
    assert number(text, r"test accuracy ([\d.]+)%") > 96
    for name in ("learning_curves", "filters", "confusion_matrix", "mistakes"):
        picture(tmp_path, text, f"{name}.png")


def test_own_network(run, tmp_path):
    text = run("own_network.py")
    assert re.search(r"^conv2 +conv2d +\(64, 4, 4\) +4,672 ", text, re.M)
    assert len(re.findall(r"^pass  ", text, re.M)) == 10
    assert "FAIL" not in text
    assert number(text, r"best validation accuracy ([\d.]+)%") > 92
    assert number(text, r"test accuracy ([\d.]+)% of 300 images") > 92
    page = tmp_path / text.splitlines()[-1]
    assert page.name == "report.html"
    assert {"config.toml", "metrics.jsonl", "checkpoints"} <= set(os.listdir(page.parent))


def test_commands_of_own_network(tmp_path, monkeypatch, capsys):
    """The commands in the first lines do the same as the script."""
    monkeypatch.chdir(EXAMPLES.parent)
    shown = [
        re.sub(r"\s*\\+\s+", " ", re.sub(r"^#", "", text, flags=re.M))
        for text in ((EXAMPLES / f"own_network.{kind}").read_text() for kind in ("py", "toml"))
    ]
    commands = [re.findall(r"^ +chainrule (.*)$", text, re.M) for text in shown]
    assert commands[0] == commands[1]
    sanity, train = (shlex.split(line) for line in commands[0])
    assert sanity[0] == "sanity"
    with pytest.raises(SystemExit) as end:
        main([*train, "--dry-run"])
    assert end.value.code == 0
    config = capsys.readouterr().out
    script = (EXAMPLES / "own_network.py").read_text()
    for key in ("epochs", "lr"):
        assert f'"{key}": {number(config, rf"(?m)^{key} = (.*)$"):g},' in script
    assert 'name = "one_cycle"' in config
    assert 'name = "own_network"' in config


def test_own_loss(run, tmp_path):
    text = run("own_loss.py")
    assert number(text, r"largest relative error of a gradient: (\S+)") < 1e-6
    by_pca = number(text, r"test loss of PCA +(\S+)")
    assert number(text, r"test loss of autoencoder +(\S+)") < 0.9 * by_pca
    picture(tmp_path, text, "learning_curves.png")
    pixels = picture(tmp_path, text, "drawn_again.png")[:, :, 0]
    digits, drawn = pixels[:64], pixels[136:]
    assert np.corrcoef(digits.ravel(), drawn.ravel())[0, 1] > 0.9


def test_image_filters(run, tmp_path):
    text = run("image_filters.py")
    assert number(text, r"differ by (\S+)") < 1e-9
    pixels = picture(tmp_path, text, "filters.png").astype(float)
    rows = [pixels[:214], pixels[218:]]
    columns = [rows[0][:, left : left + 320] for left in range(0, 5 * 324, 324)]
    photograph, grey, horizontal, vertical, warm = columns
    assert np.ptp(photograph, axis=-1).mean() > 20
    for tile in (grey, horizontal, vertical, warm):
        assert np.ptp(tile, axis=-1).max() == 0
    assert np.abs(grey[..., 0] - photograph @ [0.299, 0.587, 0.114]).max() <= 1
    # The sky above the temple has no edges, the temple has; the flower is warm, its leaves are not.
    assert np.abs(horizontal[2:40, 250:300] - 127.5).mean() < 10
    assert np.abs(horizontal[100:140, 60:120] - 127.5).mean() > 30
    # A horizontal edge is a change of grey from row to row, a vertical one from column to column.
    down, across = np.gradient(grey[2:-2, 2:-2, 0])
    for tile, along, other in ((horizontal, down, across), (vertical, across, down)):
        slope = tile[2:-2, 2:-2, 0].ravel()
        assert np.corrcoef(slope, -along.ravel())[0, 1] > 0.2
        assert abs(np.corrcoef(slope, other.ravel())[0, 1]) < 0.15
    flower = rows[1][:, 4 * 324 :, 0]
    assert flower[90:130, 130:170].mean() > 200 > 128 > flower[60:90, 5:40].mean()


def test_scikit_learn(run, tmp_path):
    text = run("scikit_learn.py")
    scores = [float(score) for score in re.findall(r"^\d+\. ([\d.]+)%", text, re.M)]
    assert len(scores) == 8
    assert scores == sorted(scores, reverse=True)
    assert number(text, r"test accuracy ([\d.]+)%") > 95
    for name in ("learning_curves", "confusion_matrix"):
        picture(tmp_path, text, f"{name}.png")


def test_descend_with_bounds(run, tmp_path):
    text = run("descend_with_bounds.py")
    assert number(text, r"off by (\S+) at most") < 1e-12
    gaps = re.findall(r"gap ([\d.]+) <= ([\d.]+)$", text, re.M)
    assert len(gaps) == 6
    assert all(float(gap) <= float(bound) for gap, bound in gaps)
    assert text.count("the bound holds: ") == 2
    assert "worst case: gap 2.000000, bound 2.000000" in text
    assert 'the theorem promises nothing here, as "f is convex" did not hold' in text
    assert "minimiser [ 0. -4.], w - g/3 = [ 0. -4.]" in text
    assert re.findall(r"up with probability ([\d.]+)", text) == ["1.0", "0.5", "0.5"]
    for name in ("stochastic_descent", "path", "ascent"):
        picture(tmp_path, text, f"{name}.png")


def test_explain_course_graph(run, tmp_path):
    text = run("explain_course_graph.py")
    assert re.search(r"^  i4 = i1 \+ i3 +2\.8536$", text, re.M)
    for method in ("complex step", "forward mode", "reverse mode"):
        assert re.search(rf"^  {method} +47\.303 +4\.7102 +0 +1   error ", text, re.M)
    assert re.search(r"^  forward difference +48\.192 +4\.7641 ", text, re.M)
    assert re.findall(r"^(i\d) adds (\S+) to i4: (\S+)$", text, re.M) == [
        ("i6", "0.051525", "0.051525"),
        ("i5", "17.35", "17.402"),
    ]
    for name, start in (("course.html", "<!doctype"), ("course.md", "# Der"), ("loss.html", "<!d")):
        file = Path("a new", "folder", name)
        assert str(file) in text.splitlines()
        assert (tmp_path / file).read_text(encoding="utf-8").startswith(start)


def test_every_example_is_tested_and_listed():
    listed = re.findall(r"\]\((\w+\.\w+)\)", (EXAMPLES / "README.md").read_text())
    assert sorted(listed) == sorted(
        path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".toml")
    )
    for path in SCRIPTS:
        assert f"test_{path.stem}" in globals()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_first_lines_say_how_to_run_it(path):
    text = path.read_text()
    assert f"\n\n    python examples/{path.name} --out out\n\n" in text
    assert len(text.splitlines()) < 150
