// The ops of the library. Knows their classes, nothing of how they are registered.
#pragma once

#include "example_decoder.h"
#include "feature_attributes.h"
#include "ort_op.h"

namespace estimator {

// (values uint8[n], row_splits int64[batch + 1]) -> the tensors of each feature. See feature_attributes.h for the
// attributes and the tensors.
class ExampleParser {
 public:
  static constexpr ort::ElementType kInputs[] = {ort::kUint8, ort::kInt64};
  static constexpr ort::ElementType kOutput = ort::kUndefined;

  void Compute(ort::KernelContext* context) const;

 protected:
  static void InferShapes(Message message, const ort::Inference& inference);
  ExampleParser(Message message, const ort::Node& node);

 private:
  std::vector<ort::Strings> default_strings_;  // the bytes behind the string defaults
  std::vector<Declared> features_;
  ExampleDecoder decoder_;
};

class ParseExample : public ExampleParser {
 public:
  static constexpr const char* kName = "ParseExample";
  explicit ParseExample(const ort::Node& node) : ExampleParser(Message::kExample, node) {}
  static void InferShapes(const ort::Inference& inference) { ExampleParser::InferShapes(Message::kExample, inference); }
};

class ParseSequenceExample : public ExampleParser {
 public:
  static constexpr const char* kName = "ParseSequenceExample";
  explicit ParseSequenceExample(const ort::Node& node) : ExampleParser(Message::kSequenceExample, node) {}
  static void InferShapes(const ort::Inference& inference) {
    ExampleParser::InferShapes(Message::kSequenceExample, inference);
  }
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
