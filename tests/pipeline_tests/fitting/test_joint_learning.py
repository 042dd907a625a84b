"""A regressor that learns all targets together predicts its own, in its own unit."""

from __future__ import annotations

from dataclasses import replace

import audmetric
import numpy as np
import pytest
import torch

from pipeline.corpus import Corpus, Session
from pipeline.fitting.examples import ExampleScaling
from pipeline.fitting.trainer import Trainer, fit
from pipeline.networks.sequence_regressor import SequenceRegressor
from pipeline.spec import Spec
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.task import SupervisedProblem
from pipeline.stages.trained_stage import TrainedStage
from pipeline.stages.unimodal import UnimodalTask, unimodal_predictions
from tests.pipeline_tests.corpora import corpus_of, tiny_corpus, tiny_spec
from tests.pipeline_tests.problems import pose

NETWORK = {"num_layers": 1, "hidden_size": 8, "dropout": 0.0, "skip": True}


def spec(learns: str = "all", **fit_settings: object) -> Spec:
    """Return settings of a regressor that learns its own target or all."""
    settings = {"max_epochs": 3, "batch_size": 4, **fit_settings}
    return tiny_spec(unimodal={"network": NETWORK, "fit": settings, "learns": learns})


def problem(corpus: Corpus, settings: Spec, target: str = "arousal") -> SupervisedProblem:
    """Return the problem of predicting a target from the voice."""
    return pose(UnimodalTask("voice", target), corpus, settings)


def with_labels(corpus: Corpus, change: dict[str, tuple[float, float]]) -> Corpus:
    """Return the corpus with each target's labels scaled and moved."""

    def changed(session: Session) -> Session:
        labels = dict(session.labels)
        for target, (scale, offset) in change.items():
            labels[target] = scale * labels[target] + offset
        return replace(session, labels=labels)

    return corpus_of([changed(session) for session in corpus.sessions])


def without_labels(corpus: Corpus, session_id: str, target: str, frames: slice) -> Corpus:
    """Return the corpus with some labels of one session unknown."""

    def changed(session: Session) -> Session:
        if session.session_id != session_id:
            return session
        values = session.labels[target].copy()
        values[frames] = np.nan
        return replace(session, labels={**session.labels, target: values})

    return corpus_of([changed(session) for session in corpus.sessions])


def weight_bytes(stage: TrainedStage) -> bytes:
    """Return what the stage learned."""
    return stage.to_files()["weights.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["arousal", "valence"])
def test_all_targets_are_learned_and_the_own_one_is_predicted(target: str) -> None:
    """The score on devel is that of the own target, whichever the corpus names first."""
    corpus = with_labels(tiny_corpus(), {"valence": (1000.0, 5000.0)})
    settings = spec(max_epochs=40, learning_rate=0.02)
    stage = fit(problem(corpus, settings, target), corpus)

    devel = corpus.partition("devel")
    predictions = unimodal_predictions([stage], devel, "voice", None)
    assert [y.shape for y in predictions] == [(session.num_frames, 1) for session in devel]
    truth = np.concatenate([session.labels[target] for session in devel])
    ccc = audmetric.concordance_cc(truth, np.concatenate(predictions)[:, 0])
    assert ccc == pytest.approx(stage.score, abs=1e-5)
    assert stage.score > 0.8


@pytest.mark.parametrize("loss", ["mse", "l1", "ccc"])
def test_the_loss_is_the_mean_of_the_targets_each_over_its_labelled_frames(loss: str) -> None:
    """Labels are missing in part, for a whole session, and for one target alone."""
    corpus = without_labels(tiny_corpus(), "t0_0", "valence", slice(3, 9))
    corpus = without_labels(corpus, "t1_0", "arousal", slice(None))
    corpus = without_labels(corpus, "t2_0", "valence", slice(None))
    posed = problem(corpus, spec(loss=loss, max_epochs=1, batch_size=100))

    # The network as it begins, and z-scored labels, put together by hand.
    normalisation = ExampleScaling.fit(posed, corpus).normalisation
    torch.manual_seed(posed.seed)
    network = SequenceRegressor(posed.network, normalisation.input_size, 2)
    sessions = [corpus.session(name) for name in posed.train_ids]
    expected = []
    for place, target in enumerate(("arousal", "valence")):
        labels, outputs = [], []
        for session in sessions:
            inputs = torch.from_numpy(normalisation.apply(posed.raw_inputs(session)))
            y_TO = network(inputs[None], torch.tensor([len(inputs)]))[0].detach().numpy()
            labels.append(session.labels[target])
            outputs.append(y_TO[:, place])
        truth, output = np.concatenate(labels), np.concatenate(outputs)
        is_known = np.isfinite(truth)
        z = (truth[is_known] - truth[is_known].mean()) / truth[is_known].std()
        error = z - output[is_known]
        losses = {
            "mse": np.mean(error**2),
            "l1": np.mean(np.abs(error)),
            "ccc": 1 - audmetric.concordance_cc(z, output[is_known]),
        }
        expected.append(losses[loss])

    assert fit(posed, corpus).history[0].loss == pytest.approx(np.mean(expected), abs=1e-5)


def test_the_weights_that_predict_are_those_of_one_output() -> None:
    """What was learned beside the target is not kept."""
    corpus = tiny_corpus()
    own, joint = (fit(problem(corpus, spec(learns)), corpus) for learns in ("own", "all"))

    assert joint.output_size == own.output_size == 1
    shapes = [{name: a.shape for name, a in stage.arrays().items()} for stage in (own, joint)]
    assert shapes[0] == shapes[1]
    assert weight_bytes(own) != weight_bytes(joint)
    read = TrainedStage.from_files(joint.to_files())
    session = corpus.partition("devel")[0]
    inputs = [session.features["voice"]]
    np.testing.assert_array_equal(read.predict(inputs)[0], joint.predict(inputs)[0])


def test_with_one_target_all_is_own() -> None:
    """The same key and the same bytes."""
    corpus = replace(tiny_corpus(), targets=("arousal",))
    own, joint = (problem(corpus, spec(learns)) for learns in ("own", "all"))

    assert own.key == joint.key
    assert weight_bytes(fit(own, corpus)) == weight_bytes(fit(joint, corpus))


def test_the_unit_of_another_target_changes_nothing() -> None:
    """Every label is z-scored by itself; by powers of two, so that nothing rounds otherwise."""
    corpus = tiny_corpus()
    scaled = with_labels(corpus, {"valence": (1024.0, 0.0)})

    first, second = (fit(problem(c, spec()), c) for c in (corpus, scaled))
    assert weight_bytes(first) == weight_bytes(second)


def test_the_labels_of_every_target_are_in_the_key() -> None:
    """Those of training alone: on devel only the own target is read."""
    corpus, settings = tiny_corpus(), spec()
    fold = CrossFitPlan.from_spec(corpus, settings).folds[0]
    other_train = without_labels(corpus, fold.train_ids[0], "valence", slice(0, 3))
    other_devel = without_labels(corpus, "d0", "valence", slice(0, 3))
    other_held_out = without_labels(corpus, fold.held_out_ids[0], "valence", slice(0, 3))

    key = problem(corpus, settings).key
    assert problem(corpus, spec("own")).key != key
    assert problem(other_train, settings).key != key
    assert problem(other_devel, settings).key == key
    assert problem(other_held_out, settings).key == key


def test_frames_without_an_own_label_do_not_count_on_devel() -> None:
    """A session of devel that has labels of the other target alone changes no score."""
    corpus = without_labels(tiny_corpus(), "d0", "arousal", slice(None))
    others = [session for session in corpus.sessions if session.session_id != "d0"]
    smaller = corpus_of(others)

    first, second = (fit(problem(c, spec()), c) for c in (corpus, smaller))
    assert first.history == second.history


def test_a_joint_fit_that_went_on_elsewhere_gives_the_same_bytes() -> None:
    """A checkpoint keeps all outputs."""
    corpus = tiny_corpus()
    posed = problem(corpus, spec())
    first = Trainer(posed, corpus)
    first.train_epoch()

    second = Trainer(posed, corpus)
    second.resume(first.checkpoint())
    while not second.is_done:
        second.train_epoch()
    resumed, uninterrupted = second.trained_stage(), fit(posed, corpus)
    assert weight_bytes(resumed) == weight_bytes(uninterrupted)
