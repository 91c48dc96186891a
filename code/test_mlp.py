"""Tests of mlp."""

import unittest
from unittest import mock

from support.testing import (
    REFERENCE_MODE,
    TestCase,
    finite_difference_error,
    in_float64,
    mnist_is_here,
    printed,
    small_images,
)

import numpy
import pytensor as theano
import pytensor.tensor as T

import mlp


class TestHiddenLayer(TestCase):
    def test_initial_weights(self):
        for activation, factor in ((T.tanh, 1), (T.sigmoid, 4), (None, 1)):
            layer = mlp.HiddenLayer(numpy.random.RandomState(7), T.matrix(), 30, 20,
                                    activation=activation)
            bound = factor * numpy.sqrt(6 / 50)
            expected = numpy.random.RandomState(7).uniform(-bound, bound, (30, 20))
            numpy.testing.assert_allclose(layer.W.get_value(), expected, rtol=1e-6)
            numpy.testing.assert_array_equal(layer.b.get_value(), numpy.zeros(20))

    def test_given_parameters_are_used_and_nothing_is_drawn(self):
        W = theano.shared(numpy.ones((2, 3), 'f'), name='W')
        b = theano.shared(numpy.full(3, .5, 'f'), name='b')
        rng = numpy.random.RandomState(7)
        x = T.matrix('x')
        layer = mlp.HiddenLayer(rng, x, 2, 3, W=W, b=b, activation=None)
        self.assertIs(layer.params[0], W)
        self.assertIs(layer.params[1], b)
        self.assertEqual(rng.randint(2 ** 30), numpy.random.RandomState(7).randint(2 ** 30))
        output = theano.function([x], layer.output, mode=REFERENCE_MODE)
        numpy.testing.assert_allclose(output(numpy.array([[1, 2]], 'f')), [[3.5] * 3])


class TestMLP(TestCase):
    def model(self):
        """An MLP in float64, its input and labels, with large enough weights to be non-linear."""
        rng = numpy.random.RandomState(0)
        x = theano.shared(rng.normal(size=(6, 4)))
        y = T.constant(rng.randint(3, size=6), dtype='int32')
        model = mlp.MLP(rng, x, n_in=4, n_hidden=5, n_out=3)
        for param in model.params:
            param.set_value(rng.normal(size=param.get_value().shape))
        return model, x, y

    def test_cost_by_hand(self):
        with in_float64():
            model, x, y = self.model()
            W1, b1, W2, b2 = (param.get_value() for param in model.params)
            scores = numpy.tanh(x.get_value() @ W1 + b1) @ W2 + b2
            log_p = scores - numpy.log(numpy.exp(scores).sum(1, keepdims=True))
            got = theano.function([], [model.negative_log_likelihood(y), model.L1, model.L2_sqr],
                                  mode=REFERENCE_MODE)()
        numpy.testing.assert_allclose(got, [
            -log_p[range(6), y.data].mean(), abs(W1).sum() + abs(W2).sum(),
            (W1 ** 2).sum() + (W2 ** 2).sum()])

    def test_gradient(self):
        with in_float64():
            model, _, y = self.model()
            cost = model.negative_log_likelihood(y) + 0.1 * model.L1 + 0.2 * model.L2_sqr
            self.assertLess(finite_difference_error(cost, model.params), 1e-6)


class TestTraining(TestCase):
    def train(self, **settings):
        with printed():
            return mlp.train(output_folder=str(self.folder / 'run'), **settings)

    @unittest.skipUnless(mnist_is_here(), 'MNIST is not in $DLT_DATA_DIR')
    def test_mnist_follows_the_trajectory_of_its_seed(self):
        result = self.train(dataset='mnist.pkl.gz', n_epochs=3)
        # Nothing is random but the weights of RandomState(1234); float32 may move a single image.
        for row, valid, test in zip(result.history, (9.62, 8.61, 8.00), (10.09, 8.74, 8.16),
                                    strict=True):
            self.assertAlmostEqual(row['validation_error'], valid, delta=0.015)
            self.assertAlmostEqual(row['test_error'], test, delta=0.015)

    def test_digits(self):
        result = self.train(dataset='digits', n_epochs=20, n_hidden=100)
        # 9.6 % on 1,000 images, measured, and four standard deviations of a new sample
        self.assertLess(result.scores['test_error'], 13.5)

    def test_regularisation_shrinks_the_weights(self):
        norms = []
        for L1, L2 in ((0, 0), (0, .01), (.1, 0)):
            with mock.patch('support.datasets.read', return_value=small_images()):
                result = self.train(n_epochs=3, n_hidden=10, L1_reg=L1, L2_reg=L2,
                                    overwrite=True)
            norms.append(float((numpy.asarray(result.model.params[0].get_value()) ** 2).sum()))
        self.assertLess(norms[1], .99 * norms[0])
        self.assertLess(norms[2], .99 * norms[0])
