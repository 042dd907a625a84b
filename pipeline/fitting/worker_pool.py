"""Solves tasks, several at a time on one machine: looked up in the store, else fitted in worker processes."""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import multiprocessing
import os
import pickle
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import TypeVar

import torch

from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError
from pipeline.fitting.trainer import fit
from pipeline.stages.stage import Epoch, StageTask, TrainedStage, task_key
from pipeline.storage.stage_store import StageStore


@dataclass(frozen=True)
class Progress:
    """What became of a task: an epoch passed (epoch), or it was solved (stage; from the store or by a fit)."""

    task: StageTask
    epoch: Epoch | None = None
    stage: TrainedStage | None = None
    from_store: bool = False


log = logging.getLogger(__name__)

Name = TypeVar("Name", bound=Hashable)
LEFT_BEHIND_S = 3600
STOP = "stop"  # a file of this name in the crew's folder ends its workers
OnProgress = Callable[[Progress], None]


class WorkerPool:
    """Solves tasks on one corpus.

    Args:
        corpus: sent once to every worker, through a file that they share.
        store: every solution goes through it.
        workers: processes, each with one thread; 1 fits in this process, with its threads.
        device: "cpu" or "cuda".
        on_progress: hears of every epoch and every solution.
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
        self.hits = 0
        self.trained: list[TrainedStage] = []
        self._exit = contextlib.ExitStack()
        self._pool: ProcessPoolExecutor | None = None
        self._running: dict[str, StageTask] = {}
        self._folder = Path()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *error: object) -> None:
        self._exit.close()

    def solve(self, tasks: Sequence[StageTask]) -> list[TrainedStage]:
        """Solve tasks; the order of the answers is that of the tasks.

        Raises:
            AffectuneError: a fit failed, or a worker was killed. What was solved until then is in the store.
        """
        if (
            self.device != "cpu"
        ):  # rounds otherwise: what a GPU trained is not what the same seed gives on a CPU
            tasks = [
                replace(task, key=task_key(task=task.key, device=self.device)) for task in tasks
            ]
        found = {
            task.key: stage for task in tasks if (stage := self.store.get(task.key)) is not None
        }
        for task in tasks:
            if task.key in found:
                self.hits += 1
                self.on_progress(Progress(task, stage=found[task.key], from_store=True))
        missing = list({task.key: task for task in tasks if task.key not in found}.values())
        for task, stage in self._fit_all(missing):
            self.trained.append(stage)
            found[task.key] = stage
            self.on_progress(Progress(task, stage=stage))
        return [found[task.key] for task in tasks]

    def solve_all(
        self, tasks: Mapping[Name, Sequence[StageTask]]
    ) -> dict[Name, list[TrainedStage]]:
        """`solve` for named lists of tasks, all at once."""
        solved = iter(self.solve([task for named in tasks.values() for task in named]))
        return {name: [next(solved) for _ in named] for name, named in tasks.items()}

    def _fit_all(self, tasks: Sequence[StageTask]) -> Iterator[tuple[StageTask, TrainedStage]]:
        if self.workers == 1 or len(tasks) == 0:
            for task in tasks:
                stage = fit(task, self.corpus, device=self.device, on_epoch=self._hear(task))
                self.store.put(stage)
                yield task, stage
            return
        pool = self._start()
        self._running = {task.key: task for task in tasks}
        futures: dict[Future[TrainedStage], StageTask] = {
            pool.submit(_fit_in_worker, task, self.device): task for task in tasks
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise AffectuneError(
                "A worker process was killed (out of memory?). What is trained is kept: "
                "run the same command again, with fewer --workers if memory is short."
            ) from error
        finally:
            for future in futures:
                future.cancel()
            if any(
                not future.done() for future in futures
            ):  # interrupted, or one failed: do not wait for the others
                (self._folder / STOP).touch()

    def _hear(self, task: StageTask) -> Callable[[Epoch], None]:
        return lambda epoch: self.on_progress(Progress(task, epoch=epoch))

    def _start(self) -> ProcessPoolExecutor:
        """Start the workers once. They are spawned: a fork would copy torch's locks in whatever state they are."""
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            _remove_left_behind()
            prefix = f"affectune-{os.getpid()}-"
            folder = self._folder = Path(
                self._exit.enter_context(tempfile.TemporaryDirectory(prefix=prefix))
            )
            try:
                _share(self.corpus, folder / "corpus")
            except OSError as error:
                raise AffectuneError(
                    f"Cannot copy the corpus for the workers to '{folder}': {error.strerror}. "
                    "Set TMPDIR to a folder with room for it, or use --workers 1."
                ) from error
            # A datagram socket, not a queue: a queue's lock would stay taken if a worker were killed while it holds it.
            heard, said = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            listener = Thread(target=self._listen, args=(heard,), daemon=True)
            listener.start()
            self._pool = ProcessPoolExecutor(
                self.workers,
                mp_context=context,
                initializer=_start_worker,
                initargs=(folder, self.store.uri, os.getpid(), said),
            )
            self._exit.callback(said.close)
            self._exit.callback(heard.close)
            self._exit.callback(listener.join, timeout=5)
            self._exit.callback(heard.shutdown, socket.SHUT_RD)
            self._exit.callback(self._pool.shutdown, wait=True, cancel_futures=True)
        return self._pool

    def _listen(self, heard: socket.socket) -> None:
        while message := heard.recv(4096):
            key, *numbers = json.loads(message)
            try:
                if key in self._running:
                    self.on_progress(Progress(self._running[key], epoch=Epoch(*numbers)))
            except Exception:  # whoever shows progress must not stop it from being read
                log.exception("Progress could not be shown.")


def _remove_left_behind() -> None:
    """Copies of a corpus whose process was killed, an hour ago or longer, are removed."""
    for folder in Path(tempfile.gettempdir()).glob("affectune-*-*"):
        with contextlib.suppress(OSError, ValueError):
            owner = int(folder.name.split("-")[1])
            if time.time() - folder.stat().st_mtime > LEFT_BEHIND_S and not _runs(owner):
                shutil.rmtree(folder, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _share(corpus: Corpus, path: Path) -> None:
    """Write a corpus so that processes can map its arrays instead of copying them."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(corpus, protocol=5, buffer_callback=buffers.append)
    sizes = [buffer.raw().nbytes for buffer in buffers]
    path.with_suffix(".head").write_bytes(pickle.dumps((head, sizes)))
    with open(path, "wb") as file:
        for buffer in buffers:
            file.write(buffer.raw())
        file.write(b"\0")  # an empty file cannot be mapped


def _shared(path: Path) -> Corpus:
    """The inverse of `_share`; its arrays are read-only views of the file."""
    head, sizes = pickle.loads(path.with_suffix(".head").read_bytes())
    with open(path, "rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    buffers, start = [], 0
    for size in sizes:
        buffers.append(view[start : start + size])
        start += size
    corpus: Corpus = pickle.loads(head, buffers=buffers)
    return corpus


class _Worker:
    """What a worker process holds between tasks."""

    corpus: Corpus
    store: StageStore
    progress: socket.socket


def _start_worker(folder: Path, store_uri: str, parent: int, said: socket.socket) -> None:
    torch.set_num_threads(1)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group; the parent decides what ends
    _Worker.corpus, _Worker.store = _shared(folder / "corpus"), StageStore(store_uri)
    _Worker.progress = said
    said.setblocking(False)
    Thread(target=_end_with, args=(parent, folder), daemon=True).start()


def _end_with(parent: int, folder: Path) -> None:
    """A worker that is told to stop, or whose parent was killed, ends instead of training for nobody."""
    while os.getppid() == parent and not (folder / STOP).exists():
        time.sleep(0.5)
    os._exit(1)


def _fit_in_worker(task: StageTask, device: str) -> TrainedStage:
    def say(epoch: Epoch) -> None:
        with contextlib.suppress(OSError):  # progress may be lost, a fit may not
            _Worker.progress.send(
                json.dumps([task.key, epoch.epoch, epoch.loss, epoch.score]).encode()
            )

    stage = fit(task, _Worker.corpus, device=device, on_epoch=say)
    _Worker.store.put(stage)
    return stage
