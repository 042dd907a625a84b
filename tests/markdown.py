"""The project's Markdown files, as far as tests need them: blocks, spans, links, headings."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
HISTORY = re.compile(r"CHANGELOG\.md|docs/decisions/20.*")
"""Tell of what was: their commands and paths may be gone."""
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S
)
SPAN = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.M)
OPERATORS = {"&&", "||", "|", ";", "&", "(", ")"}
REDIRECTIONS = {">", ">>", "<"}
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        language: what stands behind its fence, or "".
        text: its lines.
        line: the number of its first line in the file.
    """

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Document:
    """A Markdown file."""

    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> Document:
        return cls(path, path.read_text(encoding="utf-8"))

    def blocks(self, *languages: str) -> list[Block]:
        """Return its fenced blocks in some languages, or in any."""
        found = [
            Block(match["language"], match["text"], self.text[: match.start()].count("\n") + 2)
            for match in FENCE.finditer(self.text)
        ]
        return [block for block in found if not languages or block.language in languages]

    @property
    def name(self) -> str:
        """Its path from the root of the project."""
        return str(self.path.relative_to(ROOT))

    @property
    def prose(self) -> str:
        """Its text without fenced blocks."""
        return FENCE.sub("", self.text)

    def spans(self) -> list[str]:
        """Return its code spans, each on one line."""
        return [" ".join(span.split()) for span in SPAN.findall(self.prose)]

    def links(self) -> list[str]:
        """Return where its links and pictures lead, as written."""
        return LINK.findall(SPAN.sub("code", self.prose))

    def anchors(self) -> set[str]:
        """Return the anchors of its headings, as GitHub makes them."""
        seen: Counter[str] = Counter()
        anchors = set()
        for heading in HEADING.findall(self.prose):
            name = anchor(heading)
            anchors.add(f"{name}-{seen[name]}" if seen[name] else name)
            seen[name] += 1
        return anchors


@cache
def all_documents() -> list[Document]:
    """Return the Markdown files of the project: those git tracks, or, without git, all."""
    try:
        command = ["git", "ls-files", "*.md"]
        output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        paths = [ROOT / name for name in output.stdout.splitlines()]
    except (OSError, subprocess.CalledProcessError):
        paths = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("infra/**/*.md")]
    return [Document.read(path) for path in sorted(paths) if path.exists()]


def current_documents() -> list[Document]:
    """Return all documents that say what is, not what was."""
    return [document for document in all_documents() if not HISTORY.fullmatch(document.name)]


def anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def commands(text: str) -> Iterator[list[str]]:
    """Yield the simple commands of shell text as words: no comments, assignments, redirections."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        yield from _simple_commands(list(lexer))


def _simple_commands(tokens: list[str]) -> Iterator[list[str]]:
    words: list[str] = []
    position = 0
    while position < len(tokens):
        token = tokens[position]
        if token in OPERATORS:
            yield from _command(words)
            words = []
        elif token in REDIRECTIONS:
            if words and words[-1].isdigit():
                words.pop()
            position += 1  # its file
        else:
            words.append(token)
        position += 1
    yield from _command(words)


def _command(words: list[str]) -> Iterator[list[str]]:
    while words and ASSIGNMENT.fullmatch(words[0]):
        words = words[1:]
    if words:
        yield words
