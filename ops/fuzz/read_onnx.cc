// Fuzz target: any bytes, as an ONNX model's file. Besides what the sanitizers see it checks that what is wrong lies in the
// file.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "../../wire/native/onnx_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = estimator::ReadOnnxFile({reinterpret_cast<const char*>(data), size});
  if (file.fault_at > size || file.words.size() > estimator::kOnnxWordsMax) {
    std::fprintf(stderr, "Broken: the place of a fault, or the number of words\n");
    std::abort();
  }
  std::uint64_t sum = file.ir_version;
  // Every byte is touched, so that the sanitizer sees a view that points nowhere.
  const auto touch = [&](std::string_view text) {
    for (const char byte : text) sum += static_cast<unsigned char>(byte);
  };
  for (const auto& [domain, version] : file.opsets) touch(domain);
  for (const auto& [key, value] : file.metadata) touch(key), touch(value);
  for (const auto& one : file.external) touch(one.name), touch(one.location), touch(one.offset), touch(one.length);
  for (const auto& one : file.others) touch(one.name);
  for (const std::string_view word : file.words) touch(word);
  return sum == UINT64_MAX;
}
