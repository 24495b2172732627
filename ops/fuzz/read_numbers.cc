// Fuzz target: any bytes, as the body of a request. Besides what the sanitizers see it checks that what is read has the
// promised size, and that its text is read as the same numbers again.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "../../wire/native/json_numbers.h"

namespace {

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "Broken: %s\n", what);
  std::abort();
}

std::size_t SizeOf(const std::vector<std::int64_t>& shape) {
  std::size_t size = 1;
  for (const std::int64_t one : shape) size *= static_cast<std::size_t>(one);
  return size;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto body = estimator::ReadNumbersBody(text);
  if (!body) return 0;
  const estimator::Numbers& numbers = body->numbers;
  const std::size_t count = numbers.are_integers ? numbers.integers.size() : numbers.reals.size();
  Require(count == SizeOf(numbers.shape), "a shape and its numbers");
  const void* const values = numbers.are_integers ? static_cast<const void*>(numbers.integers.data())
                                                  : static_cast<const void*>(numbers.reals.data());
  std::string again = "{\"inputs\":";
  Require(estimator::WriteArray({numbers.are_integers ? 'q' : 'd', values, numbers.shape}, again), "finite numbers");
  again += '}';
  const auto reread = estimator::ReadNumbersBody(again);
  Require(reread && reread->numbers.shape == numbers.shape, "the shape of what was written");
  Require(reread->numbers.integers == numbers.integers, "the integers that were written");
  Require(reread->numbers.reals == numbers.reals, "the reals that were written");
  return 0;
}
