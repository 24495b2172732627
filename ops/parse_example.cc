// ParseExample and ParseSequenceExample: a batch is decoded in chunks of rows, on the session's threads, and every
// chunk then writes its part of each output tensor. What the tensors hold and what is refused depends on the batch
// alone and not on the threads.
#include <algorithm>
#include <cstring>
#include <functional>
#include <type_traits>
#include <utility>

#include "composites.h"
#include "ops.h"

namespace estimator {
namespace {

// ---- attributes -> decoder ----------------------------------------------------------------------------------------

template <class T>
Values CopyValues(const ort::Value* tensor) {
  const T* data = ort::Data<T>(tensor);
  return std::vector<T>(data, data + ort::CountOf(tensor));
}

Values ReadDefault(Message message, const ort::Value* tensor, std::vector<ort::Strings>& strings) {
  switch (ort::TypeOf(tensor)) {
    case ort::kFloat: return CopyValues<float>(tensor);
    case ort::kInt64: return CopyValues<std::int64_t>(tensor);
    case ort::kString: break;
    default: RefuseSpec(message, "a default is neither float nor int64 nor string; give it the dtype of its feature.");
  }
  const ort::Strings& kept = strings.emplace_back(tensor);
  std::vector<std::string_view> views;
  for (std::size_t i = 0; i < kept.size(); ++i) views.push_back(kept[i]);
  return views;
}

std::vector<Declared> ReadDeclared(Message message, const ort::Node& node, std::vector<ort::Strings>& strings) {
  std::vector<Declared> features = ReadFeatures(message, node);
  strings.reserve(features.size());  // views of the elements must stay
  std::size_t outputs = 0;
  for (std::size_t f = 0; f < features.size(); ++f) {
    const ort::OwnedTensor tensor = node.Tensor(("default_" + std::to_string(f)).c_str());
    if (tensor) features[f].default_value = ReadDefault(message, tensor.get(), strings);
    if (tensor && features[f].kind != Kind::kFixedLen && features[f].kind != Kind::kFixedLenSequence) {
      RefuseSpec(message, "Feature '" + features[f].keys[0] + "': only FixedLen and FixedLenSequence have a default.");
    }
    outputs += features[f].outputs();
  }
  if (node.OutputCount() != outputs) {
    RefuseSpec(message, "the node has " + std::to_string(node.OutputCount()) + " outputs and its features make " +
                            std::to_string(outputs) + "; give each tensor of each feature a name, or ''.");
  }
  return features;
}

ExampleDecoder MakeDecoder(Message message, std::vector<Declared>& features) {
  try {
    return ExampleDecoder(message, MakeColumns(message, features));
  } catch (const SpecError& error) {
    RefuseSpec(message, error.what());
  }
}

// ---- chunks -------------------------------------------------------------------------------------------------------

// Handing a chunk to a thread costs some microseconds, and so does making the columns of a chunk; decoding this many
// bytes costs tens of them.
constexpr std::size_t kChunkBytesMin = std::size_t{1} << 15;
constexpr std::size_t kChunkRowsMin = 16;
constexpr std::size_t kChunksMax = 64;

// What a feature made of several columns becomes.
struct Composite {
  Values values;
  std::vector<std::vector<std::int64_t>> parts;  // Sparse: the indices. Ragged: the limits of each level
};

// Some rows of the batch.
struct Chunk {
  std::size_t first = 0;
  std::size_t rows = 0;
  std::vector<Column> columns;        // of the decoder
  std::vector<Composite> composites;  // one a feature, empty for those of one column; none if all are of one
};

std::vector<Chunk> Split(std::size_t rows, std::size_t bytes) {
  const std::size_t most = std::min({kChunksMax, bytes / kChunkBytesMin, rows / kChunkRowsMin});
  const std::size_t count = std::max<std::size_t>(most, 1);
  std::vector<Chunk> chunks(count);
  for (std::size_t c = 0; c < count; ++c) {
    chunks[c].first = rows * c / count;
    chunks[c].rows = rows * (c + 1) / count - chunks[c].first;
  }
  return chunks;
}

Composite Compose(const Declared& feature, const Chunk& chunk) {
  const auto keyed = [&](std::size_t k) { return KeyedColumn{&feature.keys[k], &chunk.columns[feature.columns[k]]}; };
  if (feature.kind == Kind::kSparse) {
    std::vector<KeyedColumn> indices;
    for (std::size_t k = 1; k < feature.keys.size(); ++k) indices.push_back(keyed(k));
    SparseRows rows = ComposeSparse(keyed(0), indices, feature.flags & Declared::kAlreadySorted, chunk.first);
    return {std::move(rows.values), {std::move(rows.indices)}};
  }
  std::vector<Partition> partitions = feature.partitions();
  for (std::size_t p = 0; p < partitions.size(); ++p) {
    if (partitions[p].kind != PartitionKind::kUniform) partitions[p].column = keyed(p + 1);
  }
  RaggedRows rows = ComposeRagged(keyed(0), partitions, feature.in_lists(), feature.flags & Declared::kValidate,
                                  chunk.first);
  return {std::move(rows.values), std::move(rows.limits)};
}

// ---- values -> tensors --------------------------------------------------------------------------------------------

// Writes values into a tensor, from element `at` on.
template <class T>
class Writer {
 public:
  explicit Writer(ort::Value* tensor) : data_(ort::Data<T>(tensor)) {}
  void Write(std::size_t at, const T* values, std::size_t count) {
    if (count > 0) std::memcpy(data_ + at, values, count * sizeof(T));
  }
  void Pad(std::size_t at, std::size_t count, T value) { std::fill_n(data_ + at, count, value); }

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
  void Pad(std::size_t at, std::size_t count, std::string_view value) {
    if (value.empty()) return;  // the strings of a new tensor are
    for (std::size_t i = 0; i < count; ++i) ort::SetString(tensor_, at + i, value);
  }

 private:
  ort::Value* tensor_;
};

// A padded tensor may be far larger than the bytes it comes from: one long row pads all others.
constexpr std::size_t kPaddedBytesMax = std::size_t{1} << 30;

std::size_t PaddedElementSize(DType dtype) {
  switch (dtype) {
    case DType::kFloat: return sizeof(float);
    case DType::kInt64: return sizeof(std::int64_t);
    case DType::kString: return sizeof(std::string);
  }
  return 0;
}

void CheckPadding(const std::string& key, DType dtype, const ort::Shape& shape) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return;
  std::size_t left = kPaddedBytesMax / PaddedElementSize(dtype);
  for (const std::int64_t dim : shape) left /= static_cast<std::size_t>(dim);
  if (left > 0) return;
  throw ExampleError("Key: " + key + ".  Padding " + std::to_string(shape[0]) + " rows to the longest one's " +
                     std::to_string(shape[1]) + " values or steps would take more than 1 GiB; send fewer rows at " +
                     "once, or rows of similar length together.");
}

// Calls `action` with a value of the C++ type of a dtype.
template <class Action>
void WithType(DType dtype, const Action& action) {
  switch (dtype) {
    case DType::kFloat: return action(float{});
    case DType::kInt64: return action(std::int64_t{});
    case DType::kString: return action(std::string_view{});
  }
}

// Ragged: the dimensions of the values behind the first.
ort::Shape InnerDimensions(const Declared& feature) {
  const auto count = static_cast<std::ptrdiff_t>(CountInnerDimensions(feature.partitions()));
  return {feature.dims.end() - count, feature.dims.end()};
}

std::int64_t Longest(const std::vector<std::int64_t>& lengths) {
  return lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
}

// Makes the output tensors of one batch, one after the other, and has every chunk write its part of each.
class BatchWriter {
 public:
  BatchWriter(ort::KernelContext* context, const std::vector<Chunk>& chunks, std::size_t rows)
      : context_(context), chunks_(chunks), rows_(static_cast<std::int64_t>(rows)) {}

  void Add(const Declared& feature, std::size_t f) {
    switch (feature.kind) {
      case Kind::kFixedLen: return AddFixedLen(feature);
      case Kind::kVarLen: return feature.in_lists() ? AddVarLenSteps(feature) : AddVarLen(feature);
      case Kind::kFixedLenSequence: return AddSequence(feature);
      case Kind::kSparse: return AddSparse(feature, f);
      case Kind::kRagged: return AddRagged(feature, f);
    }
  }

  void Write() const {
    ort::ParallelFor(context_, chunks_.size(), [this](std::size_t c) {
      for (const auto& part : parts_) part(c);
    });
  }

 private:
  using Part = std::function<void(std::size_t chunk)>;

  void AddFixedLen(const Declared& feature) {
    ort::Shape shape;
    shape.reserve(1 + feature.dims.size());
    shape.push_back(rows_);
    shape.insert(shape.end(), feature.dims.begin(), feature.dims.end());
    Concatenate(feature.dtype, shape, [column = feature.columns[0]](const Chunk& chunk) -> const auto& {
      return chunk.columns[column].values;
    });
  }

  void AddVarLen(const Declared& feature) {
    const auto lengths = [column = feature.columns[0]](const Chunk& chunk) -> const auto& {
      return chunk.columns[column].lengths;
    };
    const std::int64_t longest = LongestOf(lengths);
    Pad(feature, {rows_, longest}, longest, 1, lengths);
    Concatenate<std::int64_t>(ort::Output(context_, next_++, {rows_}), lengths);
  }

  void AddSequence(const Declared& feature) {
    const auto steps = [column = feature.columns[0]](const Chunk& chunk) -> const auto& {
      return chunk.columns[column].steps;
    };
    const std::int64_t longest = LongestOf(steps), stride = static_cast<std::int64_t>(ValuesInShape(feature.dims));
    ort::Shape shape = {rows_, longest};
    shape.insert(shape.end(), feature.dims.begin(), feature.dims.end());
    Pad(feature, shape, longest * stride, stride, steps);
    if (feature.in_lists()) Concatenate<std::int64_t>(ort::Output(context_, next_++, {rows_}), steps);
  }

  // Steps of steps: two paddings, that of the values in a step and that of the steps in a row.
  void AddVarLenSteps(const Declared& feature) {
    const std::size_t column = feature.columns[0];
    const auto steps_of = [column](const Chunk& chunk) -> const auto& { return chunk.columns[column].steps; };
    const auto lengths_of = [column](const Chunk& chunk) -> const auto& { return chunk.columns[column].lengths; };
    const std::int64_t steps = LongestOf(steps_of), longest = LongestOf(lengths_of);
    CheckPadding(feature.keys[0], feature.dtype, {rows_, steps, longest});
    CheckPadding(feature.keys[0], DType::kInt64, {rows_, steps});
    ort::Value* const values = ort::Output(context_, next_++, {rows_, steps, longest});
    ort::Value* const lengths = ort::Output(context_, next_++, {rows_, steps});
    WithType(feature.dtype, [&](auto type) {
      using T = decltype(type);
      if (!values) return;
      AddPart([=](std::size_t c) {
        const Column& from = chunks_[c].columns[column];
        WriteSteps<T>(std::get<std::vector<T>>(from.values), from, chunks_[c].first, steps, longest, values);
      });
    });
    if (!lengths) return;
    AddPart([=](std::size_t c) {
      const Column& from = chunks_[c].columns[column];
      WriteRows<std::int64_t>(from.lengths, from.steps, 1, chunks_[c].first, steps, 0, lengths);
    });
  }

  void AddSparse(const Declared& feature, std::size_t f) {
    const auto indices = [f](const Chunk& chunk) -> const auto& { return chunk.composites[f].parts[0]; };
    const auto values = [f](const Chunk& chunk) -> const auto& { return chunk.composites[f].values; };
    const auto rank = static_cast<std::int64_t>(feature.keys.size());
    const std::int64_t count = SizeOf(indices) / rank;
    Concatenate<std::int64_t>(ort::Output(context_, next_++, {count, rank}), indices);
    Concatenate(feature.dtype, {count}, values);
    if (ort::Value* const tensor = ort::Output(context_, next_++, {rank})) {
      Writer<std::int64_t> writer(tensor);
      writer.Write(0, &rows_, 1);
      writer.Write(1, feature.dims.data(), feature.dims.size());
    }
  }

  void AddRagged(const Declared& feature, std::size_t f) {
    const auto values = [f](const Chunk& chunk) -> const auto& { return chunk.composites[f].values; };
    std::int64_t count = 0;
    for (const Chunk& chunk : chunks_) count += static_cast<std::int64_t>(Count(values(chunk)));
    const ort::Shape inner = InnerDimensions(feature);
    for (const std::int64_t length : inner) count /= length;
    ort::Shape shape = {count};
    shape.insert(shape.end(), inner.begin(), inner.end());
    Concatenate(feature.dtype, shape, values);
    for (std::size_t level = 0; level < feature.levels(); ++level) AddSplits(feature, f, level);
  }

  void AddSplits(const Declared& feature, std::size_t f, std::size_t level) {
    const auto limits = [f, level](const Chunk& chunk) -> const auto& { return chunk.composites[f].parts[level]; };
    ort::Value* const tensor = ort::Output(context_, next_++, {SizeOf(limits) + 1});
    if (!tensor) return;
    std::vector<std::int64_t> bases = {0};  // of each chunk: what its limits are counted from
    for (const Chunk& chunk : chunks_) {
      bases.push_back(bases.back() + (limits(chunk).empty() ? 0 : limits(chunk).back()));
    }
    if (feature.splits_type() == ort::kInt64) {
      WriteSplits<std::int64_t>(tensor, limits, bases);
    } else if (bases.back() <= INT32_MAX) {
      WriteSplits<std::int32_t>(tensor, limits, bases);
    } else {
      throw ExampleError("Key: " + feature.keys[0] + ".  int32 row_splits hold no number above 2^31 - 1, and " +
                         std::to_string(bases.back()) + " came; declare the feature with int64 row_splits.");
    }
  }

  // What the functions above are made of.

  // A batch of one chunk is written at once, which spares small requests keeping the parts.
  template <class Write>
  void AddPart(Write part) {
    if (chunks_.size() == 1) {
      part(0);
    } else {
      parts_.push_back(std::move(part));
    }
  }

  template <class Take>
  std::int64_t LongestOf(const Take& take) const {
    std::int64_t longest = 0;
    for (const Chunk& chunk : chunks_) longest = std::max(longest, Longest(take(chunk)));
    return longest;
  }

  // What the chunks before chunk c have together.
  template <class Take>
  std::size_t SizeBefore(std::size_t c, const Take& take) const {
    std::size_t size = 0;
    for (std::size_t i = 0; i < c; ++i) size += take(chunks_[i]).size();
    return size;
  }

  template <class Take>
  std::int64_t SizeOf(const Take& take) const {
    return static_cast<std::int64_t>(SizeBefore(chunks_.size(), take));
  }

  // The next output: the chunks' values one after the other.
  template <class Take>
  void Concatenate(DType dtype, const ort::Shape& shape, const Take& take) {
    ort::Value* const tensor = ort::Output(context_, next_++, shape);
    WithType(dtype, [&](auto type) {
      using T = decltype(type);
      Concatenate<T>(tensor, [take](const Chunk& chunk) -> const auto& {
        return std::get<std::vector<T>>(take(chunk));
      });
    });
  }

  template <class T, class Take>
  void Concatenate(ort::Value* tensor, const Take& take) {
    if (!tensor) return;
    AddPart([this, tensor, take](std::size_t c) {
      const auto& values = take(chunks_[c]);
      Writer<T>(tensor).Write(SizeBefore(c, take), values.data(), values.size());
    });
  }

  // The next output: rows of `lengths` times `stride` values, each padded to `width` values.
  template <class Take>
  void Pad(const Declared& feature, const ort::Shape& shape, std::int64_t width, std::int64_t stride,
           const Take& lengths) {
    CheckPadding(feature.keys[0], feature.dtype, shape);
    ort::Value* const tensor = ort::Output(context_, next_++, shape);
    if (!tensor) return;
    WithType(feature.dtype, [&](auto type) {
      using T = decltype(type);
      const T padding = feature.default_value ? std::get<std::vector<T>>(*feature.default_value)[0] : T{};
      AddPart([=, column = feature.columns[0]](std::size_t c) {
        const Chunk& chunk = chunks_[c];
        const auto& values = std::get<std::vector<T>>(chunk.columns[column].values);
        WriteRows<T>(values, lengths(chunk), stride, chunk.first, width, padding, tensor);
      });
    });
  }

  template <class T>
  static void WriteRows(const std::vector<T>& values, const std::vector<std::int64_t>& lengths, std::int64_t stride,
                        std::size_t first, std::int64_t width, T padding, ort::Value* tensor) {
    Writer<T> writer(tensor);
    const auto row = static_cast<std::size_t>(width);
    std::size_t at = first * row;
    const T* from = values.data();
    for (const std::int64_t length : lengths) {
      const auto count = static_cast<std::size_t>(length * stride);
      writer.Write(at, from, count);
      writer.Pad(at + count, row - count, padding);
      from += count;
      at += row;
    }
  }

  template <class T>
  static void WriteSteps(const std::vector<T>& values, const Column& column, std::size_t first, std::int64_t steps,
                         std::int64_t longest, ort::Value* tensor) {
    Writer<T> writer(tensor);
    const auto width = static_cast<std::size_t>(longest), row = static_cast<std::size_t>(steps) * width;
    const T* from = values.data();
    auto length = column.lengths.begin();
    for (std::size_t i = 0; i < column.steps.size(); ++i) {
      std::size_t at = (first + i) * row;
      const std::size_t end = at + row;
      for (std::int64_t step = 0; step < column.steps[i]; ++step, at += width) {
        const auto count = static_cast<std::size_t>(*length++);
        writer.Write(at, from, count);
        writer.Pad(at + count, width - count, T{});
        from += count;
      }
      writer.Pad(at, end - at, T{});
    }
  }

  template <class T, class Take>
  void WriteSplits(ort::Value* tensor, const Take& limits, const std::vector<std::int64_t>& bases) {
    *ort::Data<T>(tensor) = 0;
    AddPart([this, tensor, limits, bases](std::size_t c) {
      T* to = ort::Data<T>(tensor) + 1 + SizeBefore(c, limits);
      for (const std::int64_t limit : limits(chunks_[c])) *to++ = static_cast<T>(bases[c] + limit);
    });
  }

  ort::KernelContext* const context_;
  const std::vector<Chunk>& chunks_;
  const std::int64_t rows_;
  std::size_t next_ = 0;  // output
  std::vector<Part> parts_;
};

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

// Sets one output after the other, and counts those that are set.
class ShapeWriter {
 public:
  ShapeWriter(const ort::Inference& inference, std::size_t& set)
      : inference_(inference), set_(set), batch_(BatchDimension(inference)) {}

  void Add(const Declared& feature, std::size_t f) {
    key_ = std::to_string(f) + "/" + feature.keys[0];
    const ort::ElementType type = ElementTypeOf(feature.dtype);
    // Features may share a key and still differ in these, so the feature's number makes the names its own.
    const auto named = [&](const char* part) { return Named(std::to_string(f) + "/" + feature.keys[0] + part); };
    const ort::Dimension longest = feature.in_lists() ? named("/longest") : Named(feature.keys[0] + "/longest");
    switch (feature.kind) {
      case Kind::kFixedLen: return Set(type, {batch_}, feature.dims);
      case Kind::kVarLen:
        Set(type, feature.in_lists() ? Dimensions{batch_, named("/steps"), longest} : Dimensions{batch_, longest});
        return Set(ort::kInt64, feature.in_lists() ? Dimensions{batch_, named("/steps")} : Dimensions{batch_});
      case Kind::kFixedLenSequence:
        Set(type, {batch_, longest}, feature.dims);
        if (feature.in_lists()) Set(ort::kInt64, {batch_});
        return;
      case Kind::kSparse: return AddSparse(feature, type, named("/count"));
      case Kind::kRagged:
        Set(type, {named("/count")}, InnerDimensions(feature));
        for (std::size_t level = 0; level < feature.levels(); ++level) {
          Set(feature.splits_type(), {named(("/rows_" + std::to_string(level) + "+1").c_str())});
        }
    }
  }

 private:
  using Dimensions = std::vector<ort::Dimension>;

  static ort::Dimension Named(const std::string& name) { return {-1, name}; }

  void Set(ort::ElementType type, Dimensions shape, const std::vector<std::int64_t>& more = {}) {
    for (const std::int64_t size : more) shape.push_back({size, ""});
    // ONNX Runtime takes -1 without a name for a size, and folds it into what is computed of the shape.
    for (std::size_t i = 0; i < shape.size(); ++i) {
      if (shape[i].size < 0 && shape[i].name.empty()) {
        shape[i].name = key_ + "/" + std::to_string(set_) + "." + std::to_string(i);
      }
    }
    if (inference_.SetOutput(set_, type, shape)) ++set_;
  }

  void AddSparse(const Declared& feature, ort::ElementType type, const ort::Dimension& count) {
    const auto rank = static_cast<std::int64_t>(feature.keys.size());
    Set(ort::kInt64, {count, {rank, ""}});
    Set(type, {count});
    Set(ort::kInt64, {{rank, ""}});
  }

  const ort::Inference& inference_;
  std::size_t& set_;
  const ort::Dimension batch_;
  std::string key_;
};

}  // namespace

// The runtime drops what shape inference has to say against a spec and then complains of missing types. So outputs that
// are left over get some type, and it goes on to make the kernel, whose refusal is heard.
void ExampleParser::InferShapes(Message message, const ort::Inference& inference) {
  std::size_t set = 0;
  try {
    ShapeWriter writer(inference, set);
    const std::vector<Declared> features = ReadFeatures(message, inference);
    for (std::size_t f = 0; f < features.size(); ++f) writer.Add(features[f], f);
  } catch (const ort::Error&) {
  }
  while (inference.SetOutput(set, ort::kFloat, {})) ++set;
}

ExampleParser::ExampleParser(Message message, const ort::Node& node)
    : features_(ReadDeclared(message, node, default_strings_)),
      decoder_(MakeDecoder(message, features_)),
      has_composites_(std::any_of(features_.begin(), features_.end(), std::mem_fn(&Declared::is_composite))) {}

void ExampleParser::Compute(ort::KernelContext* context) const {
  const ort::Value* const values = ort::Input(context, 0);
  const ort::Value* const row_splits = ort::Input(context, 1);
  const std::string_view bytes(ort::Data<char>(values), ort::CountOf(values));
  const std::int64_t* const splits = ort::Data<std::int64_t>(row_splits);
  try {
    const std::size_t count = ort::CountOf(row_splits);
    CheckSplits(bytes, splits, count);
    const std::size_t rows = count - 1;
    std::vector<Chunk> chunks = Split(rows, bytes.size());
    ort::ParallelFor(context, chunks.size(), [&](std::size_t c) {
      Chunk& chunk = chunks[c];
      chunk.columns = decoder_.Decode(bytes, splits, chunk.first, chunk.rows);
      if (!has_composites_) return;
      chunk.composites.resize(features_.size());
      for (std::size_t f = 0; f < features_.size(); ++f) {
        if (features_[f].is_composite()) chunk.composites[f] = Compose(features_[f], chunk);
      }
    });
    BatchWriter writer(context, chunks, rows);
    for (std::size_t f = 0; f < features_.size(); ++f) writer.Add(features_[f], f);
    writer.Write();
  } catch (const ExampleError& error) {
    throw ort::Error(ort::kInvalidArgument, error.what());
  }
}

}  // namespace estimator
