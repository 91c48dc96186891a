"""Tests of predict: a trained model is saved, loaded and used."""

import contextlib
import dataclasses
import io
import re
import tempfile
from pathlib import Path
from unittest import mock

from support import datasets, photos
from support.errors import UserError
from support.testing import TestCase, printed, slow, small_images

import numpy
from PIL import Image

import convolutional_mlp
import dA
import logistic_cg
import logistic_sgd
import mlp
import predict
import SdA


class TestPredict(TestCase):
    def setUp(self):
        super().setUp()
        self.images = small_images()
        patch = mock.patch('support.datasets.read', return_value=self.images)
        patch.start()
        self.addCleanup(patch.stop)

    def train(self, script, **settings):
        self.run = str(self.folder / script.__name__)
        with printed():
            return script.train(output_folder=self.run, overwrite=True, **settings)

    def test_model_of_a_script_of_ones_own(self):
        script = self.folder / 'mine.py'
        script.write_text('from mlp import build\n')
        self.train(mlp, n_epochs=2, n_hidden=7, batch_size=20)
        with printed():
            expected = predict.predict(self.run)
        record = Path(self.run, 'run.json')
        record.write_text(record.read_text().replace('"script": "mlp"', '"script": "mine"'))
        with self.assertRaisesRegex(UserError, 'for one of your own, name its `script`'):
            predict.predict(self.run)
        with printed():
            numpy.testing.assert_array_equal(predict.predict(self.run, script=script), expected)
        script.write_text('')
        for path, problem in ((script, 'no function build'), (self.folder, 'no Python file'),
                              (self.folder / 'none.py', 'no Python file')):
            with self.assertRaisesRegex(UserError, problem):
                predict.predict(self.run, script=path)
        script.write_text('from vae import VAE\ndef build(n_in, n_hidden, n_out, **others):\n'
                          '    return VAE(__import__("numpy").random.RandomState(0))\n')
        with self.assertRaisesRegex(UserError, 'mine.py have no input and no p_y_given_x: give'):
            predict.predict(self.run, script=script)

    def test_every_classifier_predicts_what_it_scored(self):
        for script, settings in (
                (logistic_sgd, {'n_epochs': 5, 'batch_size': 20}),
                (logistic_cg, {'n_epochs': 5, 'batch_size': 20}),
                (mlp, {'n_epochs': 5, 'n_hidden': 7, 'batch_size': 20}),
                (SdA, {'pretraining_epochs': 1, 'training_epochs': 5, 'batch_size': 20,
                                'hidden_layers_sizes': (9, 8), 'corruption_levels': (.1, .1)})):
            with self.subTest(script.__name__):
                result = self.train(script, **settings)
                with printed() as output:
                    predicted = predict.predict(self.run)
                error = 100 * numpy.mean(predicted != self.images.test[1])
                self.assertAlmostEqual(error, result.scores['test_error'])
                self.assertIn(f'of 60 test images are misclassified, {error:f} %',
                              output.getvalue())
                valid_x, valid_y = self.images.valid
                p = logistic_sgd.get_p_y_given_x(result.model)(valid_x)
                self.assertAlmostEqual(100 * numpy.mean(p.argmax(1) != valid_y),
                                       result.scores['best_validation_error'])
                numpy.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)

    @slow
    def test_convolutional_network(self):
        # With images that are large enough: each pixel is a square of nine.
        pairs = [(numpy.kron(x.reshape(-1, 7, 7), numpy.ones((1, 3, 3), 'f')).reshape(-1, 441), y)
                 for x, y in (self.images.train, self.images.valid, self.images.test)]
        images = dataclasses.replace(self.images, train=pairs[0], valid=pairs[1], test=pairs[2],
                                     image_shape=(21, 21))
        with mock.patch('support.datasets.read', return_value=images):
            result = self.train(convolutional_mlp, n_epochs=3, batch_size=20,
                                nkerns=(3, 4))
            with printed():
                predicted = predict.predict(self.run)
        self.assertAlmostEqual(100 * numpy.mean(predicted != images.test[1]),
                               result.scores['test_error'])
        path = self.folder / 'digit.png'
        pixels = numpy.rint(images.test[0][0].reshape(21, 21) * 256).clip(0, 255).astype('uint8')
        Image.fromarray(pixels).save(path)
        with printed():
            numpy.testing.assert_array_equal(predict.predict(self.run, (path,)),
                                             predicted[:1])

    def test_image_files(self):
        result = self.train(logistic_sgd, n_epochs=20, batch_size=20)
        rows = self.images.test[0][:3]
        expected = logistic_sgd.classify(result.model, rows)
        for invert in (False, True):
            paths = []
            for i, row in enumerate(rows):
                pixels = numpy.rint(row.reshape(7, 7) * 256).clip(0, 255).astype('uint8')
                path = self.folder / f'{i}.png'
                Image.fromarray(255 - pixels if invert else pixels).convert('RGB').save(path)
                paths.append(path)
            with printed() as output:
                predicted = predict.predict(self.run, tuple(paths), invert=invert)
            numpy.testing.assert_array_equal(predicted, expected)
            lines = output.getvalue().splitlines()
            self.assertTrue(re.fullmatch(rf'{re.escape(str(paths[0]))}: {expected[0]}, with '
                                         r'probability [01]\.\d{3}; or \d, with probability '
                                         r'0\.\d{3}', lines[0]))

    def test_image_is_scaled(self):
        path = self.folder / 'large.png'
        Image.new('L', (70, 140), 128).save(path)
        numpy.testing.assert_allclose(photos.read_image(path, (7, 5)), numpy.full(35, .5))

    def test_mistakes(self):
        with self.assertRaisesRegex(UserError, 'there is no .*run.json'):
            predict.predict(str(self.folder))
        self.train(dA, training_epochs=0, n_hidden=4)
        with self.assertRaisesRegex(UserError, 'run of dA.py, which is no classifier'):
            predict.predict(self.run)
        self.train(logistic_sgd, n_epochs=1, batch_size=20)
        with self.assertRaisesRegex(UserError, 'for images of 28 x 28 .* trained on 7 x 7: set it'):
            predict.predict(self.run, (self.folder,), prepare='digit')
        no_image = self.folder / 'logistic_sgd' / 'run.json'
        for path, message in ((self.folder / 'none.png', 'there is no image'),
                              (no_image, 'cannot be read as an image')):
            with self.assertRaisesRegex(UserError, message):
                predict.predict(self.run, (path,))
        with mock.patch('support.datasets.read') as read:
            read.return_value = mock.Mock(test=(numpy.zeros((2, 9)), numpy.zeros(2)))
            read.return_value.name = 'others'
            with self.assertRaisesRegex(UserError, 'the images of others have 9 pixels'):
                predict.predict(self.run)
        (self.folder / 'logistic_sgd' / 'model.npz').write_bytes(b'')
        with self.assertRaisesRegex(UserError, 'model.npz is broken'):
            predict.predict(self.run)
        no_image.write_text('{}')
        with self.assertRaisesRegex(UserError, 'run.json is not the record'):
            predict.predict(self.run)


class TestPhotos(TestCase):
    """With a model of data like MNIST, and files that hold the test images as ink on paper."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.run_folder, cls.pictures = str(folder / 'run'), folder / 'pictures'
        with printed():
            logistic_sgd.train(n_epochs=3, dataset='digits', output_folder=cls.run_folder)
        (cls.pictures / 'more').mkdir(parents=True)
        images, labels = datasets.read('digits').test
        cls.files, cls.labels = [], labels[:9]
        for i, image in enumerate(images[:9]):
            grey = numpy.pad(255 - 256 * image.reshape(28, 28), 30, constant_values=255)
            cls.files.append(cls.pictures / ('more' if i % 2 else '') / f'{i}.png')
            Image.fromarray(grey.astype('uint8')).resize((300, 300)).save(cls.files[i])
        (cls.pictures / 'notes.txt').write_text('no picture')

    def predict(self, *images, **settings):
        """What is predicted, and the lines on stdout and stderr."""
        with printed() as out, contextlib.redirect_stderr(io.StringIO()) as errors:
            predicted = predict.predict(self.run_folder, images, **settings)
        return predicted, out.getvalue().splitlines(), errors.getvalue().splitlines()

    def test_photos_of_digits(self):
        files = self.files
        predicted, lines, notices = self.predict(*files)
        self.assertGreaterEqual(numpy.count_nonzero(predicted == self.labels), 7)
        self.assertEqual([line.split(':')[0] for line in lines], [str(file) for file in files])
        self.assertLessEqual(len(notices), 1)
        numpy.testing.assert_array_equal(self.predict(*files, prepare='digit')[0], predicted)
        # As they are, they are black on white and small; a folder holds all of them.
        _, lines, notices = self.predict(self.pictures, prepare='none')
        self.assertEqual([line.split(':')[0] for line in lines], [*map(str, sorted(files))])
        self.assertEqual(len(notices), 9)
        self.assertRegex(notices[0], r'NOTICE: .*/0.png is unlike the images that the model was '
                                     r'trained on, by \d+\.\d where 99% of those have at most \d')
        with mock.patch('sys.stdin', mock.Mock(buffer=io.BytesIO(files[3].read_bytes()))):
            again, lines, _ = self.predict(Path('-'))
        self.assertEqual(again.tolist(), [predicted[3]])
        self.assertRegex(lines[0], r'^standard input: \d, with probability')

    def test_one_photo_of_several_cannot_be_read(self):
        blank, show = self.folder / 'blank.png', self.folder / 'seen.png'
        Image.new('L', (300, 200), 220).save(blank)
        with printed() as out, contextlib.redirect_stderr(io.StringIO()) as errors, \
                self.assertRaisesRegex(UserError, '1 of 3 images were left out'):
            predict.predict(self.run_folder, (self.files[0], blank, self.files[1]), show=show)
        self.assertEqual(len(out.getvalue().splitlines()), 2)
        self.assertIn(f'NOTICE: left out: {blank} shows no ink', errors.getvalue())
        with Image.open(show) as picture:
            self.assertEqual(picture.size[1], 2 * 84)
        with contextlib.redirect_stderr(io.StringIO()), \
                self.assertRaisesRegex(UserError, 'none of the 2 images can be read'):
            predict.predict(self.run_folder, (blank, blank))

    def test_picture_of_what_the_model_saw(self):
        show = self.folder / 'seen.png'
        self.predict(self.files[0], self.files[3], show=show)
        with Image.open(show) as picture:
            pixels = numpy.asarray(picture)
        self.assertEqual(len(pixels), 2 * 84)
        for i, file in enumerate((self.files[0], self.files[3])):
            seen = photos.read_digit(file).reshape(28, 28)
            numpy.testing.assert_allclose(pixels[84 * i:84 * i + 84:3, :84:3], 255 * seen, atol=1)
        self.assertTrue(pixels[:84, 90:].any() and pixels[84:, 90:].any())

    def test_mistakes_with_photos(self):
        picture, blank, empty = self.files[0], self.folder / 'blank.png', self.folder / 'empty'
        Image.new('L', (300, 200), 220).save(blank)
        empty.mkdir()
        for images, settings, message in (
                ([blank], {}, 'blank.png shows no ink that stands out from the paper'),
                ([empty], {}, 'empty holds no image files: give a folder that does'),
                ([self.pictures / 'notes.txt'], {}, 'notes.txt cannot be read as an image'),
                ([picture], {'prepare': 'x'}, '`prepare` is x, .* one of auto, digit, none'),
                ([picture], {'show': empty / 'none' / 'a.png'}, 'there is no folder .*none: make'),
                ([picture], {'show': picture}, '`show` is .*0.png, which is one of the images'),
                ([], {'show': picture}, '`show` is for image files: give some as `images`')):
            with self.assertRaisesRegex(UserError, message):
                predict.predict(self.run_folder, tuple(images), **settings)
        with mock.patch('sys.stdin', None), \
                self.assertRaisesRegex(UserError, 'standard input is empty: give the bytes'):
            predict.predict(self.run_folder, (Path('-'),))
