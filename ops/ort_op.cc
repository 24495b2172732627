#include "ort_op.h"

#include <new>

namespace ort {

Api api;

void Check(Status* status) {
  if (!status) return;
  const Error error(api.Call(kGetErrorCode, status), api.Call(kGetErrorMessage, status));
  api.Call(kReleaseStatus, status);
  throw error;
}

Status* ToStatus(std::exception_ptr exception) noexcept {
  try {
    std::rethrow_exception(exception);
  } catch (const Error& error) {
    return api.Call(kCreateStatus, error.code, error.what());
  } catch (const std::bad_alloc&) {
    return api.Call(kCreateStatus, kRuntimeException, "Out of memory; send fewer rows at once.");
  } catch (const std::exception& error) {
    return api.Call(kCreateStatus, kRuntimeException, error.what());
  } catch (...) {
    return api.Call(kCreateStatus, kRuntimeException, "An exception of unknown type.");
  }
}

namespace {

// True if the call went well; for questions whose answer may be no.
bool Succeeds(Status* status) {
  if (status) api.Call(kReleaseStatus, status);
  return !status;
}

struct ReleaseInfo {
  void operator()(TensorTypeAndShapeInfo* info) const { api.Call(kReleaseTensorTypeAndShapeInfo, info); }
};
using OwnedInfo = std::unique_ptr<TensorTypeAndShapeInfo, ReleaseInfo>;

OwnedInfo InfoOf(const Value* tensor) {
  TensorTypeAndShapeInfo* info = nullptr;
  Check(api.Call(kGetTensorTypeAndShape, tensor, &info));
  return OwnedInfo(info);
}

Shape ShapeOf(const TensorTypeAndShapeInfo* info) {
  std::size_t rank = 0;
  Check(api.Call(kGetDimensionsCount, info, &rank));
  Shape shape(rank);
  Check(api.Call(kGetDimensions, info, shape.data(), rank));
  return shape;
}

}  // namespace

ElementType TypeOf(const Value* tensor) {
  ElementType type = kUndefined;
  Check(api.Call(kGetTensorElementType, InfoOf(tensor).get(), &type));
  return type;
}

Shape ShapeOf(const Value* tensor) { return ShapeOf(InfoOf(tensor).get()); }

std::size_t CountOf(const Value* tensor) {
  std::size_t count = 0;
  Check(api.Call(kGetTensorShapeElementCount, InfoOf(tensor).get(), &count));
  return count;
}

Strings::Strings(const Value* tensor) : offsets_(CountOf(tensor) + 1) {
  std::size_t size = 0;
  Check(api.Call(kGetStringTensorDataLength, tensor, &size));
  bytes_.resize(size);
  Check(api.Call(kGetStringTensorContent, tensor, bytes_.data(), size, offsets_.data(), offsets_.size() - 1));
  offsets_.back() = size;
}

void SetString(Value* tensor, std::size_t index, std::string_view bytes) {
  char* buffer = nullptr;
  Check(api.Call(kGetResizedStringElement, tensor, index, bytes.size(), &buffer));
  bytes.copy(buffer, bytes.size());
}

std::size_t InputCount(const KernelContext* context) {
  std::size_t count = 0;
  Check(api.Call(kKernelContextGetInputCount, context, &count));
  return count;
}

const Value* Input(const KernelContext* context, std::size_t index) {
  const Value* tensor = nullptr;
  Check(api.Call(kKernelContextGetInput, context, index, &tensor));
  return tensor;
}

Value* Output(KernelContext* context, std::size_t index, const Shape& shape) {
  Value* tensor = nullptr;
  Check(api.Call(kKernelContextGetOutput, context, index, shape.data(), shape.size(), &tensor));
  return tensor;
}

std::optional<std::int64_t> Node::Int(const char* name) const {
  std::int64_t value = 0;
  if (!Succeeds(api.Call(kKernelInfoGetInt, info_, name, &value))) return std::nullopt;
  return value;
}

std::optional<std::vector<std::int64_t>> Node::Ints(const char* name) const {
  std::size_t count = 0;
  if (!Succeeds(api.Call(kKernelInfoGetInts, info_, name, nullptr, &count))) return std::nullopt;
  std::vector<std::int64_t> ints(count);
  Check(api.Call(kKernelInfoGetInts, info_, name, ints.data(), &count));
  return ints;
}

std::optional<std::string> Node::String(const char* name) const {
  std::size_t size = 0;
  if (!Succeeds(api.Call(kKernelInfoGetString, info_, name, nullptr, &size))) return std::nullopt;
  std::string text(size, '\0');
  Check(api.Call(kKernelInfoGetString, info_, name, text.data(), &size));
  text.resize(size - 1);  // the size counts a NUL at the end
  return text;
}

OwnedTensor Node::Tensor(const char* name) const {
  Allocator* allocator = nullptr;
  Check(api.Call(kGetAllocatorWithDefaultOptions, &allocator));
  Value* tensor = nullptr;
  try {
    Check(api.Call(kKernelInfoGetTensor, info_, name, allocator, &tensor));
  } catch (const Error& error) {
    // The same code as for an attribute that is not there; only the text tells them apart.
    if (std::string_view(error.what()).find("type don't match") == std::string_view::npos) return nullptr;
    throw Error(kInvalidArgument, std::string("The attribute ") + name + " is not a tensor; give it as one.");
  }
  return OwnedTensor(tensor);
}

std::size_t Node::OutputCount() const {
  std::size_t count = 0;
  Check(api.Call(kKernelInfoGetOutputCount, info_, &count));
  return count;
}

const OpAttribute* Inference::Attribute(const char* name) const {
  const OpAttribute* attribute = nullptr;
  return Succeeds(api.Call(kInferGetAttribute, context_, name, &attribute)) ? attribute : nullptr;
}

std::optional<std::vector<std::int64_t>> Inference::Ints(const char* name) const {
  const OpAttribute* attribute = Attribute(name);
  if (!attribute) return std::nullopt;
  std::size_t size = 0;
  Succeeds(api.Call(kReadAttribute, attribute, kInts, nullptr, std::size_t{0}, &size));  // fails, and says the size
  std::vector<std::int64_t> ints(size / sizeof(std::int64_t));
  Check(api.Call(kReadAttribute, attribute, kInts, ints.data(), size, &size));
  return ints;
}

std::optional<std::string> Inference::String(const char* name) const {
  const OpAttribute* attribute = Attribute(name);
  if (!attribute) return std::nullopt;
  std::size_t size = 0;
  Succeeds(api.Call(kReadAttribute, attribute, kStringAttribute, nullptr, std::size_t{0}, &size));
  std::string text(size + 1, '\0');  // some runtimes count a NUL at the end and others write it uncounted
  Check(api.Call(kReadAttribute, attribute, kStringAttribute, text.data(), text.size(), &size));
  return text.c_str();
}

std::vector<Dimension> Inference::InputShape(std::size_t index) const {
  TensorTypeAndShapeInfo* info = nullptr;  // the context keeps it
  Check(api.Call(kInferGetInput, context_, index, &info));
  const Shape sizes = ShapeOf(info);
  std::vector<const char*> names(sizes.size());
  Check(api.Call(kGetSymbolicDimensions, info, names.data(), names.size()));
  std::vector<Dimension> shape;
  for (std::size_t i = 0; i < sizes.size(); ++i) shape.push_back({sizes[i], names[i]});
  return shape;
}

bool Inference::SetOutput(std::size_t index, ElementType type, const std::vector<Dimension>& shape) const {
  Shape sizes;
  std::vector<const char*> names;
  for (const Dimension& dimension : shape) {
    sizes.push_back(dimension.size);
    names.push_back(dimension.name.c_str());
  }
  TensorTypeAndShapeInfo* created = nullptr;
  Check(api.Call(kCreateTensorTypeAndShapeInfo, &created));
  const OwnedInfo info(created);
  Check(api.Call(kSetTensorElementType, created, type));
  Check(api.Call(kSetDimensions, created, sizes.data(), sizes.size()));
  Check(api.Call(kSetSymbolicDimensions, created, names.data(), names.size()));
  return Succeeds(api.Call(kInferSetOutput, context_, index, created));
}

}  // namespace ort
