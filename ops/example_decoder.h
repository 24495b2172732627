// Decodes batches of serialized tensorflow.Example and tensorflow.SequenceExample into columns, by a parse spec. Owns
// the two messages and the rules of tf.io.parse_example and tf.io.parse_sequence_example; the texts of what it refuses
// are in refusals.h. Knows nothing of ONNX Runtime; does no input or output.
//
// The bytes are hostile: every read is checked against the end of the bytes, nothing is allocated for a length that is
// announced and not there, and groups nest to a fixed depth.
//
// Where TensorFlow's fast parser leaves the protobuf specification this decoder follows the specification: split lists
// are joined, the last map entry and the last member of a oneof win, unknown fields are skipped, truncation is refused.
// One exception: that keys are UTF-8 is not checked; a key that is not matches no feature.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "key_index.h"

namespace estimator {

// In the order of the alternatives of Values, so that a dtype is an index into it.
enum class DType : std::uint8_t { kFloat, kInt64, kString };

// Values of one dtype, flat. Strings are views of bytes that somebody else keeps.
using Values = std::variant<std::vector<float>, std::vector<std::int64_t>, std::vector<std::string_view>>;

// TensorFlow's name of a dtype, as its error texts spell it.
const char* Name(DType dtype);

// How many values there are.
std::size_t Count(const Values& values);

// No values, of this dtype.
Values EmptyValues(DType dtype);

// How the values of a feature lie in a row: as many as the shape holds; any number; any number of steps of the shape.
enum class Layout : std::uint8_t { kFixedLen, kVarLen, kFixedLenSequence };

// Where a feature is: in an Example, or in one of the two halves of a SequenceExample.
enum class Place : std::uint8_t { kExample, kContext, kLists };

// One feature of the parse spec.
struct Feature {
  std::string key;
  Layout layout = Layout::kFixedLen;
  DType dtype = DType::kFloat;
  std::vector<std::int64_t> shape;      // FixedLen: of a row; FixedLenSequence: of a step
  std::optional<Values> default_value;  // FixedLen: as many values as `shape` holds
  Place place = Place::kExample;
  bool may_be_missing = true;  // FixedLenSequence in lists: rows without it have no steps
};

// One feature of decoded rows.
struct Column {
  Values values;                      // those of the first row, then those of the next, ...
  std::vector<std::int64_t> lengths;  // VarLen: how many values each row has, in lists: each step
  std::vector<std::int64_t> steps;    // FixedLenSequence, and VarLen in lists: how many steps each row has
};

// Examples that do not fit the spec, or that are not Examples. The text starts with TensorFlow's where it has one.
class ExampleError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A parse spec that cannot be right, whatever the bytes are.
class SpecError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// How many values a row or step of this shape holds. Throws SpecError for a negative dimension and for more than 2^31.
std::size_t ValuesInShape(const std::vector<std::int64_t>& shape);

// Throws ExampleError unless row i can be the bytes row_splits[i] up to row_splits[i + 1].
void CheckSplits(std::string_view bytes, const std::int64_t* row_splits, std::size_t splits);

enum class Message : std::uint8_t { kExample, kSequenceExample };

class ExampleDecoder {
 public:
  // Throws SpecError: no features, two features with one key in one place, a place the message has not, an impossible
  // shape, a default that does not fit its feature.
  ExampleDecoder(Message message, std::vector<Feature> features);

  const std::vector<Feature>& features() const { return features_; }

  // The rows from `first` on, `rows` of them; CheckSplits must have passed. One column a feature, in the order of the
  // spec; string values are views of `bytes`. Throws ExampleError, for the first row that is wrong.
  std::vector<Column> Decode(std::string_view bytes, const std::int64_t* row_splits, std::size_t first,
                             std::size_t rows) const;

 private:
  friend class RowReader;

  KeyIndex& IndexOf(Place place) { return place == Place::kLists ? lists_ : features_index_; }

  Message message_;
  std::vector<Feature> features_;
  std::vector<std::size_t> values_in_shape_;
  KeyIndex features_index_;  // of an Example, or of the context of a SequenceExample
  KeyIndex lists_;           // of the feature lists of a SequenceExample
};

}  // namespace estimator
