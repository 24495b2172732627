// What an op sees of ONNX Runtime: tensors, attributes, errors, and the declaration made from its class. Owns the
// border between C++ and the C ABI: calls that fail throw ort::Error inside, and no exception gets out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "ort_abi.h"

namespace ort {

// Some callbacks are given the table and shape inference is not, so the library keeps the one it was registered with.
extern Api api;

// A sentence for the user and the code the runtime reports it under; in Python the code picks the exception's class.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode error_code, const std::string& text) : std::runtime_error(text), code(error_code) {}
  const ErrorCode code;
};

// Throws Error unless the status is null, which means that all went well. Takes the status.
void Check(Status* status);

// What the ABI understands of an exception.
Status* ToStatus(std::exception_ptr exception) noexcept;

template <class Action>
Status* Guard(Action action) noexcept {
  try {
    action();
    return nullptr;
  } catch (...) {
    return ToStatus(std::current_exception());
  }
}

// ---- tensors ------------------------------------------------------------------------------------------------------

using Shape = std::vector<std::int64_t>;

ElementType TypeOf(const Value* tensor);
Shape ShapeOf(const Value* tensor);
std::size_t CountOf(const Value* tensor);

template <class T>
T* Data(const Value* tensor) {
  void* data = nullptr;
  Check(api.Call(kGetTensorMutableData, const_cast<Value*>(tensor), &data));  // the one entry, for reading as well
  return static_cast<T*>(data);
}

// The elements of a string tensor, copied out in one call.
class Strings {
 public:
  explicit Strings(const Value* tensor);
  std::size_t size() const { return offsets_.size() - 1; }
  std::string_view operator[](std::size_t i) const {
    return std::string_view(bytes_).substr(offsets_[i], offsets_[i + 1] - offsets_[i]);
  }

 private:
  std::string bytes_;
  std::vector<std::size_t> offsets_;  // one more than there are elements
};

// Writes one element of a string tensor. Through the runtime, which alone knows how its strings are laid out; by size,
// since the entry that takes a C string would cut bytes at their first NUL.
void SetString(Value* tensor, std::size_t index, std::string_view bytes);

std::size_t InputCount(const KernelContext* context);
const Value* Input(const KernelContext* context, std::size_t index);

// Null where the graph leaves this output unnamed, because nobody reads it.
Value* Output(KernelContext* context, std::size_t index, const Shape& shape);

// ---- threads ------------------------------------------------------------------------------------------------------

// Calls action(i) for every i below `count`, on the threads of the session where there is more than one. If some throw,
// what the lowest i threw is thrown here, after all have ended.
template <class Action>
void ParallelFor(const KernelContext* context, std::size_t count, const Action& action) {
  if (count == 1) return action(std::size_t{0});
  struct Work {
    const Action& action;
    std::vector<std::exception_ptr> thrown;
  } work{action, std::vector<std::exception_ptr>(count)};
  const auto run = [](void* data, std::size_t i) {
    Work& shared = *static_cast<Work*>(data);
    try {
      shared.action(i);
    } catch (...) {
      shared.thrown[i] = std::current_exception();
    }
  };
  // The runtime chooses how many are run in one go.
  Check(api.Call(kKernelContextParallelFor, context, run, count, std::size_t{0}, static_cast<void*>(&work)));
  for (const std::exception_ptr& exception : work.thrown) {
    if (exception) std::rethrow_exception(exception);
  }
}

// ---- attributes and inferred shapes -------------------------------------------------------------------------------

struct ReleaseTensor {
  void operator()(Value* tensor) const { api.Call(kReleaseValue, tensor); }
};
using OwnedTensor = std::unique_ptr<Value, ReleaseTensor>;

// A node while its kernel is made. An attribute that is not there is empty, and so is one of another type; a tensor of
// another type is refused.
class Node {
 public:
  explicit Node(const KernelInfo* info) : info_(info) {}
  std::optional<std::int64_t> Int(const char* name) const;
  std::optional<std::vector<std::int64_t>> Ints(const char* name) const;
  std::optional<std::string> String(const char* name) const;
  OwnedTensor Tensor(const char* name) const;
  std::size_t OutputCount() const;

 private:
  const KernelInfo* info_;
};

// A dimension of an inferred shape: a number, or a name where the number is known only when the graph runs. Two
// dimensions of one name must be equal at run time, for the runtime plans its memory by that.
struct Dimension {
  std::int64_t size = -1;
  std::string name;
};

// A node while the shapes of its outputs are inferred.
class Inference {
 public:
  explicit Inference(InferContext* context) : context_(context) {}
  std::optional<std::vector<std::int64_t>> Ints(const char* name) const;
  std::optional<std::string> String(const char* name) const;
  // Empty for an unknown rank and for a scalar: the ABI shows both alike.
  std::vector<Dimension> InputShape(std::size_t index) const;
  // False where the node has no such output.
  bool SetOutput(std::size_t index, ElementType type, const std::vector<Dimension>& shape) const;

 private:
  const OpAttribute* Attribute(const char* name) const;
  InferContext* context_;
};

// ---- the declaration ----------------------------------------------------------------------------------------------

// What the runtime is told of an op, made from its class:
//
//     static constexpr const char* kName;
//     static constexpr ElementType kInputs[];          every input is required; kUndefined alone: any number of any type
//     static constexpr ElementType kOutput;            kUndefined: any number of outputs, typed by InferShapes
//     static void InferShapes(const Inference&);
//     explicit Op(const Node&);
//     void Compute(KernelContext*) const;              called from several threads at once
template <class Op>
const CustomOp* Declaration() {
  constexpr bool variadic = Op::kOutput == kUndefined;
  constexpr bool variadic_input = Op::kInputs[0] == kUndefined;
  static constexpr CustomOp declaration = {
      kCustomOpVersion,
      /*create_kernel_v1=*/nullptr,
      /*get_name=*/[](const CustomOp*) { return Op::kName; },
      /*get_execution_provider=*/[](const CustomOp*) { return "CPUExecutionProvider"; },
      /*get_input_type=*/[](const CustomOp*, std::size_t index) { return Op::kInputs[index]; },
      /*get_input_count=*/[](const CustomOp*) { return sizeof(Op::kInputs) / sizeof(Op::kInputs[0]); },
      /*get_output_type=*/[](const CustomOp*, std::size_t) { return Op::kOutput; },
      /*get_output_count=*/[](const CustomOp*) { return std::size_t{1}; },
      /*compute_v1=*/nullptr,
      /*destroy_kernel=*/[](void* kernel) { delete static_cast<Op*>(kernel); },
      /*get_input_characteristic=*/[](const CustomOp*, std::size_t) { return variadic_input ? kVariadic : kRequired; },
      /*get_output_characteristic=*/[](const CustomOp*, std::size_t) { return variadic ? kVariadic : kRequired; },
      /*get_input_memory_type=*/[](const CustomOp*, std::size_t) { return kDefaultMemory; },
      /*get_variadic_input_min_arity=*/[](const CustomOp*) { return 1; },
      /*get_variadic_input_homogeneity=*/[](const CustomOp*) { return variadic_input ? 0 : 1; },
      /*get_variadic_output_min_arity=*/[](const CustomOp*) { return 1; },
      /*get_variadic_output_homogeneity=*/[](const CustomOp*) { return 0; },
      /*create_kernel=*/
      [](const CustomOp*, const void*, const KernelInfo* info, void** kernel) {
        return Guard([&] { *kernel = new Op(Node(info)); });
      },
      /*compute=*/
      [](void* kernel, KernelContext* context) {
        return Guard([&] { static_cast<const Op*>(kernel)->Compute(context); });
      },
      /*infer_output_shapes=*/
      [](const CustomOp*, InferContext* context) { return Guard([&] { Op::InferShapes(Inference(context)); }); },
      /*get_start_version=*/[](const CustomOp*) { return 1; },
      /*get_end_version=*/[](const CustomOp*) { return 1; },
  };
  return &declaration;
}

}  // namespace ort
