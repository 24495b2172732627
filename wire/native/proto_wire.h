// Protobuf's wire format: a cursor over a message's bytes, and what appends fields to a text. Owns no message.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace estimator {

enum class WireType { kVarint = 0, kFixed64 = 1, kDelimited = 2, kFixed32 = 5 };

struct Field {
  int number;
  WireType type;
};

// A place in a message. A method that gives nothing leaves it anywhere: the reader gives up then.
class ProtoCursor {
 public:
  explicit ProtoCursor(std::string_view message) : at_(message.data()), end_(message.data() + message.size()) {}

  bool AtEnd() const { return at_ == end_; }

  std::optional<std::uint64_t> ReadVarint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64 && at_ != end_; shift += 7) {
      const auto byte = static_cast<unsigned char>(*at_++);
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return shift == 63 && byte > 1 ? std::nullopt : std::optional(value);
    }
    return std::nullopt;
  }

  // Only of fields with small numbers, as all that are read here have.
  std::optional<Field> ReadTag() {
    const auto tag = ReadVarint();
    if (!tag || *tag >= 1 << 16 || *tag < 8) return std::nullopt;
    return Field{static_cast<int>(*tag >> 3), static_cast<WireType>(*tag & 7)};
  }

  std::optional<std::string_view> ReadDelimited() {
    const auto size = ReadVarint();
    if (!size || *size > static_cast<std::uint64_t>(end_ - at_)) return std::nullopt;
    const std::string_view value(at_, static_cast<std::size_t>(*size));
    at_ += *size;
    return value;
  }

 private:
  const char* at_;
  const char* end_;
};

inline std::size_t VarintSize(std::uint64_t value) {
  std::size_t size = 1;
  while (value >>= 7) ++size;
  return size;
}

inline void AppendVarint(std::uint64_t value, std::string& out) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

// The tag and the length of a length-delimited field.
inline void AppendHead(int field, std::size_t size, std::string& out) {
  AppendVarint(static_cast<std::uint64_t>(field) << 3 | static_cast<std::uint64_t>(WireType::kDelimited), out);
  AppendVarint(size, out);
}

// Of such a field with its head, if its number is below 16.
inline std::size_t DelimitedSize(std::size_t size) { return 1 + VarintSize(size) + size; }

}  // namespace estimator
