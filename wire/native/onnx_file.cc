#include "onnx_file.h"

namespace estimator {
namespace {

// Messages inside messages; protobuf's own limit.
constexpr std::size_t kDepthMax = 100;

// Ends the reading of a file.
struct Broken {
  OnnxFault fault;
  std::size_t at;
};

// A number, or the bounds of a field's bytes, which are empty for a number.
struct OnnxField {
  std::uint64_t number, value;
  std::size_t begin, end;
};

// The fields of a message, one after the other. A number that 64 bits do not hold counts as the largest that they hold.
class OnnxFields {
 public:
  OnnxFields(std::string_view file, std::size_t begin, std::size_t end) : file_(file), at_(begin), end_(end) {}

  bool AtEnd() const { return at_ == end_; }

  OnnxField Read() {
    unsigned wire_type = 0;
    OnnxField field{ReadNumber(&wire_type) >> 3, 0, at_, at_};
    switch (wire_type) {
      case 0: field.value = ReadNumber(); break;
      case 1: Skip(8, field); break;
      case 2: {
        const std::uint64_t length = ReadNumber();
        field.begin = field.end = at_;
        Skip(length, field);
        field.end = at_;
        break;
      }
      case 5: Skip(4, field); break;
      default: throw Broken{OnnxFault::kNoField, field.begin - 1};
    }
    if (!field.number) throw Broken{OnnxFault::kNoField, field.begin - 1};
    return field;
  }

 private:
  static constexpr unsigned kNumberBytesMax = 10;

  // low_bits: receives the lowest three, of a number of any size.
  std::uint64_t ReadNumber(unsigned* low_bits = nullptr) {
    const std::size_t begin = at_;
    std::uint64_t value = 0;
    bool is_wide = false;
    for (unsigned count = 0; count < kNumberBytesMax && at_ != end_; ++count) {
      const auto byte = static_cast<unsigned char>(file_[at_++]);
      value |= static_cast<std::uint64_t>(byte & 0x7f) << (7 * count);
      is_wide |= count == kNumberBytesMax - 1 && (byte & 0x7e) != 0;
      if (byte >= 0x80) continue;
      if (low_bits) *low_bits = value & 7;
      return is_wide ? UINT64_MAX : value;
    }
    throw Broken{OnnxFault::kCutNumber, begin};
  }

  void Skip(std::uint64_t size, const OnnxField& field) {
    if (size > end_ - at_) throw Broken{OnnxFault::kCutField, field.begin};
    at_ += static_cast<std::size_t>(size);
  }

  std::string_view file_;
  std::size_t at_, end_;
};

// The messages that lead to a tensor. kNone stands for one that does not.
enum class Kind { kNone, kModel, kTraining, kFunction, kGraph, kNode, kAttribute, kSparse, kTensor };

// Which message a field of another one is.
Kind PartOf(Kind kind, std::uint64_t number) {
  switch (kind) {
    case Kind::kModel:
      return number == 7 ? Kind::kGraph : number == 20 ? Kind::kTraining : number == 25 ? Kind::kFunction : Kind::kNone;
    case Kind::kTraining: return number == 1 || number == 2 ? Kind::kGraph : Kind::kNone;
    case Kind::kFunction: return number == 7 ? Kind::kNode : number == 11 ? Kind::kAttribute : Kind::kNone;
    case Kind::kGraph:
      return number == 1 ? Kind::kNode : number == 5 ? Kind::kTensor : number == 15 ? Kind::kSparse : Kind::kNone;
    case Kind::kNode: return number == 5 ? Kind::kAttribute : Kind::kNone;
    case Kind::kAttribute:
      if (number == 5 || number == 10) return Kind::kTensor;
      if (number == 6 || number == 11) return Kind::kGraph;
      return number == 22 || number == 23 ? Kind::kSparse : Kind::kNone;
    case Kind::kSparse: return number == 1 || number == 2 ? Kind::kTensor : Kind::kNone;
    default: return Kind::kNone;
  }
}

class OnnxReader {
 public:
  explicit OnnxReader(std::string_view text) : text_(text) {}

  // One stack entry for each message that is open, so that no recursion follows the file.
  void Read() {
    struct Open {
      Kind kind;
      OnnxFields fields;
    };
    std::vector<Open> open = {{Kind::kModel, {text_, 0, text_.size()}}};
    while (!open.empty()) {
      if (open.back().fields.AtEnd()) {
        open.pop_back();
        continue;
      }
      const Kind kind = open.back().kind;
      const OnnxField field = open.back().fields.Read();
      if (kind == Kind::kModel) {
        NoteOwn(field);
      } else if (kind == Kind::kNode && field.number == 4) {
        // On no row, and GRU on no step, too, these end the process that ONNX Runtime 1.31 runs in.
        file_.needs_rows |= TextOf(field) == "LSTM" || TextOf(field) == "GRU";
      } else if (kind == Kind::kAttribute && field.number == 9) {
        NoteWord(field);
      } else if (kind == Kind::kGraph && open.size() == 2 && (field.number == 11 || field.number == 12)) {
        NoteValue(field);
      }
      const Kind part = PartOf(kind, field.number);
      if (part == Kind::kTensor) {
        NoteTensor(field);
      } else if (part != Kind::kNone) {
        if (open.size() > kDepthMax) throw Broken{OnnxFault::kTooDeep, field.begin};
        open.push_back({part, FieldsOf(field)});
      }
    }
  }

  OnnxFile& file() { return file_; }

 private:
  std::string_view TextOf(const OnnxField& field) const { return text_.substr(field.begin, field.end - field.begin); }
  OnnxFields FieldsOf(const OnnxField& field) const { return {text_, field.begin, field.end}; }

  void NoteWord(const OnnxField& field) {
    if (file_.words.size() < kOnnxWordsMax) file_.words.push_back(TextOf(field));
  }

  void NoteOwn(const OnnxField& field) {
    if (field.number == 1) {
      file_.ir_version = field.value;
    } else if (field.number == 7) {
      file_.has_graph = true;
    } else if (field.number == 8) {
      auto& [domain, version] = file_.opsets.emplace_back();
      for (OnnxFields parts = FieldsOf(field); !parts.AtEnd();) {
        const OnnxField part = parts.Read();
        if (part.number == 1) domain = TextOf(part);
        if (part.number == 2) version = part.value;
      }
    } else if (field.number == 14) {
      file_.metadata.push_back(ReadPair(field));
    }
  }

  // A StringStringEntryProto.
  std::pair<std::string_view, std::string_view> ReadPair(const OnnxField& field) const {
    std::pair<std::string_view, std::string_view> pair;
    for (OnnxFields parts = FieldsOf(field); !parts.AtEnd();) {
      const OnnxField part = parts.Read();
      if (part.number == 1) pair.first = TextOf(part);
      if (part.number == 2) pair.second = TextOf(part);
    }
    return pair;
  }

  void NoteTensor(const OnnxField& field) {
    constexpr std::uint64_t kExternal = 1;  // TensorProto.DataLocation
    OnnxFile::External tensor;
    bool says_external = false, has_places = false;
    for (OnnxFields parts = FieldsOf(field); !parts.AtEnd();) {
      const OnnxField part = parts.Read();
      if (part.number == 8) {
        tensor.name = TextOf(part);
      } else if (part.number == 13) {
        has_places = true;
        const auto [key, value] = ReadPair(part);
        if (key == "location") tensor.location = value;
        if (key == "offset") tensor.offset = value;
        if (key == "length") tensor.length = value;
      } else if (part.number == 14) {
        says_external = part.value == kExternal;
      } else if (part.number == 6) {
        NoteWord(part);
      }
    }
    if (says_external || has_places) file_.external.push_back(tensor);
  }

  // The first field of a TypeProto's choice that is no tensor; 0 where there is none.
  static OnnxField ChoiceOf(OnnxFields parts) {
    while (!parts.AtEnd()) {
      const OnnxField part = parts.Read();
      if (part.number == 4 || part.number == 5 || (7 <= part.number && part.number <= 9)) return part;
    }
    return {0, 0, 0, 0};
  }

  // An input or output of the graph, as a ValueInfoProto.
  void NoteValue(const OnnxField& field) {
    OnnxFile::Other value{{}, field.number == 11, 0, 0};
    for (OnnxFields parts = FieldsOf(field); !parts.AtEnd();) {
      const OnnxField part = parts.Read();
      if (part.number == 1) {
        value.name = TextOf(part);
      } else if (part.number == 2) {
        const OnnxField choice = ChoiceOf(FieldsOf(part));
        value.kind = static_cast<int>(choice.number);
        value.element = value.kind == kSequence ? ElementOf(choice) : 0;
      }
    }
    if (value.kind) file_.others.push_back(value);
  }

  int ElementOf(const OnnxField& sequence) const {
    int element = 0;
    for (OnnxFields parts = FieldsOf(sequence); !parts.AtEnd();) {
      const OnnxField part = parts.Read();
      if (part.number == 1) element = static_cast<int>(ChoiceOf(FieldsOf(part)).number);
    }
    return element;
  }

  static constexpr int kSequence = 4;

  const std::string_view text_;
  OnnxFile file_;
};

}  // namespace

OnnxFile ReadOnnxFile(std::string_view file) {
  OnnxReader reader(file);
  try {
    reader.Read();
  } catch (const Broken& broken) {
    reader.file().fault = broken.fault;
    reader.file().fault_at = broken.at;
  }
  return std::move(reader.file());
}

}  // namespace estimator
