"""Files that may come from anywhere: how much of one is read, and what is said when that fails."""

import contextlib
import gzip
import io
from collections.abc import Iterator
from pathlib import Path

from support.errors import UserError

LARGEST = 1024**3  # bytes of a file, once it is unpacked, and of the arrays made from it


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while `path` is read into one line: parsers fail in many ways."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = ' '.join(str(error).split())[:200] or type(error).__name__
        raise UserError(f'{path}: cannot be read ({reason}): mend or replace it.') from error


def check_size(path: Path, *sizes: int) -> None:
    """Refuse more than LARGEST bytes in all, before they are in memory."""
    if sum(sizes) > LARGEST:
        raise UserError(f'{path}: takes more than {LARGEST} bytes when unpacked: use a part of it.')


def unpacked(path: Path) -> bytes:
    """The content of a file, unpacked if it is compressed with gzip (whatever its name)."""
    content = io.BytesIO()
    with open(path, 'rb') as file:
        is_packed = file.peek(2)[:2] == b'\x1f\x8b'
        with gzip.open(file) if is_packed else file as stream:
            while block := stream.read(2**20):
                content.write(block)
                check_size(path, content.tell())
    return content.getvalue()
