// Fuzz target: any bytes, as an HTTP request. Besides what the sanitizers see it checks that a request that is read ends
// with its body, and has the length that its head gives.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "../../wire/native/http_request.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const estimator::HttpReader reader({"content-type", "accept-encoding"});
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto request = reader.Read(text, 300, 100);
  if (!request) return 0;
  const std::size_t head = text.size() - request->body.size();
  if (request->body.size() > 100 || head > 300 || text.substr(head - 4, 4) != "\r\n\r\n" || request->path.empty()) {
    std::fprintf(stderr, "Broken: a head and its body\n");
    std::abort();
  }
  std::uint64_t sum = 0;
  for (const auto& [name, value] : request->headers) {
    for (const char byte : value) sum += static_cast<unsigned char>(byte) + name.size();
  }
  return sum == UINT64_MAX;
}
