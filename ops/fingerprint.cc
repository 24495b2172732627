// Written after the published algorithm: FarmHash, Geoff Pike, Google (the variant called `na`, 64 bits, no seed).
//
// Four paths by length: 0-16, 17-32 and 33-64 bytes are mixed in one go; longer strings run 64 bytes at a time through
// 56 bytes of state and finish on the last 64 bytes, which may overlap those read before.
#include "fingerprint.h"

#include <cstddef>
#include <cstring>
#include <utility>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "Fingerprint64 reads its words little-endian.");

namespace estimator {
namespace {

// Primes between 2^63 and 2^64, chosen by FarmHash's author.
constexpr std::uint64_t k0 = 0xc3a5c85c97cb3127ULL;
constexpr std::uint64_t k1 = 0xb492b66fbe98f273ULL;
constexpr std::uint64_t k2 = 0x9ae16a3b2f90404fULL;

template <class Word>
std::uint64_t Load(const char* at) {
  Word word;
  std::memcpy(&word, at, sizeof(word));
  return word;
}

std::uint64_t Load64(const char* at) { return Load<std::uint64_t>(at); }
std::uint64_t Load32(const char* at) { return Load<std::uint32_t>(at); }
std::uint64_t Load8(const char* at) { return Load<std::uint8_t>(at); }

std::uint64_t RotateRight(std::uint64_t word, int bits) { return (word >> bits) | (word << (64 - bits)); }

std::uint64_t ShiftMix(std::uint64_t word) { return word ^ (word >> 47); }

std::uint64_t Combine(std::uint64_t u, std::uint64_t v, std::uint64_t multiplier) {
  const std::uint64_t a = ShiftMix((u ^ v) * multiplier);
  return ShiftMix((v ^ a) * multiplier) * multiplier;
}

std::uint64_t HashUpTo16(const char* s, std::size_t size) {
  const std::uint64_t multiplier = k2 + size * 2;
  if (size >= 8) {
    const std::uint64_t a = Load64(s) + k2;
    const std::uint64_t b = Load64(s + size - 8);
    return Combine(RotateRight(b, 37) * multiplier + a, (RotateRight(a, 25) + b) * multiplier, multiplier);
  }
  if (size >= 4) return Combine(size + (Load32(s) << 3), Load32(s + size - 4), multiplier);
  if (size == 0) return k2;
  const std::uint64_t y = Load8(s) + (Load8(s + size / 2) << 8);
  const std::uint64_t z = size + (Load8(s + size - 1) << 2);
  return ShiftMix(y * k2 ^ z * k0) * k2;
}

std::uint64_t Hash17To32(const char* s, std::size_t size) {
  const std::uint64_t multiplier = k2 + size * 2;
  const std::uint64_t a = Load64(s) * k1;
  const std::uint64_t b = Load64(s + 8);
  const std::uint64_t c = Load64(s + size - 8) * multiplier;
  const std::uint64_t d = Load64(s + size - 16) * k2;
  return Combine(RotateRight(a + b, 43) + RotateRight(c, 30) + d, a + RotateRight(b + k2, 18) + c, multiplier);
}

std::uint64_t Hash33To64(const char* s, std::size_t size) {
  const std::uint64_t multiplier = k2 + size * 2;
  const std::uint64_t a = Load64(s) * k2;
  const std::uint64_t b = Load64(s + 8);
  const std::uint64_t c = Load64(s + size - 8) * multiplier;
  const std::uint64_t d = Load64(s + size - 16) * k2;
  const std::uint64_t y = RotateRight(a + b, 43) + RotateRight(c, 30) + d;
  const std::uint64_t z = Combine(y, a + RotateRight(b + k2, 18) + c, multiplier);
  const std::uint64_t e = Load64(s + 16) * multiplier;
  const std::uint64_t f = Load64(s + 24);
  const std::uint64_t g = (y + Load64(s + size - 32)) * multiplier;
  const std::uint64_t h = (z + Load64(s + size - 24)) * multiplier;
  return Combine(RotateRight(e + f, 43) + RotateRight(g, 30) + h, e + RotateRight(f + a, 18) + g, multiplier);
}

struct Pair {
  std::uint64_t first;
  std::uint64_t second;
};

Pair Mix32(const char* s, std::uint64_t a, std::uint64_t b) {
  const std::uint64_t w = Load64(s), x = Load64(s + 8), y = Load64(s + 16), z = Load64(s + 24);
  a += w;
  b = RotateRight(b + a + z, 21);
  const std::uint64_t c = a;
  a += x + y;
  b += RotateRight(a, 44);
  return {a + z, b + c};
}

// The running state over strings longer than 64 bytes.
struct State {
  std::uint64_t x, y, z;
  Pair v, w;

  // `weight` is 1 in the loop and 9 in the last step, where also the multiplier differs.
  void Absorb64(const char* s, std::uint64_t multiplier, std::uint64_t weight) {
    x = RotateRight(x + y + v.first + Load64(s + 8), 37) * multiplier;
    y = RotateRight(y + v.second + Load64(s + 48), 42) * multiplier;
    x ^= w.second * weight;
    y += v.first * weight + Load64(s + 40);
    z = RotateRight(z + w.first, 33) * multiplier;
    v = Mix32(s, v.second * multiplier, x + w.first);
    w = Mix32(s + 32, z + w.second, y + Load64(s + 16));
    std::swap(z, x);
  }
};

std::uint64_t HashOver64(const char* s, std::size_t size) {
  constexpr std::uint64_t seed = 81;
  constexpr std::uint64_t y = seed * k1 + 113;
  State state{seed * k2 + Load64(s), y, ShiftMix(y * k2 + 113) * k2, {0, 0}, {0, 0}};
  const std::size_t whole_blocks = (size - 1) / 64;  // 1 to 64 bytes are left for the last step
  for (std::size_t block = 0; block < whole_blocks; ++block) state.Absorb64(s + block * 64, k1, 1);

  const std::uint64_t multiplier = k1 + ((state.z & 0xff) << 1);
  state.w.first += (size - 1) & 63;
  state.v.first += state.w.first;
  state.w.first += state.v.first;
  state.Absorb64(s + size - 64, multiplier, 9);
  return Combine(Combine(state.v.first, state.w.first, multiplier) + ShiftMix(state.y) * k0 + state.z,
                 Combine(state.v.second, state.w.second, multiplier) + state.x, multiplier);
}

}  // namespace

std::uint64_t Fingerprint64(std::string_view bytes) {
  if (bytes.size() <= 16) return HashUpTo16(bytes.data(), bytes.size());
  if (bytes.size() <= 32) return Hash17To32(bytes.data(), bytes.size());
  if (bytes.size() <= 64) return Hash33To64(bytes.data(), bytes.size());
  return HashOver64(bytes.data(), bytes.size());
}

}  // namespace estimator
