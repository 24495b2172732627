// The slice of ONNX Runtime's C ABI that the op library uses. Owns the table indices and the layout of OrtCustomOp;
// knows nothing of any op.
//
// ONNX Runtime's wheels ship no headers, and the library must not depend on a copy of them. It needs none: the ABI is
// one table of function pointers, OrtApi, that is only ever appended to. An entry's index is therefore as stable as its
// name, and GetApi(version) hands out the table if the runtime is at least that version. The indices below were counted
// in onnxruntime_c_api.h and are exercised by the tests on the runtime that is installed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ort {

// Opaque in the ABI: only ever held by pointer.
struct Allocator;
struct CustomOpDomain;
struct KernelContext;
struct KernelInfo;
struct OpAttribute;
struct SessionOptions;
struct InferContext;
struct Status;
struct TensorTypeAndShapeInfo;
struct Value;

enum ErrorCode : int { kFail = 1, kInvalidArgument = 2, kRuntimeException = 6, kInvalidGraph = 10 };

// ONNXTensorElementDataType; the numbers are ONNX's own. kUndefined stands for "any" in an op's declaration.
enum ElementType : int {
  kUndefined = 0,
  kFloat = 1,
  kUint8 = 2,
  kInt32 = 6,
  kInt64 = 7,
  kString = 8,
  kBool = 9,
  kDouble = 11,
  kUint64 = 13
};

enum AttributeType : int { kInts = 2, kStringAttribute = 5 };

enum Characteristic : int { kRequired = 0, kVariadic = 2 };

enum MemoryType : int { kDefaultMemory = 0 };

// Every entry below is in the table from this version on.
inline constexpr std::uint32_t kApiVersion = 18;
inline constexpr char kOldestRuntime[] = "1.18";

// How OrtCustomOp below ends: with GetEndVersion. The runtime reads no member that came after this version.
inline constexpr std::uint32_t kCustomOpVersion = 17;

// ---- the table ----------------------------------------------------------------------------------------------------

template <class Signature>
struct Entry {
  std::size_t index;
};

inline constexpr Entry<Status*(ErrorCode, const char* text)> kCreateStatus{0};
inline constexpr Entry<ErrorCode(const Status*)> kGetErrorCode{1};
inline constexpr Entry<const char*(const Status*)> kGetErrorMessage{2};
inline constexpr Entry<Status*(const char* name, CustomOpDomain**)> kCreateCustomOpDomain{26};
inline constexpr Entry<Status*(CustomOpDomain*, const void* custom_op)> kCustomOpDomainAdd{27};
inline constexpr Entry<Status*(SessionOptions*, CustomOpDomain*)> kAddCustomOpDomain{28};
inline constexpr Entry<Status*(Value*, void**)> kGetTensorMutableData{51};
inline constexpr Entry<Status*(const Value*, std::size_t*)> kGetStringTensorDataLength{53};
inline constexpr Entry<Status*(const Value*, void* bytes, std::size_t size, std::size_t* offsets, std::size_t count)>
    kGetStringTensorContent{54};
inline constexpr Entry<Status*(TensorTypeAndShapeInfo**)> kCreateTensorTypeAndShapeInfo{57};
inline constexpr Entry<Status*(TensorTypeAndShapeInfo*, ElementType)> kSetTensorElementType{58};
inline constexpr Entry<Status*(TensorTypeAndShapeInfo*, const std::int64_t*, std::size_t)> kSetDimensions{59};
inline constexpr Entry<Status*(const TensorTypeAndShapeInfo*, ElementType*)> kGetTensorElementType{60};
inline constexpr Entry<Status*(const TensorTypeAndShapeInfo*, std::size_t*)> kGetDimensionsCount{61};
inline constexpr Entry<Status*(const TensorTypeAndShapeInfo*, std::int64_t*, std::size_t)> kGetDimensions{62};
inline constexpr Entry<Status*(const TensorTypeAndShapeInfo*, const char**, std::size_t)> kGetSymbolicDimensions{63};
inline constexpr Entry<Status*(const TensorTypeAndShapeInfo*, std::size_t*)> kGetTensorShapeElementCount{64};
inline constexpr Entry<Status*(const Value*, TensorTypeAndShapeInfo**)> kGetTensorTypeAndShape{65};
inline constexpr Entry<Status*(Allocator**)> kGetAllocatorWithDefaultOptions{78};
inline constexpr Entry<Status*(const KernelInfo*, const char* name, std::int64_t*)> kKernelInfoGetInt{86};
inline constexpr Entry<Status*(const KernelInfo*, const char* name, char*, std::size_t*)> kKernelInfoGetString{87};
inline constexpr Entry<Status*(const KernelContext*, std::size_t*)> kKernelContextGetInputCount{88};
inline constexpr Entry<Status*(const KernelContext*, std::size_t, const Value**)> kKernelContextGetInput{90};
inline constexpr Entry<Status*(KernelContext*, std::size_t, const std::int64_t*, std::size_t, Value**)>
    kKernelContextGetOutput{91};
inline constexpr Entry<void(Status*)> kReleaseStatus{93};
inline constexpr Entry<void(Value*)> kReleaseValue{96};
inline constexpr Entry<void(TensorTypeAndShapeInfo*)> kReleaseTensorTypeAndShapeInfo{99};
inline constexpr Entry<Status*(const KernelInfo*, const char*, std::int64_t*, std::size_t*)> kKernelInfoGetInts{163};
inline constexpr Entry<Status*(const KernelInfo*, std::size_t*)> kKernelInfoGetOutputCount{231};
inline constexpr Entry<Status*(const KernelInfo*, const char* name, Allocator*, Value**)> kKernelInfoGetTensor{236};
inline constexpr Entry<Status*(Value*, std::size_t index, std::size_t size, char**)> kGetResizedStringElement{252};
inline constexpr Entry<Status*(const InferContext*, std::size_t, TensorTypeAndShapeInfo**)> kInferGetInput{268};
inline constexpr Entry<Status*(const InferContext*, const char* name, const OpAttribute**)> kInferGetAttribute{269};
inline constexpr Entry<Status*(const InferContext*, std::size_t, const TensorTypeAndShapeInfo*)> kInferSetOutput{270};
inline constexpr Entry<Status*(TensorTypeAndShapeInfo*, const char**, std::size_t)> kSetSymbolicDimensions{271};
inline constexpr Entry<Status*(const OpAttribute*, AttributeType, void* data, std::size_t size, std::size_t* needed)>
    kReadAttribute{272};
inline constexpr Entry<Status*(const KernelContext*, void (*action)(void* data, std::size_t index), std::size_t total,
                               std::size_t batches, void* data)>
    kKernelContextParallelFor{274};

// What RegisterCustomOps is given.
struct ApiBase {
  const void* (*get_api)(std::uint32_t version);
  const char* (*get_version)();
};

// The table with its types back. An entry brings its signature, so a call is checked like any other.
class Api {
 public:
  Api() = default;
  explicit Api(const void* table) : table_(static_cast<const Function*>(table)) {}

  template <class Result, class... Parameters, class... Arguments>
  Result Call(Entry<Result(Parameters...)> entry, Arguments... arguments) const {
    return reinterpret_cast<Result (*)(Parameters...)>(table_[entry.index])(arguments...);
  }

 private:
  using Function = void (*)();
  const Function* table_ = nullptr;
};

// ---- OrtCustomOp --------------------------------------------------------------------------------------------------

// What the library hands to the runtime for each op. The runtime calls every one of these for an op of this version,
// the two marked V1 excepted: a null pointer anywhere else is a crash.
struct CustomOp {
  std::uint32_t version;
  void* (*create_kernel_v1)(const CustomOp*, const void* api, const KernelInfo*);
  const char* (*get_name)(const CustomOp*);
  const char* (*get_execution_provider)(const CustomOp*);
  ElementType (*get_input_type)(const CustomOp*, std::size_t index);
  std::size_t (*get_input_count)(const CustomOp*);
  ElementType (*get_output_type)(const CustomOp*, std::size_t index);
  std::size_t (*get_output_count)(const CustomOp*);
  void (*compute_v1)(void* kernel, KernelContext*);
  void (*destroy_kernel)(void* kernel);
  Characteristic (*get_input_characteristic)(const CustomOp*, std::size_t index);
  Characteristic (*get_output_characteristic)(const CustomOp*, std::size_t index);
  MemoryType (*get_input_memory_type)(const CustomOp*, std::size_t index);
  int (*get_variadic_input_min_arity)(const CustomOp*);
  int (*get_variadic_input_homogeneity)(const CustomOp*);
  int (*get_variadic_output_min_arity)(const CustomOp*);
  int (*get_variadic_output_homogeneity)(const CustomOp*);
  Status* (*create_kernel)(const CustomOp*, const void* api, const KernelInfo*, void** kernel);
  Status* (*compute)(void* kernel, KernelContext*);
  Status* (*infer_output_shapes)(const CustomOp*, InferContext*);
  int (*get_start_version)(const CustomOp*);
  int (*get_end_version)(const CustomOp*);
};

}  // namespace ort
