"""The code in README.md and in docs/ runs, and the commands shown there exist.

Python blocks of a page run in order, in one namespace and one empty folder. Each
``chainrule ...`` line of a console block has to be understood by the command line, down to the
names of its options. An HTML comment on the line before a block changes that:
``<!-- test: skip -->`` leaves the block alone, ``<!-- test: run -->`` runs a console block's
commands for real.
"""

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
]
CONSOLE = {"console", "sh", "bash", "shell"}


@dataclass
class Block:
    language: str
    text: str
    line: int
    mark: str


def blocks(page: str) -> Iterator[Block]:
    """The fenced code blocks of a Markdown page."""
    lines = page.splitlines()
    start = None
    for number, line in enumerate(lines):
        if start is None and (match := re.match(r"```+\s*([\w+-]*)", line)):
            above = lines[number - 1] if number else ""
            mark = re.fullmatch(r"<!-- test: (\w+) -->", above.strip())
            start = number, match[1], mark[1] if mark else ""
        elif start is not None and re.fullmatch(r"```+\s*", line):
            first, language, mark = start
            yield Block(language, "\n".join(lines[first + 1 : number]), first + 2, mark)
            start = None
    assert start is None, f"a block that begins in line {start[0] + 1} never ends"


def commands(text: str) -> Iterator[list[str]]:
    """Arguments of each ``chainrule`` command of a console block.

    In a block with prompts only the lines after ``$`` are commands; the rest is output. A
    backslash at the end joins lines.
    """
    lines = text.replace("\\\n", " ").splitlines()
    if any(line.startswith("$ ") for line in lines):
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"\w+=.*", words[0]):
            del words[0]
        if words and Path(words[0]).name == "chainrule":
            ends = [n for n, word in enumerate(words) if word in ("|", ">", ">>", "&&", ";", "2>")]
            yield words[1 : min(ends, default=len(words))]


def run_command(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> int:
    from chainrule.cli import main

    monkeypatch.setattr(sys, "argv", ["chainrule", *arguments])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_python_blocks(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(path.read_text(encoding="utf-8")):
        if block.language in ("python", "py") and block.mark != "skip":
            # Empty lines in front, so that a traceback shows the page's own line.
            code = "\n" * (block.line - 1) + block.text
            exec(compile(code, str(path), "exec"), namespace)


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_commands(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for block in blocks(path.read_text(encoding="utf-8")):
        if block.language not in CONSOLE or block.mark == "skip":
            continue
        for arguments in commands(block.text):
            # With --help an unknown command or option is still refused, and nothing runs.
            wanted = arguments if block.mark == "run" else [*arguments, "--help"]
            code = run_command(monkeypatch, wanted)
            said = capsys.readouterr()
            line = " ".join(arguments)
            assert code == 0, f"line {block.line}: chainrule {line}: {said.err or said.out}"


def test_unknown_option_is_noticed(monkeypatch, capsys):
    assert run_command(monkeypatch, ["train", "mlp", "--no-such-option", "--help"]) != 0
    assert "no-such-option" in capsys.readouterr().err


def test_unknown_command_is_noticed(monkeypatch, capsys):
    assert run_command(monkeypatch, ["trian", "--help"]) != 0
    assert "trian" in capsys.readouterr().err


def test_blocks_and_marks_are_found():
    page = "text\n```python\nx = 1\n```\n\n<!-- test: skip -->\n```console\n$ ls\n```\n"
    assert list(blocks(page)) == [
        Block("python", "x = 1", 3, ""),
        Block("console", "$ ls", 8, "skip"),
    ]


def test_an_unclosed_block_is_noticed():
    with pytest.raises(AssertionError, match="begins in line 2 never ends"):
        list(blocks("text\n```python\nx = 1\n"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$ chainrule train mlp\nepoch 1 chainrule", [["train", "mlp"]]),
        ("chainrule runs --json | head", [["runs", "--json"]]),
        ("$ A=1 .venv/bin/chainrule info  # versions", [["info"]]),
        ("$ chainrule train mlp \\\n    --data digits", [["train", "mlp", "--data", "digits"]]),
        ("$ pip install chainrule\n$ make demo", []),
    ],
)
def test_commands_are_found(text, expected):
    assert list(commands(text)) == expected
