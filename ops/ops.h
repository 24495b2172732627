// The ops of the library. Knows their classes, nothing of how they are registered.
#pragma once

#include "example_decoder.h"
#include "ort_op.h"

namespace estimator {

// (values uint8[n], row_splits int64[batch + 1]) -> one tensor a FixedLen feature, two a VarLen feature. See
// parse_example.cc for the attributes.
class ParseExample {
 public:
  static constexpr const char* kName = "ParseExample";
  static constexpr ort::ElementType kInputs[] = {ort::kUint8, ort::kInt64};
  static constexpr ort::ElementType kOutput = ort::kUndefined;

  static void InferShapes(const ort::Inference& inference);
  explicit ParseExample(const ort::Node& node);
  void Compute(ort::KernelContext* context) const;

 private:
  std::vector<ort::Strings> default_strings_;  // the bytes behind the string defaults
  ExampleDecoder decoder_;
};

// string[...] -> uint64[...]: TensorFlow's Fingerprint64 of each element.
class Fingerprint64Op {
 public:
  static constexpr const char* kName = "Fingerprint64";
  static constexpr ort::ElementType kInputs[] = {ort::kString};
  static constexpr ort::ElementType kOutput = ort::kUint64;

  static void InferShapes(const ort::Inference& inference);
  explicit Fingerprint64Op(const ort::Node&) {}
  void Compute(ort::KernelContext* context) const;
};

}  // namespace estimator
