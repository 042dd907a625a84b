"""A figure that notebooks show by itself, with names as they are and without pyplot."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from matplotlib import rc_context
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure

DPI, NOTEBOOK_DPI = 120, 90


class Picture(Figure):
    """A matplotlib figure that pyplot does not keep: nothing is shown twice, nothing piles up."""

    def draw(self, renderer: RendererBase) -> None:
        """Draw it as matplotlib does, with names as they are."""
        with names_as_they_are():
            super().draw(renderer)

    def to_png(self, dpi: float = DPI) -> bytes:
        """Return it as the bytes of a PNG file, with so many dots per inch."""
        stream = io.BytesIO()
        with names_as_they_are():
            self.savefig(stream, format="png", dpi=dpi, metadata={"Software": ""})
        return stream.getvalue()

    def _repr_png_(self) -> bytes:
        """Return what a notebook shows."""
        return self.to_png(NOTEBOOK_DPI)


@contextmanager
def names_as_they_are() -> Iterator[None]:
    """Have matplotlib read no formula into a name with dollars, and draw what its font has not."""
    with rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


def legend_label(name: str) -> str:
    """Return a name for a legend, which leaves out what begins with an underscore."""
    return f" {name}" if name.startswith("_") else name
