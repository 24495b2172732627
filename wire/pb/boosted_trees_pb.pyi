# Made by tools/compile_protos.py from proto/.
from collections.abc import Iterable, Mapping

from google.protobuf import any_pb2, wrappers_pb2
from google.protobuf.internal import containers, enum_type_wrapper
from google.protobuf.message import Message

from estimator_serving.wire.pb import tensorflow_pb

class Node(Message):
    @property
    def leaf(self) -> Leaf: ...
    @property
    def bucketized_split(self) -> BucketizedSplit: ...
    @property
    def categorical_split(self) -> CategoricalSplit: ...
    def __init__(self, *, leaf: Leaf | None = ..., bucketized_split: BucketizedSplit | None = ..., categorical_split: CategoricalSplit | None = ...) -> None: ...

class Leaf(Message):
    @property
    def vector(self) -> Vector: ...
    scalar: float
    def __init__(self, *, vector: Vector | None = ..., scalar: float | None = ...) -> None: ...

class Vector(Message):
    @property
    def value(self) -> containers.RepeatedScalarFieldContainer[float]: ...
    def __init__(self, *, value: Iterable[float] | None = ...) -> None: ...

class BucketizedSplit(Message):
    feature_id: int
    threshold: int
    left_id: int
    right_id: int
    dimension_id: int
    def __init__(self, *, feature_id: int | None = ..., threshold: int | None = ..., left_id: int | None = ..., right_id: int | None = ..., dimension_id: int | None = ...) -> None: ...

class CategoricalSplit(Message):
    feature_id: int
    value: int
    left_id: int
    right_id: int
    dimension_id: int
    def __init__(self, *, feature_id: int | None = ..., value: int | None = ..., left_id: int | None = ..., right_id: int | None = ..., dimension_id: int | None = ...) -> None: ...

class Tree(Message):
    @property
    def nodes(self) -> containers.RepeatedCompositeFieldContainer[Node]: ...
    def __init__(self, *, nodes: Iterable[Node] | None = ...) -> None: ...

class TreeEnsemble(Message):
    @property
    def trees(self) -> containers.RepeatedCompositeFieldContainer[Tree]: ...
    @property
    def tree_weights(self) -> containers.RepeatedScalarFieldContainer[float]: ...
    def __init__(self, *, trees: Iterable[Tree] | None = ..., tree_weights: Iterable[float] | None = ...) -> None: ...
