#include "records.h"

#include <array>
#include <cstring>
#include <utility>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <nmmintrin.h>
#define ESTIMATOR_CRC_INSTRUCTION
#endif

namespace estimator {
namespace {

constexpr std::size_t kHeaderBytes = 12;  // the length, and its checksum
constexpr std::size_t kFooterBytes = 4;

using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

// Table n takes a byte that stands n bytes before the end of a group of eight.
Tables MakeTables() {
  Tables tables;
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0x82F63B78u : crc >> 1;
    tables[0][byte] = crc;
  }
  for (std::size_t table = 1; table < 8; ++table) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t before = tables[table - 1][byte];
      tables[table][byte] = before >> 8 ^ tables[0][before & 0xFF];
    }
  }
  return tables;
}

#ifdef ESTIMATOR_CRC_INSTRUCTION
__attribute__((target("sse4.2"))) std::uint32_t Crc32cByInstruction(std::string_view bytes) {
  std::uint64_t crc = 0xFFFFFFFFu;
  const char* at = bytes.data();
  const char* const end = at + bytes.size();
  for (; end - at >= 8; at += 8) {
    std::uint64_t group;
    std::memcpy(&group, at, 8);
    crc = _mm_crc32_u64(crc, group);
  }
  std::uint32_t low = static_cast<std::uint32_t>(crc);
  for (; at != end; ++at) low = _mm_crc32_u8(low, static_cast<unsigned char>(*at));
  return ~low;
}
#endif

std::uint32_t Masked(std::uint32_t crc) { return (crc >> 15 | crc << 17) + 0xA282EAD8u; }

// Little-endian, whatever the processor is.
template <class Number>
Number ReadNumber(std::string_view bytes) {
  Number number = 0;
  for (std::size_t index = sizeof(Number); index-- > 0;) {
    number = static_cast<Number>(number << 8) | static_cast<unsigned char>(bytes[index]);
  }
  return number;
}

}  // namespace

std::uint32_t Crc32cByTable(std::string_view bytes) {
  static const Tables tables = MakeTables();
  std::uint32_t crc = 0xFFFFFFFFu;
  while (bytes.size() >= 8) {
    const std::uint64_t group = ReadNumber<std::uint64_t>(bytes.substr(0, 8)) ^ crc;
    crc = 0;
    for (std::size_t index = 0; index < 8; ++index) crc ^= tables[7 - index][group >> (8 * index) & 0xFF];
    bytes.remove_prefix(8);
  }
  for (const char byte : bytes) crc = crc >> 8 ^ tables[0][(crc ^ static_cast<unsigned char>(byte)) & 0xFF];
  return ~crc;
}

std::uint32_t Crc32c(std::string_view bytes) {
#ifdef ESTIMATOR_CRC_INSTRUCTION
  static const bool has_instruction = __builtin_cpu_supports("sse4.2");
  if (has_instruction) return Crc32cByInstruction(bytes);
#endif
  return Crc32cByTable(bytes);
}

bool RowsView::is_whole() const {
  if (splits[0] < 0) return false;
  for (std::size_t row = 0; row < count; ++row) {
    if (splits[row + 1] < splits[row]) return false;
  }
  return static_cast<std::uint64_t>(splits[count]) <= bytes.size();
}

Frames ReadFrames(std::string_view piece) {
  Frames frames;
  while (frames.consumed < piece.size()) {
    const std::string_view rest = piece.substr(frames.consumed);
    frames.next_bytes = kHeaderBytes;
    if (rest.size() < kHeaderBytes) return frames;
    if (Masked(Crc32c(rest.substr(0, 8))) != ReadNumber<std::uint32_t>(rest.substr(8, 4))) {
      frames.fault = FrameFault::kLength;
      return frames;
    }
    const std::uint64_t length = ReadNumber<std::uint64_t>(rest.substr(0, 8));
    // Compared by subtraction: a crafted length must not wrap around.
    const std::uint64_t most = UINT64_MAX - kHeaderBytes - kFooterBytes;
    frames.next_bytes = length > most ? UINT64_MAX : length + kHeaderBytes + kFooterBytes;
    if (frames.next_bytes > rest.size()) return frames;
    const std::string_view record = rest.substr(kHeaderBytes, static_cast<std::size_t>(length));
    const std::string_view footer = rest.substr(kHeaderBytes + record.size(), kFooterBytes);
    if (Masked(Crc32c(record)) != ReadNumber<std::uint32_t>(footer)) {
      frames.fault = FrameFault::kData;
      return frames;
    }
    frames.records.push_back(record);
    frames.consumed += static_cast<std::size_t>(frames.next_bytes);
  }
  frames.next_bytes = 0;
  return frames;
}

void RowMixer::Mix(const RowsView& rows, OwnedRows& given) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (std::size_t row = 0; row < rows.count; ++row) {
    if (held_.size() < capacity_) {
      held_.emplace_back(rows[row]);
      continue;
    }
    std::string& place = held_[Below(held_.size())];
    given.Add(place);
    place.assign(rows[row]);
  }
}

void RowMixer::Drain(OwnedRows& given) {
  const std::lock_guard<std::mutex> lock(mutex_);
  while (!held_.empty()) {
    std::swap(held_[Below(held_.size())], held_.back());
    given.Add(held_.back());
    held_.pop_back();
  }
}

}  // namespace estimator
