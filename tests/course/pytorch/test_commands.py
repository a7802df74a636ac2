"""The commands: a training end to end, its pictures and predictions, what is refused and how."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chainrule.course.pytorch.logs import interval_line, read_log
from chainrule.course.pytorch.settings import RECIPES
from chainrule.course.pytorch.train import read_settings

pytest.importorskip("torch", reason="PyTorch is not installed")

Command = Callable[..., int]
BASIC = ["--lr", "0.0001", "--momentum", "0.9", "--batch-size", "32", "--epochs", "2"]
LINE = re.compile(
    r"Train Epoch: \d+ \[\d+/90 \(\d+%\)\]\t"
    r"Train Loss: \d+\.\d{6}\tVal Loss: \d+\.\d{6}\tVal Acc: \d+\.\d+"
)
END = re.compile(r"\n\ntest set: Average loss: \d+\.\d{4}, Accuracy: \d+/20 \(\d+%\)\n\n\Z")


def log_of(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_a_run_script_leaves_a_log_weights_and_pictures(tmp_path: Path, cifar: Path):
    """As a student works: a script from the recipe, run by sh, its output taken by tee."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    python = shutil.which("python", path=environment["PATH"])
    if python is None:
        pytest.skip("there is no command `python`, which run scripts call")

    def run(*words: object) -> str:
        done = subprocess.run(
            [str(word) for word in words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    module = "chainrule.course.pytorch"
    script = run(
        *(sys.executable, "-m", f"{module}.train", "--model", "mymodel", "--recipe", "--script"),
        *("--epochs", 1, "--hidden-dim", 4, "--log-interval", 1, "--cifar10-dir", cifar.parent),
    )
    assert script.startswith("#!/bin/sh\npython -u -m chainrule.course.pytorch.train \\\n")
    for flag in ("--flip", "--shift 2", "--epochs 1", "--channels-last", "| tee mymodel.log\n"):
        assert flag in script
    (tmp_path / "run_mymodel.sh").write_text(script)
    log = run("sh", "run_mymodel.sh")
    assert log == (tmp_path / "mymodel.log").read_text()
    assert all(LINE.fullmatch(line) for line in log.splitlines()[:-3])
    assert END.search(log)
    assert (tmp_path / "mymodel.pt").is_file()


def test_the_log_of_every_interval(
    command: Command,
    cifar: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = ["--model", "softmax", *BASIC, "--cifar10-dir", cifar, "--log-interval", 2]
    assert command("train", *words) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    starts = [line.partition("\t")[0] for line in lines if line]
    assert starts[:-1] == [
        "Train Epoch: 1 [0/90 (0%)]",
        "Train Epoch: 1 [64/90 (67%)]",
        "Train Epoch: 2 [0/90 (0%)]",
        "Train Epoch: 2 [64/90 (67%)]",
    ]
    assert all(LINE.fullmatch(line) for line in lines[:4])
    assert END.search(captured.out)
    assert captured.err.splitlines() == [
        "chainrule: training softmax on the CPU, since there is no CUDA device",
        "chainrule: weights saved to softmax.pt",
    ]


def test_the_same_seed_gives_the_same_log(
    command: Command, cifar: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["--model", "mymodel", *BASIC, "--hidden-dim", 4, "--flip", "--shift", 2]
    words += ["--cifar10-dir", cifar, "--no-cuda"]

    def train(*more: object) -> str:
        assert command("train", *words, *more) == 0
        return log_of(capsys)

    first = train()
    assert train("--seed", 1) == first  # the course's default
    assert train("--seed", 2) != first
    # Dropout and batch statistics: looking at the validation images must change nothing.
    assert train("--log-interval", 1).splitlines()[-2] == first.splitlines()[-2]


@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
def test_two_steps_by_hand(
    command: Command, cifar: Path, capsys: pytest.CaptureFixture[str], schedule: str
):
    """Softmax regression on all images at a time: the losses are those of the log."""
    import torch

    from chainrule.course.pytorch import CIFAR10, make_model

    lr, momentum, decay = 1e-4, 0.9, 2000.0
    words = ["--lr", lr, "--momentum", momentum, "--weight-decay", decay, "--schedule", schedule]
    words += ["--batch-size", 90, "--epochs", 2, "--seed", 5, "--cifar10-dir", cifar, "--no-cuda"]
    assert command("train", "--model", "softmax", *words) == 0
    lines = log_of(capsys).splitlines()[:2]
    found = [[float(part.split(": ")[1]) for part in line.split("\t")[1:]] for line in lines]

    rates = [lr, lr]
    if schedule == "one_cycle":
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, lr, total_steps=2, cycle_momentum=False
        )
        optimizer.step()
        rates[0] = cycle.get_last_lr()[0]
        cycle.step()
        rates[1] = cycle.get_last_lr()[0]
        assert rates[0] > 2 * rates[1]

    def pixels_and_labels(split: str) -> tuple[np.ndarray, np.ndarray]:
        data = CIFAR10(cifar, split)
        return np.array([image.double().numpy().ravel() for image, _ in data]), data.labels

    def judge(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, float]:
        """Loss, errors and accuracy at `w`, the last row of which is the bias."""
        scores = np.append(x, np.ones((len(x), 1)), 1) @ w
        p = np.exp(scores - scores.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        errors = (p - np.eye(10)[y]) / len(y)
        return -np.log(p[np.arange(len(y)), y]).mean(), errors, 100 * (p.argmax(1) == y).mean()

    torch.manual_seed(5)
    weight, bias = (p.detach().double().numpy() for p in make_model("softmax").parameters())
    w = np.append(weight.T, bias[None], 0)
    velocity = np.zeros_like(w)
    (x, y), validation = pixels_and_labels("train"), pixels_and_labels("val")
    for rate, numbers in zip(rates, found, strict=True):
        train_loss, errors, _ = judge(x, y)
        velocity = momentum * velocity + np.append(x, np.ones((90, 1)), 1).T @ errors + decay * w
        w = w - rate * velocity
        val_loss, _, accuracy = judge(*validation)
        assert numbers == pytest.approx([train_loss, val_loss, accuracy], rel=1e-4)


@pytest.mark.parametrize("model", RECIPES)
def test_a_script_says_the_whole_recipe(model: str):
    settings, only_script = read_settings(["--model", model, "--recipe", "--script", "--seed", "3"])
    assert only_script
    script = settings.script()
    assert script.endswith(f" | tee {model}.log\n")
    words = shlex.split(script.replace("\\\n", ""), comments=True)
    first, last = words.index("chainrule.course.pytorch.train") + 1, words.index("|")
    assert read_settings(words[first:last]) == (settings, False)
    assert {name: getattr(settings, name) for name in RECIPES[model]} == RECIPES[model]


def test_a_model_of_one_s_own(
    command: Command, cifar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/mine.py").write_text(
        "import torch\n"
        "import torch.nn as nn\n"
        "class MyModel(nn.Module):\n"
        "    def __init__(self, im_size, hidden_dim, kernel_size, n_classes):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(3, 4, 3)\n"
        "        self.fc = nn.Linear(4 * 900, n_classes)\n"
        "    def forward(self, images):\n"
        "        assert self.training == torch.is_grad_enabled()\n"
        "        return self.fc(self.conv(images).relu().flatten(1))\n"
    )
    model = "models/mine.py:MyModel"
    assert command("train", "--model", model, *BASIC, "--cifar10-dir", cifar) == 0
    assert "| tee mine.log" not in log_of(capsys)
    weights = ["--model", "mine.pt", "--cifar10-dir", cifar]
    assert command("predict", *weights) == 2
    assert "It was trained as models/mine.py:MyModel" in capsys.readouterr().err
    assert command("predict", *weights, "--code", model) == 0
    right = re.search(r"(\d+) of 20 right", capsys.readouterr().err)
    assert right is not None
    rows = (tmp_path / "predictions.csv").read_bytes().split(b"\r\n")
    assert rows[0] == b"image_id,label"
    assert [row.split(b",")[0] for row in rows[1:-1]] == [b"%d" % i for i in range(20)]
    # The same number by the log's last line and by the file.
    assert command("train", "--model", model, *BASIC, "--cifar10-dir", cifar) == 0
    assert f"Accuracy: {right[1]}/20" in log_of(capsys)


def test_predictions_for_the_challenge(
    command: Command, cifar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert command("train", "--model", "softmax", *BASIC, "--cifar10-dir", cifar) == 0
    from chainrule.course.pytorch import CIFAR10

    images = CIFAR10(cifar, "test").images
    (tmp_path / "data").mkdir()
    path = tmp_path / "data/test_images.npy"
    np.save(path, images.transpose(0, 2, 3, 1).astype(np.float32))
    assert command("predict", "--model", "softmax.pt", "--test-batch-size", 7) == 0
    challenge = (tmp_path / "predictions.csv").read_bytes()
    words = ["--model", "softmax.pt", "--cifar10-dir", cifar, "--out", "test.csv"]
    assert command("predict", *words) == 0
    assert (tmp_path / "test.csv").read_bytes() == challenge
    assert capsys.readouterr().out.splitlines()[-2:] == ["predictions.csv", "test.csv"]
    for content, complaint in {
        "shape": (np.zeros((2, 3, 32, 32)), "must have shape (N, 32, 32, 3); got (2, 3, 32, 32)"),
        "range": (np.full((2, 32, 32, 3), 300), "must hold values from 0 to 255; got int64 beyond"),
        "nan": (np.full((1, 32, 32, 3), np.nan), "must hold values from 0 to 255"),
        "object": (np.array([{}]), "must be a complete .npy file of numbers"),
    }.values():
        np.save(path, content, allow_pickle=True)
        assert command("predict", "--model", "softmax.pt") == 1
        assert complaint in capsys.readouterr().err
    path.unlink()
    assert command("predict", "--model", "softmax.pt") == 3
    assert "test_images.npy must exist; got none. The course gives it" in capsys.readouterr().err


def colours(path: Path) -> tuple[tuple[int, int], int]:
    with Image.open(path) as picture:
        rgb = picture.convert("RGB")
        return rgb.size, len(np.unique(np.asarray(rgb).reshape(-1, 3), axis=0))


def test_plots(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    lines = [
        interval_line(e, s, 100, s, 30 / (1 + 9 * e + s), 2.3 / e, 20.0 * e)
        for e in (1, 2)
        for s in range(0, 100, 10)
    ]
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/softmax.log").write_text("\n".join(lines))
    assert command("plot", "logs/softmax.log") == 0
    names = ["logs/softmax_lossvstrain.png", "logs/softmax_valaccuracy.png"]
    assert capsys.readouterr().out.splitlines() == names
    assert command("plot", "logs/softmax.log", "--out", "figures") == 0
    for name in names:
        picture = tmp_path / name
        (width, height), number = colours(picture)
        assert (width, height) == (1050, 630)
        assert number > 20
        assert picture.read_bytes() == (tmp_path / "figures" / picture.name).read_bytes()


def test_the_curves_are_the_log_s(tmp_path: Path):
    from chainrule.course.pytorch.figures import draw_accuracy, draw_losses

    path = tmp_path / "x.log"
    end = "test set: Average loss: 1.0, Accuracy: 5/10 (50%)"
    lines = [interval_line(1, 0, 9, 0, 3, 2, 10), interval_line(2, 3, 9, 0, 1, 1.5, 40), end]
    path.write_text("\n".join(lines))
    log = read_log(path)
    train, val = draw_losses(log, "x").axes[0].lines
    np.testing.assert_allclose(train.get_xydata(), [[0, 3], [4 / 3, 1]])
    np.testing.assert_allclose(val.get_xydata(), [[0, 2], [4 / 3, 1.5]])
    accuracy, test = draw_accuracy(log, "x").axes[0].lines
    np.testing.assert_allclose(accuracy.get_xydata(), [[0, 10], [4 / 3, 40]])
    assert test.get_label() == "test, at the end: 50.0 %"


@pytest.mark.parametrize("model", ["softmax", "twolayernn", "convnet", "mymodel"])
def test_filters(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str):
    import torch

    from chainrule.course.pytorch import make_model, save_model
    from chainrule.course.pytorch.filters import first_filters

    module = make_model(model, 6, 5)
    weight = next(iter(module.parameters()))
    torch.nn.init.normal_(weight)
    save_model(tmp_path / "w.pt", module, {"model": model})
    filters = first_filters(module.state_dict(), "w.pt")
    count, side = len(weight), 5 if weight.ndim == 4 else 32
    assert filters.shape == (count, side, side, 3)
    images = weight.detach().reshape(count, 3, side, side).numpy()
    np.testing.assert_array_equal(filters[1, 2, 3], images[1, :, 2, 3])
    if model in ("twolayernn", "mymodel"):
        return  # drawn as the other two
    assert command("filters", "w.pt") == 0
    assert capsys.readouterr().out.split() == ["w_filt.png", "w_gridfilt.png"]
    for name in ("w_filt.png", "w_gridfilt.png"):
        (width, height), number = colours(tmp_path / name)
        assert min(width, height) > 100
        assert number > 50


@pytest.mark.parametrize(
    ("name", "words", "code", "message"),
    [
        ("train", "", 2, "train: the following arguments are required: --model. See: python -m"),
        ("train", "--model sofmax", 2, "--model 'sofmax' is not known. Did you mean 'softmax'?"),
        ("train", "--model softmax --lrr 1", 2, "train: --lrr is not known. Did you mean '--lr'?"),
        ("train", "--model softmax more", 2, "train: 'more' is one word too many."),
        ("train", "--model softmax --lr -1", 2, "--lr must be a number above 0; got '-1'."),
        ("train", "--model softmax --lr nan", 2, "--lr must be a number above 0; got 'nan'."),
        ("train", "--model softmax --momentum 1", 2, "a number from 0 to below 1; got '1'."),
        ("train", "--model softmax --epochs 0", 2, "a whole number of at least 1; got '0'."),
        ("train", "--model softmax --batch-size x", 2, "of at least 1; got 'x'."),
        ("train", "--model softmax", 2, "--lr and --momentum and --batch-size and --epochs must"),
        ("train", "--model convnet --recipe --kernel-size", 2, "--kernel-size expected one"),
        ("train", "--model a.py:B --recipe", 2, "--recipe is for softmax, twolayernn, convnet,"),
        ("train", "--model softmax --recipe", 3, "train: CIFAR-10 must be in data or in"),
        ("plot", "no.log", 3, "no.log: log must exist; got none. Add `| tee no.log`"),
        ("filters", "no.pt", 3, "no.pt: file must exist; got none."),
        ("predict", "--model no.pt", 3, "no.pt: file must exist; got none."),
        ("predict", "--modell no.pt", 2, "predict: the following arguments are required"),
    ],
)
def test_refusals(
    command: Command, capsys: pytest.CaptureFixture[str], name: str, words: str, code: int,
    message: str,
):  # fmt: skip
    assert command(name, *words.split()) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("chainrule: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_a_missing_flag_is_shown_with_the_recipe_s_value(
    command: Command, capsys: pytest.CaptureFixture[str]
):
    assert command("train", "--model", "convnet", *BASIC) == 2
    assert capsys.readouterr().err == (
        "chainrule: train: --hidden-dim and --kernel-size must be given for convnet; got none. "
        f"Give it, or --recipe (hidden_dim {RECIPES['convnet']['hidden_dim']}; "
        f"kernel_size {RECIPES['convnet']['kernel_size']}).\n"
    )


def test_a_loss_that_is_not_finite(
    command: Command, cifar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["--model", "twolayernn", *BASIC, "--lr", "1e30", "--hidden-dim", 4]
    assert command("train", *words, "--cifar10-dir", cifar) == 4
    assert re.search(
        r"train: loss in epoch 1, step 2 must be finite; got (nan|inf). Lower --lr \(1e\+30\), by",
        capsys.readouterr().err,
    )
    assert not (tmp_path / "twolayernn.pt").exists()


def test_scores_of_the_wrong_shape(
    command: Command, cifar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, im_size, n_classes):\n"
        "        super().__init__()\n"
        "        self.fc = nn.Linear(32, n_classes)\n"
        "    def forward(self, images):\n"
        "        return self.fc(images)\n"
    )
    assert command("train", "--model", "mine.py", *BASIC, "--cifar10-dir", cifar) == 2
    message = "must give scores (32, 10) for images (32, 3, 32, 32); got (32, 3, 32, 10)."
    assert message in capsys.readouterr().err


def test_help_needs_neither_pytorch_nor_matplotlib():
    code = (
        "import sys\n"
        "from chainrule.course.pytorch import filters, plot, predict, train\n"
        "sys.exit(bool({'torch', 'matplotlib', 'PIL'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def documented() -> list[tuple[str, list[str]]]:
    """Name and words of every command of the manual's page."""
    text = (Path(__file__).parents[3] / "docs/course-pytorch.md").read_text(encoding="utf-8")
    lines = text.replace("\\\n", " ").splitlines()
    pattern = re.compile(r"python (?:-u )?-m chainrule\.course\.pytorch\.(\w+) (.*)")
    found = [pattern.search(line) for line in lines]
    return [(m[1], shlex.split(re.split(r" [|>] ", m[2])[0])) for m in found if m]


def test_the_commands_of_the_manual_are_understood():
    commands = documented()
    assert {name for name, _ in commands} == {"train", "plot", "filters", "predict"}
    assert len(commands) >= 8
    for name, words in commands:
        module = import_module(f"chainrule.course.pytorch.{name}")
        if name == "train":
            module.read_settings(words)
        else:
            module._parser().read(words)
