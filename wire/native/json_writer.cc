#include "json_writer.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

namespace estimator {
namespace {

// Longer than any number's text.
using NumberText = std::array<char, 32>;

// Significant digits without the zeros at their end, and the power of ten of the first one.
struct Decimal {
  NumberText digits;
  int count = 0;
  int exponent = 0;

  void DropZeros() {
    while (count > 1 && digits[static_cast<std::size_t>(count - 1)] == '0') --count;
  }
};

// Of a text in scientific notation, d.ddde±xx, of a positive number.
Decimal ReadScientific(const char* at, const char* const end) {
  Decimal decimal;
  for (; at != end && *at != 'e'; ++at) {
    if (*at != '.') decimal.digits[static_cast<std::size_t>(decimal.count++)] = *at;
  }
  decimal.DropZeros();
  at += at[1] == '+' ? 2 : 1;
  std::from_chars(at, end, decimal.exponent);
  return decimal;
}

Decimal Rounded(double value, int digits) {
  NumberText text;
  const auto end = std::to_chars(text.begin(), text.end(), value, std::chars_format::scientific, digits - 1).ptr;
  return ReadScientific(text.data(), end);
}

template <class T>
Decimal Shortest(T value) {
  NumberText text;
  const auto end = std::to_chars(text.begin(), text.end(), value, std::chars_format::scientific).ptr;
  return ReadScientific(text.data(), end);
}

constexpr int kShort = 6, kLong = 9;

// 9 digits of a float whose first digit has this power of ten. A double holds the scaled value so exactly that the
// rounding is right unless it is nearly a tie; then the library, which is exact and slower, decides.
Decimal LongOf(float value, int exponent) {
  static constexpr double kPowers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                       1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
  constexpr int kExact = 22;  // larger powers are not exact
  const int power = kLong - 1 - exponent;
  if (power < -kExact || power > kExact) return Rounded(value, kLong);
  const double scaled = power < 0 ? value / kPowers[-power] : value * kPowers[power];
  const double below = std::floor(scaled);
  const double rest = scaled - below;
  const double whole = below + (rest > 0.5);
  if (std::abs(rest - 0.5) < 1e-5 || whole < kPowers[kLong - 1] || whole >= kPowers[kLong]) {
    return Rounded(value, kLong);
  }
  Decimal decimal;
  std::to_chars(decimal.digits.begin(), decimal.digits.end(), static_cast<std::int64_t>(whole));
  decimal.count = kLong;
  decimal.exponent = exponent;
  decimal.DropZeros();
  return decimal;
}

// 6 digits if these give the float back, else 9.
Decimal DecimalOf(float value) {
  if (value >= std::numeric_limits<float>::min()) {
    // Floats lie so much closer than numbers of 6 digits that at most one of these gives the float back, and the
    // shortest text finds it. Of numbers of 9 digits the shortest text is the nearest one, as rounding is.
    const Decimal shortest = Shortest(value);
    return shortest.count <= kShort || shortest.count == kLong ? shortest
                                                                       : LongOf(value, shortest.exponent);
  }
  NumberText text;
  const auto end = std::to_chars(text.begin(), text.end(), static_cast<double>(value), std::chars_format::scientific,
                                 kShort - 1).ptr;
  double back = 0;
  std::from_chars(text.data(), end, back);
  return static_cast<float>(back) == value ? ReadScientific(text.data(), end) : Rounded(value, kLong);
}

Decimal DecimalOf(double value) { return Shortest(value); }

// The powers of ten of first digits, from one to before the other, whose numbers are printed without an exponent.
struct Plain {
  int from, to;
};
// As orjson lays out doubles, and floats.
constexpr Plain kPlainDouble = {-5, 16}, kPlainFloat = {-6, 13};

void Append(const Decimal& decimal, Plain plain, std::string& text) {
  const char* const digits = decimal.digits.data();
  const std::size_t count = static_cast<std::size_t>(decimal.count);
  const int exponent = decimal.exponent;
  if (exponent < plain.from || exponent >= plain.to) {
    text += digits[0];
    if (count > 1) text.append(1, '.').append(digits + 1, count - 1);
    NumberText power;
    text.append(exponent < 0 ? "e" : "e+").append(power.data(), std::to_chars(power.begin(), power.end(), exponent).ptr);
  } else if (exponent < 0) {
    text.append("0.").append(static_cast<std::size_t>(-exponent - 1), '0').append(digits, count);
  } else {
    const std::size_t whole = static_cast<std::size_t>(exponent) + 1;
    if (count <= whole) {
      text.append(digits, count).append(whole - count, '0').append(".0");
    } else {
      text.append(digits, whole).append(1, '.').append(digits + whole, count - whole);
    }
  }
}

// as_float: a float with the fewest digits that give it back.
template <class T>
bool AppendNumber(T value, bool as_float, std::string& text) {
  if constexpr (std::is_same_v<T, bool>) {
    text += value ? "true" : "false";
  } else if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(value)) return false;
    if (std::signbit(value)) text += '-';
    if (value == 0) {
      text += "0.0";
    } else if (std::is_same_v<T, float> && as_float) {
      Append(Shortest(std::abs(value)), kPlainFloat, text);
    } else {
      Append(DecimalOf(std::abs(value)), kPlainDouble, text);
    }
  } else {
    NumberText digits;
    text.append(digits.data(), std::to_chars(digits.begin(), digits.end(), value).ptr);
  }
  return true;
}

// One array, printed piece by piece: each piece is what lies below an index of the dimensions before `from`.
class Printer {
 public:
  Printer(const ArrayView& array, std::size_t from, bool as_floats = false)
      : type_(array.type),
        next_(static_cast<const char*>(array.data)),
        shape_(array.shape),
        from_(from),
        as_floats_(as_floats) {}

  bool PrintNext(std::string& text) {
    switch (type_) {
      case '?': return Print<bool>(from_, text);
      case 'b': return Print<signed char>(from_, text);
      case 'B': return Print<unsigned char>(from_, text);
      case 'h': return Print<short>(from_, text);
      case 'i': return Print<int>(from_, text);
      case 'I': return Print<unsigned int>(from_, text);
      case 'l': return Print<long>(from_, text);
      case 'L': return Print<unsigned long>(from_, text);
      case 'q': return Print<long long>(from_, text);
      case 'Q': return Print<unsigned long long>(from_, text);
      case 'f': return Print<float>(from_, text);
      case 'd': return Print<double>(from_, text);
      default: return false;
    }
  }

 private:
  template <class T>
  bool Print(std::size_t dimension, std::string& text) {
    if (dimension == shape_.size()) {
      T value;
      __builtin_memcpy(&value, next_, sizeof(T));
      next_ += sizeof(T);
      return AppendNumber(value, as_floats_, text);
    }
    text += '[';
    for (std::int64_t index = 0; index < shape_[dimension]; ++index) {
      if (index) text += ',';
      if (!Print<T>(dimension + 1, text)) return false;
    }
    text += ']';
    return true;
  }

  char type_;
  const char* next_;
  const std::vector<std::int64_t>& shape_;
  std::size_t from_;
  bool as_floats_;
};

}  // namespace

bool WriteArray(const ArrayView& array, std::string& text) { return Printer(array, 0).PrintNext(text); }

bool WriteFlat(const ArrayView& array, std::string& text) {
  std::int64_t count = 1;
  for (const std::int64_t length : array.shape) count *= length;
  const ArrayView flat{array.type, array.data, {count}};
  return Printer(flat, 0, true).PrintNext(text);
}

bool WriteRows(const std::vector<Column>& columns, std::string& text) {
  std::vector<std::optional<Printer>> printers;
  for (const Column& column : columns) {
    if (column.array) {
      printers.emplace_back(std::in_place, *column.array, 1);
    } else {
      printers.emplace_back();
    }
  }
  text += '[';
  for (std::size_t row = 0; row < columns.at(0).rows(); ++row) {
    if (row) text += ',';
    for (std::size_t index = 0; index < columns.size(); ++index) {
      text += index ? ',' : '{';
      text += columns[index].key;
      if (!printers[index]) {
        text += columns[index].texts[row];
      } else if (!printers[index]->PrintNext(text)) {
        return false;
      }
    }
    text += '}';
  }
  text += ']';
  return true;
}

}  // namespace estimator
