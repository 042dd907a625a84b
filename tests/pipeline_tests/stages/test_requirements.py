"""A corpus with names that nothing could be written under is refused, whoever made it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.corpus import Corpus, Session
from pipeline.errors import InputError
from pipeline.stages.requirements import raise_if_untrainable
from tests.pipeline_tests.corpora import tiny_corpus, tiny_spec


def _renamed(corpus: Corpus, names: dict[str, str]) -> Corpus:
    """Return the corpus with other names of feature sets, targets and sessions."""

    def rename(session: Session) -> Session:
        return replace(
            session,
            session_id=names.get(session.session_id, session.session_id),
            features={names.get(name, name): values for name, values in session.features.items()},
            present={names.get(name, name): values for name, values in session.present.items()},
            labels={names.get(name, name): values for name, values in session.labels.items()},
        )

    return replace(
        corpus,
        columns={names.get(name, name): columns for name, columns in corpus.columns.items()},
        targets=tuple(names.get(target, target) for target in corpus.targets),
        sessions=tuple(map(rename, corpus.sessions)),
        max_held_frames={},
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"voice": "a/b"}, "the name 'a/b' has a '/'"),
        ({"face": "mean"}, "the name 'mean' is what results call something else"),
        ({"arousal": ".."}, "the name '..' begins with '.'"),
        ({"valence": "a,b"}, "the name 'a,b' has a comma"),
        ({"t0_0": "../x"}, "the session '../x' has a '/'"),
        ({"arousal": "difficulty.voice.error"}, "is what the difficulty of 'voice' is called"),
    ],
)
def test_names_that_could_not_be_written_are_refused(names: dict[str, str], message: str) -> None:
    with pytest.raises(InputError) as refused:
        raise_if_untrainable(_renamed(tiny_corpus(), names), tiny_spec())
    assert message in str(refused.value)


def test_two_columns_that_a_table_would_call_the_same_are_refused() -> None:
    corpus = _renamed(tiny_corpus(), {"voice": "v", "face": "v.1"})
    columns = {"v": ("1.a", "b", "c", "d"), "v.1": ("a", "b", "c")}
    with pytest.raises(InputError, match=r"'v' and one of 'v\.1' would both be 'v\.1\.a'"):
        raise_if_untrainable(replace(corpus, columns=columns), tiny_spec())


def test_other_names_are_taken() -> None:
    names = {"voice": "v.1 (é) + [x]", "arousal": "#1 & <2>", "d0": "a, b", "t0_0": "C:\\x"}
    raise_if_untrainable(_renamed(tiny_corpus(), names), tiny_spec())
