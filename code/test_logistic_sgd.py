"""Tests of logistic_sgd."""

import os
import subprocess
import sys
import unittest
from unittest import mock

from support.errors import UserError
from support.optimisers import OPTIMISERS
from support.testing import (
    CODE_FOLDER,
    REFERENCE_MODE,
    TestCase,
    finite_difference_error,
    in_float64,
    mnist_is_here,
    printed,
    slow,
    small_images,
)

import numpy
import pytensor as theano
import pytensor.tensor as T

import logistic_sgd
from logistic_sgd import LogisticRegression, SharedDataSets


class TestLogisticRegression(TestCase):
    def test_probabilities_and_predictions(self):
        x = T.matrix('x')
        classifier = LogisticRegression(x, 3, 2)
        rng = numpy.random.RandomState(0)
        W, b = rng.normal(size=(3, 2)).astype('f'), rng.normal(size=2).astype('f')
        classifier.W.set_value(W)
        classifier.b.set_value(b)
        values = rng.normal(size=(5, 3)).astype('f')
        exponentials = numpy.exp(values @ W + b)
        expected = exponentials / exponentials.sum(1, keepdims=True)
        p, y_pred = theano.function([x], [classifier.p_y_given_x, classifier.y_pred],
                                    mode=REFERENCE_MODE)(values)
        numpy.testing.assert_allclose(p, expected, rtol=1e-5)
        numpy.testing.assert_array_equal(y_pred, expected.argmax(1))

        y = T.ivector('y')
        labels = numpy.array([0, 1, 1, 0, 1], 'int32')
        nll, errors = theano.function(
            [x, y], [classifier.negative_log_likelihood(y), classifier.errors(y)],
            mode=REFERENCE_MODE)(values, labels)
        self.assertAlmostEqual(float(nll), -numpy.log(expected[range(5), labels]).mean(), 5)
        self.assertAlmostEqual(float(errors), (expected.argmax(1) != labels).mean(), 6)

    def test_cost_of_a_certain_mistake_is_finite(self):
        x, y = T.matrix('x'), T.ivector('y')
        classifier = LogisticRegression(x, 1, 2)
        classifier.W.set_value(numpy.array([[1000., -1000.]], 'f'))
        cost = classifier.negative_log_likelihood(y)
        function = theano.function([x, y], [cost, T.grad(cost, classifier.W)])
        value, gradient = function(numpy.ones((1, 1), 'f'), numpy.array([1], 'i'))
        self.assertEqual(float(value), 2000)
        numpy.testing.assert_allclose(gradient, [[1, -1]], atol=1e-6)

    def test_gradient(self):
        with in_float64():
            rng = numpy.random.RandomState(0)
            x = theano.shared(rng.normal(size=(4, 3)))
            classifier = LogisticRegression(x, 3, 5)
            classifier.W.set_value(rng.normal(size=(3, 5)))
            cost = classifier.negative_log_likelihood(T.constant([0, 3, 4, 4], dtype='int32'))
            self.assertLess(finite_difference_error(cost, classifier.params), 1e-6)

    def test_errors_wants_integer_labels_of_one_dimension(self):
        classifier = LogisticRegression(T.matrix('x'), 3, 2)
        with self.assertRaises(TypeError):
            classifier.errors(T.imatrix('y'))
        with self.assertRaises(NotImplementedError):
            classifier.errors(T.vector('y'))


class TestLoadData(TestCase):
    def test_arrays_become_shared_variables(self):
        images = small_images()
        with mock.patch('support.datasets.read', return_value=images), printed() as output:
            data = logistic_sgd.load_data('anything')
        self.assertEqual(output.getvalue(), '... loading data\n')
        self.assertEqual((data.n_in, data.n_classes, data.image_shape), (49, 10, (7, 7)))
        for (x, y), (expected_x, expected_y) in zip(
                data, (images.train, images.valid, images.test), strict=True):
            numpy.testing.assert_array_equal(x.get_value(), expected_x)
            self.assertEqual((y.dtype, y.type.shape), ('int32', (len(expected_y),)))
            numpy.testing.assert_array_equal(y.eval(), expected_y)


class TestTraining(TestCase):
    def train(self, dataset, **settings):
        with printed() as output:
            result = logistic_sgd.train(
                dataset=dataset, output_folder=str(self.folder / 'run'), **settings)
        return result, output.getvalue()

    @unittest.skipUnless(mnist_is_here(), 'MNIST is not in $DLT_DATA_DIR')
    def test_mnist_gives_the_numbers_of_the_book(self):
        result, output = self.train('mnist.pkl.gz')
        self.assertIn('Optimization complete with best validation score of 7.500000 %, obtained '
                      'at iteration 6059, with test performance 7.489583 %\n'
                      'The code run for 74 epochs, with ', output)
        self.assertEqual(result.scores['best_validation_error'], 7.5)
        self.assertAlmostEqual(result.scores['test_error'], 100 * 719 / 9600)

    @slow
    @unittest.skipUnless(mnist_is_here(), 'MNIST is not in $DLT_DATA_DIR')
    def test_mnist_gives_the_same_numbers_in_numba_mode(self):
        run = subprocess.run(
            [sys.executable, CODE_FOLDER / 'logistic_sgd.py', '--dataset', 'mnist.pkl.gz'],
            cwd=self.folder, capture_output=True, text=True,
            env=os.environ | {'PYTENSOR_FLAGS': 'mode=NUMBA'})
        self.assertIn('best validation score of 7.500000 %, obtained at iteration 6059, with test '
                      'performance 7.489583 %\nThe code run for 74 epochs', run.stdout)

    def test_digits(self):
        result, _ = self.train('digits', n_epochs=60)
        # 1,000 images: an error of 7.7 %, measured, and five standard deviations of a new sample
        self.assertLess(result.scores['test_error'], 12)
        self.assertGreater(result.scores['test_error'], 4)
        self.assertEqual(result.data_name, 'digits')

    def test_model_with_best_parameters_is_returned(self):
        with mock.patch('support.datasets.read', return_value=small_images()):
            result, _ = self.train(None, n_epochs=30, batch_size=20, learning_rate=1.)
        valid_x, valid_y = SharedDataSets(small_images())[1]
        errors = theano.function([], T.neq(result.model.y_pred, valid_y),
                                 givens={result.model.input: valid_x})
        self.assertAlmostEqual(100 * float(numpy.mean(numpy.asarray(errors(), dtype='float64'))),
                               result.scores['best_validation_error'])

    def test_optimisers(self):
        costs = {}
        with mock.patch('support.datasets.read', return_value=small_images()) as read:
            for name in OPTIMISERS:
                result, _ = self.train(None, n_epochs=10, batch_size=20, learning_rate=.02,
                                       optimiser=name, overwrite=True)
                costs[name] = result.history[-1]['cost']
            read.side_effect = AssertionError
            with self.assertRaisesRegex(UserError, '`optimiser` is adan, but has to be one of '):
                self.train(None, optimiser='adan', overwrite=True)
        self.assertLess(max(costs.values()), costs['sgd'] + 1e-9)
        self.assertEqual(len(set(costs.values())), len(OPTIMISERS))
