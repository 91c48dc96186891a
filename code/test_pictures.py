"""Tests of the users' own pictures: folders of image files."""

import os
from unittest import mock

from support import files
from support.errors import UserError
from support.folders import read_record
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
        for part in ('36 images of 3 classes', 'grey levels', '6 x 6', 'DLT_IMAGE_SIZE',
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
        for value, image_shape in (('4', (4, 4)), ('3x5', (3, 5))):
            with mock.patch.dict(os.environ, DLT_IMAGE_SIZE=value):
                self.assertEqual(self.read(self.shapes)[0].image_shape, image_shape)
        for value in ('', '0', 'x5', '5x', '12345', '-3', '3.5'):
            with mock.patch.dict(os.environ, DLT_IMAGE_SIZE=value):
                self.fails(self.shapes, f'DLT_IMAGE_SIZE is {value!r}', 'such as 28')
        with mock.patch.object(files, 'LARGEST', 36 * 36 * 4 - 1), \
                mock.patch('support.pictures.read_grey') as read_grey:
            self.fails(self.shapes, 'more than 5183 bytes', 'DLT_IMAGE_SIZE')
        read_grey.assert_not_called()

    def test_mistakes(self):
        self.shapes.mkdir()
        self.fails(self.shapes, 'holds no images to train on', 'a folder of its own')
        shape(0).save(self.shapes / 'a.png')
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
