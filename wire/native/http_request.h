// A whole HTTP/1.1 request of the plainest form -> the places of its parts.
//
// Owns which requests are plain. Knows no Python and no URL, and says nothing about what is wrong with a request: all
// others are left to a parser, which has the statuses.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace estimator {

struct HttpRequest {
  std::string_view path;  // as it came, without the query
  std::string_view body;
  std::vector<std::pair<std::string_view, std::string_view>> headers;  // of the wanted names, which are in lower case
};

class HttpReader {
 public:
  // wanted: names of headers, in lower case.
  explicit HttpReader(std::vector<std::string> wanted) : wanted_(std::move(wanted)) {}

  // Nothing unless the text is one whole POST by HTTP/1.1, from its first byte to its last, with a head of at most
  // `head_max` bytes and a body of at most `body_max` bytes whose length its head gives; with one Host; with nothing
  // that says how to go on (Upgrade, a Connection other than keep-alive), or how the body comes (Transfer-Encoding,
  // Content-Encoding, Expect), or that a parser might read in another way: lines that are folded or end without CR,
  // other characters than printable ASCII, space around a header's name.
  std::optional<HttpRequest> Read(std::string_view text, std::size_t head_max, std::size_t body_max) const;

 private:
  std::vector<std::string> wanted_;
};

}  // namespace estimator
