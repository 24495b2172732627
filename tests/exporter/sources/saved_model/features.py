"""Features of serialized Examples as sources of small graphs: what sparse ops are tested with.

`feature` gives the three tensors of a sparse feature, `looked_up` what TensorFlow's embedding lookups do with them.
"""

from typing import Any, NamedTuple

import numpy as np
from lowered import Const, Fed, Op, Shape, Type

from estimator_serving.wire.pb import tensorflow_pb


class Sparse(NamedTuple):
    """Indices, values and dense shape."""

    indices: Any
    values: Any
    shape: Any


def example(**features):
    """A serialized Example: a list of ints, floats or bytes by key; None leaves the kind of list open."""
    made = tensorflow_pb.Example()
    for key, values in features.items():
        kind = {int: "int64_list", float: "float_list", bytes: "bytes_list"}[type(values[0])] if values else None
        if kind:
            getattr(made.features.feature[key], kind).value.extend(values)
    return made.SerializeToString()


def examples(**columns):
    """Serialized Examples of features by key, each with a list for every row."""
    rows = [example(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
    made = np.empty(len(rows), object)
    made[:] = rows
    return made


def parse(serialized, sparse, dense=None):
    """ParseExampleV2: dtypes of sparse features by key, (dtype, shape, default) of dense ones."""
    dense = dense or {}
    keys = [Const(np.array([key.encode() for key in keys], object)) for keys in (sparse, dense, ())]
    defaults = [Const(default) for _, _, default in dense.values()]
    attributes = {
        "num_sparse": len(sparse),
        "sparse_types": [Type(one) for one in sparse.values()],
        "ragged_value_types": [],
        "ragged_split_types": [],
        "Tdense": [Type(one) for one, _, _ in dense.values()],
        "dense_shapes": [Shape(one) for _, one, _ in dense.values()],
    }
    fed = serialized if isinstance(serialized, Fed) else Fed(serialized, (None,))
    return Op("ParseExampleV2", [fed, Const(np.array([], object)), *keys, *defaults], attributes)


def feature(rows, dtype="int64"):
    """The sparse feature of these lists of values."""
    return features(ids=(rows, dtype))[0]


def features(**columns):
    """The sparse features of one batch: rows and dtype by key."""
    parsed = parse(
        examples(**{key: rows for key, (rows, _) in columns.items()}), {k: t for k, (_, t) in columns.items()}
    )
    count = len(columns)
    return [Sparse(*(parsed.at(part * count + index) for part in range(3))) for index in range(count)]


def column(indices, index):
    """One column of indices: `indices[:, index]`."""
    begin, end = (Const(np.array([0, place], np.int32)) for place in (index, index + 1))
    masks = {"begin_mask": 1, "end_mask": 1, "shrink_axis_mask": 2}
    return Op("StridedSlice", [indices, begin, end, Const(np.ones(2, np.int32))], masks)


def rows_of(sparse):
    """The row number of each value, int32."""
    return Op("Cast", [column(sparse.indices, 0)], {"SrcT": Type("int64"), "DstT": Type("int32")})


def gather(table, ids):
    return Op("GatherV2", [table, ids, Const(np.int32(0))])


def filled(sparse, default):
    """A sparse feature with `default` in its empty rows, and which rows these are."""
    made = Op("SparseFillEmptyRows", [*sparse, Const(default)])
    return Sparse(made.at(0), made.at(1), sparse.shape), made.at(2)


def looked_up(table, ids, combiner):
    """The rows of a table for the ids of each row, combined; the table is an array or a source."""
    unique = Op("Unique", [ids.values], {"out_idx": Type("int32")})
    rows = gather(Const(table) if isinstance(table, np.ndarray) else table, unique.at(0))
    op = {"sum": "SparseSegmentSum", "mean": "SparseSegmentMean", "sqrtn": "SparseSegmentSqrtN"}[combiner]
    return Op(op, [rows, unique.at(1), rows_of(ids)])
