#include "http_request.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <system_error>

namespace estimator {
namespace {

constexpr std::string_view kMethod = "POST ", kVersion = " HTTP/1.1";
constexpr std::size_t kHeadersMax = 64;
constexpr std::size_t kDigitsMax = 9;

constexpr std::array<bool, 256> TokenCharacters() {
  std::array<bool, 256> are_token{};
  for (int c = '0'; c <= '9'; ++c) are_token[static_cast<std::size_t>(c)] = true;
  for (int c = 'a'; c <= 'z'; ++c) are_token[static_cast<std::size_t>(c)] = true;
  for (int c = 'A'; c <= 'Z'; ++c) are_token[static_cast<std::size_t>(c)] = true;
  are_token['-'] = are_token['_'] = true;
  return are_token;
}
constexpr std::array<bool, 256> kIsToken = TokenCharacters();

bool IsToken(char c) { return kIsToken[static_cast<unsigned char>(c)]; }
bool IsVisible(char c) { return '!' <= c && c <= '~'; }

// `lower` is in lower case.
bool EqualsLowered(std::string_view name, std::string_view lower) {
  return name.size() == lower.size() && std::equal(name.begin(), name.end(), lower.begin(), [](char c, char l) {
           return ('A' <= c && c <= 'Z' ? static_cast<char>(c + 'a' - 'A') : c) == l;
         });
}

// Takes a line from the text; nothing for a line that does not end with CR LF.
std::optional<std::string_view> TakeLine(std::string_view& text) {
  const std::size_t end = text.find('\n');
  if (end == std::string_view::npos || end == 0 || text[end - 1] != '\r') return std::nullopt;
  const std::string_view line = text.substr(0, end - 1);
  text.remove_prefix(end + 1);
  return line;
}

// Absolute, of visible ASCII without what starts a fragment.
bool IsTarget(std::string_view target) {
  return !target.empty() && target[0] == '/' &&
         std::all_of(target.begin(), target.end(), [](char c) { return IsVisible(c) && c != '#'; });
}

constexpr std::string_view kOthers[] = {"upgrade", "transfer-encoding", "content-encoding", "expect", "http2-settings",
                                        "proxy-connection", "keep-alive", "te", "trailer"};

}  // namespace

std::optional<HttpRequest> HttpReader::Read(std::string_view text, std::size_t head_max, std::size_t body_max) const {
  HttpRequest request;
  std::string_view rest = text;
  const auto first = TakeLine(rest);
  if (!first || first->size() < kMethod.size() + kVersion.size() || first->substr(0, kMethod.size()) != kMethod ||
      first->substr(first->size() - kVersion.size()) != kVersion) {
    return std::nullopt;
  }
  const auto target = first->substr(kMethod.size(), first->size() - kMethod.size() - kVersion.size());
  if (!IsTarget(target)) return std::nullopt;
  request.path = target.substr(0, target.find('?'));
  std::optional<std::uint64_t> body_bytes;
  int hosts = 0;
  for (std::size_t count = 0;; ++count) {
    const auto line = TakeLine(rest);
    if (!line || count == kHeadersMax) return std::nullopt;
    if (line->empty()) break;
    const std::size_t colon = line->find(':');
    if (colon == std::string_view::npos || colon == 0) return std::nullopt;
    const std::string_view name = line->substr(0, colon);
    std::string_view value = line->substr(colon + 1);
    if (!std::all_of(name.begin(), name.end(), IsToken)) return std::nullopt;
    if (!std::all_of(value.begin(), value.end(), [](char c) { return c == ' ' || IsVisible(c); })) return std::nullopt;
    if (!value.empty() && value[0] == ' ') value.remove_prefix(1);
    if (!value.empty() && (value.front() == ' ' || value.back() == ' ')) return std::nullopt;
    const auto is_name = [&](std::string_view lower) { return EqualsLowered(name, lower); };
    if (is_name("host")) {
      if (++hosts > 1) return std::nullopt;
    } else if (is_name("content-length")) {
      std::uint64_t length;
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), length);
      const bool is_number = error == std::errc() && end == value.data() + value.size() && value.size() <= kDigitsMax;
      if (body_bytes || !is_number || length > body_max) return std::nullopt;
      body_bytes = length;
    } else if (is_name("connection")) {
      // What 1.1 means anyway. Anything else is for the parser.
      if (!EqualsLowered(value, "keep-alive")) return std::nullopt;
    } else if (std::any_of(std::begin(kOthers), std::end(kOthers), is_name)) {
      return std::nullopt;
    }
    const auto found = std::find_if(wanted_.begin(), wanted_.end(), is_name);
    if (found != wanted_.end()) request.headers.emplace_back(*found, value);
  }
  if (hosts != 1 || !body_bytes || text.size() - rest.size() > head_max || rest.size() != *body_bytes) {
    return std::nullopt;
  }
  request.body = rest;
  return request;
}

}  // namespace estimator
