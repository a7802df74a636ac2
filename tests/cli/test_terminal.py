"""What a person sees on a terminal, and a file does not."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def terminal():
    """Run chainrule on a terminal so many columns wide; return all that was shown."""

    def run(*words, columns=80, piped=(), **environment):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        surroundings = os.environ | {"OMP_NUM_THREADS": "1", "TERM": "xterm"} | environment
        surroundings.pop("COLUMNS", None)
        streams = {
            name: subprocess.DEVNULL if name in piped else theirs for name in ("stdout", "stderr")
        }
        child = subprocess.Popen(
            [sys.executable, "-m", "chainrule", *map(str, words)],
            stdin=theirs,
            env=surroundings,
            **streams,
        )
        os.close(theirs)
        shown = b""
        while True:
            try:
                block = os.read(ours, 65536)
            except OSError:  # how Linux says that no one holds the other end any more
                break
            if not block:
                break
            shown += block
        os.close(ours)
        assert child.wait(timeout=60) == 0, shown.decode()
        return shown.decode()

    return run


TRAIN = ("train", "two_layer", "epochs=300", "eval_every=1650", "hidden=64")


def test_training_shows_a_bar_on_a_terminal(terminal):
    shown = terminal(*TRAIN, piped=["stdout"])
    assert re.search(r"━.*/3300.*loss \d\.\d+.*images/s", ESCAPES.sub("", shown))


def test_a_file_gets_no_bar_even_where_colour_is_forced(process):
    child = process(*TRAIN, env={"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1"})
    out, err = child.communicate(timeout=120)
    assert "\x1b" not in out + err
    assert "━" not in err
    assert [line.split("  ")[0] for line in err.splitlines()[1:3]] == ["epoch 150", "epoch 300"]


def test_a_slow_check_shows_what_it_is_at(terminal):
    shown = terminal("sanity", "two_layer", piped=["stdout"])
    assert "checks done, last: " in shown
    assert shown.endswith("7 of 7 checks passed.\r\n")


def test_headers_are_bold_unless_colour_is_not_wanted(terminal):
    assert "\x1b[1mname     there" in terminal("data", "list", columns=120)
    assert "\x1b" not in terminal("data", "list", columns=120, NO_COLOR="1")


def test_a_table_leaves_out_what_a_narrow_terminal_has_no_room_for(terminal, trained):
    def shown(columns):
        lines = terminal("runs", trained.parent, columns=columns, NO_COLOR="1").splitlines()
        assert all(line.startswith(str(trained)) for line in lines[1:])
        return lines[0].split("  ")[-1].strip(), max(map(len, lines))

    last, width = shown(500)
    assert last == "time"
    assert shown(width) == ("time", width)
    assert shown(width - 1)[0] == "steps"
    assert shown(width - 1)[1] < width
    assert shown(20)[0] == "val acc"
