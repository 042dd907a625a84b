"""A pool of processes that fit: each problem is looked up in the store, or solved and put there."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import astuple, dataclass
from pathlib import Path
from threading import Lock, Thread
from types import ModuleType
from typing import TypeVar

import torch

from pipeline.corpus import Corpus
from pipeline.credentials.outlets import mask_outlets
from pipeline.environment import worker_defaults
from pipeline.errors import AffectuneError
from pipeline.fitting.resumable_fit import CLAIM_S, ResumableFit
from pipeline.fitting.shared_corpus import map_shared, write_shared
from pipeline.stages.task import SupervisedProblem
from pipeline.stages.trained_stage import Epoch, TrainedStage
from pipeline.storage.stage_store import StageStore

log = logging.getLogger(__name__)

ABANDONED_S = 3600
"""A killed process's copy of a corpus is removed after so long."""
SIGNAL_S = 0.5
STOP_FILE = "stop"
"""A file of this name in the pool's folder ends its workers."""

Name = TypeVar("Name", bound=Hashable)

_one_spawns = Lock()
"""Held while workers are started: what they inherit is this process's for that time."""


@dataclass(frozen=True)
class FitProgress:
    """Something that happened to a problem: an epoch passed, or it was solved.

    Attributes:
        epoch: the epoch; None where it was solved.
        stage: the solution; None where an epoch passed.
        is_from_store: the store had the solution.
    """

    problem: SupervisedProblem
    epoch: Epoch | None = None
    stage: TrainedStage | None = None
    is_from_store: bool = False


Solution = tuple[TrainedStage, bool]
"""A stage, and whether the store had it."""
OnProgress = Callable[[FitProgress], None]


class WorkerPool:
    """Solves problems on one corpus; use it as a context manager.

    Args:
        corpus: sent once to every worker, through a file that they share.
        store: every solution goes through it.
        workers: processes, each with one thread; 1 fits in this process, with its threads.
        device: "cpu" or "cuda".
        on_progress: called for every epoch and every solution, from several threads.

    Attributes:
        store_hits: how many problems the store had solved already.
        trained: the stages that were trained here.
    """

    def __init__(
        self,
        corpus: Corpus,
        store: StageStore,
        *,
        workers: int = 1,
        device: str = "cpu",
        on_progress: OnProgress | None = None,
    ) -> None:
        self.corpus = corpus
        self.store = store
        self.workers = workers
        self.device = device
        self.on_progress = on_progress or (lambda progress: None)
        self.store_hits = 0
        self.trained: list[TrainedStage] = []
        self._exit = contextlib.ExitStack()
        self._executor: ProcessPoolExecutor | None = None
        self._running: dict[str, SupervisedProblem] = {}
        self._folder = Path()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *error: object) -> None:
        self._exit.close()

    @contextlib.contextmanager
    def on_corpus(self, corpus: Corpus) -> Iterator[WorkerPool]:
        """Yield a pool on another corpus, whose fits count here, too."""
        with WorkerPool(
            corpus,
            self.store,
            workers=self.workers,
            device=self.device,
            on_progress=self.on_progress,
        ) as pool:
            try:
                yield pool
            finally:
                self.store_hits += pool.store_hits
                self.trained += pool.trained

    def fit(self, problems: Sequence[SupervisedProblem]) -> list[TrainedStage]:
        """Solve problems.

        Returns:
            The solutions, in the order of the problems.

        Raises:
            AffectuneError: a fit failed, or a worker was killed. What was solved is in the store.
        """
        solutions: dict[str, TrainedStage] = {}

        for problem in problems:
            stage = self.store.get(problem.key)
            if stage is not None:
                solutions[problem.key] = stage
                self.store_hits += 1
                self.on_progress(FitProgress(problem, stage=stage, is_from_store=True))

        unsolved = {p.key: p for p in problems if p.key not in solutions}
        for problem, solution in self._fit_all(list(unsolved.values())):
            stage, is_from_store = solution
            if is_from_store:
                self.store_hits += 1
            else:
                self.trained.append(stage)
            solutions[problem.key] = stage
            self.on_progress(FitProgress(problem, stage=stage, is_from_store=is_from_store))

        return [solutions[problem.key] for problem in problems]

    def fit_named(
        self, problems: Mapping[Name, Sequence[SupervisedProblem]]
    ) -> dict[Name, list[TrainedStage]]:
        """Solve named lists of problems, all at once."""
        flat = [problem for named in problems.values() for problem in named]
        stages = iter(self.fit(flat))
        return {name: [next(stages) for _ in named] for name, named in problems.items()}

    def _fit_all(
        self, problems: Sequence[SupervisedProblem]
    ) -> Iterator[tuple[SupervisedProblem, Solution]]:
        if self.workers > 1 and problems:
            yield from self._fit_in_workers(problems)
            return

        for problem in problems:
            on_epoch = self._epoch_callback(problem)
            yield problem, _solve(problem, self.corpus, self.store, self.device, on_epoch)

    def _fit_in_workers(
        self, problems: Sequence[SupervisedProblem]
    ) -> Iterator[tuple[SupervisedProblem, Solution]]:
        executor = self._start_workers()
        self._running = {problem.key: problem for problem in problems}
        with _spawning():
            futures: dict[Future[Solution], SupervisedProblem] = {
                executor.submit(_fit_in_worker, problem, self.device): problem
                for problem in problems
            }

        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            # What ended the worker may be a signal to all processes, that is on its way here, too.
            time.sleep(SIGNAL_S)
            raise AffectuneError(
                "A worker process was killed (out of memory?). What is trained is kept: "
                "run the same command again, with fewer --workers if memory is short."
            ) from error
        finally:
            for future in futures:
                future.cancel()
            # Interrupted, or one failed: the others are not waited for.
            if any(not future.done() for future in futures):
                (self._folder / STOP_FILE).touch()

    def _epoch_callback(self, problem: SupervisedProblem) -> Callable[[Epoch], None]:
        return lambda epoch: self.on_progress(FitProgress(problem, epoch=epoch))

    def _start_workers(self) -> ProcessPoolExecutor:
        """Start the workers once. They are spawned: a fork would copy torch's locks as they are."""
        if self._executor is not None:
            return self._executor

        self._folder = self._share_corpus()
        # A datagram socket, not a queue: a queue's lock would stay taken if a worker were killed
        # while it holds it.
        receiver, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener = Thread(target=self._receive_progress, args=(receiver,), daemon=True)
        listener.start()

        self._executor = ProcessPoolExecutor(
            self.workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(self._folder, self.store.uri, os.getpid(), sender),
        )

        # In reverse order: the workers end, then the listener, then what they shared.
        self._exit.callback(sender.close)
        self._exit.callback(receiver.close)
        self._exit.callback(listener.join, timeout=5)
        self._exit.callback(receiver.shutdown, socket.SHUT_RD)
        self._exit.callback(self._executor.shutdown, wait=True, cancel_futures=True)
        return self._executor

    def _share_corpus(self) -> Path:
        """Write the corpus to a temporary folder that goes with the pool."""
        _remove_abandoned()
        prefix = f"affectune-{os.getpid()}-"
        folder = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix=prefix)))
        try:
            write_shared(self.corpus, folder)
        except OSError as error:
            raise AffectuneError(
                f"Cannot copy the corpus for the workers to '{folder}': {error.strerror}. "
                "Set TMPDIR to a folder with room for it, or use --workers 1."
            ) from error
        return folder

    def _receive_progress(self, receiver: socket.socket) -> None:
        while message := receiver.recv(4096):
            key, *numbers = json.loads(message)
            problem = self._running.get(key)
            try:
                if problem is not None:
                    self.on_progress(FitProgress(problem, epoch=Epoch(*numbers)))
            except Exception:  # an error in showing progress must not stop it from being read
                log.exception("Progress could not be shown.")


@contextlib.contextmanager
def _spawning() -> Iterator[None]:
    """Have workers that are started in a block be quick, whatever program starts them.

    A spawned process would import the program's main module: a script would be run once more in
    each worker, unless it is guarded by `if __name__ == "__main__"`. Ours need nothing of it.
    """
    with _one_spawns:
        program = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            with worker_defaults():
                yield
        finally:
            sys.modules["__main__"] = program


def _remove_abandoned() -> None:
    """Remove copies of a corpus whose process was killed an hour ago or longer."""
    for folder in Path(tempfile.gettempdir()).glob("affectune-*-*"):
        with contextlib.suppress(OSError, ValueError):
            owner = int(folder.name.split("-")[1])
            age_s = time.time() - folder.stat().st_mtime
            if age_s > ABANDONED_S and not _is_running(owner):
                shutil.rmtree(folder, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class _Worker:
    """What a worker process keeps between problems."""

    corpus: Corpus
    store: StageStore
    progress: socket.socket


def _start_worker(folder: Path, store_uri: str, parent: int, progress: socket.socket) -> None:
    mask_outlets()
    torch.set_num_threads(1)
    # Ctrl-C reaches the whole group; the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, args=(parent, folder), daemon=True).start()

    _Worker.corpus, _Worker.store = map_shared(folder), StageStore(store_uri)
    _Worker.progress = progress
    progress.setblocking(False)


def _end_with_parent(parent: int, folder: Path) -> None:
    """End this process when it is told to stop, or its parent was killed."""
    while os.getppid() == parent and not (folder / STOP_FILE).exists():
        time.sleep(0.5)
    os._exit(1)


def _fit_in_worker(problem: SupervisedProblem, device: str) -> Solution:
    def send(epoch: Epoch) -> None:
        with contextlib.suppress(OSError):  # progress may be lost, a fit may not
            _Worker.progress.send(json.dumps([problem.key, *astuple(epoch)]).encode())

    return _solve(problem, _Worker.corpus, _Worker.store, device, send)


def _solve(
    problem: SupervisedProblem,
    corpus: Corpus,
    store: StageStore,
    device: str,
    on_epoch: Callable[[Epoch], None],
) -> Solution:
    """Fit, unless another process that uses the same store does so, or did it in the meantime."""
    with store.claim(problem.key, timeout_s=CLAIM_S):
        stage = store.get(problem.key)
        if stage is not None:
            return stage, True
        return ResumableFit(problem, corpus, store, device=device).run(on_epoch), False
