"""The reader of plain HTTP requests against httptools: whatever it reads, the parser reads the same."""

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.wire import native

READER = native.http_reader(b"accept-encoding", b"x-a")
HEAD_MAX, BODY_MAX = 400, 60


class Parsed:
    """What httptools makes of one request."""

    def __init__(self, data):
        self.url, self.body, self.headers, self.ends = b"", b"", [], 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(data)

    def on_url(self, url):
        self.url += url

    def on_header(self, name, value):
        self.headers.append((name.lower(), value))

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        self.ends += 1


def read(data):
    return native.read_request(READER, data, HEAD_MAX, BODY_MAX)


PIECES = st.sampled_from(
    ["POST ", "GET ", "/", "/v1/models/m:predict", "?q=1", "#", "%20", " HTTP/1.1", " HTTP/1.0", "\r\n", "\n", " ",
     "Host: a", "host:b", "Content-Length: 3", "content-length:2", "Content-Length: +3", "Content-Length: 03", "X-A: 1",
     "x-a:  2", "X-A : 3", "Accept-Encoding: gzip", "Connection: keep-alive", "Connection: close", "Upgrade: h2c",
     "Transfer-Encoding: chunked", "Expect: 100-continue", "Content-Encoding: gzip", "abc", "ab", "é", "\0", "\t", ":"]
)  # fmt: skip
LINES = st.lists(PIECES.filter(lambda piece: ":" in piece), max_size=4)
NEARLY = st.builds(
    lambda target, lines, body: (
        f"POST {target} HTTP/1.1\r\n" + "".join(f"{line}\r\n" for line in lines) + f"\r\n{body}"
    ),
    st.sampled_from(["/", "/v1/models/m:predict", "/a?b", "a", "/a b"]),
    LINES.map(lambda lines: ["Host: x", *lines, "Content-Length: 3"]),
    st.sampled_from(["abc", "ab", "abcd", ""]),
)


@given(st.one_of(NEARLY, st.lists(PIECES, max_size=14).map("".join)))
def test_what_is_read_is_what_the_parser_reads(text):
    data = text.encode()
    result = read(data)
    if result is None:
        return
    path, body, headers = result
    parsed = Parsed(data)
    assert (parsed.ends, parsed.body, parsed.parser.get_method()) == (1, body, b"POST")
    assert (parsed.url.partition(b"?")[0], parsed.parser.get_http_version()) == (path, "1.1")
    assert parsed.parser.should_keep_alive()
    assert not parsed.parser.should_upgrade()
    assert list(headers) == [one for one in parsed.headers if one[0] in (b"accept-encoding", b"x-a")]
    assert [name for name, _ in parsed.headers].count(b"host") == 1


PLAIN = b"POST /p?q HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nConnection: Keep-Alive\r\nContent-Length: 3\r\n\r\nabc"


def test_a_plain_request():
    assert read(PLAIN) == (b"/p", b"abc", ((b"x-a", b"1"),))


@pytest.mark.parametrize(("old", "new"), [
    (b"Host: x\r\n", b""), (b"X-A", b"Host"), (b"1.1", b"1.0"), (b"POST", b"PUT"), (b"abc", b"abcPOST"),
    (b"abc", b"ab"),
    (b"Keep-Alive", b"close"), (b"X-A: 1", b"Expect: 100-continue"), (b"X-A: 1", b"Transfer-Encoding: chunked"),
    (b"X-A: 1", b"X-A: 1\r\n folded"), (b"X-A: 1", b"X-A: \xe9"), (b"X-A", b"X-A "), (b"X-A: 1", b"X-A: " + b"1" * 400),
    (b"3\r\n\r\nabc", b"61\r\n\r\n" + b"a" * 61), (b"X-A: 1\r\n", b"X-A: 1\n"), (b"X-A: 1", b"Content-Length: 3"),
])  # fmt: skip
def test_what_is_left_to_the_parser(old, new):
    assert old in PLAIN
    assert read(PLAIN.replace(old, new, 1)) is None
