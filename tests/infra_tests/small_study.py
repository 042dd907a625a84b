"""A study that takes seconds, for tests of where it runs."""

from __future__ import annotations

STAGE = """
[{stage}]
network = {{ num_layers = 1, hidden_size = 8 }}
fit = {{ max_epochs = {epochs}, patience = {epochs} }}
[search.{stage}]
trials = {trials}
sampler = "random"
grace_epochs = {grace}
finalists = 1
seeds = 1
race_folds = 1
[search.{stage}.space]
"fit.learning_rate" = {{ loguniform = [0.001, 0.02] }}
"""
SHORT_EPOCHS, FEW_TRIALS = 4, 2


def small_study(
    name: str = "small",
    *,
    epochs: int = SHORT_EPOCHS,
    trials: int = FEW_TRIALS,
    is_stopped_early: bool = True,
    modalities: tuple[str, ...] = ("voice", "face"),
) -> str:
    """Return the TOML of a study of arousal.

    Args:
        name: of the study.
        epochs: of a regressor; other stages have few.
        trials: of a search of regressors; other searches have few.
        is_stopped_early: where not, what is found does not depend on which fit reports first.
        modalities: of the corpus.
    """
    text = f'name = "{name}"\nfolds = 2\ntargets = ["arousal"]\nmodalities = {[*modalities]}\n'
    for stage in ("auto_encoder", "unimodal", "fusion"):
        is_regressor = stage == "unimodal"
        num_epochs = epochs if is_regressor else SHORT_EPOCHS
        text += STAGE.format(
            stage=stage,
            epochs=num_epochs,
            trials=trials if is_regressor else FEW_TRIALS,
            grace=2 if is_stopped_early else num_epochs,
        )
    return text
