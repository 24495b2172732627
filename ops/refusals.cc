#include "refusals.h"

#include <algorithm>

namespace estimator {
namespace {

// How many bytes the UTF-8 sequence at the start of `bytes` has; 0 where there is none (RFC 3629).
std::size_t Utf8Length(std::string_view bytes) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(i < bytes.size() ? bytes[i] : 0); };
  const auto continues = [&](std::size_t i) { return (byte(i) & 0xc0) == 0x80; };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4 || !continues(1)) return 0;
  if (lead < 0xe0) return 2;
  if ((lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xed && byte(1) > 0x9f) || !continues(2)) return 0;
  if (lead < 0xf0) return 3;
  if ((lead == 0xf0 && byte(1) < 0x90) || (lead == 0xf4 && byte(1) > 0x8f) || !continues(3)) return 0;
  return 4;
}

// Bytes of a stranger as text: up to the first NUL, at most 64 of them, with \x.. for what is not UTF-8.
std::string Printable(std::string_view bytes) {
  static constexpr char kHex[] = "0123456789abcdef";
  constexpr std::size_t kLongest = 64;
  bytes = bytes.substr(0, std::min(bytes.find('\0'), bytes.size()));
  std::string text;
  for (std::size_t at = 0; at < std::min(bytes.size(), kLongest);) {
    const std::size_t length = Utf8Length(bytes.substr(at));
    if (at + length > kLongest) break;  // the cut falls into this character
    if (length > 0) {
      text += bytes.substr(at, length);
    } else {
      const auto byte = static_cast<std::uint8_t>(bytes[at]);
      text += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    }
    at += std::max<std::size_t>(length, 1);
  }
  return text;
}

std::string AtIndex(const Feature& feature, std::size_t index) {
  return "Name: <unknown>, Key: " + feature.key + ", Index: " + std::to_string(index) + ".  ";
}

std::string InRow(std::size_t row) { return ".  It is row " + std::to_string(row) + " of the batch."; }

// What TensorFlow calls the values of a dtype: strings are bytes here.
std::string ValuesName(DType dtype) { return dtype == DType::kString ? "bytes" : Name(dtype); }

// The shape of any number of steps, as TensorFlow writes it: [?,2].
std::string StepsText(const std::vector<std::int64_t>& shape) {
  return ShapeText(shape).insert(1, shape.empty() ? "?" : "?,");
}

// The text of parse_sequence_example for a wrong number of values, none included, in a context feature.
[[noreturn]] void RefuseContextCount(const Feature& feature, std::size_t row, std::size_t expected,
                                     std::size_t count) {
  throw ExampleError("Inconsistent max number of elements for feature " + feature.key + ": expected " +
                     std::to_string(expected) + ", but found " + std::to_string(count) + InRow(row));
}

}  // namespace

std::string ShapeText(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (const std::int64_t dim : shape) {
    if (text.size() > 1) text += ',';
    text += std::to_string(dim);
  }
  return text + "]";
}

void RefuseRow(Message message, std::string_view bytes) {
  if (message == Message::kExample) {
    throw ExampleError("Could not parse example input, value: '" + Printable(bytes) + "'");
  }
  throw ExampleError("Invalid protocol message input, example id: <unknown>, value: '" + Printable(bytes) + "'");
}

void RefuseList(const Feature& feature, std::size_t row) {
  throw ExampleError(AtIndex(feature, row) + "Can't parse serialized Example.");
}

void RefuseKind() { throw ExampleError("Unsupported datatype."); }

void RefuseMissing(const Feature& feature, std::size_t row) {
  switch (feature.place) {
    case Place::kExample:
      throw ExampleError("Name: <unknown>, Feature: " + feature.key + " (data type: " + Name(feature.dtype) +
                         ") is required but could not be found.");
    case Place::kContext: RefuseContextCount(feature, row, ValuesInShape(feature.shape), 0);
    case Place::kLists: break;
  }
  throw ExampleError("Name: <unknown>, Feature list '" + feature.key +
                     "' is required but could not be found.  Did you mean to include it in "
                     "feature_list_dense_missing_assumed_empty or feature_list_dense_defaults?" +
                     InRow(row) + "  Declare the feature with allow_missing, or send the list.");
}

void RefuseDType(const Feature& feature, std::size_t row, std::size_t step, DType found) {
  const std::string expected = std::string("Data types don't match. Expected type: ") + Name(feature.dtype);
  const std::string actual = std::string(", Actual type: ") + Name(found);
  if (feature.place == Place::kContext) {
    throw ExampleError("Name: <unknown>, Context feature: " + feature.key + ".  " + expected + actual + InRow(row));
  }
  if (feature.place == Place::kLists) {
    throw ExampleError("Name: <unknown>, Feature list: " + feature.key + ", Index: " + std::to_string(step) + ".  " +
                       expected + actual + InRow(row));
  }
  if (feature.layout == Layout::kVarLen) throw ExampleError(AtIndex(feature, row) + expected + actual);
  throw ExampleError(AtIndex(feature, row) + "Data types don't match. Data type: " + Name(found) +
                     " but expected type: " + Name(feature.dtype));
}

void RefuseCount(const Feature& feature, std::size_t row, std::size_t expected, std::size_t count) {
  if (feature.place == Place::kContext) RefuseContextCount(feature, row, expected, count);
  // An oddity of TensorFlow's texts: too many strings "can't be parsed".
  const bool odd = feature.dtype == DType::kString && count > expected;
  throw ExampleError(AtIndex(feature, row) + (odd ? "Can't parse serialized Example.  " : "") + "Number of " +
                     ValuesName(feature.dtype) + " values != expected.  Values size: " + std::to_string(count) +
                     " but output shape: " + ShapeText(feature.shape));
}

void RefuseStride(const Feature& feature, std::size_t row, std::size_t count) {
  throw ExampleError(AtIndex(feature, row) + "Number of " + ValuesName(feature.dtype) +
                     " values is not a multiple of stride length. Saw " + std::to_string(count) +
                     " values but output shape is: " + StepsText(feature.shape));
}

void RefuseStep(const Feature& feature, std::size_t step, std::size_t expected, std::size_t count, std::size_t total) {
  if (expected > 0 && total % expected != 0) {
    throw ExampleError("Feature list '" + feature.key + "' has an unexpected number of values.  Total values size: " +
                       std::to_string(total) + " is not consistent with output shape: " + StepsText(feature.shape));
  }
  throw ExampleError(AtIndex(feature, step) + "Number of values != expected.  values size: " + std::to_string(count) +
                     " but output shape: " + ShapeText(feature.shape));
}

}  // namespace estimator
