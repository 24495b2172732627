"""The process that forks the others: small, with one thread, and with everything imported that they need.

Owns the forks and the exit codes. A process that has threads must not fork, because a lock that another thread holds
would stay locked in the child; so the supervisor, which has threads, asks this one. A fork takes milliseconds where a
new start takes the time of all imports, and it shares the memory of what was imported.

    nursery = Nursery({"worker": run_worker})        # before any thread is started
    child = nursery.start("worker", 3)               # run_worker(end of the child's channel, 3), in a child
    child.end, child.exit_code()                     # the other end of its channel; the code, once it has ended
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import select
import signal
import socket
import struct
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple, NoReturn

_log = logging.getLogger(__name__)

_REQUEST_BYTES_MAX = 65536
_EXIT = struct.Struct("!qq")

# What a child runs: the end of its channel, and what it was started with. Returns the exit code.
Role = Callable[[socket.socket, Any], int]


class Child(NamedTuple):
    """A process that was started. ended: its exit code, minus the signal that ended it."""

    pid: int
    end: socket.socket
    ended: Future[int]


class Nursery:
    """The supervisor's side. To be made while this process has no other thread.

    lost: called if the nursery itself ends.
    """

    def __init__(self, roles: Mapping[str, Role], lost: Callable[[], None] = lambda: None) -> None:
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._exits, exits = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._asking, self._noting = threading.Lock(), threading.Lock()
        self._lost = lost
        self._ended: dict[int, Future[int]] = {}
        # So that no collection touches, and by that copies, what the children share.
        gc.collect()
        gc.freeze()
        if not _fork():
            self._control.close()
            self._exits.close()
            _run(roles, control, exits)
        control.close()
        exits.close()

    def watch(self) -> None:
        """Follow the ends of children, in a thread."""
        threading.Thread(target=self._follow, name="nursery", daemon=True).start()

    def close(self) -> None:
        """Start no more children."""
        self._lost = lambda: None
        self._control.close()

    def start(self, role: str, argument: Any) -> Child:
        """Fork a child. Raises OSError where that cannot be."""
        with self._asking:
            self._control.send(json.dumps([role, argument]).encode())
            answer, descriptors, _, _ = socket.recv_fds(self._control, _REQUEST_BYTES_MAX, 1)
        if not descriptors:
            raise OSError(answer.decode() or "the process that starts the others has ended")
        return Child(int(answer), socket.socket(fileno=descriptors[0]), self._end_of(int(answer)))

    def _end_of(self, pid: int) -> Future[int]:
        """Asked twice for each child, when its start is told and when its end is; either may be first."""
        with self._noting:
            return self._ended.pop(pid, None) or self._ended.setdefault(pid, Future())

    def _follow(self) -> None:
        while told := self._exits.recv(_EXIT.size):
            pid, code = _EXIT.unpack(told)
            self._end_of(pid).set_result(code)
        with self._noting:
            # Nobody will tell how the others end.
            for ended in self._ended.values():
                ended.set_result(-signal.SIGKILL)
        self._lost()


def _fork() -> int:
    with warnings.catch_warnings():
        # Python 3.12 warns of the threads of numpy's library, which takes care of forks itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _run(roles: Mapping[str, Role], control: socket.socket, exits: socket.socket) -> NoReturn:
    """The nursery's own process: fork on request, tell of ends, until the supervisor is gone."""
    # A signal that is meant for the supervisor may reach the whole group of processes.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    woken, waking = socket.socketpair()
    for one in (woken, waking):
        one.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
    with contextlib.suppress(OSError):
        while True:
            ready, _, _ = select.select([control, woken], [], [])
            if woken in ready:
                woken.recv(_REQUEST_BYTES_MAX)
                _tell_ends(exits)
            if control in ready:
                request = control.recv(_REQUEST_BYTES_MAX)
                if not request:
                    break
                role, argument = json.loads(request)
                ours, theirs = socket.socketpair()
                try:
                    pid = _fork()
                except OSError as error:
                    control.send((error.strerror or "no process can be made").encode())
                    continue
                if not pid:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for one in (control, exits, woken, waking, ours):
                        one.close()
                    _live(roles[role], theirs, argument)
                theirs.close()
                socket.send_fds(control, [b"%d" % pid], [ours.fileno()])
                ours.close()
    os._exit(0)


def _tell_ends(exits: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            exits.send(_EXIT.pack(ended[0], os.waitstatus_to_exitcode(ended[1])))


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
