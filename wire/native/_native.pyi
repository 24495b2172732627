"""What the C++ of this folder gives Python."""

from typing import Any

from numpy.typing import NDArray

def read_numbers_body(body: bytes) -> tuple[str, str | None, tuple[int, ...], bool, bytes] | None:
    """The tensor of a JSON body {"instances": numbers} or {"inputs": numbers}, with or without a "signature_name".

    Gives the key, the signature's name (None if the body has none), the shape, whether all numbers are integers, and
    the numbers: int64 if they are, else float64. None for every other text, for empty or uneven lists, and for numbers
    that int64 or float64 does not hold.
    """

def write_array(array: NDArray[Any]) -> bytes | None:
    """The JSON text of an array: nested lists of numbers.

    A float32 gets 6 significant digits if these give it back, else 9; a float64 the fewest that give it back. None for
    a value that is not finite, an array with gaps, and a dtype other than bool, the integers, float32 and float64.
    """

def write_rows(keys: tuple[bytes, ...], columns: tuple[NDArray[Any] | list[bytes], ...]) -> bytes | None:
    """The JSON text of a list of objects, one for each row of columns that have the same number of rows.

    keys: `"NAME":` of each column, as it is to be printed. columns: an array whose first dimension is the rows, or the
    text of each row. None as for `write_array`, and for an array without dimensions. Raises ValueError for columns of
    different lengths.
    """

def narrow_floats(values: bytes) -> bytes:
    """float64 as float32; what is too large becomes an infinity, without a warning."""
