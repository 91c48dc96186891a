"""Read arrays from pickles without running what a pickle can ask for.

Unpickling calls functions that the file names, with arguments that the file gives: a pickle from a
stranger is a program. Here the few names that pickled arrays need stand for the harmless objects
below, every other name is an error, and what is read is counted.
"""

import pickle
import re
from pathlib import Path
from typing import BinaryIO

import numpy

from support.errors import UserError

OPCODES = 4_000_000  # far more than arrays need, and few enough for the memory they may take


class BoundedReader:
    """A file for the unpickler that gives neither more bytes nor more opcodes than is sane.

    :param file: the file
    :param largest: number of bytes that may be read from it
    """

    def __init__(self, file: BinaryIO, largest: int):
        self.file = file
        self.largest = largest
        self.bytes_left = largest
        self.reads_left = OPCODES

    def charge(self, size: int) -> None:
        """Count one read of `size` bytes.

        :raises ValueError: before the memory for them is asked for
        """
        self.bytes_left -= size
        self.reads_left -= 1
        if self.bytes_left < 0:
            raise ValueError(f'it takes more than {self.largest} bytes')
        if self.reads_left < 0:
            raise ValueError('it holds too many objects: pickle arrays, not lists')

    def read(self, size: int) -> bytes:
        self.charge(size)
        data = self.file.read(size)
        if len(data) < size:
            raise EOFError('it is cut short')
        return data

    def readline(self) -> bytes:
        line = self.file.readline(self.bytes_left + 1)
        self.charge(len(line))
        if not line.endswith(b'\n'):
            raise EOFError('it is cut short')
        return line

    def encode(self, text: str, encoding: str) -> bytes:
        """Bytes, as Python 3 writes them in protocols 0 to 2: a string to be encoded as latin-1."""
        if encoding not in ('latin1', 'latin-1'):
            raise ValueError('it encodes bytes in another way than latin-1')
        self.charge(len(text))  # the same string can be encoded again and again
        return text.encode('latin1')


class PickledDtype:
    """Stands for `numpy.dtype` in a pickle: booleans, integers and floats, nothing else."""

    def __init__(self, code: str | bytes, *flags: bool):
        self.code = as_text(code)
        if not re.fullmatch('[biuf][1248]', self.code):
            raise ValueError(f'it holds an array of type {self.code!r}, not of numbers')
        self.dtype = numpy.dtype(self.code)

    def __setstate__(self, state: tuple) -> None:
        byte_order = as_text(state[1])
        if byte_order not in ('<', '>', '|', '='):
            raise ValueError(f'it has a byte order {byte_order!r}')
        self.dtype = numpy.dtype(byte_order + self.code)


def as_text(value: str | bytes) -> str:
    """A string as it is, or from Python 2, whose strings are read as bytes.

    :raises TypeError: for anything else, such as tuples of tuples that would fill the memory if a
        message quoted them
    """
    return value if isinstance(value, str) else str(value, 'latin1')


class PickledArray:
    """Stands for `numpy.ndarray` in a pickle: a view of bytes that were read."""

    def __init__(self) -> None:
        self.array = numpy.empty(0)

    def __setstate__(self, state: tuple) -> None:
        version, shape, dtype, is_fortran, values = state
        self.array = from_bytes(values, dtype, shape, 'F' if is_fortran else 'C').array


def reconstruct(subtype: type, shape: tuple, code: str | bytes) -> PickledArray:
    """Stands for `_reconstruct`: an empty array, whose state follows."""
    return PickledArray()


def from_bytes(
    values: bytes, dtype: PickledDtype, shape: tuple, order: str, axis_order: tuple | None = None
) -> PickledArray:
    """Stands for `_frombuffer` of protocol 5: an array from its bytes."""
    result = PickledArray()
    # Both calls check sizes: bytes that do not fill the shape exactly are an error.
    if axis_order is None:
        result.array = numpy.frombuffer(values, dtype.dtype).reshape(shape, order=order)
    else:
        result.array = numpy.frombuffer(values, dtype.dtype).reshape(shape).transpose(axis_order)
    return result


def scalar(dtype: PickledDtype, value: bytes) -> numpy.generic:
    """Stands for `scalar`: one number."""
    return numpy.frombuffer(value, dtype.dtype, count=1)[0]


def no_bytes() -> bytes:
    """Stands for `bytes`, called without arguments: the bytes of an empty array."""
    return b''


class ArrayUnpickler(pickle._Unpickler):
    """Builds arrays and plain containers, and nothing else.

    Derived from the unpickler written in Python: the one in C keeps its memo in a table that eight
    bytes of a pickle can make 32 GB large.

    :param file: the file
    :param path: where it is, for the messages
    :param largest: number of bytes that may be read from it
    """

    def __init__(self, file: BinaryIO, path: Path, largest: int):
        reader = BoundedReader(file, largest)
        # The strings of Python 2 hold the bytes of its arrays.
        super().__init__(reader, encoding='bytes')
        self.path = path
        self.stand_ins = {
            'numpy.ndarray': PickledArray,
            'numpy.dtype': PickledDtype,
            'numpy.core.multiarray._reconstruct': reconstruct,
            'numpy.core.multiarray.scalar': scalar,
            'numpy.core.numeric._frombuffer': from_bytes,
            '_codecs.encode': reader.encode,
            'builtins.bytes': no_bytes,
            '__builtin__.bytes': no_bytes,
        }

    def find_class(self, module: str, name: str) -> object:
        wanted = f'{module}.{name}'
        # NumPy 2 has renamed numpy.core to numpy._core.
        stand_in = self.stand_ins.get(wanted.replace('numpy._core.', 'numpy.core.'))
        if stand_in is None:
            raise UserError(
                f'{self.path}: asks for {wanted[:200]!r}, which is no part of an array and could '
                'run a program: not read; use a copy from a source that you trust.'
            )
        return stand_in

    def load_build(self) -> None:
        # The general rule sets any attribute of any object, of our functions above too.
        state = self.stack.pop()
        if not isinstance(self.stack[-1], PickledArray | PickledDtype):
            raise ValueError('it gives a state to what is no array')
        self.stack[-1].__setstate__(state)

    def load_frame(self) -> None:
        # Frames only make reading faster; read as one they would escape being counted.
        self.read(8)

    dispatch = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: load_build,
        pickle.FRAME[0]: load_frame,
        # A bytearray would be allocated before its bytes are there. Bytes are as good.
        pickle.BYTEARRAY8[0]: pickle._Unpickler.load_binbytes8,
    }


def read_pickle(
    file: BinaryIO, path: Path, largest: int
) -> list[tuple[numpy.ndarray, numpy.ndarray]]:
    """Read a pickled triple of pairs of arrays; labels may also be a list of integers.

    Nothing but the layout is checked: not whether the arrays are images and labels.

    :param file: the open file, unpacked if it is compressed
    :param path: where it is, for the messages
    :param largest: number of bytes that it may take once it is unpacked
    :returns: (images, labels) for training, validation and test, as they are stored
    :raises UserError: for a pickle of something else, in words for the user
    :raises Exception: of many types, for what is damaged
    """
    content = ArrayUnpickler(file, path, largest).load()
    if file.read(1):  # at the end of the file gzip verifies its checksum
        raise ValueError('it goes on after its end')
    try:
        (train_x, train_y), (valid_x, valid_y), (test_x, test_y) = content
    except (TypeError, ValueError) as error:
        raise UserError(
            f'{path}: is no triple ((train_x, train_y), (valid_x, valid_y), (test_x, test_y)): '
            'pickle the arrays in this form.'
        ) from error
    pairs = []
    for x, y in ((train_x, train_y), (valid_x, valid_y), (test_x, test_y)):
        if isinstance(y, list) and all(isinstance(label, int | numpy.integer) for label in y):
            y = numpy.array(y, dtype=numpy.int64)
        elif isinstance(y, PickledArray):
            y = y.array
        if not isinstance(x, PickledArray) or not isinstance(y, numpy.ndarray):
            raise UserError(
                f'{path}: holds images of type {type(x).__name__} and labels of type '
                f'{type(y).__name__}: pickle NumPy arrays.'
            )
        pairs.append((x.array, y))
    return pairs
