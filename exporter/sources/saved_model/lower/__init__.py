"""What TensorFlow's ops become, one file a subject; importing this registers them all."""

from estimator_serving.exporter.sources.saved_model.lower import (
    arrays,
    choosing,
    control,
    image,
    lookup,
    math,
    parsing,
    ragged,
    reductions,
    segments,
    sparse,
    strings,
    trees,
)

__all__ = [
    "arrays",
    "choosing",
    "control",
    "image",
    "lookup",
    "math",
    "parsing",
    "ragged",
    "reductions",
    "segments",
    "sparse",
    "strings",
    "trees",
]
