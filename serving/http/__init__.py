"""The HTTP front: bytes from a socket to a dialect and back. Knows no dialect by name."""
