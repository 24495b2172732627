#include "composites.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <type_traits>
#include <utility>

namespace estimator {
namespace {

using Numbers = std::vector<std::int64_t>;

std::string AtRow(const std::string& key, std::size_t row) {
  return ".  Key: " + key + ", Index: " + std::to_string(row) + ".  ";
}

// Calls `action` with the flat values and an empty vector of their type that `out` then holds.
template <class Action>
void Transfer(const Values& values, Values& out, const Action& action) {
  std::visit(
      [&](const auto& source) {
        std::decay_t<decltype(source)> target;
        target.reserve(source.size());
        action(source, target);
        out = std::move(target);
      },
      values);
}

// ---- sparse -------------------------------------------------------------------------------------------------------

void CheckLengths(const KeyedColumn& values, const KeyedColumn& indices, std::size_t i, std::size_t row) {
  if (indices.lengths()[i] == values.lengths()[i]) return;
  throw ExampleError("Dimensions " + std::to_string(indices.lengths()[i]) + " and " +
                     std::to_string(values.lengths()[i]) + " are not compatible" + AtRow(*indices.key, row) +
                     "The row has " + std::to_string(values.lengths()[i]) + " values under '" + *values.key +
                     "'; give each value one index.");
}

// Puts the positions begin, begin + 1, ... of a row's values into the order of their indices.
void Sort(const std::vector<KeyedColumn>& indices, std::vector<std::size_t>& positions) {
  const auto before = [&](std::size_t left, std::size_t right) {
    for (const KeyedColumn& column : indices) {
      const Numbers& numbers = column.numbers();
      if (numbers[left] != numbers[right]) return numbers[left] < numbers[right];
    }
    return false;
  };
  if (!std::is_sorted(positions.begin(), positions.end(), before)) {
    std::stable_sort(positions.begin(), positions.end(), before);
  }
}

}  // namespace

SparseRows ComposeSparse(const KeyedColumn& values, const std::vector<KeyedColumn>& indices, bool already_sorted,
                         std::size_t first) {
  SparseRows rows;
  rows.indices.reserve(Count(values.column->values) * (1 + indices.size()));
  Transfer(values.column->values, rows.values, [&](const auto& source, auto& target) {
    std::vector<std::size_t> positions;
    std::size_t begin = 0;
    for (std::size_t i = 0; i < values.lengths().size(); ++i) {
      for (const KeyedColumn& column : indices) CheckLengths(values, column, i, first + i);
      positions.resize(static_cast<std::size_t>(values.lengths()[i]));
      std::iota(positions.begin(), positions.end(), begin);
      begin += positions.size();
      if (!already_sorted) Sort(indices, positions);
      for (const std::size_t at : positions) {
        target.push_back(source[at]);
        rows.indices.push_back(static_cast<std::int64_t>(first + i));
        for (const KeyedColumn& column : indices) rows.indices.push_back(column.numbers()[at]);
      }
    }
  });
  return rows;
}

// ---- ragged -------------------------------------------------------------------------------------------------------

namespace {

// Row ids make inner rows out of nothing: one of a million is a million empty rows before it.
constexpr std::int64_t kRowsOfIdsMax = std::int64_t{1} << 22;

// What TensorFlow says of a partition that does not fit.
const char* Invalid(PartitionKind kind) {
  switch (kind) {
    case PartitionKind::kRowSplits:
    case PartitionKind::kRowLimits: return "Arguments to from_row_limits do not form a valid RaggedTensor";
    case PartitionKind::kRowLengths: return "Arguments to from_row_lengths do not form a valid RowPartition";
    case PartitionKind::kRowStarts: return "Arguments to from_row_starts do not form a valid RaggedTensor";
    case PartitionKind::kValueRowIds: return "Arguments to from_value_rowids do not form a valid RowPartition";
    case PartitionKind::kUniform: break;
  }
  return "Arguments to from_uniform_row_length do not form a valid RaggedTensor";
}

// Cuts the items of one row, which are its values or its rows of the next level, by one partition.
class Cutter {
 public:
  Cutter(const Partition& partition, bool validate) : partition_(partition), validate_(validate) {}

  // Where the inner rows of row `row` of the batch begin, and at last where they end: from 0 up to `items`, never
  // decreasing. `count` numbers are the row's own.
  void Cut(const std::int64_t* numbers, std::size_t count, std::int64_t items, std::size_t row, Numbers& cuts) {
    row_ = row;
    items_ = items;
    cuts.assign(1, 0);
    switch (partition_.kind) {
      case PartitionKind::kRowSplits: AtLimits(numbers + (count > 0), count - (count > 0), cuts); break;
      case PartitionKind::kRowLimits: AtLimits(numbers, count, cuts); break;
      case PartitionKind::kRowLengths: ByLengths(numbers, count, cuts); break;
      case PartitionKind::kRowStarts: AtStarts(numbers, count, cuts); break;
      case PartitionKind::kValueRowIds: ByIds(numbers, count, cuts); break;
      case PartitionKind::kUniform: Evenly(cuts); break;
    }
    if (cuts.back() != items) Doubt("the last inner row ends at " + std::to_string(cuts.back()));
  }

 private:
  [[noreturn]] void Refuse(const char* text, const std::string& detail) const {
    const std::string at = partition_.column.key ? AtRow(*partition_.column.key, row_) : ".  ";
    throw ExampleError(text + at + "The row has " + std::to_string(items_) + " values or rows to be cut, and " +
                       detail + "; send partitions that fit the values.");
  }

  // Something does not fit, and can be put up with unless it is to be validated.
  void Doubt(const std::string& detail) const {
    if (validate_) Refuse(Invalid(partition_.kind), detail);
  }

  // `at`, or the nearest place where an inner row can begin or end.
  std::int64_t Place(std::int64_t at, const Numbers& cuts) const {
    const std::int64_t place = std::clamp(at, cuts.back(), items_);
    if (place != at) Doubt("one begins or ends at " + std::to_string(at));
    return place;
  }

  void AtLimits(const std::int64_t* limits, std::size_t count, Numbers& cuts) const {
    for (std::size_t i = 0; i < count; ++i) cuts.push_back(Place(limits[i], cuts));
  }

  void AtStarts(const std::int64_t* starts, std::size_t count, Numbers& cuts) const {
    if (count == 0) return;
    if (starts[0] != 0) Doubt("the first inner row begins at " + std::to_string(starts[0]));
    cuts[0] = Place(starts[0], cuts);
    for (std::size_t i = 1; i < count; ++i) cuts.push_back(Place(starts[i], cuts));
    cuts.push_back(items_);
  }

  void ByLengths(const std::int64_t* lengths, std::size_t count, Numbers& cuts) const {
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t length = std::clamp<std::int64_t>(lengths[i], 0, items_ - cuts.back());
      if (length != lengths[i]) Doubt("one has the length " + std::to_string(lengths[i]));
      cuts.push_back(cuts.back() + length);
    }
  }

  void ByIds(const std::int64_t* ids, std::size_t count, Numbers& cuts) {
    if (static_cast<std::int64_t>(count) != items_) {
      Refuse(Invalid(partition_.kind), "there are " + std::to_string(count) + " row ids, one for each is needed");
    }
    std::int64_t last = -1;
    for (std::size_t i = 0; i < count; ++i) {
      if (ids[i] < 0) Refuse("Input arr must be non-negative!", "one has the row id " + std::to_string(ids[i]));
      if (i > 0 && ids[i] < ids[i - 1]) Doubt("the row ids are not in order");
      last = std::max(last, ids[i]);
    }
    if (last >= kRowsOfIdsMax - made_) {
      Refuse(Invalid(partition_.kind), "the row ids make more than 4194304 inner rows");
    }
    made_ += last + 1;
    cuts.resize(static_cast<std::size_t>(last + 2));
    for (std::size_t i = 0; i < count; ++i) ++cuts[static_cast<std::size_t>(ids[i] + 1)];
    std::partial_sum(cuts.begin(), cuts.end(), cuts.begin());
  }

  void Evenly(Numbers& cuts) const {
    for (std::int64_t end = partition_.length; end <= items_; end += partition_.length) cuts.push_back(end);
  }

  const Partition& partition_;
  const bool validate_;
  std::size_t row_ = 0;
  std::int64_t items_ = 0;
  std::int64_t made_ = 0;  // inner rows made of row ids so far
};

// One level of the result: its cutter, where the row's own numbers lie, and what they make.
struct Level {
  const Partition* partition;
  Cutter cutter;
  std::size_t taken = 0;  // of the partition's numbers, by earlier rows
  Numbers cuts;           // of the row being cut
};

void CutRow(std::vector<Level>& levels, std::int64_t items, std::size_t i, std::size_t row) {
  for (std::size_t l = levels.size(); l-- > 0;) {
    Level& level = levels[l];
    const std::int64_t* numbers = nullptr;
    std::size_t count = 0;
    if (level.partition->kind != PartitionKind::kUniform) {
      numbers = level.partition->column.numbers().data() + level.taken;
      count = static_cast<std::size_t>(level.partition->column.lengths()[i]);
      level.taken += count;
    }
    level.cutter.Cut(numbers, count, items, row, level.cuts);
    items = static_cast<std::int64_t>(level.cuts.size()) - 1;
  }
}

// The rows of each level that its outer level reaches, appended to the limits; what is left of the values.
std::pair<std::int64_t, std::int64_t> KeepReached(const std::vector<Level>& levels, std::int64_t items,
                                                  std::vector<Numbers>& limits, std::size_t outermost) {
  std::int64_t begin = 0;
  std::int64_t end = levels.empty() ? items : static_cast<std::int64_t>(levels[0].cuts.size()) - 1;
  const auto append = [&limits](std::size_t level, std::int64_t count) {
    limits[level].push_back((limits[level].empty() ? 0 : limits[level].back()) + count);
  };
  append(outermost, end - begin);
  for (std::size_t l = 0; l < levels.size(); ++l) {
    const Numbers& cuts = levels[l].cuts;
    for (auto at = static_cast<std::size_t>(begin); at < static_cast<std::size_t>(end); ++at) {
      append(outermost + 1 + l, cuts[at + 1] - cuts[at]);
    }
    const std::int64_t first = cuts[static_cast<std::size_t>(begin)];
    end = cuts[static_cast<std::size_t>(end)];
    begin = first;
  }
  return {begin, end};
}

// Only in feature lists can two columns have different numbers of steps.
void CheckAligned(const KeyedColumn& values, const std::vector<Partition>& partitions, std::size_t first) {
  for (const Partition& partition : partitions) {
    if (!partition.column.column) continue;
    const Numbers &expected = values.column->steps, &steps = partition.column.column->steps;
    const auto row = static_cast<std::size_t>(
        std::mismatch(expected.begin(), expected.end(), steps.begin(), steps.end()).first - expected.begin());
    if (row == expected.size()) continue;
    throw ExampleError("Feature " + *values.key + ": values and partitions are not aligned" +
                       AtRow(*partition.column.key, first + row) + "The values have " + std::to_string(expected[row]) +
                       " steps and the partition has " + std::to_string(steps[row]) + "; give both the same.");
  }
}

// How many values one item of the innermost level holds.
std::int64_t InnerSize(const std::vector<Partition>& partitions) {
  std::int64_t size = 1;
  for (std::size_t p = partitions.size() - CountInnerDimensions(partitions); p < partitions.size(); ++p) {
    size *= partitions[p].length;
  }
  return size;
}

std::int64_t ItemsOf(const KeyedColumn& values, std::int64_t length, std::int64_t inner, std::size_t row) {
  if (length % inner == 0) return length / inner;
  throw ExampleError("Input to reshape is a tensor with " + std::to_string(length) +
                     " values, but the requested shape requires a multiple of " + std::to_string(inner) +
                     AtRow(*values.key, row) + "Send whole inner rows.");
}

// The row of the batch that holds step i; without steps that is i itself.
class RowOfStep {
 public:
  RowOfStep(const Numbers& steps, std::size_t first) : steps_(steps), first_(first) {}
  std::size_t Next() {
    if (steps_.empty()) return first_ + row_++;
    while (step_ == steps_[row_]) step_ = 0, ++row_;
    ++step_;
    return first_ + row_;
  }

 private:
  const Numbers& steps_;
  const std::size_t first_;
  std::size_t row_ = 0;
  std::int64_t step_ = 0;
};

}  // namespace

std::size_t CountInnerDimensions(const std::vector<Partition>& partitions) {
  const auto uniform = [](const Partition& partition) { return partition.kind == PartitionKind::kUniform; };
  return static_cast<std::size_t>(std::find_if_not(partitions.rbegin(), partitions.rend(), uniform) -
                                  partitions.rbegin());
}

RaggedRows ComposeRagged(const KeyedColumn& values, const std::vector<Partition>& partitions, bool in_steps,
                         bool validate, std::size_t first) {
  CheckAligned(values, partitions, first);
  const std::int64_t inner = InnerSize(partitions);
  std::vector<Level> levels;
  for (std::size_t p = 0; p < partitions.size() - CountInnerDimensions(partitions); ++p) {
    levels.push_back({&partitions[p], Cutter(partitions[p], validate), 0, {}});
  }
  const Numbers& steps = values.column->steps;
  const std::size_t outermost = in_steps ? 1 : 0;
  RaggedRows rows;
  rows.limits.resize(outermost + 1 + levels.size());
  if (in_steps) std::partial_sum(steps.begin(), steps.end(), std::back_inserter(rows.limits[0]));
  Transfer(values.column->values, rows.values, [&](const auto& source, auto& target) {
    RowOfStep row_of(steps, first);
    std::int64_t start = 0;
    for (std::size_t i = 0; i < values.lengths().size(); ++i) {
      const std::size_t row = row_of.Next();
      const std::int64_t items = ItemsOf(values, values.lengths()[i], inner, row);
      CutRow(levels, items, i, row);
      const auto [begin, end] = KeepReached(levels, items, rows.limits, outermost);
      target.insert(target.end(), source.begin() + start + begin * inner, source.begin() + start + end * inner);
      start += values.lengths()[i];
    }
  });
  return rows;
}

}  // namespace estimator
