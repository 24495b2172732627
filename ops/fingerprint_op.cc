#include "fingerprint.h"
#include "ops.h"

namespace estimator {

void Fingerprint64Op::InferShapes(const ort::Inference& inference) {
  const std::vector<ort::Dimension> shape = inference.InputShape(0);
  for (const ort::Dimension& dimension : shape) {
    if (dimension.size < 0 && dimension.name.empty()) return;  // the ABI cannot pass on what is just unknown
  }
  if (!shape.empty()) inference.SetOutput(0, kOutput, shape);
}

void Fingerprint64Op::Compute(ort::KernelContext* context) const {
  const ort::Value* input = ort::Input(context, 0);
  const ort::Strings strings(input);
  auto* fingerprints = ort::Data<std::uint64_t>(ort::Output(context, 0, ort::ShapeOf(input)));
  for (std::size_t i = 0; i < strings.size(); ++i) fingerprints[i] = Fingerprint64(strings[i]);
}

}  // namespace estimator
