"""Search spaces of each sort for tests of samplers."""

from __future__ import annotations

from typing import Any

from tuning.spec.space import Space
from tuning.spec.study_spec import StudySpec

FINITE: dict[str, dict[str, Any]] = {
    "network.cell": {"choice": ["gru", "lstm"]},
    "network.num_layers": {"int": [1, 3]},
    "network.dropout": {"choice": [0.1, 0.2], "when": {"network.num_layers": [2, 3]}},
    "network.skip": {"choice": [True, False]},
}
ENDLESS: dict[str, dict[str, Any]] = {
    "network.cell": {"choice": ["gru", "lstm"]},
    "network.num_layers": {"int": [1, 3]},
    "network.dropout": {"uniform": [0.0, 0.5], "when": {"network.num_layers": [2, 3]}},
    "network.hidden_size": {"int": [8, 64], "log": True},
    "fit.learning_rate": {"loguniform": [0.0003, 0.03]},
    "difficulty": {"choice": [True, False]},
    "auto_encoder": {"top": 2},
}


def finite_space() -> Space:
    """Build a space of 20 configurations, with a condition."""
    return _unimodal_space(FINITE)


def endless_space() -> Space:
    """Build a space with every kind of domain, two conditions and no end."""
    return _unimodal_space(ENDLESS)


def _unimodal_space(dimensions: dict[str, dict[str, Any]]) -> Space:
    search = {
        "auto_encoder": {
            "sampler": "grid",
            "finalists": 2,
            "space": {"network.bottleneck_size": {"choice": [1, 2]}},
        },
        "unimodal": {"trials": 20, "space": dimensions},
    }

    return StudySpec.model_validate({"name": "small", "search": search}).space("unimodal")
