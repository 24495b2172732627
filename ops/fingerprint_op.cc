#include "fingerprint.h"
#include "ops.h"

namespace estimator {

void Fingerprint64Op::InferShapes(const ort::Inference& inference) {
  InferSameShape(inference, kOutput);
}

void Fingerprint64Op::Compute(ort::KernelContext* context) const {
  const ort::Value* input = ort::Input(context, 0);
  const ort::Strings strings(input);
  auto* fingerprints = ort::Data<std::uint64_t>(ort::Output(context, 0, ort::ShapeOf(input)));
  for (std::size_t i = 0; i < strings.size(); ++i) fingerprints[i] = Fingerprint64(strings[i]);
}

}  // namespace estimator
