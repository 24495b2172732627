// Arrays -> JSON text. Owns how numbers are printed. Knows no Python.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace estimator {

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

// Appends one flat list of all numbers, and says what WriteArray says. Floats get the fewest digits that give them back,
// laid out as orjson prints numpy's.
bool WriteFlat(const ArrayView& array, std::string& text);

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
