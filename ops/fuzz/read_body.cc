// Fuzz target: any bytes, as the body of a request. Besides what the sanitizers see it checks that a tensor has the
// promised size, that its text is read as the same numbers again, and that rows can be written as Examples and columns.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <variant>

#include "../../wire/native/example_writer.h"
#include "../../wire/native/json_body.h"
#include "../../wire/native/json_writer.h"

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

void CheckTensor(const estimator::Numbers& numbers) {
  const std::size_t count = numbers.are_integers ? numbers.integers.size() : numbers.reals.size();
  Require(count == SizeOf(numbers.shape), "a shape and its numbers");
  const void* const values = numbers.are_integers ? static_cast<const void*>(numbers.integers.data())
                                                  : static_cast<const void*>(numbers.reals.data());
  std::string again = "{\"inputs\":";
  Require(estimator::WriteArray({numbers.are_integers ? 'q' : 'd', values, numbers.shape}, again), "finite numbers");
  again += '}';
  const auto reread = estimator::ReadBody(again);
  Require(reread && std::holds_alternative<estimator::Numbers>(reread->content), "what was written");
  const auto& same = std::get<estimator::Numbers>(reread->content);
  Require(same.shape == numbers.shape, "the shape of what was written");
  Require(same.integers == numbers.integers, "the integers that were written");
  Require(same.reals == numbers.reals, "the reals that were written");
}

void CheckColumns(const estimator::Columns& columns) {
  for (const auto& [key, numbers] : columns) CheckTensor(numbers);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using estimator::FeatureType;
  static const estimator::ExampleWriter writer(
      {{"f", FeatureType::kFloat}, {"i", FeatureType::kInt64}, {"s", FeatureType::kBytes}});
  const auto body = estimator::ReadBody({reinterpret_cast<const char*>(data), size});
  if (!body) return 0;
  if (const auto* const numbers = std::get_if<estimator::Numbers>(&body->content)) {
    CheckTensor(*numbers);
  } else if (const auto* const columns = std::get_if<estimator::Columns>(&body->content)) {
    CheckColumns(*columns);
  } else {
    const auto& rows = std::get<estimator::Rows>(body->content);
    const auto examples = writer.Write(rows);
    Require(!examples || examples->size() == rows.row_ends.size(), "one Example for each row");
    if (const auto read = rows.ToColumns()) CheckColumns(*read);
  }
  return 0;
}
