"""Tests of convolutional_mlp."""

import math
import unittest
from unittest import mock

import numpy
import pytensor as theano
import pytensor.tensor as T
from PIL import Image
from scipy.signal import convolve2d

import convolutional_mlp
import logistic_sgd
from convolutional_mlp import LeNet, LeNetConvPoolLayer
from support.datasets import ImageData
from support.digits import make_digits
from support.errors import UserError
from support.testing import (
    REFERENCE_MODE,
    TestCase,
    finite_difference_error,
    in_float64,
    mnist_is_here,
    printed,
    slow,
    small_images,
    until_failure,
)


def larger_images(factor=3, **sizes):
    """Small digits, every pixel as a square of pixels: 21 x 21 by default."""
    data = small_images(**sizes)
    height, width = (factor * size for size in data.image_shape)

    def larger(pair):
        images = pair[0].reshape(-1, *data.image_shape)
        images = images.repeat(factor, axis=1).repeat(factor, axis=2)
        return images.reshape(-1, height * width), pair[1]

    return ImageData(data.name, data.sha256, larger(data.train), larger(data.valid),
                     larger(data.test), (height, width), data.n_classes)


class TestLayer(TestCase):
    def test_initial_weights(self):
        layer = LeNetConvPoolLayer(numpy.random.RandomState(7), T.tensor4(), (6, 3, 5, 4),
                                   (2, 3, 12, 12), poolsize=(2, 3))
        bound = numpy.sqrt(6 / (3 * 5 * 4 + 6 * 5 * 4 // 6))
        expected = numpy.random.RandomState(7).uniform(-bound, bound, (6, 3, 5, 4))
        numpy.testing.assert_allclose(layer.W.get_value(), expected, rtol=1e-6)
        numpy.testing.assert_array_equal(layer.b.get_value(), numpy.zeros(6))
        self.assertEqual([param.name for param in layer.params], ['W', 'b'])
        self.assertEqual(layer.output.type.shape, (2, 6, 4, 3))

    def test_output_by_hand(self):
        with in_float64():
            rng = numpy.random.RandomState(0)
            images = rng.normal(size=(2, 2, 7, 8))
            x = T.tensor4('x')
            layer = LeNetConvPoolLayer(rng, x, (3, 2, 4, 3), (2, 2, 7, 8))
            layer.b.set_value(rng.normal(size=3))
            W, b = (param.get_value() for param in layer.params)
            got = theano.function([x], layer.output, mode=REFERENCE_MODE)(images)
        for n, k in numpy.ndindex(2, 3):
            convolved = sum(convolve2d(images[n, c], W[k, c], 'valid') for c in range(2))
            pooled = convolved.reshape(2, 2, 3, 2).max((1, 3))
            numpy.testing.assert_allclose(got[n, k], numpy.tanh(pooled + b[k]))


class TestLeNet(TestCase):
    def test_order_of_draws_and_of_parameters(self):
        model = LeNet(numpy.random.RandomState(4), T.matrix(), (28, 28), (2, 3), 10, batch_size=5)
        rng = numpy.random.RandomState(4)
        shapes = [(10,), (3 * 4 * 4, 500), (3, 2, 5, 5), (2, 1, 5, 5)]
        for i, shape, fans in ((6, shapes[3], 25 + 2 * 25 // 4), (4, shapes[2], 50 + 3 * 25 // 4),
                               (2, shapes[1], 48 + 500)):
            bound = numpy.sqrt(6 / fans)
            numpy.testing.assert_allclose(model.params[i].get_value(),
                                          rng.uniform(-bound, bound, shape), rtol=1e-6)
        self.assertEqual([param.get_value().shape for param in model.params],
                         [(500, 10), (10,), shapes[1], (500,), shapes[2], (3,), shapes[3], (2,)])

    def test_gradient(self):
        with in_float64():
            rng = numpy.random.RandomState(0)
            x = theano.shared(rng.normal(size=(3, 16 * 18)))
            y = T.constant(rng.randint(4, size=3), dtype='int32')
            model = LeNet(rng, x, (16, 18), (2, 3), n_out=4, batch_size=3, n_hidden=5)
            for param in model.params:
                param.set_value(.5 * rng.normal(size=param.get_value().shape))
            cost = model.negative_log_likelihood(y)
            self.assertLess(finite_difference_error(cost, model.params), 1e-6)

    def test_images_that_are_too_small(self):
        LeNet(numpy.random.RandomState(0), T.matrix(), (16, 17), (2, 3), 10)
        for shape in ((15, 30), (30, 15), (7, 7), (1, 1)):
            with self.assertRaisesRegex(UserError, 'too small for LeNet, which needs 16 x 16'):
                LeNet(numpy.random.RandomState(0), T.matrix(), shape, (2, 3), 10)


class TestTraining(TestCase):
    def train(self, folder='run', **settings):
        with printed():
            return convolutional_mlp.evaluate_lenet5(output_folder=str(self.folder / folder),
                                                     **settings)

    def train_small(self, folder='run', **settings):
        settings = {'nkerns': (4, 6), 'batch_size': 20, 'n_epochs': 3} | settings
        with mock.patch('support.datasets.read', return_value=larger_images()):
            return self.train(folder, **settings)

    @slow
    @unittest.skipUnless(mnist_is_here(), 'MNIST is not in $DLT_DATA_DIR')
    def test_mnist_first_epoch(self):
        result = self.train(dataset='mnist.pkl.gz', n_epochs=1)
        # Nothing is random but the weights of RandomState(23455); float32 may move a few images.
        self.assertAlmostEqual(result.scores['best_validation_error'], 9.23, delta=0.025)
        self.assertAlmostEqual(result.scores['test_error'], 9.54, delta=0.025)

    def test_learns_saves_and_loads(self):
        result = self.train_small(n_epochs=12)
        # 37 % was measured; chance is 90 %
        self.assertLess(result.scores['best_validation_error'], 55)
        with Image.open(self.folder / 'run' / 'filters.png') as picture:
            self.assertEqual(picture.size, (4 * 41 - 1, 40))
        loaded = convolutional_mlp.load_classifier(str(self.folder / 'run'))
        images, labels = larger_images().test
        probabilities = logistic_sgd.get_p_y_given_x(loaded)
        p = probabilities(images)
        self.assertAlmostEqual(100 * numpy.mean(p.argmax(1) != labels),
                               result.scores['test_error'])
        # Any number of images, in any company.
        for few in (images[:1], images[7:10], numpy.repeat(images[:7], 50, axis=0)):
            self.assertEqual(probabilities(few).shape, (len(few), 10))
        numpy.testing.assert_allclose(probabilities(images[7:10]), p[7:10], rtol=1e-4)

    def test_digits(self):
        pairs = [(numpy.asarray(pixels, theano.config.floatX).reshape(-1, 784) / 256,
                  numpy.asarray(labels, 'int32'))
                 for pixels, labels in make_digits(seed=1, sizes=(1000, 200, 200))]
        data = ImageData('few digits', 'seed 1', *pairs, (28, 28), 10)
        with mock.patch('support.datasets.read', return_value=data):
            result = self.train(n_epochs=5, nkerns=(6, 8), batch_size=20)
        self.assertLess(result.scores['test_error'], 35)

    @slow
    def test_resumed_run_is_the_same_bit_for_bit(self):
        whole = self.train_small('whole')
        stop = until_failure(convolutional_mlp.engine.MinibatchFunction.run, 5,
                             KeyboardInterrupt())
        with mock.patch.object(convolutional_mlp.engine.MinibatchFunction, 'run', stop), \
                self.assertRaises(KeyboardInterrupt):
            self.train_small('parts')
        resumed = self.train_small('parts', resume=True)
        self.assertEqual(resumed.scores, whole.scores)
        for name in ('checkpoint.npz', 'model.npz', 'history.csv'):
            self.assertEqual((self.folder / 'parts' / name).read_bytes(),
                             (self.folder / 'whole' / name).read_bytes(), name)

    def test_settings_that_cannot_be(self):
        with self.assertRaisesRegex(UserError, '--nkerns is .0, 5.'):
            self.train_small(nkerns=(0, 5))
        with mock.patch('support.datasets.read', return_value=small_images()), \
                self.assertRaisesRegex(UserError, '7 x 7 pixels are too small'):
            self.train(batch_size=20)

    def test_load_refuses_other_models(self):
        with mock.patch('support.datasets.read', return_value=small_images()), printed():
            logistic_sgd.sgd_optimization_mnist(n_epochs=1, batch_size=20,
                                                output_folder=str(self.folder))
        with self.assertRaisesRegex(UserError, 'another kind of model'):
            convolutional_mlp.load_classifier(str(self.folder))


class TestDemonstrations(TestCase):
    def edges(self, photo=None):
        with printed() as output:
            maps = convolutional_mlp.edges(photo, output_folder=str(self.folder / 'out'))
        self.assertIn('edges.png', output.getvalue())
        with Image.open(self.folder / 'out' / 'edges.png') as picture:
            self.assertEqual(picture.format, 'PNG')
        return maps

    def test_edges_of_a_photo(self):
        pixels = numpy.random.RandomState(0).randint(256, size=(20, 30, 3)).astype('uint8')
        path = self.folder / 'photo.png'
        Image.fromarray(pixels).save(path)
        rng = numpy.random.RandomState(23455)
        W = rng.uniform(-1 / math.sqrt(243), 1 / math.sqrt(243), (2, 3, 9, 9))
        b = rng.uniform(-.5, .5, 2)
        activations = [b[k] + sum(convolve2d(pixels[:, :, c] / 256, W[k, c], 'valid')
                                  for c in range(3)) for k in range(2)]
        expected = 1 / (1 + numpy.exp(-numpy.array(activations)))
        numpy.testing.assert_allclose(self.edges(path), expected, rtol=1e-4)

    def test_edges_of_the_picture_drawn_here(self):
        self.assertEqual(self.edges().shape, (2, 352, 472))

    def test_photo_of_any_kind(self):
        path = self.folder / 'large.gif'
        Image.new('L', (1280, 100)).save(path)
        self.assertEqual(self.edges(path).shape, (2, 42, 632))
        Image.new('L', (20, 8)).save(path)
        with self.assertRaisesRegex(UserError, '8 x 20 pixels: give one of at least 9 x 9'):
            self.edges(path)
        path.write_text('no image')
        with self.assertRaisesRegex(UserError, 'cannot be read as an image'):
            self.edges(path)
        with self.assertRaisesRegex(UserError, 'there is no image'):
            self.edges(self.folder / 'none.png')

    def test_pooling(self):
        with printed() as output:
            numbers, without_border, with_border = convolutional_mlp.pooling()
        expected = numpy.random.RandomState(1).rand(3, 2, 5, 5)
        numpy.testing.assert_allclose(numbers, expected, rtol=1e-6)
        for i, j in numpy.ndindex(3, 3):
            maxima = numbers[:, :, 2 * i:2 * i + 2, 2 * j:2 * j + 2].max((2, 3))
            numpy.testing.assert_array_equal(with_border[:, :, i, j], maxima)
        numpy.testing.assert_array_equal(without_border, with_border[:, :, :2, :2])
        numpy.testing.assert_allclose(without_border[0, 0], [[.72032449, .39676747],
                                                             [.68521950, .87811744]], rtol=1e-6)
        numpy.testing.assert_allclose(with_border[1, 0], [[.67883553, .58930554, .69975836],
                                                          [.66379464, .94459476, .58655504],
                                                          [.90340192, .80739129, .39767684]],
                                      rtol=1e-6)
        for line in ('With ignore_border=True:', 'maxima[0, 0] =\n[[0.7203 0.3968]\n'
                     ' [0.6852 0.8781]]', 'maxima[1, 0] =\n[[0.6788 0.5893 0.6998]'):
            self.assertIn(line, output.getvalue())
