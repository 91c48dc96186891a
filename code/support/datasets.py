"""Find, read and check the data sets: of images, and of tunes.

`read` takes what the user named and gives three pairs of plain NumPy arrays. It knows

- the pickled triple of the old tutorials, `mnist.pkl.gz` (`.pkl`, `.pkl.gz`):
  `((train_x, train_y), (valid_x, valid_y), (test_x, test_y))`, from Python 2 or 3, NumPy 1 or 2;
- a folder of the four IDX files of MNIST, Fashion-MNIST, KMNIST ..., raw or `.gz`;
- an `.npz` with the arrays `train_x, train_y, valid_x, valid_y, test_x, test_y`, or with Keras'
  `x_train, y_train, x_val, y_val, x_test, y_test`; the training set is enough;
- a `.csv` as Kaggle has them, with a label and the pixels of an image in each line;
- a folder with a folder of image files for each class, see `support.pictures`;
- a `.parquet` with image files in it, or a folder of such;
- `digits`, which the project draws itself, for where there is no network.

Another format takes a function that gives the arrays as they are stored, and a line in `READERS`.

Images are (n, n_in) or (n, height, width): integers from 0 to 255, which are divided by 256 where
one in any set is above 1, or floats from 0 to 1. With a last axis of 3 colours, they become grey.
Labels are of shape (n,): integers from 0 or from 1, or names. Where there is no validation or test
set, it is split off the training set: of 60,000 images the last 10,000, as the tutorials have
always split MNIST, and of any other number a sixth, chosen at random.

`find_tunes` finds a folder or a zip of MIDI files, and leaves the reading to `support.midi`.

A file may come from anywhere: whatever a pickle asks to be called is not called, and no file is
unpacked to more than `files.LARGEST` bytes.
"""

import contextlib
import difflib
import hashlib
import io
import itertools
import math
import os
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from support import pictures, tunes
from support.chorales import make_chorales
from support.digits import VERSION, make_digits
from support.download import DownloadError, downloaded
from support.errors import UserError, notice
from support.files import check_size, readable, unpacked
from support.folders import written_atomically
from support.parquet import parquet_files, read_parquet
from support.pictures import SPLITS, SYNONYMS, Pair, Stored

import numpy

DATA_FOLDER = Path(__file__).resolve().parents[2] / 'data'
MOST_OPCODES = 10**6  # of a pickle
SIZED = re.compile('(.+)@([1-9][0-9]{0,3})(?:x([1-9][0-9]{0,3}))?')


@dataclass(frozen=True)
class ImageData:
    """A data set, read and checked.

    :param name: of the file or folder it was read from, or 'digits'
    :param sha256: hash of the six arrays with their shapes: of the content, not of the file
    :param train: images, float32 (n, n_in) in [0, 1], C-contiguous, and labels, int32 (n,)
    :param image_shape: (height, width), with height * width = n_in
    :param n_classes: the greatest label of all three sets, plus 1; or more, if more have names
    :param classes: the names of the classes, if there are any: that of label 0 first
    """

    name: str
    sha256: str
    train: Pair
    valid: Pair
    test: Pair
    image_shape: tuple[int, int]
    n_classes: int
    classes: tuple[str, ...] = ()

    @property
    def n_in(self) -> int:
        """Number of pixels of an image."""
        return self.train[0].shape[1]


def read(dataset: str | os.PathLike | None = None) -> ImageData:
    """Read a data set of images.

    :param dataset: `digits`; a bare name, which is looked up in the working directory, in
        `$DLT_DATA_DIR` and in the repository's `data/`; or a path, which is used as it is. MNIST
        (`mnist.pkl.gz`, or `mnist` for the folder) is downloaded when it is not found. None: MNIST,
        or, where it can be neither found nor downloaded, `digits` and a notice on stderr. With
        image files in it, `@28` or `@28x20` after the name scales them to this height and width.
    :raises UserError: for a data set that is not found, or that is broken
    """
    # The file and the folder hold the same arrays: one stands for the other.
    known = {'mnist': read_mnist, 'mnist.pkl.gz': read_mnist, 'digits': read_digits}
    sized = dataset and SIZED.fullmatch(os.fsdecode(dataset))
    if not sized or find(sized[0]):
        return named(dataset, known, read_path)
    name, height, width = sized.groups()
    if name in known:
        raise UserError(f'{name} has images of one size: leave the @ and what follows it away')
    return named(name, known,
                 partial(read_path, image_shape=(int(height), int(width or height))))


def named(dataset: str | os.PathLike | None, known: dict[str, Callable[[], Any]],
          read_other: Callable[[Path], Any]) -> Any:
    """What the user has named. None: the first one known, or else the last one, and a notice."""
    if dataset is None:
        first, *_, dataset = known
        try:
            return known[first]()
        except DownloadError as error:
            notice(f'{error} Going on with {dataset}, a small collection made by this project: its '
                   f'results are not those of {first}.')
    name = os.path.expanduser(os.fsdecode(dataset))
    if name in known:
        return known[name]()
    path = find(name)
    if path is None:
        near = difflib.get_close_matches(name, [*known, *neighbours(name)], n=1)
        but = f', but there is {near[0]!r}' if near else ''
        raise UserError(f'there is no {name!r}{but}: give the path of a data set, '
                        f'{", ".join(known)}, or the name of a file or folder in '
                        f'{", ".join(map(str, search_folders()))} (DLT_DATA_DIR adds a folder).')
    return read_other(path)


def find(name: str) -> Path | None:
    """The first file or folder of that name in the search folders, or where a path leads to."""
    folders = [Path()] if os.path.dirname(name) else search_folders()
    return next((f / name for f in folders if name and os.path.exists(f / name)), None)


def neighbours(name: str) -> list[str]:
    """What is there in place of a name or a path, in the same form."""
    parent = os.path.dirname(name.rstrip(os.sep))
    return [os.path.join(parent, other) for folder in ([parent] if parent else search_folders())
            if os.path.isdir(folder) and os.access(folder, os.R_OK) for other in os.listdir(folder)]


def search_folders() -> list[Path]:
    """Where a bare name is looked up, in this order."""
    own = os.environ.get('DLT_DATA_DIR')
    return [Path.cwd(), *([Path(own).expanduser()] if own else []), DATA_FOLDER]


def read_mnist() -> ImageData:
    """MNIST, from where it is, or from one of its mirrors."""
    # The images to train on are downloaded last: without them, a download has been cut short.
    folders = [folder / 'mnist' for folder in search_folders()
               if idx_path(folder / 'mnist', *IDX_FILES[0])]
    path = find('mnist.pkl.gz') or next(iter(folders), None)
    with contextlib.nullcontext(path) if path else downloaded('mnist', DATA_FOLDER) as path:
        return read_path(path)


def read_digits() -> ImageData:
    """The data set drawn by `support.digits`, kept in `data/` where that is writable."""
    cache = DATA_FOLDER / f'digits-{VERSION}.npz'
    with contextlib.suppress(UserError):  # broken, or not there: made anew
        return read_path(cache, 'digits')
    digits = make_digits()
    arrays: Any = dict(zip(NPZ_KEYS, itertools.chain(*digits), strict=True))
    with contextlib.suppress(OSError):  # made anew the next time, too
        DATA_FOLDER.mkdir(parents=True, exist_ok=True)
        with written_atomically(cache, durable=False) as file:
            numpy.savez_compressed(file, **arrays)
    return checked(cache, Stored(dict(zip(SPLITS, digits, strict=True))), 'digits')


def read_path(path: Path, name: str | None = None,
              image_shape: tuple[int, int] | None = None) -> ImageData:
    """Read the file or folder at `path`, whichever kind it is.

    :param name: of the data set; None for that of the file or folder
    :param image_shape: (height, width) to scale image files to; None for the size of the first
    """
    path = Path(os.path.abspath(path))  # `.` has no name of its own
    ending = next((end for end in READERS if path.name.lower().endswith(end)), '')
    reader = READERS.get(ending)
    if path.is_dir():
        if any(idx_path(path, *file) for file in IDX_FILES):
            reader = read_idx_folder
        elif parquet_files(path):
            reader = read_parquet
        else:
            reader = pictures.read_folder if pictures.folders_in(path) else None
    if reader is None:
        raise UserError(f'{path}: of an unknown kind: give a folder with a folder of images for '
                        'each class, with IDX or Parquet files, or a file with one of the endings '
                        f'{" ".join(READERS)}.')
    if image_shape:
        if reader not in (pictures.read_folder, read_parquet):
            raise UserError(f'{path}: has images of one size: leave the @ and what follows it away')
        reader = partial(reader, image_shape=image_shape)
    with readable(path):
        stored = reader(path)
        stored.sets = pictures.in_grey(path, stored.sets)
        stored = pictures.numbered(path, stored)
    return checked(path, stored, name)


# The files of a folder: the part of the name that says which, and the number of dimensions.
IDX_FILES = (('train-images', 3), ('train-labels', 1), ('t10k-images', 3), ('t10k-labels', 1))


def idx_path(folder: Path, part: str, ndim: int) -> Path | None:
    """The IDX file for `part` in the folder, raw rather than compressed."""
    names = [f'{part}{dot}idx{ndim}-ubyte{gz}' for gz in ('', '.gz') for dot in '-.']
    return next((folder / name for name in names if os.path.isfile(folder / name)), None)


def read_idx_folder(folder: Path) -> Stored:
    """Read the four IDX files: a magic number, the sizes (big-endian), the values."""
    arrays = []
    for part, ndim in IDX_FILES:
        path = idx_path(folder, part, ndim)
        if path is None:
            raise UserError(f'{folder}: has no {part}-idx{ndim}-ubyte: put all four files there.')
        with readable(path):
            content = unpacked(path)
            if content[:4] != bytes([0, 0, 8, ndim]):
                raise ValueError(f'it starts with {content[:4].hex()}, not with 000008{ndim:02x}')
            shape = numpy.frombuffer(content, '>u4', ndim, offset=4)
            arrays.append(numpy.frombuffer(content, 'u1', offset=4 + 4 * ndim).reshape(shape))
    return Stored({'train': (arrays[0], arrays[1]), 'test': (arrays[2], arrays[3])})


NPZ_KEYS = ('train_x', 'train_y', 'valid_x', 'valid_y', 'test_x', 'test_y')


def read_npz(path: Path) -> Stored:
    """Read an `.npz`, with the keys that the head of this module lists."""
    with zipfile.ZipFile(path) as archive:
        check_size(path, *[info.file_size for info in archive.infolist()])
    # NumPy would leave a broken file open.
    with open(path, 'rb') as file, numpy.load(file, allow_pickle=False) as arrays:
        x, y = ('x_{}', 'y_{}') if 'x_train' in arrays else ('{}_x', '{}_y')
        # What is no array comes as bytes.
        return Stored({SYNONYMS.get(split, split): (numpy.asarray(arrays[x.format(split)]),
                                                    numpy.asarray(arrays[y.format(split)]))
                       for split in (*SPLITS, 'val')
                       if split == 'train' or x.format(split) in arrays})


@dataclass
class Call:
    """What a pickle asks to be called, noted down: with its arguments, and the state set then."""

    name: str
    arguments: tuple
    state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class ArrayUnpickler(pickle.Unpickler):
    """Notes down the calls that pickled arrays ask for, and makes none of them.

    Not of NumPy's own functions either: with some types and states, they take the bytes of a file
    for the addresses of Python objects.
    """

    # From Python 2 and 3, NumPy 1 and 2.
    allowed = ('numpy.ndarray', 'numpy.dtype', 'numpy.core.multiarray._reconstruct',
               'numpy.core.multiarray.scalar', 'numpy.core.numeric._frombuffer', '_codecs.encode')

    def find_class(self, module: str, name: str) -> Any:
        wanted = f'{module}.{name}'.replace('numpy._core.', 'numpy.core.')  # its name in NumPy 2
        if wanted not in self.allowed:
            raise ValueError(f'it asks for {wanted[:100]!r}, which could run a program')
        return lambda *arguments: Call(wanted, arguments)


def check_opcodes(content: bytes) -> None:
    """Refuse a pickle that might take hours or any amount of memory, before it does.

    Arrays need few steps, no dictionary and no set: keys can be made that all have one hash.
    """
    for n, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        place = argument if opcode.name.endswith('PUT') else 0  # in the list of what comes again
        if max(n, place or 0) > MOST_OPCODES:
            raise ValueError(f'it has more than {MOST_OPCODES} parts: save arrays, not lists')
        if opcode.name in ('DICT', 'SETITEM', 'SETITEMS', 'ADDITEMS', 'FROZENSET'):
            raise ValueError('it holds a dictionary or a set, in place of arrays of numbers')


def pickled(value: Any) -> Any:
    """The array, number, type or bytes that a :class:`Call` stands for; a list of numbers, too."""
    match value:
        case bytes() | bytearray() | int():
            return value
        case list() if all(isinstance(item, (int, Call)) for item in value):
            numbers = [pickled(item) for item in value]
            if not any(map(numpy.ndim, numbers)):
                return numpy.array(numbers)
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
    raise ValueError(f'it holds a {type(value).__name__} in place of an array of numbers')


def read_pickle(path: Path) -> Stored:
    """Read a pickled triple of pairs of arrays; labels may also be a list of integers."""
    content = unpacked(path)
    check_opcodes(content)
    match ArrayUnpickler(io.BytesIO(content), encoding='bytes').load():
        case [[_, _], [_, _], [_, _]] as triple:
            return Stored({split: (numpy.asarray(pickled(x)), numpy.asarray(pickled(y)))
                           for split, (x, y) in zip(SPLITS, triple, strict=True)})
    raise ValueError('it is no triple ((train_x, train_y), (valid_x, valid_y), (test_x, test_y))')


def read_csv(path: Path) -> Stored:
    """Read a table as Kaggle has them: a label and the pixels in each line, and a line of names."""
    lines = io.TextIOWrapper(io.BytesIO(unpacked(path)), 'utf-8-sig')
    names = lines.readline(2**22).split(',')
    if names[0].strip().strip('"').lower() != 'label':
        raise UserError(f'{path}: its first column is {names[0].strip()[:20]!r}: give a table with '
                        'labels, whose first line names the columns: label,pixel0,pixel1 ...')
    row = numpy.dtype([('label', 'i8'), ('pixels', 'u1', (len(names) - 1,))])
    table = numpy.loadtxt(lines, row, delimiter=',', ndmin=1)
    return Stored({'train': (table['pixels'], table['label'])})


# How the name of a file ends, and what reads it: into arrays as they are stored. What a reader
# raises becomes one line for the user.
READERS: dict[str, Callable[[Path], Stored]] = {
    '.npz': read_npz,
    '.pkl': read_pickle,
    '.pkl.gz': read_pickle,
    '.csv': read_csv,
    '.parquet': read_parquet,
}


def checked(path: Path, stored: Stored, name: str | None = None) -> ImageData:
    """Check arrays as they are stored, and bring them into the one form that the scripts use."""
    pairs = stored.sets.values()
    check_size(path, *[4 * x.size for x, y in pairs])
    sets = {}
    is_grey = any(x.dtype.kind in 'iu' and x.max(initial=0) > 1 for x, y in pairs)
    for split, (x, y) in stored.sets.items():
        where = f'{path}: the {SPLITS[split]} set'
        sets[split] = checked_images(where, x, is_grey), checked_labels(where, y, len(x))
    train, valid, test = three = pictures.complete(path, sets)

    n_in = train[0].shape[1]
    side = math.isqrt(n_in)  # flat images are squares, where that is possible
    flat = (side, side) if side * side == n_in else (1, n_in)
    image_shape: Any = next((x.shape[1:] for x, y in pairs if x.ndim == 3), flat)
    shapes = {x.shape[1:] for x, y in pairs}
    if not shapes <= {image_shape, (math.prod(image_shape),)}:
        raise UserError(f'{path}: has images of the shapes {shapes}: make them equal.')

    sha256 = hashlib.sha256()
    for array in itertools.chain(*three):
        sha256.update(f'{array.dtype.name}{array.shape}'.encode())
        sha256.update(array.data)
    n_classes = 1 + max(int(labels.max()) for images, labels in three)
    n_names = len(stored.classes)
    if stored.classes and n_classes > n_names:
        raise UserError(f'{path}: has labels up to {n_classes - 1}, and the names of {n_names} '
                        'classes from 0: name all of them.')
    return ImageData(name or path.name, sha256.hexdigest(), train, valid, test, image_shape,
                     n_names or n_classes, stored.classes)


def checked_images(where: str, x: numpy.ndarray, is_grey: bool) -> numpy.ndarray:
    """Images as float32 (n, n_in) in [0, 1]: a copy, in one piece, that may be written to.

    :param is_grey: whether integers are grey levels up to 255; else they are black, 0, and white, 1
    """
    if x.dtype.kind not in 'biuf' or x.ndim not in (2, 3) or x.size == 0:
        raise UserError(f'{where} has images of type {x.dtype} and shape {x.shape}: give integers '
                        'or floats of shape (n, pixels), (n, height, width) or (n, height, width, '
                        '3).')
    low, high = x.min(), x.max()  # both are NaN if one pixel is
    is_integer = x.dtype.kind in 'iu' and is_grey
    limit = 255 if is_integer else 1
    if not 0 <= low <= high <= limit:
        raise UserError(f'{where} has {x.dtype} pixels from {low} to {high}, not within 0 to '
                        f'{limit}: scale or mend them.')
    x = x.reshape(len(x), -1)
    # 1 / 256 is a power of two: the product is exact, and equal to what the old pickle holds.
    factor = numpy.float32(1 / 256 if is_integer else 1)
    return numpy.multiply(x, factor, dtype=numpy.float32, order='C', casting='unsafe')


def checked_labels(where: str, y: numpy.ndarray, n: int) -> numpy.ndarray:
    """Labels as int32 (n,): a copy."""
    if y.dtype.kind not in 'iu' or y.shape not in ((n,), (n, 1)):
        raise UserError(f'{where} has {n} images, and labels of type {y.dtype} and shape {y.shape}:'
                        ' give one integer, or one name, for each image.')
    if y.min() < 0 or y.max() > pictures.LARGEST_LABEL:
        raise UserError(f'{where} has labels from {y.min()} to {y.max()}, not within 0 to '
                        f'{pictures.LARGEST_LABEL}: number the classes from 0.')
    return y.reshape(n).astype(numpy.int32)


# A file in a folder; or, from an archive, the path that it would have, and its bytes.
MidiPath = Path | tuple[str, bytes]


@dataclass(frozen=True)
class TuneFiles:
    """MIDI files that have not been read yet; without folders of these names, all in `train`."""

    name: str
    train: list[MidiPath]
    valid: list[MidiPath]
    test: list[MidiPath]


def find_tunes(dataset: str | os.PathLike | None = None) -> TuneFiles:
    """Find a collection of tunes.

    :param dataset: as for `read`, but of a folder or a zip of MIDI files, with folders `train`,
        `valid` and `test` or without. In place of MNIST there is `Nottingham`, and in place of
        `digits` there are `tunes`, which the project composes itself. `chorales` are Bach's, if
        music21 is installed.
    :raises UserError: for a collection that is not found, or holds no MIDI file
    """
    return named(dataset, {'Nottingham': find_nottingham, 'Nottingham.zip': find_nottingham,
                           'chorales': find_chorales, 'tunes': own_tunes}, tunes_at)


def find_nottingham() -> TuneFiles:
    """The folder `Nottingham` or else `Nottingham.zip` in the search folders, or a download."""
    path = find('Nottingham') or find('Nottingham.zip')
    with (contextlib.nullcontext(path) if path
          else downloaded('Nottingham.zip', DATA_FOLDER)) as path:
        return tunes_at(path)


def find_chorales() -> TuneFiles:
    """The folder `chorales` in the search folders, or a new one in `data/`."""
    return tunes_at(find('chorales') or make_chorales(DATA_FOLDER / 'chorales'))


def tunes_at(path: Path) -> TuneFiles:
    """The MIDI files in the folder or the zip at `path`; no name in a zip becomes a file."""
    path = Path(os.path.abspath(path))
    sets: dict[str, list[MidiPath]] = {split: [] for split in (*SPLITS, '')}
    with (readable(path),
          contextlib.nullcontext() if path.is_dir() else zipfile.ZipFile(path) as archive):
        if archive is None:
            names = [file.relative_to(path).as_posix() for file in path.rglob('*')]
        else:
            check_size(path, *[info.file_size for info in archive.infolist()])
            names = archive.namelist()
        for name in sorted(names):
            parts = name.split('/')
            if (name.lower().endswith(('.mid', '.midi'))
                    and not any(part.startswith(('.', '__MACOSX')) for part in parts)):
                split = next((part for part in reversed(parts[:-1]) if part in SPLITS), '')
                sets[split].append((f'{path}/{name}', archive.read(name)) if archive
                                   else path / name)
    if not any(sets[split] for split in SPLITS):
        sets['train'] = sets['']
    if not sets['train']:
        raise UserError(f'{path}: holds no *.mid to train on: give a folder or a zip of them.')
    return TuneFiles(path.name, *[sets[split] for split in SPLITS])


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
