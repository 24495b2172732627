// Finds the column a key belongs to. Owns the hashing of keys; knows nothing of what lies under them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace estimator {

// A hash table of the spec's keys. Looking up a stranger's key costs no more than the spec's own keys make it: what the
// table holds never depends on the bytes that are parsed.
class KeyIndex {
 public:
  static constexpr std::size_t kAbsent = SIZE_MAX;

  // False where the key is there already.
  bool Insert(std::string_view key, std::size_t column) {
    if (Find(key) != kAbsent) return false;
    if (2 * (++count_) > slots_.size()) Grow();
    Place({WordsOf(key), std::string(key), column});
    return true;
  }

  std::size_t Find(std::string_view key) const {
    const Words words = WordsOf(key);
    for (std::size_t at = Hash(words, key) & mask();; at = (at + 1) & mask()) {
      const Slot& slot = slots_[at];
      if (slot.column == kAbsent) return kAbsent;
      if (slot.Holds(words, key)) return slot.column;
    }
  }

 private:
  // The first and the last eight bytes of a key, which overlap in one that is shorter than sixteen. Together with the
  // length they are all of a key up to that size, so that no loop over its bytes is needed.
  struct Words {
    std::uint64_t first = 0, last = 0;
  };
  static constexpr std::size_t kInWords = 16;

  struct Slot {
    Words words;
    std::string key;
    std::size_t column = kAbsent;

    bool Holds(const Words& other, std::string_view other_key) const {
      if (words.first != other.first || words.last != other.last || key.size() != other_key.size()) return false;
      return other_key.size() <= kInWords || key == other_key;
    }
  };

  template <class T>
  static std::uint64_t Load(const char* at) {
    T value;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }

  static Words WordsOf(std::string_view key) {
    const char* const begin = key.data();
    const std::size_t size = key.size();
    if (size >= 8) return {Load<std::uint64_t>(begin), Load<std::uint64_t>(begin + size - 8)};
    if (size >= 4) return {Load<std::uint32_t>(begin), Load<std::uint32_t>(begin + size - 4)};
    if (size == 0) return {};
    const std::uint64_t first = Load<std::uint8_t>(begin), middle = Load<std::uint8_t>(begin + size / 2);
    return {first | middle << 8, Load<std::uint8_t>(begin + size - 1)};
  }

  static std::uint64_t Mix(std::uint64_t hash, std::uint64_t word) {
    hash = (hash ^ word) * 0x9e3779b97f4a7c15;
    return hash ^ hash >> 32;
  }

  static std::size_t Hash(const Words& words, std::string_view key) {
    std::uint64_t hash = Mix(Mix(key.size(), words.first), words.last);
    for (std::size_t at = 8; at + 8 < key.size(); at += 8) hash = Mix(hash, Load<std::uint64_t>(key.data() + at));
    return static_cast<std::size_t>(hash);
  }

  std::size_t mask() const { return slots_.size() - 1; }

  void Place(Slot slot) {
    std::size_t at = Hash(slot.words, slot.key) & mask();
    while (slots_[at].column != kAbsent) at = (at + 1) & mask();
    slots_[at] = std::move(slot);
  }

  void Grow() {
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    for (Slot& slot : old) {
      if (slot.column != kAbsent) Place(std::move(slot));
    }
  }

  std::vector<Slot> slots_ = std::vector<Slot>(8);  // open addressing, a power of two, never more than half full
  std::size_t count_ = 0;
};

}  // namespace estimator
