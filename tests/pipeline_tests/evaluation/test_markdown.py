"""A name in Markdown comes back whole from a renderer, wherever it stands."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pipeline.evaluation.markdown import code, literal
from pipeline.names import mistake_in_text

GITHUB = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
names = st.text(
    st.sampled_from("ab1_*`|[]()<>&;#~\\!-+.=:$\"' é") | st.characters(), min_size=1, max_size=20
).filter(lambda name: name == name.strip() and not mistake_in_text(name))


@given(names)
@example("[x](https://a.b)")
@example("![x](y)")
@example("<script>alert(1)</script>")
@example("a|b")
@example("**fusion**")
@example("_x_ and a_b")
@example("&lt; &#35; &")
@example("1. first")
@example("12) twelfth")
@example("- item")
@example("# heading")
@example("a\\|b\\")
def test_a_name_comes_back_from_a_heading_a_list_a_sentence_and_a_cell(name: str) -> None:
    text = literal(name)
    card = f"# {text} x\n\nCCC of {text}, {text}\n\n- {text}: 1\n\n| a | b |\n|-|-|\n| {text} | 2 |"
    rendered = GITHUB.render(card)

    shown = html.escape(name, quote=True).replace("&#x27;", "'")
    assert f"<h1>{shown} x</h1>" in rendered
    assert f"<p>CCC of {shown}, {shown}</p>" in rendered
    assert f"<li>{shown}: 1</li>" in rendered
    assert f"<td>{shown}</td>\n<td>2</td>" in rendered


@given(names)
def test_code_comes_back(name: str) -> None:
    rendered = GITHUB.renderInline(f"Corpus {code(name)} (digest)")
    assert html.unescape(re.sub(r"</?code>", "", rendered)) == f"Corpus {name} (digest)"


@pytest.mark.parametrize("name", ["late_fusion", "egemaps+vggface", "arousal [v2]", "R&D", "50%"])
def test_an_ordinary_name_stays_readable_in_the_file(name: str) -> None:
    assert literal(name) == name


@given(names)
@example("<img src=x onerror=alert(1)>")
def test_no_renderer_finds_a_tag_in_a_name(name: str) -> None:
    assert "<" not in literal(name)
