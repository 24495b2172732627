// An ONNX model's file: what has to be known of it before a runtime opens it.
//
// Owns the fields of ModelProto that lead there. Knows no Python, and has no sentences. The bytes are hostile: each length
// is checked before it is believed, messages nest to a fixed depth, and values are skipped, not copied. Fields are read in
// the file's order, once, so that the time grows with the file alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace estimator {

// What is wrong with a file, if anything.
enum class OnnxFault { kNone = 0, kNoField = 1, kCutField = 2, kCutNumber = 3, kTooDeep = 4 };

// All texts point into the file.
struct OnnxFile {
  // A tensor that says that its values lie in another file.
  struct External {
    std::string_view name, location, offset, length;
  };

  // An input or output of the graph that is no tensor. The kinds are fields of TypeProto's choice; `element` is that of a
  // sequence's elements, 0 where it does not say.
  struct Other {
    std::string_view name;
    bool is_input;
    int kind, element;
  };

  OnnxFault fault = OnnxFault::kNone;
  std::size_t fault_at = 0;  // the byte
  std::uint64_t ir_version = 0;
  bool has_graph = false;
  bool needs_rows = false;  // whether it has an operator that must not run on nothing
  std::vector<std::pair<std::string_view, std::uint64_t>> opsets;  // by domain
  std::vector<std::pair<std::string_view, std::string_view>> metadata;
  std::vector<External> external;
  std::vector<Other> others;
  std::vector<std::string_view> words;  // texts in attributes and tensors; at most kOnnxWordsMax
};

inline constexpr std::size_t kOnnxWordsMax = 1000;

OnnxFile ReadOnnxFile(std::string_view file);

}  // namespace estimator
