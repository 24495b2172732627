// The Python module: takes Python's objects apart for the codecs and wraps what they give. Owns no syntax.
//
// Built against the limited API of Python 3.11, so that one library serves that version and every later one.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "example_writer.h"
#include "http_request.h"
#include "inference_body.h"
#include "json_body.h"
#include "json_writer.h"
#include "onnx_file.h"
#include "predict_messages.h"
#include "records.h"
#include "request_counts.h"

namespace {

using estimator::ArrayView;
using estimator::Body;
using estimator::Column;
using estimator::Columns;
using estimator::ExampleWriter;
using estimator::FeatureType;
using estimator::HttpReader;
using estimator::Inference;
using estimator::InferenceInput;
using estimator::Numbers;
using estimator::CountedValues;
using estimator::OwnedRows;
using estimator::RequestCounts;
using estimator::RowMixer;
using estimator::Rows;
using estimator::RowsView;

// From this size on, other threads may run meanwhile; where bytes are only copied or passed over, from the other one.
constexpr Py_ssize_t kUnlockBytes = 1 << 15, kUnlockCopiedBytes = 1 << 18;

// A buffer that is given back at the end of its scope. Without a view where the object has none of this form.
class Buffer {
 public:
  Buffer(PyObject* object, int flags) : held_(PyObject_GetBuffer(object, &view_, flags) == 0) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (held_) PyBuffer_Release(&view_);
  }
  explicit operator bool() const { return held_; }
  const Py_buffer* operator->() const { return &view_; }

 private:
  Py_buffer view_;
  const bool held_;
};

// Runs work that touches no Python object; without the interpreter's lock if it is long. False, with Python's MemoryError,
// where there is no memory for it.
template <class Work>
bool Run(Py_ssize_t bytes, Work work) {
  bool has_memory = true;
  PyThreadState* const state = bytes < kUnlockBytes ? nullptr : PyEval_SaveThread();
  try {
    work();
  } catch (const std::bad_alloc&) {
    has_memory = false;
  }
  if (state) PyEval_RestoreThread(state);
  if (!has_memory) PyErr_NoMemory();
  return has_memory;
}

PyObject* Text(std::string_view value) {
  return PyUnicode_FromStringAndSize(value.data(), static_cast<Py_ssize_t>(value.size()));
}

PyObject* Bytes(const void* data, std::size_t size) {
  return PyBytes_FromStringAndSize(static_cast<const char*>(data), static_cast<Py_ssize_t>(size));
}

// The text of a bytes object; nothing, with Python's TypeError, for anything else.
std::optional<std::string_view> ViewOf(PyObject* bytes) {
  char* text;
  Py_ssize_t size;
  if (PyBytes_AsStringAndSize(bytes, &text, &size)) return std::nullopt;
  return std::string_view(text, static_cast<std::size_t>(size));
}

// A list of bytes.
template <class Texts>
PyObject* ListOf(const Texts& texts) {
  PyObject* list = PyList_New(static_cast<Py_ssize_t>(texts.size()));
  for (std::size_t index = 0; list && index < texts.size(); ++index) {
    PyObject* const one = Bytes(texts[index].data(), texts[index].size());
    PyList_SetItem(list, static_cast<Py_ssize_t>(index), one);
    if (!one) Py_CLEAR(list);
  }
  return list;
}

// The text of each bytes object of a tuple; nothing, with Python's TypeError, where one is none.
std::optional<std::vector<std::string_view>> ViewsOf(PyObject* tuple) {
  std::vector<std::string_view> views;
  views.reserve(static_cast<std::size_t>(PyTuple_Size(tuple)));
  for (Py_ssize_t index = 0; index < PyTuple_Size(tuple); ++index) {
    const auto view = ViewOf(PyTuple_GetItem(tuple, index));
    if (!view) return std::nullopt;
    views.push_back(*view);
  }
  return views;
}

// A tuple of what `make` gives for each value.
template <class Values, class MakeObject>
PyObject* TupleOf(const Values& values, MakeObject make) {
  PyObject* tuple = PyTuple_New(static_cast<Py_ssize_t>(values.size()));
  for (std::size_t index = 0; tuple && index < values.size(); ++index) {
    PyObject* const one = make(values[index]);
    PyTuple_SetItem(tuple, static_cast<Py_ssize_t>(index), one);
    if (!one) Py_CLEAR(tuple);
  }
  return tuple;
}

PyObject* Shape(const std::vector<std::int64_t>& sizes) { return TupleOf(sizes, PyLong_FromLongLong); }

// Adds to a dict; takes over the value, which may be null. False with Python's error set.
bool Add(PyObject* dict, std::string_view key, PyObject* value) {
  PyObject* const name = Text(key);
  const bool is_added = dict && name && value && PyDict_SetItem(dict, name, value) == 0;
  Py_XDECREF(name);
  Py_XDECREF(value);
  return is_added;
}

// The numbers as they lie in memory: int64 if all are integers, else double.
PyObject* BytesOf(const Numbers& numbers) {
  return numbers.are_integers ? Bytes(numbers.integers.data(), numbers.integers.size() * sizeof(std::int64_t))
                              : Bytes(numbers.reals.data(), numbers.reals.size() * sizeof(double));
}

// A tensor as (shape, whether all its numbers are integers, the numbers).
PyObject* Wrap(const Numbers& numbers) {
  // N takes over the references, and a null one becomes the error that is set.
  return Py_BuildValue("NNN", Shape(numbers.shape), PyBool_FromLong(numbers.are_integers), BytesOf(numbers));
}

PyObject* Wrap(const Columns& columns) {
  PyObject* wrapped = PyDict_New();
  for (const auto& [key, numbers] : columns) {
    if (wrapped && !Add(wrapped, key, Wrap(numbers))) Py_CLEAR(wrapped);
  }
  return wrapped;
}

// What is kept between two calls in C++ stands in a capsule of its type's name.
template <class T>
constexpr const char* kName = nullptr;
template <>
constexpr const char* kName<ExampleWriter> = "estimator_serving.ExampleWriter";
template <>
constexpr const char* kName<RowMixer> = "estimator_serving.RowMixer";

template <>
constexpr const char* kName<RequestCounts> = "estimator_serving.RequestCounts";
template <>
constexpr const char* kName<HttpReader> = "estimator_serving.HttpReader";

// Rows, and the buffer of the text that they point into.
struct KeptRows {
  explicit KeptRows(PyObject* body) : buffer(body, PyBUF_SIMPLE) {}
  const Buffer buffer;
  Rows rows;
};
template <>
constexpr const char* kName<KeptRows> = "estimator_serving.Rows";

template <class T>
PyObject* Keep(std::unique_ptr<T> value) {
  PyObject* const capsule = PyCapsule_New(value.get(), kName<T>, [](PyObject* self) {
    delete static_cast<T*>(PyCapsule_GetPointer(self, kName<T>));
  });
  if (capsule) value.release();
  return capsule;
}

// Null with Python's TypeError or ValueError set for anything but such a capsule.
template <class T>
T* Kept(PyObject* capsule) {
  return static_cast<T*>(PyCapsule_GetPointer(capsule, kName<T>));
}

PyObject* ReadBody(PyObject*, PyObject* body) {
  auto kept = std::make_unique<KeptRows>(body);
  const Buffer& buffer = kept->buffer;
  if (!buffer) return nullptr;
  std::optional<Body> read;
  const bool is_done = Run(buffer->len, [&] {
    read = estimator::ReadBody({static_cast<const char*>(buffer->buf), static_cast<std::size_t>(buffer->len)});
  });
  if (!is_done) return nullptr;
  if (!read) Py_RETURN_NONE;
  PyObject* const key = Text(read->key);
  PyObject* const name = read->signature_name ? Text(*read->signature_name) : Py_NewRef(Py_None);
  PyObject* content;
  if (Rows* const rows = std::get_if<Rows>(&read->content)) {
    kept->rows = std::move(*rows);
    content = Keep(std::move(kept));
  } else if (const Columns* columns = std::get_if<Columns>(&read->content)) {
    content = Wrap(*columns);
  } else {
    content = Wrap(std::get<Numbers>(read->content));
  }
  return Py_BuildValue("NNN", key, name, content);
}

PyObject* ReadColumns(PyObject*, PyObject* rows) {
  const KeptRows* const kept = Kept<KeptRows>(rows);
  if (!kept) return nullptr;
  try {
    const auto columns = kept->rows.ToColumns();
    if (!columns) Py_RETURN_NONE;
    return Wrap(*columns);
  } catch (const std::bad_alloc&) {
    return PyErr_NoMemory();
  }
}

PyObject* MakeExampleWriter(PyObject*, PyObject* features) {
  PyObject *key, *type;
  Py_ssize_t at = 0;
  if (!PyDict_Check(features)) {
    PyErr_SetString(PyExc_TypeError, "example_writer takes a dict of the features' types by their keys.");
    return nullptr;
  }
  try {
    std::vector<std::pair<std::string, FeatureType>> read;
    while (PyDict_Next(features, &at, &key, &type)) {
      Py_ssize_t size, letters;
      const char* const text = PyUnicode_AsUTF8AndSize(key, &size);
      const char* const letter = text ? PyUnicode_AsUTF8AndSize(type, &letters) : nullptr;
      if (!letter) return nullptr;
      if (letters != 1 || !std::strchr("fis", letter[0])) {
        PyErr_SetString(PyExc_ValueError, "A feature's type is f, i or s.");
        return nullptr;
      }
      read.emplace_back(std::string(text, static_cast<std::size_t>(size)), static_cast<FeatureType>(letter[0]));
    }
    return Keep(std::make_unique<ExampleWriter>(std::move(read)));
  } catch (const std::bad_alloc&) {
    return PyErr_NoMemory();
  }
}

PyObject* WriteExamples(PyObject*, PyObject* arguments) {
  PyObject *writer_capsule, *rows_capsule;
  if (!PyArg_ParseTuple(arguments, "OO:write_examples", &writer_capsule, &rows_capsule)) return nullptr;
  const ExampleWriter* const writer = Kept<ExampleWriter>(writer_capsule);
  const KeptRows* const kept = writer ? Kept<KeptRows>(rows_capsule) : nullptr;
  if (!kept) return nullptr;
  std::optional<std::vector<std::string>> examples;
  const bool is_done = Run(kept->buffer->len, [&] {
    examples = writer->Write(kept->rows);
  });
  if (!is_done) return nullptr;
  if (!examples) Py_RETURN_NONE;
  return ListOf(*examples);
}

PyObject* MakeHttpReader(PyObject*, PyObject* arguments) {
  try {
    const auto wanted = ViewsOf(arguments);
    if (!wanted) return nullptr;
    return Keep(std::make_unique<HttpReader>(std::vector<std::string>(wanted->begin(), wanted->end())));
  } catch (const std::bad_alloc&) {
    return PyErr_NoMemory();
  }
}

PyObject* ReadRequest(PyObject*, PyObject* arguments) {
  PyObject *capsule, *data;
  Py_ssize_t head_max, body_max;
  if (!PyArg_ParseTuple(arguments, "OSnn:read_request", &capsule, &data, &head_max, &body_max)) return nullptr;
  const HttpReader* const reader = Kept<HttpReader>(capsule);
  if (!reader) return nullptr;
  const std::string_view text = *ViewOf(data);
  std::optional<estimator::HttpRequest> read;
  const bool is_done = Run(0, [&] {
    read = reader->Read(text, static_cast<std::size_t>(head_max), static_cast<std::size_t>(body_max));
  });
  if (!is_done) return nullptr;
  if (!read) Py_RETURN_NONE;
  PyObject* const headers = TupleOf(read->headers, [](const auto& header) {
    const auto& [name, value] = header;
    return Py_BuildValue("NN", Bytes(name.data(), name.size()), Bytes(value.data(), value.size()));
  });
  return Py_BuildValue("NNN", Bytes(read->path.data(), read->path.size()),
                       Bytes(read->body.data(), read->body.size()), headers);
}

std::optional<ArrayView> View(const Buffer& buffer) {
  const char* const format = buffer->format;
  if (!format || std::strlen(format) != 1 || estimator::kPrintable.find(format[0]) == std::string_view::npos) {
    return std::nullopt;
  }
  return ArrayView{format[0], buffer->buf, {buffer->shape, buffer->shape + buffer->ndim}};
}

// The bytes that `write` appends; None if it says false.
template <class Write>
PyObject* Written(Py_ssize_t bytes, Write write) {
  std::string text;
  bool complete = false;
  const bool is_done = Run(bytes, [&] {
    text.reserve(static_cast<std::size_t>(bytes) * 3 + 64);
    complete = write(text);
  });
  if (!is_done) return nullptr;
  if (!complete) Py_RETURN_NONE;
  return Bytes(text.data(), text.size());
}

constexpr int kArray = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT;

// An array of another dtype than those we print, or without a buffer of the form we print, such as one with gaps, is not
// ours; any other error is one.
PyObject* NotPrintable() {
  if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_BufferError) && !PyErr_ExceptionMatches(PyExc_ValueError)) {
    return nullptr;
  }
  PyErr_Clear();
  Py_RETURN_NONE;
}

// An array's memory as long as the buffer holds it; nothing for one that is NotPrintable. Adds its size to `bytes`.
std::optional<ArrayView> Lend(PyObject* array, std::optional<Buffer>& buffer, Py_ssize_t& bytes) {
  const Buffer& held = buffer.emplace(array, kArray);
  if (!held) return std::nullopt;
  bytes += held->len;
  return View(held);
}

PyObject* WriteArray(PyObject*, PyObject* array) {
  std::optional<Buffer> buffer;
  Py_ssize_t bytes = 0;
  const auto view = Lend(array, buffer, bytes);
  if (!view) return NotPrintable();
  return Written(bytes, [&](std::string& text) { return estimator::WriteArray(*view, text); });
}

// A column of texts, from a list of bytes. False with Python's error set where it is none.
bool ReadTexts(PyObject* list, std::vector<std::string_view>& texts, Py_ssize_t& bytes) {
  for (Py_ssize_t row = 0; row < PyList_Size(list); ++row) {
    const auto text = ViewOf(PyList_GetItem(list, row));
    if (!text) return false;
    texts.push_back(*text);
    bytes += static_cast<Py_ssize_t>(text->size());
  }
  return true;
}

PyObject* WriteRows(PyObject*, PyObject* arguments) {
  PyObject *keys, *given;
  if (!PyArg_ParseTuple(arguments, "O!O!:write_rows", &PyTuple_Type, &keys, &PyTuple_Type, &given)) return nullptr;
  const Py_ssize_t count = PyTuple_Size(keys);
  if (!count || PyTuple_Size(given) != count) {
    PyErr_SetString(PyExc_ValueError, "write_rows takes as many keys as columns, and at least one.");
    return nullptr;
  }
  std::vector<Column> columns(static_cast<std::size_t>(count));
  std::vector<std::optional<Buffer>> buffers(columns.size());
  Py_ssize_t bytes = 0;
  for (std::size_t index = 0; index < columns.size(); ++index) {
    Column& column = columns[index];
    const auto key = ViewOf(PyTuple_GetItem(keys, static_cast<Py_ssize_t>(index)));
    if (!key) return nullptr;
    column.key = *key;
    PyObject* const one = PyTuple_GetItem(given, static_cast<Py_ssize_t>(index));
    if (PyList_Check(one)) {
      if (!ReadTexts(one, column.texts, bytes)) return nullptr;
    } else {
      column.array = Lend(one, buffers[index], bytes);
      if (!column.array || column.array->shape.empty()) return NotPrintable();
    }
    if (column.rows() != columns[0].rows()) {
      PyErr_SetString(PyExc_ValueError, "write_rows takes columns with the same number of rows.");
      return nullptr;
    }
  }
  return Written(bytes, [&](std::string& text) { return estimator::WriteRows(columns, text); });
}

using Clock = std::chrono::steady_clock;

double SecondsBetween(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

// An object of Python that is given back at the end of its scope.
struct GiveBack {
  void operator()(PyObject* object) const { Py_XDECREF(object); }
};
using Owned = std::unique_ptr<PyObject, GiveBack>;

// The answer to a plain body, of the arrays that a run gave. None if one of them is not to be printed here.
PyObject* AnswerOf(bool in_rows, PyObject* keys, PyObject* outputs) {
  const Py_ssize_t count = PyTuple_Size(keys);
  if (!PyList_Check(outputs) || PyList_Size(outputs) != count || !count) Py_RETURN_NONE;
  std::vector<Column> columns(static_cast<std::size_t>(count));
  std::vector<std::optional<Buffer>> buffers(columns.size());
  Py_ssize_t bytes = 0;
  for (std::size_t index = 0; index < columns.size(); ++index) {
    Column& column = columns[index];
    const auto key = ViewOf(PyTuple_GetItem(keys, static_cast<Py_ssize_t>(index)));
    if (!key) return nullptr;
    column.key = *key;
    column.array = Lend(PyList_GetItem(outputs, static_cast<Py_ssize_t>(index)), buffers[index], bytes);
    if (!column.array) return NotPrintable();
    if (in_rows && (column.array->shape.empty() || column.array->shape[0] != columns[0].array->shape[0])) Py_RETURN_NONE;
  }
  return Written(bytes, [&](std::string& text) {
    bool complete = true;
    text += in_rows ? "{\"predictions\":" : "{\"outputs\":";
    if (columns.size() == 1) {
      complete = estimator::WriteArray(*columns[0].array, text);
    } else if (in_rows) {
      complete = estimator::WriteRows(columns, text);
    } else {
      for (std::size_t index = 0; index < columns.size(); ++index) {
        text += index ? ',' : '{';
        text += columns[index].key;
        complete = complete && estimator::WriteArray(*columns[index].array, text);
      }
      text += '}';
    }
    text += '}';
    return complete;
  });
}

// numpy's array of a buffer: `ndarray(shape, dtype, buffer)`.
PyObject* ArrayOf(PyObject* ndarray, PyObject* dtype, const std::vector<std::int64_t>& sizes, const Owned& buffer) {
  const Owned shape(Shape(sizes));
  if (!shape || !buffer) return nullptr;
  return PyObject_CallFunctionObjArgs(ndarray, shape.get(), dtype, buffer.get(), nullptr);
}

// The bytes of doubles as floats. Neither need be aligned.
PyObject* Floats(const void* doubles, std::size_t count) {
  PyObject* const narrowed = Bytes(nullptr, count * sizeof(float));
  char* to = narrowed ? PyBytes_AsString(narrowed) : nullptr;
  const char* from = static_cast<const char*>(doubles);
  for (std::size_t index = 0; to && index < count; ++index) {
    double wide;
    std::memcpy(&wide, from + index * sizeof wide, sizeof wide);
    const float narrow = static_cast<float>(wide);
    std::memcpy(to + index * sizeof narrow, &narrow, sizeof narrow);
  }
  return narrowed;
}

// The arrays that a plain body feeds a graph with: one of floats, or those of the bytes and splits of tf.Examples, which
// the writer makes of its rows. None, without an error, for a body that feeds nothing here.
std::optional<std::vector<Owned>> FeedsOf(const Body& body, const ExampleWriter* writer, PyObject* ndarray,
                                          PyObject* dtypes, std::int64_t& rows) {
  std::vector<Owned> arrays;
  if (!writer) {
    const Numbers* const numbers = std::get_if<Numbers>(&body.content);
    if (!numbers || numbers->are_integers || (body.key == "instances" && numbers->shape.empty())) return std::nullopt;
    rows = numbers->shape.empty() ? 1 : numbers->shape[0];
    Owned floats(Floats(numbers->reals.data(), numbers->reals.size()));
    arrays.emplace_back(ArrayOf(ndarray, PyTuple_GetItem(dtypes, 0), numbers->shape, floats));
    return arrays;
  }
  const Rows* const given = std::get_if<Rows>(&body.content);
  const auto examples = given ? writer->Write(*given) : std::nullopt;
  if (!examples) return std::nullopt;
  OwnedRows joined;
  for (const std::string& example : *examples) joined.Add(example);
  rows = static_cast<std::int64_t>(examples->size());
  const auto size = static_cast<std::int64_t>(joined.bytes.size()), splits = static_cast<std::int64_t>(joined.splits.size());
  arrays.emplace_back(
      ArrayOf(ndarray, PyTuple_GetItem(dtypes, 0), {size}, Owned(Bytes(joined.bytes.data(), joined.bytes.size()))));
  arrays.emplace_back(ArrayOf(ndarray, PyTuple_GetItem(dtypes, 1), {splits},
                              Owned(Bytes(joined.splits.data(), joined.splits.size() * sizeof(std::int64_t)))));
  return arrays;
}

// Runs a graph: (what `make_answer` makes of its outputs, the rows, the seconds from `begin` to the run, and those of
// the run). None if the answer is.
template <class MakeAnswer>
PyObject* Ran(PyObject* run, PyObject* names, PyObject* feeds, Clock::time_point begin, std::int64_t rows,
              MakeAnswer make_answer) {
  const auto run_begin = Clock::now();
  const Owned outputs(PyObject_CallFunctionObjArgs(run, names, feeds, Py_None, nullptr));
  const auto run_end = Clock::now();
  PyObject* const answer = outputs ? make_answer(outputs.get()) : nullptr;
  if (!answer || answer == Py_None) return answer;
  return Py_BuildValue("Nndd", answer, static_cast<Py_ssize_t>(rows), SecondsBetween(begin, run_begin),
                       SecondsBetween(run_begin, run_end));
}

PyObject* PredictPlain(PyObject*, PyObject* arguments) {
  PyObject *run, *names, *inputs, *keys, *ndarray, *dtypes, *capsule, *body;
  if (!PyArg_ParseTuple(arguments, "(OO!O!O!OO!O)S:predict_plain", &run, &PyList_Type, &names, &PyTuple_Type, &inputs,
                        &PyTuple_Type, &keys, &ndarray, &PyTuple_Type, &dtypes, &capsule, &body)) {
    return nullptr;
  }
  const ExampleWriter* const writer = capsule == Py_None ? nullptr : Kept<ExampleWriter>(capsule);
  if (PyErr_Occurred()) return nullptr;
  if (PyTuple_Size(inputs) != (writer ? 2 : 1) || PyTuple_Size(dtypes) != PyTuple_Size(inputs)) {
    PyErr_SetString(PyExc_ValueError, "predict_plain feeds one input of floats, or two of Examples.");
    return nullptr;
  }
  const auto begin = Clock::now();
  try {
    const auto read = estimator::ReadBody(*ViewOf(body));
    if (!read || read->signature_name) Py_RETURN_NONE;
    std::int64_t rows = 1;
    const auto arrays = FeedsOf(*read, writer, ndarray, dtypes, rows);
    if (!arrays) Py_RETURN_NONE;
    const Owned feeds(PyDict_New());
    for (std::size_t index = 0; index < arrays->size(); ++index) {
      PyObject* const name = PyTuple_GetItem(inputs, static_cast<Py_ssize_t>(index));
      if (!feeds || !(*arrays)[index] || PyDict_SetItem(feeds.get(), name, (*arrays)[index].get())) return nullptr;
    }
    return Ran(run, names, feeds.get(), begin, rows,
               [&](PyObject* outputs) { return AnswerOf(read->key == "instances", keys, outputs); });
  } catch (const std::bad_alloc&) {
    return PyErr_NoMemory();
  }
}

// An input as (its name, datatype and shape, numpy's letter of its values' type, the values: bytes, or a list of bytes
// for texts, "O").
PyObject* Wrap(const InferenceInput& input) {
  char letter = 'O';
  PyObject* values;
  if (const Numbers* const numbers = std::get_if<Numbers>(&input.data)) {
    letter = numbers->are_integers ? 'q' : 'd';
    values = BytesOf(*numbers);
  } else if (const auto* const booleans = std::get_if<InferenceInput::Booleans>(&input.data)) {
    letter = '?';
    values = Bytes(booleans->data(), booleans->size());
  } else {
    values = ListOf(std::get<InferenceInput::Texts>(input.data));
  }
  return Py_BuildValue("NNNNN", Text(input.name), Text(input.datatype), Shape(input.shape), Text({&letter, 1}), values);
}

PyObject* ReadInference(PyObject*, PyObject* body) {
  const Buffer buffer(body, PyBUF_SIMPLE);
  if (!buffer) return nullptr;
  std::optional<Inference> read;
  const bool is_done = Run(buffer->len, [&] {
    read = estimator::ReadInference({static_cast<const char*>(buffer->buf), static_cast<std::size_t>(buffer->len)});
  });
  if (!is_done) return nullptr;
  if (!read) Py_RETURN_NONE;
  PyObject* const inputs = TupleOf(read->inputs, [](const InferenceInput& input) { return Wrap(input); });
  return Py_BuildValue("NNN", Text(read->id.value_or("")), inputs, TupleOf(read->outputs, Text));
}

// Whether a shape is one that a signature's shape allows: a tuple with -1 for any length, or None for any shape.
bool Allows(PyObject* allowed, const std::vector<std::int64_t>& shape) {
  if (allowed == Py_None) return true;
  if (PyTuple_Size(allowed) != static_cast<Py_ssize_t>(shape.size())) return false;
  for (std::size_t index = 0; index < shape.size(); ++index) {
    const std::int64_t length = PyLong_AsLongLong(PyTuple_GetItem(allowed, static_cast<Py_ssize_t>(index)));
    if (length >= 0 && length != shape[index]) return false;
  }
  return true;
}

// The places of the asked outputs among the names of all; all if none is asked. Nothing for an unknown name, or one that
// comes twice.
std::optional<std::vector<std::size_t>> PlacesOf(const std::vector<std::string_view>& asked,
                                                 const std::vector<std::string_view>& names) {
  std::vector<std::size_t> places;
  for (std::size_t place = 0; asked.empty() && place < names.size(); ++place) places.push_back(place);
  for (const std::string_view one : asked) {
    const auto place = static_cast<std::size_t>(std::find(names.begin(), names.end(), one) - names.begin());
    if (place == names.size() || std::find(places.begin(), places.end(), place) != places.end()) return std::nullopt;
    places.push_back(place);
  }
  return places;
}

// The answer to a plain inference, of the arrays that a run gave. None if one of them is not to be printed here.
PyObject* AnswerOf(std::string_view id, std::string_view model, const std::vector<std::string_view>& heads,
                   const std::vector<std::size_t>& places, PyObject* outputs) {
  if (!PyList_Check(outputs) || PyList_Size(outputs) != static_cast<Py_ssize_t>(places.size())) Py_RETURN_NONE;
  std::vector<ArrayView> arrays;
  std::vector<std::optional<Buffer>> buffers(places.size());
  Py_ssize_t bytes = static_cast<Py_ssize_t>(id.size());
  for (std::size_t index = 0; index < places.size(); ++index) {
    auto view = Lend(PyList_GetItem(outputs, static_cast<Py_ssize_t>(index)), buffers[index], bytes);
    if (!view) return NotPrintable();
    arrays.push_back(std::move(*view));
  }
  return Written(bytes, [&](std::string& text) {
    text += '{';
    if (!id.empty()) text.append("\"id\":\"").append(id).append("\",");
    text += model;
    for (std::size_t index = 0; index < arrays.size(); ++index) {
      if (index) text += ',';
      const std::vector<std::int64_t>& shape = arrays[index].shape;
      text += heads[places[index]];
      estimator::WriteFlat({'q', shape.data(), {static_cast<std::int64_t>(shape.size())}}, text);
      text += ",\"data\":";
      if (!estimator::WriteFlat(arrays[index], text)) return false;
      text += '}';
    }
    text += "]}";
    return true;
  });
}

PyObject* InferPlain(PyObject*, PyObject* arguments) {
  PyObject *run, *all_names, *input_name, *ndarray, *dtype, *input, *allowed, *model, *names, *heads, *body;
  if (!PyArg_ParseTuple(arguments, "(OO!OOOSOSO!O!)S:infer_plain", &run, &PyList_Type, &all_names, &input_name, &ndarray,
                        &dtype, &input, &allowed, &model, &PyTuple_Type, &names, &PyTuple_Type, &heads, &body)) {
    return nullptr;
  }
  const auto begin = Clock::now();
  try {
    const auto read = estimator::ReadInference(*ViewOf(body));
    if (!read || read->inputs.size() != 1) Py_RETURN_NONE;
    const InferenceInput& sent = read->inputs[0];
    const Numbers* const numbers = std::get_if<Numbers>(&sent.data);
    if (!numbers || sent.datatype != "FP32" || sent.name != *ViewOf(input) || !Allows(allowed, sent.shape)) Py_RETURN_NONE;
    const auto aliases = ViewsOf(names), head_texts = ViewsOf(heads);
    if (!aliases || !head_texts) return nullptr;
    const auto floats = estimator::ToFloats(*numbers);
    const auto places = PlacesOf(read->outputs, *aliases);
    if (!floats || !places || head_texts->size() != aliases->size()) Py_RETURN_NONE;
    Owned asked(Py_NewRef(all_names));
    if (!read->outputs.empty()) {
      asked.reset(PyList_New(0));
      for (const std::size_t place : *places) {
        PyObject* const name = PyList_GetItem(all_names, static_cast<Py_ssize_t>(place));
        if (!asked || !name || PyList_Append(asked.get(), name)) return nullptr;
      }
    }
    const Owned array(
        ArrayOf(ndarray, dtype, sent.shape, Owned(Bytes(floats->data(), floats->size() * sizeof(float)))));
    const Owned feeds(PyDict_New());
    if (!array || !feeds || PyDict_SetItem(feeds.get(), input_name, array.get())) return nullptr;
    return Ran(run, asked.get(), feeds.get(), begin, sent.shape[0], [&](PyObject* outputs) {
      return AnswerOf(read->id.value_or(""), *ViewOf(model), *head_texts, *places, outputs);
    });
  } catch (const std::bad_alloc&) {
    return PyErr_NoMemory();
  }
}

PyObject* NarrowFloats(PyObject*, PyObject* values) {
  const Buffer buffer(values, PyBUF_SIMPLE);
  return buffer ? Floats(buffer->buf, static_cast<std::size_t>(buffer->len) / sizeof(double)) : nullptr;
}

// Values from this size on stay in the message; below, a copy costs no more than keeping the message for them.
constexpr std::size_t kStaysBytes = 4096;

// A tensor as (TensorFlow's number of its dtype, its shape, its values: a list of bytes for strings, else bytes, or where
// in the message they begin).
PyObject* Wrap(const estimator::TensorMessage& tensor, const char* message) {
  PyObject* const shape = Shape(tensor.shape);
  PyObject* values;
  if (tensor.dtype == estimator::kStringType) {
    values = ListOf(tensor.strings);
  } else if (tensor.decoded.empty() && tensor.content.size() >= kStaysBytes) {
    values = PyLong_FromSsize_t(tensor.content.data() - message);
  } else {
    values = Bytes(tensor.memory().data(), tensor.memory().size());
  }
  return Py_BuildValue("iNN", tensor.dtype, shape, values);
}

PyObject* Wrap(const std::vector<estimator::PredictRequest::Input>& inputs, const char* message) {
  PyObject* wrapped = PyDict_New();
  for (const auto& input : inputs) {
    if (wrapped && !Add(wrapped, input.alias, Wrap(input.tensor, message))) Py_CLEAR(wrapped);
  }
  return wrapped;
}

PyObject* TextOrNone(std::string_view value) { return value.empty() ? Py_NewRef(Py_None) : Text(value); }

PyObject* VersionOrNone(const estimator::ModelSpec& spec) {
  return spec.version ? PyLong_FromLongLong(*spec.version) : Py_NewRef(Py_None);
}

PyObject* ReadPredictRequest(PyObject*, PyObject* message) {
  const Buffer buffer(message, PyBUF_SIMPLE);
  if (!buffer) return nullptr;
  std::optional<estimator::PredictRequest> read;
  const bool is_done = Run(buffer->len < kUnlockCopiedBytes ? 0 : buffer->len, [&] {
    read = estimator::ReadPredictRequest({static_cast<const char*>(buffer->buf), static_cast<std::size_t>(buffer->len)});
  });
  if (!is_done) return nullptr;
  if (!read) Py_RETURN_NONE;
  PyObject* const filter = TupleOf(read->output_filter, Text);
  const estimator::ModelSpec& spec = read->spec;
  return Py_BuildValue("NNNNNN", Text(spec.name), VersionOrNone(spec), TextOrNone(spec.label),
                       TextOrNone(spec.signature_name), filter,
                       Wrap(read->inputs, static_cast<const char*>(buffer->buf)));
}

PyObject* ReadExamplesRequest(PyObject*, PyObject* message) {
  const Buffer buffer(message, PyBUF_SIMPLE);
  if (!buffer) return nullptr;
  std::optional<estimator::ExamplesRequest> read;
  const bool is_done = Run(buffer->len, [&] {
    read = estimator::ReadExamplesRequest({static_cast<const char*>(buffer->buf), static_cast<std::size_t>(buffer->len)});
  });
  if (!is_done) return nullptr;
  if (!read) Py_RETURN_NONE;
  const estimator::ModelSpec& spec = read->spec;
  return Py_BuildValue("NNNNN", Text(spec.name), VersionOrNone(spec), TextOrNone(spec.label),
                       TextOrNone(spec.signature_name), ListOf(read->examples));
}

// Of a text that may hold anything.
PyObject* AnyText(std::string_view value) {
  return PyUnicode_DecodeUTF8(value.data(), static_cast<Py_ssize_t>(value.size()), "replace");
}

PyObject* ReadOnnx(PyObject*, PyObject* file) {
  const Buffer buffer(file, PyBUF_SIMPLE);
  if (!buffer) return nullptr;
  estimator::OnnxFile read;
  const bool is_done = Run(buffer->len, [&] {
    read = estimator::ReadOnnxFile({static_cast<const char*>(buffer->buf), static_cast<std::size_t>(buffer->len)});
  });
  if (!is_done) return nullptr;
  const auto fault_at = static_cast<Py_ssize_t>(read.fault_at);
  if (read.fault != estimator::OnnxFault::kNone) return Py_BuildValue("inO", static_cast<int>(read.fault), fault_at, Py_None);
  PyObject* const opsets = TupleOf(read.opsets, [](const auto& one) {
    return Py_BuildValue("NN", AnyText(one.first), PyLong_FromUnsignedLongLong(one.second));
  });
  PyObject* const metadata = TupleOf(
      read.metadata, [](const auto& one) { return Py_BuildValue("NN", AnyText(one.first), AnyText(one.second)); });
  PyObject* const external = TupleOf(read.external, [](const auto& one) {
    return Py_BuildValue("NNNN", AnyText(one.name), AnyText(one.location), AnyText(one.offset), AnyText(one.length));
  });
  PyObject* const others = TupleOf(read.others, [](const auto& one) {
    return Py_BuildValue("NNii", AnyText(one.name), PyBool_FromLong(one.is_input), one.kind, one.element);
  });
  PyObject* const content =
      Py_BuildValue("NNNNNNNN", PyLong_FromUnsignedLongLong(read.ir_version), PyBool_FromLong(read.has_graph),
                    PyBool_FromLong(read.needs_rows), opsets, metadata, external, others, ListOf(read.words));
  return Py_BuildValue("inN", 0, Py_ssize_t{0}, content);
}

// The objects of a list, or of an array of objects without gaps; none for anything else.
std::optional<std::vector<PyObject*>> ObjectsOf(PyObject* given, const Buffer& buffer) {
  if (PyList_Check(given)) {
    std::vector<PyObject*> objects;
    objects.reserve(static_cast<std::size_t>(PyList_Size(given)));
    for (Py_ssize_t index = 0; index < PyList_Size(given); ++index) objects.push_back(PyList_GetItem(given, index));
    return objects;
  }
  if (!buffer || !buffer->format || std::strcmp(buffer->format, "O") != 0) return std::nullopt;
  PyObject* const* const first = static_cast<PyObject* const*>(buffer->buf);
  return std::vector<PyObject*>(first, first + static_cast<std::size_t>(buffer->len) / sizeof(PyObject*));
}

PyObject* JoinRows(PyObject*, PyObject* rows) {
  const Buffer buffer(rows, kArray);
  if (!buffer) PyErr_Clear();
  try {
    const auto objects = ObjectsOf(rows, buffer);
    if (!objects) Py_RETURN_NONE;
    std::vector<std::string_view> views;
    std::vector<std::int64_t> splits = {0};
    views.reserve(objects->size());
    splits.reserve(objects->size() + 1);
    for (PyObject* const object : *objects) {
      if (!PyBytes_Check(object)) Py_RETURN_NONE;
      views.push_back(*ViewOf(object));
      splits.push_back(splits.back() + static_cast<std::int64_t>(views.back().size()));
    }
    PyObject* const joined = Bytes(nullptr, static_cast<std::size_t>(splits.back()));
    if (!joined) return nullptr;
    char* to = PyBytes_AsString(joined);
    for (const std::string_view view : views) {
      if (!view.empty()) std::memcpy(to, view.data(), view.size());
      to += view.size();
    }
    return Py_BuildValue("NN", joined, Bytes(splits.data(), splits.size() * sizeof(std::int64_t)));
  } catch (const std::bad_alloc&) {
    return PyErr_NoMemory();
  }
}

PyObject* WriteClassifications(PyObject*, PyObject* arguments) {
  PyObject *labels, *scores;
  if (!PyArg_ParseTuple(arguments, "OO:write_classifications", &labels, &scores)) return nullptr;
  const Buffer names(labels, kArray);
  if (!names) return NotPrintable();
  const Buffer values(scores, kArray);
  if (!values) return NotPrintable();
  const bool fits = values->format && std::strcmp(values->format, "f") == 0 && names->ndim == 2 && values->ndim == 2 &&
                    names->shape[0] == values->shape[0] && names->shape[1] == values->shape[1] && names->shape[1] > 0;
  try {
    const auto objects = fits ? ObjectsOf(labels, names) : std::nullopt;
    if (!objects) Py_RETURN_NONE;
    std::vector<std::string_view> texts;
    texts.reserve(objects->size());
    for (PyObject* const object : *objects) {
      Py_ssize_t size;
      const char* const text = PyUnicode_Check(object) ? PyUnicode_AsUTF8AndSize(object, &size) : nullptr;
      if (!text) {
        PyErr_Clear();
        Py_RETURN_NONE;
      }
      texts.emplace_back(text, static_cast<std::size_t>(size));
    }
    std::string message;
    estimator::WriteClassifications(texts, static_cast<const float*>(values->buf),
                                    static_cast<std::size_t>(names->shape[1]), message);
    return Bytes(message.data(), message.size());
  } catch (const std::bad_alloc&) {
    return PyErr_NoMemory();
  }
}

PyObject* WritePredictResponse(PyObject*, PyObject* arguments) {
  PyObject *spec, *aliases, *tensors;
  int as_content;
  if (!PyArg_ParseTuple(arguments, "SO!O!p:write_predict_response", &spec, &PyTuple_Type, &aliases, &PyTuple_Type, &tensors,
                        &as_content)) {
    return nullptr;
  }
  const Py_ssize_t count = PyTuple_Size(aliases);
  if (PyTuple_Size(tensors) != count) {
    PyErr_SetString(PyExc_ValueError, "write_predict_response takes as many aliases as tensors.");
    return nullptr;
  }
  std::vector<estimator::Output> outputs(static_cast<std::size_t>(count));
  std::vector<std::optional<Buffer>> buffers(outputs.size());
  Py_ssize_t bytes = 0;
  for (std::size_t index = 0; index < outputs.size(); ++index) {
    const auto alias = ViewOf(PyTuple_GetItem(aliases, static_cast<Py_ssize_t>(index)));
    if (!alias) return nullptr;
    outputs[index].alias = *alias;
    PyObject* const one = PyTuple_GetItem(tensors, static_cast<Py_ssize_t>(index));
    if (PyBytes_Check(one)) {
      outputs[index].tensor = *ViewOf(one);
      continue;
    }
    Py_ssize_t size = 0;
    outputs[index].array = Lend(one, buffers[index], size);
    if (!outputs[index].array) return NotPrintable();
    // Reals lie on the wire as in memory.
    if (!as_content && outputs[index].array->type != 'f' && outputs[index].array->type != 'd') bytes += size;
  }
  const std::string_view head = *ViewOf(spec);
  estimator::Pieces pieces;
  if (!Run(bytes, [&] { pieces = estimator::WriteOutputs(outputs, as_content); })) return nullptr;
  PyObject* const message = Bytes(nullptr, head.size() + pieces.size());
  if (!message) return nullptr;
  char* const text = PyBytes_AsString(message);
  std::copy(head.begin(), head.end(), text);
  const auto size = static_cast<Py_ssize_t>(pieces.size());
  Run(size < kUnlockCopiedBytes ? 0 : size, [&] { pieces.CopyTo(text + head.size()); });
  return message;
}

// Rows of bytes, from a buffer of all bytes and one of int64 splits; none, with Python's error, if they do not fit.
std::optional<RowsView> ViewRows(const Buffer& bytes, const Buffer& splits) {
  if (!bytes || !splits) return std::nullopt;
  const RowsView rows{{static_cast<const char*>(bytes->buf), static_cast<std::size_t>(bytes->len)},
                      static_cast<const std::int64_t*>(splits->buf),
                      static_cast<std::size_t>(splits->len) / sizeof(std::int64_t) - 1};
  const bool is_aligned = reinterpret_cast<std::uintptr_t>(splits->buf) % alignof(std::int64_t) == 0;
  if (!splits->len || splits->len % sizeof(std::int64_t) || !is_aligned || !rows.is_whole()) {
    PyErr_SetString(PyExc_ValueError, "Row splits are int64, at least one, do not fall, and lie within the bytes.");
    return std::nullopt;
  }
  return rows;
}

PyObject* Wrap(const OwnedRows& rows) {
  return Py_BuildValue("NN", Bytes(rows.bytes.data(), rows.bytes.size()),
                       Bytes(rows.splits.data(), rows.splits.size() * sizeof(std::int64_t)));
}

PyObject* ReadFrames(PyObject*, PyObject* piece) {
  const Buffer buffer(piece, PyBUF_SIMPLE);
  if (!buffer) return nullptr;
  estimator::Frames frames;
  OwnedRows rows;
  const bool is_done = Run(buffer->len, [&] {
    frames = estimator::ReadFrames({static_cast<const char*>(buffer->buf), static_cast<std::size_t>(buffer->len)});
    rows.bytes.reserve(frames.consumed);
    rows.splits.reserve(frames.records.size() + 1);
    for (const std::string_view record : frames.records) rows.Add(record);
  });
  if (!is_done) return nullptr;
  return Py_BuildValue("NnKi", Wrap(rows), static_cast<Py_ssize_t>(frames.consumed),
                       static_cast<unsigned long long>(frames.next_bytes), static_cast<int>(frames.fault));
}

PyObject* MakeRowMixer(PyObject*, PyObject* arguments) {
  Py_ssize_t capacity;
  unsigned long long seed;
  if (!PyArg_ParseTuple(arguments, "nK:row_mixer", &capacity, &seed)) return nullptr;
  if (capacity < 1) {
    PyErr_SetString(PyExc_ValueError, "A row_mixer holds at least one row.");
    return nullptr;
  }
  return Keep(std::make_unique<RowMixer>(static_cast<std::size_t>(capacity), seed));
}

// The rows that `gather` adds, without the interpreter's lock.
template <class Gather>
PyObject* Gathered(Py_ssize_t bytes, Gather gather) {
  OwnedRows given;
  const bool is_done = Run(bytes, [&] {
    gather(given);
  });
  if (!is_done) return nullptr;
  return Wrap(given);
}

PyObject* MixRows(PyObject*, PyObject* arguments) {
  PyObject *capsule, *bytes, *splits;
  if (!PyArg_ParseTuple(arguments, "OOO:mix_rows", &capsule, &bytes, &splits)) return nullptr;
  RowMixer* const mixer = Kept<RowMixer>(capsule);
  if (!mixer) return nullptr;
  const Buffer held_bytes(bytes, PyBUF_SIMPLE);
  const Buffer held_splits(splits, PyBUF_SIMPLE);
  const auto rows = ViewRows(held_bytes, held_splits);
  if (!rows) return nullptr;
  return Gathered(kUnlockBytes, [&](OwnedRows& given) { mixer->Mix(*rows, given); });
}

PyObject* DrainRows(PyObject*, PyObject* capsule) {
  RowMixer* const mixer = Kept<RowMixer>(capsule);
  return mixer ? Gathered(kUnlockBytes, [&](OwnedRows& given) { mixer->Drain(given); }) : nullptr;
}

PyObject* TakeRows(PyObject*, PyObject* arguments) {
  PyObject *bytes, *splits, *order;
  if (!PyArg_ParseTuple(arguments, "OOO:take_rows", &bytes, &splits, &order)) return nullptr;
  const Buffer held_bytes(bytes, PyBUF_SIMPLE);
  const Buffer held_splits(splits, PyBUF_SIMPLE);
  const auto rows = ViewRows(held_bytes, held_splits);
  if (!rows) return nullptr;
  const Buffer held_order(order, PyBUF_SIMPLE);
  if (!held_order) return nullptr;
  std::vector<std::int64_t> places(static_cast<std::size_t>(held_order->len) / sizeof(std::int64_t));
  if (!places.empty()) std::memcpy(places.data(), held_order->buf, places.size() * sizeof(std::int64_t));
  for (const std::int64_t place : places) {
    if (place < 0 || static_cast<std::uint64_t>(place) >= rows->count) {
      PyErr_SetString(PyExc_IndexError, "take_rows takes numbers of rows that are there.");
      return nullptr;
    }
  }
  return Gathered(held_bytes->len, [&](OwnedRows& given) {
    for (const std::int64_t place : places) given.Add((*rows)[static_cast<std::size_t>(place)]);
  });
}

PyObject* Checksum(PyObject*, PyObject* arguments) {
  PyObject* bytes;
  int by_table = 0;
  if (!PyArg_ParseTuple(arguments, "O|p:crc32c", &bytes, &by_table)) return nullptr;
  const Buffer buffer(bytes, PyBUF_SIMPLE);
  if (!buffer) return nullptr;
  const std::string_view view(static_cast<const char*>(buffer->buf), static_cast<std::size_t>(buffer->len));
  std::uint32_t checksum = 0;
  const bool is_done = Run(
      buffer->len, [&] { checksum = by_table ? estimator::Crc32cByTable(view) : estimator::Crc32c(view); });
  return is_done ? PyLong_FromUnsignedLong(checksum) : nullptr;
}

std::optional<std::vector<double>> DoublesOf(PyObject* tuple) {
  std::vector<double> values;
  for (Py_ssize_t index = 0; index < PyTuple_Size(tuple); ++index) {
    values.push_back(PyFloat_AsDouble(PyTuple_GetItem(tuple, index)));
  }
  return PyErr_Occurred() ? std::nullopt : std::optional(std::move(values));
}

PyObject* MakeRequestCounts(PyObject*, PyObject* arguments) {
  PyObject *times_us, *sizes;
  if (!PyArg_ParseTuple(arguments, "O!O!:request_counts", &PyTuple_Type, &times_us, &PyTuple_Type, &sizes)) return nullptr;
  auto time_bounds = DoublesOf(times_us);
  auto size_bounds = DoublesOf(sizes);
  if (!time_bounds || !size_bounds) return nullptr;
  std::unique_ptr<RequestCounts> made;
  const bool is_done =
      Run(0, [&] { made = std::make_unique<RequestCounts>(std::move(*time_bounds), std::move(*size_bounds)); });
  return is_done ? Keep(std::move(made)) : nullptr;
}

// Looks the counts up and adds to them while it holds the interpreter's lock: no other thread comes between.
PyObject* CountRequest(PyObject*, PyObject* const* given, Py_ssize_t count) {
  if (count != 7) return PyErr_Format(PyExc_TypeError, "count_request takes 7 arguments, not %zd.", count);
  PyObject* const capsule = PyDict_GetItemWithError(given[0], given[1]);
  if (!capsule) return PyErr_Occurred() ? nullptr : PyBool_FromLong(0);
  RequestCounts* const counts = Kept<RequestCounts>(capsule);
  if (!counts) return nullptr;
  const double elapsed_s = PyFloat_AsDouble(given[2]), read_s = PyFloat_AsDouble(given[3]), run_s = PyFloat_AsDouble(given[4]);
  const std::int64_t rows = PyLong_AsLongLong(given[5]), examples = PyLong_AsLongLong(given[6]);
  if (PyErr_Occurred()) return nullptr;
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  counts->Add(elapsed_s, read_s, run_s, rows, examples, now.count());
  return PyBool_FromLong(1);
}

PyObject* MergeCounts(PyObject*, PyObject* arguments) {
  PyObject *into, *from;
  if (!PyArg_ParseTuple(arguments, "OO:merge_counts", &into, &from)) return nullptr;
  RequestCounts* const counts = Kept<RequestCounts>(into);
  const RequestCounts* const others = counts ? Kept<RequestCounts>(from) : nullptr;
  if (!others) return nullptr;
  if (counts->time_bounds_us != others->time_bounds_us || counts->size_bounds != others->size_bounds) {
    PyErr_SetString(PyExc_ValueError, "merge_counts takes two counts of the same bounds.");
    return nullptr;
  }
  counts->Add(*others);
  Py_RETURN_NONE;
}

PyObject* Wrap(const CountedValues& values) {
  PyObject* const buckets = PyList_New(static_cast<Py_ssize_t>(values.buckets.size()));
  for (std::size_t index = 0; buckets && index < values.buckets.size(); ++index) {
    PyList_SetItem(buckets, static_cast<Py_ssize_t>(index), PyLong_FromUnsignedLongLong(values.buckets[index]));
  }
  return Py_BuildValue("Nd", buckets, values.sum);
}

PyObject* ReadCounts(PyObject*, PyObject* capsule) {
  const RequestCounts* const counts = Kept<RequestCounts>(capsule);
  if (!counts) return nullptr;
  return Py_BuildValue("dLdNNN", counts->read_us, static_cast<long long>(counts->rows), counts->last_s,
                       Wrap(counts->latency_us), Wrap(counts->run_us), Wrap(counts->examples));
}

PyMethodDef kMethods[] = {
    {"request_counts", MakeRequestCounts, METH_VARARGS, nullptr},
    {"count_request", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(CountRequest)), METH_FASTCALL, nullptr},
    {"merge_counts", MergeCounts, METH_VARARGS, nullptr},
    {"read_counts", ReadCounts, METH_O, nullptr},
    {"crc32c", Checksum, METH_VARARGS, nullptr},
    {"read_onnx", ReadOnnx, METH_O, nullptr},
    {"read_frames", ReadFrames, METH_O, nullptr},
    {"row_mixer", MakeRowMixer, METH_VARARGS, nullptr},
    {"mix_rows", MixRows, METH_VARARGS, nullptr},
    {"drain_rows", DrainRows, METH_O, nullptr},
    {"take_rows", TakeRows, METH_VARARGS, nullptr},
    {"narrow_floats", NarrowFloats, METH_O, nullptr},
    {"example_writer", MakeExampleWriter, METH_O, nullptr},
    {"http_reader", MakeHttpReader, METH_VARARGS, nullptr},
    {"read_request", ReadRequest, METH_VARARGS, nullptr},
    {"read_body", ReadBody, METH_O, nullptr},
    {"read_columns", ReadColumns, METH_O, nullptr},
    {"read_inference", ReadInference, METH_O, nullptr},
    {"infer_plain", InferPlain, METH_VARARGS, nullptr},
    {"write_examples", WriteExamples, METH_VARARGS, nullptr},
    {"read_predict_request", ReadPredictRequest, METH_O, nullptr},
    {"read_examples_request", ReadExamplesRequest, METH_O, nullptr},
    {"join_rows", JoinRows, METH_O, nullptr},
    {"write_classifications", WriteClassifications, METH_VARARGS, nullptr},
    {"write_predict_response", WritePredictResponse, METH_VARARGS, nullptr},
    {"predict_plain", PredictPlain, METH_VARARGS, nullptr},
    {"write_array", WriteArray, METH_O, nullptr},
    {"write_rows", WriteRows, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef kModule = {PyModuleDef_HEAD_INIT, "_native", nullptr, 0, kMethods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__native() { return PyModuleDef_Init(&kModule); }
