// Features that several columns make up: sparse rows of index and value columns, ragged rows of a value column and
// columns that say how it is cut. Owns TensorFlow's rules for both, and where they are mended: what one row holds never
// moves into another row. Knows nothing of bytes and nothing of ONNX Runtime.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "example_decoder.h"

namespace estimator {

// A column of the decoder with the key it is read from, which error texts name.
struct KeyedColumn {
  const std::string* key = nullptr;
  const Column* column = nullptr;

  const std::vector<std::int64_t>& lengths() const { return column->lengths; }
  const std::vector<std::int64_t>& numbers() const { return std::get<std::vector<std::int64_t>>(column->values); }
};

struct SparseRows {
  Values values;
  std::vector<std::int64_t> indices;  // for each value the number of its row, then one number for each index column
};

// Row i of the columns is row first + i of the batch. Each row's values are ordered by their indices, equal ones as
// they came; not so where they are `already_sorted`. Indices are not held against the size, as in TensorFlow.
// Throws ExampleError where the columns of a row differ in length.
SparseRows ComposeSparse(const KeyedColumn& values, const std::vector<KeyedColumn>& indices, bool already_sorted,
                         std::size_t first);

enum class PartitionKind : std::uint8_t { kRowSplits, kRowLengths, kRowStarts, kRowLimits, kValueRowIds, kUniform };

// How the values of each row are cut into inner rows.
struct Partition {
  PartitionKind kind = PartitionKind::kUniform;
  std::int64_t length = 0;  // uniform
  KeyedColumn column;       // the others
};

struct RaggedRows {
  Values values;
  // For each level, outermost first, where its rows end, counted in rows of the next level or, at last, in values.
  std::vector<std::vector<std::int64_t>> limits;
};

// How many of the partitions stand innermost and are uniform: they are dimensions of the values and have no level.
std::size_t CountInnerDimensions(const std::vector<Partition>& partitions);

// Cuts the values of each row, or with `in_steps` those of each step, by the partitions, outermost first; steps are a
// level of their own. What the partitions of a row leave over is dropped, and inner rows beyond its values are empty;
// with `validate` both are refused.
// Throws ExampleError, for the first row that is wrong; rows are counted from `first` on.
RaggedRows ComposeRagged(const KeyedColumn& values, const std::vector<Partition>& partitions, bool in_steps,
                         bool validate, std::size_t first);

}  // namespace estimator
