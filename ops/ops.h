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
  const bool has_composites_;  // whether any feature is made of several columns
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

// Pairs (values string or int64[batch, k], lengths int64[batch]), one a key -> ids int64[batch, K], -1 for nothing:
// the hashes of TensorFlow's crossed_column. See cross_hash.cc for the attributes.
class CrossHash {
 public:
  static constexpr const char* kName = "CrossHash";
  static constexpr ort::ElementType kInputs[] = {ort::kUndefined};
  static constexpr ort::ElementType kOutput = ort::kInt64;

  static void InferShapes(const ort::Inference&) {}  // how many ids a row gets is known only when it runs
  explicit CrossHash(const ort::Node& node);
  void Compute(ort::KernelContext* context) const;

 private:
  std::uint64_t hash_bucket_size_;
  std::uint64_t hash_key_;
};

// ids int64[batch, k] -> the same with -1 for every negative one; refuses an id that is not below `num_buckets`.
class CheckIds {
 public:
  static constexpr const char* kName = "CheckIds";
  static constexpr ort::ElementType kInputs[] = {ort::kInt64};
  static constexpr ort::ElementType kOutput = ort::kInt64;

  static void InferShapes(const ort::Inference&) {}
  explicit CheckIds(const ort::Node& node);
  void Compute(ort::KernelContext* context) const;

 private:
  [[noreturn]] void RefuseId(std::size_t position, std::int64_t id) const;
  std::int64_t num_buckets_;
  std::string key_;
};

// (ids int64[batch, k], lengths int64[batch], weights float[batch, n], weight_lengths int64[batch]) -> float[batch, k]:
// the weights as wide as the ids, 0 behind; refuses a row that has another number of weights than of ids.
class AlignWeights {
 public:
  static constexpr const char* kName = "AlignWeights";
  static constexpr ort::ElementType kInputs[] = {ort::kInt64, ort::kInt64, ort::kFloat, ort::kInt64};
  static constexpr ort::ElementType kOutput = ort::kFloat;

  static void InferShapes(const ort::Inference&) {}
  explicit AlignWeights(const ort::Node& node);
  void Compute(ort::KernelContext* context) const;

 private:
  std::string key_;
};

// bool[...] -> int64[], always 0; refuses what is false anywhere, as TensorFlow's Assert does. What adds this 0 to
// something depends on the assertion.
class RequireTrue {
 public:
  static constexpr const char* kName = "RequireTrue";
  static constexpr ort::ElementType kInputs[] = {ort::kBool};
  static constexpr ort::ElementType kOutput = ort::kInt64;

  static void InferShapes(const ort::Inference&) {}
  explicit RequireTrue(const ort::Node& node);
  void Compute(ort::KernelContext* context) const;

 private:
  std::string message_;
};

// For ops whose only output has the shape of their only input.
void InferSameShape(const ort::Inference& inference, ort::ElementType type);

// string[...] -> uint64[...]: SipHash-2-4 of each element, TensorFlow's StringToHashBucketStrong before the modulo. See
// text_ops.cc for the attributes of this op and of those below.
class SipHash64 {
 public:
  static constexpr const char* kName = "SipHash64";
  static constexpr ort::ElementType kInputs[] = {ort::kString};
  static constexpr ort::ElementType kOutput = ort::kUint64;

  static void InferShapes(const ort::Inference& inference) { InferSameShape(inference, kOutput); }
  explicit SipHash64(const ort::Node& node);
  void Compute(ort::KernelContext* context) const;

 private:
  std::uint64_t key_0_;
  std::uint64_t key_1_;
};

// string[...] -> string[...]: TensorFlow's StringLower without an encoding.
class LowerText {
 public:
  static constexpr const char* kName = "LowerText";
  static constexpr ort::ElementType kInputs[] = {ort::kString};
  static constexpr ort::ElementType kOutput = ort::kString;

  static void InferShapes(const ort::Inference& inference) { InferSameShape(inference, kOutput); }
  explicit LowerText(const ort::Node&) {}
  void Compute(ort::KernelContext* context) const;
};

// string[...] -> string[...]: every occurrence of some bytes replaced.
class ReplaceCharacters {
 public:
  static constexpr const char* kName = "ReplaceCharacters";
  static constexpr ort::ElementType kInputs[] = {ort::kString};
  static constexpr ort::ElementType kOutput = ort::kString;

  static void InferShapes(const ort::Inference& inference) { InferSameShape(inference, kOutput); }
  explicit ReplaceCharacters(const ort::Node& node);
  void Compute(ort::KernelContext* context) const;

 private:
  std::string characters_;
  std::string replacement_;
};

// double or int64[...] -> string[...]: TensorFlow's AsString.
class FormatNumbers {
 public:
  static constexpr const char* kName = "FormatNumbers";
  static constexpr ort::ElementType kInputs[] = {ort::kUndefined};
  static constexpr ort::ElementType kOutput = ort::kString;

  static void InferShapes(const ort::Inference& inference);
  explicit FormatNumbers(const ort::Node& node);
  void Compute(ort::KernelContext* context) const;

 private:
  bool is_integer_;
  std::string format_;
};

// string[batch] -> words string[batch, k], padded with '', and how many there are, int64[batch].
class SplitWords {
 public:
  static constexpr const char* kName = "SplitWords";
  static constexpr ort::ElementType kInputs[] = {ort::kString};
  static constexpr ort::ElementType kOutput = ort::kUndefined;

  static void InferShapes(const ort::Inference& inference);
  explicit SplitWords(const ort::Node&) {}
  void Compute(ort::KernelContext* context) const;
};

// string[batch] -> the characters of each, int32[batch, k], padded with 0, and how many there are, int64[batch]. See
// characters.cc for the attributes of this op and of those below.
class DecodeCharacters {
 public:
  static constexpr const char* kName = "DecodeCharacters";
  static constexpr ort::ElementType kInputs[] = {ort::kString};
  static constexpr ort::ElementType kOutput = ort::kUndefined;

  static void InferShapes(const ort::Inference& inference);
  explicit DecodeCharacters(const ort::Node&) {}
  void Compute(ort::KernelContext* context) const;
};

// int32[...] -> string[...]: each character as UTF-8.
class EncodeCharacters {
 public:
  static constexpr const char* kName = "EncodeCharacters";
  static constexpr ort::ElementType kInputs[] = {ort::kInt32};
  static constexpr ort::ElementType kOutput = ort::kString;

  static void InferShapes(const ort::Inference& inference) { InferSameShape(inference, kOutput); }
  explicit EncodeCharacters(const ort::Node&) {}
  void Compute(ort::KernelContext* context) const;
};

// (words string[batch, k], lengths int64[batch]) -> runs of words string[batch, m], padded with '', and how many there
// are, int64[batch]: TensorFlow's StringNGrams without padding.
class WordGrams {
 public:
  static constexpr const char* kName = "WordGrams";
  static constexpr ort::ElementType kInputs[] = {ort::kString, ort::kInt64};
  static constexpr ort::ElementType kOutput = ort::kUndefined;

  static void InferShapes(const ort::Inference& inference);
  explicit WordGrams(const ort::Node& node);
  void Compute(ort::KernelContext* context) const;

 private:
  std::string separator_;
  std::vector<std::int64_t> widths_;
};

}  // namespace estimator
