// JSON numbers <-> arrays, for the bodies of requests and answers that hold little else.
//
// Owns the syntax of numbers and of nested lists, and how numbers are printed. Knows no Python, and says nothing about
// what is wrong with a text: whatever is out of the ordinary is left to a slower reader, which has the sentences.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace estimator {

// A tensor as JSON writes it. Its numbers are all integers or all reals, eight bytes each.
struct Numbers {
  std::vector<std::int64_t> shape;  // [] for a single number
  std::vector<std::int64_t> integers;
  std::vector<double> reals;  // used where any number has a fraction or an exponent; then `integers` is empty
  bool are_integers = true;
};

// {"KEY": numbers} or {"KEY": numbers, "signature_name": "…"}, in any order.
struct NumbersBody {
  std::string_view key;  // into the text: instances or inputs
  std::optional<std::string_view> signature_name;
  Numbers numbers;
};

// Nothing for a text of any other form, and for one that holds what this reader leaves to a slower one: empty or uneven
// lists, integers beyond int64, more than kDimensionsMax dimensions, escapes in a string, NaN.
inline constexpr std::size_t kDimensionsMax = 32;
std::optional<NumbersBody> ReadNumbersBody(std::string_view text);

// An array in memory, in row-major order without gaps.
struct ArrayView {
  char type;  // numpy's letter: one of kPrintable
  const void* data;
  std::vector<std::int64_t> shape;
};
inline constexpr std::string_view kPrintable = "?bBhilqILQfd";

// Appends nested lists of numbers. False, with an unfinished text, where a number is not finite: JSON has no form for it.
//
// Doubles get the fewest digits that give them back; floats 6 significant digits if these give them back, else 9, as
// TensorFlow Serving prints them.
bool WriteArray(const ArrayView& array, std::string& text);

// One member of the objects that WriteRows writes: an array with a first dimension, or the text of each row.
struct Column {
  std::string_view key;  // `"NAME":`, ready to print
  std::optional<ArrayView> array;
  std::vector<std::string_view> texts;

  std::size_t rows() const { return array ? static_cast<std::size_t>(array->shape.at(0)) : texts.size(); }
};

// Appends a list of objects, one for each row of the columns, which have the same number of rows.
bool WriteRows(const std::vector<Column>& columns, std::string& text);

}  // namespace estimator
