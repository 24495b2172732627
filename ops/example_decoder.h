// Decodes batches of serialized tensorflow.Example into columns, by a parse spec. Owns the protobuf wire format, the
// rules of tf.io.parse_example and its error texts. Knows nothing of ONNX Runtime; does no input or output.
//
// The bytes are hostile: every read is checked against the end of the bytes, nothing is allocated for a length that is
// announced and not there, groups nest to a fixed depth, and a padded output has an upper limit.
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

namespace estimator {

enum class Kind : std::uint8_t { kFixedLen, kVarLen };

// In the order of the alternatives of Values, so that a dtype is an index into it.
enum class DType : std::uint8_t { kFloat, kInt64, kString };

// Values of one dtype, flat. Strings are views of bytes that somebody else keeps.
using Values = std::variant<std::vector<float>, std::vector<std::int64_t>, std::vector<std::string_view>>;

// TensorFlow's name of a dtype, as its error texts spell it.
const char* Name(DType dtype);

// One feature of the parse spec.
struct Feature {
  std::string key;
  Kind kind = Kind::kFixedLen;
  DType dtype = DType::kFloat;
  std::vector<std::int64_t> shape;      // FixedLen: of one row
  std::optional<Values> default_value;  // FixedLen: as many values as `shape` holds
};

// One feature of a decoded batch.
struct Column {
  Values values;                      // those of row 0, then those of row 1, ...
  std::vector<std::int64_t> lengths;  // VarLen: how many values each row has
  std::int64_t longest = 0;           // VarLen: the greatest of `lengths`
};

// Examples that do not fit the spec, or that are not Examples. The text starts with TensorFlow's where it has one.
class ExampleError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A parse spec that cannot be right, whatever the bytes are.
class SpecError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// How many values a row of this shape holds. Throws SpecError for a negative dimension and for more than 2^31 values.
std::size_t ValuesInShape(const std::vector<std::int64_t>& shape);

// How many values the column holds.
std::size_t Count(const Values& values);

class ExampleDecoder {
 public:
  // Throws SpecError: no features, two features with one key, an impossible shape, a default that does not fit its
  // feature.
  explicit ExampleDecoder(std::vector<Feature> features);

  const std::vector<Feature>& features() const { return features_; }

  // Row i is the bytes row_splits[i] up to row_splits[i + 1]. One column a feature, in the order of the spec; string
  // values are views of `bytes`. Throws ExampleError, for the first row that is wrong.
  std::vector<Column> Decode(std::string_view bytes, const std::int64_t* row_splits, std::size_t splits) const;

 private:
  friend class RowReader;
  static constexpr std::size_t kAbsent = SIZE_MAX;

  struct Slot {
    std::uint64_t fingerprint = 0;
    std::size_t feature = kAbsent;
  };

  std::size_t Find(std::string_view key) const;
  void Insert(std::size_t feature);

  std::vector<Feature> features_;
  std::vector<std::size_t> values_in_row_;  // FixedLen: what the shape holds; VarLen: 0
  std::vector<Slot> slots_;                 // open addressing, a power of two, never more than half full
};

}  // namespace estimator
