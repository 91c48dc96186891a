"""Files that do harm, or might: what :mod:`faults` tries on all that reads files.

Each kind is a function that yields its cases: a description, and what to call, which raises an
exception where the promise is not kept.
"""

import contextlib
import copy
import csv
import functools
import gzip
import importlib.util
import io
import itertools
import json
import math
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from support import command_line, datasets, likeness
from support.checkpoints import CHECKPOINT, MODEL, STATE, load_arrays
from support.errors import UserError
from support.folders import RECORD
from support.likeness import LIKENESS
from support.midi import LONGEST, midiread, midiwrite, read_all
from support.photos import read_digit, read_image

import numpy
from PIL import Image

import logistic_sgd
import predict
from test_datasets import Calls, idx_bytes
from test_midi import END, NOTE, after, file_of, on

try:
    import hypothesis
    from hypothesis import strategies as st
except ImportError:
    hypothesis = None  # type: ignore[assignment]  # the options of faults.py need none

Case = Callable[[], Any]  # may return how many faults it has tried
Cases = Iterator[tuple[str, Case]]

EXAMPLES = 50  # in a case whose files are drawn at random
MINE = b'of no run'  # what the user's own files hold


# What is expected -------------------------------------------------------------------------------

def expect(holds: Any, *otherwise: Any) -> None:
    """:raises AssertionError: with these words, unless it holds"""
    if not holds:
        raise AssertionError(' '.join(map(str, otherwise)))


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns, or the UserError, of one line, with which it refuses."""
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            return function(*arguments)
    except UserError as error:
        expect(str(error) and '\n' not in str(error), 'the message is', repr(str(error)))
        return error


def refused(function: Callable[..., Any], make: Callable[[], Any]) -> Case:
    """A case: a function refuses what is made."""
    def case() -> None:
        result = outcome(function, make())
        expect(isinstance(result, UserError), 'accepted:', repr(result)[:200])

    return case


def command(function: Any, *arguments: Any) -> None:
    """Call a script in this process.

    :raises AssertionError: when it ends in another way than well, or with one line, or with the
        words of tyro and status 2
    """
    stderr = io.StringIO()
    with (mock.patch.object(sys, 'argv', ['script.py', *map(str, arguments)]),
          contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(stderr)):
        try:
            command_line.main(function)
        except SystemExit as end:
            lines = [line for line in stderr.getvalue().splitlines() if line[:6] != 'NOTICE']
            expect(end.code == 2 or (end.code == 1 and len(lines) == 1), end.code, *lines)


def for_all(strategy: Any, rng: random.Random, test: Callable[[Any], Any]) -> Case:
    """A case that calls a test with EXAMPLES values of a strategy."""
    tried = []

    @hypothesis.seed(rng.getrandbits(32))
    @hypothesis.settings(max_examples=EXAMPLES, database=None, deadline=None,
                         suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(strategy)
    def examples(value):
        tried.append(value)
        test(value)

    def case() -> int:
        examples()
        return len(tried)

    return case


def damaged(good: bytes) -> Any:
    """A strategy: these bytes with a few places cut out, overwritten or filled."""
    new = st.binary(max_size=4) | st.sampled_from([b'\0', b'\xff' * 4, b'\x7f\xff', b'9' * 9])
    edit = st.tuples(st.integers(0, len(good)), new, st.sampled_from([0, 1, 2, 4, 8, 10 ** 6]))

    def apply(edits):
        content = good
        for place, new, length in edits:
            content = content[:place] + new + content[place + length:]
        return content

    return st.lists(edit, min_size=1, max_size=4).map(apply)


def put(name: str, content: bytes) -> str:
    """Write a file."""
    Path(name).write_bytes(content)
    return name


# Files of data ----------------------------------------------------------------------------------

X, Y = numpy.arange(9 * 16, dtype='uint8').reshape(9, 4, 4), numpy.arange(9, dtype='uint8') % 3
TRIPLE = (((X / 256).astype('f4'), Y.astype(int)),) * 3
ZEROS = bytes(2 ** 20)
BOMB = gzip.compress(ZEROS, 1) * 2500  # of 2.6 GB
LARGE_PNG = b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\0\0\0\1\0\0\x08\0\0\0\0'


def npy(array: Any) -> bytes:
    """An array as it stands in an npz."""
    stream = io.BytesIO()
    numpy.save(stream, numpy.asarray(array))
    return stream.getvalue()


def claims(shape: str, dtype: str = '<f8') -> bytes:
    """A file of an array that claims to have this shape and type."""
    header = npy(numpy.zeros((2, 8)))[:128].replace(b'<f8', dtype.encode())
    start = header.index(b'(2, 8)')
    return header[:start] + f'{shape}, }}'.encode().ljust(127 - start) + b'\n' + bytes(128)


def write_npz(path: str, arrays: dict[str, Any]) -> str:
    """Write an npz of arrays, of bytes that take the place of one, and of None for none."""
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for key, array in arrays.items():
            if array is not None:
                archive.writestr(f'{key}.npy', array if isinstance(array, bytes) else npy(array))
    return path


def npz(**changed: Any) -> str:
    """Write a data set in which some arrays are others."""
    return write_npz('a.npz', dict(zip(datasets.NPZ_KEYS, (X, Y) * 3, strict=True)) | changed)


def idx(name: str, content: bytes) -> str:
    """Write a folder of the four IDX files of MNIST, and one that holds these bytes."""
    os.makedirs('idx', exist_ok=True)
    for (part, ndim), array in zip(datasets.IDX_FILES, (X, Y) * 2, strict=True):
        put(f'idx/{part}-idx{ndim}-ubyte', idx_bytes(array))
    put(f'idx/{name}-ubyte', content)
    return 'idx'


class OnlyNumPy(pickle.Unpickler):
    def find_class(self, module, name):
        expect(module.split('.')[0] in ('numpy', '_codecs'), 'accepted:', module, name)
        return super().find_class(module, name)


def as_numpy_reads(path: str) -> list[numpy.ndarray]:
    """The images and labels to train on, by means that the project does not use; from a folder
    of IDX files, with those that are split off for validation."""
    if path == 'idx':
        arrays = []
        for part, ndim in datasets.IDX_FILES[:2]:
            content = Path(f'idx/{part}-idx{ndim}-ubyte').read_bytes()
            shape = struct.unpack(f'>{ndim}I', content[4:4 + 4 * ndim])
            arrays.append(numpy.array(list(content[4 + 4 * ndim:]), 'u1').reshape(shape))
        return arrays
    if path.endswith('.npz'):
        with numpy.load(path) as members:
            return [members['train_x'], members['train_y']]
    content = Path(path).read_bytes()
    content = gzip.decompress(content) if content[:2] == b'\x1f\x8b' else content
    return list(map(numpy.asarray, OnlyNumPy(io.BytesIO(content), encoding='bytes').load()[0]))


def as_numpy(path: str) -> None:
    """See that these data are refused, or are what NumPy reads."""
    data = outcome(datasets.read, path)
    if not isinstance(data, UserError):
        x, y = as_numpy_reads(path)
        wanted = x.reshape(len(x), -1) / (256 if x.dtype.kind in 'iu' else 1), y.reshape(-1)
        found = data.train
        if path == 'idx':
            found, wanted = in_order(*map(numpy.concatenate, zip(found, data.valid, strict=True))
                                     ), in_order(wanted[0], wanted[1] - (wanted[1].min() == 1))
        for one, right in zip(found, wanted, strict=True):
            numpy.testing.assert_array_equal(one, right.astype(one.dtype))


def in_order(x: numpy.ndarray, y: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Images and labels, sorted by these and then by the pixels."""
    order = numpy.lexsort((*x.T, y))
    return x[order], y[order]


def images(rng: random.Random, place: Path) -> Cases:
    """Data sets of images that are not what they say."""
    changes: dict[str, dict[str, Any]] = {
        'a key missing': {'valid_y': None}, 'NaN': {'test_x': numpy.full((9, 16), numpy.nan)},
        'pixels of 256': {'train_x': X * 256.}, 'no pixel': {'train_x': X[:, :0]},
        'no image': {'valid_x': X[:0], 'valid_y': Y[:0]}, 'a number': {'train_x': 3},
        'dates': {'train_y': Y.astype('M8[s]')}, 'a label too few': {'train_y': Y[:-1]},
        'labels below 0': {'test_y': -Y.astype(int)}, 'parts of labels': {'train_y': Y / 2},
        'labels of 10**12': {'train_y': Y.astype(int) + 10 ** 12},
        'two labels': {'train_y': numpy.zeros((9, 2), int)}, 'text': {'train_x': X.astype(str)},
        'other sizes': {'valid_x': numpy.zeros((9, 15))}, 'no array': {'train_x': b'MZ'},
        'objects': {'train_x': claims('(9, 16)', '|O')}, 'code': {'train_x': claims('exit()')},
        'a bomb': {'train_x': claims('(400000000, 1)', '|u1') + ZEROS * 400}}
    for shape in ('(10**9, 9)', '(1000000000000, 9)', '(-1, 8)', '(2, 8.5)', '(' * 40):
        for dtype in ('<f8', '|u1', '<U99999999', '[]'):
            changes[f'claims of {shape} {dtype}'] = {'train_x': claims(shape, dtype)}
    for name, changed in changes.items():
        yield f'npz with {name}', refused(datasets.read, partial(npz, **changed))
    for name, content in {
            'a.pkl.gz': BOMB, 'a.npz': npy(X), 'b.npz': b'<html>', 'a.pkl': b'', 'a.exe': b'MZ',
            'a': b'MZ', 'a\nb.npz': b''}.items():
        yield repr(name), refused(datasets.read, partial(put, name, content))
    for name, content in {'images-idx3': BOMB, 'labels-idx1': idx_bytes(Y)[:-1]}.items():
        yield name, refused(datasets.read, partial(idx, f'train-{name}', content))
    for name in ('/dev/zero', 'a' * 5000 + '.npz', '', 'a\0.npz', '.'):
        yield f'{name!r:.20}', refused(datasets.read, partial(str, name))


def damaged_images(rng: random.Random, place: Path) -> Cases:
    """Data sets of images with some bytes changed, or of random bytes."""
    with contextlib.chdir(place):
        whole = Path(npz()).read_bytes()
    pkl = partial(put, 'a.pkl')
    formats: dict[str, tuple[bytes, Callable[[bytes], str]]] = {
        'npz': (whole, partial(put, 'a.npz')),
        'array of an npz': (npy(X), lambda content: npz(train_x=content)),
        'gzip': (gzip.compress(pickle.dumps(TRIPLE)), partial(put, 'a.pkl.gz')),
        'pickle 0': (pickle.dumps(TRIPLE, 0), pkl), 'pickle 2': (pickle.dumps(TRIPLE, 2), pkl),
        'pickle 5': (pickle.dumps(TRIPLE, 5), pkl),
        'images of IDX': (idx_bytes(X), partial(idx, 'train-images-idx3')),
        'labels of IDX': (idx_bytes(Y), partial(idx, 'train-labels-idx1'))}
    for name, (good, write) in formats.items():
        def test(content, write=write):
            as_numpy(write(content))

        yield f'{name}, damaged', for_all(damaged(good), rng, test)
        yield f'{name}, random', for_all(st.binary(), rng, test)


def pickles(rng: random.Random, place: Path) -> Cases:
    """Pickles that ask for a program to be run, or for any amount of time or memory."""
    code, empty = "open('executed', 'w')", numpy.empty(0).__reduce__()
    shell = f'{sys.executable} -c "{code}"'
    for call in (
            Calls(os.system, (shell,)), Calls(subprocess.Popen, (shell,)), Calls(eval, (code,)),
            Calls(open, ('executed', 'w')), Calls(getattr, ('os', 'a')), Calls(type, ('a', (), {})),
            Calls(numpy.load, ('a', None, True)), Calls(numpy.memmap, ('executed',)),
            Calls(numpy.fromfile, ('a.pkl',)), Calls(*empty[:2], {'a': 1}),
            Calls(numpy.ndarray, ((1,), 'O', b'AAAAAAAA')),
            Calls(*empty[:2], (1, (1,), numpy.dtype('O'), False, b'A' * 8)),
            Calls(os.system, (Calls(str, (shell,)),))):
        for protocol in (0, 2, 5):
            content = pickle.dumps(((call, Y),) * 3, protocol)
            yield f'{call.reduced!r:.30} {protocol}', refused(datasets.read, partial(
                put, 'a.pkl', content))
    many = 10 ** 7
    for name, content in {
            'INST': b"(S'touch executed'\nios\nsystem\n.", 'extension': b'\x80\x02\x82\x01.',
            'OBJ': b"(cos\nsystem\nS'touch executed'\no.", 'person': b'Pexecuted\n.',
            'NEWOBJ': b'cnumpy\ndtype\nX\x02\0\0\0O8\x85\x81.', 'memo': b']r\xff\xff\xff\x7f.',
            'frame of 2**63': b'\x80\x05\x95' + b'\xff' * 7 + b'\x7f.', 'deep': b'(' * many + b'.',
            'string of 2**60': b'\x8d' + b'\0' * 7 + b'\x10a.', 'lists': b']' * many + b'.',
            'tuples': b')' + b'\x85' * many + b'.', 'digits': b'L' + b'9' * many + b'L\n.',
            'equal hashes': b'(' + b''.join(b'I%d\nN' % (n * (2 ** 61 - 1))
                                            for n in range(60_000)) + b'd.',
            'a number': b'\x8b' + struct.pack('<I', many) + b'\x7f' * many + b'.',
            'doubled': b'(' + b'\x94h\0' * 1000 + b'.', 'set': b'\x8f(K\x01K\x02\x90.'}.items():
        yield name, refused(datasets.read, partial(put, 'a.pkl', content))
    pieces = [*(bytes([code]) for code in b'()tRb}so0Nl]a2\x93\x94\x85\x86\x87\x81\x89'), b'K\x01',
              b'h\0', b'\x8c\x02os', b'\x8c\x06system', b'U\x02f4', b'C\x08AAAAAAAA',
              b'cos\nsystem\n', b'cnumpy\ndtype\n', b'cnumpy\nndarray\n', b"S'touch executed'\n",
              b'cnumpy._core.multiarray\n_reconstruct\n']
    programs = st.lists(st.sampled_from(pieces), max_size=30)
    for _ in range(2):
        yield 'random steps', for_all(programs, rng, lambda steps: as_numpy(
            put('a.pkl', b''.join(steps) + b'.')))


def tune(content: bytes) -> None:
    """See that these bytes are refused, or give a piano-roll that can be written and read again."""
    roll = outcome(midiread, ('a.mid', content))
    if not isinstance(roll, UserError):
        expect(roll.piano_roll.shape[1:] == (88,) and len(roll.piano_roll) <= LONGEST)
        stream = io.BytesIO()
        midiwrite(stream, roll.piano_roll)
        again = midiread(('b.mid', stream.getvalue())).piano_roll
        numpy.testing.assert_array_equal(again, roll.piano_roll)


def tune_zip(*names: Any, content: bytes = file_of(NOTE)) -> str:
    """Write a zip of equal tunes of these names, or descriptions of files."""
    with zipfile.ZipFile('a.zip', 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in names:
            archive.writestr(name, content)
    return 'a.zip'


def tunes(rng: random.Random, place: Path) -> Cases:
    """MIDI files, and zips of them, that are not what they say."""
    for name, content in {
            'nothing': b'', 'large': ZEROS * 2, 'no end': file_of(NOTE[:-4]),
            'a number without end': file_of(b'\x80' * 10 ** 6),
            'long numbers': file_of((b'\x81' * 3999 + b'\0\xc0\0') * 250),
            'sysex': file_of(b'\0\xf0\x01\xf7' * 250_000), 'tracks': file_of(*[END] * 65_535),
            'a long wait': file_of(on(0, 60) + after(2**28 - 1, *END)),
            'notes': file_of(on(0, 60) + b'\0<@' * 330_000 + END),
            'a track of 2**31 bytes': file_of()[:-4] + b'\xff\xffMTrk\x7f\xff\xff\xff' + NOTE,
            'text of 2**27 bytes': file_of(b'\0\xff\x01' + after(2**27) + b'a'),
            'tempo 0': file_of(b'\0\xff\x51\3\0\0\0' + NOTE),
            'a short tempo': file_of(b'\0\xff\x51\1\0' + NOTE)}.items():
        yield f'MIDI, {name}', partial(tune, content)
    good = file_of(b'\0\xff\x51\3\x06\x1a\x80' + NOTE, b''.join(on(9, n) for n in range(60)) + END)
    for _ in range(3):
        yield 'MIDI, damaged', for_all(damaged(good), rng, tune)
    yield 'MIDI, random tracks', for_all(st.binary(max_size=200).map(file_of), rng, tune)

    def read(path: str) -> Any:
        return read_all(datasets.find_tunes(path).train)

    makes: dict[str, Callable[[], Any]] = {
        'no tune': partial(tune_zip, 'a.txt'), 'no zip': partial(put, 'a.zip', file_of(NOTE)),
        'many names': partial(tune_zip, *map(str, range(30_000))), 'a folder': Path.cwd,
        'a bomb': partial(tune_zip, *[f'{i}.mid' for i in range(14)], content=ZEROS * 80),
        'a zip': partial(tune_zip, 'a.mid', content=good[:9])}
    for name, make in makes.items():
        yield f'zip, {name}', refused(read, make)
    link = zipfile.ZipInfo('train/a.mid')
    link.external_attr = 0o120777 << 16
    names = ['../../a.mid', '/a.mid', 'train/../../b.mid', link, 'a\nb.mid', 'C:\\y.mid']
    yield 'zip of odd names', lambda: expect(isinstance(outcome(read, tune_zip(*names)), list))
    with contextlib.chdir(place):
        whole = Path(tune_zip('train/a.mid')).read_bytes()
    yield 'zip, damaged', for_all(damaged(whole), rng,
                                  lambda content: outcome(read, put('a.zip', content)))


# Pictures ---------------------------------------------------------------------------------------

LEVELS = numpy.kron(numpy.arange(0, 256, 17).reshape(4, 4), numpy.ones((8, 8))).astype('uint8')
INSIDE = numpy.kron(numpy.ones((4, 4)), numpy.pad(numpy.ones((4, 4)), 2)) == 1  # of each square
MODES = ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'RGBX', 'CMYK', 'YCbCr', 'HSV', 'I', 'F', 'I;16')
FORMATS = ('png', 'tiff', 'bmp', 'gif', 'jpeg', 'webp', 'ppm', 'tga', 'ico', 'jpeg2000', 'avif',
           'pcx', 'sgi')


def save(mode: str, form: str) -> None:
    """Save grey squares.

    :raises OSError, ValueError, KeyError: when the format has no such mode
    """
    if mode in ('I', 'F', 'I;16'):
        pixels = LEVELS.astype({'I': 'i4', 'F': 'f4'}.get(mode, '<u2')) * 257
        drawn = Image.frombytes(mode, LEVELS.shape, pixels.tobytes())
    else:
        drawn = Image.fromarray(LEVELS).convert('L' if mode == 'P' else 'RGB').convert(
            mode, dither=Image.Dither.NONE)
    drawn.save('picture', form)


def picture(mode: str, form: str) -> None:
    """See that a picture in this mode and format becomes the grey that one sees, or is refused."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        save(mode, form)
        read = outcome(read_image, Path('picture'), LEVELS.shape)
        if not isinstance(read, UserError):
            wanted = (LEVELS > 127) * 255 if mode == '1' else LEVELS
            error = numpy.abs(read.reshape(LEVELS.shape) * 256 - wanted)[INSIDE].max()
            expect(error < (20 if form in ('jpeg', 'webp', 'avif', 'jpeg2000') else 10), error)


def read_picture(name: str) -> numpy.ndarray:
    """Read it as an image of 7 x 5 pixels."""
    return read_image(Path(name), (7, 5))


def pictures(rng: random.Random, place: Path) -> Cases:
    """Image files of every mode and format, and some that are none, or claim to be large."""
    for mode, form in itertools.product(MODES, FORMATS):
        if mode not in ('I', 'F', 'I;16') or form in ('png', 'tiff'):  # others save white
            yield f'{mode} in {form}', partial(picture, mode, form)
    for name, content in {
            'PNG of 2**32 pixels': LARGE_PNG,
            'PPM of 3.6 * 10**9 pixels': b'P5 60000 60000 255\n', 'SVG': b'<svg/>', 'nothing': b'',
            'PPM of 10**8 pixels': b'P5 10000 10000 255\n' + ZEROS, 'BMP': b'BM' + b'\xff' * 60,
            'EPS': b'%!PS-Adobe-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n'}.items():
        yield name, refused(read_picture, partial(put, 'a.png', content))


def damaged_pictures(rng: random.Random, place: Path) -> Cases:
    """Image files with some bytes changed, or of random bytes."""
    def refused_or_grey(content: bytes) -> None:
        grey = outcome(read_picture, put('picture', content))
        expect(isinstance(grey, UserError) or (
            grey.shape == (35,) and 0 <= grey.min() <= grey.max() < 1), 'no grey')
        digit = outcome(read_digit, Path('picture'))
        expect(isinstance(digit, UserError) or (
            digit.shape == (784,) and 0 <= digit.min() < .5 < digit.max() < 1), 'no digit')

    for form in FORMATS:
        with contextlib.chdir(place):
            save('RGB', form)
            good = Path('picture').read_bytes()
        yield f'{form}, damaged', for_all(damaged(good), rng, refused_or_grey)
    yield 'random bytes', for_all(st.binary(), rng, refused_or_grey)


# Folders and tables of pictures -----------------------------------------------------------------

def drawn(level: int = 9) -> bytes:
    """A picture of 6 x 6 pixels of this grey."""
    stream = io.BytesIO()
    Image.new('L', (6, 6), level).save(stream, 'png')
    return stream.getvalue()


def folder(change: Callable[[Path], Any] = str) -> str:
    """Write a folder of pictures of two classes, and change something about one picture."""
    shutil.rmtree('shapes', ignore_errors=True)
    for name, i in itertools.product('ab', range(6)):
        os.makedirs(f'shapes/{name}', exist_ok=True)
        put(f'shapes/{name}/{i}.png', drawn(9 * i))
    change(Path('shapes/b/3.png'))
    return 'shapes'


def table(*lines: bytes, header: bytes = b'label,a,b,c,d') -> bytes:
    """A table of images of 2 x 2 pixels, with some further lines."""
    return b'\n'.join([header, *[b'%d,1,2,3,%d' % (i % 3, i) for i in range(9)], *lines])


def as_csv_reads(content: bytes) -> None:
    """See that a table is refused, or holds the numbers that Python's module reads from it."""
    data = outcome(datasets.read, put('a.csv', content))
    if not isinstance(data, UserError):
        text = io.StringIO(content.decode('utf-8-sig'), newline='')
        rows = [row for row in csv.reader(text) if row][1:]
        wanted = numpy.array(sorted([float(value) for value in row] for row in rows))
        wanted[:, 0] -= wanted[:, 0].min()  # classes may be counted from 1
        found = [numpy.column_stack([y, 256 * x]) for x, y in (data.train, data.valid, data.test)]
        numpy.testing.assert_array_equal(sorted(numpy.concatenate(found).tolist()), wanted)


def as_parquet(content: bytes) -> None:
    """See that a table of PyArrow's is refused, or holds grey levels."""
    data = outcome(datasets.read, put('a.parquet', content))
    expect(isinstance(data, UserError) or 0 <= data.train[0].min() <= data.train[0].max() < 1)


def collections(rng: random.Random, place: Path) -> Cases:
    """Folders and tables of pictures that are not what they say."""
    def replace(make: Callable[[Path], Any], path: Path) -> None:
        path.unlink()
        make(path)

    changes: dict[str, Callable[[Path], Any]] = {
        'a picture that is none': lambda path: path.write_bytes(b'MZ'),
        'a picture of 2**32 pixels': lambda path: path.write_bytes(LARGE_PNG),
        'a picture without end': lambda path: path.write_bytes(drawn()[:-30]),
        'a link to itself': partial(replace, lambda path: path.symlink_to(path.name)),
        'a folder in place of one': partial(replace, Path.mkdir),
        'a pipe in place of one': partial(replace, os.mkfifo),
        'no picture': lambda path: shutil.rmtree(path.parent.parent),
        'no class': lambda path: [file.rename(Path('shapes', f'{file.parent.name}{file.name}'))
                                  for file in Path('shapes').glob('?/*')]}
    for name, change in changes.items():
        yield f'folder with {name}', refused(datasets.read, partial(folder, change))
    odd = {'a line break': 'b\nc', 'a bell': 'b\a', 'other bytes': os.fsdecode(b'\xff'),
           'no Latin': '字', 'a long one': 'b' * 250}
    for name, other in odd.items():
        yield f'folder whose name has {name}', partial(outcome, lambda other=other: datasets.read(
            folder(lambda path: path.parent.rename(Path('shapes', other)))))
    yield 'folder, damaged', for_all(damaged(drawn()), rng, lambda content: outcome(
        datasets.read, folder(lambda path: path.write_bytes(content))))

    for name, content in {
            'a short line': table(b'1,2,3'), 'a long line': table(b'1,2,3,4,5,6'),
            'pixels of 256': table(b'1,2,3,4,256'), 'pixels below 0': table(b'1,2,3,4,-1'),
            'parts of pixels': table(b'1,2,3,4,.5'), 'labels below 0': table(b'-1,2,3,4,5'),
            'words': table(b'one,2,3,4,5'), 'NaN': table(b'1,2,3,4,nan'), 'zeros': ZEROS,
            'labels of 10**12': table(b'1000000000000,2,3,4,5'), 'a long name': b'label' * 10**7,
            'UTF-16': table().decode().encode('utf-16'), 'no label': table(header=b'a,b,c,d,e'),
            'no images': b'label,a,b\n', 'a bomb': BOMB, 'one line': table()[:23],
            'no pixels': b'label\n1\n2\n3\n4\n5\n6\n7\n'}.items():
        yield f'table with {name}', refused(datasets.read, partial(put, 'a.csv', content))
    for _ in range(2):
        yield 'table, damaged', for_all(damaged(table()), rng, as_csv_reads)

    if importlib.util.find_spec('pyarrow'):
        from pyarrow import parquet
        from pyarrow import table as arrow
        whole = io.BytesIO()
        parquet.write_table(arrow({'image': [{'bytes': drawn(i)} for i in range(9)],
                                   'label': Y}), whole)
        yield 'Parquet', partial(as_parquet, whole.getvalue())
        yield 'Parquet, damaged', for_all(damaged(whole.getvalue()), rng, as_parquet)


# What a run has left ----------------------------------------------------------------------------

GONE = object()
REPLACEMENTS: tuple[Any, ...] = (
    GONE, None, True, -1, 0, 0.5, 10 ** 30, math.nan, math.inf, '', 'x', '../mine', [], [[]], {},
    {'a': 1}, [10 ** 9] * 9)


def variants(tree: Any) -> Iterator[tuple[str, Any]]:
    """Copies of some JSON, each with another part removed or replaced."""
    def paths(part, path=()):
        children = part.items() if isinstance(part, dict) else enumerate(part[:2])
        for key, child in children:
            yield (*path, key)
            if isinstance(child, (dict, list)):
                yield from paths(child, (*path, key))

    for path, new in itertools.product(paths(tree), REPLACEMENTS):
        changed = copy.deepcopy(tree)
        part = functools.reduce(lambda part, key: part[key], path[:-1], changed)
        if new is GONE:
            del part[path[-1]]
        else:
            part[path[-1]] = new
        yield f'{".".join(map(str, path))}: {"gone" if new is GONE else repr(new)[:20]}', changed


RESUME, OVERWRITE = (('--n-epochs', '3', option) for option in ('--resume', '--overwrite'))


def run(place: Path, *options: str) -> None:
    """Train for some epochs, and see that what is then in the folder is whole."""
    command(logistic_sgd.train, '--dataset', place / 'small.npz', '--batch-size', 20,
            '--output-folder', 'out', *options or ['--n-epochs', 2])
    expect_whole()


def expect_whole() -> None:
    """See that the numbers of a model, if there is one, are finite."""
    if Path('out', MODEL).is_file():
        for name, array in load_arrays(Path('out', MODEL)).items():
            expect(numpy.isfinite(array).all(), name, 'is not finite')


def good_run(place: Path) -> Path:
    """The folder of a run that has ended well, with a file of the user's in it."""
    if not (place / 'run').exists():
        with contextlib.chdir(place):
            run(place)
            put('out/mine', MINE)
            os.rename('out', 'run')
    return place / 'run'


def used(place: Path, use: Case, change: Callable[..., Any], *given: Any) -> None:
    """Change something in the folder of a run, and use it."""
    shutil.copytree(good_run(place), 'out', dirs_exist_ok=True)
    change(*given)
    outcome(use)
    expect(Path('out/mine').read_bytes() == MINE, 'the file of the user is lost')


def load() -> None:
    """Load the model, and what is known of its images."""
    _, image_shape, _ = predict.load_classifier('out')
    for array in vars(likeness.load('out', math.prod(image_shape))).values():
        expect(numpy.isfinite(array).all(), 'it is not finite')


def other_arrays(place: Path, name: str, use: Case) -> Cases:
    """For each array of numbers in a file of a run, what may stand in its place."""
    arrays = load_arrays(good_run(place) / name)
    for key, array in arrays.items():
        for what, new in {} if array.dtype.kind != 'f' else {
                'gone': None, 'NaN': array * numpy.nan, 'infinite': array + numpy.inf,
                'turned': array[None], 'too large for 32 bits': array.astype(float) + 1e300,
                'complex': array + 1j, 'whole': array.astype(int), 'text': array.astype(str),
                'empty': numpy.zeros(0), 'objects': claims('(3, 2)', '|O'), 'no array': b'MZ',
                'huge': claims('(1000000000000, 2)')}.items():
            yield f'{key} {what}', partial(used, place, use, write_npz, f'out/{name}',
                                           arrays | {key: new})


def damaged_files(rng: random.Random, place: Path, name: str, use: Case) -> Cases:
    """A file of a run with other bytes, or no file at all."""
    good = (good_run(place) / name).read_bytes()
    for content in (b'', b'<html>', good[:-1], good[:len(good) // 2], bytes(len(good)), good * 2):
        yield f'{name}, {len(content)} bytes', partial(
            used, place, use, put, f'out/{name}', content)
    yield f'{name}, damaged', for_all(damaged(good), rng, lambda content: used(
        place, use, put, f'out/{name}', content))

    def change(make: Callable[[str], Any]) -> None:
        os.unlink(f'out/{name}')
        make(f'out/{name}')

    makes: dict[str, Callable[[str], Any]] = {
        'missing': str, 'a folder': os.mkdir, 'a link to itself': partial(os.symlink, name),
        'a link to mine': partial(os.symlink, '../mine')}
    for what, make in makes.items():
        yield f'{name} is {what}', partial(used, place, use, change, make)


def checkpoints(rng: random.Random, place: Path) -> Cases:
    """Checkpoints in which something is missing or other, to be resumed."""
    arrays, resume = load_arrays(good_run(place) / CHECKPOINT), partial(run, place, *RESUME)
    for what, text in {'no JSON': '{', 'deep JSON': '[' * 10 ** 6, 'nothing': '',
                       'another number': str(arrays[STATE]).replace('2', '3')}.items():
        yield what, partial(used, place, resume, write_npz, f'out/{CHECKPOINT}',
                            arrays | {STATE: numpy.array(text)})
    yield from other_arrays(place, CHECKPOINT, resume)
    yield from damaged_files(rng, place, CHECKPOINT, resume)


def records(rng: random.Random, place: Path) -> Cases:
    """Records of a run in which something is missing or other, for all that reads them."""
    record = json.loads((good_run(place) / RECORD).read_text())
    uses: list[Case] = [partial(run, place, *RESUME), partial(run, place, *OVERWRITE), load]
    contents = {'deep JSON': b'[' * 10 ** 6, 'a list': b'[]', 'a long number': b'9' * 5000,
                'NaN': b'NaN', 'UTF-16': json.dumps(record).encode('utf-16')}
    contents |= {what: json.dumps(other).encode() for what, other in variants(record)}
    for what, content in contents.items():
        yield what, partial(used, place, rng.choice(uses), put, f'out/{RECORD}', content)
    for use in uses:
        yield from damaged_files(rng, place, RECORD, use)


def models(rng: random.Random, place: Path) -> Cases:
    """Files of parameters, and of likeness, in which something is missing or other."""
    for name in (MODEL, LIKENESS):
        yield from other_arrays(place, name, load)
        yield from damaged_files(rng, place, name, load)
