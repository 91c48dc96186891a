"""Tests of the users' own pictures: folders of image files, colours, names of classes."""

import importlib.util
import io
import json
import unittest
from unittest import mock

from support import files, pictures
from support.errors import UserError
from support.folders import read_record, write_json
from support.testing import printed

import numpy
from PIL import Image

import logistic_sgd
import predict
from test_datasets import DataTest


def shape(kind, size=(6, 6), seed=0):
    """A bright square in one of the corners, with a little noise: which corner is the class."""
    rng = numpy.random.RandomState(seed)
    pixels = rng.randint(40, size=(6, 6)).astype('uint8')
    pixels[3 * (kind // 2):][:3, 3 * (kind % 2):][:, :3] += 200
    return Image.fromarray(pixels).resize(size)


class FolderTest(DataTest):
    def setUp(self):
        super().setUp()
        self.shapes = self.folder / 'shapes'

    def draw(self, *folders, n=12, ending='png', **settings):
        """A folder for each class: `shape 1`, `shape 2`, `shape 10`."""
        for kind, name in enumerate(('shape 1', 'shape 2', 'shape 10')):
            folder = self.shapes.joinpath(*folders, name)
            folder.mkdir(parents=True)
            for i in range(n):
                shape(kind, seed=100 * kind + i, **settings).save(folder / f'{i}.{ending}')

    def test_classes(self):
        self.draw()
        (self.shapes / 'shape 1' / 'notes.txt').write_text('none')
        (self.shapes / 'shape 1' / '._0.png').write_bytes(b'none')
        (self.shapes / 'empty').mkdir()
        (self.shapes / '.hidden').mkdir()
        data, notices = self.read(self.shapes)
        self.assertEqual((data.name, data.image_shape, data.n_classes, data.classes),
                         ('shapes', (6, 6), 3, ('shape 1', 'shape 2', 'shape 10')))
        self.assertEqual([len(y) for x, y in (data.train, data.valid, data.test)], [24, 6, 6])
        for part in ('36 images of 3 classes', 'grey levels', '6 x 6', 'shapes@28',
                     'no validation and no test set'):
            self.assertIn(part, notices)
        for x, y in (data.train, data.valid, data.test):
            self.assertEqual(set(y), {0, 1, 2})
            corners = x.reshape(-1, 2, 3, 2, 3).mean((2, 4)).reshape(-1, 4)
            numpy.testing.assert_array_equal(corners.argmax(1), y)
        self.assertEqual(self.read(self.shapes)[0].sha256, data.sha256)
        (self.shapes / 'test').mkdir()  # of images without classes
        shape(0).save(self.shapes / 'test' / 'a.png')
        self.assertEqual(self.read(self.shapes)[0].classes, (*data.classes, 'test'))

    def test_sets_and_kinds_of_files(self):
        self.draw('train')
        self.draw('Validation', n=3, ending='JPG')
        data, notices = self.read(self.shapes)
        self.assertEqual([len(y) for x, y in (data.train, data.valid, data.test)], [30, 9, 6])
        self.assertIn('has no test set: 6 of its 36', notices)
        self.draw('test', n=2, ending='gif', size=(12, 18))
        data, notices = self.read(self.shapes)
        self.assertEqual([len(y) for x, y in (data.train, data.valid, data.test)], [36, 9, 6])
        self.assertEqual((notices.count('NOTICE'), data.test[0].shape), (1, (6, 36)))
        self.assertTrue((numpy.diff(data.train[1]) < 0).any())

    def test_size(self):
        self.draw()
        for size, image_shape in (('4', (4, 4)), ('3x5', (3, 5))):
            data, notices = self.read(f'{self.shapes}@{size}')
            self.assertEqual((data.name, data.image_shape), ('shapes', image_shape))
        for size in ('', '0', 'x5', '5x', '12345', '-3', '3.5'):
            self.fails(f'{self.shapes}@{size}', f"shapes@{size}', but there is '{self.shapes}'")
        self.fails('digits@14', 'digits has images of one size')
        self.fails(f'{self.write("a.csv", b"label,a")}@14', 'a.csv: has images of one size')
        self.shapes.rename(self.folder / 'shapes@3')  # a name may look like that
        self.assertEqual(self.read(self.folder / 'shapes@3')[0].image_shape, (6, 6))
        self.assertEqual(self.read(self.folder / 'shapes@3@2')[0].image_shape, (2, 2))
        self.shapes = self.folder / 'shapes@3'
        with mock.patch.object(files, 'LARGEST', 36 * 36 * 4 - 1), \
                mock.patch('support.pictures.read_grey') as read_grey:
            self.fails(self.shapes, 'more than 5183 bytes', '@28 means')
        read_grey.assert_not_called()

    def test_mistakes(self):
        self.shapes.mkdir()
        shape(0).save(self.shapes / 'a.png')
        self.fails(self.shapes, 'a folder of images for each class, with IDX or Parquet files, or')
        (self.shapes / 'class').mkdir()
        self.fails(self.shapes, 'holds no images to train on', 'a folder of its own')
        self.draw(n=2)
        self.assertEqual(len(self.read(self.shapes)[0].train[1]), 4)
        broken = self.shapes / 'shape 2' / '1.png'
        broken.write_bytes(broken.read_bytes()[:60])
        self.fails(self.shapes, f'{broken} cannot be read as an image')

    def test_names_of_classes_are_kept_with_the_model(self):
        self.draw()
        output = str(self.work / 'out')
        with printed():
            self.read(read=lambda _: logistic_sgd.train(
                dataset=str(self.shapes), n_epochs=30, batch_size=6, output_folder=output))
        self.assertEqual(read_record(output)['data']['classes'],
                         ['shape 1', 'shape 2', 'shape 10'])
        path = self.work / 'new.png'
        shape(2, seed=7, size=(12, 12)).save(path)
        with printed() as text:
            self.assertEqual(predict.predict(output, (path,)).tolist(), [2])
            self.read(str(self.shapes), lambda dataset: predict.predict(output, dataset=dataset))
        self.assertIn('new.png: shape 10, with probability', text.getvalue())
        self.assertIn('of 6 test images are misclassified', text.getvalue())
        (self.shapes / 'shape 2').rename(self.shapes / 'square')
        with self.assertRaisesRegex(UserError, 'are shape 1, shape 10, square, those that the'):
            self.read(str(self.shapes), lambda dataset: predict.predict(output, dataset=dataset))
        record = read_record(output)
        for classes in (['one'], 3, 'abc'):
            record['data']['classes'] = classes
            write_json(self.work / 'out' / 'run.json', record)
            with self.assertRaisesRegex(UserError, 'names of the classes do not fit a model of 3'):
                predict.load_classifier(output)
        self.assertEqual([sorted(names, key=pictures.natural) for names in
                          (['2', '10', '02', '1'], ['b', '3a', 'a\u00b2', ''])],
                         [['1', '02', '2', '10'], ['', '3a', 'a\u00b2', 'b']])


class ArraysTest(DataTest):
    def npz(self, x, y, **more):
        path = self.folder / 'own.npz'
        numpy.savez(path, x_train=x, y_train=y, **more)
        return path

    def test_colours_become_the_grey_of_pillow(self):
        x = numpy.random.RandomState(0).randint(256, size=(9, 4, 5, 3)).astype('uint8')
        expected = numpy.array([numpy.asarray(Image.fromarray(image).convert('L')) for image in x])
        y = numpy.zeros(9, int)
        for form, scale in ((x, 256), (x.astype(int), 256), ((x / 255).astype('f'), 255)):
            data, notices = self.read(self.npz(form, y, x_val=form, y_val=y, x_test=form, y_test=y))
            self.assertEqual((notices.count('in colour'), notices.count('NOTICE')), (1, 1))
            self.assertEqual(data.image_shape, (4, 5))
            for images, _ in (data.train, data.valid, data.test):
                numpy.testing.assert_allclose(scale * images.reshape(9, 4, 5), expected, atol=1)
        self.fails(self.npz(x.transpose(0, 3, 1, 2), y), '(9, 3, 4, 5)', '(n, height, width, 3)')
        self.fails(self.npz(numpy.zeros((9, 4, 5, 3), complex), y), 'type complex128')

    def test_names_as_labels(self):
        x = numpy.arange(12).reshape(12, 1, 1)
        y = numpy.array(['b 10', 'b 9', 'a\u00e9'] * 4)
        for labels in (y, y[:, None], numpy.char.encode(y, 'utf-8')):
            path = self.npz(x, labels, x_test=x, y_test=labels)
            if labels.dtype.kind == 'S':  # of which the letters are not known
                self.fails(path, 'own.npz: cannot be read (')
                continue
            data, notices = self.read(path)
            self.assertEqual((data.classes, data.n_classes), (('a\u00e9', 'b 9', 'b 10'), 3))
            self.assertEqual(data.test[1].tolist(), [2, 1, 0] * 4)
            self.assertIn('as 0 to b 10 as 2', notices)
        self.fails(self.npz(x, y, x_test=x, y_test=numpy.arange(12)), 'labels of type <U4')
        self.fails(self.npz(x, y[:-1]), '12 images, and labels')

    def test_labels_from_1(self):
        x, y = numpy.arange(12).reshape(12, 1, 1), numpy.arange(12) % 3
        for least, n_classes in ((0, 4), (1, 3), (2, 4)):
            labels = (y + least).astype('uint8')
            data, notices = self.read(self.npz(x, labels, x_test=x, y_test=y + 1))
            shift = int(least > 0)
            self.assertEqual(data.n_classes, n_classes)
            self.assertEqual(data.test[1].tolist(), (y + 1 - shift).tolist())
            self.assertEqual('from 1 to' in notices, bool(shift))
            self.assertEqual(data.classes, tuple('1234'[:n_classes]) if shift else ())
        self.fails(self.npz(x, y + 10**9, x_test=x, y_test=y + 1), 'to 1000000002, not within')


class ParquetTest(DataTest):
    def test_without_pyarrow(self):
        path = self.write('a.parquet', b'')
        with mock.patch.dict('sys.modules', pyarrow=None):
            self.fails(path, 'pip install pyarrow; or give a folder with a folder of images')

    @unittest.skipUnless(importlib.util.find_spec('pyarrow'), 'PyArrow is not installed')
    def test_tables_of_a_hub(self):
        import pyarrow
        from pyarrow import parquet

        def write(name, n, image='image', label='label', names=('b', 'a'), content=None):
            images, labels = [], numpy.sort(numpy.arange(n) % 2).tolist()
            for i, kind in enumerate(labels):
                file = io.BytesIO()
                shape(kind, seed=i).save(file, 'png')
                images.append({'bytes': content or file.getvalue(), 'path': f'{i}.png'})
            table = pyarrow.table({image: images, label: labels})
            if names:
                features = {'info': {'features': {label: {'names': names}}}}
                table = table.replace_schema_metadata({'huggingface': json.dumps(features)})
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            parquet.write_table(table, path, row_group_size=5)
            return path

        def corners(pair):
            return pair[0].reshape(-1, 2, 3, 2, 3).mean((2, 4)).reshape(-1, 4).argmax(1).tolist()

        one = write('own.parquet', 600, 'img', 'fine_label')
        data, notices = self.read(one)
        self.assertEqual((data.classes, [len(y) for x, y in (data.train, data.valid, data.test)]),
                         (('b', 'a'), [400, 100, 100]))
        self.assertIn('600 images of 2 classes', notices)
        self.assertEqual(corners(data.train), data.train[1].tolist())
        write('hub/train-00000-of-00002.parquet', 7)
        write('hub/train-00001-of-00002.parquet', 5)
        write('hub/validation-00000-of-00001.parquet', 4)
        data, _ = self.read(self.folder / 'hub')
        self.assertEqual([len(y) for x, y in (data.train, data.valid, data.test)], [10, 4, 2])
        write('hub/test/0000.parquet', 3)
        data, _ = self.read(self.folder / 'hub')
        for pair, n in ((data.train, 12), (data.valid, 4), (data.test, 3)):
            self.assertEqual((corners(pair), len(pair[1])), (pair[1].tolist(), n))
        self.assertEqual(self.read(write('a.parquet', 20, names=()))[0].classes, ())

        for settings, part in (({'label': 'y'}, 'has the columns image, y: give'),
                               ({'n': 0}, 'has the columns'),
                               ({'names': ['b']}, 'names of 1 classes'),
                               ({'content': b'no image'}, 'image 0 cannot be read as an image')):
            self.fails(write('a.parquet', **{'n': 9} | settings), 'a.parquet', part)
        self.fails(self.write('a.parquet', b'PAR1'), 'a.parquet: cannot be read (')
        self.fails(write('only/test.parquet', 9).parent, 'no file to train on')
        with mock.patch.object(files, 'LARGEST', 600 * 36 * 4 - 1), \
                mock.patch('support.pictures.read_grey') as read_grey:
            self.fails(one, 'more than 86399 bytes', '@28 means')
        read_grey.assert_not_called()
