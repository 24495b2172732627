// Rows of JSON values -> serialized tf.Examples, by the types that a model's features have.
//
// Owns the bytes of a tf.Example. Knows no Python, and has no sentences: a row that does not fit is left to the writer in
// Python, which says why.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../../ops/key_index.h"
#include "json_body.h"

namespace estimator {

enum class FeatureType : char { kFloat = 'f', kInt64 = 'i', kBytes = 's' };

class ExampleWriter {
 public:
  // The features by key; each key once.
  explicit ExampleWriter(std::vector<std::pair<std::string, FeatureType>> features);

  // One Example for each row, its features in the order of their keys. Nothing if a key is no feature's, or a value has
  // not its feature's type; an integer is taken for a float.
  std::optional<std::vector<std::string>> Write(const Rows& rows) const;

 private:
  struct Feature {
    FeatureType type;
    std::string entry;  // of the map: tag and key, as they are written
  };

  bool Append(const Rows& rows, const Rows::Member& member, const Feature& feature, std::string& example) const;

  std::vector<Feature> features_;
  KeyIndex index_;
};

}  // namespace estimator
