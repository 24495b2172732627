"""Signals that reach a thread which is not the main one. What a whole server does with them is in test_shutdown."""

import subprocess
import sys

# Sends the server's own process signals as the system sometimes does: to a thread that is not the main one.
SIGNAL_A_THREAD = """
import signal, threading, time
from estimator_serving.serving.process.signals import Signals
signals, polled = Signals(), threading.Event()
def send():
    signal.pthread_kill(threading.get_ident(), signal.SIGHUP)
    polled.wait(20)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
threading.Timer(0.2, send).start()
signals.wait(polled.set)
print(polled.is_set(), signals.stop_wanted)
"""


def test_a_signal_that_another_thread_gets():
    """It wakes the main thread all the same, which alone may act on it."""
    done = subprocess.run([sys.executable, "-c", SIGNAL_A_THREAD], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.stdout == "True True\n"
