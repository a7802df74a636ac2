"""What importing chainrule, and asking it for help, does not load.

Times differ between machines, the list of loaded modules does not, so the list is what is
tested.
"""

import json
import subprocess
import sys

import pytest

HEAVY = {
    "PIL",
    "jinja2",
    "matplotlib",
    "optuna",
    "pandas",
    "pooch",
    "ray",
    "requests",
    "scipy",
    "skimage",
    "sklearn",
    "tensorboard",
    "torch",
}
COMMANDS = [[], ["train"], ["evaluate"], ["predict"], ["sanity"], ["report"], ["runs"]]
COMMANDS += [
    ["data"],
    ["data", "list"],
    ["data", "fetch"],
    ["data", "info"],
    ["info"],
    ["bench"],
    ["explain"],
    ["descend"],
    ["descend", "ascent"],
    ["descend", "proximal"],
    ["verify"],
    ["doctor"],
    ["parity"],
    ["export"],
    ["grade"],
]


def loaded_by(code: str, *arguments: str) -> set[str]:
    """Top-level modules loaded once `code` has run in a fresh interpreter."""
    report = (
        "import atexit, json, os, sys\n"
        "def tell():\n"
        "    tops = sorted({name.partition('.')[0] for name in sys.modules})\n"
        "    sys.stderr.write('\\nLOADED ' + json.dumps(tops))\n"
        "atexit.register(tell)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", report + code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.rpartition("LOADED ")[2]))


def test_the_check_can_fail():
    assert "PIL" in loaded_by("import PIL")


def test_importing_the_package_loads_hardly_anything():
    loaded = loaded_by("import chainrule")
    assert loaded & (HEAVY | {"numpy", "pydantic", "typer", "rich"}) == set()


@pytest.mark.parametrize(
    "room",
    ["layers", "optim", "models", "gradcheck", "records", "autodiff", "convex", "proof", "twin"],
)
def test_importing_a_room_loads_nothing_heavy(room):
    assert loaded_by(f"import chainrule.{room}") & HEAVY == set()


def test_optimizers_need_numpy_only():
    assert "pydantic" not in loaded_by("import chainrule.optim, chainrule.layers")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command) or "chainrule")
def test_help_loads_nothing_heavy(command):
    code = "import runpy; runpy.run_module('chainrule', run_name='__main__', alter_sys=True)"
    loaded = loaded_by(code, *command, "--help")
    assert loaded & HEAVY == set()
    if not command:
        assert "numpy" not in loaded
