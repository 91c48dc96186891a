"""Find, read and check the data sets: of images, and of tunes.

`read` takes what the user named and gives three pairs of plain NumPy arrays. It knows

- the pickled triple of the old tutorials, `mnist.pkl.gz` (`.pkl`, `.pkl.gz`):
  `((train_x, train_y), (valid_x, valid_y), (test_x, test_y))`, from Python 2 or 3, NumPy 1 or 2;
- a folder of the four IDX files of MNIST, Fashion-MNIST, KMNIST ..., raw or `.gz`;
- an `.npz` with the arrays `train_x, train_y, valid_x, valid_y, test_x, test_y`, or with Keras'
  `x_train, y_train, x_test, y_test`;
- `digits`, which the project draws itself, for where there is no network.

Another format takes a function that gives the arrays as they are stored, and a line in `READERS`.

Images are (n, n_in) or (n, height, width): integers from 0 to 255, which are divided by 256, or
floats from 0 to 1. Labels are integers from 0, of shape (n,). Where there is no validation set it
is the end of the training set: the last 10,000 of 60,000 images, as the tutorials have always
split MNIST, and the last sixth of any other number.

`find_tunes` finds a folder or a zip of MIDI files, and leaves the reading to `support.midi`.

A file may come from anywhere: whatever a pickle asks to be called is not called, and no file is
unpacked to more than `LARGEST` bytes.
"""

import contextlib
import gzip
import hashlib
import io
import math
import os
import pickle
import re
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from support import tunes
from support.digits import VERSION, make_digits
from support.download import DownloadError, downloaded_mnist, downloaded_nottingham
from support.errors import UserError

DATA_FOLDER = Path(__file__).resolve().parents[2] / 'data'
LARGEST = 2 * 1024**3  # bytes of a file, once it is unpacked, and of the arrays made from it
LARGEST_LABEL = 65535

Arrays = list[tuple[numpy.ndarray, numpy.ndarray]]  # pairs of images and labels


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
    image_shape: tuple[int, int]
    n_classes: int

    @property
    def n_in(self) -> int:
        """Number of pixels of an image."""
        return self.train[0].shape[1]


def read(dataset: str | os.PathLike | None = None) -> ImageData:
    """Read a data set of images.

    :param dataset: `digits`; a bare name, which is looked up in the working directory, in
        `$DLT_DATA_DIR` and in the repository's `data/`; or a path, which is used as it is. MNIST
        (`mnist.pkl.gz`, or `mnist` for the folder) is downloaded when it is not found. None: MNIST,
        or, where it can be neither found nor downloaded, `digits` and a notice on stderr.
    :raises UserError: for a data set that is not found, or whose file is broken
    """
    if dataset is None:
        try:
            return read_mnist()
        except DownloadError as error:
            print(f'NOTICE: {error} Going on with digits, the small data set made by this project: '
                  'its results are not those of MNIST.', file=sys.stderr)
            return read_digits()
    name = os.path.expanduser(os.fsdecode(dataset))
    if name == 'digits':
        return read_digits()
    if name in ('mnist', 'mnist.pkl.gz'):  # the same arrays: one stands for the other
        return read_mnist()
    return read_path(existing(name))


def read_mnist() -> ImageData:
    """MNIST, from where it is, or from one of its mirrors.

    :raises DownloadError: when it is not here and cannot be had
    """
    path = find('mnist.pkl.gz')
    for folder in [folder / 'mnist' for folder in search_folders()]:
        n_found = sum(idx_path(folder, *file) is not None for file in IDX_FILES)
        # Some, but not all: in `data/` that is a download that was cut short, and is completed.
        # Anywhere else it is the user's mistake, which reading the folder will explain.
        if n_found == len(IDX_FILES) or (n_found and folder != DATA_FOLDER / 'mnist'):
            path = path or folder
    if path is not None:
        return read_path(path)
    with downloaded_mnist(DATA_FOLDER) as folder:
        return read_path(folder)


def read_digits() -> ImageData:
    """The data set drawn by `support.digits`, kept in `data/` where that is writable."""
    cache = DATA_FOLDER / f'digits-{VERSION}.npz'
    with contextlib.suppress(UserError, OSError):  # broken, or not there: made anew
        return read_path(cache, 'digits')
    digits = make_digits()
    with contextlib.suppress(OSError):  # made anew the next time, too
        DATA_FOLDER.mkdir(parents=True, exist_ok=True)
        part = cache.with_name(f'.{cache.name}.part')
        arrays = [array for pair in digits for array in pair]
        with open(part, 'wb') as file:
            numpy.savez_compressed(
                file, **dict(zip(NPZ_KEYS, arrays, strict=True)))  # type: ignore[arg-type]
        os.replace(part, cache)
    return checked(cache, digits, 'digits')


# Where things are -------------------------------------------------------------------------------

def search_folders() -> list[Path]:
    """Where a bare name is looked up, in this order."""
    named = os.environ.get('DLT_DATA_DIR')
    return [Path.cwd(), *([Path(named).expanduser()] if named else []), DATA_FOLDER]


def find(name: str) -> Path | None:
    """The first file or folder of that name in the search folders, or where a path leads to."""
    folders = [Path()] if os.path.dirname(name) else search_folders()
    return next((f / name for f in folders if name and os.path.exists(f / name)), None)


def existing(name: str) -> Path:
    """What :func:`find` finds.

    :raises UserError: when there is nothing
    """
    path = find(name)
    if path is not None:
        return path
    if os.path.dirname(name):
        raise UserError(f'there is no data set {name}: correct the path.')
    folders = ', '.join(map(str, search_folders()))
    raise UserError(f'the data set {name!r} was found in none of {folders}: put it into one of '
                    'them, set DLT_DATA_DIR to its folder, or give its path.')


# Reading ----------------------------------------------------------------------------------------

def read_path(path: Path, name: str | None = None) -> ImageData:
    """Read the file or folder at `path`, whichever kind it is."""
    path = Path(os.path.abspath(path))  # `.` has no name of its own
    ending = next((end for end in READERS if path.name.lower().endswith(end)), '')
    reader = read_idx_folder if path.is_dir() else READERS.get(ending)
    if reader is None:
        raise UserError(f'{path}: of an unknown kind: give digits, a folder of the four IDX files, '
                        f'or a file with one of the endings {" ".join(READERS)}.')
    with readable(path):
        pairs = reader(path)
    return checked(path, pairs, name)


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while `path` is parsed into one line for the user.

    The bytes may come from anywhere and can make a parser fail in any way (zlib, zipfile, pickle
    and NumPy raise a dozen types between them), hence the wide net.
    """
    try:
        yield
    except Exception as error:
        # Of some the line is there already, and errors with a number are those of the disk.
        if isinstance(error, UserError) or isinstance(error, OSError) and error.errno:
            raise
        reason = ' '.join(str(error).split())[:200] or type(error).__name__
        raise UserError(f'{path}: cannot be read, it is damaged or not what its name says '
                        f'({reason}): delete it, or replace it by a good copy.') from error


def unpacked(path: Path) -> bytes:
    """The content of a file, unpacked if it is compressed with gzip (whatever its name)."""
    content = io.BytesIO()
    with readable(path), open(path, 'rb') as file:
        is_packed = file.peek(2)[:2] == b'\x1f\x8b'
        with gzip.open(file) if is_packed else file as stream:
            while block := stream.read(2**20):
                content.write(block)
                check_size(path, content.tell())
    return content.getvalue()


def check_size(path: Path, size: int) -> None:
    """Refuse what would fill the memory.

    :param size: in bytes
    :raises UserError: when there are more than LARGEST
    """
    if size > LARGEST:
        raise UserError(f'{path}: takes more than {LARGEST} bytes once it is unpacked: replace it '
                        'by a good copy, or by a part of it.')


def check_unpacked(path: Path, archive: zipfile.ZipFile) -> None:
    """The same for a zip: what it says of the sizes is all that zipfile will unpack."""
    check_size(path, sum(info.file_size for info in archive.infolist()))


# The files of a folder: the part of the name that says which, and the number of dimensions.
IDX_FILES = (('train-images', 3), ('train-labels', 1), ('t10k-images', 3), ('t10k-labels', 1))


def idx_path(folder: Path, part: str, ndim: int) -> Path | None:
    """The IDX file for `part` in the folder, raw rather than compressed."""
    names = [f'{part}{dot}idx{ndim}-ubyte{gz}' for gz in ('', '.gz') for dot in '-.']
    return next((folder / name for name in names if os.path.isfile(folder / name)), None)


def read_idx_folder(folder: Path) -> Arrays:
    """Read the four IDX files."""
    arrays = []
    for part, ndim in IDX_FILES:
        path = idx_path(folder, part, ndim)
        if path is None:
            raise UserError(f'{folder}: has no {part}-idx{ndim}-ubyte or {part}-idx{ndim}-ubyte.gz:'
                            ' put all four IDX files there.')
        with readable(path):
            arrays.append(read_idx(path, ndim))
    return [(arrays[0], arrays[1]), (arrays[2], arrays[3])]


def read_idx(path: Path, ndim: int) -> numpy.ndarray:
    """Read one IDX file: two zero bytes, type, number of dimensions, sizes (big-endian), values.

    :returns: uint8, with `ndim` dimensions
    """
    content = unpacked(path)
    if content[:4] != bytes([0, 0, 8, ndim]):
        raise ValueError(f'it starts with {content[:4].hex()}, an IDX file of bytes in {ndim} '
                         f'dimension(s) with 000008{ndim:02x}')
    shape = numpy.frombuffer(content, '>u4', ndim, offset=4).tolist()
    values = numpy.frombuffer(memoryview(content)[4 + 4 * ndim:], numpy.uint8)
    if len(values) != math.prod(shape):
        raise ValueError(f'it has {len(values)} values, its header announces {tuple(shape)}')
    return values.reshape(shape)


NPZ_KEYS = ('train_x', 'train_y', 'valid_x', 'valid_y', 'test_x', 'test_y')
KERAS_KEYS = ('x_train', 'y_train', 'x_test', 'y_test')


def read_npz(path: Path) -> Arrays:
    """Read an `.npz`, with the keys that the head of this module lists."""
    with zipfile.ZipFile(path) as archive:
        check_unpacked(path, archive)
    # NumPy would leave a broken file open.
    with open(path, 'rb') as file, numpy.load(file, allow_pickle=False) as arrays:
        keys = KERAS_KEYS if set(KERAS_KEYS) <= set(arrays.files) else NPZ_KEYS
        if not set(keys) <= set(arrays.files):
            raise UserError(f'{path}: holds the arrays {str(arrays.files)[:200]}: name them '
                            f'{", ".join(NPZ_KEYS)}.')
        found = [arrays[key] for key in keys]
    return list(zip(found[::2], found[1::2], strict=True))


class Call:
    """What a pickle asks to be called, noted down: with its arguments, and the state set then."""

    __match_args__ = ('name', 'arguments', 'state')
    name, arguments, state = '', (), ()

    def __init__(self, *arguments: Any):
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


class ArrayUnpickler(pickle.Unpickler):
    """Notes down the calls that pickled arrays ask for, and calls nothing itself.

    NumPy's own functions are not called on what a file says either: with some types and states,
    they take its bytes for the addresses of Python objects.
    """

    # From Python 2 and 3, NumPy 1 and 2.
    allowed = ('numpy.ndarray', 'numpy.dtype', 'numpy.core.multiarray._reconstruct',
               'numpy.core.multiarray.scalar', 'numpy.core.numeric._frombuffer', '_codecs.encode',
               'builtins.bytes', '__builtin__.bytes')

    def find_class(self, module: str, name: str) -> type:
        wanted = f'{module}.{name}'.replace('numpy._core.', 'numpy.core.')  # its name in NumPy 2
        if wanted not in self.allowed:
            raise ValueError(f'it asks for {wanted[:100]!r}, which is no part of an array and '
                             'could run a program')
        return type('Call', (Call,), {'name': wanted})


def pickled(value: Any) -> Any:
    """The array, number, type or bytes that a :class:`Call` stands for; lists of such as well.

    :raises Exception: of many types, for what is no part of an array of numbers
    """
    match value:
        case bytes() | bytearray() | int():
            return value
        case list():
            return numpy.array([pickled(item) for item in value])
        case Call('numpy.core.multiarray._reconstruct', _, (_, shape, dtype, is_fortran, data)):
            array = numpy.frombuffer(pickled(data), pickled(dtype))
            return array.reshape(shape, order='F' if is_fortran else 'C')
        case Call('numpy.core.numeric._frombuffer', (data, dtype, shape, order, *axes)):
            array = numpy.frombuffer(pickled(data), pickled(dtype))
            if axes:
                return array.reshape(shape).transpose(*axes)
            return array.reshape(shape, order=order)
        case Call('numpy.core.multiarray.scalar', (dtype, data)):
            return numpy.frombuffer(pickled(data), pickled(dtype))[0]
        case Call('numpy.dtype', (code, *_), (_, order, *_)):
            # Strings of Python 2 are bytes here.
            code, order = (str(x, 'ascii') if isinstance(x, bytes) else x for x in (code, order))
            if re.fullmatch('[<>|=][biuf][1248]', order + code):
                return numpy.dtype(order + code)
            raise ValueError(f'it holds an array of type {code[:9]!r}, not of numbers')
        case Call('_codecs.encode', (str(text), 'latin1')):  # bytes, in old protocols
            return text.encode('latin1')
        case Call('builtins.bytes' | '__builtin__.bytes', ()):
            return b''
    raise ValueError(f'it holds a {type(value).__name__} in place of an array of numbers')


def read_pickle(path: Path) -> Arrays:
    """Read a pickled triple of pairs of arrays; labels may also be a list of integers."""
    with io.BytesIO(unpacked(path)) as content:
        triple = ArrayUnpickler(content, encoding='bytes').load()
        if content.read(1):
            raise ValueError('it goes on after its end')
    try:
        (train_x, train_y), (valid_x, valid_y), (test_x, test_y) = triple
    except (TypeError, ValueError) as error:
        raise UserError(
            f'{path}: is no triple ((train_x, train_y), (valid_x, valid_y), (test_x, test_y)): '
            'pickle the arrays in this form.'
        ) from error
    return [(numpy.asarray(pickled(x)), numpy.asarray(pickled(y)))
            for x, y in ((train_x, train_y), (valid_x, valid_y), (test_x, test_y))]


# How the name of a file ends, and what reads it: into three pairs of arrays as they are stored, or
# two for want of a validation set. What a reader raises becomes one line for the user.
READERS: dict[str, Callable[[Path], Arrays]] = {
    '.npz': read_npz,
    '.pkl': read_pickle,
    '.pkl.gz': read_pickle,
    '.pickle': read_pickle,
    '.pickle.gz': read_pickle,
}


# Checking ---------------------------------------------------------------------------------------

def checked(path: Path, pairs: Arrays, name: str | None = None) -> ImageData:
    """Check the arrays and bring them into the one form that the scripts use.

    :param path: where they come from, for the messages
    :param pairs: images and labels as they are stored; the list is emptied on the way, so that
        the memory of each array is free again as soon as it has been converted
    :param name: name of the data set, if it is not that of the file
    :raises UserError: when shapes, types or values are not those of images and labels
    """
    check_size(path, 4 * sum(x.size for x, y in pairs))
    image_shape: Any = next((x.shape[1:] for x, y in pairs if x.ndim == 3), None)
    sets = []
    for which in ('training', 'validation', 'test') if len(pairs) == 3 else ('training', 'test'):
        x, y = pairs.pop(0)
        where = f'{path}: the {which} set'
        images = checked_images(where, x)
        sets.append((images, checked_labels(where, y, len(images))))
        n_in = images.shape[1]
        if image_shape is None:  # flat ones are squares, where that is possible
            side = math.isqrt(n_in)
            image_shape = (side, side) if side * side == n_in else (1, n_in)
        if n_in != math.prod(image_shape) or x.ndim == 3 and x.shape[1:] != image_shape:
            raise UserError(f'{where} has images of shape {x.shape[1:]}, others are {image_shape}: '
                            'make them equal.')
    if len(sets) == 2:
        images, labels = sets[0]
        n_train = len(images) - len(images) // 6
        sets[:1] = [(images[:n_train], labels[:n_train]), (images[n_train:], labels[n_train:])]
        if len(images) < 6:
            raise UserError(f'{path}: has {len(images)} training images, of which a sixth has to '
                            'be the validation set: give more.')

    sha256 = hashlib.sha256()
    for array in (array for pair in sets for array in pair):
        sha256.update(f'{array.dtype.name}{array.shape}'.encode())
        sha256.update(array)
    train, valid, test = sets
    return ImageData(name or path.name, sha256.hexdigest(), train, valid, test, image_shape,
                     1 + max(int(labels.max()) for images, labels in sets))


def checked_images(where: str, x: numpy.ndarray) -> numpy.ndarray:
    """Images as float32 (n, n_in) in [0, 1]: a copy, in one piece, that may be written to."""
    if x.dtype.kind not in 'biuf':
        raise UserError(f'{where} has images of type {x.dtype}: store integers or floats.')
    if x.ndim not in (2, 3):
        raise UserError(
            f'{where} has images of shape {x.shape}: give (n, pixels) or (n, height, width).')
    if x.size == 0:
        raise UserError(f'{where} is empty, its images have the shape {x.shape}: fill it.')
    is_integer = x.dtype.kind in 'iu'
    low, high = x.min(), x.max()  # both are NaN if one pixel is
    if numpy.isnan(low):
        raise UserError(f'{where} has pixels that are NaN: mend them.')
    limit = 255 if is_integer else 1
    if low < 0 or high > limit:
        raise UserError(f'{where} has {x.dtype} pixels from {low} to {high}, not within 0 to '
                        f'{limit}: scale them.')
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
            f'{where} has {n} images and labels of shape {y.shape}: give one label for each image.')
    if y.min() < 0 or y.max() > LARGEST_LABEL:
        raise UserError(f'{where} has labels from {y.min()} to {y.max()}, not within 0 to '
                        f'{LARGEST_LABEL}: number the classes from 0.')
    return y.reshape(n).astype(numpy.int32)


# Tunes ------------------------------------------------------------------------------------------

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
    if dataset is None:
        try:
            return find_nottingham()
        except DownloadError as error:
            print(f'NOTICE: {error} Going on with tunes, a few that are composed by this project: '
                  'the results are not those of Nottingham.', file=sys.stderr)
            return own_tunes()
    name = os.path.expanduser(os.fsdecode(dataset))
    if name == 'tunes':
        return own_tunes()
    if name in ('Nottingham', 'Nottingham.zip'):
        return find_nottingham()
    return tunes_at(existing(name))


def find_nottingham() -> TuneFiles:
    """The folder `Nottingham` or else `Nottingham.zip` in the search folders, or a download.

    :raises DownloadError: when it is not here and cannot be had
    """
    path = find('Nottingham') or find('Nottingham.zip')
    if path is not None:
        return tunes_at(path)
    with downloaded_nottingham(DATA_FOLDER) as folder:
        return tunes_at(folder / 'Nottingham.zip')


def tunes_at(path: Path) -> TuneFiles:
    """The MIDI files in the folder or the zip at `path`; no name in a zip becomes a file."""
    path = Path(os.path.abspath(path))
    if path.is_dir():
        return split_by_folder(path, [(file.relative_to(path).as_posix(), file)
                                      for file in path.rglob('*') if is_midi(file.name)])
    with readable(path), zipfile.ZipFile(path) as archive:
        check_unpacked(path, archive)
        files = [(info.filename, (f'{path}/{info.filename}', archive.read(info)))
                 for info in archive.infolist() if is_midi(info.filename)]
    return split_by_folder(path, files)


def is_midi(name: str) -> bool:
    return name.lower().endswith(('.mid', '.midi'))


def split_by_folder(path: Path, files: Sequence[tuple[str, MidiPath]]) -> TuneFiles:
    """Sort MIDI files into training, validation and test set by the folders they lie in.

    :param files: pairs of a name with its folders, separated by slashes, and the file
    """
    sets: dict[str, list[MidiPath]] = {split: [] for split in (*SPLITS, '')}
    for name, file in sorted(files, key=lambda pair: pair[0]):
        *folders, base = name.split('/')
        if not any(part.startswith(('.', '__MACOSX')) for part in (*folders, base)):
            sets[next((part for part in reversed(folders) if part in SPLITS), '')].append(file)
    outside = sets.pop('')
    if not any(sets.values()):
        sets['train'] = outside
    if not sets['train']:
        raise UserError(f'{path}: holds no *.mid to train on: give a folder or a zip of MIDI '
                        'files, with folders train, valid and test or without.')
    return TuneFiles(path.name, **sets)


def own_tunes() -> TuneFiles:
    """The tunes composed by `support.tunes`, as MIDI files that are never on disk."""
    from support.midi import midiwrite  # a library that only the chapter on music needs

    sets: dict[str, list[MidiPath]] = {split: [] for split in SPLITS}
    for split, rolls in zip(SPLITS, tunes.make_tunes(), strict=True):
        for i, roll in enumerate(rolls):
            file = io.BytesIO()
            midiwrite(file, roll, tunes.R, tunes.DT)
            sets[split].append((f'tunes/{split}/tune{i:03}.mid', file.getvalue()))
    return TuneFiles('tunes', **sets)
