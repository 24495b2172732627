// The lexical parts of JSON that the codecs here read: space, plain strings, numbers. Owns their syntax.
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
    Take('-');
    const char* const digits = at_;
    if (!SkipDigits() || (*digits == '0' && at_ - digits > 1)) return std::nullopt;
    bool is_integer = true;
    if (Take('.')) {
      is_integer = false;
      if (!SkipDigits()) return std::nullopt;
    }
    if (Take('e') || Take('E')) {
      is_integer = false;
      if (!Take('+')) Take('-');
      if (!SkipDigits()) return std::nullopt;
    }
    return is_integer ? Convert<std::int64_t>(begin) : Convert<double>(begin);
  }

 private:
  bool SkipDigits() {
    const char* const begin = at_;
    while (at_ != end_ && '0' <= *at_ && *at_ <= '9') ++at_;
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
