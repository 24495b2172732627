// The texts of what the decoder and the composites refuse: TensorFlow's where it has one, then what to do. Each
// function throws ExampleError. Owns no rule: what is wrong has been found by the caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "example_decoder.h"

namespace estimator {

// A shape as TensorFlow writes it: [2,3].
std::string ShapeText(const std::vector<std::int64_t>& shape);

// The bytes of a row are not the message.
[[noreturn]] void RefuseRow(Message message, std::string_view bytes);

// The list of a feature in a row is not one.
[[noreturn]] void RefuseList(const Feature& feature, std::size_t row);

// What a feature begins with is none of the three lists.
[[noreturn]] void RefuseKind();

// A feature without a default is not there.
[[noreturn]] void RefuseMissing(const Feature& feature, std::size_t row);

// Another list than the feature's is set; `step` counts in feature lists only.
[[noreturn]] void RefuseDType(const Feature& feature, std::size_t row, std::size_t step, DType found);

// A row has not as many values as its shape holds.
[[noreturn]] void RefuseCount(const Feature& feature, std::size_t row, std::size_t expected, std::size_t count);

// A row's values are not whole steps.
[[noreturn]] void RefuseStride(const Feature& feature, std::size_t row, std::size_t count);

// A step of a feature list has not as many values as its shape holds; `total` is what all steps of the row have.
[[noreturn]] void RefuseStep(const Feature& feature, std::size_t step, std::size_t expected, std::size_t count,
                             std::size_t total);

}  // namespace estimator
