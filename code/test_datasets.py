"""Tests of how data sets are found, read and checked, and of the digits: none needs the network."""

import contextlib
import gzip
import hashlib
import io
import os
import pickle
import struct
import unittest
import warnings
import zipfile
from pathlib import Path
from unittest import mock

import numpy

from support import datasets, digits, tunes
from support.errors import UserError
from support.midi import midiread, midiwrite
from support.testing import TestCase, mnist_is_here


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
    folder.mkdir(parents=True, exist_ok=True)
    for (part, ndim), array in zip(datasets.IDX_FILES, arrays, strict=True):
        name, data = f'{part}-idx{ndim}-ubyte', idx_bytes(array)
        if compress:
            # mtime=0: the same bytes, and so the same checksum, at any time.
            name, data = f'{name}.gz', gzip.compress(data, mtime=0)
        (folder / name).write_bytes(data)


class DataTest(TestCase):
    """Every test has a folder of its own as repository's data/ and as working directory."""

    def setUp(self):
        super().setUp()
        self.folder = self.folder.resolve()
        self.data, self.work, self.elsewhere = (self.folder / name
                                                for name in ('data', 'work', 'elsewhere'))
        for folder in (self.data, self.work, self.elsewhere):
            folder.mkdir()
        self.real_data = os.environ.get('DLT_DATA_DIR')
        self.enterContext(contextlib.chdir(self.work))
        self.enterContext(mock.patch.object(datasets, 'DATA_FOLDER', self.data))
        self.enterContext(mock.patch.dict(os.environ, {
            'DLT_DATA_DIR': str(self.elsewhere), 'DLT_MNIST_MIRRORS': '',
            'DLT_NOTTINGHAM_URLS': '', 'NO_PROXY': '127.0.0.1', 'no_proxy': '127.0.0.1'}))
        small = digits.make_digits(sizes=(20, 10, 10))
        self.make_digits = self.enterContext(
            mock.patch.object(datasets, 'make_digits', side_effect=lambda: list(small)))

    def write(self, name, data):
        path = self.folder / name
        path.write_bytes(data)
        return path

    def write_pickle(self, content, protocol=2):
        return self.write('set.pkl', pickle.dumps(content, protocol))

    def read(self, dataset=None, read=datasets.read):
        """Read; give the data set and what was written to stderr."""
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            data = read(dataset)
        return data, stderr.getvalue()

    def fails(self, dataset, *parts, read=datasets.read):
        """Reading gives one line that contains every one of `parts`."""
        with self.assertRaises(UserError) as caught:
            self.read(dataset, read)
        message = str(caught.exception)
        self.assertNotIn('\n', message)
        for part in parts:
            self.assertIn(part, message)

    def equal(self, data, triple):
        """`data` holds exactly the arrays of `triple`, in the form that is promised."""
        for (x, y), (want_x, want_y) in zip((data.train, data.valid, data.test), triple,
                                            strict=True):
            self.assertEqual((x.dtype, y.dtype), (numpy.float32, numpy.int32))
            self.assertTrue(x.flags.c_contiguous and x.flags.writeable)
            numpy.testing.assert_array_equal(x, want_x)
            numpy.testing.assert_array_equal(y, want_y)


class Calls:
    """Pickled as a call of a function, with a state: what a hostile file asks for."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


class PickleTest(DataTest):
    def setUp(self):
        super().setUp()
        self.triple = triple_of(*small_mnist())

    def test_every_protocol(self):
        for protocol in range(6):
            for content in (self.triple, [list(pair) for pair in self.triple]):
                data = datasets.read(self.write_pickle(content, protocol))
                self.equal(data, self.triple)
        self.assertEqual((data.name, data.image_shape, data.n_in, data.n_classes),
                         ('set.pkl', (28, 28), 784, 10))
        packed = datasets.read(self.write('a.pkl.gz', gzip.compress(pickle.dumps(self.triple))))
        self.assertEqual((packed.sha256, packed.name), (data.sha256, 'a.pkl.gz'))
        self.triple[2][1][-1] = 9
        self.assertNotEqual(datasets.read(self.write_pickle(self.triple)).sha256, data.sha256)

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

    def test_python_2_and_both_names_of_numpy_core(self):
        pairs = [self.python2_array(x) + self.python2_array(y) + b'\x86' for x, y in self.triple]
        old = b'\x80\x02' + b''.join(pairs) + b'\x87.'
        for raw in (old, old.replace(b'numpy.core', b'numpy._core')):
            self.equal(datasets.read(self.write('old.pkl', raw)), self.triple)

    def test_orders_types_and_lists(self):
        (a, b), (c, d), (e, f) = self.triple
        transposed = numpy.ascontiguousarray(e.reshape(5, 28, 28).transpose(1, 0, 2))
        content = ((numpy.asfortranarray(a), b.astype('>i4')), (c.astype('>f8'), list(d)),
                   (transposed.transpose(1, 0, 2), f.tolist()))
        for protocol in (2, 5):
            self.equal(datasets.read(self.write_pickle(content, protocol)), self.triple)

    def test_nothing_is_called(self):
        mark = self.folder / 'mark'
        for reduced, wanted in (
                ((os.mkdir, (str(mark),)), f'{os.name}.mkdir'),
                ((os.system, (f'mkdir {mark}',)), '.system'),
                ((eval, (f'__import__("os").mkdir({str(mark)!r})',)), 'builtin'),
                ((getattr, ('numpy', 'load')), 'getattr'),
                ((numpy.fromfile, (str(mark),)), 'fromfile')):
            for protocol in (0, 2, 5):
                path = self.write_pickle((Calls(*reduced), *self.triple[1:]), protocol)
                self.fails(path, str(path), 'asks for', wanted, 'run a program')
        self.fails(self.write('a.pkl', b'\x80\x02\x8c\x05numpy\x8c\x0fndarray.__new__\x93.'),
                   'numpy.ndarray.__new__')
        self.fails(self.write('a.pkl', b'(U\x01xios\nsystem\n.'), 'os.system')
        self.assertFalse(mark.exists())

    def test_no_bytes_become_objects(self):
        """NumPy itself would take these bytes for the address of an object, and crash."""
        fields = Calls(numpy.dtype, ('V8', False, True),
                       (3, '|', None, ('a',), {'a': (numpy.dtype('O'), 0)}, 8, 1, 0))
        empty = numpy.empty(0).__reduce__()
        for hostile in (Calls(numpy.ndarray, ((1,), 'O', b'AAAAAAAA')),
                        Calls(*empty[:2], (1, (1,), fields, False, b'AAAAAAAA')),
                        Calls(*empty[:2], (1, (1,), numpy.dtype('O'), False, b'AAAAAAAA'))):
            self.fails(self.write_pickle(((hostile, [1]),) * 3), 'array')
        # A state for a class, which would be set for whatever is read later.
        self.fails(self.write('a.pkl', b'cnumpy\ndtype\nN}U\x04nameU\x01xs\x86b.'), 'a.pkl')
        self.assertEqual(datasets.Call.name, '')

    def test_no_numbers(self):
        for dtype in (object, [('a', 'i4')], 'U3', complex):
            x = numpy.zeros((2, 4), dtype=dtype)
            self.fails(self.write_pickle(((x, x[:, 0]),) * 3), 'array of type')
        for content in (3, {}, self.triple[:2], ((1, 2), (3, 4), 5), None):
            self.fails(self.write_pickle(content), 'triple')
        for part, reason in (('x', 'holds a str in place of an array'), ([[.5]], 'holds a float'),
                             (3, 'images of shape ()'), (b'', 'images of type'),
                             (numpy.dtype('f4'), 'images of type'), (x, 'array of type')):
            for protocol in (2, 5):
                self.fails(self.write_pickle(((part, [1]),) * 3, protocol), reason)

    def test_sizes(self):
        raw = pickle.dumps(numpy.zeros((2, 4), numpy.float32), 2)
        for shape in (b'J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86', b'J\xff\xff\xff\xffK\x05\x86'):
            absurd = raw.replace(b'K\x02K\x04\x86', shape)
            triple = b'\x80\x02' + (absurd[2:-1] + b'](K\1K\2e\x86') * 3 + b'\x87.'
            self.fails(self.write('a.pkl', triple), 'cannot reshape')
        self.enterContext(mock.patch.object(datasets, 'LARGEST', 10**6))
        bomb = gzip.compress(pickle.dumps(numpy.zeros(10**7, numpy.uint8), 5))
        self.fails(self.write('a.pkl.gz', bomb), 'more than 1000000 bytes')
        x, y = numpy.zeros((3000, 100), numpy.uint8), numpy.zeros(3000, int)
        self.fails(self.write_pickle(((x, y),) * 3, 5), 'more than 1000000 bytes')

    def test_damaged(self):
        raw = pickle.dumps(self.triple, 2)
        # Stored without compression, so that only the checksum can tell.
        packed = gzip.compress(raw, compresslevel=0)
        flipped = packed[:2000] + bytes([packed[2000] ^ 1]) + packed[2001:]
        for name, data in (('a.pkl', b''), ('a.pkl', raw[:-5000]), ('a.pkl', raw[:-1]),
                           ('a.pkl', raw + b'more'), ('a.pkl', b'<html>not found</html>'),
                           ('a.pkl.gz', packed[:-4]), ('a.pkl.gz', packed[:3000]),
                           ('a.pkl.gz', flipped), ('a.pkl.gz', b'\x1f\x8b')):
            with self.subTest(name=name, size=len(data)):
                self.fails(self.write(name, data), name, 'cannot be read', 'good copy')

    def test_random_damage_is_one_line(self):
        raw = pickle.dumps(triple_of(*small_mnist(4, 1)), 2)
        rng = numpy.random.RandomState(0)
        failures = 0
        for _ in range(300):
            damaged = bytearray(raw[:rng.choice([len(raw), rng.randint(len(raw))])])
            for position in rng.randint(min(400, len(damaged)), size=3):
                damaged[position] = rng.randint(256)
            try:
                datasets.read(self.write('a.pkl', bytes(damaged)))
            except UserError as error:
                failures += 1
                self.assertNotIn('\n', str(error))
        self.assertGreater(failures, 100)


class ContentTest(DataTest):
    def setUp(self):
        super().setUp()
        self.pairs = triple_of(*small_mnist())

    def fails_with(self, which, part, x=None, y=None):
        pairs = [list(pair) for pair in self.pairs]
        pairs[which] = [pairs[which][0] if x is None else x, pairs[which][1] if y is None else y]
        name = ('training', 'validation', 'test')[which]
        self.fails(self.write_pickle(pairs), f'set.pkl: the {name} set ', part)

    def test_images(self):
        x = self.pairs[1][0]
        for value, part in ((numpy.nan, 'NaN'), (1.5, '1.5, not within 0 to 1'),
                            (-0.25, 'from -0.25'), (numpy.inf, 'to inf')):
            bad = x.copy()
            bad[1, 3] = value
            self.fails_with(1, part, x=bad)
        self.fails_with(2, 'not within 0 to 255', x=numpy.full((5, 784), 256))
        self.fails_with(0, 'is empty', x=x[:0], y=numpy.zeros(0, int))
        self.fails_with(0, 'is empty', x=x[:, :0])
        self.fails_with(1, 'shape (2,)', x=x[:, 0])
        self.fails_with(1, 'images of shape (100,), others are (28, 28)', x=x[:, :100])

    def test_labels(self):
        y = self.pairs[2][1]
        for bad, part in ((y - 1, 'labels from -1 to 3'), (y.astype(float), 'type float64'),
                          (y[:-1], '5 images and labels of shape (4,)'),
                          (numpy.eye(5, dtype=int), 'labels of shape (5, 5)'),
                          (y + 70000, 'to 70004, not within 0 to 65535')):
            self.fails_with(2, part, y=bad)

    def test_accepted_forms(self):
        x, y = self.pairs[0]
        integers = numpy.round(x * 256).astype(numpy.uint8)
        for form in (x.astype(numpy.float64), integers, integers.astype(numpy.int64),
                     integers.reshape(-1, 28, 28)):
            data = datasets.read(self.write_pickle([(form, y[:, None]), *self.pairs[1:]]))
            self.equal(data, self.pairs)
        data = datasets.read(self.write_pickle([(x > 0.5, y), *self.pairs[1:]]))
        self.assertEqual(data.train[0].max(), 1.0)

    def test_shapes_and_classes(self):
        rng = numpy.random.RandomState(0)
        for shape, image_shape in (((6,), (1, 6)), ((9,), (3, 3)), ((2, 5), (2, 5))):
            pairs = [(rng.rand(4, *shape), numpy.array([0, 1, 1, top])) for top in (2, 1, 16)]
            data = datasets.read(self.write_pickle(pairs))
            self.assertEqual(data.image_shape, image_shape)
            self.assertEqual((data.n_in, data.n_classes), (numpy.prod(shape), 17))
        for which in (1, 2):
            other = self.pairs[which][0].reshape(-1, 14, 56)
            pairs = [(x.reshape(-1, 28, 28), y) for x, y in self.pairs]
            pairs[which] = (other, self.pairs[which][1])
            self.fails(self.write_pickle(pairs), 'shape (14, 56), others are (28, 28)')


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
        write_idx(self.folder / 'packed', self.arrays, compress=True)
        for path in (self.folder / 'packed', self.write_pickle(triple_of(*self.arrays))):
            self.assertEqual(datasets.read(path).sha256, raw.sha256)
        for path in list(self.idx.iterdir()):
            path.rename(path.with_name(path.name.replace('-idx', '.idx')))
        self.assertEqual(datasets.read(self.idx).sha256, raw.sha256)

    def test_the_split_for_validation(self):
        x, y = numpy.zeros((60000, 1, 1), numpy.uint8), numpy.arange(60000).astype(numpy.uint8)
        write_idx(self.idx, [x, y, x[:7], y[:7]])
        data = datasets.read(self.idx)
        self.assertEqual([len(y) for x, y in (data.train, data.valid, data.test)],
                         [50000, 10000, 7])
        numpy.testing.assert_array_equal(data.valid[1], y[50000:])
        write_idx(self.idx, [x[:5], y[:5], x[:7], y[:7]])
        self.fails(self.idx, 'has 5 training images')

    def test_damaged(self):
        good = idx_bytes(self.arrays[0])
        absurd = bytes([0, 0, 8, 3]) + b'\xff' * 12
        for data, part in (
                (b'', 'starts with'), (good[:3], 'starts with 000008,'), (good[:9], 'cannot be'),
                (good[:-1], 'header announces (12, 28, 28)'), (good + b'x', 'header announces'),
                (absurd, 'header announces'), (bytes([0, 0, 13, 3]) + good[4:], '00000d03'),
                (idx_bytes(self.arrays[1]), '00000801'), (b'<html>', '3c68746d')):
            for compress in (False, True):
                write_idx(self.idx, self.arrays, compress)
                name = 'train-images-idx3-ubyte' + ('.gz' if compress else '')
                (self.idx / name).write_bytes(gzip.compress(data) if compress else data)
                self.fails(self.idx, name, part, 'good copy')
                (self.idx / name).unlink()
        (self.idx / name).write_bytes(gzip.compress(good)[:-6])
        self.fails(self.idx, name, 'ended before')

    def test_missing_file_and_wrong_counts(self):
        write_idx(self.idx, [*self.arrays[:3], self.arrays[3][:-1]])
        self.fails(self.idx, 'test set has 5 images and labels of shape (4,)')
        (self.idx / 't10k-labels-idx1-ubyte').unlink()
        self.fails(self.idx, 'has no t10k-labels-idx1-ubyte')
        write_idx(self.idx, [self.arrays[0], self.arrays[1][:-3], *self.arrays[2:]])
        self.fails(self.idx, 'training set has 12 images and labels of shape (9,)')


class NpzTest(DataTest):
    def test_both_sets_of_keys(self):
        train_x, train_y, test_x, test_y = small_mnist()
        triple = triple_of(train_x, train_y, test_x, test_y)
        own, keras = self.folder / 'own.npz', self.folder / 'keras.npz'
        numpy.savez(own, train_x=train_x[:10], train_y=train_y[:10], valid_x=triple[1][0],
                    valid_y=train_y[10:], test_x=test_x, test_y=test_y)
        numpy.savez_compressed(keras, x_train=train_x, y_train=train_y, x_test=test_x,
                               y_test=test_y)
        for path in (own, str(keras)):
            self.equal(datasets.read(path), triple)
        self.assertEqual(datasets.read(own).sha256, datasets.read(keras).sha256)

    def test_broken(self):
        path = self.folder / 'a.npz'
        numpy.savez(path, **{'x\n': numpy.zeros(3)})
        self.fails(path, "a.npz: holds the arrays ['x\\n']: name them train_x")
        for array, part in ((numpy.array([{}], dtype=object), 'Object arrays cannot be loaded'),
                            (numpy.zeros((3, 4), dtype=complex), 'images of type complex128')):
            numpy.savez(path, **dict.fromkeys(datasets.KERAS_KEYS, array))
            self.fails(path, 'a.npz', part)
        numpy.savez(path, **dict(zip(datasets.KERAS_KEYS, small_mnist(), strict=True)))
        good = path.read_bytes()
        for data in (b'', good[:-30], good[:200], good[:500] + b'xxxx' + good[504:]):
            path.write_bytes(data)
            self.fails(path, 'a.npz', 'cannot be read')
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr('x_train.npy', b'\0' * 10**6)
        with mock.patch.object(datasets, 'LARGEST', 10**5):
            self.fails(path, 'takes more than 100000 bytes')


class DigitsTest(DataTest):
    def test_the_same_seed_gives_the_same_bytes(self):
        def fingerprint(seed):
            sets = digits.make_digits(seed, sizes=(60, 20, 10))
            return [(x.shape, hashlib.sha256(x).hexdigest(), y.tolist()) for x, y in sets]
        self.assertEqual(fingerprint(1), fingerprint(1))
        self.assertNotEqual(fingerprint(1), fingerprint(2))

    def test_images_look_like_mnist_in_the_mean(self):
        (x, y), _, _ = digits.make_digits(sizes=(500, 10, 10))
        self.assertEqual((x.dtype, x.shape, y.dtype), (numpy.uint8, (500, 28, 28), numpy.uint8))
        self.assertEqual(numpy.bincount(y).tolist(), [50] * 10)
        self.assertTrue((numpy.diff(y.astype(int)) < 0).any())
        ink = x > 64
        side = numpy.maximum(ink.any(axis=2).sum(axis=1), ink.any(axis=1).sum(axis=1))
        self.assertTrue(((side >= 15) & (side <= 25)).all(), (side.min(), side.max()))
        for axis in (1, 2):
            profile = x.sum(axis=axis, dtype=float)
            centre = (profile @ (numpy.arange(28) - 13.5)) / profile.sum(axis=1)
            self.assertLess(numpy.abs(centre).max(), 2)
        self.assertTrue(0.08 < x.mean() / 256 < 0.2, x.mean() / 256)
        # Nearest class mean: far better than the 10 % of images without a digit in them.
        x = x.reshape(500, -1) / 255
        means = numpy.stack([x[y == digit].mean(axis=0) for digit in range(10)])
        nearest = ((x[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
        self.assertGreater((nearest == y).mean(), 0.7)

    def test_cache(self):
        first = datasets.read('digits')
        self.assertEqual((first.name, first.train[0].shape, first.n_classes),
                         ('digits', (20, 784), 10))
        cache, = self.data.iterdir()
        good = cache.read_bytes()
        self.assertEqual(datasets.read('digits').sha256, first.sha256)
        self.assertEqual(self.make_digits.call_count, 1)
        for n, broken in enumerate((b'', b'broken', good[:-100], good[:300]), start=2):
            cache.write_bytes(broken)
            self.assertEqual(datasets.read('digits').sha256, first.sha256)
            self.assertEqual((self.make_digits.call_count, len(cache.read_bytes())), (n, len(good)))
        below_a_file = self.write('file', b'') / 'data'
        with mock.patch.object(datasets, 'DATA_FOLDER', below_a_file):  # not writable
            self.assertEqual(datasets.read('digits').sha256, first.sha256)
        with mock.patch.object(datasets, 'VERSION', digits.VERSION + 1):
            self.assertEqual(datasets.read('digits').sha256, first.sha256)
        self.assertEqual(self.make_digits.call_count, 7)

    def test_missing_font(self):
        with mock.patch.object(digits, 'MATPLOTLIB_FONTS', ('no such font.ttf',)), \
                self.assertRaisesRegex(UserError, 'font of matplotlib or Pillow is missing'):
            digits.make_digits(sizes=(10, 10, 10))


class SearchTest(DataTest):
    def named(self, folder, n_test, name='own.pkl'):
        (folder / name).write_bytes(pickle.dumps(triple_of(*small_mnist(n_test=n_test))))

    def count(self, dataset):
        return len(datasets.read(dataset).test[1])

    def test_order(self):
        for n_test, folder in enumerate((self.data, self.elsewhere, self.work), start=3):
            self.named(folder, n_test)
            self.assertEqual(self.count('own.pkl'), n_test)

    def test_a_path_is_used_as_it_is(self):
        self.named(self.data, 3)
        for path in (os.path.join('..', 'data', 'own.pkl'), self.data / 'own.pkl'):
            self.assertEqual(self.count(path), 3)
        self.fails(os.path.join('.', 'own.pkl'), 'own.pkl', 'correct the path')
        with mock.patch.dict(os.environ, HOME=str(self.data), USERPROFILE=str(self.data)):
            self.assertEqual(self.count(os.path.join('~', 'own.pkl')), 3)

    def test_not_found(self):
        self.fails('own.pkl', "'own.pkl'", str(self.work), str(self.elsewhere), str(self.data),
                   'DLT_DATA_DIR')
        self.fails('', "''")
        del os.environ['DLT_DATA_DIR']
        self.assertEqual(datasets.search_folders(), [self.work, self.data])
        (self.work / 'own.csv').write_bytes(b'')
        self.fails('own.csv', 'own.csv', 'unknown kind', '.npz .pkl')
        (self.work / 'own.npz').mkdir()
        self.fails('own.npz', 'has no train-images')

    def test_mnist_file_before_folder(self):
        write_idx(self.work / 'mnist', small_mnist(n_test=6))
        self.assertEqual({self.count(name) for name in (None, 'mnist', 'mnist.pkl.gz')}, {6})
        self.named(self.data, 3, 'mnist.pkl.gz')
        self.assertEqual({self.count(name) for name in (None, 'mnist', 'mnist.pkl.gz')}, {3})
        self.assertEqual(datasets.read().name, 'mnist.pkl.gz')

    def test_broken_mnist_is_an_error(self):
        path = self.elsewhere / 'mnist.pkl.gz'
        path.write_bytes(b'broken')
        self.fails(None, str(path), 'cannot be read')
        path.unlink()
        write_idx(self.elsewhere / 'mnist', small_mnist())
        (self.elsewhere / 'mnist' / 'train-labels-idx1-ubyte').unlink()
        self.fails(None, str(self.elsewhere / 'mnist'), 'has no train-labels')


class RealMnistTest(TestCase):
    @unittest.skipUnless(mnist_is_here(), 'MNIST is not in $DLT_DATA_DIR')
    def test_both_forms_are_equal(self):
        hashes = set()
        for path in (Path(os.environ['DLT_DATA_DIR'], name) for name in ('mnist.pkl.gz', 'mnist')):
            if path.exists():
                data = datasets.read(path)
                hashes.add(data.sha256)
        self.assertEqual([x.shape for x, y in (data.train, data.valid, data.test)],
                         [(50000, 784), (10000, 784), (10000, 784)])
        self.assertEqual((data.train[1][:5].tolist(), data.test[1][:3].tolist()),
                         ([5, 0, 4, 1, 9], [7, 2, 1]))
        self.assertEqual((data.image_shape, data.n_classes), ((28, 28), 10))
        self.assertEqual(data.train[0].max(), numpy.float32(255 / 256))
        self.assertEqual(len(hashes), 1)


class TunesTest(DataTest):
    def setUp(self):
        super().setUp()
        small = tunes.make_tunes(sizes=(3, 2, 2))
        self.enterContext(mock.patch.object(tunes, 'make_tunes', return_value=small))

    def find(self, dataset=None):
        """The names of the files of each set, that of the collection, and what stderr says."""
        files, stderr = self.read(dataset, datasets.find_tunes)
        names = [[midiread(file).name for file in split]
                 for split in (files.train, files.valid, files.test)]
        return names, files.name, stderr

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

    def test_folders_and_archives(self):
        names = ('Nottingham/train/b.mid', 'Nottingham/train/a.MID', 'Nottingham/train/.c.mid',
                 'Nottingham/valid/d.midi', 'Nottingham/test/e.mid', 'Nottingham/readme.txt',
                 '__MACOSX/Nottingham/train/._b.mid', 'Nottingham/other.mid')
        folder = self.folder_of(self.folder / 'set', names)
        for path in (folder, self.zip_of(self.folder / 'set.zip', names)):
            self.assertEqual(self.find(path),
                             ([['a.MID', 'b.mid'], ['d.midi'], ['e.mid']], path.name, ''))
        self.assertEqual(self.find(folder / 'Nottingham' / 'train')[0],
                         [['a.MID', 'b.mid'], [], []])

    def test_search(self):
        self.zip_of(self.data / 'Nottingham.zip', ['train/a.mid'])
        self.assertEqual(self.find()[1], 'Nottingham.zip')
        self.folder_of(self.elsewhere / 'Nottingham', ['train/b.mid'])
        for dataset in (None, 'Nottingham', 'Nottingham.zip'):
            self.assertEqual(self.find(dataset), ([['b.mid'], [], []], 'Nottingham', ''))
        self.folder_of(self.work / 'own', ['x.mid'])
        self.assertEqual(self.find('own')[0], [['x.mid'], [], []])

    def test_own_tunes(self):
        files = datasets.find_tunes('tunes')
        self.assertEqual([len(files.train), len(files.valid), len(files.test)], [3, 2, 2])
        for path, roll in zip(files.train, tunes.make_tunes()[0], strict=True):
            numpy.testing.assert_array_equal(midiread(path, tunes.R, tunes.DT).piano_roll, roll)
        names, name, stderr = self.find()  # for want of Nottingham
        self.assertEqual((name, stderr.count('\n')), ('tunes', 1))
        for part in ('NOTICE', 'tunes', 'DLT_DATA_DIR'):
            self.assertIn(part, stderr)

    def test_the_same_seed_gives_the_same_notes(self):
        first, again, other = (numpy.concatenate([tunes.tune(numpy.random.RandomState(seed))
                                                  for seed in seeds])
                               for seeds in ((1, 2), (1, 2), (3, 4)))
        numpy.testing.assert_array_equal(first, again)
        self.assertFalse(numpy.array_equal(first, other))
        self.assertEqual(set(numpy.unique(first)), {0, 1})

    def test_what_is_no_collection(self):
        (self.work / 'empty').mkdir()
        for path in ('empty', self.zip_of(self.work / 'none.zip', ['a.txt', 'test/b.mid']),
                     self.write('broken.zip', b'PK no zip'), self.write('notes.mid', b'MThd'),
                     'Nottingham', 'Nottingham.zip', 'nowhere', './nowhere.zip'):
            self.fails(path, Path(path).stem, read=datasets.find_tunes)
        with mock.patch.object(datasets, 'LARGEST', 9):
            self.fails('none.zip', 'more than 9 bytes', read=datasets.find_tunes)

    def test_hostile_names_write_nothing(self):
        names = ['../../up.mid', '/root.mid', 'train/../../x.mid', 'C:\\y.mid', 'a\nb.mid',
                 'twice.mid', 'twice.mid', '/' * 3000 + 'z.mid', '.mid']
        self.find(self.zip_of(self.work / 'hostile.zip', names))
        self.assertEqual(sorted(os.listdir(self.folder)), ['data', 'elsewhere', 'work'])
        self.assertEqual(os.listdir(self.work), ['hostile.zip'])


if __name__ == '__main__':
    unittest.main()
