"""A trial as Ray Tune sees it: each step advances its fit by a piece, and reports."""

from __future__ import annotations

import os
from collections.abc import Mapping
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
from tuning.fitting.job import Job
from tuning.fitting.trial_fit import FitContext, TrialFit


class TrialTrainable(tune.Trainable):
    """Steps through a trial: to the next rung, to the end, or for a few seconds.

    The worker lives on from trial to trial, and keeps what is made once: the corpus, the store,
    what upstream stages output.
    """

    def setup(  # type: ignore[override] # what follows config comes from tune.with_parameters
        self,
        config: dict[str, Any],
        *,
        head: bytes,
        packed: NDArray[np.uint8],
        spec: str,
        store: str,
        keys: Mapping[str, str],
    ) -> None:
        """Prepare a worker; called once. `keys` are variables with keys of an object store."""
        os.environ.update(keys)
        mask_outlets()
        torch.set_num_threads(1)
        base = Spec.model_validate_json(spec)
        with only_masked_errors():
            self._context = FitContext.create(unpack(head, packed), base, StageStore(store))
            self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin a trial; called for every further trial of the same worker."""
        self._fit = TrialFit(Job.from_config(new_config), self._context)
        return True

    def step(self) -> dict[str, Any]:
        """Train on; what is returned is all that the driver knows."""
        return self._fit.advance().to_result()

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Do nothing: the state is in the store."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Do nothing: the state is in the store."""
