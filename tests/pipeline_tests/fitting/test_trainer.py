"""The training loop is deterministic, ignores padding, and reports what goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import audmetric
import numpy as np
import pytest
import torch

from pipeline.corpus import Session
from pipeline.errors import AffectuneError
from pipeline.fitting.examples import windows
from pipeline.fitting.trainer import Trainer, fit, masked_loss
from pipeline.spec import FitSpec, Spec
from pipeline.stages.auto_encoder import AutoEncoderTask
from pipeline.stages.cross_fit import Fold
from pipeline.stages.difficulty import reconstruction_errors
from pipeline.stages.task import SupervisedProblem
from pipeline.stages.trained_stage import TrainedStage
from pipeline.stages.unimodal import UnimodalTask, unimodal_predictions
from tests.pipeline_tests.corpora import corpus_of, tiny_corpus, tiny_session, tiny_spec
from tests.pipeline_tests.problems import pose


def _unimodal(spec: Spec | None = None) -> SupervisedProblem:
    """Return the problem of predicting arousal from the voice."""
    return pose(UnimodalTask("voice", "arousal"), tiny_corpus(), spec or tiny_spec())


def _unimodal_spec(network: Mapping[str, object], settings: Mapping[str, object]) -> Spec:
    """Return settings for a unimodal network and its fit."""
    return tiny_spec(unimodal={"network": network, "fit": settings})


def _fitted_auto_encoder() -> TrainedStage:
    """Return an auto-encoder of the voice."""
    corpus = tiny_corpus()
    return fit(pose(AutoEncoderTask("voice"), corpus, tiny_spec()), corpus)


def _weights(stage: TrainedStage) -> bytes:
    return stage.to_files()["weights.safetensors"]


@pytest.mark.parametrize("cell", ["gru", "lstm", "tcn"])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("loss", ["ccc", "mse", "l1"])
@pytest.mark.slow
def test_every_cell_and_loss_learns_an_easy_target(
    cell: str, bidirectional: bool, loss: str
) -> None:
    network = {
        "cell": cell,
        "bidirectional": bidirectional,
        "num_layers": 1,
        "hidden_size": 16,
        "dropout": 0.0,
    }
    settings = {"loss": loss, "max_epochs": 40, "batch_size": 4, "learning_rate": 0.02}
    stage = fit(_unimodal(_unimodal_spec(network, settings)), tiny_corpus())
    assert stage.score > 0.8


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not() -> None:
    network = {"num_layers": 2, "hidden_size": 8, "dropout": 0.5, "input_dropout": 0.2}
    spec = _unimodal_spec(network, {"max_epochs": 2, "input_noise": 0.1})
    torch.manual_seed(1)
    first = fit(_unimodal(spec), tiny_corpus())

    torch.manual_seed(2)  # the caller's generator is neither read nor moved
    before = torch.random.get_rng_state()
    second = fit(_unimodal(spec), tiny_corpus())
    assert torch.equal(before, torch.random.get_rng_state())
    assert _weights(first) == _weights(second)

    other = fit(_unimodal(spec.model_copy(update={"seed": 5})), tiny_corpus())
    assert _weights(other) != _weights(first)


def test_training_stops_after_patience_and_keeps_the_best_epoch() -> None:
    network = {"num_layers": 1, "hidden_size": 8}
    settings = {"max_epochs": 60, "patience": 3, "learning_rate": 0.05, "batch_size": 4}
    problem, corpus = _unimodal(_unimodal_spec(network, settings)), tiny_corpus()

    scores: list[float] = []
    stage = fit(problem, corpus, on_epoch=lambda epoch: scores.append(epoch.score))
    assert scores == [epoch.score for epoch in stage.history]
    assert len(scores) == stage.best_epoch + 3
    assert stage.score == max(scores) == scores[stage.best_epoch - 1]

    devel = corpus.partition("devel")
    predictions = np.concatenate(unimodal_predictions([stage], devel, "voice", None))[:, 0]
    truth = np.concatenate([session.labels["arousal"] for session in devel])
    ccc = audmetric.concordance_cc(truth, predictions)
    assert ccc == pytest.approx(stage.score, abs=1e-5)


@pytest.mark.parametrize("cell", ["gru", "lstm", "tcn"])
def test_a_fit_that_went_on_elsewhere_gives_the_same_bytes(cell: str) -> None:
    network = {
        "cell": cell,
        "num_layers": 2,
        "hidden_size": 8,
        "dropout": 0.3,
        "input_dropout": 0.2,
    }
    settings = {"max_epochs": 6, "batch_size": 4, "input_noise": 0.1, "weight_decay": 0.01}
    corpus, problem = tiny_corpus(), _unimodal(_unimodal_spec(network, settings))
    uninterrupted = fit(problem, corpus)

    first = Trainer(problem, corpus)
    for _ in range(3):
        first.train_epoch()
        torch.rand(7)  # what others draw in between does not matter

    second = Trainer(problem, corpus)
    second.resume(first.checkpoint())
    assert second.history == first.history
    while not second.is_done:
        second.train_epoch()

    resumed = second.trained_stage()
    assert resumed.history == uninterrupted.history
    arrays, expected = resumed.arrays(), uninterrupted.arrays()
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_training_leaves_the_random_numbers_of_its_caller_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)

    torch.manual_seed(1)
    fit(_unimodal(), tiny_corpus())
    assert torch.equal(torch.rand(3), expected)


def test_a_checkpoint_of_another_problem_is_refused() -> None:
    corpus = tiny_corpus()
    trainer = Trainer(_unimodal(), corpus)
    trainer.train_epoch()

    other = Trainer(_unimodal(tiny_spec(seed=1)), corpus)
    with pytest.raises(ValueError, match="a checkpoint of"):
        other.resume(trainer.checkpoint())


def test_the_score_of_an_auto_encoder_is_minus_its_error() -> None:
    stage = _fitted_auto_encoder()
    errors = reconstruction_errors([stage], tiny_corpus().partition("devel"), "voice")
    assert stage.score == pytest.approx(-float(np.concatenate(errors).mean()), rel=1e-4)
    assert pose(AutoEncoderTask("voice"), tiny_corpus(), tiny_spec()).task.target == ""


def _with_missing_frames(session: Session, value: float) -> Session:
    """Return a session that lacks some frames of the voice, in which a value stands."""
    present = np.ones(session.num_frames, dtype=bool)
    present[5:12] = False
    voice = np.where(present[:, None], session.features["voice"], value).astype(np.float32)
    return replace(
        session,
        features={**session.features, "voice": voice},
        present={**session.present, "voice": present},
    )


def test_missing_frames_have_no_error_and_teach_nothing() -> None:
    stages = []
    for value in (0.0, 77.0):
        corpus = corpus_of([_with_missing_frames(s, value) for s in tiny_corpus().sessions])
        stage = fit(pose(AutoEncoderTask("voice"), corpus, tiny_spec()), corpus)
        stages.append(stage)

        errors = reconstruction_errors([stage], corpus.sessions, "voice")
        for session, error in zip(corpus.sessions, errors, strict=True):
            np.testing.assert_array_equal(np.isnan(error[:, 0]), ~session.present["voice"])

    # The value in a missing frame is never read.
    assert _weights(stages[0]) == _weights(stages[1])


def test_a_session_alone_is_predicted_as_in_a_batch_with_longer_ones() -> None:
    short = tiny_session("a", "a", "devel", frames=9, seed=1)
    long = tiny_session("b", "b", "devel", frames=80, seed=2)

    encoder = _fitted_auto_encoder()
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

    padding_BTO = torch.full((2, 3, 1), float("nan"))
    masked_BTO = torch.where(mask_BT[..., None], truth_BTO, torch.nan)
    padded = masked_loss(
        torch.cat([masked_BTO, padding_BTO], dim=1),
        torch.cat([y_BTO, padding_BTO], dim=1),
        torch.cat([mask_BT, torch.zeros(2, 3, dtype=torch.bool)], dim=1),
        settings,
    )
    torch.testing.assert_close(padded, expected)


def test_windows_cover_every_frame_and_none_is_shorter_than_it_must_be() -> None:
    assert windows(120, 300, 50) == [(0, 120)]
    assert windows(300, 300, 50) == [(0, 300)]
    assert windows(330, 300, 50) == [(0, 300), (30, 330)]
    assert windows(460, 300, 50) == [(0, 300), (50, 350), (100, 400), (150, 450), (160, 460)]

    for num_frames in range(1, 60):
        bounds = windows(num_frames, 20, 7)
        covered = {frame for start, stop in bounds for frame in range(start, stop)}
        assert covered == set(range(num_frames))
        assert all(stop - start == min(20, num_frames) for start, stop in bounds)


def test_a_diverging_fit_is_an_error_that_names_its_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forward = torch.nn.Linear.forward

    def overflow(self: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
        return forward(self, x) * 1e38

    monkeypatch.setattr(torch.nn.Linear, "forward", overflow)
    problem = replace(_unimodal(), fit=FitSpec(loss="mse"))
    message = r"voice to arousal.*not finite in epoch 1\. Lower learning_rate"
    with pytest.raises(AffectuneError, match=message):
        fit(problem, tiny_corpus())


def _with_other_unit(session: Session) -> Session:
    labels = {target: 1000 * values + 5000 for target, values in session.labels.items()}
    return replace(session, labels=labels)


def test_the_unit_of_a_label_does_not_matter() -> None:
    corpus = tiny_corpus()
    scaled = corpus_of([_with_other_unit(session) for session in corpus.sessions])
    score = fit(_unimodal(), corpus).score
    assert fit(_unimodal(), scaled).score == pytest.approx(score, abs=1e-3)


def test_a_target_without_training_labels_is_refused() -> None:
    unlabelled = [
        tiny_session(f"t{number}", f"t{number}", "train", seed=number, labelled=False)
        for number in range(3)
    ]
    corpus = corpus_of([*unlabelled, tiny_session("d", "d", "devel")])
    fold = Fold("all", ("t0", "t1", "t2"), ())
    problem = pose(UnimodalTask("voice", "arousal"), corpus, tiny_spec(), fold)

    with pytest.raises(AffectuneError, match="no training session has a label for 'arousal'"):
        fit(problem, corpus)
