"""The counters of `make style`, on snippets whose counts are known."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from tests.style import (
    Figure,
    Module,
    blank_lines,
    entries,
    import_cycles,
    long_lines,
    longest_classes,
    longest_functions,
    measure,
    nested_comprehensions,
    upward_imports,
    without_docstring,
)


def module(text: str) -> Module:
    return Module.parse(dedent(text), Path("snippet.py"))


FOUR_LINES_ONE_BLANK = """
    def area(width: float, height: float) -> float:
        assert width >= 0

        product = width * height
        return product
    """


def test_blank_lines_are_counted_from_the_first_statement() -> None:
    assert blank_lines([module(FOUR_LINES_ONE_BLANK)], with_docstrings=True).value == "25.0"


def test_a_docstring_and_the_blank_line_after_it_count_only_on_request() -> None:
    snippet = module('''
        def area(width: float) -> float:
            """Return the area of a square."""

            product = width * width
            return product
        ''')
    assert blank_lines([snippet], with_docstrings=True).value == "25.0"
    assert blank_lines([snippet], with_docstrings=False).value == "0.0"


def test_blank_lines_outside_functions_do_not_count() -> None:
    snippet = module("""
        width = 1


        class Square:
            side = 1

            area = 1
        """)
    assert blank_lines([snippet], with_docstrings=True).value == "0.0"


def test_a_line_of_a_function_inside_another_one_counts_once() -> None:
    snippet = module("""
        class Square:
            def area(self) -> int:
                def inner() -> int:
                    side = 2

                    return side * side

                return inner()
        """)
    # Six lines from the inner def to the end, of which two are blank.
    assert blank_lines([snippet], with_docstrings=True).value == f"{100 * 2 / 6:.1f}"


def test_several_modules_are_counted_together() -> None:
    full = module("""
        def area(width: float) -> float:
            width = abs(width)
            product = width * width
            product = round(product)
            return product
        """)
    assert blank_lines([module(FOUR_LINES_ONE_BLANK), full], with_docstrings=True).value == "12.5"


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("rows = [cell for row in table for cell in row]", 0),
        ("rows = [[cell for cell in row] for row in table]", 1),
        ("total = sum(max(cell for cell in row) for row in table)", 1),
        ("rows = [{c: (d for d in c) for c in row} for row in table]", 2),
        ("rows = [([a for a in row], [b for b in row]) for row in table]", 2),
        ("rows = [a for a in table]; columns = {b for b in table}", 0),
    ],
)
def test_a_comprehension_inside_another_one_is_nested(code: str, count: int) -> None:
    figure = nested_comprehensions([module(f"def rows(table):\n    {code}\n")])
    assert figure.value == f"{100 * count:.1f}"
    assert figure.places == ("snippet.py:2",) * count


def test_nested_comprehensions_are_counted_per_hundred_functions() -> None:
    snippet = module("""
        def first(table):
            def second():
                return [[cell for cell in row] for row in table]
        def third(): ...
        async def fourth(): ...
        """)
    assert nested_comprehensions([snippet]).value == "25.0"


def test_a_line_of_101_columns_is_long() -> None:
    figure = long_lines([module("#" * 100 + "\n" + "#" * 101 + "\n")])
    assert (figure.value, figure.places) == ("1", ("snippet.py:2",))


def test_the_longest_definitions_are_measured_without_their_decorators() -> None:
    snippet = module("""
        @cache
        def short(): return 1

        class Square:
            def area(self):
                return 1

            @property
            def side(self):
                side = 1
                return side
        """)
    functions, classes = longest_functions([snippet]), longest_classes([snippet])
    assert functions.value == "3 lines"
    assert functions.places == (
        "3 snippet.py: side",
        "2 snippet.py: area",
        "1 snippet.py: short",
    )
    assert (classes.value, classes.places) == ("8 lines", ("8 snippet.py: Square",))


def test_without_any_definition_nothing_is_longest() -> None:
    assert longest_functions([module("width = 1")]).value == "none"


def test_a_public_name_needs_a_docstring() -> None:
    snippet = module('''
        def area():
            def inner(): ...

        def _area(): ...

        class Square:
            """A shape."""

            def side(self): ...

            def __len__(self): ...

        class _Square:
            def side(self): ...
        ''')
    figure = without_docstring([snippet])
    assert (figure.value, figure.places) == ("2", ("snippet.py:2 area", "snippet.py:10 side"))


def test_entries_are_modules_and_folders(tmp_path: Path) -> None:
    for name in ("__init__.py", "area.py", "page.html", "shapes/__init__.py", "shapes/square.py"):
        path = tmp_path / "geometry" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    # "geometry" has area.py and shapes; "shapes" has square.py.
    assert entries(tmp_path, ["geometry"]).value == "mean 1.5, most 2"
    assert entries(tmp_path, ["geometry"]).places == ()


def test_a_folder_of_ten_modules_is_listed(tmp_path: Path) -> None:
    (tmp_path / "geometry").mkdir()
    for number in range(10):
        (tmp_path / "geometry" / f"shape_{number}.py").touch()
    assert entries(tmp_path, ["geometry"]).places == ("geometry: 10",)


@pytest.mark.parametrize(
    ("imports", "value"),
    [
        ({"a": {"b", "c"}, "b": {"c"}, "c": set()}, "0"),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}}, "1 or more"),
    ],
)
def test_modules_that_import_each_other_are_a_cycle(
    imports: dict[str, set[str]], value: str
) -> None:
    assert import_cycles(imports).value == value


def test_an_import_is_upward_unless_it_goes_to_a_lower_layer() -> None:
    contracts = [
        {"type": "layers", "containers": ["shop"], "layers": ["cli", "cart | stock", "prices"]},
        {"type": "forbidden", "source_modules": ["shop"]},
    ]
    imports = {
        "shop.cli": {"shop.cart.items", "shop.prices"},
        "shop.cart.items": {"shop.cart.sum", "shop.stock", "workshop.cli"},
        "shop.cart.sum": set[str](),
        "shop.stock": {"shop.prices"},
        "shop.prices": {"shop.cli", "shop"},
        "workshop.cli": {"shop.cli"},
    }
    figure = upward_imports(imports, contracts)
    assert figure.value == "2"
    assert figure.places == (
        "shop.cart.items imports shop.stock",
        "shop.prices imports shop.cli",
    )


def test_the_packages_are_measured() -> None:
    figures = measure(["serving"])
    assert all(isinstance(figure, Figure) for figure in figures)
    assert [figure.value for figure in figures[:2]] == ["0", "0"]
