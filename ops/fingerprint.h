// FarmHash's Fingerprint64: the hash behind TensorFlow's hash buckets. Knows nothing of ONNX Runtime.
#pragma once

#include <cstdint>
#include <string_view>

namespace estimator {

// The same number TensorFlow computes for these bytes, on every platform and in every version.
std::uint64_t Fingerprint64(std::string_view bytes);

}  // namespace estimator
