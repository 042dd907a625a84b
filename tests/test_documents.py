"""The documents: links lead somewhere, pages are found, settings and messages are the program's."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

from pipeline.spec import Spec
from serving.settings import Settings
from tests.markdown import ROOT, Document, all_documents, anchor, current_documents
from tuning.spec.study_spec import read_study

MAX_PICTURE_BYTES = 300_000
SOURCE_PATH = re.compile(r"(?:pipeline|tuning|serving|tests|infra|docs|mlflow)/[\w./*-]+")
MADE_BY_RUNNING = {"infra/corpus", "infra/.env"}
"""Paths in documents that a person makes."""


@cache
def document_at(path: Path) -> Document:
    return Document.read(path)


def test_every_link_leads_to_a_file_and_a_heading_that_exist() -> None:
    broken = []
    for document in all_documents():
        for link in document.links():
            if re.match(r"[a-z]+:", link):
                continue
            name, _, fragment = link.partition("#")
            target = (document.path.parent / name).resolve() if name else document.path
            is_heading = not fragment or fragment in _anchors(target)
            if not (target.exists() and is_heading):
                broken.append(f"{document.name}: {link}")
    assert not broken, "\n".join(broken)


def test_every_page_is_in_the_table_of_contents_of_the_readme() -> None:
    readme = document_at(ROOT / "README.md")
    linked = {link.partition("#")[0] for link in readme.links()}
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert pages - linked == set()


def test_the_readme_can_be_read_in_some_minutes() -> None:
    words = len((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert 900 <= words <= 1200


def test_pictures_are_small() -> None:
    pictures = {
        (document.path.parent / link).resolve()
        for document in all_documents()
        for link in document.links()
        if link.endswith((".png", ".jpg", ".svg", ".webp"))
    }
    assert pictures
    large = [path.name for path in pictures if path.stat().st_size > MAX_PICTURE_BYTES]
    assert large == []


def test_paths_of_the_sources_that_documents_name_exist() -> None:
    lost = [
        f"{document.name}: {span}"
        for document in current_documents()
        for span in document.spans()
        if SOURCE_PATH.fullmatch(span) and span not in MADE_BY_RUNNING
        if not (list(ROOT.glob(span)) or list(document.path.parent.glob(span)))
    ]
    assert not lost, "\n".join(lost)


def test_every_toml_block_is_a_spec_a_study_or_settings_of_the_endpoint(tmp_path: Path) -> None:
    blocks = [block for document in current_documents() for block in document.blocks("toml")]
    assert blocks
    for number, block in enumerate(blocks):
        table = tomllib.loads(block.text)
        if "search" in table:
            path = tmp_path / f"{number}.toml"
            path.write_text(block.text, encoding="utf-8")
            read_study(path)
        elif set(table) <= set(Settings.model_fields):
            Settings.model_validate(table)
        else:
            Spec.model_validate(table)


def test_the_default_settings_of_the_page_are_the_defaults() -> None:
    [block] = document_at(ROOT / "docs/settings.md").blocks("toml")
    assert Spec.model_validate(tomllib.loads(block.text)) == Spec()


def test_the_words_of_the_glossary_are_in_alphabetical_order() -> None:
    for section in document_at(ROOT / "docs/glossary.md").text.split("\n## ")[1:]:
        words = re.findall(r"^\| ([^|]+) \|", section, re.M)[2:]
        assert words == sorted(words, key=str.casefold)


def test_troubleshooting_has_the_words_of_the_messages() -> None:
    page = document_at(ROOT / "docs/troubleshooting.md")
    messages = re.findall(r"^### `(.+)`$", page.prose, re.M)
    sources = [ROOT / "Makefile", *(ROOT / "pipeline").rglob("*.py")]
    sources += [*(ROOT / "tuning").rglob("*.py"), *(ROOT / "serving").rglob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in sources]
    assert len(messages) >= 10
    assert [message for message in messages if not any(message in text for text in texts)] == []


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("On a cluster", "on-a-cluster"),
        ("Train or study?", "train-or-study"),
        ("`did you mean`", "did-you-mean"),
        ("A GPU: when, and how", "a-gpu-when-and-how"),
        ("Read [this](there.md)_now", "read-this_now"),
    ],
)
def test_an_anchor_is_made_as_github_makes_it(heading: str, expected: str) -> None:
    assert anchor(heading) == expected


def _anchors(path: Path) -> set[str]:
    return document_at(path).anchors() if path.suffix == ".md" and path.exists() else set()
