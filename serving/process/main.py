"""The life of a server process, from its flags to its exit code.

Owns what only a process has: logging, signals, and an end that waits for no thread for long. The process answers
itself, or supervises workers that do.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time

from estimator_serving.serving import config as configuration
from estimator_serving.serving.config import Config, ConfigError
from estimator_serving.serving.models import memory
from estimator_serving.serving.process import garbage
from estimator_serving.serving.process.ports import reserve
from estimator_serving.serving.process.signals import Signals
from estimator_serving.serving.process.supervisor import Supervisor
from estimator_serving.serving.server import Server
from estimator_serving.serving.startup import StartError

_log = logging.getLogger(__name__)

# How long the end waits for threads that are ending.
THREADS_END_S = 1.0
# Threads that do nothing but wait when nothing is loaded or run, and which Python ends by itself.
_IDLE = frozenset({"watchdog", "memory"})


def main(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; a second one ends at once; SIGHUP polls for changes now. Returns the exit code."""
    memory.limit_arenas(configuration.cpus())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signals = Signals()
    if unused := config.unused():
        _log.warning("These flags have no effect here: %s.", ", ".join(unused))
    has_failed = False

    def fail() -> None:
        nonlocal has_failed
        has_failed = True
        signals.stop()

    try:
        server: Server | Supervisor
        if config.worker_processes:
            named, held = reserve(config)
            server = Supervisor(named, held, fail)
        else:
            server = Server(config)
            garbage.settle()
    except StartError as error:
        print(error, file=sys.stderr)
        return 1

    def start() -> None:
        try:
            server.start()
        except StartError as error:
            print(error, file=sys.stderr)
            fail()
        except Exception as error:
            _log.critical("The server cannot start.", exc_info=error)
            fail()

    # In a thread, because a signal has to be heard while models load.
    threading.Thread(target=start, name="start", daemon=True).start()
    signals.wait(server.poll)
    _log.info("Stopping: finishing requests in flight.")
    ended = server.stop()
    end_s = time.monotonic() + THREADS_END_S
    others = [one for one in threading.enumerate() if one is not threading.main_thread() and one.name not in _IDLE]
    for thread in others:
        thread.join(max(end_s - time.monotonic(), 0))
    if not ended or any(thread.is_alive() for thread in others):
        # Python would wait for a thread that is in a load or a run, which nothing interrupts, and for those of a pool.
        _log.warning("A load or a run is still going on; it is given up.")
        logging.shutdown()
        os._exit(int(has_failed))
    return int(has_failed)


if __name__ == "__main__":
    try:
        chosen = configuration.parse(sys.argv[1:], os.environ)
    except ConfigError as refused:
        sys.exit(str(refused))
    sys.exit(main(chosen))
