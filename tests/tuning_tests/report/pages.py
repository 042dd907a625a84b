"""Reads a report as a browser would: its elements, headings, tables and charts."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass
class PageTable:
    """A table: its caption, the headings of its columns, and the text of each row's cells."""

    caption: str = ""
    headings: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


class Page(HTMLParser):
    """A page that was read.

    Attributes:
        tags: every element with its attributes, in order.
        open: elements that have not ended.
        charts: label -> plotly's JSON.
        trial_data: what the page's script knows of all trials.
        tables: label -> table.
        num_scripts: scripts that run.
        text: all text that is not script or style.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.charts: dict[str, dict[str, Any]] = {}
        self.tables: dict[str, PageTable] = {}
        self.trial_data: dict[str, Any] = {}
        self.num_scripts = 0
        self.text = ""
        self._label = ""
        self.feed(html)

    @property
    def ids(self) -> list[str]:
        """The ids of all elements."""
        return [str(attributes["id"]) for _, attributes in self.tags if "id" in attributes]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag not in ("meta", "br", "img", "input"):
            self.open.append(tag)
        self.num_scripts += tag == "script" and "type" not in attributes

        if attributes.get("role") in ("region", "img"):
            self._label = str(attributes["aria-label"])
        if tag == "table":
            self.tables[self._label] = PageTable()
        if tag == "th" and "thead" in self.open:
            self.tables[self._label].headings.append("")
        if tag == "tr" and "tbody" in self.open:
            self.tables[self._label].rows.append([])
        if tag in ("th", "td") and "tbody" in self.open:
            self.tables[self._label].rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        """Note the end of an element."""
        assert self.open.pop() == tag, f"<{tag}> ends out of place at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        """Read text, or the data of a chart."""
        parent = self.open[-1] if self.open else ""
        if parent == "script" and self.tags[-1][1].get("type") == "application/json":
            if self.tags[-1][1].get("id") == "trial-data":
                self.trial_data = json.loads(data)
            else:
                self.charts[self._label] = json.loads(data)
        if parent in ("script", "style"):
            return

        self.text += data
        if "table" in self.open:
            self._add_to_table(self.tables[self._label], data)

    def _add_to_table(self, table: PageTable, text: str) -> None:
        if "caption" in self.open:
            table.caption += text
        elif "thead" in self.open and "th" in self.open:
            table.headings[-1] += text
        elif "tbody" in self.open and ("th" in self.open or "td" in self.open):
            table.rows[-1][-1] += text


def numbers(series: Any) -> NDArray[np.float64]:
    """Return a plotly series as numbers."""
    if isinstance(series, dict):
        data = np.frombuffer(base64.b64decode(series["bdata"]), dtype=np.dtype(series["dtype"]))
        return data.astype(float)
    return np.array(series, dtype=float)
