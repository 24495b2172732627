// Text as characters and as runs of words, as TensorFlow's string ops treat it.
//
//     DecodeCharacters             UTF-8; each part that is none becomes U+FFFD, as the WHATWG's decoder does
//     EncodeCharacters             what is no character becomes U+FFFD
//     WordGrams         widths     ints    how many words are joined; all runs of the first width come first
//                       separator  string  stands between them
#include <algorithm>
#include <string>
#include <string_view>

#include "ops.h"
#include "padded.h"

namespace estimator {
namespace {

// As for SplitWords: enough for any honest request.
constexpr std::size_t kMaxElements = std::size_t{1} << 24;
constexpr std::int32_t kReplacement = 0xfffd;

// The character that begins at text[at], which moves behind it. Of a sequence that is cut or wrong its longest correct
// beginning is taken.
std::int32_t NextCharacter(std::string_view text, std::size_t& at) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i])); };
  const std::uint32_t first = byte(at++);
  if (first < 0x80) return static_cast<std::int32_t>(first);
  const int more = first >= 0xc2 && first <= 0xdf ? 1 : first >= 0xe0 && first <= 0xef ? 2 : first >= 0xf0 && first <= 0xf4 ? 3 : 0;
  if (more == 0) return kReplacement;
  std::uint32_t code = first & (0x3fu >> more);
  for (int i = 0; i < more; ++i) {
    if (at == text.size()) return kReplacement;
    const std::uint32_t next = byte(at);
    // Overlong forms, surrogates and what lies beyond U+10FFFF are seen in the second byte.
    const std::uint32_t low = i > 0 ? 0x80u : first == 0xe0 ? 0xa0u : first == 0xf0 ? 0x90u : 0x80u;
    const std::uint32_t high = i > 0 ? 0xbfu : first == 0xed ? 0x9fu : first == 0xf4 ? 0x8fu : 0xbfu;
    if (next < low || next > high) return kReplacement;
    code = (code << 6) | (next & 0x3f);
    ++at;
  }
  return static_cast<std::int32_t>(code);
}

// Surrogates are no characters, and neither are U+FDD0 to U+FDEF and the last two of each 65536.
bool IsCharacter(std::int32_t number) {
  if (number < 0 || number > 0x10ffff || (number >= 0xd800 && number <= 0xdfff)) return false;
  return (number < 0xfdd0 || number > 0xfdef) && (number & 0xfffe) != 0xfffe;
}

void AppendCharacter(std::string& text, std::int32_t number) {
  const auto code = static_cast<std::uint32_t>(IsCharacter(number) ? number : kReplacement);
  const auto append = [&](std::uint32_t byte) { text += static_cast<char>(byte); };
  const auto follow = [&](int shift) { append(0x80 | ((code >> shift) & 0x3f)); };
  if (code < 0x80) {
    append(code);
  } else if (code < 0x800) {
    append(0xc0 | (code >> 6));
    follow(0);
  } else if (code < 0x10000) {
    append(0xe0 | (code >> 12));
    follow(6);
    follow(0);
  } else {
    append(0xf0 | (code >> 18));
    follow(12);
    follow(6);
    follow(0);
  }
}

void RefuseSize(const char* op, std::size_t rows, std::size_t longest) {
  if (longest > 0 && rows > kMaxElements / longest) {
    Refuse(std::string(op) + ": " + std::to_string(rows) + " rows, the longest of " + std::to_string(longest) +
           " elements, are more than one run takes; send fewer rows, or shorter ones.");
  }
}

void InferPadded(const ort::Inference& inference, ort::ElementType type, const std::string& name) {
  const std::vector<ort::Dimension> shape = inference.InputShape(0);
  const ort::Dimension rows = !shape.empty() && (shape[0].size >= 0 || !shape[0].name.empty())
                                  ? shape[0]
                                  : ort::Dimension{-1, name + "/rows"};
  inference.SetOutput(0, type, {rows, {-1, name + "/width"}});
  inference.SetOutput(1, ort::kInt64, {rows});
}

void WriteLengths(ort::KernelContext* context, const std::vector<std::int64_t>& counts) {
  ort::Value* const lengths = ort::Output(context, 1, {static_cast<std::int64_t>(counts.size())});
  if (lengths) std::copy(counts.begin(), counts.end(), ort::Data<std::int64_t>(lengths));
}

}  // namespace

void DecodeCharacters::InferShapes(const ort::Inference& inference) { InferPadded(inference, ort::kInt32, kName); }

void DecodeCharacters::Compute(ort::KernelContext* context) const {
  const ort::Value* const input = ort::Input(context, 0);
  const ort::Shape shape = ort::ShapeOf(input);
  if (shape.size() != 1) Refuse("DecodeCharacters: the texts are not a vector; feed them as [batch].");
  const ort::Strings texts(input);
  std::vector<std::vector<std::int32_t>> rows(texts.size());
  std::vector<std::int64_t> counts(texts.size());
  std::size_t longest = 0;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    for (std::size_t at = 0; at < texts[i].size();) rows[i].push_back(NextCharacter(texts[i], at));
    counts[i] = static_cast<std::int64_t>(rows[i].size());
    longest = std::max(longest, rows[i].size());
  }
  RefuseSize(kName, rows.size(), longest);
  if (ort::Value* const codes = ort::Output(context, 0, {shape[0], static_cast<std::int64_t>(longest)})) {
    auto* const data = ort::Data<std::int32_t>(codes);
    std::fill(data, data + rows.size() * longest, 0);
    for (std::size_t i = 0; i < rows.size(); ++i) std::copy(rows[i].begin(), rows[i].end(), data + i * longest);
  }
  WriteLengths(context, counts);
}

void EncodeCharacters::Compute(ort::KernelContext* context) const {
  const ort::Value* const input = ort::Input(context, 0);
  const std::size_t count = ort::CountOf(input);
  const auto* const codes = ort::Data<std::int32_t>(input);
  ort::Value* const output = ort::Output(context, 0, ort::ShapeOf(input));
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    text.clear();
    AppendCharacter(text, codes[i]);
    ort::SetString(output, i, text);
  }
}

WordGrams::WordGrams(const ort::Node& node)
    : separator_(node.String("separator").value_or("")), widths_(node.Ints("widths").value_or(std::vector<std::int64_t>())) {
  if (widths_.empty() || *std::min_element(widths_.begin(), widths_.end()) < 1) {
    Refuse("WordGrams: the attribute widths holds no numbers from 1; give how many words are joined.");
  }
}

void WordGrams::InferShapes(const ort::Inference& inference) { InferPadded(inference, ort::kString, kName); }

void WordGrams::Compute(ort::KernelContext* context) const {
  const ort::Value* const input = ort::Input(context, 0);
  const ort::Shape shape = ort::ShapeOf(input);
  const ort::Value* const given = ort::Input(context, 1);
  if (shape.size() != 2 || ort::ShapeOf(given) != ort::Shape{shape[0]}) {
    Refuse("WordGrams: the words are no matrix, or the lengths are not one for each row; feed [batch, k] and [batch].");
  }
  const ort::Strings words(input);
  const auto* const lengths = ort::Data<std::int64_t>(given);
  const auto rows = static_cast<std::size_t>(shape[0]);
  std::vector<std::int64_t> counts(rows);
  std::size_t longest = 0;
  for (std::size_t i = 0; i < rows; ++i) {
    if (lengths[i] < 0 || lengths[i] > shape[1]) Refuse("WordGrams: a length is not within the matrix of words.");
    for (const std::int64_t width : widths_) {
      if (lengths[i] >= width) counts[i] += lengths[i] - width + 1;
    }
    longest = std::max(longest, static_cast<std::size_t>(counts[i]));
  }
  RefuseSize(kName, rows, longest);
  ort::Value* const grams = ort::Output(context, 0, {shape[0], static_cast<std::int64_t>(longest)});
  std::string text;
  for (std::size_t i = 0; grams && i < rows; ++i) {
    const std::size_t first = i * static_cast<std::size_t>(shape[1]);
    std::size_t at = i * longest;
    for (const std::int64_t width : widths_) {
      for (std::int64_t begin = 0; begin + width <= lengths[i]; ++begin) {
        text.clear();
        for (std::int64_t k = 0; k < width; ++k) {
          if (k > 0) text += separator_;
          text += words[first + static_cast<std::size_t>(begin + k)];
        }
        ort::SetString(grams, at++, text);
      }
    }
  }
  WriteLengths(context, counts);
}

}  // namespace estimator
