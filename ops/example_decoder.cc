#include "example_decoder.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "refusals.h"
#include "wire_format.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "Packed floats are copied as they lie on the wire.");

namespace estimator {
namespace {

// ---- BytesList, FloatList, Int64List ------------------------------------------------------------------------------

// All three are `repeated ... value = 1`. A null `out` means: check the bytes, keep nothing. Numbers may come packed or
// one by one, and mixed; the packed field may be split into several. Each returns whether anything follows the first
// packed numbers.
//
// Three grammars. Protobuf's skips fields it does not know. TensorFlow's parser of Examples refuses them inside a list
// that is wanted, and numbers that come one by one and then packed; kTensorFlow does so, too. TensorFlow's parser reads
// no further than a Feature's first list and a list's first packed numbers; kFirst does so, too, which is used only to
// find out which of several faults TensorFlow tells.
enum class Grammar { kProtobuf, kTensorFlow, kFirst };

// How deep messages and groups are nested around a field of each.
enum Depth : int { kInMessage = 0, kInFeatures = 1, kInEntry = 2, kInFeature = 3, kInList = 4 };

template <class T>
void Keep(std::vector<T>* out, T value) {
  if (out) out->push_back(value);
}

bool ReadList(Cursor list, Grammar grammar, int depth, std::vector<std::string_view>* out) {
  while (!list.done()) {
    const std::uint32_t tag = list.ReadTag();
    if (tag == Tag(1, kBytes)) {
      Keep(out, list.ReadBytes());
    } else {
      if (grammar != Grammar::kProtobuf) Refuse();
      list.Skip(tag, depth);
    }
  }
  return false;
}

void ReadPacked(std::string_view packed, std::vector<float>* out) {
  if (packed.size() % sizeof(float) != 0) Refuse();
  if (!out || packed.empty()) return;
  const std::size_t before = out->size();
  out->resize(before + packed.size() / sizeof(float));
  std::memcpy(out->data() + before, packed.data(), packed.size());
}

// What may follow the numbers of a list that have been read: in TensorFlow's grammar nothing else behind single ones.
void CheckNext(Grammar grammar, std::uint32_t tag, std::uint32_t single, bool& only_single, bool first) {
  if (grammar == Grammar::kProtobuf) return;
  if (first) only_single = tag != Tag(1, kBytes);
  if (only_single && tag != single) Refuse();
}

bool ReadList(Cursor list, Grammar grammar, int depth, std::vector<float>* out) {
  bool only_single = false;
  int fields = 0;
  for (; !list.done(); ++fields) {
    const std::uint32_t tag = list.ReadTag();
    CheckNext(grammar, tag, Tag(1, kFixed32), only_single, fields == 0);
    if (tag == Tag(1, kBytes)) {
      std::string_view packed = list.ReadBytes();
      if (grammar == Grammar::kFirst) packed.remove_suffix(packed.size() % sizeof(float));
      ReadPacked(packed, out);
      if (grammar == Grammar::kFirst) return false;
    } else if (tag == Tag(1, kFixed32)) {
      Keep(out, list.ReadFloat());
    } else {
      list.Skip(tag, depth);
    }
  }
  return fields > 1 && !only_single;
}

void ReadPacked(std::string_view packed, std::vector<std::int64_t>* out) {
  for (Cursor in(packed); !in.done();) Keep(out, static_cast<std::int64_t>(in.ReadVarint()));
}

bool ReadList(Cursor list, Grammar grammar, int depth, std::vector<std::int64_t>* out) {
  bool only_single = false;
  int fields = 0;
  for (; !list.done(); ++fields) {
    const std::uint32_t tag = list.ReadTag();
    CheckNext(grammar, tag, Tag(1, kVarint), only_single, fields == 0);
    if (tag == Tag(1, kBytes)) {
      ReadPacked(list.ReadBytes(), out);
      if (grammar == Grammar::kFirst) return false;
    } else if (tag == Tag(1, kVarint)) {
      Keep(out, static_cast<std::int64_t>(list.ReadVarint()));
    } else {
      list.Skip(tag, depth);
    }
  }
  return fields > 1 && !only_single;
}

// ---- Feature ------------------------------------------------------------------------------------------------------

// message Feature { oneof kind { BytesList bytes_list = 1; FloatList float_list = 2; Int64List int64_list = 3; } }

template <class T>
constexpr DType kDTypeOf = std::is_same_v<T, float> ? DType::kFloat
                           : std::is_same_v<T, std::int64_t> ? DType::kInt64
                                                              : DType::kString;

// Which member of the oneof is set, and where its values begin in what is kept.
struct Member {
  std::size_t start = 0;
  std::optional<DType> dtype;
  bool again = false;  // whether it is set twice, or its numbers come in several pieces
};

// The last member of the oneof wins: another one takes back what the earlier one kept.
template <class T>
void Set(Member& member, DType dtype, std::vector<T>* out) {
  if (out && member.dtype && *member.dtype != dtype) out->resize(member.start);
  member.again |= member.dtype.has_value();
  member.dtype = dtype;
}

// Keeps the values of a T's list, and checks those of the others.
template <class T, class Listed>
void ReadMember(Cursor list, Grammar grammar, int depth, Member& member, std::vector<T>* out) {
  Set(member, kDTypeOf<Listed>, out);
  if constexpr (std::is_same_v<T, Listed>) {
    member.again |= ReadList(list, grammar, depth, out);
  } else {
    ReadList(list, Grammar::kProtobuf, depth, static_cast<std::vector<Listed>*>(nullptr));
  }
}

// Most Features are one short list of the type that is wanted.
template <class T>
bool ReadOnlyList(std::string_view feature, Grammar grammar, Member& member, std::vector<T>* out) {
  constexpr std::uint32_t kTags[] = {Tag(2, kBytes), Tag(3, kBytes), Tag(1, kBytes)};  // in the order of DType
  const std::string_view list = Leading(feature, kTags[static_cast<int>(kDTypeOf<T>)]);
  if (!list.data() || list.size() + 2 != feature.size()) return false;
  member.dtype = kDTypeOf<T>;
  member.again |= ReadList(Cursor(list), grammar, kInList, out);
  return true;
}

// A Feature that begins with a field that is none of its kinds.
struct UnknownKind {};

template <class T>
void ReadFeature(Cursor in, Grammar grammar, int depth, Member& member, std::vector<T>* out) {
  while (!in.done()) {
    const std::uint32_t tag = in.ReadTag();
    const auto list = [&] { return Cursor(in.ReadBytes()); };
    switch (tag) {
      case Tag(1, kBytes): ReadMember<T, std::string_view>(list(), grammar, depth + 1, member, out); break;
      case Tag(2, kBytes): ReadMember<T, float>(list(), grammar, depth + 1, member, out); break;
      case Tag(3, kBytes): ReadMember<T, std::int64_t>(list(), grammar, depth + 1, member, out); break;
      default:
        // TensorFlow looks at the first field of a Feature only, and takes no other there.
        if (grammar != Grammar::kProtobuf && !member.dtype) throw UnknownKind{};
        in.Skip(tag, depth);
    }
    // A list of another type that comes first is what counts for TensorFlow.
    if (grammar == Grammar::kFirst) return;
    if (grammar == Grammar::kTensorFlow && member.dtype && *member.dtype != kDTypeOf<T>) return;
  }
}

// Checks a Feature that nobody wants.
void CheckFeature(Cursor in, int depth) {
  Member member;
  ReadFeature<float>(in, Grammar::kProtobuf, depth, member, nullptr);
}

// message FeatureList { repeated Feature feature = 1; }, one Feature a step.
template <class Step>
void ReadFeatureList(Cursor in, const Step& read_step) {
  while (!in.done()) {
    const std::uint32_t tag = in.ReadTag();
    if (tag == Tag(1, kBytes)) {
      read_step(Cursor(in.ReadBytes()));
    } else {
      in.Skip(tag, kInFeature);
    }
  }
}

// ---- map entries --------------------------------------------------------------------------------------------------

// What a row has under one key: the last map entry that has it.
struct Entry {
  std::string_view value;  // where there is more than one, the whole entry
  bool found = false;
  bool repeated = false;
};

// A message that is given more than once is the merge of them all, in their order.
template <class Read>
void ReadValues(const Entry& entry, const Read& read) {
  if (!entry.repeated) return read(Cursor(entry.value));
  for (Cursor in(entry.value); !in.done();) {
    const std::uint32_t tag = in.ReadTag();
    if (tag == Tag(2, kBytes)) {
      read(Cursor(in.ReadBytes()));
    } else {
      in.Skip(tag, kInEntry);
    }
  }
}

// An entry is message { string key = 1; Feature value = 2; }, in any order; the value may be a FeatureList too.
// TensorFlow takes two fields, no more and no fewer.
std::string_view ReadAnyEntry(std::string_view whole, Grammar grammar, Entry& entry) {
  std::string_view key;
  int values = 0;
  int fields = 0;
  for (Cursor in(whole); !in.done(); ++fields) {
    const std::uint32_t tag = in.ReadTag();
    if (tag == Tag(1, kBytes)) {
      key = in.ReadBytes();
    } else if (tag == Tag(2, kBytes)) {
      entry.value = in.ReadBytes();
      ++values;
    } else {
      if (grammar != Grammar::kProtobuf) Refuse();
      in.Skip(tag, kInEntry);
    }
  }
  if (grammar != Grammar::kProtobuf && fields != 2) Refuse();
  entry.repeated = values > 1;
  if (entry.repeated) entry.value = whole;
  return key;
}

// Most entries are short and have the key, the value and nothing else.
std::string_view ReadEntry(std::string_view whole, Grammar grammar, Entry& entry) {
  entry.found = true;
  if (const std::string_view key = Leading(whole, Tag(1, kBytes)); key.data()) {
    const std::string_view rest = whole.substr(2 + key.size());
    if (const std::string_view value = Leading(rest, Tag(2, kBytes)); value.data() && value.size() + 2 == rest.size()) {
      entry.value = value;
      return key;
    }
  }
  return ReadAnyEntry(whole, grammar, entry);
}

// Whether a Feature is empty, or begins with one of its lists.
bool BeginsWithList(std::string_view feature) {
  if (feature.empty()) return true;
  const auto tag = static_cast<std::uint8_t>(feature[0]);
  return tag == Tag(1, kBytes) || tag == Tag(2, kBytes) || tag == Tag(3, kBytes);
}

void CheckValues(const Entry& entry, Place place) {
  if (place != Place::kLists) {
    ReadValues(entry, [](Cursor value) { CheckFeature(value, kInFeature); });
  } else {
    ReadValues(entry, [](Cursor value) { ReadFeatureList(value, [](Cursor in) { CheckFeature(in, kInList); }); });
  }
}

// Calls `read` with the bytes of every field 1 of a message, and skips the rest, which TensorFlow refuses.
template <class Read>
void ReadFields(Cursor in, Grammar grammar, int depth, const Read& read) {
  while (!in.done()) {
    const std::uint32_t tag = in.ReadTag();
    if (tag == Tag(1, kBytes)) {
      read(in.ReadBytes());
    } else {
      if (grammar != Grammar::kProtobuf) Refuse();
      in.Skip(tag, depth);
    }
  }
}

}  // namespace

// Reads one row at a time onto the end of the columns, in two passes. The first one finds for each feature the bytes
// of its last map entry; the second one reads them feature by feature, so that the order in which a program happened to
// write the entries costs nothing: each step of the second pass does what it did in the row before.
class RowReader {
 public:
  RowReader(const ExampleDecoder& decoder, std::size_t rows)
      : decoder_(decoder),
        grammar_(decoder.message_ == Message::kExample ? Grammar::kTensorFlow : Grammar::kProtobuf),
        features_(decoder.features_), columns_(features_.size()), cells_(features_.size()) {
    for (std::size_t f = 0; f < features_.size(); ++f) Prepare(f, rows);
  }

  void Read(std::string_view bytes, std::size_t row) {
    for (Cell& cell : cells_) cell.entry.found = false;
    entries_ = 0;
    broken_ = false;
    try {
      FindEntries(Cursor(bytes));
      if (broken_) Refuse();
      for (std::size_t f = 0; f < features_.size(); ++f) ReadCell(f);
    } catch (const Malformed&) {
      RefuseFirst(row);
      RefuseRow(decoder_.message_, bytes);
    } catch (const UnknownKind&) {
      RefuseFirst(row);
      RefuseKind();
    }
    try {
      for (std::size_t f = 0; f < features_.size(); ++f) Finish(f, row);
    } catch (const ExampleError&) {
      RefuseFirst(row);
      throw;
    }
    const auto is_again = [](const Cell& cell) { return cell.entry.found && cell.member.again; };
    if (grammar_ == Grammar::kTensorFlow && std::any_of(cells_.begin(), cells_.end(), is_again)) {
      // What TensorFlow refuses by the first of several lists is refused, whatever they are together.
      RowReader probe(decoder_, 1);
      probe.FindEntries(Cursor(bytes));
      probe.RefuseFirst(row);
    }
  }

  std::vector<Column> TakeColumns() { return std::move(columns_); }

 private:
  // What the row being read has of one feature.
  struct Cell {
    Entry entry;
    std::size_t at = 0;  // which of the row's entries it is
    Member member;
    // In lists:
    std::size_t steps = 0;
    std::size_t wrong_step = 0;  // the first one that is of another dtype, or of another count
    std::optional<std::size_t> wrong_count;
  };

  // Of several faults in an Example, tells the one that TensorFlow tells: it reads the entries from the last one on, and
  // then looks for what is missing. Returns where the fault is none of a feature's.
  void RefuseFirst(std::size_t row) {
    if (grammar_ == Grammar::kProtobuf || in_entries_) return;
    grammar_ = Grammar::kFirst;
    std::vector<std::size_t> order;
    for (std::size_t f = 0; f < features_.size(); ++f) {
      if (cells_[f].entry.found) order.push_back(f);
    }
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return cells_[a].at > cells_[b].at; });
    for (const std::size_t f : order) {
      try {
        ReadCell(f);
      } catch (const Malformed&) {
        const auto& found = cells_[f].member.dtype;
        if (found && *found != features_[f].dtype) RefuseDType(features_[f], row, 0, *found);
        RefuseList(features_[f], row);
      } catch (const UnknownKind&) {
        RefuseKind();
      }
      if (cells_[f].member.dtype) Finish(f, row);
    }
    for (std::size_t f = 0; f < features_.size(); ++f) {
      if (cells_[f].entry.found && cells_[f].member.dtype) continue;
      ReadCell(f);
      Finish(f, row);
    }
  }

  void Prepare(std::size_t f, std::size_t rows) {
    const Feature& feature = features_[f];
    columns_[f].values = EmptyValues(feature.dtype);
    if (feature.layout == Layout::kFixedLen) {
      const std::size_t count = rows * decoder_.values_in_shape_[f];
      std::visit([count](auto& flat) { flat.reserve(count); }, columns_[f].values);
    }
    if (feature.layout == Layout::kVarLen) columns_[f].lengths.reserve(rows);
    if (feature.layout != Layout::kVarLen || feature.place == Place::kLists) columns_[f].steps.reserve(rows);
  }

  // message Example { Features features = 1; }
  // message SequenceExample { Features context = 1; FeatureLists feature_lists = 2; }
  void FindEntries(Cursor in) {
    in_entries_ = true;
    while (!in.done()) {
      const std::uint32_t tag = in.ReadTag();
      if (tag == Tag(1, kBytes)) {
        FindEntries(Cursor(in.ReadBytes()), decoder_.features_index_, Place::kContext);
      } else if (tag == Tag(2, kBytes) && decoder_.message_ == Message::kSequenceExample) {
        FindEntries(Cursor(in.ReadBytes()), decoder_.lists_, Place::kLists);
      } else {
        if (grammar_ == Grammar::kTensorFlow && (tag & 7) == kStartGroup) Refuse();
        in.Skip(tag, kInMessage);
      }
    }
    in_entries_ = false;
  }

  // message Features { map<string, Feature> feature = 1; }
  // message FeatureLists { map<string, FeatureList> feature_list = 1; }
  void FindEntries(Cursor in, const KeyIndex& index, Place place) {
    ReadFields(in, grammar_, kInFeatures, [&](std::string_view whole) {
      Entry entry;
      const std::size_t f = index.Find(ReadEntry(whole, grammar_, entry));
      Entry& kept = f == KeyIndex::kAbsent ? entry : cells_[f].entry;
      if (kept.found) {
        // An earlier entry of a feature that is wanted is of no use, and its kind still has to be one.
        if (f != KeyIndex::kAbsent && grammar_ != Grammar::kProtobuf && !BeginsWithList(kept.value)) broken_ = true;
        try {
          CheckValues(kept, place);
        } catch (const Malformed&) {
          if (grammar_ == Grammar::kProtobuf) throw;
          broken_ = true;  // what is wrong with the features that are wanted is told first
        }
      }
      if (f == KeyIndex::kAbsent) return;
      kept = entry;
      cells_[f].at = entries_++;
    });
  }

  void ReadCell(std::size_t f) {
    std::visit([&](auto& values) { ReadCell(f, values); }, columns_[f].values);
  }

  template <class T>
  void ReadCell(std::size_t f, std::vector<T>& values) {
    Cell& cell = cells_[f];
    cell.member = {values.size(), std::nullopt, false};
    if (features_[f].place == Place::kLists) {
      ReadSteps(f, values);
    } else if (cell.entry.found && (cell.entry.repeated || !ReadOnlyList(cell.entry.value, grammar_, cell.member, &values))) {
      ReadValues(cell.entry, [&](Cursor value) { ReadFeature(value, grammar_, kInFeature, cell.member, &values); });
    }
  }

  template <class T>
  void ReadSteps(std::size_t f, std::vector<T>& values) {
    Cell& cell = cells_[f];
    cell.steps = cell.wrong_step = 0;
    cell.wrong_count.reset();
    if (!cell.entry.found) return;
    ReadValues(cell.entry, [&](Cursor list) {
      ReadFeatureList(list, [&](Cursor step) { ReadStep(f, step, values); });
    });
  }

  template <class T>
  void ReadStep(std::size_t f, Cursor in, std::vector<T>& values) {
    const Feature& feature = features_[f];
    Cell& cell = cells_[f];
    Member member{values.size(), std::nullopt, false};
    ReadFeature(in, Grammar::kProtobuf, kInList, member, &values);
    const std::size_t count = values.size() - member.start;
    const bool wrong_dtype = member.dtype && *member.dtype != feature.dtype;
    const bool wrong_count = feature.layout != Layout::kVarLen && count != decoder_.values_in_shape_[f];
    if ((wrong_dtype || wrong_count) && !cell.wrong_count) {
      cell.wrong_step = cell.steps;
      cell.wrong_count = count;
      cell.member.dtype = member.dtype.value_or(feature.dtype);
    }
    if (feature.layout == Layout::kVarLen) columns_[f].lengths.push_back(static_cast<std::int64_t>(count));
    ++cell.steps;
  }

  void Finish(std::size_t f, std::size_t row) {
    const Feature& feature = features_[f];
    const Cell& cell = cells_[f];
    if (cell.member.dtype && *cell.member.dtype != feature.dtype) {
      RefuseDType(feature, row, cell.wrong_step, *cell.member.dtype);
    }
    if (feature.place == Place::kLists) {
      FinishSteps(f, row);
      return;
    }
    switch (feature.layout) {
      case Layout::kFixedLen: FinishFixedLen(f, row); break;
      case Layout::kVarLen: columns_[f].lengths.push_back(static_cast<std::int64_t>(CountInRow(f))); break;
      case Layout::kFixedLenSequence: FinishSequence(f, row); break;
    }
  }

  std::size_t CountInRow(std::size_t f) const { return Count(columns_[f].values) - cells_[f].member.start; }

  void FinishFixedLen(std::size_t f, std::size_t row) {
    const Feature& feature = features_[f];
    if (!cells_[f].member.dtype) {
      if (!feature.default_value) RefuseMissing(feature, row);
      AppendDefault(*feature.default_value, columns_[f].values);
      return;
    }
    const std::size_t expected = decoder_.values_in_shape_[f];
    if (CountInRow(f) != expected) RefuseCount(feature, row, expected, CountInRow(f));
  }

  static void AppendDefault(const Values& value, Values& values) {
    std::visit(
        [&value](auto& flat) {
          const auto& source = std::get<std::decay_t<decltype(flat)>>(value);
          flat.insert(flat.end(), source.begin(), source.end());
        },
        values);
  }

  void FinishSequence(std::size_t f, std::size_t row) {
    const std::size_t count = CountInRow(f), stride = decoder_.values_in_shape_[f];
    if (count % std::max<std::size_t>(stride, 1) != 0 || (stride == 0 && count > 0)) {
      RefuseStride(features_[f], row, count);
    }
    columns_[f].steps.push_back(stride == 0 ? 0 : static_cast<std::int64_t>(count / stride));
  }

  void FinishSteps(std::size_t f, std::size_t row) {
    const Feature& feature = features_[f];
    const Cell& cell = cells_[f];
    if (!cell.entry.found && !feature.may_be_missing) RefuseMissing(feature, row);
    if (cell.wrong_count) {
      RefuseStep(feature, cell.wrong_step, decoder_.values_in_shape_[f], *cell.wrong_count, CountInRow(f));
    }
    columns_[f].steps.push_back(static_cast<std::int64_t>(cell.steps));
  }

  const ExampleDecoder& decoder_;
  Grammar grammar_;
  std::size_t entries_ = 0;
  bool in_entries_ = false;
  bool broken_ = false;
  const std::vector<Feature>& features_;
  std::vector<Column> columns_;
  std::vector<Cell> cells_;
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

Values EmptyValues(DType dtype) {
  switch (dtype) {
    case DType::kFloat: return std::vector<float>();
    case DType::kInt64: return std::vector<std::int64_t>();
    case DType::kString: return std::vector<std::string_view>();
  }
  return {};
}

std::size_t ValuesInShape(const std::vector<std::int64_t>& shape) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 31;
  std::uint64_t count = 1;
  for (const std::int64_t dim : shape) {
    if (dim < 0) {
      throw SpecError("the shape " + ShapeText(shape) + " has a negative dimension; those of a feature are all fixed.");
    }
    if (dim > 0 && count > kMost / static_cast<std::uint64_t>(dim)) {
      throw SpecError("the shape " + ShapeText(shape) + " holds more than 2^31 values in a row; give it fewer.");
    }
    count *= static_cast<std::uint64_t>(dim);
  }
  return static_cast<std::size_t>(count);
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
                       "; a row cannot end before it starts.");
  }
  if (static_cast<std::uint64_t>(row_splits[splits - 1]) != bytes.size()) {
    throw ExampleError("row_splits ends with " + std::to_string(row_splits[splits - 1]) + " but there are " +
                       std::to_string(bytes.size()) + " values; the last row ends where the values end.");
  }
}

namespace {

// How many values the shape holds; throws SpecError where the feature cannot be right.
std::size_t CheckSpec(Message message, const Feature& feature) {
  const std::string named = "Feature '" + feature.key + "': ";
  if ((feature.place == Place::kExample) != (message == Message::kExample)) {
    throw SpecError(named + "feature lists and context belong to SequenceExamples alone.");
  }
  const bool misplaced = (feature.place == Place::kLists && feature.layout == Layout::kFixedLen) ||
                         (feature.place == Place::kContext && feature.layout == Layout::kFixedLenSequence);
  if (misplaced) {
    throw SpecError(named + "FixedLen belongs to the context and FixedLenSequence to the feature lists.");
  }
  const std::size_t count = ValuesInShape(feature.shape);
  if (!feature.default_value) return count;
  const Values& value = *feature.default_value;
  if (feature.layout != Layout::kFixedLen) {
    throw SpecError(named + "only a FixedLen feature has a default; a row without the feature is empty.");
  }
  if (value.index() != static_cast<std::size_t>(feature.dtype)) {
    throw SpecError(named + "the default is of another dtype than the feature, which is " + Name(feature.dtype) + ".");
  }
  if (Count(value) != count) {
    throw SpecError(named + "the default has " + std::to_string(Count(value)) + " values, but the shape " +
                    ShapeText(feature.shape) + " holds " + std::to_string(count) +
                    "; give the default the feature's shape.");
  }
  return count;
}

}  // namespace

ExampleDecoder::ExampleDecoder(Message message, std::vector<Feature> features)
    : message_(message), features_(std::move(features)) {
  if (features_.empty()) throw SpecError("the spec has no features; name at least one.");
  for (std::size_t f = 0; f < features_.size(); ++f) {
    const Feature& feature = features_[f];
    if (!IndexOf(feature.place).Insert(feature.key, f)) {
      throw SpecError("Feature '" + feature.key + "': the key stands twice in the spec; name each feature once.");
    }
    values_in_shape_.push_back(CheckSpec(message, feature));
  }
}

std::vector<Column> ExampleDecoder::Decode(std::string_view bytes, const std::int64_t* row_splits, std::size_t first,
                                           std::size_t rows) const {
  RowReader reader(*this, rows);
  for (std::size_t row = first; row < first + rows; ++row) {
    const auto begin = static_cast<std::size_t>(row_splits[row]);
    const auto end = static_cast<std::size_t>(row_splits[row + 1]);
    reader.Read(bytes.substr(begin, end - begin), row);
  }
  return reader.TakeColumns();
}

}  // namespace estimator
