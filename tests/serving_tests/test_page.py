"""The page in a real Chromium: files in, traces out, the API's numbers, errors as sentences."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import uvicorn

from pipeline.corpus import Corpus, Session
from pipeline.metrics.ccc import ccc
from serving.app import build_app
from serving.models.predictor import Predictor
from serving.settings import Settings
from tests.serving_tests.sessions import as_json, columns_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

playwright = pytest.importorskip(
    "playwright.sync_api", reason="NOT TESTED in a browser: playwright is not installed"
)

PATIENCE_MS = 120_000  # a busy machine takes long; a quiet one a moment
playwright.expect.set_options(timeout=PATIENCE_MS)
CHROMIUM = (
    os.environ.get("AFFECTUNE_CHROMIUM")
    or shutil.which("chromium")
    or shutil.which("chromium-browser")
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE = os.environ.get("AFFECTUNE_AXE")
NUM_TRACES = 15
"""Lines and areas of two targets, of the weights of two feature sets for each, of difficulties."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="NOT TESTED in a browser: no chromium; set AFFECTUNE_CHROMIUM"
    ),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def address(bundle: Path) -> Iterator[str]:
    """The application behind a plain server."""
    with _serve(bundle) as address:
        yield address


@contextlib.contextmanager
def _serve(bundle: Path) -> Iterator[str]:
    settings = Settings()
    predictor = Predictor.load(bundle, "affectune", "3", settings)
    app = build_app(lambda: predictor, settings)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    ready = threading.Event()
    original = server.startup

    async def startup(sockets: object = None) -> None:
        await original()
        ready.set()

    server.startup = startup  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert ready.wait(30)

    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """A Chromium for all tests of this file."""
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page, open; an error in its console, or a request to elsewhere, fails the test."""
    context = browser.new_context(accept_downloads=True)
    context.set_default_timeout(PATIENCE_MS)
    opened = context.new_page()
    complaints: list[str] = []

    def check_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(message.text)

    def check_request(request: Request) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            complaints.append(request.url)

    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", check_console)
    opened.on("request", check_request)
    opened.goto(address)
    playwright.expect(opened.locator("#model")).to_contain_text("version 3")
    yield opened
    context.close()
    assert [text for text in complaints if "422" not in text] == []


def _write(session: Session, folder: Path) -> list[str]:
    """Write a session's files in the MuSe layout; return their paths."""
    paths = []
    for name, values in session.features.items():
        path = folder / "feature_segments" / name / f"{session.session_id}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["timestamp", "segment_id", *columns_of(session)[name]])
            writer.writerows(
                [time, 1, *row]
                for time, row in zip(session.timestamps_ms, values.tolist(), strict=True)
            )
        paths.append(str(path))
    return paths


def _drop(page: Page, paths: list[str]) -> None:
    """Drop files, as if from a file manager."""
    files = [{"name": Path(path).name, "text": Path(path).read_text()} for path in paths]
    transfer = page.evaluate_handle(
        """(files) => {
          const transfer = new DataTransfer();
          for (const { name, text } of files) {
            transfer.items.add(new File([text], name, { type: "text/csv" }));
          }
          return transfer;
        }""",
        files,
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})


def test_dropped_files_become_traces_with_the_numbers_of_the_api(
    page: Page, address: str, corpus: Corpus, tmp_path: Path
) -> None:
    session = corpus.partition("devel")[0]
    _drop(page, _write(session, tmp_path))
    playwright.expect(page.locator("#result-title")).to_contain_text(
        f"Prediction for {session.session_id}"
    )
    playwright.expect(page.locator("#chart .scatterlayer .trace")).to_have_count(NUM_TRACES)
    playwright.expect(page.locator("#readings")).to_contain_text("90%")

    expected = _predict(address, session)
    _assert_hover_has_one_of(page, expected["predictions"]["arousal"])
    _assert_download_has(page, session.session_id, expected)

    page.get_by_text("Ask for this from a program").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the request").click()
    download.value.save_as(tmp_path / download.value.suggested_filename)
    _assert_programs_run(page, tmp_path, expected)


def test_columns_in_another_order_and_what_is_no_feature_change_no_number(
    page: Page, address: str, corpus: Corpus, tmp_path: Path
) -> None:
    session = corpus.partition("devel")[0]
    paths = _write(session, tmp_path)
    rows = list(csv.reader(Path(paths[0]).read_text().splitlines()))
    names = ["filename", "Unnamed: 0", *rows[0][:1:-1], "timestamp", "Participant", "segment_id"]
    changed = [
        ['"a, b.wav"', str(index), *row[:1:-1], row[0], "7", row[1]]
        for index, row in enumerate(rows[1:])
    ]
    Path(paths[0]).write_text("\n".join(",".join(row) for row in [names, *changed]))

    _drop(page, paths)
    playwright.expect(page.locator("#warnings")).to_contain_text("Set aside, as no features")
    _assert_download_has(page, session.session_id, _predict(address, session))


def _predict(address: str, session: Session) -> dict[str, Any]:
    """Return the response of the API to a session."""
    return _post(address, json.dumps(as_json(session, columns_of(session))).encode())


def _post(address: str, body: bytes) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{address}/v1/predictions", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as http_response:
        response: dict[str, Any] = json.load(http_response)
    return response


def _assert_hover_has_one_of(page: Page, values: list[float]) -> None:
    plot = page.locator("#chart .nsewdrag").first.bounding_box()
    assert plot is not None
    page.mouse.move(plot["x"] + plot["width"] / 2, plot["y"] + plot["height"] / 2)
    hover = page.locator("#chart .hoverlayer .legendtext, #chart .hoverlayer .hovertext").first
    playwright.expect(hover).to_be_visible()

    text = page.locator("#chart .hoverlayer").text_content() or ""
    assert any(f"{value:.3f}".replace("-", "\u2212") in text for value in values)


def _assert_download_has(page: Page, session_id: str, expected: dict[str, Any]) -> None:
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    assert download.value.suggested_filename == f"{session_id}-predictions.csv"

    rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    assert [int(row["timestamp"]) for row in rows] == expected["timestamps_ms"]
    for target, values in expected["predictions"].items():
        np.testing.assert_allclose([float(row[target]) for row in rows], values, rtol=0, atol=1e-12)
    for target, band in expected["bands"].items():
        for end in ("low", "high"):
            ends = [float(row[f"{target}.{end}"]) for row in rows]
            np.testing.assert_allclose(ends, band[end], rtol=0, atol=1e-12)
    for modality, difficulty in expected["difficulty"].items():
        percentiles = [float(row[f"{modality}.difficulty"]) for row in rows]
        np.testing.assert_allclose(percentiles, difficulty["percentile"])
    for target, weights in expected["weights"].items():
        for modality, values in weights.items():
            saved = [float(row[f"{target}.weight.{modality}"]) for row in rows]
            np.testing.assert_allclose(saved, values)


def test_whom_a_target_trusts_is_drawn_named_and_said_in_words(
    page: Page, address: str, corpus: Corpus, tmp_path: Path
) -> None:
    """In the chart by colour with a legend, on hover, and as text for who cannot see it."""
    session = corpus.partition("devel")[0]
    _drop(page, _write(session, tmp_path))
    legend = page.locator("#chart .infolayer > .legend .legendtext")
    playwright.expect(legend).to_have_text(["voice", "face"])

    means = {
        modality: float(np.mean(values))
        for modality, values in _predict(address, session)["weights"]["arousal"].items()
    }
    shares = sorted(means.items(), key=lambda entry: -entry[1])
    text = ", ".join(f"{modality} {round(100 * mean)}%" for modality, mean in shares)
    chart = page.get_by_role("img", name="Prediction over time. On average: arousal")
    playwright.expect(chart).to_have_accessible_description(
        re.compile(re.escape(f"For arousal, on average: {text}."))
    )
    plot = page.locator("#chart .nsewdrag").first.bounding_box()
    assert plot is not None
    page.mouse.move(plot["x"] + plot["width"] / 2, plot["y"] + plot["height"] / 2)
    playwright.expect(page.locator("#chart .hoverlayer")).to_contain_text(
        re.compile(r"voice, trusted for arousal : \d+%")
    )

    page.get_by_text("Numbers", exact=True).click()
    row = page.get_by_role("row", name="weight of voice for arousal")
    playwright.expect(row).to_contain_text(f"{means['voice']:.2f}")


def test_a_model_without_a_gate_shows_no_trust(browser: Browser, gateless_bundle: Path) -> None:
    with _serve(gateless_bundle) as address, browser.new_context() as context:
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(address)
        playwright.expect(page.locator("#model")).to_contain_text("version 3")
        page.locator("#example").click()
        playwright.expect(page.locator("#chart .scatterlayer .trace")).to_have_count(6)
        playwright.expect(page.locator("#readings")).not_to_contain_text("Trusted")
        playwright.expect(page.locator("#chart .infolayer > .legend")).to_have_count(0)
        assert "weight of" not in (page.locator("#summary").text_content() or "")


def test_a_missing_modality_is_a_warning(page: Page, corpus: Corpus, tmp_path: Path) -> None:
    _drop(page, _write(corpus.partition("devel")[0], tmp_path)[:1])
    playwright.expect(page.locator("#warnings")).to_contain_text("face: The feature set is missing")


def test_mistakes_are_sentences(page: Page, corpus: Corpus, tmp_path: Path) -> None:
    [path, _] = _write(corpus.partition("devel")[0], tmp_path)
    text = Path(path).read_text()

    Path(path).write_text(text.replace("\n500,1,", "\n500,1,x", 1))
    _drop(page, [path])
    playwright.expect(page.get_by_role("alert")).to_contain_text(
        'line 3, column "voice_0" is no number'
    )

    Path(path).write_text("\n".join(text.splitlines()[:2]))
    _drop(page, [path])
    playwright.expect(page.get_by_role("alert")).to_contain_text("A session has at least 2 frames")
    assert page.locator("#result").is_hidden()


def test_a_folder_of_sessions_is_predicted_scored_and_saved(
    page: Page, address: str, corpus: Corpus, tmp_path: Path
) -> None:
    sessions = corpus.partition("devel")
    for session in sessions:
        _write(session, tmp_path)
        _write_labels(session, tmp_path)
    (tmp_path / "README.md").write_text("no table")
    lines = [f"{session.session_id},devel\n" for session in sessions]
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata/partition.csv").write_text(f"Id,Proposal\n{''.join(lines)}")

    page.locator("#folder").set_input_files(tmp_path)
    playwright.expect(page.get_by_role("status")).to_have_text(
        f"{len(sessions)} sessions predicted."
    )
    playwright.expect(page.locator("#not-read")).to_contain_text("README.md (it is no CSV file)")

    # The model was evaluated on devel, and the page shows the same sessions: the same CCC.
    with urllib.request.urlopen(f"{address}/v1/model") as response:
        of_devel = json.load(response)["ccc"]
    pooled = page.get_by_role("row", name="devel, pooled").locator("td").all_inner_texts()
    assert [pooled[3], pooled[5]] == [f"{of_devel[target]:.3f}" for target in corpus.targets]

    with page.expect_download() as download:
        page.get_by_role("button", name="Download all predictions").click()
    archive = zipfile.ZipFile(download.value.path())
    names = [f"{target}/{each.session_id}.csv" for target in corpus.targets for each in sessions]
    assert sorted(archive.namelist()) == sorted(names)
    for session in sessions:
        expected = _predict(address, session)["predictions"]
        for target in corpus.targets:
            text = archive.read(f"{target}/{session.session_id}.csv").decode()
            rows = list(csv.DictReader(io.StringIO(text)))
            assert [int(row["timestamp"]) for row in rows] == session.timestamps_ms.tolist()
            assert [float(row["value"]) for row in rows] == expected[target]
            assert {row["segment_id"] for row in rows} == {"1"}

            frame = np.isfinite(session.labels[target])
            score = ccc(session.labels[target][frame], np.array(expected[target])[frame])
            row = page.get_by_role("row", name=session.session_id)
            playwright.expect(row).to_contain_text(f"{score:.3f}")

    shown = sessions[-1].session_id
    page.get_by_role("button", name=shown).click()
    playwright.expect(page.locator("#result-title")).to_contain_text(f"Prediction for {shown}")
    playwright.expect(page.locator("#readings")).to_contain_text("Label of arousal: CCC")


def _write_labels(session: Session, folder: Path) -> None:
    for target, values in session.labels.items():
        path = folder / "label_segments" / target / f"{session.session_id}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = zip(session.timestamps_ms.tolist(), values.tolist(), strict=True)
        path.write_text(
            "timestamp,segment_id,value\n" + "".join(f"{time},1,{value}\n" for time, value in rows)
        )


def test_nothing_is_predicted_while_a_file_of_a_dropped_folder_is_not_assigned(
    page: Page, corpus: Corpus, tmp_path: Path
) -> None:
    asked = []
    page.on("request", lambda request: asked.append(request.url) if request.post_data else None)
    session = corpus.partition("devel")[0]
    _write(session, tmp_path)
    (tmp_path / "gaze.csv").write_text("timestamp,segment_id,gaze_x\n0,1,2\n")
    _drop_folder(page, tmp_path)
    playwright.expect(page.get_by_role("status")).to_contain_text("1 file is not assigned")
    playwright.expect(page.locator("#groups .open")).to_contain_text(
        "The model reads no feature set with its columns (gaze_x)."
    )
    assert not asked
    assert page.locator("#result").is_hidden()

    choice = page.get_by_label("gaze.csv, 1 column?")
    choice.focus()
    choice.select_option("not used")
    playwright.expect(page.locator("#result-title")).to_contain_text(session.session_id)
    playwright.expect(choice).to_be_focused()
    assert len(asked) == 1


def _drop_folder(page: Page, folder: Path) -> None:
    """Drop a folder, as only the browser itself can."""
    place = page.locator("#drop").bounding_box()
    assert place is not None
    protocol = page.context.new_cdp_session(page)
    for event in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
        where = {"x": place["x"] + 9, "y": place["y"] + 9}
        protocol.send("Input.dispatchDragEvent", {"type": event, "data": data, **where})


def test_the_example_has_an_address_a_picture_and_programs_that_run(
    page: Page, address: str, tmp_path: Path
) -> None:
    page.goto(f"{address}/#example")
    page.reload()
    status = page.get_by_role("status")
    playwright.expect(status).to_contain_text("Prediction for example, by affectune version 3")
    playwright.expect(page.locator("#link")).to_have_text(f"{address}/#example")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as PNG").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")

    with urllib.request.urlopen(f"{address}/v1/example") as response:
        example = response.read()
    _assert_programs_run(page, tmp_path, _post(address, example))


def _assert_programs_run(page: Page, folder: Path, expected: dict[str, Any]) -> None:
    """Run the two programs as they stand; they get the same response."""
    program = page.locator("#python").text_content() or ""
    command = [sys.executable, "-c", program]
    output = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    lines = [f"{name} {values[:5]}" for name, values in expected["predictions"].items()]
    assert output.splitlines() == lines

    if shutil.which("curl"):
        command = ["sh", "-c", page.locator("#curl").text_content() or ""]
        response = subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout
        assert json.loads(response)["predictions"] == expected["predictions"]


def test_the_page_works_by_keyboard_alone(page: Page) -> None:
    page.locator("#files").focus()
    for name in ("folder", "example"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == name
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#result-title")).to_contain_text("Prediction for example")

    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "download"
    with page.expect_download():
        page.keyboard.press("Enter")
    page.locator("#card-box summary").focus()
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#card h3").first).to_contain_text("Affectune model")


@pytest.mark.skipif(
    AXE is None, reason="NOT TESTED: accessibility; set AFFECTUNE_AXE to axe-core's axe.min.js"
)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Page, corpus: Corpus, tmp_path: Path, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    (tmp_path / "gaze.csv").write_text("timestamp,segment_id,gaze_x\n0,1,2\n")
    for session in corpus.partition("devel"):
        _write(session, tmp_path)
        _write_labels(session, tmp_path)
    page.locator("#folder").set_input_files(tmp_path)
    playwright.expect(page.locator("#groups .open")).to_be_visible()
    assert _findings(page) == []

    page.get_by_label("gaze.csv").select_option("not used")
    playwright.expect(page.locator("#result")).to_be_visible()
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    assert _findings(page) == []


def _findings(page: Page) -> list[str]:
    page.evaluate(Path(AXE or "").read_text())
    findings: list[str] = page.evaluate(
        "axe.run().then(({ violations }) => violations.map(({ id, help }) => `${id}: ${help}`))"
    )
    return findings


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_is_wider_than_the_screen(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.locator("#example").click()
    playwright.expect(page.locator("#chart .scatterlayer .trace")).to_have_count(NUM_TRACES)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
