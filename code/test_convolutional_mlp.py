"""Tests of convolutional_mlp."""

import unittest
from unittest import mock

from support import checkpoints, draws, engine
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

import numpy
import pytensor as theano
import pytensor.tensor as T
from PIL import Image
from scipy.signal import convolve2d

import convolutional_mlp
import logistic_sgd
from convolutional_mlp import LeNet, LeNetConvPoolLayer
from mlp import relu


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

    def test_rectifiers_and_several_hidden_layers(self):
        """The bounds of the initial weights, the parameters from the top down, and dropout."""
        x, y = T.matrix('x'), T.ivector('y')
        model = LeNet(numpy.random.RandomState(4), x, (16, 18), (2, 3), 4, n_hidden=(7, 6),
                      activation=relu, dropout=.5)
        shapes = [(6, 4), (3 * 1 * 1, 7), (7, 6), (3, 2, 5, 5), (2, 1, 5, 5)]
        self.assertEqual([W.get_value().shape for W in model.params[::2]], shapes)
        for W, fan_in in zip(model.params[2::2], (3, 7, 50, 25), strict=True):
            largest = abs(W.get_value()).max() / numpy.sqrt(6 / fan_in)
            self.assertLessEqual(largest, 1)
            self.assertGreater(largest, .8)
        self.assertEqual(len(draws.random_updates(model.negative_log_likelihood(y))), 2)
        self.assertEqual(draws.random_updates(model.errors(y)), [])

    def test_images_that_are_too_small(self):
        LeNet(numpy.random.RandomState(0), T.matrix(), (16, 17), (2, 3), 10)
        for shape in ((15, 30), (30, 15), (7, 7), (1, 1)):
            with self.assertRaisesRegex(UserError, 'too small for LeNet, which needs 16 x 16'):
                LeNet(numpy.random.RandomState(0), T.matrix(), shape, (2, 3), 10)


class TestTraining(TestCase):
    def train(self, folder='run', **settings):
        with printed():
            return convolutional_mlp.train(output_folder=str(self.folder / folder), **settings)

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
        loaded = checkpoints.load(self.folder / 'run', convolutional_mlp.build)
        images, labels = larger_images().test
        probabilities = logistic_sgd.get_p_y_given_x(loaded)
        p = probabilities(images)
        self.assertAlmostEqual(100 * numpy.mean(p.argmax(1) != labels),
                               result.scores['test_error'])
        # Any number of images, in any company.
        for few in (images[:1], images[7:10], numpy.repeat(images[:7], 50, axis=0)):
            self.assertEqual(probabilities(few).shape, (len(few), 10))
        numpy.testing.assert_allclose(probabilities(images[7:10]), p[7:10], rtol=1e-4)

    def test_rectifiers_dropout_and_adam(self):
        result = self.train_small(n_epochs=20, n_hidden=(30, 20), activation='relu', dropout=.2,
                                  optimiser='adam', learning_rate=.005)
        # 35 % was measured; chance is 90 %
        self.assertLess(result.scores['test_error'], 55)
        loaded = checkpoints.load(self.folder / 'run', convolutional_mlp.build)
        images, labels = larger_images().test
        self.assertAlmostEqual(100 * numpy.mean(logistic_sgd.classify(loaded, images) != labels),
                               result.scores['test_error'])

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
        stop = until_failure(engine.Step.over, 5, KeyboardInterrupt())
        with mock.patch.object(engine.Step, 'over', stop), self.assertRaises(KeyboardInterrupt):
            self.train_small('parts')
        resumed = self.train_small('parts', resume=True)
        self.assertEqual(resumed.scores, whole.scores)
        for name in ('checkpoint.npz', 'model.npz', 'history.csv'):
            self.assertEqual((self.folder / 'parts' / name).read_bytes(),
                             (self.folder / 'whole' / name).read_bytes(), name)

    def test_settings_that_cannot_be(self):
        for settings, message in (({'nkerns': (0, 5)}, '`nkerns` is .0, 5.'),
                                  ({'batch_size': -1}, '`batch_size` is -1')):
            with self.assertRaisesRegex(UserError, message):
                self.train_small(**settings)
        with mock.patch('support.datasets.read', return_value=small_images()), \
                self.assertRaisesRegex(UserError, '7 x 7 pixels are too small'):
            self.train(batch_size=20)
