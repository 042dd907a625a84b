"""Distils an ensemble into one network per task, and keeps the student if it is as good.

Hinton, G., Vinyals, O. and Dean, J. (2015): Distilling the knowledge in a neural network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipeline.corpus import Corpus
from pipeline.distillation.lessons import Lessons, lessons_from
from pipeline.distillation.student import fit_student
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.metrics.bootstrap import Score, bootstrap, subject_moments
from pipeline.model.fused_model import FusedModel, Prediction

TOLERANCE = 0.005
"""So much lower may a CCC on devel be; its interval is some ten times as wide."""


def distil(
    teacher: FusedModel, corpus: Corpus, pool: WorkerPool, *, tolerance: float = TOLERANCE
) -> FusedModel:
    """Distil a teacher.

    The student learns what the teacher outputs, for training sessions and copies of them, and a
    fit stops when it no longer comes nearer to the teacher on devel. Labels of devel are read once,
    to compare the two.

    Args:
        teacher: what predicts as an ensemble.
        corpus: that it was trained on.
        pool: solves the problems, through a store.
        tolerance: so much lower may a target's CCC on devel be for the student to be kept.

    Returns:
        The student where no target's CCC on devel is more than that below the teacher's,
        else the teacher. Its `distillation` says what happened:
        "is_kept": whether it is the student;
        "reason": a sentence that says why;
        "teacher": see `FusedModel.composition`;
        "tolerance": as above;
        "networks": of the "teacher" and of the "student";
        "sessions": see `Lessons.counts`;
        "targets": target -> the scores on devel of "teacher" and "student", and the paired
        "difference", student minus teacher; each as `Score.to_json`.

    Raises:
        AffectuneError: a fit failed; what was solved until then is in the store.
    """
    lessons = lessons_from(teacher, corpus, teacher.spec.seed, pool.device)
    with pool.on_corpus(lessons.corpus) as student_pool:
        student = fit_student(teacher, lessons, student_pool)

    scores = _devel_scores(teacher, student, corpus, pool.device)
    worse = [_worse(target, *scores[target], tolerance) for target in teacher.targets]
    reasons = [reason for reason in worse if reason]
    record = _record(teacher, student, lessons, scores, reasons, tolerance)
    return replace(teacher if reasons else student, distillation=record)


def _devel_scores(
    teacher: FusedModel, student: FusedModel, corpus: Corpus, device: str
) -> dict[str, tuple[Score, Score, Score]]:
    """Return target -> CCC on devel of the teacher, of the student, and their difference."""
    devel = corpus.partition("devel")
    of_teacher = teacher.predict_sessions(devel, device=device)
    of_student = student.predict_sessions(devel, device=device)

    def moments(target: str, predictions: Sequence[Prediction]) -> Any:
        return subject_moments(devel, target, [each.values[target] for each in predictions])

    scores = {}
    for target in teacher.targets:
        teachers, students = moments(target, of_teacher), moments(target, of_student)
        difference = bootstrap(students, teachers)
        scores[target] = (bootstrap(teachers), bootstrap(students), difference)
    return scores


def _worse(target: str, teacher: Score, student: Score, difference: Score, tolerance: float) -> str:
    """Say that the student is worse than it may be; nothing where it is not."""
    if difference.ccc >= -tolerance:
        return ""
    if difference.ccc < -tolerance:
        return (
            f"{target}: its CCC on devel is {student.ccc:.3f}, that of the ensemble "
            f"{teacher.ccc:.3f}, more than {tolerance:g} higher"
        )
    return f"{target}: a CCC on devel is undefined, so the two cannot be compared"


def _record(
    teacher: FusedModel,
    student: FusedModel,
    lessons: Lessons,
    scores: dict[str, tuple[Score, Score, Score]],
    reasons: Sequence[str],
    tolerance: float,
) -> dict[str, Any]:
    if reasons:
        reason = f"The distilled networks are not used. {'; '.join(reasons)}."
    else:
        reason = f"No CCC on devel is more than {tolerance:g} below that of the ensemble."

    names = ("teacher", "student", "difference")
    return {
        "is_kept": not reasons,
        "reason": reason,
        "teacher": teacher.composition,
        "tolerance": tolerance,
        "networks": {"teacher": teacher.num_networks, "student": student.num_networks},
        "sessions": lessons.counts(),
        "targets": {
            target: {name: score.to_json() for name, score in zip(names, triple, strict=True)}
            for target, triple in scores.items()
        },
    }
