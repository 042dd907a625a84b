"""The error of a trained stage that a study needs, and that its store no longer has."""

from __future__ import annotations

from pipeline.errors import AffectuneError


class StageLost(AffectuneError):
    """The store has lost a trained stage, or what it outputs; or they are damaged.

    Args:
        key: of the stage.
    """

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The store no longer has the stage {key[:12]}, or it is damaged. Run the study with "
            "--resume and the same --store: it is trained again."
        )
        self.key = key

    def __reduce__(self) -> tuple[type[StageLost], tuple[str]]:
        return StageLost, (self.key,)
