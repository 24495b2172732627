// Nested lists and objects of JSON, whatever stands in them. Owns their shape.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "json_cursor.h"

namespace estimator {

inline constexpr std::size_t kDimensionsMax = 32;

// One element, or even and not empty lists of them, nested to at most kDimensionsMax levels. `read_element` reads one
// element and says whether it could; the shape is [] for an element without a list.
//
// The lists are read without recursion: `counts` holds how many elements each open list has so far.
template <class ReadElement>
bool ReadLists(JsonCursor& cursor, std::vector<std::int64_t>& shape, ReadElement read_element) {
  std::array<std::int64_t, kDimensionsMax> counts;
  std::size_t depth = 0;
  std::optional<std::size_t> rank;  // known from the first element on
  while (true) {
    while (cursor.Take('[')) {
      if (depth == kDimensionsMax || (rank && depth == *rank)) return false;
      counts[depth++] = 0;
      cursor.SkipSpace();
    }
    if (!rank) {
      rank = depth;
      shape.assign(depth, -1);
    }
    if (depth != *rank || !read_element()) return false;
    // Close every list that ends here.
    while (depth > 0) {
      ++counts[depth - 1];
      cursor.SkipSpace();
      if (cursor.Take(',')) {
        cursor.SkipSpace();
        break;
      }
      if (!cursor.Take(']')) return false;
      --depth;
      if (shape[depth] < 0) shape[depth] = counts[depth];
      if (shape[depth] != counts[depth]) return false;
    }
    if (depth == 0) return true;
  }
}

// {"a": content, …}; `read` reads the content of a key, and says whether it could.
template <class Read>
bool ReadMembers(JsonCursor& cursor, Read read) {
  if (!cursor.Take('{')) return false;
  do {
    cursor.SkipSpace();
    const auto key = cursor.ReadKey();
    if (!key || !read(*key)) return false;
    cursor.SkipSpace();
  } while (cursor.Take(','));
  return cursor.Take('}');
}

// [element, …], not empty.
template <class ReadElement>
bool ReadList(JsonCursor& cursor, ReadElement read_element) {
  if (!cursor.Take('[')) return false;
  do {
    cursor.SkipSpace();
    if (!read_element()) return false;
    cursor.SkipSpace();
  } while (cursor.Take(','));
  return cursor.Take(']');
}

}  // namespace estimator
