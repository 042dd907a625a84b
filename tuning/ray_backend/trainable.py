"""A trial as Ray Tune sees it: each step advances its fit by a piece, and reports."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray import tune

from pipeline.credentials.outlets import mask_outlets
from pipeline.errors import only_masked_errors
from pipeline.fitting.shared_corpus import unpack
from pipeline.spec import Spec
from pipeline.storage.stage_store import StageStore
from pipeline.storage.store_address import adopt_variables
from tuning.fitting.job import Job
from tuning.fitting.trial_fit import FitContext, FitReport, TrialFit
from tuning.planning.faults import pause_s
from tuning.ray_backend.store_marker import StoreMarker

HOLD_STEP_S = 1.0
"""So long a worker waits at a time; a study that ends waits for that."""


class TrialTrainable(tune.Trainable):
    """Steps through a trial: to the next rung, to the end, or for a few seconds.

    The worker lives on from trial to trial, and keeps what is made once: the corpus, the store,
    what upstream stages output.

    Where its surroundings let it down, it says so and waits before it takes the next trial, the
    longer the more often. Meanwhile another worker, whose disk is perhaps not full, may go on with
    the trial.
    """

    def setup(  # type: ignore[override] # what follows config comes from tune.with_parameters
        self,
        config: dict[str, Any],
        *,
        head: bytes,
        packed: NDArray[np.uint8],
        spec: str,
        store: str,
        variables: Mapping[str, str],
        marker: StoreMarker | None = None,
    ) -> None:
        """Prepare a worker; called once.

        `variables` are those that reach the store; a `marker` is in the driver's store, on a
        cluster, which a node may join at any time without having that store.
        """
        adopt_variables(variables)
        mask_outlets()
        torch.set_num_threads(1)
        with only_masked_errors():
            self._corpus, self._base = unpack(head, packed), Spec.model_validate_json(spec)
            self._store, self._marker = store, marker
            self._context: FitContext | None = None
            self._num_faults = 0
            self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin a trial; called for every further trial of the same worker."""
        self._job = Job.from_config(new_config)
        self._fit: TrialFit | None = None
        self._held_until: float | None = None
        return True

    def step(self) -> dict[str, Any]:
        """Train on, or wait; what is returned is all that the driver knows."""
        if self._held_until is not None:
            left_s = self._held_until - time.monotonic()
            time.sleep(min(max(left_s, 0.0), HOLD_STEP_S))
            return {"done": left_s <= HOLD_STEP_S}

        report = self._advance()
        if report.fault and self._marker is not None:
            report = replace(report, fault=f"On {socket.gethostname()}: {report.fault}")
        self._num_faults = self._num_faults + 1 if report.fault else 0
        if report.fault:
            self._held_until = time.monotonic() + pause_s(self._num_faults)
        return report.to_result()

    def _advance(self) -> FitReport:
        try:
            if self._context is None:
                if self._marker is not None:
                    self._marker.raise_if_not_here()
                self._context = FitContext.create(self._corpus, self._base, StageStore(self._store))
            if self._fit is None:
                self._fit = TrialFit(self._job, self._context)
        except Exception as error:  # Tune would tell it as that of a lost worker
            return FitReport.from_error(error)
        return self._fit.advance()

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Do nothing: the state is in the store."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Do nothing: the state is in the store."""
