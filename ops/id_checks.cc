// CheckIds and AlignWeights: what a request may get wrong about ids, refused in a sentence where the graph runs, in
// training and in serving alike.
//
//     CheckIds      num_buckets  int     ids are below it
//                   key          string  the feature, for the refusal
//     AlignWeights  key          string  the feature that holds the weights, for the refusal
#include <algorithm>

#include "ops.h"
#include "padded.h"

namespace estimator {

CheckIds::CheckIds(const ort::Node& node)
    : num_buckets_(node.Int("num_buckets").value_or(0)), key_(node.String("key").value_or("")) {
  if (num_buckets_ < 1) Refuse("CheckIds: the attribute num_buckets is missing or less than 1; give the number of ids.");
}

void CheckIds::Compute(ort::KernelContext* context) const {
  const ort::Value* const input = ort::Input(context, 0);
  const ort::Shape shape = ort::ShapeOf(input);
  if (shape.size() != 2) Refuse("CheckIds: the ids are not a matrix; feed them as [batch, k].");
  const auto* ids = ort::Data<std::int64_t>(input);
  auto* checked = ort::Data<std::int64_t>(ort::Output(context, 0, shape));
  std::size_t position = 0;  // as TensorFlow counts: what is there, and one for a row without any
  for (std::int64_t row = 0; row < shape[0]; ++row) {
    std::size_t present = 0;
    for (std::int64_t i = 0; i < shape[1]; ++i, ++ids, ++checked) {
      if (*ids >= num_buckets_) RefuseId(position + present, *ids);
      if (*ids >= 0) ++present;
      *checked = std::max(*ids, std::int64_t{-1});
    }
    position += std::max(present, std::size_t{1});
  }
}

void CheckIds::RefuseId(std::size_t position, std::int64_t id) const {
  const std::string range = "[0, " + std::to_string(num_buckets_) + ")";
  Refuse("Bad: indices[" + std::to_string(position) + "] == " + std::to_string(id) + " out of range " + range +
         ". The feature " + key_ + " holds an id that its categorical_column_with_identity has no bucket for; send ids in " +
         range + ", or give the column a default_value.");
}

AlignWeights::AlignWeights(const ort::Node& node) : key_(node.String("key").value_or("")) {}

void AlignWeights::Compute(ort::KernelContext* context) const {
  const ort::Value* const values = ort::Input(context, 2);
  const Rows ids = CheckedRows(ort::Input(context, 0), ort::Input(context, 1), "AlignWeights: ids");
  const Rows weights = CheckedRows(values, ort::Input(context, 3), "AlignWeights: weights");
  if (ids.batch != weights.batch) {
    Refuse("Feature " + key_ + " has " + std::to_string(weights.batch) + " rows of weights for " +
           std::to_string(ids.batch) + " rows of ids; feed all features of a batch together.");
  }
  const auto* from = ort::Data<float>(values);
  auto* aligned = ort::Data<float>(ort::Output(context, 0, ort::ShapeOf(ort::Input(context, 0))));
  for (std::size_t row = 0; row < ids.batch; ++row, aligned += ids.width) {
    if (ids.length(row) != weights.length(row)) {
      Refuse("Feature " + key_ + " has " + std::to_string(weights.length(row)) + " weights in row " +
             std::to_string(row) + " for " + std::to_string(ids.length(row)) +
             " ids; give one weight for each id (0.0 in a dense weight feature counts as no weight).");
    }
    std::copy_n(from + weights.at(row), weights.length(row), aligned);
    std::fill_n(aligned + ids.length(row), ids.width - ids.length(row), 0.0F);
  }
}

RequireTrue::RequireTrue(const ort::Node& node) : message_(node.String("message").value_or("")) {}

void RequireTrue::Compute(ort::KernelContext* context) const {
  const ort::Value* const input = ort::Input(context, 0);
  const auto* const values = ort::Data<bool>(input);
  if (!std::all_of(values, values + ort::CountOf(input), [](bool value) { return value; })) {
    Refuse("assertion failed: " + message_);
  }
  *ort::Data<std::int64_t>(ort::Output(context, 0, {})) = 0;
}

}  // namespace estimator
