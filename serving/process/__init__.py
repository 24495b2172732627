"""The server as a process: signals, exit codes, and its end.

Owns what the libraries of such a process read from the environment; it is set here, because they read it when they are
imported.
"""

import os

# grpc's core (tried with 1.81.1) then reads a connection on the thread that takes its calls, instead of waking two
# threads of an event engine for each of them, which costs an eighth to a quarter of a call (docs/decisions/0023). What
# an operator chose stays.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")
