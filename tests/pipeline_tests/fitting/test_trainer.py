"""The training loop: deterministic, blind to padding, honest about failure."""

from __future__ import annotations

from dataclasses import replace

import audmetric
import numpy as np
import pytest
import torch

from pipeline.errors import AffectuneError
from pipeline.fitting.trainer import Trainer, fit, masked_loss, windows
from pipeline.spec import FitSpec, NetworkSpec, Spec, UnimodalSpec
from pipeline.stages.auto_encoder import auto_encoder_task
from pipeline.stages.cross_fit import CrossFitPlan, Fold
from pipeline.stages.difficulty import reconstruction_errors
from pipeline.stages.stage import StageTask, TrainedStage
from pipeline.stages.unimodal import unimodal_predictions, unimodal_task
from tests.pipeline_tests.corpora import corpus_of, tiny_corpus, tiny_session, tiny_spec


def _unimodal(spec: Spec | None = None) -> StageTask:
    corpus, spec = tiny_corpus(), spec or tiny_spec()
    return unimodal_task(
        corpus, spec, CrossFitPlan.of(corpus, spec).folds[0], "voice", "arousal", None, ()
    )


def _auto_encoder(corpus_seed: int = 0) -> tuple[StageTask, TrainedStage]:
    corpus, spec = tiny_corpus(), tiny_spec(seed=corpus_seed)
    task = auto_encoder_task(corpus, spec, CrossFitPlan.of(corpus, spec).folds[0], "voice")
    return task, fit(task, corpus)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("loss", ["ccc", "mse", "l1"])
def test_every_cell_and_loss_learns_an_easy_target(
    cell: str, bidirectional: bool, loss: str
) -> None:
    network = NetworkSpec.model_validate(
        {
            "cell": cell,
            "bidirectional": bidirectional,
            "num_layers": 1,
            "hidden_size": 16,
            "dropout": 0.0,
        }
    )
    settings = FitSpec.model_validate(
        {"loss": loss, "max_epochs": 40, "batch_size": 4, "learning_rate": 0.02}
    )
    stage = fit(
        _unimodal(tiny_spec(unimodal=UnimodalSpec(network=network, fit=settings))), tiny_corpus()
    )
    assert stage.score > 0.8


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not() -> None:
    network = NetworkSpec(num_layers=2, hidden_size=8, dropout=0.5, input_dropout=0.2)
    settings = FitSpec(max_epochs=2, input_noise=0.1)
    spec = tiny_spec(unimodal=UnimodalSpec(network=network, fit=settings))
    torch.manual_seed(1)
    first = fit(_unimodal(spec), tiny_corpus())
    torch.manual_seed(2)  # the caller's generator is neither read nor moved
    before = torch.random.get_rng_state()
    second = fit(_unimodal(spec), tiny_corpus())
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.to_files()["weights.safetensors"] == second.to_files()["weights.safetensors"]
    other = fit(_unimodal(spec.model_copy(update={"seed": 5})), tiny_corpus())
    assert other.to_files()["weights.safetensors"] != first.to_files()["weights.safetensors"]


def test_training_stops_after_patience_and_keeps_the_best_epoch() -> None:
    settings = FitSpec(max_epochs=60, patience=3, learning_rate=0.05, batch_size=4)
    task = _unimodal(
        tiny_spec(
            unimodal=UnimodalSpec(network=NetworkSpec(num_layers=1, hidden_size=8), fit=settings)
        )
    )
    corpus = tiny_corpus()
    heard: list[float] = []
    stage = fit(task, corpus, on_epoch=lambda epoch: heard.append(epoch.score))
    assert heard == [epoch.score for epoch in stage.history]
    assert len(heard) == stage.best_epoch + 3
    assert stage.score == max(heard) == heard[stage.best_epoch - 1]
    devel = corpus.partition("devel")
    predicted = np.concatenate(unimodal_predictions([stage], devel, "voice", None))[:, 0]
    truth = np.concatenate([session.labels["arousal"] for session in devel])
    assert audmetric.concordance_cc(truth, predicted) == pytest.approx(stage.score, abs=1e-5)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_training_that_went_on_elsewhere_gives_the_same_bytes(cell: str) -> None:
    network = {
        "cell": cell,
        "num_layers": 2,
        "hidden_size": 8,
        "dropout": 0.3,
        "input_dropout": 0.2,
    }
    fitted = {"max_epochs": 6, "batch_size": 4, "input_noise": 0.1, "weight_decay": 0.01}
    corpus, task = tiny_corpus(), _unimodal(tiny_spec(unimodal={"network": network, "fit": fitted}))
    whole = fit(task, corpus)
    first = Trainer(task, corpus)
    for _ in range(3):
        first.step()
        torch.rand(7)  # what others draw in between does not matter
    second = Trainer(task, corpus)
    second.resume(first.checkpoint())
    assert second.history == first.history
    while not second.over:
        second.step()
    assert second.solution().arrays().keys() == whole.arrays().keys()
    assert second.solution().history == whole.history
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(second.solution().arrays()[name], array)


def test_training_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    fit(_unimodal(), tiny_corpus())
    assert torch.equal(torch.rand(3), expected)


def test_a_checkpoint_of_another_task_is_refused() -> None:
    corpus = tiny_corpus()
    training = Trainer(_unimodal(), corpus)
    training.step()
    with pytest.raises(ValueError, match="a checkpoint of"):
        Trainer(_unimodal(tiny_spec(seed=1)), corpus).resume(training.checkpoint())


def test_an_auto_encoder_scores_minus_its_error() -> None:
    task, stage = _auto_encoder()
    errors = reconstruction_errors([stage], tiny_corpus().partition("devel"), "voice")
    assert stage.score == pytest.approx(-float(np.concatenate(errors).mean()), rel=1e-4)
    assert task.target == ""


def test_missing_frames_have_no_error_and_teach_nothing() -> None:
    corpus, spec = tiny_corpus(), tiny_spec()
    gone = {}
    for session in corpus.sessions:
        present = np.ones(session.num_frames, dtype=bool)
        present[5:12] = False
        gone[session.session_id] = present

    def with_hole(value: float) -> TrainedStage:
        sessions = []
        for session in corpus.sessions:
            present = gone[session.session_id]
            voice = np.where(present[:, None], session.features["voice"], value).astype(np.float32)
            sessions.append(
                replace(
                    session,
                    features={**session.features, "voice": voice},
                    present={**session.present, "voice": present},
                )
            )
        holed = corpus_of(sessions)
        stage = fit(
            auto_encoder_task(holed, spec, CrossFitPlan.of(holed, spec).folds[0], "voice"), holed
        )
        for session, error in zip(
            holed.sessions, reconstruction_errors([stage], holed.sessions, "voice"), strict=True
        ):
            np.testing.assert_array_equal(np.isnan(error[:, 0]), ~gone[session.session_id])
        return stage

    # What stands in a missing frame is never looked at.
    assert (
        with_hole(0.0).to_files()["weights.safetensors"]
        == with_hole(77.0).to_files()["weights.safetensors"]
    )


def test_a_session_alone_is_predicted_as_in_a_batch_with_longer_ones() -> None:
    _, encoder = _auto_encoder()
    short = tiny_session("a", "a", "devel", frames=9, seed=1)
    long = tiny_session("b", "b", "devel", frames=80, seed=2)
    alone = reconstruction_errors([encoder], [short], "voice")[0]
    together = reconstruction_errors([encoder], [long, short], "voice")[1]
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-6)
    regressor = fit(_unimodal(), tiny_corpus())
    alone = unimodal_predictions([regressor], [short], "voice", None)[0]
    together = unimodal_predictions([regressor], [long, short], "voice", None)[1]
    np.testing.assert_allclose(alone, together, atol=1e-6)


@pytest.mark.parametrize("loss", ["mse", "l1", "ccc"])
def test_padding_does_not_change_any_loss(loss: str) -> None:
    torch.manual_seed(0)
    truth_BTO, y_BTO = torch.randn(2, 6, 1), torch.randn(2, 6, 1)
    mask_BT = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    settings = FitSpec.model_validate({"loss": loss})
    expected = masked_loss(truth_BTO, y_BTO, mask_BT, settings)
    nan = torch.full((2, 3, 1), float("nan"))
    longer = masked_loss(
        torch.cat([torch.where(mask_BT[..., None], truth_BTO, torch.nan), nan], dim=1),
        torch.cat([y_BTO, nan], dim=1),
        torch.cat([mask_BT, torch.zeros(2, 3, dtype=torch.bool)], dim=1),
        settings,
    )
    torch.testing.assert_close(longer, expected)


def test_windows_cover_every_frame_and_none_is_shorter_than_it_must_be() -> None:
    assert windows(120, 300, 50) == [(0, 120)]
    assert windows(300, 300, 50) == [(0, 300)]
    assert windows(330, 300, 50) == [(0, 300), (30, 330)]
    assert windows(460, 300, 50) == [(0, 300), (50, 350), (100, 400), (150, 450), (160, 460)]
    for frames in range(1, 60):
        cut = windows(frames, 20, 7)
        assert {frame for start, stop in cut for frame in range(start, stop)} == set(range(frames))
        assert all(stop - start == min(20, frames) for start, stop in cut)


def test_a_diverging_fit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.nn.Linear.forward

    def overflow(self: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
        return real(self, x) * 1e38

    monkeypatch.setattr(torch.nn.Linear, "forward", overflow)
    with pytest.raises(
        AffectuneError, match=r"voice to arousal.*not finite in epoch 1\. Lower learning_rate"
    ):
        fit(replace(_unimodal(), fit=FitSpec(loss="mse")), tiny_corpus())


def test_the_unit_of_a_label_does_not_matter() -> None:
    corpus = tiny_corpus()
    scaled = corpus_of(
        [
            replace(
                session,
                labels={name: 1000 * value + 5000 for name, value in session.labels.items()},
            )
            for session in corpus.sessions
        ]
    )
    assert fit(_unimodal(), scaled).score == pytest.approx(fit(_unimodal(), corpus).score, abs=1e-3)


def test_a_target_without_training_labels_is_refused() -> None:
    sessions = [
        tiny_session(f"t{number}", f"t{number}", "train", seed=number, labelled=False)
        for number in range(3)
    ] + [tiny_session("d", "d", "devel")]
    corpus = corpus_of(sessions)
    fold = Fold("all", ("t0", "t1", "t2"), ())
    with pytest.raises(AffectuneError, match="no training session has a label for 'arousal'"):
        fit(unimodal_task(corpus, tiny_spec(), fold, "voice", "arousal", None, ()), corpus)
