// Fuzz target: any bytes, as any batch, against specs of every kind, dtype and shape. Besides what the sanitizers see
// it checks what must hold whatever the bytes are.
//
// The first byte of the input gives the number of splits; that many bytes are the splits; the rest are the values. If
// the highest bit of the first byte is set, the splits are taken as they are, most of them nonsense; else they are put
// in order and end where the values end.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../example_decoder.h"

namespace {

using estimator::Column;
using estimator::DType;
using estimator::ExampleDecoder;
using estimator::ExampleError;
using estimator::Feature;
using estimator::Kind;
using estimator::Values;
using Splits = std::vector<std::int64_t>;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "Broken: %s\n", what);
  std::abort();
}

const std::vector<ExampleDecoder>& Decoders() {
  static const std::vector<ExampleDecoder> decoders = [] {
    const Values zero_float = std::vector<float>{0}, zero_int = std::vector<std::int64_t>{0};
    const Values some_strings = std::vector<std::string_view>{"", "default"};
    const auto var = [](const char* key, DType dtype) { return Feature{key, Kind::kVarLen, dtype, {}, std::nullopt}; };
    const auto fixed = [](const char* key, DType dtype, std::vector<std::int64_t> shape, std::optional<Values> value) {
      return Feature{key, Kind::kFixedLen, dtype, std::move(shape), std::move(value)};
    };
    std::vector<ExampleDecoder> made;
    made.emplace_back(std::vector<Feature>{var("?", DType::kFloat)});
    made.emplace_back(std::vector<Feature>{var("f", DType::kFloat), var("i", DType::kInt64), var("s", DType::kString)});
    made.emplace_back(std::vector<Feature>{var("i", DType::kFloat), var("s", DType::kInt64), var("f", DType::kString)});
    made.emplace_back(std::vector<Feature>{fixed("f", DType::kFloat, {}, zero_float),
                                           fixed("i", DType::kInt64, {1}, zero_int),
                                           fixed("s", DType::kString, {2}, some_strings)});
    made.emplace_back(std::vector<Feature>{fixed("f", DType::kFloat, {2, 2}, std::nullopt)});
    made.emplace_back(std::vector<Feature>{fixed("i", DType::kInt64, {3}, std::nullopt)});
    made.emplace_back(std::vector<Feature>{fixed("s", DType::kString, {}, std::nullopt), var("", DType::kInt64)});
    made.emplace_back(std::vector<Feature>{fixed("f", DType::kFloat, {2, 0}, std::nullopt), var("s", DType::kString)});
    return made;
  }();
  return decoders;
}

struct Outcome {
  std::vector<Column> columns;
  std::string refusal;  // empty: decoded
};

Outcome Decode(const ExampleDecoder& decoder, std::string_view bytes, const Splits& splits) {
  try {
    return {decoder.Decode(bytes, splits.data(), splits.size()), ""};
  } catch (const ExampleError& error) {
    Require(*error.what() != '\0', "a refusal has a text");
    return {{}, error.what()};
  }
}

bool NotAnExample(const Outcome& outcome) { return outcome.refusal.rfind("Could not parse", 0) == 0; }

void CheckColumn(const Feature& feature, const Column& column, std::size_t rows) {
  Require(column.values.index() == static_cast<std::size_t>(feature.dtype), "a column has its feature's dtype");
  const std::size_t count = estimator::Count(column.values);
  if (feature.kind == Kind::kFixedLen) {
    Require(count == rows * estimator::ValuesInShape(feature.shape), "FixedLen has what its shape holds in every row");
    return;
  }
  std::int64_t sum = 0, longest = 0;
  for (const std::int64_t length : column.lengths) {
    Require(length >= 0, "no length is negative");
    sum += length;
    longest = std::max(longest, length);
  }
  Require(column.lengths.size() == rows, "VarLen has one length a row");
  Require(static_cast<std::size_t>(sum) == count, "the lengths add up to the values");
  Require(column.longest == longest, "the longest is the longest");
}

// Touches every byte of every string, so that a view of memory that is not there is seen.
std::uint64_t Touch(const Column& column) {
  std::uint64_t sum = 0;
  if (const auto* strings = std::get_if<std::vector<std::string_view>>(&column.values)) {
    for (const std::string_view view : *strings) {
      for (const char byte : view) sum += static_cast<std::uint8_t>(byte);
    }
  }
  return sum;
}

void CheckRowsAlone(const ExampleDecoder& decoder, std::string_view bytes, const Splits& splits, const Outcome& batch) {
  bool all_decoded = true;
  std::vector<std::size_t> counts(decoder.features().size());
  for (std::size_t row = 0; row + 1 < splits.size(); ++row) {
    const auto begin = static_cast<std::size_t>(splits[row]), end = static_cast<std::size_t>(splits[row + 1]);
    const Outcome alone = Decode(decoder, bytes.substr(begin, end - begin), {0, splits[row + 1] - splits[row]});
    all_decoded = all_decoded && alone.refusal.empty();
    for (std::size_t f = 0; f < alone.columns.size(); ++f) counts[f] += estimator::Count(alone.columns[f].values);
  }
  Require(batch.refusal.empty() == all_decoded, "a batch is refused if and only if one of its rows is");
  for (std::size_t f = 0; f < batch.columns.size(); ++f) {
    Require(estimator::Count(batch.columns[f].values) == counts[f], "a row has the same values alone and in a batch");
  }
}

Splits TakeSplits(std::string_view& input) {
  Splits splits = {0};
  if (input.empty()) return splits;
  const auto first = static_cast<std::uint8_t>(input[0]);
  const std::size_t count = std::min<std::size_t>(first & 7, input.size() - 1);
  const std::string_view taken = input.substr(1, count);
  input.remove_prefix(1 + count);
  if (first & 0x80) {
    splits.assign(taken.begin(), taken.end());
    return splits;
  }
  const auto end = static_cast<std::int64_t>(input.size());
  for (const char byte : taken) splits.push_back(std::min<std::int64_t>(static_cast<std::uint8_t>(byte), end));
  std::sort(splits.begin(), splits.end());
  splits.push_back(end);
  return splits;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const Splits splits = TakeSplits(bytes);
  const bool nonsense = size > 0 && (data[0] & 0x80);
  std::optional<bool> not_an_example;
  for (const ExampleDecoder& decoder : Decoders()) {
    const Outcome outcome = Decode(decoder, bytes, splits);
    for (std::size_t f = 0; f < outcome.columns.size(); ++f) {
      CheckColumn(decoder.features()[f], outcome.columns[f], splits.size() - 1);
      Require(Touch(outcome.columns[f]) < UINT64_MAX, "bytes can be read");
    }
    if (nonsense) continue;
    CheckRowsAlone(decoder, bytes, splits, outcome);
    if (splits.size() != 2) continue;
    Require(!not_an_example || *not_an_example == NotAnExample(outcome),
            "what is an Example does not depend on the spec");
    not_an_example = NotAnExample(outcome);
  }
  return 0;
}
