// TFRecord's framing, and rows of bytes that are taken, mixed and copied many at a time.
//
// Rows are ragged: all bytes one after the other, and splits that say where each row begins and ends. Knows neither files
// nor what a row holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace estimator {

// CRC32C of the bytes, by the processor's own instruction where it has one.
std::uint32_t Crc32c(std::string_view bytes);
// The same by a table, which every processor can read.
std::uint32_t Crc32cByTable(std::string_view bytes);

// Rows that somebody else keeps. Row i is [splits[i], splits[i + 1]) of the bytes.
struct RowsView {
  std::string_view bytes;
  const std::int64_t* splits;
  std::size_t count;

  // Whether every row lies within the bytes.
  bool is_whole() const;
  std::string_view operator[](std::size_t row) const {
    return bytes.substr(static_cast<std::size_t>(splits[row]), static_cast<std::size_t>(splits[row + 1] - splits[row]));
  }
};

struct OwnedRows {
  std::string bytes;
  std::vector<std::int64_t> splits{0};

  void Add(std::string_view row) {
    bytes.append(row);
    splits.push_back(static_cast<std::int64_t>(bytes.size()));
  }
};

enum class FrameFault { kNone, kLength, kData };

// What stands at the start of a piece of a TFRecord file.
struct Frames {
  std::vector<std::string_view> records;
  // The bytes of these records and their frames.
  std::size_t consumed = 0;
  // How many bytes the record behind them takes, as far as it is known; 0 if the piece ends with a record.
  std::uint64_t next_bytes = 0;
  // What is wrong with the record behind them.
  FrameFault fault = FrameFault::kNone;
};

Frames ReadFrames(std::string_view piece);

// A buffer that makes the order of rows random: each row that comes takes the place of one that is held.
class RowMixer {
 public:
  RowMixer(std::size_t capacity, std::uint64_t seed) : capacity_(capacity), random_(seed) {}
  // Takes the rows, and gives as many of the held ones as do not fit any more.
  void Mix(const RowsView& rows, OwnedRows& given);
  // Gives what is held, in random order.
  void Drain(OwnedRows& given);

 private:
  // A number below the bound, each equally likely but for less than one part in 2^32.
  std::size_t Below(std::size_t bound) { return static_cast<std::size_t>(random_() % bound); }

  const std::size_t capacity_;
  std::mt19937_64 random_;
  std::vector<std::string> held_;
  std::mutex mutex_;
};

}  // namespace estimator
