"""What a command loads: times differ between machines, the list of modules does not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from chainrule import __version__
from chainrule.cli.commands import COMMANDS

HEAVY = {
    *("PIL", "jinja2", "matplotlib", "pooch", "requests", "scipy", "skimage", "sklearn"),
    *("tensorboard", "torch"),
}
TELL = """
import atexit, json, sys
atexit.register(lambda: sys.stderr.write("LOADED" + json.dumps(sorted(sys.modules))))
from chainrule.cli import main
main()
"""


def loaded_by(*words):
    done = subprocess.run(
        [sys.executable, "-c", TELL, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stderr.rpartition("LOADED")[2])}


def test_help_needs_the_standard_library_alone():
    done = subprocess.run(
        [sys.executable, "-c", "import json, sys\nprint(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    before = {name.partition(".")[0] for name in json.loads(done.stdout)}
    for words in ([], *(command.name.split() for command in COMMANDS)):
        foreign = loaded_by(*words, "--help") - before - set(sys.stdlib_module_names)
        assert foreign == {"chainrule"}, words


@pytest.mark.parametrize("words", [["runs"], ["info"], ["data", "list"]], ids=" ".join)
def test_a_look_around_loads_nothing_heavy(words, trained):
    folder = [trained.parent] if words == ["runs"] else []
    assert loaded_by(*words, *folder) & HEAVY == set()


def test_evaluating_draws_nothing(trained):
    loaded = loaded_by("evaluate", trained)
    assert "numpy" in loaded
    assert loaded & {"matplotlib", "jinja2", "torch", "tensorboard", "pooch", "requests"} == set()


def test_program_and_module():
    program = Path(sys.executable).with_name("chainrule")
    commands = [[sys.executable, "-m", "chainrule"], *([[program]] if program.exists() else [])]
    for command in commands:
        said = subprocess.check_output([*command, "--version"], text=True)
        assert said == f"chainrule {__version__}\n"
