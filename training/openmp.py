"""How torch's threads wait for each other. It is imported before torch, which reads the setting when it is loaded.

By default a thread of OpenMP that waits keeps its core busy. Where another program needs that core, it takes the time
from the very thread that it waits for: on two cores beside three busy programs, a step of a small network took 280 ms,
and 6 ms with threads that sleep. A value of OMP_WAIT_POLICY that is already set stays.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
