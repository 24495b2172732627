#include "example_writer.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "proto_wire.h"

namespace estimator {
namespace {

// Example.features, Features.feature, the map's key and value, the three lists of a Feature and a list's values all are
// length-delimited fields.
constexpr int kBytesList = 1, kFloatList = 2, kInt64List = 3;

int ListOf(FeatureType type) {
  return type == FeatureType::kBytes ? kBytesList : type == FeatureType::kFloat ? kFloatList : kInt64List;
}

}  // namespace

ExampleWriter::ExampleWriter(std::vector<std::pair<std::string, FeatureType>> features) {
  std::sort(features.begin(), features.end());
  for (auto& [key, type] : features) {
    index_.Insert(key, features_.size());
    std::string entry;
    AppendHead(1, key.size(), entry);
    features_.push_back({type, entry + key});
  }
}

std::optional<std::vector<std::string>> ExampleWriter::Write(const Rows& rows) const {
  std::vector<std::string> examples;
  examples.reserve(rows.row_ends.size());
  std::vector<const Rows::Member*> given(features_.size());
  std::string body;
  std::size_t begin = 0;
  for (const std::size_t end : rows.row_ends) {
    std::fill(given.begin(), given.end(), nullptr);
    for (; begin < end; ++begin) {
      const Rows::Member& member = rows.members[begin];
      const std::size_t feature = index_.Find(member.key);
      if (feature == KeyIndex::kAbsent) return std::nullopt;
      given[feature] = &member;
    }
    body.clear();
    for (std::size_t feature = 0; feature < features_.size(); ++feature) {
      if (given[feature] && !Append(rows, *given[feature], features_[feature], body)) return std::nullopt;
    }
    std::string& example = examples.emplace_back();
    example.reserve(body.size() + 6);
    AppendHead(1, body.size(), example);
    example += body;
  }
  return examples;
}

bool ExampleWriter::Append(const Rows& rows, const Rows::Member& member, const Feature& feature,
                           std::string& example) const {
  const auto number = [&](std::size_t at) -> const Number& { return rows.numbers[member.begin + at]; };
  const auto text = [&](std::size_t at) { return rows.texts[member.begin + at]; };
  const bool are_bytes = feature.type == FeatureType::kBytes;
  if (member.count && member.are_texts != are_bytes) return false;
  // The sizes come first, from the inside out: values, list, feature, entry.
  std::size_t values = 0;
  for (std::size_t at = 0; at < member.count; ++at) {
    switch (feature.type) {
      case FeatureType::kBytes: values += DelimitedSize(text(at).size()); break;
      case FeatureType::kFloat:
        if (!std::isfinite(static_cast<float>(number(at).real))) return false;
        values += sizeof(float);
        break;
      case FeatureType::kInt64:
        if (!number(at).is_integer) return false;
        values += VarintSize(static_cast<std::uint64_t>(number(at).integer));
    }
  }
  const std::size_t list = are_bytes || !member.count ? values : DelimitedSize(values);
  const std::size_t value = DelimitedSize(list);
  AppendHead(1, feature.entry.size() + DelimitedSize(value), example);
  example += feature.entry;
  AppendHead(2, value, example);
  AppendHead(ListOf(feature.type), list, example);
  if (!are_bytes && member.count) AppendHead(1, values, example);
  for (std::size_t at = 0; at < member.count; ++at) {
    if (are_bytes) {
      AppendHead(1, text(at).size(), example);
      example += text(at);
    } else if (feature.type == FeatureType::kFloat) {
      const float narrow = static_cast<float>(number(at).real);
      char bytes[sizeof narrow];  // a tf.Example's byte order is this machine's: the library is for little-endian ones
      std::memcpy(bytes, &narrow, sizeof narrow);
      example.append(bytes, sizeof narrow);
    } else {
      AppendVarint(static_cast<std::uint64_t>(number(at).integer), example);
    }
  }
  return true;
}

}  // namespace estimator
