"""A version becomes the champion only where it deserves to, and the decision is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import InputError
from tests.tuning_tests.mlflow_backend.registry.winners import comparison, register_winner
from tuning.mlflow_backend.client import connect
from tuning.mlflow_backend.registry.promotion import promote, rollback
from tuning.mlflow_backend.registry.versions import aliases_of


def test_a_worse_challenger_is_refused_unless_forced_and_the_decision_is_kept(
    bundle: Path, uri: str
) -> None:
    register_winner(bundle, uri, "a", promote_first=True)
    register_winner(bundle, uri, "b")
    client = connect(uri)
    worse = comparison(mean=-0.2)

    assert not promote(client, "affectune", "2", worse, against="1", force=False)
    assert aliases_of(client, "affectune") == {"champion": "1", "challenger": "2"}
    tags = client.get_model_version("affectune", "2").tags
    assert (tags["affectune.decision"], tags["affectune.decision.against"]) == ("refused", "1")
    assert json.loads(tags["affectune.decision.difference"])["mean"]["ccc"] == worse.mean.ccc

    assert promote(client, "affectune", "2", worse, against="1", force=True)
    assert aliases_of(client, "affectune") == {"champion": "2", "previous": "1"}
    assert client.get_model_version("affectune", "2").tags["affectune.decision"] == "forced"


def test_a_rollback_undoes_a_promotion_and_a_second_one_undoes_the_first(
    bundle: Path, uri: str
) -> None:
    register_winner(bundle, uri, "a", promote_first=True)
    register_winner(bundle, uri, "b")
    client = connect(uri)
    with pytest.raises(InputError, match="no previous champion"):
        rollback(client, "affectune")

    assert promote(client, "affectune", "2", comparison(mean=0.0), against="1", force=False)
    assert rollback(client, "affectune") == ("1", "2")
    assert aliases_of(client, "affectune") == {"champion": "1", "previous": "2"}
    assert client.get_model_version("affectune", "2").tags["affectune.decision"] == "rolled back"

    assert rollback(client, "affectune") == ("2", "1")
