"""The commands and programs in documents: ours parse, and all others are listed with a reason."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache

import pytest
import typer
import yaml

from tests.infra_tests.own_commands import our_command_line, parse
from tests.markdown import ROOT, commands, current_documents

STUBS = ROOT / "infra/typing/affectune-stubs/__init__.pyi"
OWN_PACKAGES = ("affectune", "pipeline", "tuning", "serving")
OPTIONS_OF_OTHERS = {
    *("--base", "--engine", "--pip-conf", "--tag", "--torch-index", "--volume"),  # infra/image.py
    *("--cpus-per-task", "--gpus-per-node"),  # Slurm
    *("--allowed-hosts", "--entrypoint", "--num-cpus", "--set-file", "--strict"),
    "--help",  # everybody's
}
"""Options in sentences that are none of ours; the last but one line: MLflow, docker, Ray, Helm,
pip-audit."""
NOT_RUN = {
    "affectune --install-completion": "it changes the start files of a person's shell",
    "aws": "it asks a cloud",
    "cd": "a shell's own",
    "chmod": "only beside commands that are tested: test_ray_up.py, test_study_on_hosts.py",
    "createdb": "it needs PostgreSQL; tests/infra_tests/test_compose_services.py has one",
    "curl": "it asks an endpoint that runs; tests/serving_tests/test_endpoint.py asks these routes",
    "docker": "it needs an engine; test_container.py and test_compose.py do its work",
    "export": "a shell's own",
    "FeatureExtraction": "OpenFace's; test_import.py reads what it writes",
    "helm": "it needs a cluster; tests/infra_tests/test_kubernetes.py renders the chart",
    "kubectl": "it needs a cluster of Kubernetes",
    "mkdir": "only beside commands that are tested, in test_study_on_hosts.py",
    "mlflow": "MLflow's; tests/tuning_tests/mlflow_backend runs its server",
    "pg_dump": "it needs PostgreSQL",
    "pip": "it installs; `make wheel FULL=1` does it",
    "prometheus": "Prometheus'; tests/infra_tests/test_monitoring.py checks its files",
    "promtool": "Prometheus'; tests/infra_tests/test_monitoring.py runs it where it is installed",
    "python3.11": "it makes an environment, as `make install` does",
    "ray": "it starts or asks a cluster; test_study_on_hosts.py and test_ray_up.py run these",
    "rm": "it deletes",
    "rsync": "it copies a server's files",
    "sbatch": "Slurm's; tests/infra_tests/test_slurm.py runs it",
    "scancel": "Slurm's; tests/infra_tests/test_slurm.py runs it",
    "scp": "it copies between machines, in test_study_on_hosts.py",
    "sh": "it runs infra/compose/secrets.sh, as tests/infra_tests/test_compose.py does",
    "SMILExtract": "openSMILE's; test_import.py reads what it writes",
    "source": "a shell's own",
    "tail": "it shows a log",
    "umask": "a shell's own",
}
"""What stands in documents and is no command of ours: the program -> why no test runs it here."""


def test_every_command_in_a_block_is_ours_and_parses_or_is_listed_with_a_reason() -> None:
    mistakes, used = [], set()
    for document in current_documents():
        for block in document.blocks("sh", "bash", ""):
            if not block.language and not _begins_with_a_command(block.text):
                continue
            for words in commands(block.text):
                mistake, exception = _mistake_in(words, is_whole=True)
                used.add(exception)
                if mistake:
                    where = f"{document.name}, block at line {block.line}"
                    mistakes.append(f"{where}: {' '.join(words)}: {mistake}")
    assert not mistakes, "\n".join(mistakes)
    assert set(NOT_RUN) - used == set()  # what no document says needs no exception


def test_every_command_of_ours_within_a_sentence_has_options_that_exist() -> None:
    mistakes = []
    for document in current_documents():
        for span in document.spans():
            if not re.match(r"(\S*/)?(affectune|make|python -m) ", span):
                continue
            for words in commands(span):
                mistake, _ = _mistake_in(words, is_whole=False)
                if mistake:
                    mistakes.append(f"{document.name}: {span}: {mistake}")
    assert not mistakes, "\n".join(mistakes)


def test_every_option_within_a_sentence_is_one_of_ours_or_listed() -> None:
    ours = set(_options(our_command_line()))
    named = {
        word.partition("=")[0]: document.name
        for document in current_documents()
        for span in document.spans()
        for word in span.split()[:1]
        if word.startswith("--")
    }
    unknown = {option: where for option, where in named.items() if option not in ours}
    assert set(unknown) == OPTIONS_OF_OTHERS, unknown


def test_every_python_block_compiles_and_every_other_one_is_in_its_language() -> None:
    readers = {"json": json.loads, "yaml": yaml.safe_load}
    for document in current_documents():
        for block in document.blocks("python"):
            where = f"{document.name}:{block.line}"
            compile(block.text, where, "exec")
        for language, read in readers.items():
            for block in document.blocks(language):
                read(block.text)


def test_python_blocks_use_names_and_arguments_that_exist() -> None:
    mistakes = []
    for document in current_documents():
        for block in document.blocks("python"):
            for mistake in _mistakes_in_python(ast.parse(block.text)):
                mistakes.append(f"{document.name}, block at line {block.line}: {mistake}")
    assert not mistakes, "\n".join(mistakes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("affectune train --out m  # why", [["affectune", "train", "--out", "m"]]),
        ("A=1 affectune serve 2>log", [["affectune", "serve"]]),
        ("a && b | c > d", [["a"], ["b"], ["c"]]),
        ("(umask 077 && x > /dev/null)", [["umask", "077"], ["x"]]),
        ("a \\\n  'b c'", [["a", "b c"]]),
        ("export A=1", [["export", "A=1"]]),
    ],
)
def test_shell_text_is_read_as_its_commands(text: str, words: list[list[str]]) -> None:
    assert list(commands(text)) == words


@pytest.mark.parametrize(
    ("code", "is_right"),
    [
        ("import affectune; affectune.train('c', spec='small')", True),
        ("affectune.train('c', spek='small')", False),
        ("affectune.trian('c')", False),
        ("from pipeline.spec import Spec", True),
        ("from pipeline.spec import Speck", False),
    ],
)
def test_a_program_that_would_fail_is_noticed(code: str, is_right: bool) -> None:
    assert (not list(_mistakes_in_python(ast.parse(code)))) == is_right


@pytest.mark.parametrize(
    "line",
    [
        "affectune traim --corpus c --out m",
        "affectune train --corpse c --out m",
        "affectune train --corpus c",
        "affectune train --corpus c --out m --workers many",
        "make tests",
        "ray exec c.yaml 'affectune study stat x'",
        "frobnicate",
    ],
)
def test_a_command_that_would_fail_is_noticed(line: str) -> None:
    [words] = commands(line)
    mistake, _ = _mistake_in(words, is_whole=True)
    assert mistake


def _begins_with_a_command(text: str) -> bool:
    programs = {"affectune", "make", *NOT_RUN}
    return text.split(maxsplit=1)[0].rpartition("/")[2] in programs if text.split() else False


def _mistake_in(words: list[str], *, is_whole: bool) -> tuple[str, str]:
    """Return what is wrong with a command, or ""; and the name of its exception, or "".

    Args:
        words: of a simple command.
        is_whole: whether it could be run as it stands: nothing may be missing.
    """
    for text in words[1:]:
        if re.match(r"\S*affectune \w", text):  # another shell runs it
            [inner] = commands(text)
            mistake, _ = _mistake_in(inner, is_whole=is_whole)
            if mistake:
                return mistake, ""

    program = words[0].rpartition("/")[2]
    whole = " ".join([program, *words[1:]])
    if whole in NOT_RUN:
        return "", whole
    if program == "affectune":
        return _mistake_in_ours([program, *words[1:]], is_whole=is_whole), ""
    if program == "make":
        return _mistake_in_make(words[1:]), ""
    if program == "python" and "-m" in words:
        module = words[words.index("-m") + 1].replace(".", "/")
        exists = (ROOT / f"{module}.py").exists() or (ROOT / module / "__main__.py").exists()
        known = exists or module in ("pytest", "venv", "pip")
        return ("" if known else f"there is no module {module}"), ""
    if program in NOT_RUN:
        return "", program
    return "it is neither ours nor listed in NOT_RUN", ""


def _mistake_in_ours(words: list[str], *, is_whole: bool) -> str:
    given = [word for word in words if word != "..."]
    if not is_whole:
        given = ["1" if word == "N" else word for word in given]
    if len(given) == 1:
        return ""
    try:
        if given[1].startswith("-"):
            our_command_line().make_context(given[0], given[1:])
        else:
            parse(given)
    except typer.Exit:
        return ""  # such as --version
    except AssertionError as error:
        is_group = "needs the name" in str(error)
        return "" if is_group and not is_whole else str(error)
    except Exception as error:
        message = str(error) or type(error).__name__
        # Of a command that is only named, arguments may be missing.
        is_incomplete = type(error).__name__ == "MissingParameter" or "requires an" in message
        return "" if is_incomplete and (not is_whole or given != words) else message
    return ""


def _options(command: object) -> Iterator[str]:
    """Yield the options of a command and of those below it, such as --out."""
    for parameter in getattr(command, "params", ()):
        yield from getattr(parameter, "opts", ())
    for other in getattr(command, "commands", {}).values():
        yield from _options(other)


def _mistakes_in_python(tree: ast.Module) -> Iterator[str]:
    """Yield what a program asks of our packages that they do not have. Nothing is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(OWN_PACKAGES):
            for alias in node.names:
                if alias.name not in _definitions(node.module or ""):
                    yield f"no {alias.name} in {node.module}"
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "affectune":
            if node.attr not in {*_public_modules(), "__version__"}:
                yield f"no affectune.{node.attr}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith("affectune."):
            name = ast.unparse(node.func).removeprefix("affectune.")
            definition = _definitions(_public_modules().get(name, "affectune")).get(name)
            if isinstance(definition, ast.FunctionDef):
                arguments = definition.args
                known = {argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)}
                unknown = {str(word.arg) for word in node.keywords} - known
                yield from (f"affectune.{name} has no {word}" for word in unknown)


@cache
def _public_modules() -> dict[str, str]:
    """Return public name -> the module that defines it, as the stubs of `affectune` say."""
    tree = ast.parse(STUBS.read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module or "" for node in imports for alias in node.names}


@cache
def _definitions(module: str) -> dict[str, ast.stmt]:
    """Return the functions and classes at the top level of one of our modules."""
    path = ROOT / f"{module.replace('.', '/')}.py"
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name: node for node in tree.body if isinstance(node, kinds)}


def _mistake_in_make(words: list[str]) -> str:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        if "=" in word:
            name = word.partition("=")[0]
            if name not in ("SECONDS", "ATTACKS") and not re.search(
                rf"^{name} \?=", makefile, re.M
            ):
                return f"the Makefile reads no {name}"
        elif not word.startswith("-") and not re.search(rf"^{re.escape(word)}:", makefile, re.M):
            return f"there is no target {word}"
    return ""
