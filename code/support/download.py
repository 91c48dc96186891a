"""Download MNIST or the Nottingham tunes from a mirror that can be reached, and verify them."""

import contextlib
import errno
import io
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from support.errors import UserError

# The files in `data/` with their published sums, the variable that names other mirrors, and the
# mirrors: addresses of folders with these files, or of the file, tried in turn. Of MNIST it is the
# IDX files, which are smaller than the pickle, on two mirrors, and no pickle.
SOURCES = {
    'mnist': ({
        'mnist/t10k-labels-idx1-ubyte.gz': 'md5:ec29112dd5afa0611ce80d1b7f02629c',
        'mnist/train-labels-idx1-ubyte.gz': 'md5:d53e105ee54ea40749a09fcbcd1e9432',
        'mnist/t10k-images-idx3-ubyte.gz': 'md5:9fb629c4189551a2d022fa330f9573f3',
        'mnist/train-images-idx3-ubyte.gz': 'md5:f68b3c2dcbeaaa9fbdd348bbdeb94873',
    }, 'DLT_MNIST_MIRRORS', 'https://ossci-datasets.s3.amazonaws.com/mnist/ '
                            'https://storage.googleapis.com/cvdf-datasets/mnist/'),
    'Nottingham.zip': ({
        'Nottingham.zip': 'fd4eb21b656002790cb8429c3482518876c48881ce58270f5296fe5aad50075f',
    }, 'DLT_NOTTINGHAM_URLS', 'http://www-etud.iro.umontreal.ca/~boulanni/ '
                              'https://web.archive.org/web/20190502175445id_/'
                              'http://www-etud.iro.umontreal.ca/~boulanni/'),
}

LARGEST = 20_000_000  # bytes of a download: twice what the largest of the files has
ANSWER_SECONDS = 3  # within which a mirror must answer,
REACH_SECONDS = 8  # and one of them in all
STALL_SECONDS = 15  # without a byte, after which a download is given up,
WHOLE_SECONDS = 600  # and for a file in all


class DownloadError(UserError):
    """MNIST, or the tunes, cannot be had: then what the project makes itself may stand in."""


@contextlib.contextmanager
def downloaded(what: str, folder: Path) -> Iterator[Path]:
    """A context with one of the SOURCES in this folder or, for want of rights, in a temporary one.

    The files that are missing are downloaded; each gets its name when it is complete and correct.
    """
    files, variable, usual_mirrors = SOURCES[what]
    mirrors = os.environ.get(variable, usual_mirrors).split()

    def failure(reason: str) -> DownloadError:
        return DownloadError(f'{what} is not here, and {reason}, or set DLT_DATA_DIR to the folder '
                             'that holds it.')

    try:
        import pooch
    except ImportError:
        raise failure('pooch, which downloads it, is not installed: install it') from None
    reached = answering(mirrors, min(files))
    if not reached:
        raise failure(f'no mirror can be reached ({", ".join(mirrors)}): connect to the network')
    pooch.get_logger().setLevel('WARNING')  # one line, below, is enough
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            print(f'{folder} is not writable ({error.strerror}), so {what} is downloaded for this '
                  'run alone: make it writable.', file=sys.stderr)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        print(f'{what} is not here yet: downloading it into {folder}', file=sys.stderr)
        for name in [name for name in files if not (folder / name).exists()]:
            failures = []
            for url in [address(mirror, name) for mirror in reached]:
                try:
                    path = pooch.retrieve(url, files[name], name, folder, downloader=get)
                    os.chmod(path, 0o644)  # pooch lets nobody but the user read it
                    break
                except OSError as error:  # those of requests are such, too
                    failures.append(f'{url}: {error.strerror or type(error).__name__}')
                except ValueError:  # from pooch and get
                    failures.append(f'{url}: not the published file')
            else:
                raise failure(f'cannot be downloaded ({"; ".join(failures)}): try again later')
        yield folder / what


def address(mirror: str, name: str) -> str:
    """Where a mirror has the file of that name."""
    is_file = mirror.endswith(Path(name).suffix)
    return mirror if is_file else f'{mirror.rstrip("/")}/{Path(name).name}'


def answering(mirrors: Sequence[str], name: str) -> list[str]:
    """The mirrors from the first that has the file on; none when none answers in time.

    Nobody waits for the thread after REACH_SECONDS: no timeout covers all that can hang, such as
    looking up the name of a host.
    """
    import pooch

    head = pooch.HTTPDownloader(timeout=ANSWER_SECONDS)
    found: list[str] = []

    def ask() -> None:
        for i, mirror in enumerate(mirrors):
            with contextlib.suppress(OSError, ValueError):  # no such host, or no address at all
                if not found and head(address(mirror, name), None, None, check_only=True):
                    found.extend(mirrors[i:])

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(REACH_SECONDS)
    return found


def get(url: str, path: str, _: Any) -> None:
    """Download for pooch, but no more than LARGEST bytes, and no longer than WHOLE_SECONDS."""
    import pooch

    deadline = time.monotonic() + WHOLE_SECONDS

    class Limited(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell() > LARGEST:
                raise ValueError
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, 'it is too slow')
            return super().write(data)

    with Limited(path, 'wb') as file:
        # In little pieces, between which the time is looked at, however slowly they come.
        pooch.HTTPDownloader(timeout=STALL_SECONDS, chunk_size=64)(url, file, None)
