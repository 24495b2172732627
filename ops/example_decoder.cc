#include "example_decoder.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "fingerprint.h"
#include "wire_format.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "Packed floats are copied as they lie on the wire.");

namespace estimator {
namespace {

// ---- BytesList, FloatList, Int64List ------------------------------------------------------------------------------

// All three are `repeated ... value = 1`. A null `out` means: check the bytes, keep nothing. Numbers may come packed or
// one by one, and mixed; the packed field may be split into several.

constexpr int kListDepth = 4;

template <class T>
void Keep(std::vector<T>* out, T value) {
  if (out) out->push_back(value);
}

void ReadList(Cursor list, std::vector<std::string_view>* out) {
  while (!list.done()) {
    const std::uint32_t tag = list.ReadTag();
    if (tag == Tag(1, kBytes)) {
      Keep(out, list.ReadBytes());
    } else {
      list.Skip(tag, kListDepth);
    }
  }
}

void ReadPacked(std::string_view packed, std::vector<float>* out) {
  if (packed.size() % sizeof(float) != 0) Refuse();
  if (!out || packed.empty()) return;
  const std::size_t before = out->size();
  out->resize(before + packed.size() / sizeof(float));
  std::memcpy(out->data() + before, packed.data(), packed.size());
}

void ReadList(Cursor list, std::vector<float>* out) {
  while (!list.done()) {
    const std::uint32_t tag = list.ReadTag();
    if (tag == Tag(1, kBytes)) {
      ReadPacked(list.ReadBytes(), out);
    } else if (tag == Tag(1, kFixed32)) {
      Keep(out, list.ReadFloat());
    } else {
      list.Skip(tag, kListDepth);
    }
  }
}

void ReadPacked(std::string_view packed, std::vector<std::int64_t>* out) {
  for (Cursor in(packed); !in.done();) Keep(out, static_cast<std::int64_t>(in.ReadVarint()));
}

void ReadList(Cursor list, std::vector<std::int64_t>* out) {
  while (!list.done()) {
    const std::uint32_t tag = list.ReadTag();
    if (tag == Tag(1, kBytes)) {
      ReadPacked(list.ReadBytes(), out);
    } else if (tag == Tag(1, kVarint)) {
      Keep(out, static_cast<std::int64_t>(list.ReadVarint()));
    } else {
      list.Skip(tag, kListDepth);
    }
  }
}

// ---- texts --------------------------------------------------------------------------------------------------------

std::string Shape(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (const std::int64_t dim : shape) {
    if (text.size() > 1) text += ',';
    text += std::to_string(dim);
  }
  return text + "]";
}

// How many bytes the UTF-8 sequence at the start of `bytes` has; 0 where there is none (RFC 3629).
std::size_t Utf8Length(std::string_view bytes) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(i < bytes.size() ? bytes[i] : 0); };
  const auto continues = [&](std::size_t i) { return (byte(i) & 0xc0) == 0x80; };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4 || !continues(1)) return 0;
  if (lead < 0xe0) return 2;
  if ((lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xed && byte(1) > 0x9f) || !continues(2)) return 0;
  if (lead < 0xf0) return 3;
  if ((lead == 0xf0 && byte(1) < 0x90) || (lead == 0xf4 && byte(1) > 0x8f) || !continues(3)) return 0;
  return 4;
}

// Bytes of a stranger as text: up to the first NUL, at most 64 of them, with \x.. for what is not UTF-8.
std::string Printable(std::string_view bytes) {
  static constexpr char kHex[] = "0123456789abcdef";
  constexpr std::size_t kLongest = 64;
  bytes = bytes.substr(0, std::min(bytes.find('\0'), bytes.size()));
  std::string text;
  for (std::size_t at = 0; at < std::min(bytes.size(), kLongest);) {
    const std::size_t length = Utf8Length(bytes.substr(at));
    if (at + length > kLongest) break;  // the cut falls into this character
    if (length > 0) {
      text += bytes.substr(at, length);
    } else {
      const auto byte = static_cast<std::uint8_t>(bytes[at]);
      text += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    }
    at += std::max<std::size_t>(length, 1);
  }
  return text;
}

std::string AtRow(const Feature& feature, std::size_t row) {
  return "Name: <unknown>, Key: " + feature.key + ", Index: " + std::to_string(row) + ".  ";
}

[[noreturn]] void RefuseRow(std::string_view bytes) {
  throw ExampleError("Could not parse example input, value: '" + Printable(bytes) + "'");
}

[[noreturn]] void RefuseMissing(const Feature& feature) {
  throw ExampleError("Name: <unknown>, Feature: " + feature.key + " (data type: " + Name(feature.dtype) +
                     ") is required but could not be found.");
}

[[noreturn]] void RefuseDType(const Feature& feature, std::size_t row, DType found) {
  const std::string start = AtRow(feature, row) + "Data types don't match. ";
  if (feature.kind == Kind::kVarLen) {
    throw ExampleError(start + "Expected type: " + Name(feature.dtype) + ", Actual type: " + Name(found));
  }
  throw ExampleError(start + "Data type: " + Name(found) + " but expected type: " + Name(feature.dtype));
}

[[noreturn]] void RefuseCount(const Feature& feature, std::size_t row, std::size_t expected, std::size_t count) {
  // Two oddities of TensorFlow's texts: strings are called bytes here, and too many of them "can't be parsed".
  const bool strings = feature.dtype == DType::kString;
  throw ExampleError(AtRow(feature, row) + (strings && count > expected ? "Can't parse serialized Example.  " : "") +
                     "Number of " + (strings ? "bytes" : Name(feature.dtype)) + " values != expected.  Values size: " +
                     std::to_string(count) + " but output shape: " + Shape(feature.shape));
}

// ---- the batch ----------------------------------------------------------------------------------------------------

// The padded tensor of a VarLen feature may be far larger than the bytes it comes from: one long row pads all others.
constexpr std::size_t kPaddedBytesMax = std::size_t{1} << 30;

std::size_t PaddedElementSize(DType dtype) {
  switch (dtype) {
    case DType::kFloat: return sizeof(float);
    case DType::kInt64: return sizeof(std::int64_t);
    case DType::kString: return sizeof(std::string);
  }
  return 0;
}

void CheckPadding(const Feature& feature, const Column& column) {
  const std::size_t rows = column.lengths.size();
  const std::size_t cells_max = kPaddedBytesMax / PaddedElementSize(feature.dtype);
  const auto longest = static_cast<std::size_t>(column.longest);
  if (rows == 0 || longest <= cells_max / rows) return;
  throw ExampleError("Key: " + feature.key + ".  Padding " + std::to_string(rows) + " rows to the longest one's " +
                     std::to_string(longest) + " values would take more than 1 GiB; send fewer rows at once, or " +
                     "rows of similar length together.");
}

void CheckSplits(std::string_view bytes, const std::int64_t* row_splits, std::size_t splits) {
  if (splits == 0) throw ExampleError("row_splits is empty; a batch of n rows has n + 1 splits, and 0 rows have one.");
  if (row_splits[0] != 0) {
    throw ExampleError("row_splits starts with " + std::to_string(row_splits[0]) + "; the first row starts at 0.");
  }
  for (std::size_t i = 1; i < splits; ++i) {
    if (row_splits[i] >= row_splits[i - 1]) continue;
    throw ExampleError("row_splits decreases from " + std::to_string(row_splits[i - 1]) + " to " +
                       std::to_string(row_splits[i]) + " at index " + std::to_string(i) +
                       "; each split is the end of its row in the values.");
  }
  // Not negative: they start at 0 and never decrease.
  if (static_cast<std::uint64_t>(row_splits[splits - 1]) != bytes.size()) {
    throw ExampleError("row_splits ends with " + std::to_string(row_splits[splits - 1]) + " but there are " +
                       std::to_string(bytes.size()) + " values; the last row ends where the values end.");
  }
}

Values EmptyValues(DType dtype) {
  switch (dtype) {
    case DType::kFloat: return std::vector<float>();
    case DType::kInt64: return std::vector<std::int64_t>();
    case DType::kString: return std::vector<std::string_view>();
  }
  return {};
}

void Truncate(Values& values, std::size_t count) {
  std::visit([count](auto& flat) { flat.resize(count); }, values);
}

void Append(Values& values, const Values& more) {
  std::visit(
      [&more](auto& flat) {
        const auto& source = std::get<std::decay_t<decltype(flat)>>(more);
        flat.insert(flat.end(), source.begin(), source.end());
      },
      values);
}

}  // namespace

// Reads one row at a time onto the end of the columns. A map entry that repeats a key takes back what the earlier one
// appended, and so does another member of the oneof: the last one wins, in one pass over the bytes.
class RowReader {
 public:
  RowReader(const ExampleDecoder& decoder, std::size_t rows)
      : decoder_(decoder),
        features_(decoder.features_),
        columns_(features_.size()),
        cells_(features_.size()),
        successor_(features_.size()) {
    for (std::size_t f = 0; f < features_.size(); ++f) Prepare(f, rows);
  }

  void Read(std::string_view example, std::size_t row) {
    for (Cell& cell : cells_) cell.dtype.reset();
    try {
      ReadExample(Cursor(example));
    } catch (const Malformed&) {
      RefuseRow(example);
    }
    for (std::size_t f = 0; f < features_.size(); ++f) Finish(f, row);
  }

  std::vector<Column> TakeColumns() {
    for (std::size_t f = 0; f < features_.size(); ++f) CheckPadding(features_[f], columns_[f]);
    return std::move(columns_);
  }

 private:
  // What the row being read has of one feature.
  struct Cell {
    std::size_t start = 0;       // where its values begin in the column
    std::optional<DType> dtype;  // which member of Feature.kind is set
  };

  static constexpr std::size_t kUnknown = ExampleDecoder::kAbsent;

  void Prepare(std::size_t f, std::size_t rows) {
    columns_[f].values = EmptyValues(features_[f].dtype);
    if (features_[f].kind == Kind::kVarLen) {
      columns_[f].lengths.reserve(rows);
    } else {
      const std::size_t count = rows * decoder_.values_in_row_[f];
      std::visit([count](auto& flat) { flat.reserve(count); }, columns_[f].values);
    }
  }

  // message Example { Features features = 1; }
  void ReadExample(Cursor in) {
    while (!in.done()) {
      const std::uint32_t tag = in.ReadTag();
      if (tag == Tag(1, kBytes)) {
        ReadFeatures(Cursor(in.ReadBytes()));
      } else {
        in.Skip(tag, 0);
      }
    }
  }

  // message Features { map<string, Feature> feature = 1; }
  void ReadFeatures(Cursor in) {
    while (!in.done()) {
      const std::uint32_t tag = in.ReadTag();
      if (tag == Tag(1, kBytes)) {
        ReadEntry(Cursor(in.ReadBytes()));
      } else {
        in.Skip(tag, 1);
      }
    }
  }

  // A map entry is message { string key = 1; Feature value = 2; }, in any order.
  void ReadEntry(const Cursor entry) {
    std::string_view key, value;
    int values = 0;
    for (Cursor in = entry; !in.done();) {
      const std::uint32_t tag = in.ReadTag();
      if (tag == Tag(1, kBytes)) {
        key = in.ReadBytes();
      } else if (tag == Tag(2, kBytes)) {
        value = in.ReadBytes();
        ++values;
      } else {
        in.Skip(tag, 2);
      }
    }
    const std::size_t f = FindNext(key);
    Cell unknown;
    Cell& cell = f == kUnknown ? unknown : cells_[f];
    if (cell.dtype) TakeBack(f, cell);
    if (values == 1) {
      ReadFeature(Cursor(value), f, cell);
    } else {
      ReadRepeatedValue(entry, f, cell);
    }
  }

  // A message that is given more than once is the merge of them all.
  void ReadRepeatedValue(Cursor in, std::size_t f, Cell& cell) {
    while (!in.done()) {
      const std::uint32_t tag = in.ReadTag();
      if (tag == Tag(2, kBytes)) {
        ReadFeature(Cursor(in.ReadBytes()), f, cell);
      } else {
        in.Skip(tag, 2);
      }
    }
  }

  // Rows written by one program have their entries in one order: the feature that came after this one in the row before
  // most often comes next again, and a comparison is cheaper than a hash.
  std::size_t FindNext(std::string_view key) {
    const std::size_t expected = successor_[previous_];
    const std::size_t f = features_[expected].key == key ? expected : decoder_.Find(key);
    if (f == kUnknown) return f;
    successor_[previous_] = f;
    previous_ = f;
    return f;
  }

  // message Feature { oneof kind { BytesList bytes_list = 1; FloatList float_list = 2; Int64List int64_list = 3; } }
  void ReadFeature(Cursor in, std::size_t f, Cell& cell) {
    while (!in.done()) {
      const std::uint32_t tag = in.ReadTag();
      switch (tag) {
        case Tag(1, kBytes): ReadMember<DType::kString>(Cursor(in.ReadBytes()), f, cell); break;
        case Tag(2, kBytes): ReadMember<DType::kFloat>(Cursor(in.ReadBytes()), f, cell); break;
        case Tag(3, kBytes): ReadMember<DType::kInt64>(Cursor(in.ReadBytes()), f, cell); break;
        default: in.Skip(tag, 3);
      }
    }
  }

  template <DType dtype>
  void ReadMember(Cursor list, std::size_t f, Cell& cell) {
    using Flat = std::variant_alternative_t<static_cast<std::size_t>(dtype), Values>;
    if (cell.dtype && *cell.dtype != dtype) TakeBack(f, cell);
    cell.dtype = dtype;
    // Null for an unknown key and for a dtype the spec does not want: the values are checked and not kept.
    ReadList(list, f == kUnknown ? nullptr : std::get_if<Flat>(&columns_[f].values));
  }

  void TakeBack(std::size_t f, Cell& cell) {
    cell.dtype.reset();
    if (f != kUnknown) Truncate(columns_[f].values, cell.start);
  }

  void Finish(std::size_t f, std::size_t row) {
    const Feature& feature = features_[f];
    Cell& cell = cells_[f];
    if (cell.dtype && *cell.dtype != feature.dtype) RefuseDType(feature, row, *cell.dtype);
    if (feature.kind == Kind::kFixedLen) {
      FinishFixedLen(f, row);
    } else {
      FinishVarLen(f);
    }
    cell.start = Count(columns_[f].values);
  }

  void FinishFixedLen(std::size_t f, std::size_t row) {
    const Feature& feature = features_[f];
    if (!cells_[f].dtype) {
      if (!feature.default_value) RefuseMissing(feature);
      Append(columns_[f].values, *feature.default_value);
      return;
    }
    const std::size_t count = Count(columns_[f].values) - cells_[f].start;
    const std::size_t expected = decoder_.values_in_row_[f];
    if (count != expected) RefuseCount(feature, row, expected, count);
  }

  void FinishVarLen(std::size_t f) {
    Column& column = columns_[f];
    const auto length = static_cast<std::int64_t>(Count(column.values) - cells_[f].start);
    column.lengths.push_back(length);
    column.longest = std::max(column.longest, length);
  }

  const ExampleDecoder& decoder_;
  const std::vector<Feature>& features_;
  std::vector<Column> columns_;
  std::vector<Cell> cells_;
  std::vector<std::size_t> successor_;  // of each feature: the one that came next when it was last seen
  std::size_t previous_ = 0;            // the feature seen last
};

const char* Name(DType dtype) {
  switch (dtype) {
    case DType::kFloat: return "float";
    case DType::kInt64: return "int64";
    case DType::kString: return "string";
  }
  return "unknown";
}

std::size_t Count(const Values& values) {
  return std::visit([](const auto& flat) { return flat.size(); }, values);
}

std::size_t ValuesInShape(const std::vector<std::int64_t>& shape) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 31;
  std::uint64_t count = 1;
  for (const std::int64_t dim : shape) {
    if (dim < 0) {
      throw SpecError("the shape " + Shape(shape) + " has a negative dimension; those of FixedLen are all fixed.");
    }
    if (dim > 0 && count > kMost / static_cast<std::uint64_t>(dim)) {
      throw SpecError("the shape " + Shape(shape) + " holds more than 2^31 values in a row; give it fewer.");
    }
    count *= static_cast<std::uint64_t>(dim);
  }
  return static_cast<std::size_t>(count);
}

ExampleDecoder::ExampleDecoder(std::vector<Feature> features) : features_(std::move(features)) {
  if (features_.empty()) throw SpecError("the spec has no features; name at least one.");
  std::size_t size = 2;
  while (size < 2 * features_.size()) size *= 2;
  slots_.resize(size);
  for (std::size_t f = 0; f < features_.size(); ++f) Insert(f);
}

void ExampleDecoder::Insert(std::size_t f) {
  const Feature& feature = features_[f];
  const std::string named = "Feature '" + feature.key + "': ";
  if (Find(feature.key) != kAbsent) {
    throw SpecError(named + "the key stands twice in the spec; name each feature once.");
  }
  values_in_row_.push_back(feature.kind == Kind::kFixedLen ? ValuesInShape(feature.shape) : 0);
  if (feature.default_value && feature.kind == Kind::kVarLen) {
    throw SpecError(named + "a VarLen feature has no default; a row without it is empty.");
  }
  if (feature.default_value && feature.default_value->index() != static_cast<std::size_t>(feature.dtype)) {
    throw SpecError(named + "the default is of another dtype than the feature, which is " + Name(feature.dtype) + ".");
  }
  if (feature.default_value && Count(*feature.default_value) != values_in_row_.back()) {
    throw SpecError(named + "the default has " + std::to_string(Count(*feature.default_value)) +
                    " values, but the shape " + Shape(feature.shape) + " holds " +
                    std::to_string(values_in_row_.back()) + "; give the default the feature's shape.");
  }
  const std::uint64_t fingerprint = Fingerprint64(feature.key);
  std::size_t at = fingerprint & (slots_.size() - 1);
  while (slots_[at].feature != kAbsent) at = (at + 1) & (slots_.size() - 1);
  slots_[at] = {fingerprint, f};
}

std::size_t ExampleDecoder::Find(std::string_view key) const {
  const std::uint64_t fingerprint = Fingerprint64(key);
  for (std::size_t at = fingerprint & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[at];
    if (slot.feature == kAbsent) return kAbsent;
    if (slot.fingerprint == fingerprint && features_[slot.feature].key == key) return slot.feature;
  }
}

std::vector<Column> ExampleDecoder::Decode(std::string_view bytes, const std::int64_t* row_splits,
                                           std::size_t splits) const {
  CheckSplits(bytes, row_splits, splits);
  const std::size_t rows = splits - 1;
  RowReader reader(*this, rows);
  for (std::size_t row = 0; row < rows; ++row) {
    const auto begin = static_cast<std::size_t>(row_splits[row]);
    const auto end = static_cast<std::size_t>(row_splits[row + 1]);
    reader.Read(bytes.substr(begin, end - begin), row);
  }
  return reader.TakeColumns();
}

}  // namespace estimator
