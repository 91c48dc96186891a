"""Download MNIST or the Nottingham tunes from a mirror that can be reached, and verify them."""

import contextlib
import errno
import io
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from support.errors import UserError

# The published sums of the files, which are no longer to be had from their first home. Of MNIST the
# IDX files: they are smaller than the pickle, on two mirrors, and no pickle.
MNIST = {
    't10k-labels-idx1-ubyte.gz': 'md5:ec29112dd5afa0611ce80d1b7f02629c',
    'train-labels-idx1-ubyte.gz': 'md5:d53e105ee54ea40749a09fcbcd1e9432',
    't10k-images-idx3-ubyte.gz': 'md5:9fb629c4189551a2d022fa330f9573f3',
    'train-images-idx3-ubyte.gz': 'md5:f68b3c2dcbeaaa9fbdd348bbdeb94873',
}
MNIST_MIRRORS = ('https://ossci-datasets.s3.amazonaws.com/mnist/',
                 'https://storage.googleapis.com/cvdf-datasets/mnist/')
NOTTINGHAM = {'Nottingham.zip':
              'sha256:fd4eb21b656002790cb8429c3482518876c48881ce58270f5296fe5aad50075f'}
_HOME = 'http://www-etud.iro.umontreal.ca/~boulanni/'
NOTTINGHAM_URLS = (_HOME, f'https://web.archive.org/web/20190502175445id_/{_HOME}')

LARGEST = 20_000_000  # bytes of a download: twice what the largest of the files has
ANSWER_SECONDS = 3  # within which a mirror must answer,
REACH_SECONDS = 8  # and one of them in all
STALL_SECONDS = 15  # without a byte, after which a download is given up


class DownloadError(UserError):
    """MNIST, or the tunes, are not here and cannot be fetched.

    That is the one error after which what the project makes itself may stand in for them.
    """


def downloaded_mnist(data_folder: Path) -> contextlib.AbstractContextManager[Path]:
    """The folder `mnist` in `data_folder`, complete: a context, see :func:`downloaded`."""
    mirrors = os.environ.get('DLT_MNIST_MIRRORS', ' '.join(MNIST_MIRRORS))
    return downloaded('MNIST', data_folder / 'mnist', MNIST, mirrors.split())


def downloaded_nottingham(data_folder: Path) -> contextlib.AbstractContextManager[Path]:
    """`data_folder` with `Nottingham.zip` in it: a context, see :func:`downloaded`."""
    mirrors = os.environ.get('DLT_NOTTINGHAM_URLS', ' '.join(NOTTINGHAM_URLS))
    return downloaded('Nottingham', data_folder, NOTTINGHAM, mirrors.split())


@contextlib.contextmanager
def downloaded(what: str, folder: Path, files: dict[str, str],
               mirrors: Sequence[str]) -> Iterator[Path]:
    """Download the files that a folder lacks; each gets its name when it is complete and correct.

    :param what: name of the data set, for the messages
    :param files: names and hashes
    :param mirrors: addresses of folders with these files, or of the file, to be tried in turn
    :returns: a context with the folder or, where it cannot be written to, with a temporary one of
        the same name
    :raises DownloadError: when the files cannot be had
    """
    remedy = f'or set DLT_DATA_DIR to the folder that holds {what}'
    try:
        import pooch
    except ImportError as error:
        raise DownloadError(f'{what} is not here, and pooch, which downloads it, is not installed: '
                            f'install it, {remedy}.') from error
    reached = answering(mirrors, min(files))
    if not reached:
        raise DownloadError(f'{what} is not here, and none of its mirrors can be reached '
                            f'({", ".join(mirrors) or "none is set"}): connect to the network, '
                            f'{remedy}.')
    pooch.get_logger().setLevel('WARNING')  # one line, below, is enough
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            print(f'{folder} is not writable ({error.strerror}), so {what} is downloaded for this '
                  'run alone: make it writable.', file=sys.stderr)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / folder.name
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
                except ValueError:
                    failures.append(f'{url}: wrong checksum')
            else:
                raise DownloadError(f'{what} cannot be downloaded ({"; ".join(failures)}): try '
                                    f'again later, {remedy}.')
        yield folder


def address(mirror: str, name: str) -> str:
    """Where a mirror has the file of that name."""
    return mirror if mirror.endswith(Path(name).suffix) else f'{mirror.rstrip("/")}/{name}'


def answering(mirrors: Sequence[str], name: str) -> list[str]:
    """The mirrors from the first that has the file on; none when none answers in time.

    They are asked in a thread, because no timeout covers all that can hang, such as looking up the
    name of a host: after REACH_SECONDS nobody waits for it any more.
    """
    import pooch

    head = pooch.HTTPDownloader(timeout=ANSWER_SECONDS)
    found: list[str] = []

    def ask() -> None:
        for i, mirror in enumerate(mirrors):
            # What requests raises for hosts that are not there, and for impossible addresses.
            with contextlib.suppress(OSError, ValueError):
                if head(address(mirror, name), None, None, check_only=True):
                    found.extend(mirrors[i:])
                    return

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(REACH_SECONDS)
    return found


def get(url: str, path: str, _: Any) -> None:
    """Download for pooch, but no more than LARGEST bytes, however many a mirror sends."""
    import pooch

    class Limited(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell() + len(data) > LARGEST:
                raise OSError(errno.EFBIG, f'more than {LARGEST} bytes')
            return super().write(data)

    with Limited(path, 'wb') as file:
        pooch.HTTPDownloader(timeout=STALL_SECONDS)(url, file, None)
