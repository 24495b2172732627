// The lexical parts of JSON that the codecs here read: space, words, plain strings, numbers. Owns their syntax.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <system_error>

namespace estimator {

// An integer or a real; the text decides, as for any JSON parser of types.
struct Number {
  bool is_integer;
  std::int64_t integer;
  double real;  // of an integer too

  static Number Of(std::int64_t value) { return {true, value, static_cast<double>(value)}; }
  static Number Of(double value) { return {false, 0, value}; }
};

// A place in a text. A method that gives nothing, or false, leaves it anywhere: the reader gives up then.
class JsonCursor {
 public:
  explicit JsonCursor(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {}

  bool AtEnd() const { return at_ == end_; }
  bool Sees(char c) const { return at_ != end_ && *at_ == c; }

  bool Take(char c) {
    if (!Sees(c)) return false;
    ++at_;
    return true;
  }

  bool TakeWord(std::string_view word) {
    if (static_cast<std::size_t>(end_ - at_) < word.size() || std::string_view(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  void SkipSpace() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }

  // A string of printable ASCII without escapes.
  std::optional<std::string_view> ReadString() {
    if (!Take('"')) return std::nullopt;
    const char* const begin = at_;
    while (at_ != end_ && ' ' <= *at_ && *at_ <= '~' && *at_ != '"' && *at_ != '\\') ++at_;
    const std::string_view value(begin, static_cast<std::size_t>(at_ - begin));
    if (!Take('"')) return std::nullopt;
    return value;
  }

  // A key with its colon, and the space up to its value.
  std::optional<std::string_view> ReadKey() {
    const auto key = ReadString();
    SkipSpace();
    if (!key || !Take(':')) return std::nullopt;
    SkipSpace();
    return key;
  }

  // The syntax is JSON's, which is narrower than what from_chars takes. Nothing for a number that int64 or double does
  // not hold.
  std::optional<Number> ReadNumber() {
    const char* const begin = at_;
    const bool is_negative = Take('-');
    const char* const digits = at_;
    std::uint64_t mantissa = 0;  // meaningless for more than kDigitsMax digits
    if (!ReadDigits(mantissa) || (*digits == '0' && at_ - digits > 1)) return std::nullopt;
    std::ptrdiff_t count = at_ - digits;
    if (!Sees('.') && !Sees('e') && !Sees('E')) {
      if (count > kDigitsMax) return Convert<std::int64_t>(begin);
      const auto value = static_cast<std::int64_t>(mantissa);
      return Number::Of(is_negative ? -value : value);
    }
    std::ptrdiff_t power = 0;
    if (Take('.')) {
      const char* const fraction = at_;
      if (!ReadDigits(mantissa)) return std::nullopt;
      power = fraction - at_;
      count -= power;
    }
    if (Take('e') || Take('E')) {
      if (!Take('+')) Take('-');
      std::uint64_t unused = 0;
      return ReadDigits(unused) ? Convert<double>(begin) : std::nullopt;
    }
    // The mantissa and the power of ten are both exact as doubles, so that their quotient is rounded once, as it should.
    static constexpr double kPowers[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8, 1e9,
                                         1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18};
    if (count > kDigitsMax || mantissa > std::uint64_t{1} << 53) return Convert<double>(begin);
    const double value = static_cast<double>(mantissa) / kPowers[-power];
    return Number::Of(is_negative ? -value : value);
  }

 private:
  // A number of so many digits is below 2^63.
  static constexpr std::ptrdiff_t kDigitsMax = 18;

  // Takes digits, at least one, and appends them to a number.
  bool ReadDigits(std::uint64_t& number) {
    const char* const begin = at_;
    for (; at_ != end_ && '0' <= *at_ && *at_ <= '9'; ++at_) {
      number = number * 10 + static_cast<std::uint64_t>(*at_ - '0');
    }
    return at_ != begin;
  }

  template <class T>
  std::optional<Number> Convert(const char* begin) const {
    T value;
    if (std::from_chars(begin, at_, value).ec != std::errc()) return std::nullopt;
    return Number::Of(value);
  }

  const char* at_;
  const char* end_;
};

}  // namespace estimator
