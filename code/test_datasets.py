"""Tests of how data sets are found, read and checked, and of the digits: none needs the network."""

import contextlib
import gzip
import io
import os
import pickle
import struct
import sys
import unittest
import warnings
import zipfile
from pathlib import Path
from unittest import mock

from support import datasets, digits, files, pictures, tunes
from support.errors import UserError
from support.midi import midiread, midiwrite
from support.testing import TestCase, mnist_is_here

import numpy

KERAS_KEYS = ('x_train', 'y_train', 'x_test', 'y_test')
MNIST_SHA256 = '0d674e62e80a62a4c3e19077c3c7a4a2b5690e100cc1e128494f2e15cbb3f907'


def small_mnist(n_train=12, n_test=5, seed=0):
    """Images (n, 28, 28) and labels of a training and a test set, as in the IDX files."""
    rng = numpy.random.RandomState(seed)
    sets = []
    for n in (n_train, n_test):
        sets += [rng.randint(256, size=(n, 28, 28)).astype(numpy.uint8),
                 (numpy.arange(n) % 10).astype(numpy.uint8)]
    return sets


def triple_of(train_x, train_y, test_x, test_y):
    """The same as the three pairs of the pickle: float32 rows in [0, 1), int64 labels."""
    return tuple((x.reshape(len(x), -1).astype(numpy.float32) / numpy.float32(256),
                  y.astype(numpy.int64))
                 for x, y in ((train_x[:-2], train_y[:-2]), (train_x[-2:], train_y[-2:]),
                              (test_x, test_y)))


def idx_bytes(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f'>{array.ndim}I', *array.shape)
    return header + array.tobytes()


def write_idx(folder, arrays, compress=False, dot='-'):
    folder.mkdir(parents=True, exist_ok=True)
    for (part, ndim), array in zip(datasets.IDX_FILES, arrays, strict=True):
        # mtime=0: the same bytes, and so the same checksum, at any time.
        data = gzip.compress(idx_bytes(array), mtime=0) if compress else idx_bytes(array)
        (folder / f'{part}{dot}idx{ndim}-ubyte{".gz" * compress}').write_bytes(data)
    return folder


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
        self.enterContext(mock.patch.object(pictures, 'MNIST_SPLIT', (10, 2)))  # of small_mnist()
        small = digits.make_digits(sizes=(20, 10, 10))
        self.make_digits = self.enterContext(
            mock.patch.object(datasets, 'make_digits', return_value=small))
        self.arrays = small_mnist()
        self.triple = triple_of(*self.arrays)

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
        for part in parts:
            self.assertIn(part, str(caught.exception))
        self.assertNotIn('\n', str(caught.exception))

    def equal(self, data, triple):
        """`data` holds exactly the arrays of `triple`, in the form that is promised."""
        for (x, y), (want_x, want_y) in zip((data.train, data.valid, data.test), triple,
                                            strict=True):
            self.assertEqual((x.dtype, y.dtype), (numpy.float32, numpy.int32))
            self.assertTrue(x.flags.c_contiguous and x.flags.writeable)
            numpy.testing.assert_array_equal(x, want_x)
            numpy.testing.assert_array_equal(y, want_y)


class FormatsTest(DataTest):
    def test_all_give_the_same(self):
        paths = [self.write(f'protocol {i}.pkl', pickle.dumps(self.triple, i)) for i in range(6)]
        paths += [self.write('packed.pkl.gz', gzip.compress(pickle.dumps(self.triple))),
                  self.write('lists.PKL', pickle.dumps([list(pair) for pair in self.triple])),
                  write_idx(self.folder / 'raw', self.arrays),
                  write_idx(self.folder / 'dots', self.arrays, dot='.'),
                  write_idx(self.folder / 'packed', self.arrays, compress=True),
                  self.folder / 'own.npz', self.folder / 'keras.npz']
        own = [array for pair in self.triple for array in pair]
        numpy.savez(paths[-2], **dict(zip(datasets.NPZ_KEYS, own, strict=True)))
        keras = dict(zip(KERAS_KEYS, self.arrays, strict=True))
        numpy.savez_compressed(paths[-1], **keras)
        hashes = set()
        for path in paths:
            data = datasets.read(path)
            self.equal(data, self.triple)
            self.assertEqual((data.name, data.image_shape, data.n_in, data.n_classes),
                             (path.name, (28, 28), 784, 10))
            hashes.add(data.sha256)
        self.assertEqual(len(hashes), 1)
        self.triple[2][1][-1] = 9
        self.assertNotIn(datasets.read(self.write_pickle(self.triple)).sha256, hashes)

    def test_the_split_for_validation(self):
        x, y = numpy.zeros((60000, 1, 1), numpy.uint8), numpy.arange(60000).astype(numpy.uint8)
        many = write_idx(self.folder / 'many', [x, y, x[:7], y[:7]])
        with mock.patch.object(pictures, 'MNIST_SPLIT', (50000, 10000)):
            data, notices = self.read(many)
        self.assertEqual(([len(y) for x, y in (data.train, data.valid, data.test)], notices),
                         ([50000, 10000, 7], ''))
        numpy.testing.assert_array_equal(data.valid[1], y[50000:])
        few = write_idx(self.folder / 'few', [x[:5], y[:5], x[:7], y[:7]])
        self.fails(few, 'has 5 images to train on, too few to split off a validation set')

    def test_sets_that_are_missing_are_split_off(self):
        """Each image, known by its pixels, is in one set, and each class in all."""
        y = numpy.repeat([0, 1, 2], [25, 18, 6])  # sorted by class
        x = numpy.arange(1, 50).reshape(49, 1, 1) * numpy.ones((1, 2, 3), int)
        path = self.folder / 'a.npz'
        for keys, missing in (((), 'validation and no test'), (('test',), 'validation'),
                              (('valid',), 'test')):
            numpy.savez(path, train_x=x, train_y=y, **{
                f'{key}_{part}': array for key in keys for part, array in (('x', x), ('y', y))})
            data, notices = self.read(path)
            self.assertEqual(notices, self.read(path)[1])
            self.assertIn(f'has no {missing} set: 8 of its 49 training images', notices)
            sets = [pair for pair in (data.train, data.valid, data.test) if len(pair[1]) < 49]
            self.assertEqual(len(sets), 3 - len(keys))
            for images, labels in sets:
                numbers = numpy.rint(images[:, 0] * 256).astype(int)
                numpy.testing.assert_array_equal(y[numbers - 1], labels)
                counts = numpy.bincount(labels, minlength=3) / numpy.array([25, 18, 6])
                self.assertLess(abs(counts - len(labels) / 49).max(), 1 / 6)
                self.assertTrue((numpy.diff(labels) < 0).any())
            pixels = numpy.concatenate([images[:, 0] for images, labels in sets])
            self.assertEqual(sorted(numpy.rint(pixels * 256)), list(range(1, 50)))
            self.assertEqual(data.sha256, self.read(path)[0].sha256)

    def test_damaged(self):
        idx = write_idx(self.folder / 'idx', self.arrays) / 'train-images-idx3-ubyte'
        packed_idx = write_idx(self.folder / 'gz', self.arrays, True) / 'train-labels-idx1-ubyte.gz'
        npz = self.folder / 'a.npz'
        numpy.savez(npz, **dict(zip(KERAS_KEYS, self.arrays, strict=True)))
        # Stored without compression, so that only the checksum can tell.
        stored = self.write('a.pkl.gz', gzip.compress(pickle.dumps(self.triple), compresslevel=0))
        for path in (idx, packed_idx, npz, stored, self.write_pickle(self.triple)):
            good = path.read_bytes()
            damaged = [b'', good[:-1], good[:len(good) // 2], b'<html>not found</html>']
            if path in (npz, stored):
                damaged.append(good[:500] + bytes([good[500] ^ 1]) + good[501:])
            for content in damaged:
                with self.subTest(path=path.name, size=len(content)):
                    path.write_bytes(content)
                    dataset = path.parent if 'idx' in path.name else path
                    self.fails(dataset, f'{path}: cannot be read (', 'replace it')
        for content, part in ((b'\0\0\x0d\3', '00000d03'), (idx_bytes(self.arrays[1]), '00000801'),
                              (bytes([0, 0, 8, 3]) + b'\xff' * 12, ''),
                              (idx_bytes(self.arrays[0]) + b'x', '(12,28,28)')):
            idx.write_bytes(content)
            self.fails(idx.parent, idx.name, part)
        idx.unlink()
        self.fails(idx.parent, 'has no train-images-idx3-ubyte')

    def test_npz_with_other_arrays(self):
        path = self.folder / 'a.npz'
        for key, array, part in (('x', numpy.zeros(3), 'train_x is not a file in the archive'),
                                 ('x_train', numpy.array([{}]), 'Object arrays cannot be loaded'),
                                 ('x_train', numpy.zeros((), int), 'shape ()'),
                                 ('x_train', numpy.zeros((9, 4), complex), 'type complex128')):
            numpy.savez(path, **{key: array, 'y_train': array, 'x_test': array, 'y_test': array})
            self.fails(path, 'a.npz', part)

    def test_npz_in_which_something_is_no_array(self):
        path = self.folder / 'a.npz'
        with zipfile.ZipFile(path, 'w') as archive:
            for key in datasets.NPZ_KEYS:
                archive.writestr(f'{key}.npy', b'MZ')
        self.fails(path, 'images of type |S2')

    def test_csv(self):
        x, y = self.arrays[0].reshape(12, -1)[:, :6], self.arrays[1]
        rows = '\n'.join(','.join(map(str, [label, *row])) for label, row in zip(y, x, strict=True))
        head = 'label,' + ','.join(f'pixel{i}' for i in range(6)) + '\n'
        split = self.folder / 'same.npz'
        numpy.savez(split, train_x=x, train_y=y)
        expected, _ = self.read(split)
        for text in (head + rows, '\ufeff"label"' + head[5:] + rows + '\n\n'):
            path = self.write('train.csv', text.encode())
            data, notices = self.read(path)
            self.assertEqual((data.sha256, data.image_shape), (expected.sha256, (1, 6)))
            self.assertIn('train.csv: has no validation and no test set: 2 of its 12', notices)
        for text, part in ((rows, "first column is '0': give a table with labels"),
                           (head[6:] + rows, "first column is 'pixel0'"), ('', "''"),
                           (head, 'no data'), (head + '0,1,2\n', 'cannot be read'),
                           ('label\n1\n2', ''), (head + '0,1,2,3,4,5,256', '256'),
                           (head + '0,1,2,3,4,5,-1', '-1'), (head + '0,1,2,3,4,5,0.5', '0.5'),
                           (head + 'cat,1,2,3,4,5,6', 'cat')):
            self.fails(self.write('train.csv', text.encode()), 'train.csv: ', part)
        self.fails(self.write('train.csv', bytes(range(256))), 'train.csv: cannot be read')

    def test_sizes(self):
        absurd = pickle.dumps(((numpy.zeros((2, 4)), [1, 2]),) * 3, 2).replace(
            b'K\x02K\x04\x86', b'J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86')
        self.fails(self.write('a.pkl', absurd), 'cannot reshape')
        numpy.savez_compressed(self.folder / 'bomb.npz', x_train=numpy.zeros(10**7))
        bomb = self.write('a.pkl.gz', gzip.compress(pickle.dumps(numpy.zeros(10**7), 5)))
        x, y = numpy.zeros((3000, 100), numpy.uint8), numpy.zeros(3000, int)
        large = self.write_pickle(((x, y),) * 3, 5)  # larger when it is float32
        with mock.patch.object(files, 'LARGEST', 10**6):
            for path in (bomb, self.folder / 'bomb.npz', large):
                self.fails(path, 'more than 1000000 bytes')


class Calls:
    """Pickled as a call of a function, with a state: what a hostile file asks for."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


class PickleTest(DataTest):
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
        for call, wanted in ((Calls(os.mkdir, (str(mark),)), f'{os.name}.mkdir'),
                             (Calls(os.system, (f'mkdir {mark}',)), '.system'),
                             (Calls(eval, (f'open({str(mark)!r}, "w")',)), 'builtin'),
                             (Calls(getattr, ('numpy', 'load')), 'getattr'),
                             (Calls(numpy.fromfile, (str(mark),)), 'fromfile')):
            for protocol in (0, 2, 5):
                path = self.write_pickle((call, *self.triple[1:]), protocol)
                self.fails(path, str(path), 'asks for', wanted, 'run a program')
        for raw, wanted in ((b'\x80\x02\x8c\x05numpy\x8c\x0fndarray.__new__\x93.', 'array.__new__'),
                            (b'(U\x01xios\nsystem\n.', 'os.system')):
            self.fails(self.write('a.pkl', raw), wanted, 'run a program')
        self.assertFalse(mark.exists())

    def test_no_bytes_become_objects(self):
        """NumPy itself would take these bytes for the address of an object, and crash."""
        fields = Calls(numpy.dtype, ('V8', False, True),
                       (3, '|', None, ('a',), {'a': (numpy.dtype('O'), 0)}, 8, 1, 0))
        empty = numpy.empty(0).__reduce__()
        for hostile in (Calls(numpy.ndarray, ((1,), 'O', b'AAAAAAAA')),
                        Calls(*empty[:2], (1, (1,), fields, False, b'AAAAAAAA')),
                        Calls(*empty[:2], (1, (1,), numpy.dtype('O'), False, b'AAAAAAAA'))):
            self.fails(self.write_pickle(((hostile, [1]),) * 3, 3), 'array')
        # A state for what would be called, and is called again in whatever is read later.
        self.fails(self.write('a.pkl', b'cnumpy\ndtype\nN}U\x04nameU\x01xs\x86b.'), 'a.pkl')
        self.equal(datasets.read(self.write_pickle(self.triple)), self.triple)

    def test_what_is_no_triple_of_arrays_of_numbers(self):
        for dtype in (object, [('a', 'i4')], 'U3', complex):
            x = numpy.zeros((2, 4), dtype=dtype)
            self.fails(self.write_pickle(((x, x[:, 0]),) * 3), 'array')
        for content in (3, {}, self.triple[:2], ((1, 2), (3, 4), 5), None):
            self.fails(self.write_pickle(content), 'triple')
        for part, reason in (('x', 'holds a str in place of an array'), ([.5], 'holds a list'),
                             (3, 'and shape ()'), (numpy.dtype('f4'), 'images of type')):
            self.fails(self.write_pickle(((part, [1]),) * 3), reason)

    def test_little_files_that_ask_for_much(self):
        many = datasets.MOST_OPCODES + 1
        for raw, reason in ((b'(' + b''.join(b'I%d\n0' % n for n in range(9)) + b'd.',
                             'a dictionary'),
                            (b']r' + struct.pack('<I', 2**31) + b'.', 'more than 1000000 parts'),
                            (b'(' + b'}' * many + b'l.', 'more than 1000000 parts')):
            self.fails(self.write('a.pkl.gz', gzip.compress(raw)), reason)
        for nested in ([[[1]] * 9] * 9, [self.triple[0][0]] * 9):
            self.fails(self.write_pickle(((nested, [1]),) * 3), 'holds a list in place of an array')

    def test_random_damage_is_one_line(self):
        raw = pickle.dumps(triple_of(*small_mnist(4, 1)), 2)
        rng = numpy.random.RandomState(0)
        for _ in range(200):
            damaged = bytearray(raw)
            for position in rng.randint(400, size=3):
                damaged[position] = rng.randint(256)
            with contextlib.suppress(UserError):
                datasets.read(self.write('a.pkl', bytes(damaged)))


class ContentTest(DataTest):
    def test_what_is_wrong(self):
        x, y = self.triple[2]
        for images, labels, part in (
                (numpy.where(x == x[1, 3], numpy.nan, x), y, 'from nan to nan'),
                (x - 0.25, y, 'from -0.25'), (x + numpy.inf, y, 'to inf, not within 0 to 1'),
                (numpy.full((5, 784), 256), y, '256, not within 0 to 255'),
                (x[:0], numpy.zeros(0, int), 'shape (0, 784)'), (x[:, :0], y, 'shape (5, 0)'),
                (x[:, 0], y, 'shape (5,)'), (x, y - 1, 'labels from -1 to 3'),
                (x, y.astype(float), 'type float64'), (x, x.astype(int), 'shape (5, 784)'),
                (x, y[:-1], '5 images, and labels of type int64 and shape (4,)'),
                (x, y + 70000, 'to 70004, not within 0 to 65535')):
            for which, name in enumerate(('training', 'validation', 'test')):
                pairs = list(self.triple)
                pairs[which] = (images, labels)
                self.fails(self.write_pickle(pairs, 3), f'set.pkl: the {name} set has ', part)

    def test_accepted_forms(self):
        x, y = self.triple[0]
        integers = numpy.round(x * 256).astype(numpy.uint8)
        for form in (x.astype(numpy.float64), integers, integers.astype(numpy.int64),
                     integers.reshape(-1, 28, 28)):
            data = datasets.read(self.write_pickle([(form, y[:, None]), *self.triple[1:]]))
            self.equal(data, self.triple)
        for black_and_white in (x > 0.5, (x > 0.5).astype('uint8')):
            data = datasets.read(self.write_pickle([(black_and_white, y), *self.triple[1:]]))
            self.assertEqual(set(data.train[0].ravel()), {0., 1.})
        # In one set there may be none but dark pixels: its 1 is the grey level of the others.
        grey, dark = (numpy.full((len(y), 784), level, 'uint8') for level in (128, 1))
        data = datasets.read(self.write_pickle([(grey, y), (dark, y), (dark, y)]))
        self.assertEqual([pair[0].max() for pair in (data.train, data.valid, data.test)],
                         [1 / 2, 1 / 256, 1 / 256])

    def test_shapes_and_classes(self):
        x, y = numpy.zeros((4, 2, 8)), numpy.array([0, 1, 1, 3])
        for shape, image_shape in (((6,), (1, 6)), ((9,), (3, 3)), ((2, 5), (2, 5))):
            pairs = [(numpy.zeros((4, *shape)), y + more) for more in (2, 0, 13)]
            data = datasets.read(self.write_pickle(pairs))
            self.assertEqual((data.image_shape, data.n_in, data.n_classes),
                             (image_shape, numpy.prod(shape), 17))
        for other in (x.reshape(4, 4, 4), x[:, :1], x[:, 0]):
            for pairs in ([(other, y), (x, y), (x, y)], [(x, y), (x, y), (other, y)]):
                self.fails(self.write_pickle(pairs), '(2, 8)', str(other.shape[1:]), 'make them')


class DigitsTest(DataTest):
    def test_the_same_seed_gives_the_same_bytes(self):
        first, again, other = ([array.tobytes() for pair in digits.make_digits(seed, (60, 20, 10))
                                for array in pair] for seed in (1, 1, 2))
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)

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
        # Nearest class mean: far better than the 10 % of images without a digit in them.
        x = x.reshape(500, -1) / 255
        means = numpy.stack([x[y == digit].mean(axis=0) for digit in range(10)])
        nearest = ((x[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
        self.assertGreater((nearest == y).mean(), 0.7)

    def test_cache(self):
        first = datasets.read('digits')
        self.assertEqual((first.name, first.train[0].shape), ('digits', (20, 784)))
        cache, = self.data.iterdir()
        good = cache.read_bytes()
        below_a_file = self.write('file', b'') / 'data'  # not writable
        for n_made, content in enumerate((good, b'', good[:-100], good[:300]), start=1):
            cache.write_bytes(content)
            self.assertEqual(datasets.read('digits').sha256, first.sha256)
            self.assertEqual((self.make_digits.call_count, len(cache.read_bytes())),
                             (n_made, len(good)))
        for change in ({'VERSION': digits.VERSION + 1}, {'DATA_FOLDER': below_a_file}):
            with mock.patch.multiple(datasets, **change):
                self.assertEqual(datasets.read('digits').sha256, first.sha256)
        self.assertEqual(self.make_digits.call_count, 6)

    def test_missing_font(self):
        with mock.patch.object(digits, 'MATPLOTLIB_FONTS', ('no such font.ttf',)), \
                self.assertRaisesRegex(UserError, 'font of matplotlib or Pillow is missing'):
            digits.make_digits(sizes=(10, 10, 10))


class SearchTest(DataTest):
    def named(self, folder, n_test, name='own.pkl'):
        (folder / name).write_bytes(pickle.dumps(triple_of(*small_mnist(n_test=n_test))))

    def count(self, dataset):
        return len(datasets.read(dataset).test[1])

    def test_names_and_paths(self):
        for n_test, folder in enumerate((self.data, self.elsewhere, self.work), start=3):
            self.named(folder, n_test)
            self.assertEqual(self.count('own.pkl'), n_test)
        for path in (os.path.join('..', 'data', 'own.pkl'), self.data / 'own.pkl'):
            self.assertEqual(self.count(path), 3)
        with mock.patch.dict(os.environ, HOME=str(self.data), USERPROFILE=str(self.data)):
            self.assertEqual(self.count(os.path.join('~', 'own.pkl')), 3)

    def test_not_found(self):
        self.named(self.data, 3)
        for dataset in ('other.pkl', os.path.join('.', 'own.pkl'), ''):
            self.fails(dataset, repr(dataset), str(self.work), str(self.elsewhere), str(self.data),
                       'DLT_DATA_DIR')
        for dataset, near in (('mnits', 'mnist'), ('owm.pkl', 'own.pkl'), ('digit', 'digits'),
                              (f'{self.data}/own.plk', f'{self.data}/own.pkl')):
            self.fails(dataset, f'there is no {dataset!r}, but there is {near!r}: ', 'mnist.pkl.gz')
        self.fails('nothing like it', "there is no 'nothing like it': give")
        self.fails('tune', "but there is 'tunes': ", 'Nottingham', read=datasets.find_tunes)
        del os.environ['DLT_DATA_DIR']
        self.assertEqual(datasets.search_folders(), [self.work, self.data])
        self.write('own.doc', b'')
        self.fails('../own.doc', 'own.doc', 'unknown kind', '.npz .pkl', 'a folder of images')

    def test_mnist(self):
        (self.work / 'mnist').mkdir()  # holds something else
        folder = write_idx(self.elsewhere / 'mnist', small_mnist(n_test=6))
        self.assertEqual({self.count(name) for name in (None, 'mnist', 'mnist.pkl.gz')}, {6})
        self.named(self.data, 3, 'mnist.pkl.gz')
        self.assertEqual({self.count(name) for name in (None, 'mnist', 'mnist.pkl.gz')}, {3})
        path = self.data / 'mnist.pkl.gz'
        path.write_bytes(b'broken')
        self.fails(None, str(path), 'cannot be read')
        path.unlink()
        (folder / 'train-labels-idx1-ubyte').unlink()
        self.fails(None, str(folder), 'has no train-labels')


@unittest.skipUnless(mnist_is_here(), 'MNIST is not in $DLT_DATA_DIR')
class RealMnistTest(TestCase):
    def test_both_forms_are_equal(self):
        for path in (Path(os.environ['DLT_DATA_DIR'], name) for name in ('mnist.pkl.gz', 'mnist')):
            if path.exists():
                self.assertEqual(datasets.read(path).sha256, MNIST_SHA256)


class TunesTest(DataTest):
    def setUp(self):
        super().setUp()
        self.small = tunes.make_tunes(sizes=(3, 2, 2))
        self.enterContext(mock.patch.object(tunes, 'make_tunes', return_value=self.small))

    def find(self, dataset=None):
        """The names of the files of each set, that of the collection, and what stderr says."""
        files, stderr = self.read(dataset, datasets.find_tunes)
        names = [[Path(midiread(file).name).name for file in split]
                 for split in (files.train, files.valid, files.test)]
        return names, files.name, stderr

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
        path = self.zip_of(self.data / 'Nottingham.zip', names)
        found = [['a.MID', 'b.mid'], ['d.midi'], ['e.mid']]
        for dataset in (None, path, 'Nottingham', 'Nottingham.zip'):
            self.assertEqual(self.find(dataset), (found, 'Nottingham.zip', ''))
        with zipfile.ZipFile(path) as archive:
            archive.extractall(self.elsewhere)
        for dataset in (None, self.elsewhere / 'Nottingham', 'Nottingham', 'Nottingham.zip'):
            self.assertEqual(self.find(dataset), (found, 'Nottingham', ''))
        self.assertEqual(self.find(self.elsewhere / 'Nottingham' / 'train')[0],
                         [['a.MID', 'b.mid'], [], []])

    def test_own_tunes(self):
        with mock.patch.dict(sys.modules, {'music21': None}), \
                mock.patch('support.datasets.find', lambda name: None), \
                self.assertRaisesRegex(UserError, 'the chorales come with music21: pip install'):
            datasets.find_tunes('chorales')
        files = datasets.find_tunes('tunes')
        for paths, rolls in zip((files.train, files.valid, files.test), self.small, strict=True):
            for path, roll in zip(paths, rolls, strict=True):
                read = midiread(path, tunes.R, tunes.DT).piano_roll
                numpy.testing.assert_array_equal(read, roll)
        names, name, stderr = self.find()  # for want of Nottingham
        self.assertEqual((name, stderr.count('\n')), ('tunes', 1))
        for part in ('NOTICE', 'tunes', 'DLT_DATA_DIR'):
            self.assertIn(part, stderr)
        first, again, other = (tunes.tune(numpy.random.RandomState(seed)) for seed in (1, 1, 3))
        numpy.testing.assert_array_equal(first, again)
        self.assertFalse(numpy.array_equal(first, other))

    def test_what_is_no_collection(self):
        (self.work / 'empty').mkdir()
        for path in ('empty', self.zip_of(self.work / 'none.zip', ['a.txt', 'test/b.mid']),
                     self.write('broken.zip', b'PK no zip'), self.write('notes.mid', b'MThd'),
                     'Nottingham', 'Nottingham.zip', 'nowhere', './nowhere.zip'):
            self.fails(path, Path(path).stem, read=datasets.find_tunes)
        with mock.patch.object(files, 'LARGEST', 9):
            self.fails('none.zip', 'more than 9 bytes', read=datasets.find_tunes)

    def test_hostile_names_write_nothing(self):
        names = ['../../up.mid', '/root.mid', 'train/../../x.mid', 'C:\\y.mid', 'a\nb.mid',
                 'twice.mid', 'twice.mid', '/' * 3000 + 'z.mid', '.mid']
        self.find(self.zip_of(self.work / 'hostile.zip', names))
        self.assertEqual(sorted(os.listdir(self.folder)), ['data', 'elsewhere', 'work'])
        self.assertEqual(os.listdir(self.work), ['hostile.zip'])
