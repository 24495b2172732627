#include "predict_messages.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "proto_wire.h"

namespace estimator {
namespace {

// How a dtype's values lie in memory and in a TensorProto.
enum class Encoding { kFixed, kVarint };

struct TensorType {
  int number;           // DataType
  char letter;          // numpy's
  std::size_t size;     // in memory
  int field;            // of the values
  Encoding encoding;    // in that field
  bool is_signed;
};

// Of int64 and uint64 numpy has two letters; reading needs only the number.
constexpr TensorType kTypes[] = {
    {1, 'f', 4, 5, Encoding::kFixed, true},    {2, 'd', 8, 6, Encoding::kFixed, true},
    {3, 'i', 4, 7, Encoding::kVarint, true},   {4, 'B', 1, 7, Encoding::kVarint, false},
    {5, 'h', 2, 7, Encoding::kVarint, true},   {6, 'b', 1, 7, Encoding::kVarint, true},
    {9, 'l', 8, 10, Encoding::kVarint, true},  {10, '?', 1, 11, Encoding::kVarint, false},
    {22, 'I', 4, 16, Encoding::kVarint, false}, {23, 'L', 8, 17, Encoding::kVarint, false},
};

const TensorType* TypeOf(int number) {
  const auto found = std::find_if(std::begin(kTypes), std::end(kTypes), [&](auto& type) { return type.number == number; });
  return found == std::end(kTypes) ? nullptr : found;
}

const TensorType& TypeOf(char letter) {
  const char known = letter == 'q' ? 'l' : letter == 'Q' ? 'L' : letter;
  return *std::find_if(std::begin(kTypes), std::end(kTypes), [&](auto& type) { return type.letter == known; });
}

bool IsPlain(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return ' ' <= c && c <= '~'; });
}

// ---- reading ------------------------------------------------------------------------------------------------------

// Calls `read(field, cursor)` for each field of a message; false as soon as that says false.
template <class Read>
bool ReadFields(std::string_view message, Read read) {
  ProtoCursor cursor(message);
  while (!cursor.AtEnd()) {
    const auto field = cursor.ReadTag();
    if (!field || !read(*field, cursor)) return false;
  }
  return true;
}

// A text that the message has not had before.
bool ReadText(Field field, ProtoCursor& cursor, std::string_view& text) {
  if (field.type != WireType::kDelimited || !text.empty()) return false;
  const auto value = cursor.ReadDelimited();
  if (!value || value->empty() || !IsPlain(*value)) return false;
  text = *value;
  return true;
}

bool ReadModelSpec(std::string_view message, ModelSpec& spec) {
  return ReadFields(message, [&](Field field, ProtoCursor& cursor) {
    switch (field.number) {
      case 1: return ReadText(field, cursor, spec.name);
      case 2: {
        // An Int64Value. Beside a label the last one counts, which is for the reader in Python.
        const auto value = field.type == WireType::kDelimited ? cursor.ReadDelimited() : std::nullopt;
        if (!value || spec.version || !spec.label.empty()) return false;
        spec.version = 0;
        bool is_first = true;
        return ReadFields(*value, [&](Field inner, ProtoCursor& at) {
          const auto number = inner.number == 1 && inner.type == WireType::kVarint ? at.ReadVarint() : std::nullopt;
          if (!number || !is_first) return false;
          spec.version = static_cast<std::int64_t>(*number);
          is_first = false;
          return true;
        });
      }
      case 3: return ReadText(field, cursor, spec.signature_name);
      case 4: return !spec.version && ReadText(field, cursor, spec.label);
      default: return false;
    }
  });
}

bool ReadShape(std::string_view message, std::vector<std::int64_t>& shape) {
  constexpr std::size_t kRankMax = 32;
  return ReadFields(message, [&](Field field, ProtoCursor& cursor) {
    const auto dim = field.number == 2 && field.type == WireType::kDelimited ? cursor.ReadDelimited() : std::nullopt;
    if (!dim || shape.size() == kRankMax) return false;
    std::int64_t size = 0;
    const bool is_read = ReadFields(*dim, [&](Field inner, ProtoCursor& at) {
      const auto number = inner.number == 1 && inner.type == WireType::kVarint ? at.ReadVarint() : std::nullopt;
      if (!number || size) return false;
      size = static_cast<std::int64_t>(*number);
      return true;
    });
    shape.push_back(size);
    return is_read;
  });
}

// The number of elements; nothing for a negative dimension and for more than a message could carry.
std::optional<std::uint64_t> CountOf(const std::vector<std::int64_t>& shape) {
  constexpr std::uint64_t kMax = std::uint64_t{1} << 32;
  std::uint64_t count = 1;
  for (const std::int64_t size : shape) {
    if (size <= 0 || static_cast<std::uint64_t>(size) > kMax) return std::nullopt;
    count *= static_cast<std::uint64_t>(size);
    if (count > kMax) return std::nullopt;
  }
  return count;
}

// Packed varints as they lie in memory, cut to the type's width as TensorFlow cuts them.
bool Unpack(std::string_view packed, const TensorType& type, std::string& memory) {
  ProtoCursor cursor(packed);
  while (!cursor.AtEnd()) {
    const auto value = cursor.ReadVarint();
    if (!value) return false;
    const std::uint64_t bits = type.letter == '?' ? *value != 0 : *value;
    char bytes[sizeof bits];
    std::memcpy(bytes, &bits, sizeof bits);
    memory.append(bytes, type.size);
  }
  return true;
}

bool ReadTensor(std::string_view message, TensorMessage& tensor) {
  std::optional<std::string_view> shape, content, values;
  int values_field = 0;
  const bool is_read = ReadFields(message, [&](Field field, ProtoCursor& cursor) {
    if (field.number == 1) {
      const auto number = field.type == WireType::kVarint && !tensor.dtype ? cursor.ReadVarint() : std::nullopt;
      if (!number || *number > 100) return false;
      tensor.dtype = static_cast<int>(*number);
      return true;
    }
    const auto value = field.type == WireType::kDelimited ? cursor.ReadDelimited() : std::nullopt;
    if (!value) return false;
    switch (field.number) {
      case 2:
        if (shape) return false;
        shape = value;
        return ReadShape(*value, tensor.shape);
      case 4:
        if (content || value->empty()) return false;
        content = value;
        return true;
      case 8: tensor.strings.push_back(*value); return true;
      default:
        if (values) return false;
        values = value;
        values_field = field.number;
        return true;
    }
  });
  const auto count = CountOf(tensor.shape);
  if (!is_read || !count) return false;
  if (tensor.dtype == kStringType) return !content && !values && tensor.strings.size() == *count;
  const TensorType* const type = TypeOf(tensor.dtype);
  if (!type || !tensor.strings.empty()) return false;
  if (content) {
    if (values || type->letter == '?') return false;  // a bool's bytes have to be looked at
    tensor.content = *content;
  } else if (values && values_field == type->field) {
    if (type->encoding == Encoding::kVarint) {
      if (!Unpack(*values, *type, tensor.decoded)) return false;
    } else {
      tensor.content = *values;
    }
  }
  return tensor.memory().size() == *count * type->size;
}

bool ReadInput(std::string_view message, PredictRequest& request) {
  PredictRequest::Input& input = request.inputs.emplace_back();
  bool has_tensor = false;
  const bool is_read = ReadFields(message, [&](Field field, ProtoCursor& cursor) {
    if (field.number == 1) return ReadText(field, cursor, input.alias);
    const auto value = field.number == 2 && field.type == WireType::kDelimited ? cursor.ReadDelimited() : std::nullopt;
    if (!value || has_tensor) return false;
    has_tensor = true;
    return ReadTensor(*value, input.tensor);
  });
  return is_read && has_tensor;
}

// By sorting: to compare each input with all before it would take a time that grows with the square of their number.
bool HasInputTwice(const PredictRequest& request) {
  if (request.inputs.size() < 2) return false;
  std::vector<std::string_view> aliases;
  aliases.reserve(request.inputs.size());
  for (const PredictRequest::Input& input : request.inputs) aliases.push_back(input.alias);
  std::sort(aliases.begin(), aliases.end());
  return std::adjacent_find(aliases.begin(), aliases.end()) != aliases.end();
}

// ---- writing ------------------------------------------------------------------------------------------------------

template <class T>
void AppendVarints(const ArrayView& array, std::size_t count, std::string& out) {
  const char* at = static_cast<const char*>(array.data);
  for (std::size_t index = 0; index < count; ++index, at += sizeof(T)) {
    T value;
    std::memcpy(&value, at, sizeof(T));
    AppendVarint(static_cast<std::uint64_t>(static_cast<std::int64_t>(value)), out);
  }
}

void AppendVarints(const ArrayView& array, const TensorType& type, std::size_t count, std::string& out) {
  switch (type.size * 2 + type.is_signed) {
    case 2: return AppendVarints<std::uint8_t>(array, count, out);
    case 3: return AppendVarints<std::int8_t>(array, count, out);
    case 5: return AppendVarints<std::int16_t>(array, count, out);
    case 8: return AppendVarints<std::uint32_t>(array, count, out);
    case 9: return AppendVarints<std::int32_t>(array, count, out);
    case 16: return AppendVarints<std::uint64_t>(array, count, out);
    default: return AppendVarints<std::int64_t>(array, count, out);
  }
}

// A TensorProto up to its values, and the values: the array's memory, or varints that are made here.
struct WrittenTensor {
  std::string head, varints;
  std::string_view values;
};

WrittenTensor TensorOf(const ArrayView& array, bool as_content) {
  const TensorType& type = TypeOf(array.type);
  WrittenTensor tensor;
  std::string& head = tensor.head;
  head += '\x08';
  AppendVarint(static_cast<std::uint64_t>(type.number), head);
  std::size_t count = 1;
  std::string shape;
  for (const std::int64_t size : array.shape) {
    count *= static_cast<std::size_t>(size);
    AppendHead(2, size ? 1 + VarintSize(static_cast<std::uint64_t>(size)) : 0, shape);
    if (size) {
      shape += '\x08';
      AppendVarint(static_cast<std::uint64_t>(size), shape);
    }
  }
  if (!array.shape.empty()) {
    AppendHead(2, shape.size(), head);
    head += shape;
  }
  if (!count) return tensor;
  if (as_content || type.encoding == Encoding::kFixed) {
    tensor.values = {static_cast<const char*>(array.data), count * type.size};
  } else {
    AppendVarints(array, type, count, tensor.varints);
    tensor.values = tensor.varints;
  }
  AppendHead(as_content ? 4 : type.field, tensor.values.size(), head);
  return tensor;
}

}  // namespace

std::optional<PredictRequest> ReadPredictRequest(std::string_view message) {
  PredictRequest request;
  bool has_spec = false;
  const bool is_read = ReadFields(message, [&](Field field, ProtoCursor& cursor) {
    const auto value = field.type == WireType::kDelimited ? cursor.ReadDelimited() : std::nullopt;
    if (!value) return false;
    switch (field.number) {
      case 1:
        if (has_spec) return false;
        has_spec = true;
        return ReadModelSpec(*value, request.spec);
      case 2: return ReadInput(*value, request);
      case 3: request.output_filter.push_back(*value); return IsPlain(*value);
      default: return false;
    }
  });
  if (!is_read || request.spec.name.empty() || HasInputTwice(request)) return std::nullopt;
  return request;
}

std::optional<ExamplesRequest> ReadExamplesRequest(std::string_view message) {
  constexpr int kModelSpec = 1, kInput = 2, kExampleList = 1, kExamples = 1;
  ExamplesRequest request;
  bool has_spec = false, has_input = false, has_list = false;
  const auto read_examples = [&](Field field, ProtoCursor& cursor) {
    if (field.number != kExamples || field.type != WireType::kDelimited) return false;
    const auto value = cursor.ReadDelimited();
    if (value) request.examples.push_back(*value);
    return value.has_value();
  };
  const auto read_input = [&](Field field, ProtoCursor& cursor) {
    if (field.number != kExampleList || field.type != WireType::kDelimited || has_list) return false;
    has_list = true;
    const auto value = cursor.ReadDelimited();
    return value && ReadFields(*value, read_examples);
  };
  const bool is_read = ReadFields(message, [&](Field field, ProtoCursor& cursor) {
    const auto value = field.type == WireType::kDelimited ? cursor.ReadDelimited() : std::nullopt;
    if (!value || (field.number == kModelSpec ? has_spec : has_input)) return false;
    if (field.number == kModelSpec) {
      has_spec = true;
      return ReadModelSpec(*value, request.spec);
    }
    has_input = true;
    return field.number == kInput && ReadFields(*value, read_input);
  });
  if (!is_read || request.spec.name.empty() || request.examples.empty()) return std::nullopt;
  return request;
}

void WriteClassifications(const std::vector<std::string_view>& labels, const float* scores, std::size_t classes,
                          std::string& message) {
  // A row as it is written, and where its scores end. Nearly always the next row has the same labels.
  std::string row;
  std::vector<std::size_t> ends;
  const auto make_row = [&](const std::string_view* names) {
    std::string content;
    ends.clear();
    for (std::size_t at = 0; at < classes; ++at) {
      const std::string_view label = names[at];
      AppendHead(1, (label.empty() ? 0 : DelimitedSize(label.size())) + 1 + sizeof(float), content);
      if (!label.empty()) {
        AppendHead(1, label.size(), content);
        content += label;
      }
      content += '\x15';  // field 2, fixed32
      content.append(sizeof(float), '\0');
      ends.push_back(content.size());
    }
    row.clear();
    AppendHead(1, content.size(), row);
    for (std::size_t& end : ends) end += row.size();
    row += content;
  };
  for (std::size_t begin = 0; begin < labels.size(); begin += classes) {
    const std::string_view* const names = labels.data() + begin;
    if (begin == 0 || !std::equal(names, names + classes, names - classes)) {
      make_row(names);
      message.reserve(message.size() + row.size() * ((labels.size() - begin) / classes));
    }
    const std::size_t start = message.size();
    message += row;
    for (std::size_t at = 0; at < classes; ++at) {
      std::memcpy(message.data() + start + ends[at] - sizeof(float), scores + begin + at, sizeof(float));
    }
  }
}

Pieces WriteOutputs(const std::vector<Output>& outputs, bool as_content) {
  Pieces pieces;
  for (const Output& output : outputs) {
    WrittenTensor tensor;
    if (output.array) {
      tensor = TensorOf(*output.array, as_content);
    } else {
      tensor.values = output.tensor;
    }
    const std::size_t size = tensor.head.size() + tensor.values.size();
    std::string head;
    AppendHead(1, DelimitedSize(output.alias.size()) + DelimitedSize(size), head);
    AppendHead(1, output.alias.size(), head);
    head += output.alias;
    AppendHead(2, size, head);
    head += tensor.head;
    pieces.Own(std::move(head));
    if (tensor.varints.empty()) {
      pieces.Lend(tensor.values);
    } else {
      pieces.Own(std::move(tensor.varints));
    }
  }
  return pieces;
}

}  // namespace estimator
