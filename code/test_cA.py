"""Tests of cA."""

from unittest import mock

from support.testing import (
    REFERENCE_MODE,
    TestCase,
    finite_difference_error,
    in_float64,
    printed,
    small_images,
)

import numpy
import pytensor as theano
import pytensor.tensor as T
from PIL import Image

import cA


class TestContraction(TestCase):
    def model(self):
        """A model in float64 on five examples of six pixels."""
        rng = numpy.random.RandomState(0)
        x = theano.shared(rng.uniform(size=(5, 6)), name='x')
        model = cA.cA(rng, input=x, n_visible=6, n_hidden=4)
        for bias in (model.b, model.b_prime):
            bias.set_value(rng.normal(size=bias.get_value().shape))
        return model

    def test_closed_form_is_what_differentiation_gives(self):
        with in_float64():
            model = self.model()
            hidden = model.get_hidden_values(model.x)
            # d h_j / d x_i of every example, one entry of the code after the other
            columns = [T.grad(T.sum(hidden[:, j]), model.x) for j in range(4)]
            jacobian, closed, contraction = theano.function(
                [], [T.stack(columns, axis=2), model.get_jacobian(hidden, model.W),
                     model.get_contraction(hidden)], mode=REFERENCE_MODE)()
        self.assertEqual(closed.shape, (5, 6, 4))
        numpy.testing.assert_allclose(closed, jacobian)
        self.assertAlmostEqual(float(contraction), (jacobian ** 2).sum() / 5)

    def test_gradient_of_the_penalty(self):
        with in_float64():
            model = self.model()
            penalty = model.get_contraction(model.get_hidden_values(model.x))
            params = [model.W, model.b]
            self.assertLess(finite_difference_error(penalty, params), 1e-6)
            gradient = theano.function([], T.grad(penalty, model.W), mode=REFERENCE_MODE)()
            self.assertGreater(numpy.abs(gradient).min(), 0)

    def test_updates_descend_cost_and_penalty(self):
        with in_float64():
            model = self.model()
            (cost, contraction), updates = model.get_cost_updates(.3, .05)
            new = theano.function([], [value for _, value in updates], mode=REFERENCE_MODE)()
            gradients = theano.function([], T.grad(cost + .3 * contraction, model.params),
                                        mode=REFERENCE_MODE)()
        for param, value, gradient in zip(model.params, new, gradients, strict=True):
            numpy.testing.assert_allclose(value, param.get_value() - .05 * gradient)


class TestTraining(TestCase):
    def train(self, **settings):
        with mock.patch('support.datasets.read', return_value=small_images()), printed() as output:
            result = cA.train(output_folder=str(self.folder / 'run'), n_hidden=100, overwrite=True,
                                learning_rate=.05, training_epochs=8, **settings)
        return result, output.getvalue()

    def test_jacobian_norm_falls_because_of_the_penalty(self):
        norms = {}
        for level in (0., .1, 1.):
            result, _ = self.train(contraction_level=level)
            norms[level] = [row['jacobian_norm'] for row in result.history]
        self.assertLess(norms[.1][-1], .9 * norms[0.][-1])
        self.assertLess(norms[1.][-1], .6 * norms[0.][-1])
        self.assertLess(norms[1.][-1], .6 * norms[1.][0])

    def test_learns_prints_and_draws(self):
        result, output = self.train()
        costs = [row['cost'] for row in result.history]
        self.assertLess(costs[-1], .8 * costs[0])
        self.assertRegex(
            output, r'(?m)^Training epoch 0, reconstruction cost \d+\.\d+ jacobian norm \d+\.\d+$')
        with Image.open(self.folder / 'run' / 'cae_filters.png') as picture:
            self.assertEqual(picture.size, (79, 79))
        self.assertEqual(result.scores, {'cost': costs[-1],
                                         'jacobian_norm': result.history[-1]['jacobian_norm']})
