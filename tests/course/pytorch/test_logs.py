"""The log: to the letter what the course's code reads, and read back here."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from chainrule.course.pytorch.logs import final_lines, interval_line, read_log
from chainrule.errors import DataFormatError, DataMissingError

# How the course's notebook finds its numbers: with `match`, line by line.
NUMBER = r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?"
COURSE = {
    name: re.compile(f".*{name}: ({NUMBER})") for name in ("Train Loss", "Val Loss", "Val Acc")
}

FIRST = "Train Epoch: 1 [0/49000 (0%)]\tTrain Loss: 2.365165\tVal Loss: 2.341590\tVal Acc: 10"
SECOND = "Train Epoch: 2 [24500/49000 (50%)]\tTrain Loss: 1.5\tVal Loss: 1.25\tVal Acc: 52.5"
END = "test set: Average loss: 1.4024, Accuracy: 5045/10000 (50%)"


def test_a_line_is_the_course_s():
    # What the course's format string makes of the same numbers.
    expected = (
        "Train Epoch: {} [{}/{} ({:.0f}%)]\tTrain Loss: {:.6f}\tVal Loss: {:.6f}\tVal Acc: {}"
    )
    values = (3, 20480, 49000, 100.0 * 40 / 96, 2.1661321, 2.1296259, 100.0 * 313 / 1000)
    assert interval_line(*values) == expected.format(*values)
    assert interval_line(*values).endswith("\tVal Acc: 31.3")


def test_the_end_is_the_course_s():
    expected = "\n{} set: Average loss: {:.4f}, Accuracy: {}/{} ({:.0f}%)\n"
    assert final_lines(1.40244, 5045, 10000) == expected.format("test", 1.40244, 5045, 10000, 50.45)


def test_the_course_s_expressions_find_the_numbers():
    line = interval_line(1, 0, 49000, 0.0, 0.00000123, 1e7, 8.7)
    found = {name: float(pattern.match(line)[1]) for name, pattern in COURSE.items()}
    assert found == {"Train Loss": 1e-6, "Val Loss": 1e7, "Val Acc": 8.7}


def test_a_log_is_read_back(tmp_path: Path):
    path = tmp_path / "softmax.log"
    lines = [interval_line(e, s, 100, s, 2 / e, 3 / e, 10.0 * e) for e in (1, 2) for s in (0, 50)]
    path.write_text("\n".join([*lines, final_lines(1.5, 50, 80)]))
    log = read_log(path)
    np.testing.assert_allclose(log.epochs, [0, 0.5, 1, 1.5])
    np.testing.assert_allclose(log.train_losses, [2, 2, 1, 1])
    np.testing.assert_allclose(log.val_losses, [3, 3, 1.5, 1.5])
    np.testing.assert_allclose(log.val_accs, [10, 10, 20, 20])
    assert log.test_accuracy == 62.5


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_logs_of_the_course_are_read(tmp_path: Path, encoding: str):
    path = tmp_path / "mymodel.log"
    chatter = "Files already downloaded and verified"
    text = "\r\n".join([chatter, FIRST, chatter, SECOND, "", END, ""])
    path.write_bytes(text.encode(encoding))
    log = read_log(path)
    np.testing.assert_allclose(log.epochs, [0, 1.5])
    np.testing.assert_allclose(log.val_accs, [10, 52.5])
    assert log.test_accuracy == 50.45


def test_a_log_that_was_cut_off(tmp_path: Path):
    path = tmp_path / "mymodel.log"
    path.write_text(f"{FIRST}\n{SECOND[:40]}")
    log = read_log(path)
    assert len(log.epochs) == 1
    assert log.test_accuracy is None


def test_no_log(tmp_path: Path):
    with pytest.raises(DataMissingError, match=r"log must exist; got none. Add `\| tee x.log`"):
        read_log(tmp_path / "x.log")
    (tmp_path / "x.log").write_bytes(b"\x00\xff\nTrain Loss: 2\nVal Acc: nothing\n")
    with pytest.raises(DataFormatError, match=r"must hold lines such as .* got 3 lines, none"):
        read_log(tmp_path / "x.log")
