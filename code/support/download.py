"""Download MNIST from whichever of its mirrors can be reached, and verify it."""

import contextlib
import os
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from support.errors import UserError

# Two mirrors of the files that are no longer to be had from their first home, and the MD5 sums
# published with them. The IDX files are what is downloaded: smaller than the pickle, on two
# mirrors, and no pickle.
MNIST_MIRRORS = (
    'https://ossci-datasets.s3.amazonaws.com/mnist/',
    'https://storage.googleapis.com/cvdf-datasets/mnist/',
)
MNIST_MD5 = {
    't10k-labels-idx1-ubyte.gz': 'ec29112dd5afa0611ce80d1b7f02629c',
    'train-labels-idx1-ubyte.gz': 'd53e105ee54ea40749a09fcbcd1e9432',
    't10k-images-idx3-ubyte.gz': '9fb629c4189551a2d022fa330f9573f3',
    'train-images-idx3-ubyte.gz': 'f68b3c2dcbeaaa9fbdd348bbdeb94873',
}
REACH_SECONDS = 6  # within which one of the mirrors must answer
STALL_SECONDS = 15  # without a byte, after which a download is given up


class DownloadError(UserError):
    """MNIST is not here and cannot be fetched: the one error that `digits` may stand in for."""


@contextlib.contextmanager
def downloaded_mnist(data_folder: Path, missing: Callable[[Path], list[str]]) -> Iterator[Path]:
    """Download those files of MNIST that are missing, and give the folder that they are in.

    :param data_folder: the repository's `data/`
    :param missing: tells which of the files in MNIST_MD5 are not in a folder
    :returns: a context with `mnist` in `data_folder` or, where that is not writable, a temporary
        folder, which is gone at the end of the context
    :raises DownloadError: when MNIST cannot be had, or not be kept
    """
    mirrors = answering_mirrors(data_folder)
    with writable_folder(data_folder) as folder:
        print(f'MNIST is not here yet: downloading 11 MB into {folder}', file=sys.stderr)
        for name in missing(folder):
            download(name, folder, mirrors, data_folder)
        yield folder


def answering_mirrors(data_folder: Path) -> list[str]:
    """The mirrors to download from, one that answers first.

    All are asked at the same time, each in a thread of its own, because no timeout covers all that
    can hang (looking up a name, a proxy): after REACH_SECONDS nobody waits for them any more. The
    variable DLT_MNIST_MIRRORS, addresses separated by blanks, replaces the usual mirrors.

    :param data_folder: the repository's `data/`, for the message
    :raises DownloadError: when none answers in time
    """
    import pooch

    mirrors = os.environ.get('DLT_MNIST_MIRRORS', ' '.join(MNIST_MIRRORS)).split()
    answers: queue.SimpleQueue[tuple[str, bool]] = queue.SimpleQueue()

    def ask(mirror: str) -> None:
        head = pooch.HTTPDownloader(timeout=REACH_SECONDS)
        try:
            is_there = head(url_of(mirror, min(MNIST_MD5)), None, None, check_only=True)
        except (OSError, ValueError):  # what requests raises for hosts, and for impossible URLs
            is_there = False
        answers.put((mirror, is_there))

    deadline = time.monotonic() + REACH_SECONDS
    for mirror in mirrors:
        threading.Thread(target=ask, args=(mirror,), daemon=True).start()
    silent = list(mirrors)
    with contextlib.suppress(queue.Empty):
        while silent:
            mirror, is_there = answers.get(timeout=max(0, deadline - time.monotonic()))
            silent.remove(mirror)
            if is_there:
                # Those that have not said no yet are good enough for a second try.
                return [mirror, *silent]
    raise DownloadError(
        f'MNIST is not here, and none of its mirrors ({", ".join(mirrors) or "none is set"}) can '
        f'be reached: connect to the network, or put mnist.pkl.gz into {data_folder}, or set '
        'DLT_DATA_DIR to its folder.'
    )


def url_of(mirror: str, name: str) -> str:
    return f'{mirror.rstrip("/")}/{name}'


@contextlib.contextmanager
def writable_folder(data_folder: Path) -> Iterator[Path]:
    """The folder `mnist` in `data_folder`; where it is not writable, a temporary one.

    :raises DownloadError: where there is no temporary folder either
    """
    folder = data_folder / 'mnist'
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as unwritable:
            try:
                temporary = stack.enter_context(tempfile.TemporaryDirectory())
            except OSError as error:
                raise DownloadError(
                    f'MNIST cannot be kept anywhere ({unwritable}): make {data_folder} writable.'
                ) from error
            print(
                f'{folder} is not writable: MNIST is downloaded for this run alone. Make the '
                'folder writable, or set DLT_DATA_DIR to one that holds MNIST.', file=sys.stderr,
            )
            folder = Path(temporary) / 'mnist'  # which is the name of the data set as well
            folder.mkdir()
        yield folder


def download(name: str, folder: Path, mirrors: list[str], data_folder: Path) -> None:
    """Download one file of MNIST and verify it.

    The file gets its name only when it is complete and correct, in one step: scripts that download
    at the same time work in folders of their own, and whoever is last replaces the file by itself.

    :param name: of a file in MNIST_MD5
    :param folder: where it is put
    :param mirrors: where it may be had, to be tried in this order
    :param data_folder: the repository's `data/`, for the message
    :raises DownloadError: when no mirror gives the right file
    """
    import pooch

    get = pooch.HTTPDownloader(timeout=STALL_SECONDS, chunk_size=2**16)
    failures = []
    with tempfile.TemporaryDirectory(prefix='.download-', dir=folder) as temporary:
        part = Path(temporary) / name
        for mirror in mirrors:
            url = url_of(mirror, name)
            try:
                get(url, str(part), None)
            except (OSError, ValueError) as error:
                failures.append(f'{url}: {type(error).__name__}')
                continue
            if pooch.file_hash(str(part), alg='md5') != MNIST_MD5[name]:
                failures.append(f'{url}: wrong checksum')
                continue
            # Windows does not replace a file that another script is reading at this moment.
            if not (folder / name).exists():
                os.replace(part, folder / name)
            return
    raise DownloadError(
        f'MNIST cannot be downloaded ({"; ".join(failures)}): try again later, run download.sh, '
        f'or put mnist.pkl.gz into {data_folder}.'
    )
