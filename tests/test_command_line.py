"""The command line as a whole: what holds for every command, and what a mistyped one answers."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import affectune

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipeline", "tuning", "serving")
COMMANDS = [
    *("corpus check", "corpus synthesize", "train", "evaluate", "predict"),
    *("study list", "study show", "study run", "study status", "study report", "study audit"),
    *("registry list", "registry show", "registry promote", "registry rollback", "serve", "doctor"),
]
"""In the order of first use; a further command needs a place here only to be ordered."""
HEAVY = [
    *("fastapi", "matplotlib", "mlflow", "numba", "optuna", "pandas", "plotly", "pyarrow"),
    *("ray", "scipy", "sklearn", "torch"),
]
"""Libraries that take a tenth of a second to import, or seconds."""
FOREIGN_OPTIONS = {"--backend-store-uri", "--head"} | {
    *("--artifacts-destination", "--constraint", "--editable", "--generate", "--shm-size"),
    *("--node-ip-address", "--upgrade", "--profile"),
    *("--temp-dir", "--num-cpus", "--num-gpus", "--block"),
    "--porcelain",
    "--untracked-files",
    "--show-toplevel",
}
"""Options of git, pip, aws, Ray's commands, `mlflow server` and `mlflow ui`, and containers."""
STYLE_SHEETS = {"tuning/report/charts/plotly_style.py"}
"""Their variables look like options."""
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z](?![a-z-])")
MENTION = re.compile(r"affectune((?: [a-z][a-z-]*)+)([^`\n]*)")
FIRST_LINES = {
    "corpus check nowhere": "Reading the corpus 'nowhere' ...",
    "corpus synthesize OUT --subjects 0": "Writing the corpus 'OUT' ...",
    "train --corpus nowhere --out m": "Reading the corpus 'nowhere' ...",
    "evaluate nothing --corpus nowhere": "Reading the model 'nothing' ...",
    "predict nothing --corpus nowhere --out p": "Reading the model 'nothing' ...",
    "study list": "Reading the shipped studies ...",
    "study run wide --corpus nowhere": "Reading the shipped study 'wide' ...",
    "study status nowhere": "Reading the study in 'nowhere' ...",
    "study report nowhere": "Reading the study in 'nowhere' ...",
    "study audit nowhere": "Reading the study in 'nowhere' ...",
    "registry list": "Asking the registry 'sqlite:///mlflow.db' ...",
    "registry show m": "Asking the registry 'sqlite:///mlflow.db' ...",
    "registry promote m 1": "Asking the registry 'sqlite:///mlflow.db' ...",
    "registry rollback m": "Asking the registry 'sqlite:///mlflow.db' ...",
    "serve --model nothing": "Looking for the model 'nothing' ...",
    "doctor": "Looking at this machine ...",
}
WATCH = """
import json, os, sys
import affectune

class FirstText:
    def __init__(self, stream): self.stream = stream
    def __getattr__(self, name): return getattr(self.stream, name)
    def write(self, text):
        loaded = sorted({name.partition(".")[0] for name in sys.modules} & set(HEAVY))
        print(json.dumps([loaded, text]), file=sys.__stdout__, flush=True)
        os._exit(0)

affectune.command_line()
for line in json.load(sys.stdin):
    if os.fork() == 0:
        sys.argv = ["affectune", *line.split()]
        sys.stdout, sys.stderr = FirstText(sys.stdout), FirstText(sys.stderr)
        affectune.main()
    os.wait()
"""
"""Writes, for every command, which heavy libraries are imported at its first text, and the text."""


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Call the command line in this process: exit status, standard output, standard error."""
    before, sys.argv = sys.argv, ["affectune", *arguments]
    try:
        affectune.main()
        status = 0
    except SystemExit as error:
        status = int(error.code or 0)
    finally:
        sys.argv = before
    return status, *capsys.readouterr()


def commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all commands below a group that are none themselves, by their paths."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


TREE = affectune.command_line()
ALL = dict(commands(TREE))


def options_of(command: Any) -> set[str]:
    """Return the options of a command, of help, too."""
    return {"--help", "-h", *(name for option in command.params for name in option.opts)}


def string_literals() -> Iterator[tuple[str, str]]:
    """Yield every string in the code with its place; in an f-string, values are {}."""
    paths = [ROOT / "affectune.py", *(p for f in PACKAGES for p in (ROOT / f).rglob("*.py"))]
    for path in paths:
        if str(path.relative_to(ROOT)) in STYLE_SHEETS:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parts = {
            id(value)
            for node in ast.walk(tree)
            if isinstance(node, ast.JoinedStr)
            for value in node.values
        }
        for node in ast.walk(tree):
            text = None
            if isinstance(node, ast.JoinedStr):
                text = "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "{}"
                    for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = None if id(node) in parts else node.value
            if text:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", text  # type: ignore[attr-defined]


# Help


def test_without_a_command_the_first_steps_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    status, output, error = run(capsys)
    assert (status, error) == (0, "")
    steps = [line.strip() for line in output.splitlines() if line.startswith("  affectune ")]
    assert len(steps) == 3
    made = set()
    for step in steps:
        path, _ = command_at(step.split()[1:])
        made.add(path)
        command = ALL[path]
        words = step.split()[1 + len(path.split()) :]
        context = command.make_context(path, list(words), resilient_parsing=False)
        assert context.params
    assert made == {"corpus synthesize", "study run", "serve"}


def command_at(words: list[str]) -> tuple[str, Any]:
    """Return the longest path of a command that some words begin with, and what is there."""
    command, path = TREE, []
    for word in words:
        if word not in getattr(command, "commands", {}):
            break
        command = command.commands[word]
        path.append(word)
    return " ".join(path), command


def test_commands_are_in_the_order_of_first_use() -> None:
    known = [name for name in ALL if name in COMMANDS]
    assert [name.split()[0] for name in known] == [name.split()[0] for name in COMMANDS]


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("path", ["", "corpus", "study", "registry", *ALL])
def test_every_command_has_help_without_types_of_flags(
    path: str, option: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    status, output, _ = run(capsys, *path.split(), option)
    assert status == 0
    assert "Usage: affectune" in output
    assert "<bool>" not in output
    assert "default: None" not in output
    if path in ALL:
        assert f"Example: affectune {path}" in " ".join(output.split())


def test_the_version_is_in_the_first_line_and_those_of_the_libraries_follow(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, output, error = run(capsys, "--version")
    assert (status, error) == (0, "")
    first, second = output.splitlines()
    assert re.fullmatch(r"affectune \d+\.\d+\.\d+\S*", first)
    assert re.fullmatch(r"Python \S+, torch \S+, ray \S+, mlflow \S+", second)


# Mistakes


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("fly", "No such command 'fly'."),
        ("trian", "Did you mean 'train'?"),
        ("evalute m --corpus c", "Did you mean 'evaluate'?"),
        ("study rnu x", "Did you mean 'run'?"),
        ("registry premote m 1", "Did you mean 'promote'?"),
        ("check c", "Did you mean `affectune corpus check`?"),
        ("promote m 1", "Did you mean `affectune registry promote`?"),
        ("list", "Did you mean `affectune study list` or `affectune registry list`?"),
        ("train --corpuss c --out m", "No such option: --corpuss. Did you mean --corpus?"),
        ("predict m --corpus c --ouy p", "Did you mean --out?"),
        ("study run wide --promote-frist", "Did you mean --promote-first?"),
        ("corpus check c --jsn", "Did you mean --json?"),
        ("train --resume --corpus c --out m", "It is an option of `affectune study run`."),
        ("study status s --tracking-uri u", "It is an option of"),
        ("predict --model m --corpus c --out p", "without a name: `affectune predict MODEL`."),
        ("evaluate --corpus c --model m", "without a name: `affectune evaluate MODEL`."),
        ("corpus check --path c", "without a name: `affectune corpus check PATH`."),
        ("train --corpus c", "Missing option '--out'."),
        ("evaluate --corpus c", "Missing argument 'MODEL'."),
        ("train --corpus c --out m --workers many", "Invalid value for '--workers'"),
        ("train --corpus c --out m --workers 0", "Invalid value for '--workers'"),
        ("corpus synthesize o --preset large", "'large' is not one of 'small', 'ulm-tsst'"),
        ("serve --port", "Option '--port' requires an argument."),
        ("train --corpus c --out m more", "unexpected extra argument"),
        ("corpus check c --json=yes", "Option '--json' does not take a value."),
    ],
)
def test_a_mistyped_command_says_in_one_line_what_was_meant(
    line: str, cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, output, error = run(capsys, *line.split())
    assert (status, output) == (2, "")
    [message] = error.splitlines()
    assert message.startswith("Error: ")
    assert cause in message
    help_of = re.search(r"See `affectune ?(.*) --help`\.$", message)
    assert help_of
    assert help_of[1] == command_at(line.split())[0]


@pytest.mark.parametrize("group", ["corpus", "study", "registry"])
def test_a_group_without_a_command_shows_its_commands(
    group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, output, error = run(capsys, group)
    assert status == 2
    assert f"Usage: affectune {group}" in output + error


# What messages advise


def test_every_option_that_the_code_mentions_is_one_of_a_command() -> None:
    known = {name for command in ALL.values() for name in options_of(command)} | FOREIGN_OPTIONS
    known |= {name for option in TREE.params for name in option.opts}
    wrong = {
        (place, option)
        for place, text in string_literals()
        for option in OPTION.findall(text)
        if option not in known
    }
    assert wrong == set()


def test_every_command_that_the_code_mentions_is_there_and_has_the_options_beside_it() -> None:
    num_mentions, wrong = 0, []
    for place, text in string_literals():
        for words, rest in MENTION.findall(text):
            path, command = command_at(words.split())
            if not path:  # such as "the affectune command"
                continue
            num_mentions += 1
            is_group = hasattr(command, "commands")
            given = set(OPTION.findall(rest))
            if (is_group and words.split() != path.split()) or (
                not is_group and not given <= options_of(command)
            ):
                wrong.append((place, words, given))
    assert num_mentions > 20
    assert wrong == []


@pytest.mark.parametrize(
    "line",
    [
        "evaluate models:/affectune@champion --corpus c",
        "predict models:/affectune@champion --corpus c --out p",
        "evaluate models:/affectune/3 --corpus c --tracking-uri sqlite:///other.db",
        "serve --port 0",
        "serve --model nothing",
        "registry list",
        "registry show affectune",
        "registry promote affectune 2",
        "study status nowhere",
        "study audit nowhere",
        "study run demo",
        "study run demo --corpus c --nested 3 --tracking-uri u",
        "train --corpus c --out .",
    ],
)
def test_a_message_advises_only_options_that_the_command_has(
    line: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("something").touch()

    status, _, error = run(capsys, *line.split())
    assert status in (1, 2)
    _, command = command_at(line.split())
    message = MENTION.sub("", error.rpartition("Error:")[2])  # other commands have their own
    advised = set(OPTION.findall(message))
    assert advised <= options_of(command)


# First output


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys, affectune\nsys.argv = ['affectune', '--help']\n"
        "try: affectune.main()\nexcept SystemExit: pass\n"
        f"sys.exit(str(sorted(set({HEAVY}) & set(sys.modules)) or ''))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ended.stderr.strip() == ""
    assert "Usage: affectune" in ended.stdout


def test_a_command_says_what_it_does_before_it_imports_what_takes_seconds(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    ended = subprocess.run(
        [sys.executable, "-c", f"HEAVY = {HEAVY}\n{WATCH}"],
        input=json.dumps(list(FIRST_LINES)),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    seen = [json.loads(line) for line in ended.stdout.splitlines()]
    assert seen == [[[], first] for first in FIRST_LINES.values()]


def test_every_command_that_takes_time_is_watched() -> None:
    watched = {command_at(line.split())[0] for line in FIRST_LINES}
    assert watched >= set(COMMANDS) - {"study show"}  # it prints a file


# Completion


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("study run d", {"demo"}),
        ("study show ", {"demo", "paper", "wide"}),
        ("study run m", {"mine.toml", "more/"}),
        ("train --spec s", {"small"}),
        ("regi", {"registry"}),
        ("corpus synthesize out --preset u", {"ulm-tsst"}),
        ("evaluate m --trac", {"--tracking-uri"}),
    ],
)
def test_a_shell_is_told_how_a_word_goes_on(
    words: str,
    expected: set[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").touch()
    Path("music.csv").touch()
    Path("more").mkdir()
    monkeypatch.setenv("_AFFECTUNE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"affectune {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" "))))

    status, output, _ = run(capsys)
    assert status == 0
    assert set(output.split()) == expected
