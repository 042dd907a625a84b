"""Neither an answer, nor a log line, nor what Ray is handed shows a credential or a path."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.credentials.known import remember_secret
from serving.app import build_app
from serving.models.model_follower import ModelFollower
from serving.models.model_registry import ModelRegistry, RegistryUnavailable
from serving.models.model_source import find_source
from serving.monitoring.access_log import JsonLinesFormatter
from serving.monitoring.metrics import Metrics
from serving.settings import Settings
from tests.serving_tests.conftest import Client

SECRET = "gr4pe-fig-lime"
URI = f"http://alice:{SECRET}@127.0.0.1:9"
PATHS = ("/", "/healthz", "/readyz", "/v1/model", "/v1/example", "/metrics", "/openapi.json", "/x")


def test_a_log_line_has_no_credentials_in_its_message_or_its_exception() -> None:
    remember_secret("plum-8-fig")
    try:
        raise ValueError(f"refused {URI}")
    except ValueError as error:
        details = (type(error), error, error.__traceback__)
    message = "%s and plum-8-fig"
    record = logging.LogRecord("serving", 30, "x.py", 1, message, (URI,), details)
    line = json.loads(JsonLinesFormatter().format(record))
    assert line["message"] == "http://***@127.0.0.1:9 and ***"
    assert "ValueError: refused http://***@127.0.0.1:9" in line["exception"]
    assert SECRET not in str(line)


def test_without_an_answer_of_the_registry_neither_log_nor_answers_have_its_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(tracking_uri=URI, cache=tmp_path / "cache")
    metrics = Metrics()
    follower = ModelFollower(find_source(settings), settings, metrics)
    follower.refresh()
    client = Client(build_app(follower.current, settings, metrics, advice=follower.advice))
    answers = "".join(client.get(path).text for path in PATHS)

    assert "The registry 'http://***@127.0.0.1:9'" in caplog.text
    assert SECRET not in caplog.text + answers + repr(settings)
    for place in ("127.0.0.1:9", str(tmp_path), str(Path.cwd()), str(Path.home()) + "/"):
        assert place not in answers


def test_without_a_registry_the_advice_names_no_path(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.raises(RegistryUnavailable) as error:
        ModelRegistry(uri).version_of_alias("affectune", "champion")
    assert str(tmp_path) not in error.value.advice
    assert "study run demo" in error.value.advice


def test_a_served_bundle_says_nothing_of_the_machine(client: Client, bundle: Path) -> None:
    answers = "".join(client.get(path).text for path in PATHS)
    for place in (str(bundle), str(bundle.parent), str(Path.cwd()), str(Path.home()) + "/"):
        assert place not in answers
    # Every other path that there is begins with one of these folders.
    assert re.findall(r"[\s\"'(](?:/home|/root|/tmp|/var|/usr|/opt|/etc)/[\w.]+", answers) == []


@pytest.mark.filterwarnings("ignore")  # Ray's own, when it is imported
@pytest.mark.parametrize("is_in_settings", [True, False])
def test_ray_is_handed_no_credentials_for_its_logs(
    is_in_settings: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving import endpoint

    handed: dict[str, Any] = {}

    class Deployment:
        def __init__(self, **options: Any) -> None:
            handed["options"] = options

        def __call__(self, cls: type) -> Deployment:
            return self

        def bind(self, settings: Settings, access: object) -> Deployment:
            handed.update(settings=settings, access=access)
            return self

    monkeypatch.setattr("ray.serve.deployment", Deployment)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    monkeypatch.setenv("AFFECTUNE_SERVE_TOKEN", SECRET)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://other" if is_in_settings else URI)
    endpoint.application(Settings(tracking_uri=URI if is_in_settings else None))

    assert SECRET not in repr(handed)
    assert handed["settings"].tracking_uri == URI
