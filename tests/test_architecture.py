"""The ladder: imports go strictly downward, and heavy packages stay in their room.

Imports are read from the syntax tree, so those inside functions, under ``TYPE_CHECKING`` and
through ``importlib.import_module("...")`` count as well.
"""

import ast
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "chainrule"

# Top row first. A room may import from rows below its own only.
LADDER = [
    {"cli"},
    {"course", "proof", "report", "bench", "testing"},
    {"twin", "tuning", "wann"},
    {"training"},
    {"models", "optim"},
    {"layers", "gradcheck", "convex", "explain"},
    {"kernels", "autodiff", "data", "records"},
    {"errors"},
]
ROW = {room: row for row, rooms in enumerate(LADDER) for room in rooms}

# Packages that only some rooms, or some modules of a room, may import.
ONLY_IN = {
    "matplotlib": {"report", "course.pytorch.figures"},
    "torch": {"bench", "course.pytorch", "twin"},
    "optuna": {"tuning"},
    "ray": {"tuning", "wann"},
    "ctypes": {"bench", "kernels"},
    "cffi": {"kernels"},
    "cython": {"kernels"},
    "numba": {"kernels"},
    "pybind11": {"kernels"},
    "nanobind": {"kernels"},
}


def module_name(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path, package: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a file imports, relative names resolved."""
    inside = module_name(path, package).split(".")
    if path.name != "__init__.py":
        inside = inside[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = inside[: len(inside) - node.level + 1] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{target}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func).rpartition(".")[2]
            name = node.args[0]
            if called in ("import_module", "__import__") and isinstance(name, ast.Constant):
                yield node.lineno, str(name.value)


def room_of(name: str) -> str:
    """The room of a dotted name below chainrule; "" for the package itself."""
    return f"{name}.".split(".")[1]


def lies_in(module: str, places: set[str]) -> bool:
    """Whether a module is one of some places or below one, these being named without chainrule."""
    return any(f"{module}.".startswith(f"chainrule.{place}.") for place in places)


def ladder_violations(package: Path) -> list[str]:
    """One line for each import that breaks the rules, `package` being a folder "chainrule"."""
    found = []
    rooms = {path.stem if path.is_file() else path.name for path in package.iterdir()}
    for path in sorted(package.rglob("*.py")):
        module = module_name(path, package)
        room = room_of(module)
        if room not in ROW and room not in ("", "__main__"):
            found.append(f"{path.relative_to(package)}: room {room!r} has no place on the ladder")
            continue
        for line, name in imported_modules(path, package):
            at = f"{path.relative_to(package)}:{line}"
            top = name.partition(".")[0]
            if top in ONLY_IN and not lies_in(module, ONLY_IN[top]):
                found.append(f"{at}: {top} may be imported in {sorted(ONLY_IN[top])} only")
            if top != "chainrule" or room in ("", "__main__"):
                continue
            target = room_of(name)
            if target not in ROW and (target in rooms or name == "chainrule"):
                found.append(f"{at}: {name} is no room")
            elif target in ROW and target != room and ROW[target] <= ROW[room]:
                where = "beside" if ROW[target] == ROW[room] else "above"
                found.append(f"{at}: {room} imports {target}, {where} it")
    return found


def top_level_names(tree: ast.Module) -> tuple[set[str], set[str]]:
    """All names bound at the top level, and the public functions and classes among them."""
    bound: set[str] = set()
    public: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
            if not node.name.startswith("_"):
                public.add(node.name)
        else:
            bound |= {
                each.id
                for each in ast.walk(node)
                if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
            }
    return bound, public


def export_faults(path: Path) -> list[str]:
    """What is wrong with a module's ``__all__``."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    lists = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
    ]
    if len(lists) != 1:
        return [f"{path.name}: has no single __all__"]
    exported = ast.literal_eval(lists[0])
    bound, public = top_level_names(tree)
    faults = []
    if len(set(exported)) != len(exported):
        faults.append(f"{path.name}: __all__ repeats a name")
    if "__getattr__" not in bound:
        faults += [f"{path.name}: exports {n}, not defined" for n in set(exported) - bound]
    return faults + [f"{path.name}: {n} is public but not exported" for n in public - set(exported)]


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py")


def write_tree(folder: Path, files: dict[str, str]) -> Path:
    package = folder / "chainrule"
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    return package


def test_imports_go_downward():
    assert ladder_violations(PACKAGE) == []


def test_every_room_is_on_the_ladder():
    rooms = {room_of(module_name(path, PACKAGE)) for path in PACKAGE.rglob("*.py")}
    assert {"layers", "models", "optim", "data", "training", "report", "cli"} <= rooms
    assert rooms - set(ROW) <= {"", "__main__"}


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("layers/a.py", "import chainrule.models", "layers/a.py:1: layers imports models, above"),
        ("layers/a.py", "from chainrule import training", "layers imports training, above"),
        ("layers/a.py", "from chainrule.autodiff import f\nfrom ..convex import g", "a.py:2: "),
        ("optim/__init__.py", "from ..models import f", "optim imports models, beside it"),
        ("errors.py", "from .records import f", "errors.py:1: errors imports records, above"),
        ("data/a.py", "def f():\n    from chainrule.layers import g", "data imports layers, above"),
        ("models/a.py", "import importlib\nimportlib.import_module('chainrule.cli')", "cli, above"),
        ("training/a.py", "import chainrule", "training/a.py:1: chainrule is no room"),
        ("gadgets/a.py", "", "room 'gadgets' has no place on the ladder"),
        ("training/a.py", "def f():\n    import matplotlib.pyplot", "training/a.py:2: matplotlib"),
        (
            "layers/a.py",
            "from torch.nn import functional",
            "torch may be imported in ['bench', 'course.pytorch', 'twin'] only",
        ),
        ("layers/a.py", "import ctypes", "ctypes may be imported in ['bench', 'kernels'] only"),
        ("training/a.py", "import optuna", "optuna may be imported in ['tuning'] only"),
        ("__init__.py", "import torch", "['bench', 'course.pytorch', 'twin'] only"),
        ("course/a.py", "import torch", "course/a.py:1: torch may be imported in"),
        ("course/pytorch_a.py", "import torch", "course/pytorch_a.py:1: torch may be imported in"),
        (
            "course/pytorch/a.py",
            "import matplotlib",
            "in ['course.pytorch.figures', 'report'] only",
        ),
    ],
)
def test_the_ladder_check_can_fail(tmp_path, path, text, message):
    (violation,) = ladder_violations(write_tree(tmp_path, {path: text}))
    assert message in violation


def test_the_ladder_check_allows_what_is_right(tmp_path):
    package = write_tree(
        tmp_path,
        {
            "cli/__init__.py": "from chainrule import __version__, report\nimport numpy",
            "report/a.py": "import matplotlib.pyplot\nfrom .b import f\nfrom ..records import g",
            "report/b.py": "from chainrule.report.a import f\nimport chainrule.errors",
            "course/pytorch/figures.py": "import matplotlib.figure, torch",
            "tuning/a.py": "import optuna, ray\nfrom chainrule.training import f",
            "__init__.py": "import chainrule.cli",
        },
    )
    assert ladder_violations(package) == []


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_exports(path):
    assert export_faults(path) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("def f(): ...", "has no single __all__"),
        ("__all__ = ['f', 'g']\ndef f(): ...", "exports g, not defined"),
        ("__all__ = ['f']\ndef f(): ...\nclass G: ...", "G is public but not exported"),
        ("__all__ = ['f', 'f']\ndef f(): ...", "repeats a name"),
    ],
)
def test_the_export_check_can_fail(tmp_path, text, fault):
    package = write_tree(tmp_path, {"a.py": text})
    (found,) = export_faults(package / "a.py")
    assert fault in found


def test_the_export_check_allows_what_is_right(tmp_path):
    text = """
        from a import b
        __all__ = ["X", "b", "f"]
        X = 1
        def f(): ...
        def _g(): ...
    """
    assert export_faults(write_tree(tmp_path, {"a.py": text}) / "a.py") == []


def undeclared(package: Path) -> set[str]:
    """Packages that are imported but not named in pyproject.toml, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    needed = [requirement for group in groups for requirement in group]
    declared = {re.match(r"[\w-]+", requirement)[0].lower() for requirement in needed}
    distributions = packages_distributions()
    imported = {
        name.partition(".")[0]
        for path in package.rglob("*.py")
        for _, name in imported_modules(path, package)
    }
    foreign = imported - set(sys.stdlib_module_names) - {"chainrule"}
    return {
        name
        for name in foreign
        if not declared & {each.lower().replace("_", "-") for each in distributions.get(name, [])}
    }


def test_what_is_imported_is_declared():
    assert undeclared(PACKAGE) == set()


def test_the_declaration_check_can_fail(tmp_path):
    text = "import numpy, urllib3\nfrom no_such_package import f"
    assert undeclared(write_tree(tmp_path, {"a.py": text})) == {"urllib3", "no_such_package"}


# What is true on one machine, or at one time, only.
FOREIGN = {
    "an absolute path": re.compile(r"(?<![\w.:/~*>-])/(?:home|root|tmp|opt|work|mnt|Users)/"),
    "a package registry": re.compile(
        r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|anaconda\.(?:org|com)|npmjs\.(?:org|com)"
    ),
    "a ticket": re.compile(
        r"\b(?:(?:issue|ticket) #?|(?:pull request|see|fix(?:es)?|closes|PR) #)\d", re.I
    ),
    "a place beside the repository": re.compile(r"\.\./shared"),
}
# .ci/run may know what stands beside the repository; this file has to spell the patterns.
SPEAKS = ["*.md", "*.toml", "*.txt", "Makefile"]
FOLDERS = ["src", "tests", "docs", "examples", "benchmarks"]
SUFFIXES = {".py", ".md", ".rst", ".toml", ".txt", ".css", ".js", ".html", ".jinja", ".j2", ".csv"}


def texts() -> list[Path]:
    found = [path for pattern in SPEAKS for path in ROOT.glob(pattern)]
    for folder in FOLDERS:
        found += [
            path
            for path in (ROOT / folder).rglob("*")
            if path.suffix in SUFFIXES and not {"_build", "_generated"} & set(path.parts)
        ]
    return sorted(path for path in found if path != Path(__file__))


def foreign_phrases(text: str) -> list[str]:
    """Lines of a text that say something about a machine, a registry or a ticket."""
    return [
        f"line {number}: {what}: {line.strip()}"
        for number, line in enumerate(text.splitlines(), 1)
        for what, pattern in FOREIGN.items()
        if pattern.search(line)
    ]


def test_nothing_speaks_of_one_machine():
    found = {
        str(path.relative_to(ROOT)): phrases
        for path in texts()
        if (phrases := foreign_phrases(path.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "cd /home/me/project",
        "path = '/tmp/data'",
        "see https://pypi.org/project/x",
        "fixes issue #12",
        "see #34",
        "run ../" + "shared/tool.py",
    ],
)
def test_the_phrase_check_can_fail(line):
    assert foreign_phrases(f"fine\n{line}\n")


@pytest.mark.parametrize(
    "line",
    [
        "#!/usr/bin/env bash",
        "a/tmp/b",
        "color: #123456",
        "&#215;",
        "see 2 lines",
        "# 2 steps",
        "docs/opt/",
    ],
)
def test_the_phrase_check_allows_what_is_right(line):
    assert foreign_phrases(line) == []
