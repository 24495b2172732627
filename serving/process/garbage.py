"""How often Python looks for garbage in a server's process.

Owns the settings of the collector. What a server imports and is made of stays until the process ends: 54,000 objects,
and a full collection that looks at all of them stops every request for 30 to 45 ms. So they are frozen, and a full
collection takes 0.3 ms. Versions are loaded later, and are never frozen: an object in a cycle would stay for ever.

Requests that are answered side by side have a few hundred objects each. At Python's bound of 700 new objects, a server
that batches would look for garbage at every seventieth request, and find none.
"""

from __future__ import annotations

import gc

# How many more objects are made than freed before the youngest ones are looked at.
YOUNG_OBJECTS = 10_000


def settle() -> None:
    """Spare what there is. To be called when the server is made, before it loads versions.

    Without a collection, which would take longer than what it finds is worth: about a hundred objects after imports.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
