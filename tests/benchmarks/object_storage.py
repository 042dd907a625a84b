"""The store on an S3 server: killed in the middle of writes, used by two at once, and its cost.

The server is moto's, on this machine, behind a proxy that takes data as slowly as a network does.
AFFECTUNE_BENCH_KILLS sets how many writers are killed.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from pipeline.corpus import Corpus
from pipeline.data.synthetic.corpus import synthesize
from pipeline.storage.stage_store import StageStore
from tests.benchmarks.overhead import SHORT, epoch_s
from tests.benchmarks.rows import Row, less_is_better, more_is_better
from tests.benchmarks.timed_study import prepare_process, study_of, synthetic_corpus
from tests.s3 import Proxy, s3
from tests.tuning_tests.command import MAIN, SELECTION, TIMEOUT_S
from tuning.fitting.trial_fit import FitContext, FitReport, TrialFit
from tuning.planning.planner import StudyPlanner
from tuning.spec.study_spec import StudySpec
from tuning.study.study import StudyOptions, open_study

NUM_KILLS = int(os.environ.get("AFFECTUNE_BENCH_KILLS", "200"))
CHECKPOINT_BYTES, STAGE_BYTES = 5 * 2**20, 2**16
"""A checkpoint is more than the kernel takes at once, and would deliver after a writer's death."""
BYTES_PER_S = 10 * 2**20
"""So fast the proxy takes what is written while writers are killed: a write takes 0.5 s."""
MAX_LIFE_S = 0.8
CHECKPOINT, STAGE = "key-checkpoint", "stage"
FIT_S, OVERHEAD_BAR = 3.0, 0.05
NUM_SEARCHED = 6
STUDY = """
name = "two"
folds = 2
""" + "".join(
    f"[{stage}.network]\nnum_layers = 1\nhidden_size = 4\n[{stage}.fit]\nmax_epochs = 3\n"
    f'[search.{stage}]\nsampler = "random"\ntrials = 3\n'
    "finalists = 1\nseeds = 1\ngrace_epochs = 1\n"
    f'[search.{stage}.space]\n"fit.learning_rate" = {{ loguniform = [0.001, 0.1] }}\n'
    for stage in ("auto_encoder", "unimodal", "fusion")
)


def object_storage_rows() -> list[Row]:
    """Return what became of entries, keys and time, each beside its bar."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with s3(folder) as proxy:
            rows = _killed_writers(proxy)
            proxy.bytes_per_s = None
            rows += [*_two_trainings(proxy, folder), *_two_studies(proxy, folder)]
            rows.append(_overhead(proxy, folder))
        return rows


def _killed_writers(proxy: Proxy) -> list[Row]:
    """Kill writers of a checkpoint and of stages; count what is whole, and not lost."""
    # The processes are forked from one that has imported everything, and asked for nothing.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    random, uri = Random(0), proxy.uri("killed")
    store, first, is_whole, is_kept = StageStore(uri), 1, 0, 0
    proxy.bytes_per_s, proxy.num_torn = BYTES_PER_S, 0

    for _ in range(NUM_KILLS):
        receiver, sender = context.Pipe(duplex=False)
        writer = context.Process(target=_write_on, args=(uri, first, sender))
        writer.start()
        sender.close()
        acknowledged = receiver.recv()
        time.sleep(random.uniform(0, MAX_LIFE_S))
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        with contextlib.suppress(EOFError):
            while True:
                acknowledged = receiver.recv()

        found = store.read(CHECKPOINT, dict)
        number = int(found["number"]) if found else 0
        stages = [store.read(f"{STAGE}-{n}", dict) for n in (acknowledged, acknowledged + 1)]
        whole = [each for each in (found, *stages) if each is not None]
        is_whole += all(
            each["data"] == _data(int(each["number"]), len(each["data"])) for each in whole
        )
        is_kept += number >= acknowledged and stages[0] is not None
        for earlier in range(first, acknowledged + 2):  # the server keeps all in memory
            store.remove(f"{STAGE}-{earlier}")
        first = max(number, acknowledged) + 1

    print(
        f"{NUM_KILLS} writers killed, {proxy.num_torn} of them while their data was on its way; "
        f"{first - 1} versions of the checkpoint written",
        file=sys.stderr,
    )
    return [
        more_is_better("s3_kills_every_entry_whole", is_whole, NUM_KILLS, "kills"),
        more_is_better("s3_kills_checkpoint_kept", is_kept, NUM_KILLS, "kills"),
        more_is_better("s3_kills_amid_a_write", proxy.num_torn, NUM_KILLS / 4, "kills"),
    ]


def _write_on(uri: str, first: int, written: Connection) -> None:
    """Write a checkpoint and a stage again and again, and tell of each pair."""
    store, number = StageStore(uri), first
    while True:
        name = str(number).encode()
        store.write(CHECKPOINT, {"number": name, "data": _data(number, CHECKPOINT_BYTES)})
        store.write(f"{STAGE}-{number}", {"number": name, "data": _data(number, STAGE_BYTES)})
        written.send(number)
        number += 1


def _data(number: int, size_bytes: int) -> bytes:
    block = Random(number).randbytes(STAGE_BYTES)
    return block * (size_bytes // STAGE_BYTES)


def _two_trainings(proxy: Proxy, folder: Path) -> list[Row]:
    """Train the same twice at once on one store; count the stages that were put there twice."""
    corpus = folder / "corpus"
    synthesize(corpus, subjects=6, minutes=1, seed=0, preset="small")
    spec = folder / "spec.toml"
    spec.write_text(
        "folds = 2\n"
        + "".join(
            f"[{stage}.network]\nnum_layers = 1\nhidden_size = 4\n[{stage}.fit]\nmax_epochs = 3\n"
            for stage in ("auto_encoder", "unimodal", "fusion")
        )
    )
    proxy.requests.clear()
    store = proxy.uri("trained")
    arguments = ["train", "--corpus", str(corpus), "--spec", str(spec), "--store", store]
    texts = _both(folder, [[*arguments, *SELECTION, "--out", out, "--json"] for out in ("a", "b")])
    summaries = [json.loads(text[text.index("{") :]) for text in texts]
    trained = sum(summary["trials"] - summary["store_hits"] for summary in summaries)
    return [_once("s3_two_trainings", proxy, trained)]


def _two_studies(proxy: Proxy, folder: Path) -> list[Row]:
    """Run the same study twice at once on one store: see `_two_trainings`."""
    study = folder / "two.toml"
    study.write_text(STUDY)
    proxy.requests.clear()
    arguments = ["study", "run", str(study), "--corpus", str(folder / "corpus"), *SELECTION]
    store = ["--store", proxy.uri("searched"), "--workers", "1", "--json"]
    _both(folder, [[*arguments, *store, "--out", out] for out in ("c", "d")])
    return [_once("s3_two_studies", proxy, None)]


def _both(folder: Path, commands: list[list[str]]) -> list[str]:
    """Run commands at once to their ends; return what they print."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    environment.pop("MLFLOW_TRACKING_URI", None)
    processes = []
    for command in commands:
        with open(folder / f"{command[-1]}.log", "wb") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", MAIN, *command],
                    cwd=folder,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
            )
    texts = [process.communicate(timeout=TIMEOUT_S)[0] for process in processes]
    for command, process in zip(commands, processes, strict=True):
        if process.returncode:
            sys.exit((folder / f"{command[-1]}.log").read_text())
    return texts


def _once(name: str, proxy: Proxy, trained: int | None) -> Row:
    """Return how many keys were put into the store, beside how often one was, by its requests."""
    stage = re.compile(r"/([0-9a-f]{64})\.zip")
    puts = Counter(
        match[1]
        for method, path, status in proxy.requests
        if method == "PUT" and status == 200 and (match := stage.search(path))
    )
    listings = sum("list-type" in path for _, path, _ in proxy.requests)
    print(
        f"{name}: {len(puts)} keys, written {puts.total()} times; {len(proxy.requests)} requests, "
        f"{listings} of them listings",
        file=sys.stderr,
    )
    times = puts.total() if trained is None else max(puts.total(), trained)
    return less_is_better(f"{name}_times_a_key_is_trained", times / len(puts), 1.0, "times")


def _overhead(proxy: Proxy, folder: Path) -> Row:
    """Run one study on both kinds of store, fit by fit in turn; return the share it costs."""
    prepare_process()
    corpus = synthetic_corpus(folder / "short", subjects=10, minutes=5, modalities=("voice",))
    draft = study_of(SHORT.format(epochs=4, grace=1, trials=NUM_SEARCHED), corpus)
    epochs = max(4, round(FIT_S / epoch_s(draft, corpus)))
    toml = SHORT.format(epochs=epochs, grace=epochs, trials=NUM_SEARCHED)
    study = study_of(toml.replace("seeds = 4", "seeds = 1").replace("tpe", "random"), corpus)

    store = proxy.direct_uri("overhead")  # the proxy is in this process, and would slow down fits
    durations_s: dict[str, list[float]] = {"folder": [], "s3": []}
    runs = {
        "folder": _fits(study, corpus, folder / "in-folder", str(folder / "store")),
        "s3": _fits(study, corpus, folder / "in-s3", store),
    }
    kinds = list(runs)
    while runs:
        kinds.reverse()  # whatever goes first pays what both need
        for kind in kinds:
            if kind in runs and (duration_s := next(runs[kind], None)) is not None:
                durations_s[kind].append(duration_s)
            else:
                runs.pop(kind, None)

    totals_s = {kind: sum(fits) for kind, fits in durations_s.items()}
    probe = StageStore(store).probe()
    share = totals_s["s3"] / totals_s["folder"] - 1
    print(
        f"{len(durations_s['s3'])} fits of {totals_s['folder'] / len(durations_s['folder']):.2f} s "
        f"in a folder: {totals_s['folder']:.1f} s, on S3 {totals_s['s3']:.1f} s; overhead "
        f"{share:.2%}; the slowest of a write, a read and a delete took {probe.latency_s:.3f} s",
        file=sys.stderr,
    )
    return less_is_better("s3_time_over_folder", 1 + share, 1 + OVERHEAD_BAR, "times")


def _fits(study: StudySpec, corpus: Corpus, out: Path, store: str) -> Iterator[float]:
    """Run a study in this process, without Ray; yield the seconds of each regressor's fit."""
    opened = open_study(study, corpus, out, StudyOptions(out, store, workers=1), resume=False)
    with opened.journal:
        place = StageStore(store)
        planner = StudyPlanner(
            study,
            corpus,
            place,
            opened.journal,
            opened.history,
            device="cpu",
            budget_s=float("inf"),
        )
        context = FitContext.create(corpus, study.base, place)
        begin = time.perf_counter()
        while job := planner.next_job():
            fit, continues = TrialFit(job, context), True
            while continues:
                report = FitReport.from_result(fit.advance().to_result())
                continues = planner.receive(job.trial, report)
            if job.task.stage == "unimodal":
                yield time.perf_counter() - begin
            begin = time.perf_counter()
