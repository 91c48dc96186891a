"""Find, download, read and check the data sets: of images, and of tunes.

`read` takes what the user named and gives three pairs of plain NumPy arrays. It knows

- the pickled triple of the old tutorials, `mnist.pkl.gz` (`.pkl`, `.pkl.gz`):
  `((train_x, train_y), (valid_x, valid_y), (test_x, test_y))`, from Python 2 or 3, NumPy 1 or 2;
- a folder of the four IDX files of MNIST, Fashion-MNIST, KMNIST ..., raw or `.gz`;
- an `.npz` with the arrays `train_x, train_y, valid_x, valid_y, test_x, test_y`, or with Keras'
  `x_train, y_train, x_test, y_test`;
- `digits`, which the project draws itself, for where there is no network.

Images are (n, n_in) or (n, height, width): integers from 0 to 255, which are divided by 256, or
floats from 0 to 1. Labels are integers from 0, of shape (n,). Where there is no validation set it
is the end of the training set: the last 10,000 of 60,000 images, as the tutorials have always
split MNIST, and the last sixth of any other number.

`find_tunes` does the same for the chapter on music, whose data are MIDI files: it finds a folder or
a zip of them and leaves the reading to `support.midi`.

A file may come from anywhere, so nothing in it is believed: a pickle can build arrays and plain
containers and call nothing, and no file can claim more memory than `LARGEST`.
"""

import contextlib
import gzip
import hashlib
import io
import math
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy

from support import tunes
from support.digits import VERSION, make_digits
from support.download import DownloadError, downloaded_mnist, downloaded_nottingham
from support.errors import UserError
from support.pickles import read_pickle

DATA_FOLDER = Path(__file__).resolve().parents[2] / 'data'
LARGEST = 2 * 1024**3  # bytes of a file once it is unpacked, and of the arrays made from it
LARGEST_LABEL = 65535

# The folder and the pickle hold the same arrays, so one stands for the other.
MNIST_NAMES = ('mnist.pkl.gz', 'mnist')

Arrays = list[tuple[numpy.ndarray, numpy.ndarray]]  # training, validation, test: (images, labels)


@dataclass(frozen=True)
class ImageData:
    """A data set, read and checked.

    :param name: name of the file or folder it was read from, or 'digits'
    :param sha256: hash of the six arrays with their shapes: of the content, not of the file
    :param train: images, float32 (n, n_in) in [0, 1], C-contiguous, and labels, int32 (n,)
    :param valid: the same for the validation set
    :param test: the same for the test set
    :param image_shape: (height, width) of an image, with height * width = n_in
    :param n_classes: the greatest label of all three sets, plus 1
    """

    name: str
    sha256: str
    train: tuple[numpy.ndarray, numpy.ndarray]
    valid: tuple[numpy.ndarray, numpy.ndarray]
    test: tuple[numpy.ndarray, numpy.ndarray]
    image_shape: tuple[int, ...]
    n_classes: int

    @property
    def n_in(self) -> int:
        """Number of pixels of an image."""
        return self.train[0].shape[1]


def read(dataset: str | os.PathLike | None = None) -> ImageData:
    """Read a data set.

    :param dataset: `digits`; a bare name, which is looked up in the working directory, in
        `$DLT_DATA_DIR` and in the repository's `data/`; or a path, which is used as it is. MNIST
        (`mnist.pkl.gz`, or `mnist` for the folder) is downloaded when it is not found. None: MNIST,
        or, where it can be neither found nor downloaded, `digits` and a notice on stderr.
    :raises UserError: for a data set that is not found, or whose file is broken
    """
    return find_or_fall_back(
        dataset, read_mnist, MNIST_NAMES, read_digits, 'digits', read_path,
        'Going on with `digits`, the small data set made by this project: its results are not '
        'those of MNIST.',
    )


def find_or_fall_back(
    dataset: str | os.PathLike | None,
    published: Callable[[], Any],
    names: Collection[str],
    own: Callable[[], Any],
    own_name: str,
    at: Callable[[Path], Any],
    notice: str,
) -> Any:
    """A data set by its name or path; None for the published one or, in need, the project's own.

    :param dataset: what the user asked for
    :param published: gets the published one, or raises DownloadError
    :param names: of the published one
    :param own: makes the project's own
    :param own_name: its name
    :param at: reads what lies at a path
    :param notice: what to say on stderr when the project's own takes the place of the other
    """
    if dataset is None:
        try:
            return published()
        except DownloadError as error:
            print(f'NOTICE: {error} {notice}', file=sys.stderr)
            return own()
    name = os.path.expanduser(os.fsdecode(dataset))
    if name == own_name:
        return own()
    if name in names:
        return published()
    return at(existing(name))


def read_mnist() -> ImageData:
    """MNIST, from where it is, or from one of its mirrors.

    :raises DownloadError: when it is not here and cannot be had
    :raises UserError: when it is here and broken
    """
    path = find_mnist()
    if path is not None:
        return read_path(path)
    with downloaded_mnist(DATA_FOLDER, missing_idx) as folder:
        return read_path(folder)


# Where things are


def search_folders() -> list[Path]:
    """Where a bare name is looked up, in this order."""
    folders = [Path.cwd(), DATA_FOLDER]
    if os.environ.get('DLT_DATA_DIR'):
        folders.insert(1, Path(os.environ['DLT_DATA_DIR']).expanduser())
    return folders


def find(name: str) -> Path | None:
    """The first file or folder of that name in the search folders."""
    return next((f / name for f in search_folders() if name and os.path.exists(f / name)), None)


def existing(name: str) -> Path:
    """The path that the user named: as it is, or in the search folders for a bare name.

    :raises UserError: when there is none
    """
    if os.path.dirname(name):
        if not os.path.exists(name):
            raise UserError(f'there is no data set {name}: correct the path.')
        return Path(name)
    path = find(name)
    if path is None:
        folders = ', '.join(str(folder) for folder in search_folders())
        raise UserError(
            f'the data set {name!r} was found in none of {folders}: put it into one of them, set '
            'DLT_DATA_DIR to its folder, or give its path.'
        )
    return path


def find_mnist() -> Path | None:
    """The file `mnist.pkl.gz`, or else a folder `mnist` of IDX files, in the search folders."""
    path = find('mnist.pkl.gz')
    if path is not None:
        return path
    for folder in search_folders():
        folder = folder / 'mnist'
        n_missing = len(missing_idx(folder))
        # Some, but not all: in `data/` that is a download that was cut short, and is completed.
        # Anywhere else it is the user's mistake, which reading the folder will explain.
        is_downloaded = folder == DATA_FOLDER / 'mnist'
        if n_missing == 0 or (n_missing < len(IDX_FILES) and not is_downloaded):
            return folder
    return None


# Kinds of source: each reader gives the arrays as they are stored


def read_path(path: Path) -> ImageData:
    """Read the file or folder at `path`, whichever kind it is."""
    path = Path(os.path.abspath(path))  # `.` has no name of its own
    lower = path.name.lower()
    if path.is_dir():
        arrays = read_idx_folder(path)
    elif lower.endswith('.npz'):
        arrays = read_npz(path)
    elif lower.removesuffix('.gz').endswith(('.pkl', '.pickle')):
        with readable(path), open_unpacked(path) as file:
            arrays = read_pickle(file, path, LARGEST)
    else:
        raise UserError(
            f'{path}: of an unknown kind: give a .pkl, .pkl.gz or .npz file, a folder of the four '
            'IDX files, or `digits`.'
        )
    return checked(path, arrays)


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while `path` is parsed into one line for the user.

    The bytes may come from anywhere and can make a parser fail in any way (zlib, zipfile, pickle
    and NumPy raise a dozen types between them), hence the wide net.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:200]
        raise UserError(
            f'{path}: cannot be read, it is damaged or not what its name says ({reason}): '
            'delete it, or replace it by a good copy.'
        ) from error


@contextlib.contextmanager
def open_unpacked(path: Path) -> Iterator[BinaryIO]:
    """Open a file and, if it is compressed with gzip (whatever its name), unpack it on the way."""
    with open(path, 'rb') as file:
        if file.peek(2)[:2] == b'\x1f\x8b':
            with gzip.open(file) as unpacked:
                yield unpacked
        else:
            yield file


# The files of a folder: the part of the name that says which, and the number of dimensions.
IDX_FILES = (('train-images', 3), ('train-labels', 1), ('t10k-images', 3), ('t10k-labels', 1))


def idx_path(folder: Path, part: str, ndim: int) -> Path | None:
    """The IDX file for `part` in the folder, raw rather than compressed."""
    names = [f'{part}{dot}idx{ndim}-ubyte{gz}' for gz in ('', '.gz') for dot in '-.']
    return next((folder / name for name in names if os.path.isfile(folder / name)), None)


def missing_idx(folder: Path) -> list[str]:
    """Names, as on the mirrors of MNIST, of the IDX files that the folder lacks."""
    return [f'{part}-idx{ndim}-ubyte.gz' for part, ndim in IDX_FILES
            if idx_path(folder, part, ndim) is None]


def read_idx_folder(folder: Path) -> Arrays:
    """Read the four IDX files."""
    found = []
    for part, ndim in IDX_FILES:
        path = idx_path(folder, part, ndim)
        if path is None:
            raise UserError(
                f'{folder}: has no {part}-idx{ndim}-ubyte or {part}-idx{ndim}-ubyte.gz: put all '
                'four IDX files there.'
            )
        found.append(read_idx(path, ndim))
    train_x, train_y, test_x, test_y = found
    return [*split_training(folder, train_x, train_y), (test_x, test_y)]


def read_idx(path: Path, ndim: int) -> numpy.ndarray:
    """Read one IDX file: two zero bytes, type, number of dimensions, sizes (big-endian), values.

    :returns: uint8, with `ndim` dimensions
    """
    with readable(path), open_unpacked(path) as file:
        magic = file.read(4)
        if magic != bytes([0, 0, 8, ndim]):
            raise UserError(
                f'{path}: starts with {magic.hex()}, an IDX file of bytes in {ndim} dimension(s) '
                f'with 000008{ndim:02x}: delete it, or replace it by a good copy.'
            )
        shape = numpy.frombuffer(file.read(4 * ndim), dtype='>u4', count=ndim).tolist()
        size = math.prod(shape)
        check_size(path, size)
        values = file.read(size)
        # Asking for one byte more also makes gzip verify its checksum.
        if len(values) < size or file.read(1):
            what = 'is cut short' if len(values) < size else 'goes on after its end'
            raise UserError(
                f'{path}: {what}, its header announces {size} bytes {tuple(shape)}: '
                'delete it, or replace it by a good copy.'
            )
        return numpy.frombuffer(values, dtype=numpy.uint8).reshape(shape)


NPZ_KEYS = ('train_x', 'train_y', 'valid_x', 'valid_y', 'test_x', 'test_y')


@contextlib.contextmanager
def open_npz(path: Path) -> Iterator[numpy.lib.npyio.NpzFile]:
    """Open an `.npz`, refusing objects. NumPy leaves a broken file open; this does not."""
    with open(path, 'rb') as file, numpy.load(file, allow_pickle=False) as arrays:
        yield arrays


def read_npz(path: Path) -> Arrays:
    """Read an `.npz`, with the keys that the head of this module lists."""
    with readable(path):
        # What the archive says of its size is what can be got out of it: zipfile stops there.
        with zipfile.ZipFile(path) as archive:
            check_size(path, sum(member.file_size for member in archive.infolist()))
        with open_npz(path) as arrays:
            for keys in (NPZ_KEYS, ('x_train', 'y_train', 'x_test', 'y_test')):
                if set(keys) <= set(arrays.files):
                    found = [arrays[key] for key in keys]
                    break
            else:
                raise UserError(
                    f'{path}: holds {", ".join(arrays.files) or "nothing"}: name its arrays '
                    f'{", ".join(NPZ_KEYS)}.'
                )
    pairs = list(zip(found[::2], found[1::2], strict=True))
    if len(pairs) == 2:
        pairs[:1] = split_training(path, *pairs[0])
    return pairs


def split_training(path: Path, x: numpy.ndarray, y: numpy.ndarray) -> Arrays:
    """Make the end of the training set the validation set: 10,000 of 60,000, else a sixth."""
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise UserError(
            f'{path}: the training set has images of shape {x.shape} and labels of shape {y.shape}:'
            ' give one label for each image.'
        )
    n_train = len(x) - len(x) // 6
    return [(x[:n_train], y[:n_train]), (x[n_train:], y[n_train:])]


def read_digits() -> ImageData:
    """The data set drawn by `support.digits`, kept in `data/digits.npz` where that is writable."""
    cache = DATA_FOLDER / 'digits.npz'
    with contextlib.suppress(UserError):  # not there, or broken: made anew, like an old version
        with readable(cache), open_npz(cache) as arrays:
            version = int(arrays['version'])
        if version == VERSION:
            return checked(cache, read_npz(cache), name='digits')
    digits = make_digits()
    arrays = dict(zip(NPZ_KEYS, [array for pair in digits for array in pair], strict=True))
    # Where the folder is not writable the digits are simply drawn again the next time.
    with contextlib.suppress(OSError):
        DATA_FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='.digits-', dir=DATA_FOLDER) as temporary:
            part = Path(temporary) / cache.name
            numpy.savez_compressed(part, version=VERSION, **arrays)
            os.replace(part, cache)
    return checked(cache, digits, name='digits')


# Checks of the content


def check_size(path: Path, size: int) -> None:
    """Refuse what would fill the memory.

    :param size: in bytes
    :raises UserError: when there are more than LARGEST
    """
    if size > LARGEST:
        raise UserError(
            f'{path}: takes {size} bytes once it is unpacked, more than the limit of {LARGEST}: '
            'replace it by a good copy, or by a part of it.'
        )


def checked(path: Path, pairs: Arrays, name: str | None = None) -> ImageData:
    """Check the arrays and bring them into the one form that the scripts use.

    :param path: where they come from, for the messages
    :param pairs: images and labels as they are stored; the list is emptied on the way, so that
        the memory of each array is free again as soon as it has been converted
    :param name: name of the data set, if it is not that of the file
    :returns: the data set, with the arrays that the scripts train on
    :raises UserError: when shapes, types or values are not those of images and labels
    """
    check_size(path, 4 * sum(x.size for x, y in pairs))
    image_shape = pairs[0][0].shape[1:]
    sets = []
    for which in ('training', 'validation', 'test'):
        x, y = pairs.pop(0)
        where = f'{path}: the {which} set'
        sets.append((checked_images(where, x), checked_labels(where, y, n=len(x))))
        n_in = sets[0][0].shape[1]
        if sets[-1][0].shape[1] != n_in:
            raise UserError(
                f'{where} has images of {sets[-1][0].shape[1]} pixels, the training set of {n_in}: '
                'make them equal.'
            )
    if len(image_shape) == 1:
        side = math.isqrt(n_in)
        image_shape = (side, side) if side * side == n_in else (1, n_in)

    sha256 = hashlib.sha256()
    for array in (array for pair in sets for array in pair):
        sha256.update(f'{array.dtype.name}{array.shape}'.encode())
        sha256.update(array)
    return ImageData(
        name=name or path.name,
        sha256=sha256.hexdigest(),
        train=sets[0],
        valid=sets[1],
        test=sets[2],
        image_shape=tuple(image_shape),
        n_classes=1 + max(int(y.max()) for x, y in sets),
    )


def checked_images(where: str, x: numpy.ndarray) -> numpy.ndarray:
    """Images as float32 (n, n_in) in [0, 1]: a copy, in one piece, that may be written to."""
    if x.dtype.kind not in 'biuf':
        raise UserError(f'{where} has images of type {x.dtype}: store integers or floats.')
    if x.ndim not in (2, 3):
        raise UserError(
            f'{where} has images of shape {x.shape}: give (n, pixels) or (n, height, width).'
        )
    if x.size == 0:
        raise UserError(f'{where} is empty, its images have the shape {x.shape}: fill it.')
    is_integer = x.dtype.kind in 'iu'
    low, high = x.min(), x.max()  # both are NaN if one pixel is
    if numpy.isnan(low):
        raise UserError(f'{where} has pixels that are NaN: mend them.')
    limit = 255 if is_integer else 1
    if low < 0 or high > limit:
        raise UserError(
            f'{where} has {x.dtype} pixels from {low} to {high}, not within 0 to {limit}: '
            'scale them.'
        )
    x = x.reshape(len(x), -1)
    # 1 / 256 is a power of two: the product is exact, and equal to what the old pickle holds.
    factor = numpy.float32(1 / 256 if is_integer else 1)
    return numpy.multiply(x, factor, dtype=numpy.float32, order='C', casting='unsafe')


def checked_labels(where: str, y: numpy.ndarray, n: int) -> numpy.ndarray:
    """Labels as int32 (n,): a copy."""
    if y.dtype.kind not in 'iu':
        raise UserError(f'{where} has labels of type {y.dtype}: store integers.')
    if y.shape not in ((n,), (n, 1)):
        raise UserError(
            f'{where} has {n} images and labels of shape {y.shape}: give one label for each image.'
        )
    if y.min() < 0 or y.max() > LARGEST_LABEL:
        raise UserError(
            f'{where} has labels from {y.min()} to {y.max()}, not within 0 to {LARGEST_LABEL}: '
            'number the classes from 0.'
        )
    return y.reshape(n).astype(numpy.int32)


# Tunes

NOTTINGHAM_NAMES = ('Nottingham', 'Nottingham.zip')
LARGEST_ZIP = 256 * 1024**2  # bytes of an archive of tunes, which is held in memory
SPLITS = ('train', 'valid', 'test')


# A file in a folder; or, from an archive, the path that it would have, and its bytes.
MidiPath = Path | tuple[str, bytes]


@dataclass(frozen=True)
class TuneFiles:
    """MIDI files, found but not read yet, each list sorted by name.

    :param name: name of the folder or archive, or 'tunes'
    :param train: all files, where there are no folders `train`, `valid` and `test`
    :param valid: may be empty
    :param test: may be empty
    """

    name: str
    train: list[MidiPath]
    valid: list[MidiPath]
    test: list[MidiPath]


def find_tunes(dataset: str | os.PathLike | None = None) -> TuneFiles:
    """Find a collection of tunes.

    :param dataset: `tunes`, those that the project composes itself; or the name or path, as for
        `read`, of a folder or a zip of MIDI files, with folders `train`, `valid` and `test` or
        without. `Nottingham` is downloaded when it is not found. None: Nottingham, or, where it
        can be neither found nor downloaded, `tunes` and a notice on stderr.
    :raises UserError: for a collection that is not found, or holds no MIDI file
    """
    return find_or_fall_back(
        dataset, find_nottingham, NOTTINGHAM_NAMES, own_tunes, 'tunes', tunes_at,
        'Going on with `tunes`, a few that are composed by this project: the results are not those '
        'of Nottingham.',
    )


def find_nottingham() -> TuneFiles:
    """The folder `Nottingham` or else `Nottingham.zip` in the search folders, or a download.

    :raises DownloadError: when it is not here and cannot be had
    :raises UserError: when it is here and broken
    """
    for folder in search_folders():
        for name in NOTTINGHAM_NAMES:
            if os.path.exists(folder / name):
                return tunes_at(folder / name)
    path = DATA_FOLDER / 'Nottingham.zip'
    return tunes_in_archive(path, downloaded_nottingham(DATA_FOLDER))


def tunes_at(path: Path) -> TuneFiles:
    """The MIDI files in the folder or the zip at ``path``."""
    path = Path(os.path.abspath(path))
    if path.is_dir():
        files = [(file.relative_to(path).as_posix(), file) for file in path.rglob('*')
                 if file.is_file()]
        return split_by_folder(path, files)
    if os.path.getsize(path) > LARGEST_ZIP:
        raise UserError(f'{path}: is larger than {LARGEST_ZIP} bytes: unpack it, and give the '
                        'folder.')
    return tunes_in_archive(path, path.read_bytes())


def tunes_in_archive(path: Path, content: bytes) -> TuneFiles:
    """The MIDI files in a zip; no name in it becomes a file."""
    with readable(path), zipfile.ZipFile(io.BytesIO(content)) as archive:
        check_size(path, sum(info.file_size for info in archive.infolist()))
        files = [(info.filename, (f'{path}/{info.filename}', archive.read(info)))
                 for info in archive.infolist()]
    return split_by_folder(path, files)


def split_by_folder(path: Path, files: list[tuple[str, MidiPath]]) -> TuneFiles:
    """Sort MIDI files into training, validation and test set by the folders they lie in.

    :param files: pairs of a name with its folders, separated by slashes, and the file
    """
    sets = {split: [] for split in SPLITS}
    outside = []
    for name, file in sorted(files, key=lambda pair: pair[0]):
        *folders, base = name.split('/')
        hidden = any(part.startswith(('.', '__MACOSX')) for part in (*folders, base))
        if hidden or not base.lower().endswith(('.mid', '.midi')):
            continue
        split = next((part for part in reversed(folders) if part in SPLITS), None)
        (outside if split is None else sets[split]).append(file)
    if not any(sets.values()):
        sets['train'] = outside
    if not sets['train']:
        raise UserError(f'{path}: holds no *.mid to train on: give a folder or a zip of MIDI '
                        'files, with folders train, valid and test or without.')
    return TuneFiles(path.name, **sets)


def own_tunes() -> TuneFiles:
    """The tunes composed by `support.tunes`, as MIDI files in an archive that is never on disk."""
    from support.midi import midiwrite  # a library that only the chapter on music needs

    content = io.BytesIO()
    with zipfile.ZipFile(content, 'w') as archive:
        for split, rolls in zip(SPLITS, tunes.make_tunes(), strict=True):
            for i, roll in enumerate(rolls):
                file = io.BytesIO()
                midiwrite(file, roll, tunes.R, tunes.DT)
                archive.writestr(f'{split}/tune{i:03}.mid', file.getvalue())
    return tunes_in_archive(Path('tunes'), content.getvalue())
