"""Runs a long command in a session of its own, and sees to it that it ends when it is told to.

A signal to a process group (Ctrl-C, `timeout`, a service manager) would else end the processes that
the command needs for an orderly end before it: Ray's, workers. So the command goes on in a child
process with a session of its own. The parent does nothing but pass the first signal on, stop and
continue the session with itself (Ctrl-Z), and end what is left of it when its time is over.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from pipeline.names import printable_word

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ORDERLY_END_S = 13.0
"""So long a command has to end after the first signal."""
REPEATED_S = 1.0
"""A signal that comes again within this time is the same one: `timeout` sends it twice."""
STRAGGLERS_S = 2.0
"""So long what the command started has to end by itself after it."""
KILLED = 1
"""Exit status of a command that did not end by itself."""
STOP, ENDED, AGAIN, GO_ON = b"!", b".", b"+", b"~"
MAX_AGAIN = 50
"""So often a command is started again."""
PR_SET_PDEATHSIG = 1
"""Linux's number of the request for a signal at the parent's end."""

_parent: socket.socket | None = None
"""Of a supervised process: its connection to the one that supervises it."""
_is_stopped = threading.Event()
"""Likewise: whether it was told to end."""
_has_said = False
"""Likewise: whether it has told its parent that it has said how it ended."""
_is_hasty = False
"""Likewise: whether it ends without an interpreter's end: see `leave_without_libraries`."""
_farewell: str | None = None
"""Likewise: what it says when it is ended at once, "" where its parent says it; None where it has
something to finish."""


def can_supervise() -> bool:
    """Return whether this process may be divided.

    It may not where it is another program's, such as a notebook: that replaces standard output, or
    has threads, which a fork would not copy.
    """
    is_own_program = sys.stdout is sys.__stdout__ and sys.stderr is sys.__stderr__
    is_main = threading.current_thread() is threading.main_thread()
    return hasattr(os, "fork") and is_own_program and is_main and threading.active_count() == 1


def supervise(advice: str, on_again: Callable[[], None] = lambda: None) -> Callable[[], None]:
    """Divide this process: the child returns from here, the parent ends as the child does.

    A child that has asked for it is followed by another one: see `start_again`.

    Until the child calls `end_in_order`, the first signal ends it at once. Afterwards it gets it as
    SIGINT, whichever it was, and no other one. It is killed with its whole session by a second
    signal, by the end of its time, or when the parent is killed.

    Args:
        advice: how to go on, for the line that the parent prints where the child could not.
        on_again: called in a child that follows another one.

    Returns:
        In the child: what it calls when it has said by itself how it ended.
    """
    # Blocked, so that none is lost between here and the loop; also what the parent waits for.
    stops = [number for number in STOP_SIGNALS if not _is_ignored(number)]
    awaited = {*stops, signal.SIGTSTP, signal.SIGCHLD, signal.SIGALRM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)

    for number in range(MAX_AGAIN + 1):
        parent_end, child_end = socket.socketpair()
        child = os.fork()
        if not child:
            break
        child_end.close()
        supervisor = _Supervisor(child, parent_end, advice, may_again=number < MAX_AGAIN)
        status = supervisor.wait(awaited)
        if not supervisor.is_again:
            sys.exit(status)
        parent_end.close()

    parent_end.close()
    os.setsid()
    _continue_at_the_parents_end()
    # A shell lets a command that it puts into the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The parent decides; a service manager signals every process.
    signal.signal(signal.SIGTERM, _leave_to_the_parent)
    signal.signal(signal.SIGHUP, _leave_to_the_parent)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    global _farewell, _parent
    _farewell, _parent = "", child_end
    threading.Thread(target=_follow_parent, args=(child_end,), daemon=True).start()
    if number:
        on_again()
    return _say_ended


def end_in_order() -> None:
    """Have a signal interrupt this command from now on: it has something to finish or to clean.

    Before, while it reads what is given and imports libraries, which may swallow an interrupt, a
    signal ends it at once.
    """
    global _farewell
    _farewell = None


def allow_orderly_end(seconds: float) -> None:
    """Give this command another time to end after a signal; without effect where unsupervised."""
    _tell(f"{seconds:.0f}\n".encode())


def go_on_after_loss() -> None:
    """Have this command started again where, from now on, a library ends it without a word.

    Without effect where unsupervised.
    """
    _tell(GO_ON)


def start_again() -> bool:
    """Have this command started again once it has ended, which it is about to do.

    Returns:
        Whether it will be; it is not where unsupervised, or told to end.
    """
    if _parent is None or is_stopped():
        return False
    _tell(AGAIN)
    return True


def leave_without_libraries() -> None:
    """Have this process end, once it ends, without what libraries do then: it may never return."""
    global _is_hasty
    _is_hasty = True


def leave_now(status: int, message: str) -> None:
    """End this process at once, from another thread: a library holds the main one up.

    Args:
        status: the exit status.
        message: printed, unless the command has said how it ended before it was held up.
    """
    if not _has_said:
        print(printable_word(message), file=sys.stderr, flush=True)
        _tell(ENDED)
    os._exit(status)


def leave_if_stopped(status: int, *, has_said: bool = False) -> None:
    """End this process now, if it was told to: the end of an interpreter may take many seconds.

    Likewise where it is to end without what libraries do at the end of an interpreter.

    To be called when everything is written and closed; what it started is ended by the parent.

    Args:
        status: the exit status.
        has_said: it has said by itself how it ended, and has not told the parent so.
    """
    if _is_stopped.is_set() or _is_hasty:
        if has_said:
            _say_ended()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)


@contextlib.contextmanager
def nothing_to_finish(farewell: str) -> Iterator[None]:
    """Let this command be ended at once meanwhile: there is nothing that it would have to finish.

    Args:
        farewell: what it says if it is, on standard error; its status is 0.
    """
    global _farewell
    _farewell = farewell
    try:
        yield
    finally:
        _farewell = None


def is_stopped() -> bool:
    """Return whether this command was told to end."""
    return _is_stopped.is_set()


def raise_if_stopped() -> None:
    """Interrupt once more: libraries that are being imported or started may swallow it.

    Raises:
        KeyboardInterrupt: this command was told to end.
    """
    if is_stopped():
        raise KeyboardInterrupt


@contextlib.contextmanager
def own_sigterm() -> Iterator[None]:
    """Keep what SIGTERM does in this process while a library is started that would change it.

    Raises:
        KeyboardInterrupt: the command was told to end, before or meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    raise_if_stopped()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, handler)
    raise_if_stopped()


class _Supervisor:
    """The parent's loop.

    Args:
        child: its process, which leads a session.
        connection: to the child, which tells there that it has said how it ended.
        advice: how to go on.
        may_again: whether the child may be followed by another one.

    Attributes:
        is_again: another child is to follow the one that has ended.
    """

    def __init__(
        self, child: int, connection: socket.socket, advice: str, *, may_again: bool
    ) -> None:
        self._child, self._connection, self._advice = child, connection, advice
        self._orderly_end_s = ORDERLY_END_S
        self._has_said, self._goes_on, self.is_again = False, False, False
        self._may_again = may_again
        self._stopped_at: float | None = None

    def wait(self, awaited: set[signal.Signals]) -> int:
        """Pass signals on until the child has ended; return its exit status."""
        while True:
            number = signal.sigwait(awaited)
            if number == signal.SIGALRM:
                return self._kill(
                    f"It did not end within {self._orderly_end_s:.0f} s, and was ended"
                )
            if number == signal.SIGCHLD:
                ended, status = os.waitpid(self._child, os.WNOHANG)
                if ended:
                    return self._end(os.waitstatus_to_exitcode(status))
            elif number == signal.SIGTSTP:
                self._suspend()
            elif self._stopped_at is None:
                self._stopped_at = time.monotonic()
                self._read()
                signal.setitimer(signal.ITIMER_REAL, self._orderly_end_s)
                self._tell_to_stop()
            elif time.monotonic() - self._stopped_at > REPEATED_S:
                return self._kill("A second signal ended it at once")

    def _suspend(self) -> None:
        """Stop the session and this process; return when a shell lets this one go on."""
        _signal_session(self._child, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        _signal_session(self._child, signal.SIGCONT)

    def _tell_to_stop(self) -> None:
        with contextlib.suppress(OSError):  # it has just ended
            self._connection.send(STOP)

    def _kill(self, what: str) -> int:
        _signal_session(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)
        self._read()
        if not self._has_said:
            self._say(f"{what}. {self._advice}")
        return KILLED

    def _end(self, status: int) -> int:
        """Wait for what the child started; say why it ended where it could not."""
        deadline = time.monotonic() + STRAGGLERS_S
        while _members(self._child) and time.monotonic() < deadline:
            time.sleep(0.05)
        _signal_session(self._child, signal.SIGKILL)

        self._read()
        may_again = self._may_again and self._stopped_at is None
        self.is_again = may_again and (self.is_again or (self._goes_on and not self._has_said))
        if not self._has_said:
            if self._stopped_at is not None:
                self._say(f"Interrupted. {self._advice}")
                return KILLED
            advice = "It is started again." if self.is_again else self._advice
            if status < 0:
                name = signal.Signals(-status).name
                self._say(f"Its process was ended by {name} (is memory short?). {advice}")
            else:
                self._say(f"Its process ended without a word, status {status}. {advice}")
            return status if status > 0 else KILLED
        return status if status >= 0 else KILLED

    def _read(self) -> None:
        """Read what the child has sent: seconds that it needs, how it ends, and what follows."""
        self._connection.setblocking(False)
        sent = b""
        with contextlib.suppress(OSError):
            sent = self._connection.recv(4096)

        self._has_said = self._has_said or ENDED in sent
        self._goes_on = self._goes_on or GO_ON in sent
        self.is_again = self.is_again or AGAIN in sent
        for seconds in re.findall(rb"\d+", sent):
            self._orderly_end_s = float(seconds)

    def _say(self, message: str) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(printable_word(f"Error: {message}".strip()), file=sys.stderr, flush=True)


def _is_ignored(number: signal.Signals) -> bool:
    """Whether a signal is left alone: `nohup` ignores that the terminal is closed."""
    return number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN


def _leave_to_the_parent(number: int, frame: FrameType | None) -> None:
    """Do nothing, but not as SIG_IGN does: that would be inherited by what this process starts."""


def _say_ended() -> None:
    global _has_said
    _has_said = True
    _tell(ENDED)


def _tell(message: bytes) -> None:
    if _parent is not None:
        with contextlib.suppress(OSError):
            _parent.send(message)


def _follow_parent(connection: socket.socket) -> None:
    """Interrupt the main thread when the parent says so; kill the session once it is gone.

    A signal to the process would not do: where others come at the same time, the system may give
    it to another thread, and the main one goes on waiting for whatever it waits for.
    """
    with contextlib.suppress(OSError):
        while connection.recv(1) == STOP:
            _is_stopped.set()
            # Not by an interrupt: what is being started may swallow it, or never return.
            if _farewell == "":
                leave_if_stopped(KILLED)
            elif _farewell is not None:
                print(_farewell, file=sys.stderr, flush=True)
                leave_if_stopped(0, has_said=True)
            main_thread = threading.main_thread().ident
            if main_thread is not None:
                signal.pthread_kill(main_thread, signal.SIGINT)
    _signal_session(os.getsid(0), signal.SIGKILL)
    os._exit(KILLED)


def _continue_at_the_parents_end() -> None:
    """Let this process go on when its parent is killed while both are stopped; then it ends."""
    with contextlib.suppress(OSError, AttributeError):  # only Linux has it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGCONT))


def _signal_session(session: int, number: signal.Signals) -> None:
    """Send a signal to the processes of a session, but for this one."""
    for process in _members(session):
        with contextlib.suppress(OSError):
            os.kill(process, number)


def _members(session: int) -> list[int]:
    """Return the processes of a session, zombies excluded, as far as the system lists them."""
    members = []
    for folder in Path("/proc").glob("[0-9]*"):
        process = int(folder.name)
        with contextlib.suppress(OSError):
            if process != os.getpid() and os.getsid(process) == session and _is_alive(folder):
                members.append(process)
    return members


def _is_alive(folder: Path) -> bool:
    state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
    return state not in ("Z", "X")
