"""What the command line says of itself, and that its own examples hold."""

import re
import shlex

import pytest

from chainrule import __version__
from chainrule.cli.commands import COMMANDS
from chainrule.cli.parser import find_command
from chainrule.cli.settings import MODEL, SETTINGS
from chainrule.data import PREPROCESSORS, list_datasets
from chainrule.errors import ConfigError
from chainrule.models import BUILTIN
from chainrule.optim import OPTIMIZERS, SCHEDULES
from chainrule.training import load_config

by_name = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)


def test_overview_shows_every_command_in_full(chainrule):
    done = chainrule("--help")
    assert (done.code, done.err) == (0, "")
    for command in COMMANDS:
        assert re.search(rf"^  {command.name} +{re.escape(command.summary)}$", done.out, re.M)
    assert max(map(len, done.out.splitlines())) <= 80
    assert "..." not in done.out.replace("COMMAND ...", "")
    assert chainrule("-h").out == done.out


def test_version(chainrule):
    done = chainrule("--version")
    assert (done.code, done.out, done.err) == (0, f"chainrule {__version__}\n", "")


def test_no_command_shows_the_overview_as_wrong_usage(chainrule):
    done = chainrule()
    assert (done.code, done.out) == (2, "")
    assert done.err == chainrule("--help").out


def test_a_family_without_its_command_shows_the_family(chainrule):
    asked, forgotten = chainrule("data", "--help"), chainrule("data")
    assert (asked.code, asked.err) == (0, "")
    assert (forgotten.code, forgotten.out) == (2, "")
    assert asked.out == forgotten.err
    assert re.findall(r"^  (data \w+)", asked.out, re.M) == ["data list", "data fetch", "data info"]


@by_name
def test_help_of_a_command(chainrule, command):
    done = chainrule(*command.name.split(), "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"usage: chainrule {command.name} ")
    assert command.summary in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    assert not any(line != line.rstrip() for line in done.out.splitlines())
    said = " ".join(done.out.split())
    for one in command.arguments:
        assert one.keywords.get("metavar", one.names[0]) in said
        assert one.keywords["help"] in said
    for example in command.examples:
        assert f"\n  {example}\n" in done.out


def test_help_prevails_over_words_missing_and_too_many_but_not_over_unknown_options(chainrule):
    text = chainrule("evaluate", "--help").out
    for words in (["-h", "a", "b"], ["a", "b", "--json", "-h"]):
        done = chainrule("evaluate", *words)
        assert (done.code, done.out, done.err) == (0, text, "")
    done = chainrule("evaluate", "--jsn", "--help")
    assert (done.code, done.out) == (2, "")
    assert "option --jsn is not known. Did you mean '--json'?" in done.err


def test_help_after_two_dashes_is_a_word(refused):
    assert "train: '--help' is neither" in refused(2, "train", "mlp", "--", "--help")


def test_help_is_as_wide_as_the_terminal_up_to_a_limit(chainrule, monkeypatch):
    widths = {}
    for columns in (60, 80, 300):
        monkeypatch.setenv("COLUMNS", str(columns))
        options = chainrule("train", "--help").out.partition("options:")[2].partition("ex")[0]
        widths[columns] = max(map(len, options.splitlines()))
    assert widths[60] <= 60 < widths[80] <= 80 < widths[300] <= 100


TORCHRUN = "torchrun --nproc-per-node 4 -m "


@pytest.mark.parametrize(
    "example", [example for command in COMMANDS for example in command.examples]
)
def test_examples_can_be_parsed(example):
    launcher, program, words = example.rpartition("chainrule ")
    assert (launcher, program) in [("", "chainrule "), (TORCHRUN, "chainrule ")]
    words = shlex.split(words)
    command, rest = find_command(COMMANDS, words)
    options = vars(command.parse(rest))
    if options.get("model") and options.get("settings"):
        load_config(overrides=options["settings"], settings={"model.name": options["model"]})


def test_models_in_the_help_are_those_there_are():
    assert MODEL.partition(", or ")[0].split(", ") == list(BUILTIN)


def test_data_sets_in_the_help_are_those_there_are(chainrule):
    said = " ".join(chainrule("train", "--help").out.split())
    assert "--data NAME digits (default), mnist, cifar10, a .npz file" in said
    assert [info.name for info in list_datasets()] == ["digits", "mnist", "cifar10"]
    assert load_config().data.name == "digits"


def settings_in_the_help():
    """Section -> words, from the text."""
    sections = re.split(r"^  (\w+) {2,}", SETTINGS.partition("\n\n")[0], flags=re.M)[1:]
    return {
        name: set(re.findall(r"[a-z][a-z0-9_]*", re.sub(r"\S+=\S+|[a-z -]+:", "", text)))
        for name, text in zip(sections[::2], sections[1::2], strict=True)
    }


def known_settings(section):
    """The keys of a section and of all it can name, from the message about one it has not."""
    with pytest.raises(ConfigError, match=r"is not known\. Known: ") as raised:
        load_config({section: {"?": 1}})
    keys = set(re.findall(r"\w+", str(raised.value).partition("Known: ")[2]))
    return keys - {"name", "layers", "preprocess"}


@pytest.mark.parametrize(
    "section", ["model", "data", "optimizer", "schedule", "training", "backend"]
)
def test_settings_in_the_help_are_those_there_are(section):
    assert settings_in_the_help()[section] == known_settings(section)


def test_choices_in_the_help_are_those_there_are():
    def choices(key):
        return re.search(rf"{re.escape(key)}=(\S+)", SETTINGS).group(1).split("|")

    assert choices("optimizer.name") == list(OPTIMIZERS)
    assert choices("schedule.name") == list(SCHEDULES)
    assert choices("preprocess") == list(PREPROCESSORS)
