"""Download MNIST or the Nottingham tunes from a mirror that can be reached, and verify them."""

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
# The tunes as MIDI, from their first home and from an archive of it, and the SHA-256 of the file.
_TUNES = 'http://www-etud.iro.umontreal.ca/~boulanni/Nottingham.zip'
NOTTINGHAM_URLS = (_TUNES, f'https://web.archive.org/web/20190502175445id_/{_TUNES}')
NOTTINGHAM_SHA256 = 'fd4eb21b656002790cb8429c3482518876c48881ce58270f5296fe5aad50075f'
REACH_SECONDS = 6  # within which one of the mirrors must answer
STALL_SECONDS = 15  # without a byte, after which a download is given up


class DownloadError(UserError):
    """MNIST, or the tunes, are not here and cannot be fetched.

    That is the one error after which what the project makes itself may stand in for them.
    """


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
    mirrors = os.environ.get('DLT_MNIST_MIRRORS', ' '.join(MNIST_MIRRORS)).split()
    answering = first_answering(mirrors, [url_of(mirror, min(MNIST_MD5)) for mirror in mirrors])
    if not answering:
        raise DownloadError(
            f'MNIST is not here, and none of its mirrors ({", ".join(mirrors) or "none is set"}) '
            f'can be reached: connect to the network, or put mnist.pkl.gz into {data_folder}, or '
            'set DLT_DATA_DIR to its folder.'
        )
    return answering


def first_answering(mirrors: list[str], urls: list[str]) -> list[str]:
    """Those of the mirrors to try, one that answers first; none when none answers in time.

    :param urls: for each mirror, what to ask for
    """
    import pooch

    answers: queue.SimpleQueue[tuple[str, bool]] = queue.SimpleQueue()

    def ask(mirror: str, url: str) -> None:
        head = pooch.HTTPDownloader(timeout=REACH_SECONDS)
        try:
            is_there = head(url, None, None, check_only=True)
        except (OSError, ValueError):  # what requests raises for hosts, and for impossible URLs
            is_there = False
        answers.put((mirror, is_there))

    deadline = time.monotonic() + REACH_SECONDS
    for mirror, url in zip(mirrors, urls, strict=True):
        threading.Thread(target=ask, args=(mirror, url), daemon=True).start()
    silent = list(mirrors)
    with contextlib.suppress(queue.Empty):
        while silent:
            mirror, is_there = answers.get(timeout=max(0, deadline - time.monotonic()))
            silent.remove(mirror)
            if is_there:
                # Those that have not said no yet are good enough for a second try.
                return [mirror, *silent]
    return []


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


def downloaded_nottingham(data_folder: Path) -> bytes:
    """Download `Nottingham.zip`, and keep it in `data_folder` if that can be written to.

    The variable DLT_NOTTINGHAM_URLS, addresses separated by blanks, replaces the usual ones.

    :param data_folder: the repository's `data/`
    :returns: the content of the file
    :raises DownloadError: when it cannot be had
    """
    import pooch

    urls = os.environ.get('DLT_NOTTINGHAM_URLS', ' '.join(NOTTINGHAM_URLS)).split()
    answering = first_answering(urls, urls)
    if not answering:
        raise DownloadError(
            f'the Nottingham tunes are not here, and none of {", ".join(urls) or "no addresses"} '
            f'can be reached: connect to the network, or put Nottingham.zip into {data_folder}, or '
            'set DLT_DATA_DIR to its folder.'
        )
    print('The Nottingham tunes are not here yet: downloading 0.7 MB', file=sys.stderr)
    get = pooch.HTTPDownloader(timeout=STALL_SECONDS, chunk_size=2**16)
    failures = []
    for url in answering:
        with tempfile.TemporaryDirectory() as temporary:
            part = Path(temporary) / 'Nottingham.zip'
            try:
                get(url, str(part), None)
            except (OSError, ValueError) as error:
                failures.append(f'{url}: {type(error).__name__}')
                continue
            if pooch.file_hash(str(part), alg='sha256') != NOTTINGHAM_SHA256:
                failures.append(f'{url}: wrong checksum')
                continue
            content = part.read_bytes()
        # Where the folder is not writable they are simply downloaded again the next time.
        with contextlib.suppress(OSError):
            data_folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix='.download-', dir=data_folder) as temporary:
                part = Path(temporary) / 'Nottingham.zip'
                part.write_bytes(content)
                os.replace(part, data_folder / part.name)
        return content
    raise DownloadError(
        f'the Nottingham tunes cannot be downloaded ({"; ".join(failures)}): try again later, run '
        f'download.sh, or put Nottingham.zip into {data_folder}.'
    )
