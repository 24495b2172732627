// TensorFlow Serving's requests and responses of Predict, Classify and Regress <-> arrays, without a message in between.
//
// Owns the fields of these messages that plain requests have. Knows no Python, and has no sentences: whatever is out of
// the ordinary (unknown fields, a field that comes twice, values that do not fill their shape, names beyond ASCII) is left
// to the reader in Python.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "json_writer.h"

namespace estimator {

// A TensorProto of numbers or strings. The views point into the message that was read.
struct TensorMessage {
  int dtype = 0;  // TensorFlow's number
  std::vector<std::int64_t> shape;
  std::string_view content;               // numbers as they lie in memory
  std::string decoded;                    // the same, where they had to be made of packed varints
  std::vector<std::string_view> strings;  // of DT_STRING

  std::string_view memory() const { return decoded.empty() ? content : std::string_view(decoded); }
};

struct ModelSpec {
  std::string_view name, label, signature_name;  // empty where the message has none
  std::optional<std::int64_t> version;
};

struct PredictRequest {
  struct Input {
    std::string_view alias;
    TensorMessage tensor;
  };

  ModelSpec spec;
  std::vector<std::string_view> output_filter;
  std::vector<Input> inputs;
};

inline constexpr int kStringType = 7;  // DT_STRING

std::optional<PredictRequest> ReadPredictRequest(std::string_view message);

// A ClassificationRequest or RegressionRequest, whose fields are the same. One with a context is left to Python.
struct ExamplesRequest {
  ModelSpec spec;
  std::vector<std::string_view> examples;  // at least one
};

std::optional<ExamplesRequest> ReadExamplesRequest(std::string_view message);

// One output: an array, or a TensorProto that is written already.
struct Output {
  std::string_view alias;
  std::optional<ArrayView> array;
  std::string_view tensor;
};

// Appends a ClassificationResult: `classes` labels and as many scores for each row.
void WriteClassifications(const std::vector<std::string_view>& labels, const float* scores, std::size_t classes,
                          std::string& message);

// A text in pieces, so that what is long is copied once. Some pieces are its own, others lie where they were.
class Pieces {
 public:
  void Own(std::string piece) { Lend(owned_.emplace_back(std::move(piece))); }
  void Lend(std::string_view piece) {
    pieces_.push_back(piece);
    size_ += piece.size();
  }
  std::size_t size() const { return size_; }
  // Writes the whole text, which has size() bytes.
  void CopyTo(char* to) const {
    for (const std::string_view piece : pieces_) to = std::copy(piece.begin(), piece.end(), to);
  }

 private:
  std::deque<std::string> owned_;  // which moves none of them
  std::vector<std::string_view> pieces_;
  std::size_t size_ = 0;
};

// The map entries of PredictResponse.outputs. as_content: values in tensor_content instead of their typed field. The
// pieces last as long as the arrays.
Pieces WriteOutputs(const std::vector<Output>& outputs, bool as_content);

}  // namespace estimator
