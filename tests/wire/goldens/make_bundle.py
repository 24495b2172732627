"""Writes bundle.index and bundle.data-00000-of-00001 beside itself with TensorFlow 2.15's SaveV2.

path/to/python/with/tensorflow tests/wire/goldens/make_bundle.py
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

FOLDER = Path(__file__).parent
# A table cut in both directions, with numbers of one, two and three bytes in the slices' keys.
TABLE = (np.arange(2 * 8400) % 7 == 0).reshape(2, 8400)
CUTS = {
    "2 8400 0,1:0,8300": np.s_[:1, :8300],
    "2 8400 0,1:8300,100": np.s_[:1, 8300:],
    "2 8400 1,1:0,8300": np.s_[1:, :8300],
    "2 8400 1,1:8300,100": np.s_[1:, 8300:],
}


def main():
    tensors = {
        "bfloat16": tf.cast([[1.5, -2.5]], tf.bfloat16),
        "bool": tf.constant([True, False]),
        "complex64": tf.constant([1 + 2j], tf.complex64),
        "double": tf.constant(np.pi, tf.float64),
        "half": tf.constant([0.5, 65504], tf.float16),
        "int8": tf.constant([[-3]], tf.int8),
        "nothing": tf.zeros([0, 4]),
        "strings": tf.constant([[b"", b"a" * 300], [b"\xff\x00z", "Zürich".encode()]]),
        "uint64": tf.constant([2**63], tf.uint64),
    }
    names = [*tensors, *["table"] * len(CUTS)]
    values = [*tensors.values(), *(tf.constant(TABLE[cut]) for cut in CUTS.values())]
    specs = [*[""] * len(tensors), *CUTS]
    tf.raw_ops.SaveV2(prefix=str(FOLDER / "bundle"), tensor_names=names, shape_and_slices=specs, tensors=values)


if __name__ == "__main__":
    main()
