"""Tests of mlp."""

import itertools
import re
import unittest
from unittest import mock

from support import checkpoints, draws, engine
from support.errors import UserError
from support.testing import (
    REFERENCE_MODE,
    TestCase,
    finite_difference_error,
    in_float64,
    mnist_is_here,
    printed,
    small_images,
    until_failure,
)

import numpy
import pytensor as theano
import pytensor.tensor as T

import logistic_sgd
import mlp


class TestHiddenLayer(TestCase):
    def test_initial_weights(self):
        bounds = (T.tanh, numpy.sqrt(6 / 50)), (T.sigmoid, 4 * numpy.sqrt(6 / 50)), (
            None, numpy.sqrt(6 / 50)), (mlp.relu, numpy.sqrt(6 / 30))
        for activation, bound in bounds:
            layer = mlp.HiddenLayer(numpy.random.RandomState(7), T.matrix(), 30, 20,
                                    activation=activation)
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
    def model(self, n_hidden=5, **settings):
        """An MLP in float64, its input and labels, with large enough weights to be non-linear."""
        rng = numpy.random.RandomState(0)
        x = theano.shared(rng.normal(size=(6, 4)))
        y = T.constant(rng.randint(3, size=6), dtype='int32')
        model = mlp.MLP(rng, x, n_in=4, n_hidden=n_hidden, n_out=3, **settings)
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

    def test_two_layers_of_rectifiers_by_hand(self):
        with in_float64():
            model, x, y = self.model((5, 2), activation=mlp.relu)
            W1, b1, W2, b2, W3, b3 = (param.get_value() for param in model.params)
            h = numpy.maximum(numpy.maximum(x.get_value() @ W1 + b1, 0) @ W2 + b2, 0)
            p = numpy.exp(h @ W3 + b3)
            p /= p.sum(1, keepdims=True)
            cost = model.negative_log_likelihood(y)
            got = theano.function([], [model.p_y_given_x, cost, model.L1, model.L2_sqr],
                                  mode=REFERENCE_MODE)()
            self.assertLess(finite_difference_error(cost, model.params), 1e-6)
        for value, expected in zip(got, (
                p, -numpy.log(p[range(6), y.data]).mean(), sum(abs(W).sum() for W in (W1, W2, W3)),
                sum((W ** 2).sum() for W in (W1, W2, W3))), strict=True):
            numpy.testing.assert_allclose(value, expected)

    def test_one_layer_in_a_list_is_that_layer(self):
        models = [mlp.MLP(numpy.random.RandomState(3), T.matrix(), 4, n_hidden, 2)
                  for n_hidden in (6, (6,), [6], numpy.int64(6))]
        for model in models[1:]:
            for param, expected in zip(model.params, models[0].params, strict=True):
                numpy.testing.assert_array_equal(param.get_value(), expected.get_value())

    def test_sizes_that_cannot_be(self):
        for settings, message in (({'n_hidden': 0}, '`n_hidden` is 0'),
                                  ({'n_hidden': ()}, '`n_hidden` is ()'),
                                  ({'n_hidden': (5, 0)}, '`n_hidden` is (5, 0)'),
                                  ({'dropout': 1.}, '`dropout` is 1.0'),
                                  ({'dropout': -.1}, '`dropout` is -0.1')):
            with self.assertRaisesRegex(UserError, re.escape(message)):
                self.model(**settings)


class TestDropout(TestCase):
    def test_mean_stays_and_the_fraction_is_dropped(self):
        x = engine.shared_data(numpy.random.RandomState(0).uniform(1, 2, size=(500, 200)))
        output = mlp.dropped(x, .3, draws.RandomStreams(1))
        step = engine.function([T.lscalar()], output, draws.random_updates(output))
        first, second = step(0), step(0)
        kept = first != 0
        numpy.testing.assert_allclose(first[kept], x.get_value()[kept] / .7, rtol=1e-6)
        # 100,000 draws: five standard deviations
        self.assertAlmostEqual(kept.mean(), .7, delta=.0073)
        self.assertAlmostEqual(first.mean() / x.get_value().mean(), 1, delta=.0104)
        self.assertAlmostEqual(((first != 0) == (second != 0)).mean(), .58, delta=.0079)

    def test_only_the_cost_of_training_drops_units(self):
        """And all layers do, each with draws of its own."""
        x, y = T.matrix('x'), T.ivector('y')
        with_dropout, without = (mlp.MLP(numpy.random.RandomState(0), x, 4, (6, 5), 3,
                                         dropout=dropout) for dropout in (.5, 0.))
        self.assertEqual(draws.random_updates(without.negative_log_likelihood(y)), [])
        for output in (with_dropout.p_y_given_x, with_dropout.errors(y), with_dropout.y_pred,
                       with_dropout.L2_sqr):
            self.assertEqual(draws.random_updates(output), [])
        self.assertEqual(len(draws.random_updates(with_dropout.negative_log_likelihood(y))), 2)
        for one, other in zip(with_dropout.params, without.params, strict=True):
            numpy.testing.assert_array_equal(one.get_value(), other.get_value())

    def test_cost_is_that_of_a_network_without_the_dropped_units(self):
        """With four units there are sixteen networks; whichever is drawn, its cost is known."""
        rng = numpy.random.RandomState(0)
        rows = rng.normal(size=(1, 3)).astype(theano.config.floatX)
        x, y = T.matrix('x'), T.ivector('y')
        model = mlp.MLP(rng, x, 3, 4, 2, dropout=.25)
        W2 = rng.normal(size=(4, 2))
        model.logRegressionLayer.W.set_value(W2.astype(theano.config.floatX))
        hidden = numpy.tanh(rows @ model.hiddenLayer.W.get_value())
        scores = [(hidden * mask / .75) @ W2 for mask in itertools.product((0, 1), repeat=4)]
        costs = [numpy.log(numpy.exp(score).sum()) - score[0, 1] for score in scores]
        cost = model.negative_log_likelihood(y)
        step = engine.function([T.lscalar()], cost, draws.random_updates(cost),
                               {x: T.constant(rows), y: T.constant([1], dtype='int32')})
        distances = abs(step.over(range(300))[:, None] - numpy.array(costs).ravel())
        self.assertLess(distances.min(axis=1).max(), 1e-5)
        self.assertGreater(len(set(distances.argmin(axis=1))), 8)


class TestTraining(TestCase):
    def train(self, folder='run', **settings):
        with printed():
            return mlp.train(output_folder=str(self.folder / folder), **settings)

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

    def test_rectifiers_dropout_and_adam(self):
        """They learn, a run is resumed bit for bit, and its model is built from its record."""
        settings = {'n_epochs': 20, 'n_hidden': (30, 20), 'activation': 'relu', 'dropout': .2,
                    'optimiser': 'adam', 'learning_rate': .005}
        images = small_images()
        with mock.patch('support.datasets.read', return_value=images):
            result = self.train('whole', **settings)
            stop = until_failure(engine.Step.over, 5, KeyboardInterrupt())
            with mock.patch.object(engine.Step, 'over', stop), \
                    self.assertRaises(KeyboardInterrupt):
                self.train('parts', **settings)
            self.train('parts', resume=True)
            with self.assertRaisesRegex(UserError, '`dropout` was 0.2, not 0.3'):
                self.train('parts', resume=True, dropout=.3)
        for name in ('checkpoint.npz', 'model.npz', 'history.csv'):
            self.assertEqual((self.folder / 'parts' / name).read_bytes(),
                             (self.folder / 'whole' / name).read_bytes(), name)
        # 32 % was measured; chance is 90 %
        self.assertLess(result.scores['test_error'], 50)
        loaded = checkpoints.load(self.folder / 'whole', mlp.build)
        predicted = logistic_sgd.classify(loaded, images.test[0])
        self.assertAlmostEqual(100 * numpy.mean(predicted != images.test[1]),
                               result.scores['test_error'])
