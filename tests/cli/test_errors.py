"""An expected error is one line on standard error, with its exit code, and never a traceback."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from chainrule import training
from chainrule.data import catalog
from chainrule.data.download import DownloadError

USAGE = [
    ("trian", "command 'trian' is not known. Did you mean 'train'? See: chainrule --help"),
    ("quit", "Known: bench, data, descend, doctor, evaluate, explain, export, "),
    ("--verbose", "option '--verbose' is not known. Did you mean '--version'?"),
    ("data lst", "command 'lst' is not known. Did you mean 'list'? See: chainrule data --help"),
    ("data --json", "option '--json' is not known. Known: --help, -h. See: chainrule data --help"),
    ("train", "train: MODEL must be given. It may be softmax, svm, two_layer,"),
    ("train lr=1", "train: MODEL must be given."),
    ("train convnt", "model: 'convnt' is not known. Did you mean 'convnet'?"),
    ("train mlp mlp", "train: 'mlp' is neither the first word nor of the form KEY=VALUE."),
    ("sanity mlp 3", "sanity: '3' is neither the first word nor of the form KEY=VALUE."),
    ("train mlp --dta x", "train: option --dta is not known. Did you mean '--data'?"),
    ("train mlp --dta=x", "train: option --dta is not known. Did you mean '--data'?"),
    ("train mlp --js", "train: option --js is not known. Did you mean '--json'?"),
    ("train mlp --data", "train: argument --data: expected one argument. See: chainrule train --h"),
    ("train mlp --seed x", "train: argument --seed: invalid int value: 'x'."),
    ("train mlp --seed -1", "configuration: seed = -1 is not valid"),
    ("train mlp --data digts", "got 'digts'. Did you mean 'digits'?"),
    ("train mlp hiden=3", "key 'hiden' is not known. Did you mean 'hidden'?"),
    (
        "train mlp training.epoch=3",
        "'epoch' in [training] is not known. Did you mean 'epochs'?",
    ),
    ("train mlp trainin.epochs=3", "section 'trainin' is not known. Did you mean 'training'?"),
    ("train mlp eps=3", "'eps' is ambiguous. Write data.eps or optimizer.eps."),
    ("train mlp epochs=0", "training.epochs = 0 is not valid"),
    ("train mlp epochs=ten", "training.epochs = 'ten' is not valid"),
    ("train mlp optimizer.name=adm", "got 'adm'. Did you mean 'adam'?"),
    ("train mlp preprocess=standard", "got 'standard'. Did you mean 'standardize'?"),
    ("train --resume x lr=1", "train: --resume takes no other settings"),
    ("train mlp --resume x", "start a new run with --config x/config.toml"),
    ("train --resume x --seed 0", "train: --resume takes no other settings"),
    ("train --resume x --runs y", "train: --resume takes no other settings"),
    ("train --resume x --dry-run", "train: --resume takes no other settings"),
    ("evaluate", "evaluate: the following arguments are required: RUN. See: chainrule evaluate"),
    ("evaluate a b", "evaluate: 'b' is one word too many. See: chainrule evaluate --help"),
    ("evaluate a --split tset", "argument --split: 'tset' is not known. Did you mean 'test'? See"),
    ("predict a", "predict: the following arguments are required: IMAGE."),
    ("predict a b.png --csv - --json", "predict: --csv - and --json both ask for standard output."),
    ("report a --format gif", "argument --format: 'gif' is not known. Known: pdf, png, svg."),
    ("data fetch mnst", "got 'mnst'. Did you mean 'mnist'?"),
]


@pytest.mark.parametrize(("words", "said"), USAGE, ids=[words for words, _ in USAGE])
def test_wrong_usage(refused, words, said):
    assert said in refused(2, *words.split())
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("evaluate nothing", "nothing: is not a run directory"),
        ("report nothing", "List the runs with: chainrule runs"),
        ("predict nothing a.png", "nothing: is not a run directory"),
        ("train --resume nothing", "nothing: is not a run directory"),
        ("runs nothing", "nothing: there is no such folder of runs."),
        ("train mlp num_validation=5000", "must leave some of the 1797 examples for training"),
        ("train mlp hidden=[10000000000000]", "not enough memory. Unable to allocate"),
    ],
)
def test_failed(refused, words, said):
    assert said in refused(1, *words.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("data info mnist", "t10k-labels-idx1-ubyte.gz"),
        ("train mlp --data there/is/none.npz", "must be a .npz file or a folder"),
        ("train none.toml", "none.toml: there is no such network file."),
        ("train mlp --config none.toml", "none.toml: there is no such configuration file."),
    ],
)
def test_data_missing(refused, words, said):
    assert said in refused(3, *words.split())


def test_an_image_is_missing(refused, trained):
    assert "none.png must be a file" in refused(3, "predict", trained, "none.png")


def test_a_download_that_fails_says_what_to_put_where(refused, monkeypatch):
    def fail(file, folder, progress):
        raise DownloadError("example.org: no connection")

    monkeypatch.setattr(catalog, "fetch_file", fail)
    for words in (("train", "mlp", "--data", "mnist"), ("data", "fetch", "mnist")):
        line = refused(3, *words, "--data-dir", "my data")
        assert "train-images-idx3-ubyte.gz" in line
        assert "example.org: no connection" in line
        assert "put into my data" in line


def test_diverged(chainrule):
    words = ("train", "two_layer", "optimizer.name=sgd", "lr=1e6")
    done = chainrule(*words)
    assert (done.code, done.out) == (4, "")
    *before, last = done.err.splitlines()
    (run,) = Path("runs").iterdir()
    assert before == [f"chainrule: run directory {run}"]
    assert last.startswith("chainrule: training: the output of layer ")
    assert "got NaN at step" in last
    assert "with learning rate 1e+06" in last


def test_a_data_file_that_is_none(refused):
    Path("broken.npz").write_bytes(b"not a zip")
    assert "broken.npz: " in refused(1, "data", "info", "broken.npz")


def test_a_damaged_run(refused, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").write_text("seed = [")
    assert "config.toml: is not a TOML file" in refused(2, "evaluate", run)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(refused, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "Permission denied" in refused(1, "train", "softmax", "--runs", "locked/runs")


def test_a_folder_that_cannot_be(refused):
    Path("file").touch()
    assert "file" in refused(1, "train", "softmax", "--runs", "file/runs")


def test_an_operating_system_error_is_one_line(refused, monkeypatch):
    def fail(*arguments, **keywords):
        raise OSError(5, "Input/output error", "disk")

    monkeypatch.setattr(training, "list_runs", fail)
    assert refused(1, "runs") == "disk: Input/output error."


def test_a_message_of_several_lines_becomes_one(refused, monkeypatch):
    def fail(*arguments, **keywords):
        raise OSError("first\n  second")

    monkeypatch.setattr(training, "list_runs", fail)
    assert refused(1, "runs") == "first second."


def test_a_bug_keeps_its_traceback(chainrule, monkeypatch):
    def fail(*arguments, **keywords):
        raise AssertionError("a bug")

    monkeypatch.setattr(training, "list_runs", fail)
    with pytest.raises(AssertionError, match="a bug"):
        chainrule("runs")


def test_interrupted_before_training(refused, monkeypatch):
    def interrupt(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train_run", interrupt)
    assert refused(130, "train", "mlp") == "interrupted."


def test_interrupted_while_reading(process):
    """A real signal, while the configuration comes slowly through a pipe.

    It must not be ignored, as it is by what a shell started in the background.
    """
    os.mkfifo("slow.toml")
    heeding = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    child = process("train", "mlp", "--config", "slow.toml", **heeding)
    with open("slow.toml", "wb") as pipe:  # returns when chainrule opens the other end
        pipe.write(b"seed")
        pipe.flush()
        time.sleep(0.2)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err) == (130, "", "chainrule: interrupted.\n")


def test_a_reader_that_has_gone(process, trained):
    for words in (["--help"], ["train", "--help"], ["runs", trained.parent], ["info", "--json"]):
        reading, writing = os.pipe()
        os.close(reading)
        child = process(*words, stdout=writing)
        os.close(writing)
        _, err = child.communicate(timeout=60)
        assert (child.returncode, err) == (1, ""), words


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_behind_standard_output(process):
    with open("/dev/full", "w") as full:
        child = process("data", "list", stdout=full)
        _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert err.splitlines()[-1] == "chainrule: No space left on device."


def test_an_encoding_that_lacks_a_letter(process):
    np.savez("ñ.npz", x=np.zeros((9, 4)), y=np.arange(9) % 3, classes=["é", "b", "c"])
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    out, err = process("data", "info", "ñ.npz", env=ascii_only).communicate(timeout=60)
    assert err == ""
    assert r"\xe9" in out
    _, err = process("evaluate", "ñ", env=ascii_only).communicate(timeout=60)
    assert err.startswith(r"chainrule: \xf1: is not a run directory")
