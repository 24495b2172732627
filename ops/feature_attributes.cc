#include "feature_attributes.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

namespace estimator {
namespace {

constexpr std::int64_t kFlagsMax = 7;
constexpr PartitionKind kPartitions[] = {PartitionKind::kRowSplits, PartitionKind::kRowLengths,
                                         PartitionKind::kRowStarts, PartitionKind::kRowLimits,
                                         PartitionKind::kValueRowIds};

std::string Numbered(const char* prefix, std::size_t i) { return prefix + std::to_string(i); }

// Reads the attributes of one node, feature by feature.
template <class Attributes>
class Reader {
 public:
  Reader(Message message, const Attributes& attributes)
      : message_(message),
        attributes_(attributes),
        kinds_(Ints("kinds")),
        dtypes_(Ints("dtypes")),
        ranks_(Ints("ranks")),
        dims_(Ints("dims")),
        flags_(Ints("flags")) {
    if (flags_.empty()) flags_.resize(kinds_.size());
    if (!kinds_.empty() && dtypes_.size() == kinds_.size() && ranks_.size() == kinds_.size() &&
        flags_.size() == kinds_.size()) {
      return;
    }
    Refuse("the attributes kinds, dtypes, ranks and flags have " + std::to_string(kinds_.size()) + ", " +
           std::to_string(dtypes_.size()) + ", " + std::to_string(ranks_.size()) + " and " +
           std::to_string(flags_.size()) +
           " numbers; each has one for every feature, and there is at least one feature.");
  }

  std::vector<Declared> Read() {
    std::vector<Declared> features;
    for (std::size_t f = 0; f < kinds_.size(); ++f) features.push_back(ReadOne(f));
    if (taken_ != dims_.size()) {
      Refuse("dims has " + std::to_string(dims_.size()) + " numbers and the ranks add up to " + std::to_string(taken_) +
             "; dims holds the shapes of all features one after the other.");
    }
    return features;
  }

 private:
  [[noreturn]] void Refuse(const std::string& text) const { RefuseSpec(message_, text); }

  std::vector<std::int64_t> Ints(const char* name) const {
    return attributes_.Ints(name).value_or(std::vector<std::int64_t>());
  }

  Declared ReadOne(std::size_t f) {
    Declared feature;
    feature.kind = ToKind(kinds_[f]);
    feature.dtype = ToDType(dtypes_[f]);
    feature.dims = TakeDims(ranks_[f]);
    feature.flags = flags_[f];
    if (feature.flags < 0 || feature.flags > kFlagsMax) {
      Refuse("flags " + std::to_string(feature.flags) + " are not known; they are a sum of 1, 2 and 4.");
    }
    const std::string key = Numbered("key_", f);
    feature.keys.push_back(Key(key, "it is the key of that feature"));
    if (feature.kind == Kind::kSparse || feature.kind == Kind::kRagged) {
      for (std::size_t d = 0; d < feature.dims.size(); ++d) feature.keys.push_back(PartKey(feature, key, d));
    }
    return feature;
  }

  std::string Key(const std::string& name, const char* meaning) const {
    const auto key = attributes_.String(name.c_str());
    if (!key) Refuse("the attribute " + name + " is missing; " + meaning + ".");
    return *key;
  }

  std::string PartKey(const Declared& feature, const std::string& key, std::size_t d) const {
    if (feature.kind == Kind::kRagged && feature.dims[d] > 0) return "";
    if (feature.kind == Kind::kRagged && -feature.dims[d] >= static_cast<std::int64_t>(std::size(kPartitions))) {
      Refuse("the partition " + std::to_string(feature.dims[d]) + " is not known; it is a length, or from 0 to -4.");
    }
    const std::string name = key + "_" + std::to_string(d);
    return Key(name, feature.kind == Kind::kSparse ? "it is the key of that index" : "it is the key of that partition");
  }

  Kind ToKind(std::int64_t number) const {
    if (number >= 0 && number <= static_cast<std::int64_t>(Kind::kRagged)) return static_cast<Kind>(number);
    Refuse("kind " + std::to_string(number) +
           " is not known; it is 0 for FixedLen, 1 VarLen, 2 FixedLenSequence, 3 Sparse or 4 Ragged.");
  }

  DType ToDType(std::int64_t number) const {
    switch (number) {
      case 1: return DType::kFloat;
      case 7: return DType::kString;
      case 9: return DType::kInt64;
    }
    Refuse("dtype " + std::to_string(number) +
           " is not one Examples hold; it is 1 for float, 7 for string or 9 for int64.");
  }

  // The next `rank` of the dims that have not been taken by an earlier feature.
  std::vector<std::int64_t> TakeDims(std::int64_t rank) {
    if (rank < 0 || static_cast<std::uint64_t>(rank) > dims_.size() - taken_) {
      Refuse("rank " + std::to_string(rank) + " does not fit: " + std::to_string(dims_.size() - taken_) +
             " of the numbers in dims are left; dims holds the shapes of all features one after the other.");
    }
    const auto begin = dims_.begin() + static_cast<std::ptrdiff_t>(taken_);
    taken_ += static_cast<std::size_t>(rank);
    return {begin, begin + rank};
  }

  const Message message_;
  const Attributes& attributes_;
  const std::vector<std::int64_t> kinds_, dtypes_, ranks_, dims_;
  std::vector<std::int64_t> flags_;
  std::size_t taken_ = 0;
};

// ---- columns ------------------------------------------------------------------------------------------------------

// The column that the key of the values, the first one, or of an index or partition is read from.
Feature ColumnOf(Message message, const Declared& feature, std::size_t k) {
  const Place place = feature.in_lists()                    ? Place::kLists
                      : message == Message::kSequenceExample ? Place::kContext
                                                             : Place::kExample;
  Feature column{feature.keys[k], Layout::kVarLen, k == 0 ? feature.dtype : DType::kInt64, {}, std::nullopt, place};
  if (feature.kind == Kind::kFixedLen || feature.kind == Kind::kFixedLenSequence) {
    column.layout = feature.kind == Kind::kFixedLen ? Layout::kFixedLen : Layout::kFixedLenSequence;
    column.shape = feature.dims;
    column.may_be_missing = feature.flags & Declared::kMayBeMissing;
  }
  if (feature.kind == Kind::kFixedLen) column.default_value = feature.default_value;
  return column;
}

// Where columns of any length stand among the columns, which only they can share.
using Shared = std::map<std::tuple<std::string, Place, DType>, std::size_t>;

// Where the column stands among the columns; at the end, if it is new.
std::size_t PlaceOf(const Feature& column, std::vector<Feature>& columns, Shared& shared) {
  if (column.layout == Layout::kVarLen) {
    const auto [found, is_new] = shared.try_emplace({column.key, column.place, column.dtype}, columns.size());
    if (!is_new) return found->second;
  }
  columns.push_back(column);
  return columns.size() - 1;
}

// What the decoder does not see of a feature.
void CheckDeclared(Message message, const Declared& feature) {
  const std::string named = "Feature '" + feature.keys[0] + "': ";
  try {
    if (feature.kind == Kind::kSparse) ValuesInShape(feature.dims);
    std::vector<std::int64_t> lengths;
    for (const Partition& partition : feature.partitions()) {
      lengths.push_back(std::max<std::int64_t>(partition.length, 1));
    }
    ValuesInShape(lengths);
  } catch (const SpecError& error) {
    RefuseSpec(message, named + error.what());
  }
  if (feature.kind == Kind::kSparse && (feature.dims.empty() || feature.in_lists())) {
    RefuseSpec(message, named + "a Sparse feature has at least one index, and is none of feature lists.");
  }
  if (feature.kind == Kind::kVarLen && !feature.dims.empty()) {
    RefuseSpec(message, named + "a VarLen feature has no dims; its rank is 0.");
  }
  if (feature.kind != Kind::kFixedLenSequence || !feature.default_value) return;
  if (feature.default_value->index() != static_cast<std::size_t>(feature.dtype) || Count(*feature.default_value) != 1) {
    RefuseSpec(message, named + "the default pads each element; give it one value of the feature's dtype.");
  }
}

}  // namespace

std::vector<Partition> Declared::partitions() const {
  std::vector<Partition> made;
  if (kind != Kind::kRagged) return made;
  for (const std::int64_t dim : dims) {
    made.push_back(dim > 0 ? Partition{PartitionKind::kUniform, dim, {}} : Partition{kPartitions[-dim], 0, {}});
  }
  return made;
}

std::size_t Declared::levels() const {
  return 1 + (in_lists() ? 1 : 0) + dims.size() - CountInnerDimensions(partitions());
}

std::size_t Declared::outputs() const {
  switch (kind) {
    case Kind::kFixedLen: return 1;
    case Kind::kVarLen: return 2;
    case Kind::kFixedLenSequence: return in_lists() ? 2 : 1;
    case Kind::kSparse: return 3;
    case Kind::kRagged: return 1 + levels();
  }
  return 0;
}

std::vector<Declared> ReadFeatures(Message message, const ort::Node& node) { return Reader(message, node).Read(); }

std::vector<Declared> ReadFeatures(Message message, const ort::Inference& inference) {
  return Reader(message, inference).Read();
}

std::vector<Feature> MakeColumns(Message message, std::vector<Declared>& features) {
  std::vector<Feature> columns;
  Shared shared;
  for (Declared& feature : features) {
    CheckDeclared(message, feature);
    for (std::size_t k = 0; k < feature.keys.size(); ++k) {
      const bool uniform = k > 0 && feature.kind == Kind::kRagged && feature.dims[k - 1] > 0;
      feature.columns.push_back(uniform ? Declared::kNoColumn
                                        : PlaceOf(ColumnOf(message, feature, k), columns, shared));
    }
  }
  return columns;
}

ort::ElementType ElementTypeOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat: return ort::kFloat;
    case DType::kInt64: return ort::kInt64;
    case DType::kString: return ort::kString;
  }
  return ort::kUndefined;
}

void RefuseSpec(Message message, const std::string& text) {
  const char* const op = message == Message::kExample ? "ParseExample: " : "ParseSequenceExample: ";
  throw ort::Error(ort::kInvalidArgument, op + text);
}

}  // namespace estimator
