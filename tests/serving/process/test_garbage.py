"""What the collector spares in a server's process, and what it does not."""

from __future__ import annotations

import gc
import subprocess
import sys

from estimator_serving import serving
from estimator_serving.serving.process import garbage

# In a process of its own, because what is frozen stays so.
SETTLED = """
import gc, weakref
from estimator_serving.serving.process.garbage import settle

class Loaded:
    def __init__(self):
        self.itself = self

settle()
frozen, later = gc.get_freeze_count(), weakref.ref(Loaded())
gc.collect()
print(frozen > 1000, gc.get_freeze_count() == frozen, later() is None, gc.get_threshold()[0])
"""


def test_what_is_loaded_later_is_still_collected():
    done = subprocess.run([sys.executable, "-c", SETTLED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True", str(garbage.YOUNG_OBJECTS)]


def test_a_user_s_process_is_left_alone(base_path, write_model):
    frozen, threshold = gc.get_freeze_count(), gc.get_threshold()
    write_model(1)
    serving.load(base_path)
    assert gc.get_freeze_count() <= frozen
    assert gc.get_threshold() == threshold
