"""Installing where there is no compiler."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "src" / "chainrule"

pytest.importorskip("scikit_build_core", reason="the build tools are not installed")


def run(command: list[str], **environment: str) -> str:
    outer = {k: v for k, v in os.environ.items() if k != "CHAINRULE_REQUIRE_KERNELS"}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**outer, **environment},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip builds for want of a compiler."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check"]
    options += [f"--config-settings=build-dir={folder / 'build'}", f"--wheel-dir={folder}"]
    run([sys.executable, "-m", "pip", "wheel", *options, "."], CXX=str(folder / "no such compiler"))
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_no_more(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    there = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == there
    assert {"chainrule/py.typed", "chainrule/report/assets/report.css"} <= held
    assert wheel.name.endswith("-py3-none-any.whl")


def test_the_installed_package_works_on_numpy(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import chainrule, numpy as np\n"
        "from chainrule import kernels, layers\n"
        "out, _ = layers.conv2d_forward(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)))\n"
        "print(chainrule.__file__, out.max(), kernels.active(), kernels.reason(), sep='; ')"
    )
    # -S leaves out the path hook of an editable install, which would come first.
    path = os.pathsep.join([str(tmp_path), str(Path(np.__file__).parent.parent)])
    said = run([sys.executable, "-S", "-c", code], PYTHONPATH=path)
    reason = "installed without compiled kernels, because no C++17 compiler built them"
    assert said == f"{tmp_path / 'chainrule' / '__init__.py'}; 9.0; none; {reason}"
