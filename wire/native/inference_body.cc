#include "inference_body.h"

#include <cmath>

#include "json_lists.h"

namespace estimator {
namespace {

// The most that a request may have; the slower reader refuses more.
constexpr std::size_t kTensorsMax = 1024, kIdMax = 1024;

// A member that comes once and is a plain string.
bool ReadOnce(JsonCursor& cursor, std::optional<std::string_view>& text) {
  if (text) return false;
  text = cursor.ReadString();
  return text.has_value();
}

bool ReadShape(JsonCursor& cursor, std::vector<std::int64_t>& shape) {
  if (!shape.empty()) return false;
  return ReadList(cursor, [&] {
    const auto length = cursor.ReadNumber();
    if (!length || !length->is_integer || shape.size() == kDimensionsMax) return false;
    shape.push_back(length->integer);
    return true;
  });
}

// Appends to values of this kind; these are of none yet if there are none.
template <class Values, class Value>
bool Append(InferenceInput& input, std::size_t count, Value value) {
  if (!count) input.data.emplace<Values>();
  Values* const values = std::get_if<Values>(&input.data);
  if (!values) return false;
  if constexpr (std::is_same_v<Values, Numbers>) {
    values->Add(value);
  } else {
    values->push_back(value);
  }
  return true;
}

// Fills `lists` with the shape of the data as its lists have it.
bool ReadData(JsonCursor& cursor, InferenceInput& input, std::vector<std::int64_t>& lists) {
  std::size_t count = 0;
  const bool is_read = ReadLists(cursor, lists, [&] {
    const std::size_t before = count++;
    if (cursor.Sees('"')) {
      const auto text = cursor.ReadString();
      return text && Append<InferenceInput::Texts>(input, before, *text);
    }
    if (cursor.TakeWord("true")) return Append<InferenceInput::Booleans>(input, before, char{1});
    if (cursor.TakeWord("false")) return Append<InferenceInput::Booleans>(input, before, char{0});
    const auto number = cursor.ReadNumber();
    return number && Append<Numbers>(input, before, *number);
  });
  return is_read && !lists.empty();
}

// Whether lists, none of which is empty, are one list of as many values as the shape says, or nested as the shape is.
bool Fits(const std::vector<std::int64_t>& lists, const std::vector<std::int64_t>& shape) {
  if (lists == shape) return true;
  if (lists.size() > 1) return false;
  std::int64_t size = 1;
  for (const std::int64_t length : shape) {
    if (length <= 0 || length > lists[0]) return false;
    size *= length;
    if (size > lists[0]) return false;
  }
  return size == lists[0];
}

bool ReadInput(JsonCursor& cursor, InferenceInput& input) {
  std::optional<std::string_view> name, datatype;
  std::vector<std::int64_t> lists;
  const bool is_read = ReadMembers(cursor, [&](std::string_view key) {
    if (key == "name") return ReadOnce(cursor, name);
    if (key == "datatype") return ReadOnce(cursor, datatype);
    if (key == "shape") return ReadShape(cursor, input.shape);
    return key == "data" && lists.empty() && ReadData(cursor, input, lists);
  });
  if (!is_read || !name || !datatype || input.shape.empty() || lists.empty()) return false;
  input.name = *name;
  input.datatype = *datatype;
  return Fits(lists, input.shape);
}

bool ReadOutput(JsonCursor& cursor, std::string_view& output) {
  std::optional<std::string_view> name;
  const bool is_read =
      ReadMembers(cursor, [&](std::string_view key) { return key == "name" && ReadOnce(cursor, name); });
  if (is_read && name) output = *name;
  return is_read && name;
}

// A list of tensors that comes once.
template <class Tensor, class Read>
bool ReadTensors(JsonCursor& cursor, std::vector<Tensor>& tensors, Read read) {
  if (!tensors.empty()) return false;
  return ReadList(cursor,
                  [&] { return tensors.size() < kTensorsMax && read(cursor, tensors.emplace_back()); });
}

}  // namespace

std::optional<Inference> ReadInference(std::string_view text) {
  JsonCursor cursor(text);
  Inference inference;
  cursor.SkipSpace();
  const bool is_read = ReadMembers(cursor, [&](std::string_view key) {
    if (key == "id") return ReadOnce(cursor, inference.id) && inference.id->size() <= kIdMax;
    if (key == "inputs") return ReadTensors(cursor, inference.inputs, ReadInput);
    return key == "outputs" && ReadTensors(cursor, inference.outputs, ReadOutput);
  });
  cursor.SkipSpace();
  if (!is_read || inference.inputs.empty() || !cursor.AtEnd()) return std::nullopt;
  return inference;
}

std::optional<std::vector<float>> ToFloats(const Numbers& numbers) {
  std::vector<float> floats;
  floats.reserve(numbers.integers.size() + numbers.reals.size());
  for (const std::int64_t integer : numbers.integers) floats.push_back(static_cast<float>(static_cast<double>(integer)));
  for (const double real : numbers.reals) {
    floats.push_back(static_cast<float>(real));
    if (!std::isfinite(floats.back())) return std::nullopt;
  }
  return floats;
}

}  // namespace estimator
