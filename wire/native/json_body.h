// The bodies of requests that hold nothing but numbers and plain text, as JSON -> arrays.
//
// Owns the syntax of these bodies. Knows no Python, and says nothing about what is wrong with a text: whatever is out of
// the ordinary is left to a slower reader, which has the sentences.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "json_cursor.h"

namespace estimator {

// A tensor as JSON writes it. Its numbers are all integers or all reals, eight bytes each.
struct Numbers {
  std::vector<std::int64_t> shape;  // [] for a single number
  std::vector<std::int64_t> integers;
  std::vector<double> reals;  // used where any number has a fraction or an exponent; then `integers` is empty
  bool are_integers = true;

  void Add(Number number);
};

// Named tensors: {"a": numbers, "b": numbers}. The names point into the text that was read.
using Columns = std::map<std::string_view, Numbers>;

// A list of objects whose members are numbers, texts, or flat lists of either.
class Rows {
 public:
  struct Member {
    std::string_view key;
    bool is_list;
    bool are_texts;            // else numbers; false for an empty list
    std::size_t begin, count;  // in `texts` or `numbers`
  };

  std::vector<Member> members;        // of all rows, one row after the other
  std::vector<std::size_t> row_ends;  // in `members`
  std::vector<Number> numbers;
  std::vector<std::string_view> texts;

  // The members as one column for each key: of shape [rows] for numbers, [rows, n] for lists of n of them. Nothing if
  // the rows have different keys or lengths, or hold text.
  std::optional<Columns> ToColumns() const;
};

// {"instances": content} or {"inputs": content}, with or without a "signature_name" beside it.
struct Body {
  std::string_view key;  // instances or inputs
  std::optional<std::string_view> signature_name;
  std::variant<Numbers, Columns, Rows> content;  // columns only under inputs, rows only under instances
};

// Nothing for a text of any other form, and for one that holds what this reader leaves to a slower one: empty or uneven
// lists of tensors, numbers that int64 or double does not hold, more than kDimensionsMax dimensions, a key that an
// object has twice, escapes or other characters than ASCII in a string, true, false, null.
std::optional<Body> ReadBody(std::string_view text);

}  // namespace estimator
