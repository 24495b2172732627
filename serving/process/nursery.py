"""The processes that fork the others: small, with one thread, and with everything imported that is needed.

Owns the forks and the exit codes. A process that has threads must not fork, because a lock that another thread holds
would stay locked in the child; so the supervisor, which has threads, asks a process that has none: a forker. A fork
takes milliseconds where a new start takes the time of all imports, and it shares the memory of what was imported.

There are two forkers, so that one may be killed. The first one forks the second one, and whichever is left forks the
next:

    supervisor ── first ─┬─ workers            supervisor ─┬─ workers
                         └─ second    ──▶                  └─ second ─┬─ workers to come
                                                                      └─ third

The supervisor is a subreaper: children of a forker that was killed become its own, run on, and are waited for here.

    nursery = Nursery({"worker": run_worker})        # before any thread is started
    nursery.watch()
    child = nursery.start("worker", 3)               # run_worker(end of the child's channel, 3), in a child
    child.end, child.ended.result()                  # the other end of its channel; the code, once it has ended
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple, NoReturn

_log = logging.getLogger(__name__)

# The role of a process that forks others. Its channel is the link: requests go down, what became of them comes up.
_FORKER = "forker"
_MESSAGE_BYTES_MAX = 65536
# How long it takes until a second forker is asked for again, where none can be made.
_PAUSE_S = 5.0
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

# What a child runs: the end of its channel, and what it was started with. Returns the exit code.
Role = Callable[[socket.socket, Any], int]


class Child(NamedTuple):
    """A process that was started. ended: its exit code, minus the signal that ended it."""

    pid: int
    end: socket.socket
    ended: Future[int]


class Nursery:
    """The supervisor's side. To be made while this process has no other thread.

    lost: called if all forkers have ended.
    """

    def __init__(self, roles: Mapping[str, Role], lost: Callable[[], None] = lambda: None) -> None:
        self._lost = lost
        self._asking = threading.Lock()
        self._is_closed = False
        known = dict(roles)
        known[_FORKER] = partial(_run, known)
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        ours, theirs = _channel(_FORKER)
        # So that no collection touches, and by that copies, what the children share.
        gc.collect()
        gc.freeze()
        pid = _fork()
        if not pid:
            ours.close()
            _live(known[_FORKER], theirs, None)
        theirs.close()
        self._forkers = [_Forker(Child(pid, ours, Future()))]

    def watch(self) -> None:
        """Follow what the forkers do, in threads."""
        (first,) = self._forkers
        _in_thread(_await, first.child.pid, first.child.ended)
        _in_thread(self._follow, first)
        _in_thread(self._fork_second)

    def close(self) -> None:
        """Start no more children."""
        self._is_closed = True
        for forker in list(self._forkers):
            forker.close()

    def start(self, role: str, argument: Any) -> Child:
        """Fork a child. Raises OSError where that cannot be."""
        with self._asking:
            for forker in self._forkers:
                child = forker.start(role, argument)
                if child is not None:
                    return child
        raise OSError("the processes that fork the others have ended")

    def _follow(self, forker: _Forker) -> None:
        """Follow a forker to its end, and replace it then."""
        forker.follow()
        with self._asking:
            if self._is_closed:
                return
            self._forkers.remove(forker)
            are_left = bool(self._forkers)
        code = forker.child.ended.result()
        # By now its children are this process's own.
        for pid, ended in forker.children.items():
            _in_thread(_await, pid, ended)
        if are_left:
            _log.warning("A process that forks the others ended (%s); another one takes its place.", how(code))
            self._fork_second()
        else:
            _log.critical(
                "The processes that fork the others have ended, so no worker could be replaced any more: the server "
                "finishes its requests and ends. Start it again."
            )
            self._lost()

    def _fork_second(self) -> None:
        """Have a second forker, as long as there is one to ask for it."""
        while True:
            try:
                second = _Forker(self.start(_FORKER, None))
                break
            except OSError as error:
                if self._is_closed or not self._forkers:
                    return
                _log.error("No second process that forks others can be started (%s); it is tried again.", error)
                time.sleep(_PAUSE_S)
        with self._asking:
            self._forkers.append(second)
        if self._is_closed:
            second.close()
        _in_thread(self._follow, second)


class _Forker:
    """A process that forks, as the supervisor sees it.

    Attributes:
        children: of those that it forked and whose end it did not tell, the exit codes to come, by process id.
    """

    def __init__(self, child: Child) -> None:
        self.child = child
        self.children: dict[int, Future[int]] = {}
        self._answers: SimpleQueue[Child | OSError | None] = SimpleQueue()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # it may have ended
            self.child.end.shutdown(socket.SHUT_RDWR)

    def start(self, role: str, argument: Any) -> Child | None:
        """Ask for a child; one question at a time. None if this process has ended. Raises OSError as a fork does."""
        with contextlib.suppress(OSError):  # of which `follow` is told, too
            self.child.end.send(json.dumps([role, argument]).encode())
        answer = self._answers.get()
        if isinstance(answer, OSError):
            raise answer
        if answer is None:
            self._answers.put(None)  # for whoever asks next
        return answer

    def follow(self) -> None:
        """Note what the process tells, until it has ended."""
        while message := self._receive():
            (kind, *content), descriptors = message
            if kind == "ended":
                pid, code = content
                self.children.pop(pid).set_result(code)
            elif kind == "forked":
                child = Child(content[0], socket.socket(fileno=descriptors[0]), Future())
                self.children[child.pid] = child.ended
                self._answers.put(child)
            else:
                self._answers.put(OSError(*content))
        self._answers.put(None)
        self.child.end.close()

    def _receive(self) -> tuple[list[Any], list[int]] | None:
        with contextlib.suppress(ConnectionError):
            told, descriptors, _, _ = socket.recv_fds(self.child.end, _MESSAGE_BYTES_MAX, 1)
            if told:
                return json.loads(told), descriptors
        return None


def how(code: int) -> str:
    """How a process ended, in words."""
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"


def _in_thread(target: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=target, args=arguments, name="nursery", daemon=True).start()


def _await(pid: int, ended: Future[int]) -> None:
    """Wait for a child of this process."""
    try:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        # It ended before the forker that it had, which did not come to telling how.
        code = -signal.SIGKILL
    ended.set_result(code)


def _channel(role: str) -> tuple[socket.socket, socket.socket]:
    """The two ends of a child's channel. A forker's keeps messages apart, which have descriptors with them."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET if role == _FORKER else socket.SOCK_STREAM)


def _fork() -> int:
    with warnings.catch_warnings():
        # Python 3.12 warns of the threads of numpy's library, which takes care of forks itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _run(roles: Mapping[str, Role], link: socket.socket, _argument: Any) -> int:
    """The life of a forker: fork on request, tell of ends, until the supervisor is gone."""
    # A signal that is meant for the supervisor may reach the whole group of processes.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    woken, waking = socket.socketpair()
    for one in (woken, waking):
        one.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
    with link, woken, waking, contextlib.suppress(OSError):
        while True:
            ready, _, _ = select.select([link, woken], [], [])
            if woken in ready:
                woken.recv(_MESSAGE_BYTES_MAX)
                _tell_ends(link)
            if link in ready:
                request = link.recv(_MESSAGE_BYTES_MAX)
                if not request:
                    break
                role, argument = json.loads(request)
                ours, theirs = _channel(role)
                with ours, theirs:
                    try:
                        pid = _fork()
                    except OSError as error:
                        link.send(json.dumps(["refused", error.errno, error.strerror]).encode())
                        continue
                    if not pid:
                        signal.set_wakeup_fd(-1)
                        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                        for one in (link, woken, waking, ours):
                            one.close()
                        _live(roles[role], theirs, argument)
                    socket.send_fds(link, [json.dumps(["forked", pid]).encode()], [ours.fileno()])
    return 0


def _tell_ends(link: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            link.send(json.dumps(["ended", ended[0], os.waitstatus_to_exitcode(ended[1])]).encode())


def _live(role: Role, end: socket.socket, argument: Any) -> NoReturn:
    """A child, from its fork to its end."""
    code = 1
    try:
        code = role(end, argument)
    except BaseException:
        _log.critical("A process of the server ended with an error.", exc_info=True)
    finally:
        logging.shutdown()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)
