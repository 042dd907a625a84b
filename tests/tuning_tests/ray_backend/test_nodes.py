"""What nodes answer becomes sentences that name them; what would spoil trials refuses a study."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import InputError
from tuning.ray_backend.node_faults import node_faults, raise_if_refused
from tuning.ray_backend.node_report import NodeReport, Room, code_digest, node_report
from tuning.ray_backend.nodes import ClockOffset, Node, NodeAnswer, clock_offset
from tuning.ray_backend.store_marker import StoreMarker, marked_store
from tuning.ray_backend.trainable import TrialTrainable

GB = 2**30
ROOM = Room(folder="/tmp/ray", free=50 * GB, total=100 * GB)
OWN = NodeReport(
    host="driver",
    python="3.11.7",
    versions={"affectune": "0.2.0", "ray": "2.60.0", "torch": "2.13.0", "numpy": "2.4.6"},
    code="c0de",
    shm=Room(folder="/dev/shm", free=GB, total=GB),
    disks=[ROOM],
)
MARKER = StoreMarker("/data/store", "marker", "word")
CLOCK = ClockOffset(0.01, 0.02)


def answer(name: str, clock: ClockOffset | None = CLOCK, **changes: Any) -> NodeAnswer:
    """Return the answer of a node that differs from the driver in some things."""
    node = Node(id=name, name=name, resources={"CPU": 1.0})
    return NodeAnswer(node, OWN.model_copy(update={"host": name} | changes), clock=clock)


def test_nodes_like_the_driver_have_no_fault() -> None:
    faults = node_faults([answer("host1"), answer("host2", clock=None)], MARKER, OWN)
    assert faults == []
    raise_if_refused(faults)


@pytest.mark.parametrize(
    ("changes", "said", "is_error", "is_refused"),
    [
        (
            {"store_fault": "is not the driver's"},
            "The store '/data/store' on host2, host3 is not the driver's",
            True,
            True,
        ),
        ({"code": "other"}, "host2, host3: the code of Affectune is not the driver's", True, True),
        ({"python": "3.12.1"}, "Python is 3.12.1, and the driver's is 3.11.7", True, True),
        ({"python": "3.11.9"}, None, False, False),
        ({"versions": OWN.versions | {"ray": "2.59.0"}}, "Ray is 2.59.0", True, True),
        ({"versions": OWN.versions | {"affectune": "0.1.0"}}, "Affectune is 0.1.0", True, True),
        ({"versions": OWN.versions | {"torch": "2.12.0"}}, "torch is 2.12.0", False, False),
        (
            {"versions": {k: v for k, v in OWN.versions.items() if k != "affectune"}},
            None,  # its code is there, and the same
            False,
            False,
        ),
        (
            {"disks": [ROOM.model_copy(update={"free": 10 * 2**20})]},
            "host2, host3: '/tmp/ray' has 10 MB free",
            True,
            False,
        ),
        (
            {"disks": [ROOM.model_copy(update={"free": GB})]},
            "has 1024 MB free",
            False,
            False,
        ),
        ({"shm": None}, "there is no '/dev/shm'", False, False),
        (
            {"shm": Room(folder="/dev/shm", free=2**26, total=2**26)},
            "'/dev/shm' has 64 MB",
            False,
            False,
        ),
        (
            {"clock": ClockOffset(-7.5, 0.2)},
            "the clock is 7.5 s behind the driver's (within 0.2 s)",
            False,
            False,
        ),
        ({"clock": ClockOffset(3.0, 1.5)}, None, False, False),  # it may be the question's time
    ],
)
def test_a_fault_of_several_nodes_is_told_once_with_their_names(
    changes: dict[str, Any], said: str | None, is_error: bool, is_refused: bool
) -> None:
    answers = [answer("host1"), answer("host2", **changes), answer("host3", **changes)]
    faults = node_faults(answers, MARKER, OWN)
    if said is None:
        assert faults == []
        return
    [fault] = faults
    assert said in fault.said
    assert "host2, host3" in fault.said
    assert (fault.is_error, fault.is_refused) == (is_error, is_refused)
    assert fault.mend
    if is_refused:
        with pytest.raises(InputError, match="host2, host3"):
            raise_if_refused(faults)
    else:
        raise_if_refused(faults)


def test_a_node_without_an_answer_is_doubtful_and_one_without_the_code_is_refused() -> None:
    silent = replace(answer("host2"), report=None)
    broken = replace(answer("host3"), report=None, error="ModuleNotFoundError: no 'tuning'.")
    first, second = node_faults([silent, broken], None, OWN)
    assert first.said == "host2: no answer within 25 s"
    assert second.said == (
        "host3: Affectune's code cannot run there (ModuleNotFoundError: no 'tuning')"
    )
    assert (first.is_refused, second.is_refused) == (False, True)


def test_of_many_nodes_some_are_named() -> None:
    answers = [answer(f"n{number}", code="other") for number in range(20)]
    [fault] = node_faults(answers, None, OWN)
    assert "n7 and 12 more" in fault.said


def test_a_clock_is_compared_by_the_question_that_took_least() -> None:
    # The other clock is 5 s ahead; the questions take 2 s, 0.2 s and 1 s, unequally there and back.
    moments: Iterator[float] = iter([100.0, 102.0, 110.0, 110.2, 120.0, 121.0])
    there: Iterator[float] = iter([106.9, 115.15, 125.0])
    offset = clock_offset(lambda: next(there), lambda: next(moments))
    assert offset.bound_s == pytest.approx(0.1)
    assert abs(offset.seconds - 5.0) <= offset.bound_s + 1e-9
    assert offset.least_s == pytest.approx(4.95)


def test_this_machine_reports_what_it_has(tmp_path: Path) -> None:
    with marked_store(str(tmp_path)) as marker:
        report = node_report(marker, {}, tmp_path)
    assert report.store_fault is None
    assert {"ray", "torch", "numpy"} <= set(report.versions)
    assert report.code == code_digest()
    assert all(room.total > 0 for room in report.disks)
    assert node_faults([NodeAnswer(Node("1", "here", {}), report)], marker)[:0] == []


def test_the_digest_of_code_follows_its_files(tmp_path: Path) -> None:
    for name in ("pipeline/a.py", "tuning/b.py", "tests/c.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x = 1\n")
    before = code_digest(tmp_path)
    (tmp_path / "tests/c.py").write_text("x = 2\n")
    assert code_digest(tmp_path) == before
    (tmp_path / "tuning/b.py").rename(tmp_path / "tuning/d.py")
    assert code_digest(tmp_path) != before


def test_a_worker_on_a_node_without_the_store_tells_it_as_a_fault_of_that_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "host9")
    monkeypatch.setattr("tuning.ray_backend.trainable.unpack", lambda head, packed: None)
    monkeypatch.setattr("tuning.ray_backend.trainable.Job.from_config", lambda config: None)
    with marked_store(str(tmp_path)) as marker:
        elsewhere = replace(marker, uri=str(tmp_path / "private"))
    worker = TrialTrainable.__new__(TrialTrainable)
    worker.setup(
        {},
        head=b"",
        packed=None,  # type: ignore[arg-type]
        spec="{}",
        store=elsewhere.uri,
        variables={},
        marker=elsewhere,
    )
    result = worker.step()
    assert result["fault"].startswith("On host9: The store ")
    assert "is not the driver's. Mount the driver's folder there" in result["fault"]
    assert (result["error"], result["done"]) == (None, False)
    assert not (tmp_path / "private").exists()
