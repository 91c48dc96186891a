"""Tests of predict: a trained model is saved, loaded and used."""

import dataclasses
import re
from unittest import mock

from support import photos
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
                                         r'probability [01]\.\d{3}', lines[0]))

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
