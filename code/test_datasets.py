"""Tests of how data sets are found, read, drawn and downloaded: none needs the network."""

import contextlib
import gzip
import hashlib
import http.server
import io
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
import unittest
import warnings
import zipfile
from pathlib import Path
from unittest import mock

import numpy

from support import datasets, digits, download, pickles, tunes
from support.errors import UserError
from support.midi import midiread, midiwrite

CODE_FOLDER = Path(__file__).resolve().parent


def small_mnist(n_train=12, n_test=5, seed=0):
    """Images (n, 28, 28) and labels of a training and a test set, as in the IDX files."""
    rng = numpy.random.RandomState(seed)
    sets = []
    for n in (n_train, n_test):
        sets += [rng.randint(256, size=(n, 28, 28)).astype(numpy.uint8),
                 (numpy.arange(n) % 10).astype(numpy.uint8)]
    return sets


def triple_of(train_x, train_y, test_x, test_y, n_valid=2):
    """The same as the three pairs of the pickle: float32 rows in [0, 1), int64 labels."""
    def pair(x, y):
        x = x.reshape(len(x), -1).astype(numpy.float32) / numpy.float32(256)
        return x, y.astype(numpy.int64)
    return (pair(train_x[:-n_valid], train_y[:-n_valid]),
            pair(train_x[-n_valid:], train_y[-n_valid:]),
            pair(test_x, test_y))


def idx_bytes(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f'>{array.ndim}I', *array.shape)
    return header + array.tobytes()


def write_idx(folder, arrays, compress=False):
    folder.mkdir(exist_ok=True)
    for (part, ndim), array in zip(datasets.IDX_FILES, arrays, strict=True):
        data = idx_bytes(array)
        name = f'{part}-idx{ndim}-ubyte'
        if compress:
            # mtime=0: the same bytes, and so the same checksum, at any time.
            (folder / f'{name}.gz').write_bytes(gzip.compress(data, mtime=0))
        else:
            (folder / name).write_bytes(data)


def opcodes(*parts):
    """A pickle of protocol 2 put together by hand."""
    return b'\x80\x02' + b''.join(parts) + b'.'


class Calls:
    """Pickled as a call of a function: what a hostile file does."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


class DataTest(unittest.TestCase):
    """Every test has a folder of its own as repository's data/ and as working directory."""

    def setUp(self):
        self.enterContext(warnings.catch_warnings())
        warnings.simplefilter('error')
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory())).resolve()
        self.data = self.folder / 'data'
        self.work = self.folder / 'work'
        self.elsewhere = self.folder / 'elsewhere'
        for folder in (self.data, self.work, self.elsewhere):
            folder.mkdir()
        self.real_data = os.environ.get('DLT_DATA_DIR')
        self.enterContext(contextlib.chdir(self.work))
        self.enterContext(mock.patch.object(datasets, 'DATA_FOLDER', self.data))
        self.enterContext(mock.patch.dict(os.environ, {
            'DLT_DATA_DIR': str(self.elsewhere), 'DLT_MNIST_MIRRORS': '',
            'DLT_NOTTINGHAM_URLS': '', 'NO_PROXY': '127.0.0.1', 'no_proxy': '127.0.0.1',
        }))

    def write(self, name, data):
        path = self.folder / name
        path.write_bytes(data)
        return path

    def write_pickle(self, content, name='set.pkl', protocol=2):
        return self.write(name, pickle.dumps(content, protocol))

    def read(self, dataset=None):
        """Read; give the data set and what was written to stderr."""
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            data = datasets.read(dataset)
        return data, stderr.getvalue()

    def fails(self, dataset, *parts):
        """Reading gives one line that contains every one of `parts`."""
        with self.assertRaises(UserError) as caught:
            self.read(dataset)
        message = str(caught.exception)
        self.assertEqual(message.count('\n'), 0)
        for part in parts:
            self.assertIn(part, message)
        return message

    def equal(self, data, triple):
        """`data` holds exactly the arrays of `triple`, in the form that is promised."""
        for (x, y), (want_x, want_y) in zip((data.train, data.valid, data.test), triple,
                                            strict=True):
            self.assertEqual((x.dtype, y.dtype), (numpy.float32, numpy.int32))
            self.assertTrue(x.flags.c_contiguous and x.flags.writeable)
            numpy.testing.assert_array_equal(x, want_x)
            numpy.testing.assert_array_equal(y, want_y)


class PickleTest(DataTest):
    def setUp(self):
        super().setUp()
        self.triple = triple_of(*small_mnist())

    def test_every_protocol(self):
        for protocol in range(6):
            for content in (self.triple, [list(pair) for pair in self.triple]):
                data = datasets.read(self.write_pickle(content, protocol=protocol))
                self.equal(data, self.triple)
        self.assertEqual((data.name, data.image_shape, data.n_in, data.n_classes),
                         ('set.pkl', (28, 28), 784, 10))

    def test_gzip_gives_the_same_hash(self):
        raw = pickle.dumps(self.triple)
        plain = datasets.read(self.write('a.pkl', raw))
        packed = datasets.read(self.write('a.pkl.gz', gzip.compress(raw)))
        self.assertEqual(plain.sha256, packed.sha256)
        self.assertEqual(packed.name, 'a.pkl.gz')
        self.triple[2][1][-1] = 9
        other = datasets.read(self.write_pickle(self.triple))
        self.assertNotEqual(plain.sha256, other.sha256)

    def python2_array(self, array):
        """What cPickle of Python 2 writes: bytes as a string, which is not valid UTF-8."""
        raw = array.tobytes()
        return b''.join([
            b'cnumpy.core.multiarray\n_reconstruct\n', b'cnumpy\nndarray\n', b'K\x00\x85',
            b'U\x01b', b'\x87R', b'(K\x01',
            b'(' + b''.join(b'M' + struct.pack('<H', n) for n in array.shape) + b't',
            b'cnumpy\ndtype\n', b'U\x02' + array.dtype.str[1:].encode(), b'K\x00K\x01\x87R',
            b'(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb',
            b'\x89', b'T' + struct.pack('<i', len(raw)) + raw, b'tb',
        ])

    def test_python_2(self):
        pairs = [self.python2_array(x) + self.python2_array(y) + b'\x86' for x, y in self.triple]
        self.equal(datasets.read(self.write('old.pkl', opcodes(*pairs, b'\x87'))), self.triple)

    def test_both_names_of_numpy_core(self):
        for protocol in (2, 5):
            raw = pickle.dumps(self.triple, protocol)
            if protocol == 2:  # names end with a line there, so that their length may change
                old, new = b'cnumpy.core.', b'cnumpy._core.'
                self.assertIn(new if new in raw else old, raw)
                for name in (old, new):
                    changed = raw.replace(old, name).replace(new, name)
                    self.equal(datasets.read(self.write('a.pkl', changed)), self.triple)
            else:
                self.assertIn(b'_frombuffer', raw)
                self.equal(datasets.read(self.write('a.pkl', raw)), self.triple)

    def test_orders_types_and_lists(self):
        (a, b), (c, d), (e, f) = self.triple
        content = ((numpy.asfortranarray(a), b.astype('>i4')), (c.astype('>f8'), list(d)),
                   (e, f.tolist()))
        for protocol in (2, 5):
            self.equal(datasets.read(self.write_pickle(content, protocol=protocol)), self.triple)

    def test_hostile_calls_nothing(self):
        mark = self.folder / 'mark'
        calls = [
            (Calls(os.mkdir, str(mark)), f'{os.name}.mkdir'),
            (Calls(os.system, f'mkdir {mark}'), '.system'),
            (Calls(eval, f'__import__("os").mkdir({str(mark)!r})'), 'builtin'),
            (Calls(getattr, 'numpy', 'load'), 'getattr'),
            (Calls(numpy.fromfile, str(mark)), 'fromfile'),
        ]
        for hostile, wanted in calls:
            for protocol in (0, 2, 5):
                path = self.write_pickle((hostile, *self.triple[1:]), protocol=protocol)
                self.fails(path, str(path), 'asks for', wanted)
        nested = opcodes(b'\x8c\x05numpy\x8c\x0fndarray.__new__\x93')
        self.fails(self.write('a.pkl', nested), 'numpy.ndarray.__new__')
        inst = opcodes(b'(U\x01xios\nsystem\n')
        self.fails(self.write('a.pkl', inst), 'os.system')
        self.assertFalse(mark.exists())

    def test_hostile_state(self):
        # A state for a function would replace its default arguments.
        path = self.write('a.pkl', opcodes(
            b'cnumpy.core.multiarray\nscalar\n', b'N}U\x0c__defaults__K\x01\x85s\x86b'))
        self.fails(path, 'gives a state to what is no array')
        self.assertIsNone(pickles.scalar.__defaults__)

    def test_hostile_values(self):
        # What is no string is not quoted: written out, these few bytes are 16 million tuples.
        nested = b')' + b'2\x86' * 24
        order = opcodes(b'cnumpy\ndtype\nU\x02f4\x85R(K\x03', nested, b'tb')
        encoding = opcodes(b'c_codecs\nencode\nX\x01\x00\x00\x00a', nested, b'\x86R')
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.fails(self.write('a.pkl', order), 'TypeError')
        self.fails(self.write('a.pkl', encoding), 'in another way than latin-1')
        self.assertLess(tracemalloc.get_traced_memory()[1], 10**6)
        order = opcodes(b'cnumpy\ndtype\nU\x02f4\x85R(K\x03U\x01!tb')
        self.fails(self.write('a.pkl', order), "byte order '!'")
        encoding = opcodes(b'c_codecs\nencode\n', *[b'X\x05\x00\x00\x00utf-8'] * 2, b'\x86R')
        self.fails(self.write('a.pkl', encoding), 'in another way than latin-1')

    def test_arrays_of_python_2_share_the_bytes_of_their_string(self):
        n = 10**6
        text = b'T' + struct.pack('<i', n) + b'\1' * n + b'q\x010'
        dtype = b'cnumpy\ndtype\nU\x02u1\x85Rq\x020'
        array = b'cnumpy\nndarray\n)R(K\x01J' + struct.pack('<i', n) + b'\x85h\x02\x89h\x01tb'
        path = self.write('a.pkl', opcodes(text, dtype, b'(', array * 100, b't'))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.fails(path, 'triple')
        self.assertLess(tracemalloc.get_traced_memory()[1], 5 * n)

    def test_object_and_record_arrays(self):
        for dtype, code in ((object, 'O8'), ([('a', 'i4')], 'V4'), ('U3', 'U3')):
            x = numpy.zeros((2, 4), dtype=dtype)
            self.fails(self.write_pickle(((x, x[:, 0]),) * 3), f'array of type {code!r}')

    def test_absurd_claims_take_no_memory(self):
        x = numpy.zeros((2, 4), numpy.float32)
        raw = pickle.dumps(x, 2)
        absurd = raw.replace(b'K\x02K\x04\x86', b'J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86')
        self.assertNotEqual(raw, absurd)
        self.fails(self.write('a.pkl', absurd), 'cannot reshape')
        negative = raw.replace(b'K\x02K\x04\x86', b'J\xff\xff\xff\xffK\x05\x86')
        self.fails(self.write('a.pkl', negative), 'cannot reshape')
        for code, size in ((b'B', 4), (b'\x8e', 8), (b'\x96', 8), (b'X', 4), (b'\x95', 8)):
            self.fails(self.write('a.pkl', opcodes(code, b'\xff' * (size - 1) + b'\x7f')), 'a.pkl')
        memo = opcodes(b'K\x01r\xff\xff\xff\x7f')  # 2**31 entries for the unpickler written in C
        self.fails(self.write('a.pkl', memo), 'triple')

    def test_bombs(self):
        self.enterContext(mock.patch.object(datasets, 'LARGEST', 10**6))
        self.enterContext(mock.patch.object(pickles, 'OPCODES', 10**4))
        big = gzip.compress(pickle.dumps(numpy.zeros(10**7, numpy.uint8), 5))
        self.assertLess(len(big), 10**5)
        self.fails(self.write('a.pkl.gz', big), 'more than 1000000 bytes')
        line = gzip.compress(b"S'" + b'a' * 10**7 + b"'\n.")
        self.fails(self.write('a.pkl.gz', line), 'more than 1000000 bytes')
        self.fails(self.write('a.pkl', opcodes(b']' * 20000)), 'too many objects')
        frame = b'\x80\x04\x95' + struct.pack('<Q', 20001) + b']' * 20000 + b'.'
        self.fails(self.write('a.pkl', frame), 'too many objects')
        # One string, encoded again and again.
        again = b'c_codecs\nencode\nq\x01X' + struct.pack('<I', 300000) + b'a' * 300000
        again += b'q\x02X\x06\x00\x00\x00latin1q\x03\x86R' + b'h\x01h\x02h\x03\x86R' * 5
        self.fails(self.write('a.pkl', opcodes(again)), 'more than 1000000 bytes')
        x, y = numpy.zeros((3000, 100), numpy.uint8), numpy.zeros(3000, int)
        self.fails(self.write_pickle(((x, y),) * 3, protocol=5), 'more than the limit of 1000000')

    def test_damaged(self):
        raw = pickle.dumps(self.triple, 2)
        packed = gzip.compress(raw)
        flipped = bytearray(packed)
        flipped[len(packed) // 2] ^= 0xff
        for name, data in (('a.pkl', b''), ('a.pkl', raw[:-5000]), ('a.pkl', raw[:-1]),
                           ('a.pkl', raw + b'more'), ('a.pkl', b'<html>not found</html>'),
                           ('a.pkl.gz', packed[:-4]), ('a.pkl.gz', packed[:3000]),
                           ('a.pkl.gz', bytes(flipped)), ('a.pkl.gz', b'\x1f\x8b')):
            with self.subTest(name=name, size=len(data)):
                self.fails(self.write(name, data), name, 'cannot be read', 'good copy')

    def test_flipped_pixel_is_seen_by_the_checksum(self):
        # Stored without compression, so that only the checksum can tell.
        packed = bytearray(gzip.compress(pickle.dumps(self.triple, 2), compresslevel=0))
        packed[2000] ^= 1
        self.fails(self.write('a.pkl.gz', bytes(packed)), 'CRC')

    def test_every_cut_is_one_line(self):
        raw = pickle.dumps(triple_of(*small_mnist(4, 1)), 2)
        for size in [*range(0, 300, 7), *range(300, len(raw), 997)]:
            self.fails(self.write('a.pkl', raw[:size]), 'cut short')

    def test_random_damage_is_one_line(self):
        raw = pickle.dumps(triple_of(*small_mnist(4, 1)), 2)
        rng = numpy.random.RandomState(3)
        failures = 0
        for _ in range(300):
            damaged = bytearray(raw)
            for position in rng.randint(400, size=3):
                damaged[position] = rng.randint(256)
            try:
                datasets.read(self.write('a.pkl', bytes(damaged)))
            except UserError as error:
                failures += 1
                self.assertNotIn('\n', str(error))
        self.assertGreater(failures, 100)

    def test_not_a_triple(self):
        for content in (3, {}, self.triple[:2], ((1, 2), (3, 4), 5), None):
            self.fails(self.write_pickle(content), 'triple')
        self.fails(self.write_pickle((('x', 'y'),) * 3), 'images of type str')
        nested = [[[0.5]]]
        self.fails(self.write_pickle(((nested, [1]),) * 3), 'images of type list')


class ContentTest(DataTest):
    def setUp(self):
        super().setUp()
        self.pairs = [list(pair) for pair in triple_of(*small_mnist())]

    def fails_with(self, which, x=None, y=None, parts=()):
        pairs = [list(pair) for pair in self.pairs]
        pairs[which] = [self.pairs[which][0] if x is None else x,
                        self.pairs[which][1] if y is None else y]
        self.fails(self.write_pickle(pairs), 'set.pkl', *parts)

    def test_images(self):
        x = self.pairs[1][0]
        for value, text in ((numpy.nan, 'NaN'), (1.5, '1.5, not within 0 to 1'),
                            (-0.25, 'from -0.25'), (numpy.inf, 'to inf')):
            bad = x.copy()
            bad[1, 3] = value
            self.fails_with(1, x=bad, parts=('validation set', text))
        self.fails_with(2, x=numpy.full((5, 784), 256), parts=('test set', 'not within 0 to 255'))
        self.fails_with(0, x=x[:0], y=numpy.zeros(0, int), parts=('training set is empty',))
        self.fails_with(0, x=x[:, :0], parts=('training set is empty',))
        self.fails_with(0, x=x.astype(complex), parts=("'c16'",))
        self.fails_with(1, x=x[:, 0], parts=('shape (2,)',))
        self.fails_with(1, x=x[:, :100], parts=('validation set has images of 100 pixels',))

    def test_labels(self):
        y = self.pairs[2][1]
        self.fails_with(2, y=y - 1, parts=('test set', 'labels from -1 to 3'))
        self.fails_with(2, y=y[:-1], parts=('5 images and labels of shape (4,)',))
        self.fails_with(2, y=y.astype(float), parts=('labels of type float64',))
        self.fails_with(2, y=numpy.eye(5, dtype=int), parts=('labels of shape (5, 5)',))
        self.fails_with(2, y=y + 70000, parts=('to 70004, not within 0 to 65535',))

    def test_accepted_forms(self):
        x, y = self.pairs[0]
        integers = numpy.round(x * 256).astype(numpy.uint8)
        forms = [x.astype(numpy.float64), integers, integers.astype(numpy.int64),
                 integers.reshape(-1, 28, 28)]
        for form in forms:
            data = datasets.read(self.write_pickle([(form, y[:, None]), *self.pairs[1:]]))
            self.equal(data, self.pairs)
        binary = x > 0.5
        data = datasets.read(self.write_pickle([(binary, y), *self.pairs[1:]]))
        self.assertEqual(data.train[0].max(), 1.0)

    def test_shapes_and_classes(self):
        rng = numpy.random.RandomState(0)
        for shape, image_shape in (((6,), (1, 6)), ((9,), (3, 3)), ((2, 5), (2, 5))):
            pairs = [(rng.rand(4, *shape), numpy.array([0, 1, 1, top])) for top in (2, 1, 16)]
            data = datasets.read(self.write_pickle(pairs))
            self.assertEqual(data.image_shape, image_shape)
            self.assertEqual((data.n_in, data.n_classes), (numpy.prod(shape), 17))


class IdxTest(DataTest):
    def setUp(self):
        super().setUp()
        self.arrays = small_mnist()
        self.idx = self.folder / 'fashion'

    def test_raw_and_gz_and_pickle_agree(self):
        write_idx(self.idx, self.arrays)
        raw = datasets.read(self.idx)
        self.equal(raw, triple_of(*self.arrays))
        self.assertEqual((raw.name, raw.image_shape, raw.n_classes), ('fashion', (28, 28), 10))
        packed_folder = self.folder / 'packed'
        write_idx(packed_folder, self.arrays, compress=True)
        pickled = self.write_pickle(triple_of(*self.arrays))
        self.assertEqual(raw.sha256, datasets.read(packed_folder).sha256)
        self.assertEqual(raw.sha256, datasets.read(pickled).sha256)

    def test_sixty_thousand_is_split_as_mnist_is(self):
        x, y = numpy.zeros((60000, 1, 1), numpy.uint8), numpy.arange(60000).astype(numpy.uint8)
        write_idx(self.idx, [x, y, x[:7], y[:7]])
        data = datasets.read(self.idx)
        self.assertEqual([len(y) for x, y in (data.train, data.valid, data.test)],
                         [50000, 10000, 7])
        numpy.testing.assert_array_equal(data.valid[1], y[50000:])

    def test_dots_in_names(self):
        write_idx(self.idx, self.arrays)
        for path in list(self.idx.iterdir()):
            path.rename(path.with_name(path.name.replace('-idx', '.idx')))
        self.equal(datasets.read(self.idx), triple_of(*self.arrays))

    def test_damaged(self):
        good = idx_bytes(self.arrays[0])
        absurd = bytes([0, 0, 8, 3]) + b'\xff' * 12
        cases = [
            (b'', 'starts with'), (good[:3], 'starts with 000008,'), (good[:9], 'cannot be read'),
            (good[:-1], 'cut short'), (good + b'x', 'goes on after its end'),
            (absurd, 'more than the limit'), (bytes([0, 0, 13, 3]) + good[4:], '00000d03'),
            (idx_bytes(self.arrays[1]), '00000801'), (b'<html>', '3c68746d'),
        ]
        for data, text in cases:
            for compress in (False, True):
                with self.subTest(text=text, compress=compress):
                    shutil.rmtree(self.idx, ignore_errors=True)
                    write_idx(self.idx, self.arrays, compress)
                    name = 'train-images-idx3-ubyte' + ('.gz' if compress else '')
                    (self.idx / name).write_bytes(gzip.compress(data) if compress else data)
                    self.fails(self.idx, name, text, 'good copy' if text[0] != 'm' else 'limit')
        packed = gzip.compress(good)
        (self.idx / name).write_bytes(packed[:-6])
        self.fails(self.idx, name, 'EOFError')

    def test_missing_file_and_wrong_counts(self):
        write_idx(self.idx, self.arrays)
        labels = self.idx / 't10k-labels-idx1-ubyte'
        labels.write_bytes(idx_bytes(self.arrays[3][:-1]))
        self.fails(self.idx, 'test set has 5 images and labels of shape (4,)')
        labels.unlink()
        self.fails(self.idx, 'has no t10k-labels-idx1-ubyte')
        write_idx(self.idx, [self.arrays[0], self.arrays[1][:-3], *self.arrays[2:]])
        self.fails(self.idx, 'training set has images of shape (12, 28, 28)', '(9,)')


class NpzTest(DataTest):
    def test_both_sets_of_keys(self):
        train_x, train_y, test_x, test_y = small_mnist()
        triple = triple_of(train_x, train_y, test_x, test_y)
        own = self.folder / 'own.npz'
        numpy.savez(own, train_x=train_x[:10], train_y=train_y[:10], valid_x=triple[1][0],
                 valid_y=train_y[10:], test_x=test_x, test_y=test_y)
        self.equal(datasets.read(own), triple)
        keras = self.folder / 'keras.npz'
        numpy.savez_compressed(keras, x_train=train_x, y_train=train_y, x_test=test_x,
                               y_test=test_y)
        self.equal(datasets.read(str(keras)), triple)
        self.assertEqual(datasets.read(own).sha256, datasets.read(keras).sha256)

    def test_broken(self):
        path = self.folder / 'a.npz'
        numpy.savez(path, x=numpy.zeros(3))
        self.fails(path, 'a.npz: holds x: name its arrays train_x')
        keys = ('x_train', 'y_train', 'x_test', 'y_test')
        numpy.savez(path, **{key: numpy.array([{}], dtype=object) for key in keys})
        self.fails(path, 'a.npz', 'Object arrays cannot be loaded')
        numpy.savez(path, **{key: numpy.zeros((3, 4), dtype=complex) for key in keys})
        self.fails(path, 'a.npz', 'images of type complex128')
        numpy.savez(path, **dict(zip(keys, small_mnist(), strict=True)))
        good = path.read_bytes()
        for data in (b'', good[:-30], good[:200], good[:500] + b'xxxx' + good[504:]):
            path.write_bytes(data)
            self.fails(path, 'a.npz', 'cannot be read')

    def test_bomb(self):
        path = self.folder / 'a.npz'
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr('x_train.npy', b'\0' * 10**6)
        with mock.patch.object(datasets, 'LARGEST', 10**5):
            self.fails(path, 'takes 1000000 bytes')


class DigitsTest(DataTest):
    def test_the_same_seed_gives_the_same_bytes(self):
        def fingerprint(seed):
            sets = digits.make_digits(seed, sizes=(60, 20, 10))
            self.assertEqual([x.shape for x, y in sets],
                             [(60, 28, 28), (20, 28, 28), (10, 28, 28)])
            return hashlib.sha256(b''.join(a.tobytes() for pair in sets for a in pair)).hexdigest()
        self.assertEqual(fingerprint(1), fingerprint(1))
        self.assertNotEqual(fingerprint(1), fingerprint(2))

    def test_images_look_like_mnist_in_the_mean(self):
        (x, y), _, _ = digits.make_digits(sizes=(500, 10, 10))
        self.assertEqual((x.dtype, y.dtype), (numpy.uint8, numpy.uint8))
        self.assertEqual(numpy.bincount(y).tolist(), [50] * 10)
        self.assertTrue((numpy.diff(y.astype(int)) < 0).any())
        ink = x > 64
        rows, columns = ink.any(axis=2).sum(axis=1), ink.any(axis=1).sum(axis=1)
        side = numpy.maximum(rows, columns)
        self.assertTrue(((side >= 15) & (side <= 25)).all(), (side.min(), side.max()))
        position = numpy.arange(28) - 13.5
        for axis in (1, 2):
            profile = x.sum(axis=axis, dtype=float)
            centre = (profile @ position) / profile.sum(axis=1)
            self.assertLess(numpy.abs(centre).max(), 2)
        self.assertTrue(0.08 < x.mean() / 256 < 0.2, x.mean() / 256)
        # Nearest class mean: far better than the 10 % of images without a digit in them.
        x = x.reshape(500, -1) / 255
        means = numpy.stack([x[y == digit].mean(axis=0) for digit in range(10)])
        nearest = ((x[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
        self.assertGreater((nearest == y).mean(), 0.7)

    def test_cache(self):
        small = digits.make_digits(sizes=(20, 10, 10))
        cache = self.data / 'digits.npz'
        with mock.patch.object(datasets, 'make_digits', side_effect=lambda: list(small)) as make:
            first = datasets.read('digits')
            self.assertEqual((first.name, first.train[0].shape, first.n_classes, make.call_count),
                             ('digits', (20, 784), 10, 1))
            self.assertEqual([p.name for p in self.data.iterdir()], ['digits.npz'])
            good = cache.read_bytes()
            self.assertEqual(datasets.read('digits').sha256, first.sha256)
            self.assertEqual(make.call_count, 1)
            for n, broken in enumerate((b'', b'broken', good[:-100], good[:300]), start=2):
                cache.write_bytes(broken)
                self.assertEqual(datasets.read('digits').sha256, first.sha256)
                self.assertEqual((make.call_count, len(cache.read_bytes())), (n, len(good)))
            with mock.patch.object(datasets, 'VERSION', digits.VERSION + 1):
                self.assertEqual(datasets.read('digits').sha256, first.sha256)
            self.assertEqual(make.call_count, 6)

    def test_unwritable_folder(self):
        small = digits.make_digits(sizes=(20, 10, 10))
        below_a_file = self.write('file', b'') / 'data'
        with mock.patch.object(datasets, 'DATA_FOLDER', below_a_file), \
                mock.patch.object(datasets, 'make_digits', side_effect=lambda: list(small)) as make:
            self.assertEqual(datasets.read('digits').sha256, datasets.read('digits').sha256)
            self.assertEqual(make.call_count, 2)

    def test_missing_font(self):
        with mock.patch.object(digits, 'MATPLOTLIB_FONTS', ('no such font.ttf',)):
            with self.assertRaisesRegex(UserError, 'font of matplotlib or Pillow is missing'):
                digits.make_digits(sizes=(10, 10, 10))


class SearchTest(DataTest):
    def named(self, folder, n_test, name='own.pkl'):
        content = triple_of(*small_mnist(n_test=n_test))
        (folder / name).write_bytes(pickle.dumps(content))

    def count(self, dataset):
        return len(datasets.read(dataset).test[1])

    def test_order(self):
        self.named(self.data, 3)
        self.assertEqual(self.count('own.pkl'), 3)
        self.named(self.elsewhere, 4)
        self.assertEqual(self.count('own.pkl'), 4)
        self.named(self.work, 5)
        self.assertEqual(self.count('own.pkl'), 5)

    def test_a_path_is_used_as_it_is(self):
        self.named(self.data, 3)
        self.assertEqual(self.count(os.path.join('..', 'data', 'own.pkl')), 3)
        self.assertEqual(self.count(self.data / 'own.pkl'), 3)
        self.fails(os.path.join('.', 'own.pkl'), 'own.pkl', 'correct the path')
        with mock.patch.dict(os.environ, HOME=str(self.data), USERPROFILE=str(self.data)):
            self.assertEqual(self.count(os.path.join('~', 'own.pkl')), 3)

    def test_not_found(self):
        self.fails('own.pkl', "'own.pkl'", str(self.work), str(self.elsewhere), str(self.data),
                   'DLT_DATA_DIR')
        self.fails('', "''")
        with mock.patch.dict(os.environ):
            del os.environ['DLT_DATA_DIR']
            self.assertEqual(datasets.search_folders(), [self.work, self.data])
        (self.work / 'own.csv').write_bytes(b'')
        self.fails('own.csv', 'own.csv', 'unknown kind')

    def test_mnist_file_before_folder(self):
        write_idx(self.work / 'mnist', small_mnist(n_test=6))
        for name in (None, 'mnist', 'mnist.pkl.gz'):
            self.assertEqual(self.count(name), 6)
        self.named(self.data, 3, 'mnist.pkl.gz')
        for name in (None, 'mnist', 'mnist.pkl.gz'):
            self.assertEqual(self.count(name), 3)
        self.assertEqual(datasets.read().name, 'mnist.pkl.gz')

    def test_broken_mnist_is_an_error(self):
        (self.elsewhere / 'mnist.pkl.gz').write_bytes(b'broken')
        self.fails(None, str(self.elsewhere / 'mnist.pkl.gz'), 'cannot be read')
        (self.elsewhere / 'mnist.pkl.gz').unlink()
        write_idx(self.elsewhere / 'mnist', small_mnist())
        (self.elsewhere / 'mnist' / 'train-labels-idx1-ubyte').unlink()
        self.fails(None, str(self.elsewhere / 'mnist'), 'has no train-labels')

    def test_real_mnist(self):
        if not self.real_data:
            raise unittest.SkipTest('DLT_DATA_DIR is not set: no real MNIST to read')
        paths = [Path(self.real_data) / name for name in ('mnist.pkl.gz', 'mnist')]
        paths = [path for path in paths if path.exists()]
        if not paths:
            raise unittest.SkipTest('DLT_DATA_DIR holds neither mnist.pkl.gz nor mnist/')
        hashes = set()
        for path in paths:
            data = datasets.read(path)
            hashes.add(data.sha256)
            self.assertEqual([x.shape for x, y in (data.train, data.valid, data.test)],
                             [(50000, 784), (10000, 784), (10000, 784)])
            self.assertEqual(data.train[1][:5].tolist(), [5, 0, 4, 1, 9])
            self.assertEqual(data.test[1][:3].tolist(), [7, 2, 1])
            self.assertEqual((data.image_shape, data.n_classes), ((28, 28), 10))
            self.assertEqual(data.train[0].max(), numpy.float32(255 / 256))
        self.assertEqual(len(hashes), 1)


class TunesTest(DataTest):
    def setUp(self):
        super().setUp()
        small = tunes.make_tunes(sizes=(3, 2, 2))
        self.enterContext(mock.patch.object(tunes, 'make_tunes', return_value=small))

    def find(self, dataset=None):
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            files = datasets.find_tunes(dataset)
        return files, stderr.getvalue()

    def folder_of(self, path, names):
        for name in names:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            midiwrite(path / name, numpy.ones((3, 88)))
        return path

    def zip_of(self, path, names):
        file = io.BytesIO()
        midiwrite(file, numpy.ones((3, 88)))
        with warnings.catch_warnings(), zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            warnings.simplefilter('ignore')  # of names that come twice
            for name in names:
                archive.writestr(name, file.getvalue())
        return path

    def names(self, files):
        return [[midiread(path).name for path in split]
                for split in (files.train, files.valid, files.test)]

    NAMES = ('Nottingham/train/b.mid', 'Nottingham/train/a.MID', 'Nottingham/train/.c.mid',
             'Nottingham/valid/d.midi', 'Nottingham/test/e.mid', 'Nottingham/readme.txt',
             '__MACOSX/Nottingham/train/._b.mid', 'Nottingham/other.mid')

    def test_folders_and_archives(self):
        for path in (self.folder_of(self.folder / 'set', self.NAMES),
                     self.zip_of(self.folder / 'set.zip', self.NAMES)):
            files, stderr = self.find(path)
            self.assertEqual(self.names(files), [['a.MID', 'b.mid'], ['d.midi'], ['e.mid']])
            self.assertEqual((files.name, stderr), (path.name, ''))
        files, _ = self.find(self.folder / 'set' / 'Nottingham' / 'train')
        self.assertEqual(self.names(files), [['a.MID', 'b.mid'], [], []])

    def test_search(self):
        for folder, name in ((self.data, 'Nottingham.zip'), (self.elsewhere, 'Nottingham.zip')):
            self.zip_of(folder / name, ['train/a.mid'])
        self.folder_of(self.elsewhere / 'Nottingham', ['train/b.mid'])
        for dataset in (None, 'Nottingham', 'Nottingham.zip'):
            files, stderr = self.find(dataset)
            self.assertEqual((files.name, self.names(files)[0], stderr),
                             ('Nottingham', ['b.mid'], ''))
        self.folder_of(self.work / 'own', ['x.mid'])
        self.assertEqual(self.names(self.find('own')[0]), [['x.mid'], [], []])

    def test_own_tunes(self):
        files, stderr = self.find('tunes')
        self.assertEqual(([len(split) for split in self.names(files)], stderr), ([3, 2, 2], ''))
        for path, roll in zip(files.train, tunes.make_tunes()[0], strict=True):
            numpy.testing.assert_array_equal(midiread(path, tunes.R, tunes.DT).piano_roll, roll)

    def test_the_same_seed_gives_the_same_notes(self):
        first, again, other = (numpy.concatenate([tunes.tune(numpy.random.RandomState(seed))
                                                  for seed in seeds])
                               for seeds in ((1, 2), (1, 2), (3, 4)))
        numpy.testing.assert_array_equal(first, again)
        self.assertFalse(numpy.array_equal(first, other))
        self.assertEqual(set(numpy.unique(first)), {0, 1})

    def test_fallback_and_none(self):
        files, stderr = self.find()
        self.assertEqual(files.name, 'tunes')
        self.assertEqual(stderr.count('\n'), 1)
        for part in ('NOTICE', 'tunes', 'DLT_DATA_DIR'):
            self.assertIn(part, stderr)
        for dataset in ('Nottingham', 'Nottingham.zip', 'nowhere', './nowhere.zip'):
            with self.assertRaises(UserError):
                self.find(dataset)

    def test_what_is_no_collection(self):
        (self.work / 'empty').mkdir()
        for path in ('empty', self.zip_of(self.work / 'none.zip', ['a.txt', 'test/b.mid']),
                     self.write('broken.zip', b'PK no zip'), self.write('notes.mid', b'MThd')):
            with self.assertRaises(UserError) as caught:
                self.find(path)
            self.assertIn(Path(path).name, str(caught.exception))
            self.assertEqual(str(caught.exception).count('\n'), 0)
        with mock.patch.object(datasets, 'LARGEST_ZIP', 9), self.assertRaises(UserError):
            self.find(self.work / 'none.zip')

    def test_hostile_names_write_nothing(self):
        names = ['../../up.mid', '/root.mid', 'train/../../x.mid', 'C:\\y.mid', 'a\nb.mid',
                 'twice.mid', 'twice.mid', '/' * 3000 + 'z.mid', '.mid']
        files, _ = self.find(self.zip_of(self.work / 'hostile.zip', names))
        with contextlib.redirect_stderr(io.StringIO()):
            for path in files.train:
                with contextlib.suppress(UserError):
                    midiread(path)
        self.assertEqual(sorted(os.listdir(self.folder)), ['data', 'elsewhere', 'work'])
        self.assertEqual(os.listdir(self.work), ['hostile.zip'])


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; `broken` files end in the middle of what was announced."""

    broken: frozenset[str] = frozenset()

    def log_message(self, *arguments):
        """Stay quiet."""

    def copyfile(self, source, output):
        if os.path.basename(self.path) in self.broken:
            output.write(source.read(20))
            self.close_connection = True
        else:
            super().copyfile(source, output)


class DownloadTest(DataTest):
    def setUp(self):
        super().setUp()
        self.served = self.folder / 'served'
        self.arrays = small_mnist()
        write_idx(self.served, self.arrays, compress=True)
        sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest()
                for path in self.served.iterdir()}
        self.enterContext(mock.patch.object(download, 'MNIST_MD5', sums))
        self.enterContext(mock.patch.object(download, 'REACH_SECONDS', 2))
        small = digits.make_digits(sizes=(20, 10, 10))
        self.enterContext(
            mock.patch.object(datasets, 'make_digits', side_effect=lambda: list(small)))

    def serve(self, folder=None, broken=()):
        handler = type('Broken', (Handler,), {'broken': frozenset(broken)})

        def make_handler(*arguments):
            return handler(*arguments, directory=str(folder or self.served))

        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), make_handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.02})
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f'http://127.0.0.1:{server.server_address[1]}/'

    def closed(self):
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            return f'http://127.0.0.1:{probe.getsockname()[1]}/'

    def silent(self):
        """A host that accepts connections and never says a word."""
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.bind(('127.0.0.1', 0))
        listener.listen()
        return f'http://127.0.0.1:{listener.getsockname()[1]}/'

    def mirrors(self, *mirrors):
        os.environ['DLT_MNIST_MIRRORS'] = ' '.join(mirrors)

    def files(self):
        return sorted(str(path.relative_to(self.data)) for path in self.data.rglob('*'))

    def test_download_once(self):
        self.mirrors(self.serve())
        data, stderr = self.read()
        self.equal(data, triple_of(*self.arrays))
        self.assertEqual(data.name, 'mnist')
        self.assertEqual(stderr.count('\n'), 1)
        self.assertIn('downloading', stderr)
        names = sorted(os.path.join('mnist', name) for name in download.MNIST_MD5)
        self.assertEqual(self.files(), sorted(['mnist', *names]))
        self.mirrors()  # the second time nothing is asked of anybody
        for name in (None, 'mnist.pkl.gz', 'mnist'):
            again, stderr = self.read(name)
            self.assertEqual((again.sha256, stderr), (data.sha256, ''))

    def test_an_interrupted_download_is_completed(self):
        write_idx(self.data / 'mnist', self.arrays)
        (self.data / 'mnist' / 'train-images-idx3-ubyte').unlink()
        self.mirrors(self.serve())
        self.equal(self.read('mnist.pkl.gz')[0], triple_of(*self.arrays))
        self.assertEqual(len(self.files()), 5)

    def test_wrong_checksum_then_the_second_mirror(self):
        wrong = self.folder / 'wrong'
        write_idx(wrong, small_mnist(seed=1), compress=True)
        self.mirrors(self.serve(wrong))
        self.fails('mnist.pkl.gz', 'wrong checksum', 'train-images-idx3-ubyte.gz')
        self.assertEqual(self.files(), ['mnist'])
        data, stderr = self.read()
        self.assertEqual(data.name, 'digits')
        self.assertIn('wrong checksum', stderr)
        self.assertIn('NOTICE', stderr)
        self.mirrors(self.serve(wrong), self.serve())
        self.equal(self.read()[0], triple_of(*self.arrays))

    def test_broken_connection(self):
        last = 't10k-labels-idx1-ubyte.gz'
        self.mirrors(self.serve(broken=[last]))
        self.fails('mnist', last)
        self.assertEqual(len(self.files()), 1 + 3)
        self.assertNotIn(os.path.join('mnist', last), self.files())
        self.mirrors(self.closed(), self.serve())
        self.equal(self.read('mnist')[0], triple_of(*self.arrays))

    def test_missing_on_the_mirror(self):
        (self.served / 'train-images-idx3-ubyte.gz').unlink()
        self.mirrors(self.serve())
        self.fails('mnist', 'HTTPError')

    def test_nobody_answers_within_ten_seconds(self):
        self.enterContext(mock.patch.object(download, 'REACH_SECONDS', 6))  # as it is in use
        silent = self.silent()
        self.mirrors(self.closed(), silent)
        start = time.monotonic()
        data, stderr = self.read()
        self.assertLess(time.monotonic() - start, 10)
        self.assertEqual(data.name, 'digits')
        self.assertEqual(stderr.count('\n'), 1)
        for part in ('NOTICE', 'digits', silent, 'DLT_DATA_DIR'):
            self.assertIn(part, stderr)

    def test_a_silent_mirror_does_not_hold_up_the_other(self):
        self.mirrors(self.silent(), self.serve())
        start = time.monotonic()
        self.assertEqual(self.read()[0].name, 'mnist')
        self.assertLess(time.monotonic() - start, 2)

    def test_asked_for_by_name_there_is_no_fallback(self):
        self.mirrors(self.closed(), 'no address at all')
        self.enterContext(mock.patch.object(download, 'REACH_SECONDS', 60))
        start = time.monotonic()
        for name in ('mnist', 'mnist.pkl.gz'):
            self.fails(name, 'none of its mirrors')
        self.assertLess(time.monotonic() - start, 30)  # both have said no: nothing to wait for
        self.assertEqual(self.files(), [])

    def test_unwritable_folder(self):
        self.mirrors(self.serve())
        below_a_file = self.write('file', b'') / 'data'
        temporary = self.folder / 'temporary'
        temporary.mkdir()
        with mock.patch.object(datasets, 'DATA_FOLDER', below_a_file), \
                mock.patch.object(tempfile, 'tempdir', str(temporary)):
            data, stderr = self.read()
        self.equal(data, triple_of(*self.arrays))
        self.assertIn('not writable', stderr)
        self.assertEqual(data.name, 'mnist')
        self.assertEqual(list(temporary.iterdir()), [])

    def test_folder_that_is_there_but_not_writable(self):
        self.mirrors(self.serve())
        refused = PermissionError('refused')
        with mock.patch.object(tempfile, 'TemporaryFile', side_effect=refused):
            data, stderr = self.read()
            self.equal(data, triple_of(*self.arrays))
            self.assertIn('not writable', stderr)
            self.assertEqual(self.files(), ['mnist'])
            with mock.patch.object(tempfile, 'TemporaryDirectory', side_effect=refused):
                self.fails('mnist', 'cannot be kept anywhere (refused)', str(self.data))

    def test_two_processes_at_once(self):
        script = (
            'import pathlib, sys\n'
            f'sys.path.insert(0, {str(CODE_FOLDER)!r})\n'
            'from support import datasets, download\n'
            f'datasets.DATA_FOLDER = pathlib.Path({str(self.data)!r})\n'
            f'download.MNIST_MD5 = {download.MNIST_MD5!r}\n'
            'print(datasets.read("mnist.pkl.gz").sha256)\n'
        )
        self.mirrors(self.serve())
        processes = [subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, text=True) for _ in range(2)]
        results = [process.communicate(timeout=60) for process in processes]
        self.assertEqual([process.returncode for process in processes], [0, 0], results)
        self.mirrors()
        self.assertEqual({out.strip() for out, _ in results}, {self.read('mnist')[0].sha256})
        self.assertEqual(len(self.files()), 5)

    def test_tunes(self):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, 'w') as tunes_zip:
            tunes_zip.writestr('Nottingham/train/a.mid', b'MThd')
        (self.served / 'Nottingham.zip').write_bytes(archive.getvalue())
        (self.served / 'wrong.zip').write_bytes(b'wrong')
        url = self.serve()
        self.enterContext(mock.patch.object(download, 'NOTTINGHAM_SHA256',
                                            hashlib.sha256(archive.getvalue()).hexdigest()))
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            os.environ['DLT_NOTTINGHAM_URLS'] = f'{self.closed()} {url}wrong.zip'
            with self.assertRaisesRegex(UserError, 'wrong checksum'):
                datasets.find_tunes('Nottingham')
            self.assertEqual(self.files(), [])
            os.environ['DLT_NOTTINGHAM_URLS'] = f'{url}Nottingham.zip'
            with mock.patch.object(datasets, 'DATA_FOLDER', self.write('file', b'') / 'data'):
                self.assertEqual(len(datasets.find_tunes().train), 1)
            self.assertEqual(len(datasets.find_tunes().train), 1)
            self.assertEqual(self.files(), ['Nottingham.zip'])
            os.environ['DLT_NOTTINGHAM_URLS'] = ''
            self.assertEqual(datasets.find_tunes('Nottingham').name, 'Nottingham.zip')
        self.assertEqual(stderr.getvalue().count('downloading'), 3)

    def script(self, *arguments, **environment):
        """Run a copy of download.sh beside a data/ of its own, from another folder."""
        if os.name == 'nt' or not (shutil.which('curl') or shutil.which('wget')):
            raise unittest.SkipTest('download.sh needs a POSIX sh and curl or wget')
        shutil.copy(CODE_FOLDER.parent / 'download.sh', self.folder)
        return subprocess.run(
            ['sh', str(self.folder / 'download.sh'), *arguments], text=True, timeout=60,
            env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )

    def test_script_gives_nothing_wrong_a_name(self):
        url = self.serve()
        done = self.script('mnist', DLT_MNIST_MIRRORS=f'{self.closed()} {url}')
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout.count('FAILED'), 4)
        self.assertEqual(done.stdout.count('wrong checksum'), 4)
        self.assertEqual(self.files(), ['mnist'])
        done = self.script('nottingham', DLT_NOTTINGHAM_URLS=f'{url}nothing.zip')
        self.assertEqual(done.returncode, 1)
        self.assertIn('was refused', done.stdout)
        self.assertEqual(self.script('other').returncode, 2)
        done = self.script('--help')
        self.assertEqual(done.returncode, 0)
        self.assertIn('DLT_NOTTINGHAM_URLS', done.stdout)

    def test_script_resumes_skips_and_replaces(self):
        real = Path(self.real_data or self.folder) / 'mnist'
        names = sorted(download.MNIST_MD5)
        if not all((real / name).exists() for name in names):
            raise unittest.SkipTest('DLT_DATA_DIR has no mnist/ with the four .gz files to serve')
        folder = self.data / 'mnist'
        folder.mkdir()
        images = (real / names[0]).read_bytes()
        (folder / (names[0] + '.part')).write_bytes(images[:1000])  # broken off
        (folder / (names[1] + '.part')).write_bytes(b'x' * 9000)  # longer than the file
        (folder / names[2]).write_bytes(b'corrupt')
        shutil.copy(real / names[3], folder)
        done = self.script('mnist', DLT_MNIST_MIRRORS=self.serve(real))
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(done.stdout.count('there already'), 1)
        for name in names:
            self.assertEqual((folder / name).read_bytes(), (real / name).read_bytes())
        self.assertEqual((folder / (names[2] + '.old')).read_bytes(), b'corrupt')


if __name__ == '__main__':
    unittest.main()
