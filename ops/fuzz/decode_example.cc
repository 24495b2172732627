// Fuzz target: any bytes, as any batch, against a spec of any kind. Besides what the sanitizers see it checks what must
// hold whatever the bytes are.
//
// The first byte of the input chooses the spec. The second one gives the number of splits; that many bytes are the
// splits; the rest are the values. If the highest bit of the second byte is set, the splits are taken as they are, most
// of them nonsense; else they are put in order and end where the values end.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../composites.h"
#include "../example_decoder.h"

namespace {

using estimator::Column;
using estimator::DType;
using estimator::ExampleDecoder;
using estimator::ExampleError;
using estimator::Feature;
using estimator::KeyedColumn;
using estimator::Layout;
using estimator::Message;
using estimator::Partition;
using estimator::PartitionKind;
using estimator::Place;
using estimator::RaggedRows;
using estimator::SparseRows;
using estimator::Values;
using Splits = std::vector<std::int64_t>;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "Broken: %s\n", what);
  std::abort();
}

// ---- specs --------------------------------------------------------------------------------------------------------

// A feature of several columns: those of the values and of the indices or partitions, by their numbers.
struct Sparse {
  std::size_t values;
  std::vector<std::size_t> indices;
  bool already_sorted;
};

struct Ragged {
  std::size_t values;
  std::vector<std::pair<Partition, std::size_t>> partitions;
  bool validate;
};

struct Spec {
  ExampleDecoder decoder;
  std::vector<Sparse> sparse;
  std::vector<Ragged> ragged;
};

Feature Var(const char* key, DType dtype, Place place = Place::kExample) {
  return Feature{key, Layout::kVarLen, dtype, {}, std::nullopt, place};
}

Feature Fixed(const char* key, DType dtype, std::vector<std::int64_t> shape, std::optional<Values> value = {},
              Place place = Place::kExample) {
  return Feature{key, Layout::kFixedLen, dtype, std::move(shape), std::move(value), place};
}

Feature Steps(const char* key, DType dtype, std::vector<std::int64_t> shape, Place place = Place::kExample,
              bool may_be_missing = true) {
  return Feature{key, Layout::kFixedLenSequence, dtype, std::move(shape), std::nullopt, place, may_be_missing};
}

std::pair<Partition, std::size_t> By(PartitionKind kind, std::size_t column) { return {{kind, 0, {}}, column}; }
std::pair<Partition, std::size_t> Uniform(std::int64_t length) { return {{PartitionKind::kUniform, length, {}}, 0}; }

std::vector<Spec> MakeSpecs() {
  const Values zero_float = std::vector<float>{0}, zero_int = std::vector<std::int64_t>{0};
  const Values some_strings = std::vector<std::string_view>{"", "default"};
  const std::vector<Feature> three = {Var("f", DType::kFloat), Var("i", DType::kInt64), Var("s", DType::kString)};
  const std::vector<Feature> numbers = {Var("s", DType::kString), Var("i", DType::kInt64), Var("j", DType::kInt64)};
  const auto lists = [](const char* key, DType dtype) { return Var(key, dtype, Place::kLists); };
  const auto steps = [](const char* key, DType dtype, std::vector<std::int64_t> shape, bool may_be_missing) {
    return Steps(key, dtype, std::move(shape), Place::kLists, may_be_missing);
  };
  const std::vector<Feature> listed = {lists("s", DType::kString), lists("i", DType::kInt64),
                                       lists("j", DType::kInt64)};
  const auto plain = [](std::vector<Feature> features) {
    return ExampleDecoder(Message::kExample, std::move(features));
  };
  const auto sequence = [](std::vector<Feature> features) {
    return ExampleDecoder(Message::kSequenceExample, std::move(features));
  };
  std::vector<Spec> made;
  made.push_back({plain(three), {}, {}});
  made.push_back({plain({Var("i", DType::kFloat), Var("s", DType::kInt64), Var("f", DType::kString)}), {}, {}});
  made.push_back({plain({Fixed("f", DType::kFloat, {}, zero_float), Fixed("i", DType::kInt64, {1}, zero_int),
                         Fixed("s", DType::kString, {2}, some_strings)}),
                  {},
                  {}});
  made.push_back({plain({Fixed("f", DType::kFloat, {2, 2}), Fixed("i", DType::kInt64, {3})}), {}, {}});
  made.push_back({plain({Fixed("s", DType::kString, {}), Var("", DType::kInt64)}), {}, {}});
  made.push_back({plain({Fixed("f", DType::kFloat, {2, 0}), Var("s", DType::kString)}), {}, {}});
  made.push_back(
      {plain({Steps("f", DType::kFloat, {2}), Steps("i", DType::kInt64, {}), Steps("s", DType::kString, {0})}),
       {},
       {}});
  made.push_back({plain(numbers), {{0, {1}, false}, {0, {2, 1}, false}, {1, {2}, true}}, {}});
  made.push_back({plain(numbers),
                  {},
                  {{0, {By(PartitionKind::kRowLengths, 1)}, true}, {1, {By(PartitionKind::kRowSplits, 2)}, true}}});
  made.push_back({plain(numbers),
                  {},
                  {{0, {By(PartitionKind::kRowSplits, 1), Uniform(2), By(PartitionKind::kRowLengths, 2)}, false},
                   {0, {By(PartitionKind::kRowStarts, 1), By(PartitionKind::kRowLimits, 2), Uniform(1)}, false}}});
  made.push_back({plain(numbers),
                  {},
                  {{0, {By(PartitionKind::kValueRowIds, 1)}, false},
                   {0, {By(PartitionKind::kRowLengths, 2), By(PartitionKind::kValueRowIds, 1)}, true}}});
  made.push_back({plain(three), {}, {{0, {Uniform(2)}, false}, {2, {Uniform(3), Uniform(1)}, true}}});
  made.push_back({sequence({Fixed("f", DType::kFloat, {}, zero_float, Place::kContext),
                            Var("i", DType::kInt64, Place::kContext), lists("s", DType::kString),
                            steps("i", DType::kInt64, {2}, true), steps("f", DType::kFloat, {}, false)}),
                  {},
                  {}});
  made.push_back({sequence(listed),
                  {},
                  {{0, {}, false},
                   {0, {By(PartitionKind::kRowLengths, 1)}, false},
                   {0, {By(PartitionKind::kRowLimits, 2), By(PartitionKind::kRowStarts, 1)}, false},
                   {1, {Uniform(2), By(PartitionKind::kValueRowIds, 2)}, true}}});
  return made;
}

const std::vector<Spec>& Specs() {
  static const std::vector<Spec> specs = MakeSpecs();
  return specs;
}

// ---- what must hold -----------------------------------------------------------------------------------------------

std::int64_t Sum(const std::vector<std::int64_t>& lengths) {
  std::int64_t sum = 0;
  for (const std::int64_t length : lengths) {
    Require(length >= 0, "no length is negative");
    sum += length;
  }
  return sum;
}

void CheckColumn(const Feature& feature, const Column& column, std::size_t rows) {
  Require(column.values.index() == static_cast<std::size_t>(feature.dtype), "a column has its feature's dtype");
  const auto count = static_cast<std::int64_t>(estimator::Count(column.values));
  const auto in_shape = static_cast<std::int64_t>(estimator::ValuesInShape(feature.shape));
  const std::int64_t lengths = Sum(column.lengths), steps = Sum(column.steps);
  switch (feature.layout) {
    case Layout::kFixedLen:
      Require(count == static_cast<std::int64_t>(rows) * in_shape, "FixedLen has what its shape holds in every row");
      return;
    case Layout::kFixedLenSequence:
      Require(column.steps.size() == rows, "FixedLenSequence has its steps in every row");
      Require(count == steps * in_shape, "the steps add up to the values");
      return;
    case Layout::kVarLen: break;
  }
  const bool in_lists = feature.place == Place::kLists;
  Require(column.steps.size() == (in_lists ? rows : 0), "lists have steps in every row, and others have none");
  Require(column.lengths.size() == (in_lists ? static_cast<std::size_t>(steps) : rows), "VarLen has its lengths");
  Require(lengths == count, "the lengths add up to the values");
}

// Touches every byte of every string, so that a view of memory that is not there is seen.
std::uint64_t Touch(const Values& values) {
  std::uint64_t sum = 0;
  if (const auto* strings = std::get_if<std::vector<std::string_view>>(&values)) {
    for (const std::string_view view : *strings) {
      for (const char byte : view) sum += static_cast<std::uint8_t>(byte);
    }
  }
  return sum;
}

void CheckSparse(const SparseRows& rows, std::size_t columns, const Column& values) {
  Require(estimator::Count(rows.values) == estimator::Count(values.values), "a sparse feature keeps every value");
  Require(rows.indices.size() == estimator::Count(rows.values) * (1 + columns), "every value has its indices");
  for (std::size_t i = 1 + columns; i < rows.indices.size(); i += 1 + columns) {
    Require(rows.indices[i] >= rows.indices[i - 1 - columns], "rows are in order");
  }
}

void CheckRagged(const RaggedRows& rows, std::size_t batch, std::int64_t inner) {
  auto expected = static_cast<std::int64_t>(batch);
  for (const std::vector<std::int64_t>& limits : rows.limits) {
    Require(static_cast<std::int64_t>(limits.size()) == expected, "a level has the rows that the outer one counts");
    Require(std::is_sorted(limits.begin(), limits.end()), "no row ends before it begins");
    Require(limits.empty() || limits.front() >= 0, "no limit is negative");
    expected = limits.empty() ? 0 : limits.back();
  }
  Require(static_cast<std::int64_t>(estimator::Count(rows.values)) == expected * inner, "the last level counts values");
}

// ---- one batch ----------------------------------------------------------------------------------------------------

struct Outcome {
  std::vector<Column> columns;
  std::vector<SparseRows> sparse;
  std::vector<RaggedRows> ragged;
  std::string refusal;  // empty: decoded

  bool refused() const { return !refusal.empty(); }
};

KeyedColumn Keyed(const Spec& spec, const Outcome& outcome, std::size_t f) {
  return {&spec.decoder.features()[f].key, &outcome.columns[f]};
}

void Compose(const Spec& spec, Outcome& outcome) {
  for (const Sparse& sparse : spec.sparse) {
    std::vector<KeyedColumn> indices;
    for (const std::size_t f : sparse.indices) indices.push_back(Keyed(spec, outcome, f));
    outcome.sparse.push_back(ComposeSparse(Keyed(spec, outcome, sparse.values), indices, sparse.already_sorted, 0));
  }
  for (const Ragged& ragged : spec.ragged) {
    std::vector<Partition> partitions;
    for (const auto& [partition, f] : ragged.partitions) {
      partitions.push_back(partition);
      if (partition.kind != PartitionKind::kUniform) partitions.back().column = Keyed(spec, outcome, f);
    }
    const bool in_steps = spec.decoder.features()[ragged.values].place == Place::kLists;
    outcome.ragged.push_back(
        ComposeRagged(Keyed(spec, outcome, ragged.values), partitions, in_steps, ragged.validate, 0));
  }
}

Outcome Decode(const Spec& spec, std::string_view bytes, const Splits& splits) {
  Outcome outcome;
  try {
    estimator::CheckSplits(bytes, splits.data(), splits.size());
    outcome.columns = spec.decoder.Decode(bytes, splits.data(), 0, splits.size() - 1);
    Compose(spec, outcome);
  } catch (const ExampleError& error) {
    outcome.refusal = error.what();
    Require(outcome.refused(), "a refusal has a text");
  }
  return outcome;
}

std::int64_t InnerSize(const Ragged& ragged) {
  std::int64_t inner = 1;
  for (auto at = ragged.partitions.rbegin(); at != ragged.partitions.rend(); ++at) {
    if (at->first.kind != PartitionKind::kUniform) break;
    inner *= at->first.length;
  }
  return inner;
}

void CheckOutcome(const Spec& spec, const Outcome& outcome, std::size_t rows) {
  for (std::size_t f = 0; f < outcome.columns.size(); ++f) {
    CheckColumn(spec.decoder.features()[f], outcome.columns[f], rows);
    Require(Touch(outcome.columns[f].values) < UINT64_MAX, "bytes can be read");
  }
  for (std::size_t i = 0; i < outcome.sparse.size(); ++i) {
    CheckSparse(outcome.sparse[i], spec.sparse[i].indices.size(), outcome.columns[spec.sparse[i].values]);
  }
  for (std::size_t i = 0; i < outcome.ragged.size(); ++i) {
    CheckRagged(outcome.ragged[i], rows, InnerSize(spec.ragged[i]));
  }
}

// What a row holds and whether it is refused does not depend on the rows around it.
void CheckRowsAlone(const Spec& spec, std::string_view bytes, const Splits& splits, const Outcome& batch) {
  bool all_decoded = true;
  std::vector<std::size_t> counts(spec.ragged.size());
  for (std::size_t row = 0; row + 1 < splits.size(); ++row) {
    const auto begin = static_cast<std::size_t>(splits[row]), end = static_cast<std::size_t>(splits[row + 1]);
    const Outcome alone = Decode(spec, bytes.substr(begin, end - begin), {0, splits[row + 1] - splits[row]});
    all_decoded = all_decoded && !alone.refused();
    for (std::size_t i = 0; i < alone.ragged.size(); ++i) counts[i] += estimator::Count(alone.ragged[i].values);
  }
  Require(batch.refused() != all_decoded, "a batch is refused if and only if one of its rows is");
  for (std::size_t i = 0; i < counts.size() && !batch.refused(); ++i) {
    Require(estimator::Count(batch.ragged[i].values) == counts[i], "a row has the same values alone and in a batch");
  }
}

Splits TakeSplits(std::string_view& input, bool& nonsense) {
  Splits splits = {0};
  if (input.empty()) return splits;
  const auto first = static_cast<std::uint8_t>(input[0]);
  const std::size_t count = std::min<std::size_t>(first & 3, input.size() - 1);
  const std::string_view taken = input.substr(1, count);
  input.remove_prefix(1 + count);
  nonsense = first & 0x80;
  if (nonsense) {
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
  if (size == 0) return 0;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Spec& spec = Specs()[data[0] % Specs().size()];
  bool nonsense = false;
  const Splits splits = TakeSplits(bytes, nonsense);
  const Outcome outcome = Decode(spec, bytes, splits);
  if (!outcome.refused()) CheckOutcome(spec, outcome, splits.size() - 1);
  if (!nonsense && splits.size() > 2) CheckRowsAlone(spec, bytes, splits, outcome);
  return 0;
}
