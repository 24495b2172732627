// The protobuf wire format, read from bytes that may be anything. Owns tags, varints, lengths and the skipping of
// fields; knows no message. (https://protobuf.dev/programming-guides/encoding)
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace estimator {

// The bytes are not a protobuf message. Where they lie is known only to the caller, who makes the text.
struct Malformed {};

[[noreturn, gnu::cold, gnu::noinline]] inline void Refuse() { throw Malformed{}; }

enum WireType : std::uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kStartGroup = 3, kEndGroup = 4, kFixed32 = 5 };

constexpr std::uint32_t Tag(std::uint32_t field, WireType type) { return field << 3 | type; }

// Protobuf parsers give up where messages and groups nest deeper than this.
constexpr int kDeepest = 100;

// Walks over the bytes of one message. Every read is checked against their end.
class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : at_(bytes.data()), end_(at_ + bytes.size()) {}

  bool done() const { return at_ == end_; }
  std::size_t left() const { return static_cast<std::size_t>(end_ - at_); }

  std::uint64_t ReadVarint() {
    if (at_ == end_) Refuse();
    const auto first = static_cast<std::uint8_t>(*at_);
    if (first < 0x80) {
      ++at_;
      return first;
    }
    return ReadLongVarint();
  }

  std::uint32_t ReadTag() {
    const std::size_t before = left();
    const std::uint64_t tag = ReadVarint();
    if (tag >= 8 && tag < 0x80 && before - left() == 1) return static_cast<std::uint32_t>(tag);  // fields 1 to 15
    // Field numbers start at 1. A tag has 32 bits, and at most five bytes hold them.
    if (tag < 8 || tag > UINT32_MAX || before - left() > 5) Refuse();
    return static_cast<std::uint32_t>(tag);
  }

  std::string_view ReadBytes() {
    const std::uint64_t size = ReadVarint();
    if (size > left()) Refuse();
    const std::string_view bytes(at_, static_cast<std::size_t>(size));
    at_ += size;
    return bytes;
  }

  float ReadFloat() {
    float value;
    if (left() < sizeof(value)) Refuse();
    std::memcpy(&value, at_, sizeof(value));
    at_ += sizeof(value);
    return value;
  }

  // Skips a field whose tag has been read; `depth` is that of the message it lies in.
  void Skip(std::uint32_t tag, int depth) {
    switch (tag & 7) {
      case kVarint: ReadVarint(); return;
      case kFixed64: Advance(8); return;
      case kBytes: ReadBytes(); return;
      case kStartGroup: SkipGroup(tag >> 3, depth); return;
      case kFixed32: Advance(4); return;
      default: Refuse();  // the end of a group that never began, or a wire type that does not exist
    }
  }

 private:
  [[gnu::noinline]] std::uint64_t ReadLongVarint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      if (at_ == end_) Refuse();
      const auto byte = static_cast<std::uint8_t>(*at_++);
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    Refuse();  // more than ten bytes
  }

  void Advance(std::size_t size) {
    if (size > left()) Refuse();
    at_ += size;
  }

  // A loop with its own stack: recursion would let the bytes decide how deep the thread's stack grows.
  void SkipGroup(std::uint32_t field, int depth) {
    std::array<std::uint32_t, kDeepest> open;
    const auto room = static_cast<std::size_t>(kDeepest - depth);
    std::size_t count = 0;
    open[count++] = field;
    while (count > 0) {
      const std::uint32_t tag = ReadTag();
      if ((tag & 7) == kStartGroup) {
        if (count == room) Refuse();
        open[count++] = tag >> 3;
      } else if ((tag & 7) == kEndGroup) {
        if (open[--count] != tag >> 3) Refuse();
      } else {
        Skip(tag, depth);
      }
    }
  }

  const char* at_;
  const char* end_;
};

// The payload of the field that `bytes` begin with, if its tag is this one of one byte and its length is of one byte
// too: what almost all fields are. A null view otherwise, which says nothing against the bytes.
inline std::string_view Leading(std::string_view bytes, std::uint32_t tag) {
  if (bytes.size() < 2 || static_cast<std::uint8_t>(bytes[0]) != tag) return {};
  const auto size = static_cast<std::uint8_t>(bytes[1]);
  if (size >= 0x80 || size > bytes.size() - 2) return {};
  return {bytes.data() + 2, size};
}

}  // namespace estimator
