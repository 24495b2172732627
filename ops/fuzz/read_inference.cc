// Fuzz target: any bytes, as the body of an Open Inference request. Besides what the sanitizers see it checks that each
// input has as many values as its shape says, that floats stay finite, and that what is printed is read as the same again.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "../../wire/native/inference_body.h"
#include "../../wire/native/json_writer.h"

namespace {

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "Broken: %s\n", what);
  std::abort();
}

void CheckFloats(const std::vector<float>& floats) {
  std::string again = "{\"inputs\":[{\"name\":\"\",\"datatype\":\"\",\"shape\":[" + std::to_string(floats.size()) + "],\"data\":";
  for (const float one : floats) Require(std::isfinite(one), "finite floats");
  const auto size = static_cast<std::int64_t>(floats.size());
  Require(estimator::WriteFlat({'f', floats.data(), {size}}, again), "finite floats are printed");
  const auto reread = estimator::ReadInference(again + "}]}");
  Require(reread.has_value(), "what was printed");
  Require(estimator::ToFloats(std::get<estimator::Numbers>(reread->inputs.at(0).data)) == floats, "the same floats");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto inference = estimator::ReadInference({reinterpret_cast<const char*>(data), size});
  if (!inference) return 0;
  Require(!inference->inputs.empty(), "inputs");
  for (const estimator::InferenceInput& input : inference->inputs) {
    std::size_t count = 1;
    for (const std::int64_t one : input.shape) count *= static_cast<std::size_t>(one);
    if (const auto* const numbers = std::get_if<estimator::Numbers>(&input.data)) {
      Require(numbers->integers.size() + numbers->reals.size() == count, "as many numbers as the shape says");
      if (const auto floats = estimator::ToFloats(*numbers)) CheckFloats(*floats);
    } else if (const auto* const texts = std::get_if<estimator::InferenceInput::Texts>(&input.data)) {
      Require(texts->size() == count, "as many texts as the shape says");
    } else {
      Require(std::get<estimator::InferenceInput::Booleans>(input.data).size() == count, "as many booleans");
    }
  }
  return 0;
}
