// The Python module: takes buffers apart for json_numbers and wraps what it gives. Owns no syntax.
//
// Built against the limited API of Python 3.11, so that one library serves that version and every later one.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstring>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "json_numbers.h"

namespace {

using estimator::ArrayView;
using estimator::Column;
using estimator::NumbersBody;

// From this size on, other threads may run meanwhile.
constexpr Py_ssize_t kUnlockBytes = 1 << 15;

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

// Runs work that touches no Python object; without the interpreter's lock if it is long.
template <class Work>
auto Run(Py_ssize_t bytes, Work work) {
  if (bytes < kUnlockBytes) return work();
  PyThreadState* const state = PyEval_SaveThread();
  auto result = work();
  PyEval_RestoreThread(state);
  return result;
}

PyObject* Text(std::string_view value) {
  return PyUnicode_FromStringAndSize(value.data(), static_cast<Py_ssize_t>(value.size()));
}

PyObject* Bytes(const void* data, std::size_t size) {
  return PyBytes_FromStringAndSize(static_cast<const char*>(data), static_cast<Py_ssize_t>(size));
}

PyObject* ReadNumbersBody(PyObject*, PyObject* body) {
  const Buffer buffer(body, PyBUF_SIMPLE);
  if (!buffer) return nullptr;
  const std::string_view text(static_cast<const char*>(buffer->buf), static_cast<std::size_t>(buffer->len));
  std::optional<NumbersBody> read;
  bool has_memory = Run(buffer->len, [&] {
    try {
      read = estimator::ReadNumbersBody(text);
      return true;
    } catch (const std::bad_alloc&) {
      return false;
    }
  });
  if (!has_memory) return PyErr_NoMemory();
  if (!read) Py_RETURN_NONE;
  const estimator::Numbers& numbers = read->numbers;
  PyObject* const shape = PyTuple_New(static_cast<Py_ssize_t>(numbers.shape.size()));
  if (!shape) return nullptr;
  for (std::size_t index = 0; index < numbers.shape.size(); ++index) {
    PyTuple_SetItem(shape, static_cast<Py_ssize_t>(index), PyLong_FromLongLong(numbers.shape[index]));
  }
  PyObject* const name = read->signature_name ? Text(*read->signature_name) : Py_NewRef(Py_None);
  PyObject* const values = numbers.are_integers ? Bytes(numbers.integers.data(), numbers.integers.size() * 8)
                                                : Bytes(numbers.reals.data(), numbers.reals.size() * 8);
  // N takes over the references, and a null one becomes the error that is set.
  return Py_BuildValue("NNNNN", Text(read->key), name, shape, PyBool_FromLong(numbers.are_integers), values);
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
  bool has_memory = true;
  const bool complete = Run(bytes, [&] {
    try {
      text.reserve(static_cast<std::size_t>(bytes) * 3 + 64);
      return write(text);
    } catch (const std::bad_alloc&) {
      has_memory = false;
      return false;
    }
  });
  if (!has_memory) return PyErr_NoMemory();
  if (!complete) Py_RETURN_NONE;
  return Bytes(text.data(), text.size());
}

constexpr int kArray = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT;

// An array without a buffer of the form we print, such as one with gaps, is not ours; any other error is one.
PyObject* NotPrintable() {
  if (!PyErr_ExceptionMatches(PyExc_BufferError) && !PyErr_ExceptionMatches(PyExc_ValueError)) return nullptr;
  PyErr_Clear();
  Py_RETURN_NONE;
}

PyObject* WriteArray(PyObject*, PyObject* array) {
  const Buffer buffer(array, kArray);
  if (!buffer) return NotPrintable();
  const auto view = View(buffer);
  if (!view) Py_RETURN_NONE;
  return Written(buffer->len, [&](std::string& text) { return estimator::WriteArray(*view, text); });
}

// A column of texts, from a list of bytes. False with Python's error set where it is none.
bool ReadTexts(PyObject* list, std::vector<std::string_view>& texts, Py_ssize_t& bytes) {
  for (Py_ssize_t row = 0; row < PyList_Size(list); ++row) {
    char* text;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(PyList_GetItem(list, row), &text, &size)) return false;
    texts.emplace_back(text, static_cast<std::size_t>(size));
    bytes += size;
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
    char* key;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(PyTuple_GetItem(keys, static_cast<Py_ssize_t>(index)), &key, &size)) return nullptr;
    column.key = std::string_view(key, static_cast<std::size_t>(size));
    PyObject* const one = PyTuple_GetItem(given, static_cast<Py_ssize_t>(index));
    if (PyList_Check(one)) {
      if (!ReadTexts(one, column.texts, bytes)) return nullptr;
    } else {
      const Buffer& buffer = buffers[index].emplace(one, kArray);
      if (!buffer) return NotPrintable();
      column.array = View(buffer);
      if (!column.array || column.array->shape.empty()) Py_RETURN_NONE;
      bytes += buffer->len;
    }
    if (column.rows() != columns[0].rows()) {
      PyErr_SetString(PyExc_ValueError, "write_rows takes columns with the same number of rows.");
      return nullptr;
    }
  }
  return Written(bytes, [&](std::string& text) { return estimator::WriteRows(columns, text); });
}

PyObject* NarrowFloats(PyObject*, PyObject* values) {
  const Buffer buffer(values, PyBUF_SIMPLE);
  if (!buffer) return nullptr;
  const std::size_t count = static_cast<std::size_t>(buffer->len) / sizeof(double);
  PyObject* const narrowed = Bytes(nullptr, count * sizeof(float));
  if (!narrowed) return nullptr;
  char* to = PyBytes_AsString(narrowed);
  const char* from = static_cast<const char*>(buffer->buf);
  for (std::size_t index = 0; index < count; ++index) {
    double wide;
    std::memcpy(&wide, from + index * sizeof(double), sizeof(double));
    const float narrow = static_cast<float>(wide);
    std::memcpy(to + index * sizeof(float), &narrow, sizeof(float));
  }
  return narrowed;
}

PyMethodDef kMethods[] = {
    {"narrow_floats", NarrowFloats, METH_O, nullptr},
    {"read_numbers_body", ReadNumbersBody, METH_O, nullptr},
    {"write_array", WriteArray, METH_O, nullptr},
    {"write_rows", WriteRows, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef kModule = {PyModuleDef_HEAD_INIT, "_native", nullptr, 0, kMethods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__native() { return PyModuleDef_Init(&kModule); }
