// Fuzz target: any bytes, as a PredictRequest and as a request of Examples. Besides what the sanitizers see it checks that
// a tensor has as many values as its shape says.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "../../wire/native/predict_messages.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (const auto examples = estimator::ReadExamplesRequest({reinterpret_cast<const char*>(data), size})) {
    std::uint64_t bytes = 0;
    for (const std::string_view example : examples->examples) {
      for (const char byte : example) bytes += static_cast<unsigned char>(byte);
    }
    return bytes == UINT64_MAX;
  }
  const auto request = estimator::ReadPredictRequest({reinterpret_cast<const char*>(data), size});
  if (!request) return 0;
  std::uint64_t sum = request->spec.name.size();
  for (const auto& input : request->inputs) {
    std::uint64_t count = 1;
    for (const std::int64_t one : input.tensor.shape) count *= static_cast<std::uint64_t>(one);
    const std::string_view memory = input.tensor.memory();
    const bool is_text = input.tensor.dtype == estimator::kStringType;
    if (is_text ? input.tensor.strings.size() != count : memory.size() % count != 0 || memory.empty()) {
      std::fprintf(stderr, "Broken: a shape and its values\n");
      std::abort();
    }
    // Every byte is touched, so that the sanitizer sees a view that points nowhere.
    for (const char byte : memory) sum += static_cast<unsigned char>(byte);
    for (const std::string_view text : input.tensor.strings) {
      for (const char byte : text) sum += static_cast<unsigned char>(byte);
    }
  }
  return sum == UINT64_MAX;
}
