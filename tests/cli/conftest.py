import json
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from chainrule.cli import main
from chainrule.data import catalog


@dataclass(frozen=True)
class Done:
    """What a command line left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        def refuse(constant):
            raise ValueError(f"{constant} is no JSON")

        return json.loads(self.out, parse_constant=refuse)


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch, tmp_path):
    """A folder of its own, no data sets but digits, and nothing from the developer's shell."""
    monkeypatch.chdir(tmp_path)
    for name in ("NO_COLOR", "FORCE_COLOR", "PYTHONIOENCODING", "PYTHONUNBUFFERED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CHAINRULE_DATA", str(tmp_path / "no data"))
    monkeypatch.setenv("COLUMNS", "80")

    def no_network(file, folder, progress):
        raise AssertionError(f"{file.name} would have been downloaded")

    monkeypatch.setattr(catalog, "fetch_file", no_network)


@pytest.fixture
def chainrule(capfd):
    """Run a command line in this process."""

    def run(*words):
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        out, err = capfd.readouterr()
        return Done(end.value.code, out, err)

    return run


@pytest.fixture
def refused(chainrule):
    """Run a command line that fails; return its one line."""

    def run(code, *words):
        done = chainrule(*words)
        assert done.code == code, done.err
        assert done.out == ""
        assert done.err.startswith("chainrule: ")
        assert done.err.endswith("\n")
        assert done.err.count("\n") == 1
        return done.err.removeprefix("chainrule: ").rstrip("\n")

    return run


@pytest.fixture
def process():
    """Start chainrule in a process of its own."""
    started = []

    def start(*words, **keywords):
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | keywords.pop("env", {})
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        child = subprocess.Popen(
            [sys.executable, "-m", "chainrule", *map(str, words)],
            env=environment,
            **(pipes | keywords),
        )
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run on digits, evaluated on the test split."""
    root = tmp_path_factory.mktemp("trained")
    words = ["train", "two_layer", "epochs=8", "lr=0.01", "--seed", "3", "--runs", str(root)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 0
        (run,) = (path for path in root.iterdir() if path.is_dir())
        with pytest.raises(SystemExit) as end:
            main(["evaluate", str(run)])
        assert end.value.code == 0
    return run
