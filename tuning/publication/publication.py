"""What a driver publishes of a study, piece by piece. Knows no thread and no time.

Whatever fails is written by the next call; the journal in the study's folder has it meanwhile.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.errors import InputError
from pipeline.storage.atomic_folder import MANIFEST, manifest_of, read_folder
from pipeline.storage.object_store import Objects
from tuning.journal.events import EVENT
from tuning.journal.lines import BLANK, MAX_LINE_BYTES
from tuning.journal.seal import Sealed
from tuning.publication.head import HEAD, PART_BYTES, Head, head_or_none, part_of, place_of
from tuning.publication.term import Term, is_replaced
from tuning.publication.transcript import Transcript

log = logging.getLogger(__name__)

JOURNAL_FOLDER = "journal-"
MAX_RESULT_BYTES = 64 * 2**20
"""Of a file that is published at the end; a report with many trials has some ten megabytes."""


class Publication:
    """One study, as one process publishes it.

    Args:
        objects: of the store.
        term: of this process.
        identity: of the study: its digest and its name.
        journal: the file.
        num_bytes: says how much of the file is written for good.
        results: files, and `model` a bundle, that are published once the study has finished.
        command: that goes on with the study, without credentials.

    Attributes:
        name: of the study.
        position: up to here, in bytes, the file is published.
        is_ended: the end is published, too.
        is_replaced: another process goes on with the study, and nothing is published any more.
    """

    def __init__(
        self,
        objects: Objects,
        term: Term,
        identity: tuple[str, str],
        journal: Path,
        num_bytes: Callable[[], int],
        *,
        results: tuple[Path, ...] = (),
        model: Path | None = None,
        command: str = "",
    ) -> None:
        self._objects, self._term, self._command = objects, term, command
        self._digest, self.name = identity
        self._journal, self._num_bytes = journal, num_bytes
        self._results, self._model = results, model

        self.position = 0
        self.is_ended = self.is_replaced = False
        self._transcript = Transcript()
        self._read_to, self._part, self._number = 0, b"", 0
        self._is_part_written = True
        self._beat = 0
        self._published: str | None = None
        self._head: Head | None = None

    def publish(self, *, is_open: bool) -> None:
        """Write what is new: parts of the journal, results, and last the head that tells of it.

        Whatever fails is written by the next call.

        Args:
            is_open: the study goes on; False at its end.

        Raises:
            AffectuneError: the store does not take it, or the journal cannot be read.
        """
        if is_replaced(self._objects, self._term):
            self.is_replaced = True
            return
        for line in self._new_lines():
            self._part += line
            self._is_part_written = False
            if len(self._part) >= PART_BYTES:  # not more in memory
                self._write_parts()
        self._write_parts()
        if not is_open and self._transcript.is_finished:
            self._write_results()

        before = self._head or head_or_none(self._objects, self._term.study)
        head = self._next_head(is_open=is_open)
        data = head.model_dump_json(indent=1).encode()
        self._objects.write(place_of(self._term.study, HEAD), data)
        self._head, self.position = head, self._read_to
        self.is_ended = not is_open
        if before is not None and before.driver != self._term.driver:
            self._remove_parts_of_others()

    def _next_head(self, *, is_open: bool) -> Head:
        transcript = self._transcript
        self._beat += 1
        return Head(
            id=self._term.study,
            digest=self._digest,
            name=self.name,
            term=self._term.number,
            driver=self._term.driver,
            host=self._term.host,
            at=time.time(),
            beat=self._beat,
            is_open=is_open,
            journal_bytes=transcript.size,
            journal_sha256=transcript.sha256,
            lines=transcript.chain.number,
            seal=transcript.chain.sum,
            fits=transcript.fits,
            ended=transcript.ended,
            is_finished=transcript.is_finished,
            is_registered=transcript.is_registered,
            command=self._command,
            model=self._published,
        )

    def _new_lines(self) -> Iterator[bytes]:
        """Yield the lines that were written for good since the last beat, as they are published."""
        end = self._num_bytes()
        with open(self._journal, "rb") as file:
            file.seek(self._read_to)
            while self._read_to < end:
                raw = file.readline(MAX_LINE_BYTES + 1)
                if not raw.endswith(b"\n"):
                    return
                self._read_to += len(raw)
                text = raw.strip(BLANK)
                if text:
                    yield self._transcript.add(EVENT.validate_json(Sealed.from_line(text).body))

    def _write_parts(self) -> None:
        """Write each part that is full, and what there is of the last one."""
        while len(self._part) >= PART_BYTES:
            self._write(self._part[:PART_BYTES])
            self._part = self._part[PART_BYTES:]
            self._number += 1
            self._is_part_written = not self._part
        if not self._is_part_written:
            self._write(self._part)
            self._is_part_written = True

    def _write(self, part: bytes) -> None:
        name = part_of(self._term.study, self._term.driver, self._number)
        self._objects.write(name, part)

    def _write_results(self) -> None:
        """Publish the winner, whole and under a name of its own, and the files beside it."""
        if self._model is not None and self._model.is_dir():
            try:
                files = read_folder(self._model)
            except InputError as error:  # it was changed since; the journal is as good as it was
                log.warning("The winner is not published: %s", error)
                files = {}
            if files:
                self._write_model(files)
        for path in self._results:
            if path.is_file() and path.stat().st_size <= MAX_RESULT_BYTES:
                self._objects.write(place_of(self._term.study, path.name), path.read_bytes())

    def _write_model(self, files: dict[str, bytes]) -> None:
        manifest = manifest_of(files)
        name = f"model-{hashlib.sha256(manifest).hexdigest()[:12]}"
        for file, data in [*files.items(), (MANIFEST, manifest)]:
            self._objects.write(place_of(self._term.study, name, file), data)
        self._published = name

    def _remove_parts_of_others(self) -> None:
        """Remove the journal as drivers before this one wrote it: the head tells of this one's."""
        own = place_of(self._term.study, f"{JOURNAL_FOLDER}{self._term.driver}/")
        for part in list(self._objects.names(place_of(self._term.study, JOURNAL_FOLDER))):
            if not part.name.startswith(own):
                self._objects.delete(part.name)
