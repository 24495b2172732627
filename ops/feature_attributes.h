// The attributes of a ParseExample or ParseSequenceExample node, and the features they describe.
//
//     kinds   ints             0 FixedLen, 1 VarLen, 2 FixedLenSequence, 3 Sparse, 4 Ragged; one a feature
//     dtypes  ints             TensorFlow's DataType: 1 float, 7 string, 9 int64; one a feature
//     ranks   ints             how many of the dims are the feature's; 0 for VarLen
//     dims    ints             those of all features, one after the other; may be left out where there are none.
//                              FixedLen: the shape of a row. FixedLenSequence: the shape of a step. Sparse: the size
//                              of each index. Ragged: the partitions, outermost first, each as one number: n > 0 for
//                              uniform rows of length n, 0 RowSplits, -1 RowLengths, -2 RowStarts, -3 RowLimits,
//                              -4 ValueRowIds
//     flags   ints             sums; one a feature; may be left out where all are 0. 1: FixedLenSequence may be
//                              missing, Sparse is already sorted, Ragged is validated. 2: Ragged has int64 row_splits,
//                              not int32. 4: the feature is of the feature lists of SequenceExamples
//     key_i   string           the key of feature i, of its values where it has several
//     key_i_j string           Sparse: the key of index j. Ragged: the key of partition j, unless it is uniform
//     default_i tensor         optional. FixedLen: what a row without the feature gets. FixedLenSequence: what pads
//
// Outputs, in the order of the features:
//
//     FixedLen                 [batch, *shape]
//     VarLen                   values [batch, longest] padded with 0 or '', lengths int64[batch]
//     FixedLenSequence         [batch, longest, *shape], padded with the default, 0 or ''
//     Sparse                   indices int64[n, 1 + k], values [n], dense_shape int64[1 + k]
//     Ragged                   values [n, *innermost uniform lengths], row_splits [rows + 1] for each level
//     VarLen in lists          values [batch, steps, longest], lengths int64[batch, steps]
//     FixedLenSequence in lists  [batch, steps, *shape], lengths int64[batch]
//     Ragged in lists          as Ragged, the first level being that of the steps
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "composites.h"
#include "example_decoder.h"
#include "ort_op.h"

namespace estimator {

enum class Kind : std::uint8_t { kFixedLen, kVarLen, kFixedLenSequence, kSparse, kRagged };

// A feature as a node declares it.
struct Declared {
  enum Flag : std::int64_t { kMayBeMissing = 1, kAlreadySorted = 1, kValidate = 1, kInt64Splits = 2, kInLists = 4 };

  Kind kind = Kind::kFixedLen;
  DType dtype = DType::kFloat;
  std::vector<std::int64_t> dims;
  std::int64_t flags = 0;
  std::vector<std::string> keys;  // that of the values, then those of the dims; a uniform partition's is empty
  std::vector<std::size_t> columns;    // of the decoder: one for each key, kNoColumn for an empty one
  std::optional<Values> default_value;

  static constexpr std::size_t kNoColumn = SIZE_MAX;

  bool is_composite() const { return kind >= Kind::kSparse; }  // made of several columns
  bool in_lists() const { return flags & kInLists; }
  ort::ElementType splits_type() const { return flags & kInt64Splits ? ort::kInt64 : ort::kInt32; }
  // Ragged: the partitions without their columns.
  std::vector<Partition> partitions() const;
  // Ragged: how many row_splits there are.
  std::size_t levels() const;
  std::size_t outputs() const;
};

// Throws ort::Error where the attributes cannot be right. Defaults stay out: shape inference has no need of them.
std::vector<Declared> ReadFeatures(Message message, const ort::Node& node);
std::vector<Declared> ReadFeatures(Message message, const ort::Inference& inference);

// The columns the features are made of, each once; sets the features' `columns`.
// Throws ort::Error where two features want one key in different ways.
std::vector<Feature> MakeColumns(Message message, std::vector<Declared>& features);

ort::ElementType ElementTypeOf(DType dtype);

// Complains of a node's attributes.
[[noreturn]] void RefuseSpec(Message message, const std::string& text);

}  // namespace estimator
