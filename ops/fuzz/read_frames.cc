// Fuzz target: any bytes, as a piece of a TFRecord file and as rows with any splits. Besides what the sanitizers see it
// checks what must hold whatever the bytes are.
//
// The first byte gives the number of splits; that many bytes are the splits, the rest the bytes of the rows. What stands
// behind the first byte is also framed, whole and cut, and read back.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "../../wire/native/records.h"

namespace {

using estimator::FrameFault;
using estimator::Frames;
using estimator::OwnedRows;
using estimator::RowMixer;
using estimator::RowsView;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "Broken: %s\n", what);
  std::abort();
}

void Append(std::string& to, std::uint64_t number, int bytes) {
  for (int index = 0; index < bytes; ++index) to.push_back(static_cast<char>(number >> (8 * index)));
}

std::uint32_t Masked(std::string_view bytes) {
  const std::uint32_t crc = estimator::Crc32c(bytes);
  Require(crc == estimator::Crc32cByTable(bytes), "both checksums are one");
  return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

std::string Framed(std::string_view record) {
  std::string frame;
  Append(frame, record.size(), 8);
  Append(frame, Masked(frame), 4);
  frame.append(record);
  Append(frame, Masked(record), 4);
  return frame;
}

void CheckFrames(std::string_view piece) {
  const Frames frames = estimator::ReadFrames(piece);
  std::size_t bytes = 0;
  for (const std::string_view record : frames.records) bytes += record.size() + 16;
  Require(bytes == frames.consumed && bytes <= piece.size(), "records and frames are what was consumed");
  Require(frames.next_bytes != 0 || bytes == piece.size(), "nothing stands behind the last record");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (!size) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  CheckFrames(rest);
  const std::string frame = Framed(rest);
  const Frames whole = estimator::ReadFrames(frame);
  Require(whole.records.size() == 1 && whole.records[0] == rest, "a record comes back");
  const std::size_t cut = data[0] % frame.size();
  const Frames part = estimator::ReadFrames(std::string_view(frame).substr(0, cut));
  Require(part.records.empty() && part.fault == FrameFault::kNone, "a cut record is waited for");

  const std::size_t count = data[0] % 16;
  if (rest.size() < count + 1) return 0;
  std::vector<std::int64_t> splits;
  for (std::size_t index = 0; index <= count; ++index) splits.push_back(static_cast<signed char>(rest[index]));
  const RowsView rows{rest.substr(count + 1), splits.data(), count};
  if (!rows.is_whole()) return 0;
  RowMixer mixer(1 + data[0] / 16, data[0]);
  OwnedRows given;
  mixer.Mix(rows, given);
  mixer.Drain(given);
  Require(given.splits.size() == count + 1, "every row comes back");
  Require(given.bytes.size() == static_cast<std::size_t>(splits[count] - splits[0]), "every byte comes back");
  return 0;
}
