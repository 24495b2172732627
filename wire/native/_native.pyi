"""What the C++ of this folder gives Python."""

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What has bytes in one piece.
Buffer = bytes | bytearray | memoryview | NDArray[Any]

# A tensor of nothing but numbers: its shape, whether all numbers are integers, and the numbers, int64 if they are, else
# float64.
Tensor = tuple[tuple[int, ...], bool, bytes]

# A TensorProto: the number of its dtype, its shape, and its values: as they lie in memory; or where in the message they
# begin, if they are many and lie there as in memory, aligned or not; or a list of strings.
TensorParts = tuple[int, tuple[int, ...], bytes | int | list[bytes]]

class Rows:
    """A list of JSON objects, kept by the compiled module."""

class HttpReader:
    """What of a request's headers is wanted, kept by the compiled module."""

class RequestCounts:
    """What requests of one kind took, kept by the compiled module."""

class ExampleWriter:
    """The features of a tf.Example, kept by the compiled module."""

def http_reader(*wanted: bytes) -> HttpReader:
    """What reads plain requests. wanted: names of headers in lower case."""

def read_request(
    reader: HttpReader, data: bytes, head_max: int, body_max: int
) -> tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...]] | None:
    """The path without query, the body and the wanted headers of a POST by HTTP/1.1.

    None unless `data` is exactly one whole request, of at most so many bytes, whose head has one Host, the body's
    length, and nothing that changes how a request is read or what follows its answer.
    """

def read_body(body: bytes) -> tuple[str, str | None, Tensor | dict[str, Tensor] | Rows] | None:
    """What a JSON body {"instances": …} or {"inputs": …} holds, with or without a "signature_name".

    Gives the key, the signature's name (None if the body has none), and the content: a tensor; under inputs also named
    tensors; under instances also rows of numbers, texts, and flat lists of either. None for every other text, for
    empty or uneven lists of a tensor, for numbers that int64 or float64 does not hold, for a key that an object has
    twice, and for strings with escapes or other characters than ASCII.
    """

def read_columns(rows: Rows) -> dict[str, Tensor] | None:
    """Rows as one tensor for each key, of shape [rows] or [rows, n].

    None for rows that differ in their keys or in the lengths of their lists, and for rows with text or an empty list.
    """

def example_writer(features: dict[str, str]) -> ExampleWriter:
    """What writes tf.Examples of these features; f, i and s stand for float, int64 and bytes.

    Raises TypeError or ValueError for anything else.
    """

def write_examples(writer: ExampleWriter, rows: Rows) -> list[bytes] | None:
    """One serialized tf.Example for each row, its features in the order of their keys.

    An integer is taken for a float. None where a key is no feature's, or a value has not its feature's type.
    """

def write_array(array: NDArray[Any]) -> bytes | None:
    """The JSON text of an array: nested lists of numbers.

    A float32 gets 6 significant digits if these give it back, else 9; a float64 the fewest that give it back. None for
    a value that is not finite, an array with gaps, and a dtype other than bool, the integers, float32 and float64.
    """

def write_rows(keys: tuple[bytes, ...], columns: tuple[NDArray[Any] | list[bytes], ...]) -> bytes | None:
    """The JSON text of a list of objects, one for each row of columns that have the same number of rows.

    keys: `"NAME":` of each column, as it is to be printed. columns: an array whose first dimension is the rows, or the
    text of each row. None as for `write_array`, and for an array without dimensions. Raises ValueError for columns of
    different lengths.
    """

# What `predict_plain` runs: session.run, the names of the graph's outputs and of its inputs, `"NAME":` of each output
# as it is to be printed, numpy's ndarray and the inputs' dtypes, of which this module knows nothing; and what writes
# the Examples of a graph that takes those by two inputs, their bytes and splits, or None for one that takes floats.
PlainRun = tuple[
    Callable[..., list[NDArray[Any]]],
    list[str],
    tuple[str, ...],
    tuple[bytes, ...],
    type[NDArray[Any]],
    tuple[np.dtype[Any], ...],
    ExampleWriter | None,
]

def predict_plain(run: PlainRun, body: bytes) -> tuple[bytes, int, float, float] | None:
    """The answer to a JSON body of real numbers or of feature dictionaries: reads it, runs a graph, prints its outputs.

    Gives the answer, its rows, and the seconds before and in the run. None for what `read_body` gives no tensor of
    reals or no rows of, rows that `write_examples` gives None for, a body with a "signature_name", and outputs that
    `write_array` and `write_rows` give None for, or that are no rows under instances. Raises what the run raises.
    """

def read_inference(
    body: bytes,
) -> tuple[str, tuple[tuple[str, str, tuple[int, ...], str, bytes | list[bytes]], ...], tuple[str, ...]] | None:
    """The id ("" for none), the inputs and the outputs' names of an Open Inference request as JSON.

    An input is its name, datatype, shape, numpy's letter of its values' type (q where all are integers, d for other
    numbers, ? for booleans, O for texts), and the values as they lie in memory, or a list of bytes for texts. None for
    every other text: parameters, other members, data that does not fit its shape, what `read_body` gives up on.
    """

# What `infer_plain` runs: session.run, the graph's names of the outputs and of the input, numpy's ndarray, the input's
# dtype and name, its shape (-1 for any length, None for any shape); what an answer has from the model's name up to the
# first output, the names of the outputs, and of each what stands before its shape.
InferRun = tuple[
    Callable[..., list[NDArray[Any]]],
    list[str],
    str,
    type[NDArray[Any]],
    np.dtype[Any],
    bytes,
    tuple[int, ...] | None,
    bytes,
    tuple[bytes, ...],
    tuple[bytes, ...],
]

def infer_plain(run: InferRun, body: bytes) -> tuple[bytes, int, float, float] | None:
    """The answer to an Open Inference request of one FP32 input as JSON: reads it, runs a graph, prints its outputs.

    Gives what `predict_plain` gives. Floats get the fewest digits that give them back, as orjson prints numpy's arrays.
    None for what `read_inference` gives None for, another input or output than the run's, numbers that float32 does not
    hold, and outputs that `write_array` gives None for. Raises what the run raises.
    """

def narrow_floats(values: bytes) -> bytes:
    """float64 as float32; what is too large becomes an infinity, without a warning."""

def read_predict_request(
    message: bytes,
) -> tuple[str, int | None, str | None, str | None, tuple[str, ...], dict[str, TensorParts]] | None:
    """The model's name, version, label and signature, the output filter and the inputs of a PredictRequest.

    None for unknown fields, a field that comes twice, a tensor that is empty or has more or fewer values than its shape
    says, other dtypes than bool, the integers but for uint16, float32, float64 and string, and names beyond ASCII.
    """

def read_examples_request(
    message: bytes,
) -> tuple[str, int | None, str | None, str | None, list[bytes]] | None:
    """The model's name, version, label and signature, and the Examples of a ClassificationRequest or RegressionRequest.

    None for unknown fields, a field that comes twice, Examples with a context, no Examples, and names beyond ASCII.
    """

def join_rows(rows: list[bytes] | NDArray[Any]) -> tuple[bytes, bytes] | None:
    """Rows of bytes, one after the other, with int64 splits. None unless all rows are bytes, in a list or an array of
    objects without gaps."""

def write_classifications(labels: NDArray[Any], scores: NDArray[Any]) -> bytes | None:
    """A ClassificationResult. None unless these are str and float32, [rows, classes], at least one class, no gaps."""

def write_predict_response(
    start: bytes, aliases: tuple[bytes, ...], tensors: tuple[NDArray[Any] | bytes, ...], as_content: bool
) -> bytes | None:
    """A PredictResponse: `start`, and an entry of its outputs for each tensor.

    tensors: arrays of WRITABLE dtypes, or TensorProtos that are serialized already. as_content: values in
    tensor_content instead of their typed field. None for an array with gaps or of another dtype.
    """

# Rows of bytes: all bytes one after the other, and int64 splits; row i lies in [splits[i], splits[i + 1]).
RaggedRows = tuple[bytes, bytes]

class RowMixer:
    """A buffer that makes the order of rows random, kept by the compiled module."""

def crc32c(data: Buffer, by_table: bool = False) -> int:
    """The CRC32C of the bytes; `by_table` without the processor's own instruction for it."""

def read_frames(piece: Buffer) -> tuple[RaggedRows, int, int, int]:
    """The whole records at the start of a piece of a TFRecord file, with their checksums compared.

    Gives the records, the bytes they take with their frames, the bytes that the record behind them takes as far as they
    are known (0 if the piece ends with a record), and what is wrong with it: 0 nothing, 1 the checksum of its length, 2
    the checksum of its data.
    """

# An ONNX model: its ir_version, whether it has a graph, whether it has an operator that must not run on nothing; pairs
# of the operator sets' domains and versions, and of its metadata; of each tensor whose values lie in another file its
# name, location, offset and length; of each input and output of the graph that is no tensor its name, whether it is an
# input, the field of TypeProto's choice, and of a sequence that of its elements, else 0; texts in attributes and
# tensors.
OnnxContent = tuple[
    int,
    bool,
    bool,
    tuple[tuple[str, int], ...],
    tuple[tuple[str, str], ...],
    tuple[tuple[str, str, str, str], ...],
    tuple[tuple[str, bool, int, int], ...],
    list[bytes],
]

def read_onnx(file: bytes | mmap.mmap) -> tuple[int, int, OnnxContent | None]:
    """What is wrong with a serialized ModelProto and at which byte, and what it says about itself if nothing is.

    Wrong is: 0 nothing, 1 no field begins at the byte, 2 the file or a message ends inside the field at the byte, 3 it
    ends inside the number at the byte, 4 more than 100 messages lie inside each other. Tensors are found wherever they
    hide: initializers, constants, subgraphs, functions, sparse tensors. Of the texts, the first 1,000 are given. Bytes
    that are not UTF-8 are replaced in str.
    """

def row_mixer(capacity: int, seed: int) -> RowMixer:
    """A buffer of `capacity` rows; the same seed gives the same order. Raises ValueError for a capacity below 1."""

def mix_rows(mixer: RowMixer, values: Buffer, row_splits: Buffer) -> RaggedRows:
    """Puts the rows into the buffer, and gives one that was held for each that found it full.

    Raises ValueError for row splits that fall or lie outside the bytes.
    """

def drain_rows(mixer: RowMixer) -> RaggedRows:
    """Empties the buffer: the rows held, in random order."""

def take_rows(values: Buffer, row_splits: Buffer, order: Buffer) -> RaggedRows:
    """The rows with these numbers (int64), in their order. Raises IndexError for a number without a row."""

def request_counts(times_us: tuple[float, ...], sizes: tuple[float, ...]) -> RequestCounts:
    """No requests yet. The arguments are the histograms' bounds, rising: of times in microseconds, and of sizes."""

def count_request(
    counts: dict[Any, RequestCounts],
    key: Any,
    elapsed_s: float,
    read_s: float,
    run_s: float,
    rows: int,
    examples: int,
    /,
) -> bool:
    """Count one request under a key; False if the dict has no such key. Nothing else runs in Python meanwhile.

    Times are in seconds: of the whole request, before the model, and in it. No examples (0) are not counted as a size.
    """

def merge_counts(into: RequestCounts, other: RequestCounts) -> None:
    """Add counts to others. Raises ValueError for other bounds."""

def read_counts(
    counts: RequestCounts,
) -> tuple[float, int, float, tuple[list[int], float], tuple[list[int], float], tuple[list[int], float]]:
    """Microseconds before the model, rows, when the last request was counted (seconds since the epoch, 0 if there was
    none), and three histograms, each as its buckets and its sum: microseconds of whole requests, microseconds in the
    model, and Examples."""
