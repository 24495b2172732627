// The library's one entry point: registers its ops with a session's options.
#include <string>

#include "ops.h"

namespace {

constexpr char kDomain[] = "estimator.ops";

// Made once and kept: sessions point to it for as long as they live.
ort::CustomOpDomain* Domain() {
  static ort::CustomOpDomain* const domain = [] {
    ort::CustomOpDomain* created = nullptr;
    ort::Check(ort::api.Call(ort::kCreateCustomOpDomain, kDomain, &created));
    const ort::CustomOp* const declarations[] = {ort::Declaration<estimator::ParseExample>(),
                                                 ort::Declaration<estimator::ParseSequenceExample>(),
                                                 ort::Declaration<estimator::Fingerprint64Op>(),
                                                 ort::Declaration<estimator::CrossHash>(),
                                                 ort::Declaration<estimator::CheckIds>(),
                                                 ort::Declaration<estimator::AlignWeights>(),
                                                 ort::Declaration<estimator::RequireTrue>(),
                                                 ort::Declaration<estimator::SipHash64>(),
                                                 ort::Declaration<estimator::LowerText>(),
                                                 ort::Declaration<estimator::ReplaceCharacters>(),
                                                 ort::Declaration<estimator::FormatNumbers>(),
                                                 ort::Declaration<estimator::SplitWords>(),
                                                 ort::Declaration<estimator::DecodeCharacters>(),
                                                 ort::Declaration<estimator::EncodeCharacters>(),
                                                 ort::Declaration<estimator::WordGrams>()};
    for (const ort::CustomOp* declaration : declarations) {
      ort::Check(ort::api.Call(ort::kCustomOpDomainAdd, created, declaration));
    }
    return created;
  }();
  return domain;
}

void CheckRuntime(const void* table, const ort::ApiBase* base) {
  if (table) return;
  throw ort::Error(ort::kFail, std::string("The op library of estimator-serving needs ONNX Runtime ") +
                                   ort::kOldestRuntime + " or later and was loaded by " + base->get_version() +
                                   "; upgrade onnxruntime.");
}

}  // namespace

extern "C" __attribute__((visibility("default"))) ort::Status* RegisterCustomOps(ort::SessionOptions* options,
                                                                                 const ort::ApiBase* base) {
  const void* const table = base->get_api(ort::kApiVersion);
  ort::api = ort::Api(table ? table : base->get_api(1));  // the oldest table can carry the refusal
  return ort::Guard([&] {
    CheckRuntime(table, base);
    ort::Check(ort::api.Call(ort::kAddCustomOpDomain, options, Domain()));
  });
}
