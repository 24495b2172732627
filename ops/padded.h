// Padded rows: a matrix of values and how many of each row count. Owns the checks that make them safe to read.
#pragma once

#include <string>

#include "ort_op.h"

namespace estimator {

// Where the rows of a pair of tensors are. `lengths[row]` values of `width` count; at() is the first one's position.
struct Rows {
  std::size_t batch = 0;
  std::size_t width = 0;
  const std::int64_t* lengths = nullptr;

  std::size_t at(std::size_t row) const { return row * width; }
  std::size_t length(std::size_t row) const { return static_cast<std::size_t>(lengths[row]); }
};

[[noreturn]] inline void Refuse(const std::string& text) { throw ort::Error(ort::kInvalidArgument, text); }

// The rows of `values` [batch, width] and `lengths` int64[batch], every length checked. `what` names them in a refusal.
inline Rows CheckedRows(const ort::Value* values, const ort::Value* lengths, const std::string& what) {
  const ort::Shape shape = ort::ShapeOf(values);
  if (shape.size() != 2 || ort::ShapeOf(lengths) != ort::Shape{shape[0]} || ort::TypeOf(lengths) != ort::kInt64) {
    Refuse(what + " is not a matrix of values with one int64 length a row; feed values [batch, k] and lengths [batch].");
  }
  const Rows rows = {static_cast<std::size_t>(shape[0]), static_cast<std::size_t>(shape[1]),
                     ort::Data<std::int64_t>(lengths)};
  for (std::size_t row = 0; row < rows.batch; ++row) {
    if (rows.lengths[row] < 0 || rows.lengths[row] > shape[1]) {
      Refuse(what + " has the length " + std::to_string(rows.lengths[row]) + " in row " + std::to_string(row) +
             ", and its rows hold " + std::to_string(shape[1]) + " values; feed lengths between 0 and that.");
    }
  }
  return rows;
}

}  // namespace estimator
