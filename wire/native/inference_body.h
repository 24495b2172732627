// The JSON bodies of Open Inference requests that hold nothing but plain tensors -> their parts.
//
// Owns the members of these bodies. Knows no model and no Python, and leaves every other body, without a reason, to a
// slower reader, which has the sentences.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <variant>
#include <vector>

#include "json_body.h"

namespace estimator {

// An input with its data, which has as many values as its shape says. Data in nested lists is nested as the shape is.
struct InferenceInput {
  using Booleans = std::vector<char>;  // 0 and 1
  using Texts = std::vector<std::string_view>;

  std::string_view name, datatype;
  std::vector<std::int64_t> shape;
  std::variant<Numbers, Booleans, Texts> data;
};

// {"id": …, "inputs": […], "outputs": [{"name": …}, …]}, the id and the outputs only where the request has them.
struct Inference {
  std::optional<std::string_view> id;
  std::vector<InferenceInput> inputs;
  std::vector<std::string_view> outputs;
};

// Nothing for a text of any other form: parameters anywhere, members that are unknown or come twice, empty lists, data
// that does not fit its shape or mixes kinds of values, and what ReadBody leaves to its slower reader.
std::optional<Inference> ReadInference(std::string_view text);

// Numbers as floats; nothing where one of them is too large for a float.
std::optional<std::vector<float>> ToFloats(const Numbers& numbers);

}  // namespace estimator
