// Text as TensorFlow's string ops treat it, byte by byte.
//
//     SipHash64          key         ints    two numbers, read as unsigned: the 128 bits of the key
//     LowerText                              only A to Z become others
//     ReplaceCharacters  characters  string  each of these bytes becomes
//                        replacement string  this, which may be empty
//     SplitWords                             words are what stands between spaces, tabs and line ends
//     FormatNumbers      notation    string  d for integers; f, e or g for floats, as in C's printf
//                        precision   int     digits behind the point, or -1 for printf's own six
//                        width       int     how wide the text is at least, or -1
//                        fill        string  '' or one of printf's flags: ' ', '+', '-', '0' or '#'
#include <algorithm>
#include <array>
#include <cstdio>
#include <string>
#include <string_view>

#include "ops.h"
#include "padded.h"

namespace estimator {
namespace {

// A small crafted request can ask for rows as wide as its longest one; so many words are enough for any honest one.
constexpr std::size_t kMaxWords = std::size_t{1} << 24;

// What printf is asked for at most, where a graph names a width or a precision: a text for each number has to fit.
constexpr std::int64_t kMaxDigits = 1024;

constexpr std::uint64_t Rotate(std::uint64_t value, int bits) { return (value << bits) | (value >> (64 - bits)); }

std::uint64_t LittleEndian(std::string_view bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) value = (value << 8) | static_cast<unsigned char>(bytes[i]);
  return value;
}

// Aumasson's and Bernstein's SipHash-2-4.
class SipState {
 public:
  SipState(std::uint64_t key_0, std::uint64_t key_1)
      : v_{key_0 ^ 0x736f6d6570736575, key_1 ^ 0x646f72616e646f6d, key_0 ^ 0x6c7967656e657261,
           key_1 ^ 0x7465646279746573} {}

  void Take(std::uint64_t word) {
    v_[3] ^= word;
    Rounds(2);
    v_[0] ^= word;
  }

  std::uint64_t Finish() {
    v_[2] ^= 0xff;
    Rounds(4);
    return v_[0] ^ v_[1] ^ v_[2] ^ v_[3];
  }

 private:
  void Rounds(int count) {
    for (int i = 0; i < count; ++i) {
      v_[0] += v_[1];
      v_[1] = Rotate(v_[1], 13) ^ v_[0];
      v_[0] = Rotate(v_[0], 32);
      v_[2] += v_[3];
      v_[3] = Rotate(v_[3], 16) ^ v_[2];
      v_[0] += v_[3];
      v_[3] = Rotate(v_[3], 21) ^ v_[0];
      v_[2] += v_[1];
      v_[1] = Rotate(v_[1], 17) ^ v_[2];
      v_[2] = Rotate(v_[2], 32);
    }
  }

  std::array<std::uint64_t, 4> v_;
};

std::uint64_t SipHash(std::uint64_t key_0, std::uint64_t key_1, std::string_view bytes) {
  SipState state(key_0, key_1);
  std::size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) state.Take(LittleEndian(bytes.substr(i, 8)));
  state.Take(LittleEndian(bytes.substr(i)) | static_cast<std::uint64_t>(bytes.size()) << 56);
  return state.Finish();
}

bool IsSpace(char byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }

// The words of a text, in order.
template <class Take>
void ForEachWord(std::string_view text, Take take) {
  std::size_t i = 0;
  while (true) {
    while (i < text.size() && IsSpace(text[i])) ++i;
    if (i == text.size()) return;
    const std::size_t begin = i;
    while (i < text.size() && !IsSpace(text[i])) ++i;
    take(text.substr(begin, i - begin));
  }
}

// Writes what `change` makes of every string.
template <class Change>
void MapStrings(ort::KernelContext* context, Change change) {
  const ort::Value* const input = ort::Input(context, 0);
  const ort::Strings strings(input);
  ort::Value* const output = ort::Output(context, 0, ort::ShapeOf(input));
  for (std::size_t i = 0; i < strings.size(); ++i) ort::SetString(output, i, change(strings[i]));
}

}  // namespace

void InferSameShape(const ort::Inference& inference, ort::ElementType type) {
  const std::vector<ort::Dimension> shape = inference.InputShape(0);
  for (const ort::Dimension& dimension : shape) {
    if (dimension.size < 0 && dimension.name.empty()) return;  // the ABI cannot pass on what is just unknown
  }
  if (!shape.empty()) inference.SetOutput(0, type, shape);
}

SipHash64::SipHash64(const ort::Node& node) {
  const std::vector<std::int64_t> key = node.Ints("key").value_or(std::vector<std::int64_t>());
  if (key.size() != 2) {
    Refuse("SipHash64: the attribute key has " + std::to_string(key.size()) + " numbers; give two of 64 bits.");
  }
  key_0_ = static_cast<std::uint64_t>(key[0]);
  key_1_ = static_cast<std::uint64_t>(key[1]);
}

void SipHash64::Compute(ort::KernelContext* context) const {
  const ort::Value* const input = ort::Input(context, 0);
  const ort::Strings strings(input);
  auto* hashes = ort::Data<std::uint64_t>(ort::Output(context, 0, ort::ShapeOf(input)));
  for (std::size_t i = 0; i < strings.size(); ++i) hashes[i] = SipHash(key_0_, key_1_, strings[i]);
}

void LowerText::Compute(ort::KernelContext* context) const {
  MapStrings(context, [](std::string_view text) {
    std::string lower(text);
    for (char& byte : lower) {
      if (byte >= 'A' && byte <= 'Z') byte += 'a' - 'A';
    }
    return lower;
  });
}

ReplaceCharacters::ReplaceCharacters(const ort::Node& node)
    : characters_(node.String("characters").value_or("")), replacement_(node.String("replacement").value_or("")) {
  if (characters_.empty()) Refuse("ReplaceCharacters: the attribute characters is empty; give the bytes to replace.");
}

void ReplaceCharacters::Compute(ort::KernelContext* context) const {
  MapStrings(context, [this](std::string_view text) {
    std::string replaced;
    replaced.reserve(text.size());
    for (const char byte : text) {
      if (characters_.find(byte) == std::string::npos) {
        replaced += byte;
      } else {
        replaced += replacement_;
      }
    }
    return replaced;
  });
}

FormatNumbers::FormatNumbers(const ort::Node& node) {
  const std::string notation = node.String("notation").value_or("");
  const std::string fill = node.String("fill").value_or("");
  if (notation.size() != 1 || std::string("dfeg").find(notation) == std::string::npos) {
    Refuse("FormatNumbers: the attribute notation is '" + notation + "'; give d, f, e or g.");
  }
  if (fill.size() > 1 || std::string(" +-0#").find(fill) == std::string::npos) {
    Refuse("FormatNumbers: the attribute fill is '" + fill + "'; give one of ' ', '+', '-', '0' and '#', or nothing.");
  }
  const std::int64_t width = node.Int("width").value_or(-1);
  const std::int64_t precision = node.Int("precision").value_or(-1);
  if (width > kMaxDigits || precision > kMaxDigits) {
    Refuse("FormatNumbers: the attributes width and precision are at most " + std::to_string(kMaxDigits) + ".");
  }
  is_integer_ = notation == "d";
  format_ = "%" + fill;
  if (width >= 0) format_ += std::to_string(width);
  if (precision >= 0 && !is_integer_) format_ += "." + std::to_string(precision);
  format_ += is_integer_ ? "lld" : notation;
}

void FormatNumbers::InferShapes(const ort::Inference& inference) { InferSameShape(inference, ort::kString); }

void FormatNumbers::Compute(ort::KernelContext* context) const {
  const ort::Value* const input = ort::Input(context, 0);
  if (ort::TypeOf(input) != (is_integer_ ? ort::kInt64 : ort::kDouble)) {
    Refuse(std::string("FormatNumbers: the numbers are of another type; feed ") + (is_integer_ ? "int64." : "double."));
  }
  const std::size_t count = ort::CountOf(input);
  ort::Value* const output = ort::Output(context, 0, ort::ShapeOf(input));
  std::string text;
  const auto write = [&](std::size_t i, auto number) {
    text.resize(static_cast<std::size_t>(std::snprintf(nullptr, 0, format_.c_str(), number)) + 1);
    std::snprintf(text.data(), text.size(), format_.c_str(), number);
    ort::SetString(output, i, std::string_view(text).substr(0, text.size() - 1));
  };
  if (is_integer_) {
    const auto* const numbers = ort::Data<std::int64_t>(input);
    for (std::size_t i = 0; i < count; ++i) write(i, static_cast<long long>(numbers[i]));
  } else {
    const auto* const numbers = ort::Data<double>(input);
    for (std::size_t i = 0; i < count; ++i) write(i, numbers[i]);
  }
}

void SplitWords::InferShapes(const ort::Inference& inference) {
  const std::vector<ort::Dimension> shape = inference.InputShape(0);
  const ort::Dimension rows = shape.size() == 1 && (shape[0].size >= 0 || !shape[0].name.empty())
                                  ? shape[0]
                                  : ort::Dimension{-1, "SplitWords/rows"};
  inference.SetOutput(0, ort::kString, {rows, {-1, "SplitWords/words"}});
  inference.SetOutput(1, ort::kInt64, {rows});
}

void SplitWords::Compute(ort::KernelContext* context) const {
  const ort::Value* const input = ort::Input(context, 0);
  const ort::Shape shape = ort::ShapeOf(input);
  if (shape.size() != 1) Refuse("SplitWords: the texts are not a vector; feed them as [batch].");
  const ort::Strings texts(input);
  std::vector<std::int64_t> counts(texts.size());
  std::size_t longest = 0;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    ForEachWord(texts[i], [&](std::string_view) { ++counts[i]; });
    longest = std::max(longest, static_cast<std::size_t>(counts[i]));
  }
  if (longest > 0 && texts.size() > kMaxWords / longest) {
    Refuse("SplitWords: " + std::to_string(texts.size()) + " texts, the longest of " + std::to_string(longest) +
           " words, are more than one run takes; send fewer rows, or shorter ones.");
  }
  ort::Value* const words = ort::Output(context, 0, {shape[0], static_cast<std::int64_t>(longest)});
  for (std::size_t i = 0; words && i < texts.size(); ++i) {
    std::size_t at = i * longest;
    ForEachWord(texts[i], [&](std::string_view word) { ort::SetString(words, at++, word); });
  }
  if (ort::Value* const lengths = ort::Output(context, 1, shape)) {
    std::copy(counts.begin(), counts.end(), ort::Data<std::int64_t>(lengths));
  }
}

}  // namespace estimator
