import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def official() -> SimpleNamespace:
    """Writers of the official file formats."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "official_files.py")))
