"""Receivers: what a servable takes in, up to the features a network sees. Knows no network and no signature."""

from estimator_serving.exporter.receivers.padding import (
    Padded,
)
from estimator_serving.exporter.receivers.receivers import (
    ReceiverTensor,
    ServingInputReceiver,
    SupervisedInputReceiver,
    TensorServingInputReceiver,
    build_parsing_serving_input_receiver_fn,
    build_raw_serving_input_receiver_fn,
    build_raw_supervised_input_receiver_fn,
    parse_example,
    placeholder,
)

__all__ = [
    "Padded",
    "ReceiverTensor",
    "ServingInputReceiver",
    "SupervisedInputReceiver",
    "TensorServingInputReceiver",
    "build_parsing_serving_input_receiver_fn",
    "build_raw_serving_input_receiver_fn",
    "build_raw_supervised_input_receiver_fn",
    "parse_example",
    "placeholder",
]
