// ParseExample: the attributes of a node to a parse spec, and decoded columns to tensors.
//
//     kinds   ints             0 FixedLen, 1 VarLen; one a feature
//     dtypes  ints             TensorFlow's DataType: 1 float, 7 string, 9 int64; one a feature
//     ranks   ints             of each feature's shape; 0 for VarLen
//     dims    ints             all shapes, one after the other; may be left out where there are none
//     key_i   string           the key of feature i
//     default_i tensor         FixedLen, optional: what a row without the feature gets
//
// Outputs, in the order of the features: FixedLen gives a tensor [batch, *shape]. VarLen gives the values padded with 0
// or '' to [batch, k], where k is the length of the longest row, and the lengths, int64[batch].
#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "ops.h"

namespace estimator {
namespace {

[[noreturn]] void RefuseSpec(const std::string& text) {
  throw ort::Error(ort::kInvalidArgument, "ParseExample: " + text);
}

// ---- attributes -> features ---------------------------------------------------------------------------------------

Kind ToKind(std::int64_t number) {
  switch (number) {
    case 0: return Kind::kFixedLen;
    case 1: return Kind::kVarLen;
  }
  RefuseSpec("kind " + std::to_string(number) + " is not known; it is 0 for FixedLen or 1 for VarLen.");
}

DType ToDType(std::int64_t number) {
  switch (number) {
    case 1: return DType::kFloat;
    case 7: return DType::kString;
    case 9: return DType::kInt64;
  }
  RefuseSpec("dtype " + std::to_string(number) +
             " is not one Examples hold; it is 1 for float, 7 for string or 9 for int64.");
}

ort::ElementType ElementTypeOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat: return ort::kFloat;
    case DType::kInt64: return ort::kInt64;
    case DType::kString: return ort::kString;
  }
  return ort::kUndefined;
}

// The next `rank` of the dims that have not been taken by an earlier feature.
std::vector<std::int64_t> TakeShape(const std::vector<std::int64_t>& dims, std::size_t& taken, std::int64_t rank) {
  if (rank < 0 || static_cast<std::uint64_t>(rank) > dims.size() - taken) {
    RefuseSpec("rank " + std::to_string(rank) + " does not fit: " + std::to_string(dims.size() - taken) +
               " of the numbers in dims are left; dims holds the shapes of all features one after the other.");
  }
  const auto begin = dims.begin() + static_cast<std::ptrdiff_t>(taken);
  taken += static_cast<std::size_t>(rank);
  return {begin, begin + rank};
}

std::string Numbered(const char* prefix, std::size_t i) { return prefix + std::to_string(i); }

// The features without their defaults, which shape inference does not need and cannot read.
template <class Attributes>
std::vector<Feature> ReadFeatures(const Attributes& attributes) {
  const auto ints = [&](const char* name) { return attributes.Ints(name).value_or(std::vector<std::int64_t>()); };
  const auto kinds = ints("kinds"), dtypes = ints("dtypes"), ranks = ints("ranks"), dims = ints("dims");
  if (kinds.empty() || dtypes.size() != kinds.size() || ranks.size() != kinds.size()) {
    RefuseSpec("the attributes kinds, dtypes and ranks have " + std::to_string(kinds.size()) + ", " +
               std::to_string(dtypes.size()) + " and " + std::to_string(ranks.size()) +
               " numbers; each has one for every feature, and there is at least one feature.");
  }
  std::vector<Feature> features(kinds.size());
  std::size_t taken = 0;
  for (std::size_t f = 0; f < features.size(); ++f) {
    const auto key = attributes.String(Numbered("key_", f).c_str());
    if (!key) RefuseSpec("the attribute key_" + std::to_string(f) + " is missing; it is the key of that feature.");
    features[f] = {*key, ToKind(kinds[f]), ToDType(dtypes[f]), TakeShape(dims, taken, ranks[f]), std::nullopt};
  }
  if (taken != dims.size()) {
    RefuseSpec("dims has " + std::to_string(dims.size()) + " numbers and the ranks add up to " + std::to_string(taken) +
               "; dims holds the shapes of all features one after the other.");
  }
  return features;
}

std::size_t OutputCount(const std::vector<Feature>& features) {
  std::size_t count = 0;
  for (const Feature& feature : features) count += feature.kind == Kind::kVarLen ? 2 : 1;
  return count;
}

template <class T>
Values CopyValues(const ort::Value* tensor) {
  const T* data = ort::Data<T>(tensor);
  return std::vector<T>(data, data + ort::CountOf(tensor));
}

Values ReadDefault(const ort::Value* tensor, std::vector<ort::Strings>& strings) {
  switch (ort::TypeOf(tensor)) {
    case ort::kFloat: return CopyValues<float>(tensor);
    case ort::kInt64: return CopyValues<std::int64_t>(tensor);
    case ort::kString: break;
    default: RefuseSpec("a default is neither float nor int64 nor string; give it the dtype of its feature.");
  }
  const ort::Strings& kept = strings.emplace_back(tensor);
  std::vector<std::string_view> views;
  for (std::size_t i = 0; i < kept.size(); ++i) views.push_back(kept[i]);
  return views;
}

ExampleDecoder MakeDecoder(const ort::Node& node, std::vector<ort::Strings>& strings) {
  std::vector<Feature> features = ReadFeatures(node);
  strings.reserve(features.size());  // views of the elements must stay
  for (std::size_t f = 0; f < features.size(); ++f) {
    const ort::OwnedTensor tensor = node.Tensor(Numbered("default_", f).c_str());
    if (tensor) features[f].default_value = ReadDefault(tensor.get(), strings);
  }
  if (node.OutputCount() != OutputCount(features)) {
    RefuseSpec("the node has " + std::to_string(node.OutputCount()) + " outputs and its features make " +
               std::to_string(OutputCount(features)) + ": one for FixedLen, two for VarLen.");
  }
  try {
    return ExampleDecoder(std::move(features));
  } catch (const SpecError& error) {
    RefuseSpec(error.what());
  }
}

// ---- columns -> tensors -------------------------------------------------------------------------------------------

// Writes values into a tensor, from element `at` on.
template <class T>
class Writer {
 public:
  explicit Writer(ort::Value* tensor) : data_(ort::Data<T>(tensor)) {}
  void Write(std::size_t at, const T* values, std::size_t count) {
    if (count > 0) std::memcpy(data_ + at, values, count * sizeof(T));
  }
  void Pad(std::size_t at, std::size_t count) { std::fill_n(data_ + at, count, T{0}); }

 private:
  T* data_;
};

template <>
class Writer<std::string_view> {
 public:
  explicit Writer(ort::Value* tensor) : tensor_(tensor) {}
  void Write(std::size_t at, const std::string_view* values, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      if (!values[i].empty()) ort::SetString(tensor_, at + i, values[i]);
    }
  }
  void Pad(std::size_t, std::size_t) {}  // the strings of a new tensor are empty

 private:
  ort::Value* tensor_;
};

template <class T>
void WritePadded(const std::vector<T>& values, const Column& column, ort::Value* tensor) {
  Writer<T> writer(tensor);
  const auto width = static_cast<std::size_t>(column.longest);
  const T* row = values.data();
  for (std::size_t i = 0; i < column.lengths.size(); ++i) {
    const auto length = static_cast<std::size_t>(column.lengths[i]);
    writer.Write(i * width, row, length);
    writer.Pad(i * width + length, width - length);
    row += length;
  }
}

void OutputFixedLen(ort::KernelContext* context, std::size_t index, const ort::Shape& shape, const Column& column) {
  ort::Value* const tensor = ort::Output(context, index, shape);
  if (!tensor) return;
  const auto write = [tensor](const auto& values) {
    using T = typename std::decay_t<decltype(values)>::value_type;
    Writer<T>(tensor).Write(0, values.data(), values.size());
  };
  std::visit(write, column.values);
}

void OutputVarLen(ort::KernelContext* context, std::size_t index, const Column& column) {
  const auto batch = static_cast<std::int64_t>(column.lengths.size());
  if (ort::Value* const tensor = ort::Output(context, index, {batch, column.longest})) {
    std::visit([&](const auto& values) { WritePadded(values, column, tensor); }, column.values);
  }
  if (ort::Value* const tensor = ort::Output(context, index + 1, {batch})) {
    Writer<std::int64_t>(tensor).Write(0, column.lengths.data(), column.lengths.size());
  }
}

std::vector<Column> Decode(const ExampleDecoder& decoder, const ort::KernelContext* context) {
  const ort::Value* const values = ort::Input(context, 0);
  const ort::Value* const row_splits = ort::Input(context, 1);
  try {
    return decoder.Decode({ort::Data<char>(values), ort::CountOf(values)}, ort::Data<std::int64_t>(row_splits),
                          ort::CountOf(row_splits));
  } catch (const ExampleError& error) {
    throw ort::Error(ort::kInvalidArgument, error.what());
  }
}

// ---- inferred shapes ----------------------------------------------------------------------------------------------

// The batch is one less than row_splits. By name: 'batch+1' gives 'batch', any other 'x' gives 'x-1'.
ort::Dimension BatchDimension(const ort::Inference& inference) {
  const std::vector<ort::Dimension> row_splits = inference.InputShape(1);
  if (row_splits.size() != 1) return {-1, "batch"};
  const ort::Dimension& splits = row_splits[0];
  if (splits.size > 0) return {splits.size - 1, ""};
  if (splits.name.empty()) return {-1, "batch"};
  const std::size_t end = splits.name.size();
  if (end > 2 && splits.name.compare(end - 2, 2, "+1") == 0) return {-1, splits.name.substr(0, end - 2)};
  return {-1, splits.name + "-1"};
}

std::vector<ort::Dimension> FixedLenShape(const ort::Dimension& batch, const Feature& feature) {
  std::vector<ort::Dimension> shape = {batch};
  for (const std::int64_t size : feature.shape) shape.push_back({size, ""});
  return shape;
}

// Sets one output after the other, and counts those that are set.
void SetOutputs(const ort::Inference& inference, std::size_t& set) {
  const ort::Dimension batch = BatchDimension(inference);
  const auto next = [&](ort::ElementType type, const std::vector<ort::Dimension>& shape) {
    if (inference.SetOutput(set, type, shape)) ++set;
  };
  for (const Feature& feature : ReadFeatures(inference)) {
    if (feature.kind == Kind::kFixedLen) {
      next(ElementTypeOf(feature.dtype), FixedLenShape(batch, feature));
    } else {
      next(ElementTypeOf(feature.dtype), {batch, {-1, feature.key + "/longest"}});
      next(ort::kInt64, {batch});
    }
  }
}

}  // namespace

// The runtime drops what shape inference has to say against a spec and then complains of missing types. So outputs that
// are left over get some type, and it goes on to make the kernel, whose refusal is heard.
void ParseExample::InferShapes(const ort::Inference& inference) {
  std::size_t set = 0;
  try {
    SetOutputs(inference, set);
  } catch (const ort::Error&) {
  }
  while (inference.SetOutput(set, ort::kFloat, {})) ++set;
}

ParseExample::ParseExample(const ort::Node& node) : decoder_(MakeDecoder(node, default_strings_)) {}

void ParseExample::Compute(ort::KernelContext* context) const {
  const std::vector<Column> columns = Decode(decoder_, context);
  const std::size_t batch = ort::CountOf(ort::Input(context, 1)) - 1;
  std::size_t index = 0;
  for (std::size_t f = 0; f < columns.size(); ++f) {
    const Feature& feature = decoder_.features()[f];
    if (feature.kind == Kind::kFixedLen) {
      ort::Shape shape = {static_cast<std::int64_t>(batch)};
      shape.insert(shape.end(), feature.shape.begin(), feature.shape.end());
      OutputFixedLen(context, index++, shape, columns[f]);
    } else {
      OutputVarLen(context, index, columns[f]);
      index += 2;
    }
  }
}

}  // namespace estimator
