// CrossHash: the ids of crossed_column, bit for bit TensorFlow's.
//
//     hash_bucket_size  int    ids are taken modulo it; at least 1
//     hash_key          int    the number every chain starts from, read as unsigned
//
// A row's ids are the cartesian product of its keys' values, the last key's fastest; a row that has no value for some
// key has none. A chain takes a string by its Fingerprint64 and an integer as it is, so out of vocabulary (-1) counts.
#include <algorithm>
#include <limits>

#include "fingerprint.h"
#include "ops.h"
#include "padded.h"

namespace estimator {
namespace {

// A small crafted request can ask for a product beyond any memory; so many ids are 128 MiB.
constexpr std::size_t kMaxIds = std::size_t{1} << 24;

// FarmHash's way of adding a fingerprint to a chain; the shifts and the constant are its own.
std::uint64_t FingerprintCat64(std::uint64_t chain, std::uint64_t fingerprint) {
  constexpr std::uint64_t kMultiplier = 0xc6a4a7935bd1e995;
  const auto mix = [](std::uint64_t value) { return value ^ (value >> 47); };
  std::uint64_t result = (chain ^ kMultiplier ^ (mix(fingerprint * kMultiplier) * kMultiplier)) * kMultiplier;
  result = mix(result) * kMultiplier;
  return mix(result);
}

// One key of the cross: what its values add to a chain.
struct Key {
  Rows rows;
  std::vector<std::uint64_t> fingerprints;  // [batch, width]; 0 behind a row's length
};

template <class Fingerprint>
void FillFingerprints(Key& key, std::size_t count, Fingerprint fingerprint) {
  key.fingerprints.resize(count);
  for (std::size_t row = 0; row < key.rows.batch; ++row) {
    const std::size_t begin = key.rows.at(row), end = begin + key.rows.length(row);
    for (std::size_t i = begin; i < end; ++i) key.fingerprints[i] = fingerprint(i);
  }
}

Key ReadKey(const ort::KernelContext* context, std::size_t index) {
  const ort::Value* const values = ort::Input(context, 2 * index);
  const std::string what = "CrossHash: key " + std::to_string(index);
  Key key = {CheckedRows(values, ort::Input(context, 2 * index + 1), what), {}};
  const std::size_t count = ort::CountOf(values);
  switch (ort::TypeOf(values)) {
    case ort::kString: {
      const ort::Strings strings(values);
      FillFingerprints(key, count, [&](std::size_t i) { return Fingerprint64(strings[i]); });
      return key;
    }
    case ort::kInt64: {
      const auto* ids = ort::Data<std::int64_t>(values);
      FillFingerprints(key, count, [ids](std::size_t i) { return static_cast<std::uint64_t>(ids[i]); });
      return key;
    }
    default: Refuse(what + " is neither string nor int64; cross text and ids alone.");
  }
}

std::vector<Key> ReadKeys(const ort::KernelContext* context) {
  const std::size_t inputs = ort::InputCount(context);
  if (inputs == 0 || inputs % 2 != 0) {
    Refuse("CrossHash: " + std::to_string(inputs) + " inputs came; give values and lengths for each key.");
  }
  std::vector<Key> keys;
  for (std::size_t index = 0; index < inputs / 2; ++index) {
    keys.push_back(ReadKey(context, index));
    if (keys[index].rows.batch != keys[0].rows.batch) {
      Refuse("CrossHash: key 0 has " + std::to_string(keys[0].rows.batch) + " rows and key " + std::to_string(index) +
             " has " + std::to_string(keys[index].rows.batch) + "; feed all features of a batch together.");
    }
  }
  return keys;
}

std::size_t CountIds(const std::vector<Key>& keys, std::size_t row) {
  std::size_t count = 1;
  for (const Key& key : keys) {
    if (key.rows.length(row) == 0) return 0;
  }
  for (const Key& key : keys) {
    if (key.rows.length(row) > kMaxIds / count) {
      Refuse("CrossHash: row " + std::to_string(row) + " crosses to more than " + std::to_string(kMaxIds) +
             " ids; send fewer values a feature.");
    }
    count *= key.rows.length(row);
  }
  return count;
}

std::size_t WidestRow(const std::vector<Key>& keys) {
  const std::size_t batch = keys[0].rows.batch;
  std::size_t widest = 0;
  for (std::size_t row = 0; row < batch; ++row) widest = std::max(widest, CountIds(keys, row));
  if (batch != 0 && widest > kMaxIds / batch) {
    Refuse("CrossHash: " + std::to_string(batch) + " rows of " + std::to_string(widest) + " ids are more than " +
           std::to_string(kMaxIds) + "; send fewer rows at once, or fewer values a feature.");
  }
  return widest;
}

// The chains of one row: those so far, each followed by every value of the next key.
void Chain(const std::vector<Key>& keys, std::size_t row, std::uint64_t seed, std::vector<std::uint64_t>& chains) {
  chains.assign(1, seed);
  std::vector<std::uint64_t> longer;
  for (const Key& key : keys) {
    const std::uint64_t* values = key.fingerprints.data() + key.rows.at(row);
    longer.clear();
    for (const std::uint64_t chain : chains) {
      for (std::size_t i = 0; i < key.rows.length(row); ++i) longer.push_back(FingerprintCat64(chain, values[i]));
    }
    chains.swap(longer);
  }
}

}  // namespace

CrossHash::CrossHash(const ort::Node& node)
    : hash_bucket_size_(static_cast<std::uint64_t>(node.Int("hash_bucket_size").value_or(0))),
      hash_key_(static_cast<std::uint64_t>(node.Int("hash_key").value_or(0))) {
  if (hash_bucket_size_ == 0 || hash_bucket_size_ > std::numeric_limits<std::int64_t>::max()) {
    Refuse("CrossHash: the attribute hash_bucket_size is missing or less than 1; give the number of ids.");
  }
}

void CrossHash::Compute(ort::KernelContext* context) const {
  const std::vector<Key> keys = ReadKeys(context);
  const std::size_t batch = keys[0].rows.batch, width = WidestRow(keys);
  auto* ids = ort::Data<std::int64_t>(
      ort::Output(context, 0, {static_cast<std::int64_t>(batch), static_cast<std::int64_t>(width)}));
  std::vector<std::uint64_t> chains;
  for (std::size_t row = 0; row < batch; ++row, ids += width) {
    Chain(keys, row, hash_key_, chains);
    std::fill_n(ids, width, std::int64_t{-1});
    std::transform(chains.begin(), chains.end(), ids,
                   [this](std::uint64_t chain) { return static_cast<std::int64_t>(chain % hash_bucket_size_); });
  }
}

}  // namespace estimator
