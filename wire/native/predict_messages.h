// TensorFlow Serving's requests and responses of Predict, Classify and Regress <-> arrays, without a message in between.
//
// Owns the fields of these messages that plain requests have. Knows no Python, and has no sentences: whatever is out of
// the ordinary (unknown fields, a field that comes twice, values that do not fill their shape, names beyond ASCII) is left
// to the reader in Python.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
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

// Appends the map entries of PredictResponse.outputs. as_content: values in tensor_content instead of their typed field.
void WriteOutputs(const std::vector<Output>& outputs, bool as_content, std::string& message);

}  // namespace estimator
