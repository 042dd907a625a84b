"""Regressors with a delay, context and slower frames: learned, scored, kept and resumed alike."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import audmetric
import numpy as np
import pytest

from pipeline.corpus import Corpus
from pipeline.errors import InputError
from pipeline.fitting.trainer import Trainer, fit
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.bundle import bundle_files, load_model, save_model
from pipeline.preprocessing.timing import Timing
from pipeline.spec import Spec
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.requirements import raise_if_untrainable
from pipeline.stages.task import SupervisedProblem, Task
from pipeline.stages.trained_stage import TrainedStage, predict_sequences
from pipeline.stages.unimodal import UnimodalTask, unimodal_predictions
from pipeline.storage.atomic_folder import write_folder
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.pipeline_tests.corpora import corpus_of, tiny_corpus, tiny_session, tiny_spec
from tests.pipeline_tests.problems import pose

TASK = UnimodalTask("voice", "arousal")
ALL_TIMINGS = {"delay_s": 1.0, "context_s": [2, 4], "resample_s": 1.0}
NETWORK = {"num_layers": 1, "hidden_size": 8, "dropout": 0.0}
FIT = {"max_epochs": 3, "batch_size": 4}


def _spec(**settings: object) -> Spec:
    """Return settings of small regressors; the corpora have a frame every 0.5 s."""
    return tiny_spec(unimodal={"network": NETWORK, "fit": FIT, **settings})


def _problem(spec: Spec, corpus: Corpus | None = None) -> SupervisedProblem:
    return pose(TASK, corpus or tiny_corpus(), spec)


def _key(spec: Spec, corpus: Corpus, task: Task = TASK) -> str:
    return task.key(corpus, spec, CrossFitPlan.from_spec(corpus, spec).folds[0])


def _lagging_corpus(lag_frames: int) -> Corpus:
    """Return a corpus whose arousal is what one column was some frames before."""
    sessions = []
    for place, session in enumerate(tiny_corpus().sessions):
        random = np.random.default_rng(place)
        signal = random.normal(size=session.num_frames + lag_frames)
        voice = np.stack([signal[lag_frames:]] * 4, axis=1).astype(np.float32)
        arousal = signal[: session.num_frames]
        sessions.append(
            replace(
                session,
                features={**session.features, "voice": voice},
                labels={**session.labels, "arousal": arousal},
            )
        )
    return corpus_of(sessions)


@pytest.mark.slow
def test_labels_that_lag_are_learned_with_their_delay_and_not_without() -> None:
    """What is before a session is unknown, so its first frames are not."""
    corpus = _lagging_corpus(6)
    settings = {"max_epochs": 25, "batch_size": 4, "learning_rate": 0.02}

    def late_ccc(delay_s: float) -> float:
        stage = fit(_problem(_spec(fit=settings, delay_s=delay_s), corpus), corpus)
        devel = corpus.partition("devel")
        predictions = unimodal_predictions([stage], devel, "voice", None)
        truth = np.concatenate([session.labels["arousal"][6:] for session in devel])
        prediction = np.concatenate([prediction[6:, 0] for prediction in predictions])
        return float(audmetric.concordance_cc(truth, prediction))

    assert late_ccc(3.0) > 0.9
    assert late_ccc(0.0) < 0.5


@pytest.mark.parametrize("name", [*ALL_TIMINGS, "all"])
def test_the_devel_score_is_that_of_the_predictions_at_the_labels_frames(name: str) -> None:
    corpus = tiny_corpus()
    settings = ALL_TIMINGS if name == "all" else {name: ALL_TIMINGS[name]}
    stage = fit(_problem(_spec(**settings), corpus), corpus)

    devel = corpus.partition("devel")
    predictions = unimodal_predictions([stage], devel, "voice", None)
    assert [len(prediction) for prediction in predictions] == [s.num_frames for s in devel]

    truth = np.concatenate([session.labels["arousal"] for session in devel])
    ccc = audmetric.concordance_cc(truth, np.concatenate(predictions)[:, 0])
    assert ccc == pytest.approx(stage.score, abs=1e-5)


def test_a_stage_without_a_timing_in_its_record_predicts_as_by_default() -> None:
    """Those from before there were timings have none; by default there is none."""
    corpus = tiny_corpus()
    stage = fit(_problem(_spec(), corpus), corpus)
    record = stage.record()
    del record["timing"]
    old = TrainedStage.from_record(record, stage.arrays())
    assert old.timing == stage.timing == Timing()

    inputs = [session.features["voice"] for session in corpus.sessions]
    for before, now in zip(old.predict(inputs), stage.predict(inputs), strict=True):
        np.testing.assert_array_equal(before, now)

    network_inputs = [stage.normalisation.apply(raw) for raw in inputs]
    outputs = predict_sequences(stage.build_network(), network_inputs)
    for output, now in zip(outputs, stage.predict(inputs), strict=True):
        expected = output * np.float32(stage.label_std) + np.float32(stage.label_mean)
        np.testing.assert_array_equal(now, expected)


def test_a_fit_with_a_timing_goes_on_elsewhere_with_the_same_bytes() -> None:
    corpus = tiny_corpus()
    problem = _problem(_spec(**ALL_TIMINGS), corpus)
    first, second = Trainer(problem, corpus), Trainer(problem, corpus)
    first.train_epoch()
    second.resume(first.checkpoint())
    while not second.is_done:
        second.train_epoch()

    resumed, whole = second.trained_stage().to_files(), fit(problem, corpus).to_files()
    assert resumed["weights.safetensors"] == whole["weights.safetensors"]
    assert TrainedStage.from_files(whole).timing == Timing(2, (4, 8), True, 2)


def test_context_is_trailing_where_the_network_reads_forward_only() -> None:
    """So its prediction knows nothing of what comes later."""
    corpus = tiny_corpus()
    spec = _spec(network={**NETWORK, "bidirectional": False}, context_s=[2.0, 3.0])
    stage = fit(_problem(spec, corpus), corpus)

    raw = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    stage = replace(stage, normalisation=replace(stage.normalisation, mode="train"))
    inputs = stage.timing.network_inputs(raw, difficulty_size=0)
    begun = stage.timing.network_inputs(raw[:20], difficulty_size=0)
    np.testing.assert_allclose(begun, inputs[:20], atol=1e-6)


def test_frames_and_not_seconds_decide_the_key() -> None:
    corpus, spec = tiny_corpus(), _spec()
    assert _key(_spec(delay_s=0.1, resample_s=0.5), corpus) == _key(spec, corpus)
    assert _key(_spec(delay_s=0.9), corpus) == _key(_spec(delay_s=1.1), corpus)

    faster = replace(corpus, frame_period_ms=250.0)
    assert _key(spec, faster) == _key(spec, corpus)
    assert _key(_spec(delay_s=1.0), faster) != _key(_spec(delay_s=1.0), corpus)

    keys = [_key(_spec(**{name: value}), corpus) for name, value in ALL_TIMINGS.items()]
    assert len({_key(spec, corpus), *keys}) == 4


def test_a_table_gives_each_target_its_delay() -> None:
    corpus = tiny_corpus()
    spec = _spec(delay_s={"arousal": 2.0})
    assert TASK.timing(spec, 500.0).delay_frames == 4
    assert UnimodalTask("voice", "valence").timing(spec, 500.0) == Timing()
    assert _key(spec, corpus) == _key(_spec(delay_s=2.0), corpus)

    valence = UnimodalTask("voice", "valence")
    assert _key(spec, corpus, valence) == _key(_spec(), corpus, valence)


@pytest.mark.slow
def test_a_bundle_predicts_alone_what_the_model_does(tmp_path: Path) -> None:
    corpus = tiny_corpus()
    spec = _spec(**{**ALL_TIMINGS, "delay_s": {"arousal": 1.0, "valence": 2.5}})
    model = train(corpus, spec, WorkerPool(corpus, StageStore(tmp_path / "store")))
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.spec == spec

    session = corpus.partition("test")[0]
    [expected] = model.predict_sessions([session])
    prediction = loaded.predict(session.features, timestamps_ms=session.timestamps_ms)
    for target in corpus.targets:
        np.testing.assert_array_equal(prediction.values[target], expected.values[target])
        for modality, series in expected.unimodal[target].items():
            np.testing.assert_array_equal(prediction.unimodal[target][modality], series)
            num_first = 1 + {"arousal": 2, "valence": 5}[target]
            assert np.ptp(series[:num_first]) == 0

    # A session that is shorter than the delay has a prediction, too.
    short = {modality: columns[:2] for modality, columns in session.features.items()}
    assert np.isfinite(loaded.predict(short).values["valence"]).all()


@pytest.mark.slow
def test_a_bundle_from_before_there_were_timings_loads_and_predicts_the_same(
    tmp_path: Path,
) -> None:
    corpus = tiny_corpus()
    model = train(corpus, _spec(), WorkerPool(corpus, StageStore(tmp_path / "store")))
    files = bundle_files(model)
    record = json.loads(files["model.json"])
    for stage in record["stages"].values():
        del stage["timing"]
    for name in ("delay_s", "context_s", "resample_s"):
        del record["spec"]["unimodal"][name]
    write_folder(tmp_path / "old", {**files, "model.json": json.dumps(record).encode()})

    session = corpus.partition("devel")[0]
    [expected] = model.predict_sessions([session])
    [prediction] = load_model(tmp_path / "old").predict_sessions([session])
    for target in corpus.targets:
        np.testing.assert_array_equal(prediction.values[target], expected.values[target])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"delay_s": 6.0}, "delay_s is 6 s for 'arousal', and session 'short' .* lasts 5 s"),
        ({"delay_s": {"arousl": 1.0}}, "a delay for 'arousl'; the targets are arousal, valence"),
        ({"context_s": [0.5]}, "window of 0.5 s, .* every 500 ms: a slope needs two frames"),
        ({"resample_s": 0.2}, "resample_s is 0.2 s, .* cannot work at shorter ones"),
        ({"resample_s": 5.0}, "resample_s is 5 s, and session 'short'.* a single frame"),
    ],
)
def test_a_timing_that_does_not_suit_the_corpus_is_refused(
    settings: dict[str, object], message: str
) -> None:
    short = tiny_session("short", "t0", "train", frames=10)
    corpus = corpus_of([*tiny_corpus().sessions, short])
    with pytest.raises(InputError, match=message):
        raise_if_untrainable(corpus, _spec(**settings))


def test_more_context_than_a_network_should_read_is_refused() -> None:
    corpus = tiny_corpus()
    sessions = [
        replace(
            session,
            features={**session.features, "voice": np.zeros((session.num_frames, 2000), "f4")},
        )
        for session in corpus.sessions
    ]
    wide = replace(
        corpus_of(sessions), columns={**corpus.columns, "voice": tuple(map(str, range(2000)))}
    )
    raise_if_untrainable(wide, _spec(context_s=[2]))
    with pytest.raises(InputError, match="makes 10000 columns of the 2000 of 'voice'; 8192 are"):
        raise_if_untrainable(wide, _spec(context_s=[2, 4]))
