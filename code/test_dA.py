"""Tests of dA."""

from unittest import mock

from support import draws
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

import dA


def sigmoid(a):
    return 1 / (1 + numpy.exp(-a))


class TestAutoEncoder(TestCase):
    def model(self, make, **kwargs):
        """A model in float64 on eight examples of six pixels, with biases that are not 0."""
        rng = numpy.random.RandomState(0)
        x = theano.shared(rng.uniform(size=(8, 6)), name='x')
        model = make(rng, input=x, n_visible=6, n_hidden=4, **kwargs)
        for bias in (model.b, model.b_prime):
            bias.set_value(rng.normal(size=bias.get_value().shape))
        return model, x.get_value()

    def test_equations(self):
        with in_float64():
            model, x = self.model(dA.AutoEncoder)
            W, b, b_prime = (param.get_value() for param in model.params)
            y = sigmoid(x @ W + b)
            z = sigmoid(y @ W.T + b_prime)
            hidden = model.get_hidden_values(model.x)
            got = theano.function([], [hidden, model.get_reconstructed_input(hidden),
                                       model.get_cost_updates(0.1)[0]], mode=REFERENCE_MODE)()
        numpy.testing.assert_allclose(got[0], y)
        numpy.testing.assert_allclose(got[1], z)
        cross_entropy = -(x * numpy.log(z) + (1 - x) * numpy.log(1 - z)).sum(1).mean()
        numpy.testing.assert_allclose(got[2], cross_entropy)

    def test_gradient_of_tied_weights(self):
        with in_float64():
            model, _ = self.model(dA.AutoEncoder)
            cost, _ = model.get_cost_updates(0.1)
            self.assertLess(finite_difference_error(cost, model.params), 1e-6)

    def test_cost_is_finite_for_any_weights(self):
        x = T.matrix('x')
        model = dA.AutoEncoder(numpy.random.RandomState(0), input=x, n_visible=2, n_hidden=2,
                               W=theano.shared(numpy.full((2, 2), 1e4, 'f'), name='W'))
        cost, _ = model.get_cost_updates(0.1)
        value = theano.function([x], [cost, *T.grad(cost, model.params)])(
            numpy.array([[1., 0.]], 'f'))
        # Both units are on and reconstruct (1, 1): the wrong pixel costs its activation, 2e4.
        self.assertEqual(float(value[0]), 2e4)
        self.assertTrue(all(numpy.isfinite(v).all() for v in value))

    def test_updates_descend_by_the_gradient(self):
        with in_float64():
            model, _ = self.model(dA.AutoEncoder)
            cost, updates = model.get_cost_updates(0.25)
            moved = theano.function([], [new for _, new in updates], mode=REFERENCE_MODE)()
            gradients = theano.function([], T.grad(cost, model.params), mode=REFERENCE_MODE)()
        for param, new, gradient in zip(model.params, moved, gradients, strict=True):
            numpy.testing.assert_allclose(new, param.get_value() - 0.25 * gradient)

    def test_order_of_draws(self):
        rng = numpy.random.RandomState(9)
        rng.randint(2 ** 30)  # the seed of the corruption comes first
        bound = 4 * numpy.sqrt(6 / (5 + 3))
        expected = rng.uniform(-bound, bound, (5, 3))
        model = dA.dA(numpy.random.RandomState(9), n_visible=5, n_hidden=3)
        numpy.testing.assert_allclose(model.W.get_value(), expected, rtol=1e-6)


class TestDenoising(TestCase):
    def test_corruption_masks_with_its_probability(self):
        model = dA.dA(numpy.random.RandomState(0), n_visible=100, n_hidden=3)
        images = numpy.random.RandomState(1).uniform(.1, 1, (200, 100)).astype('f')
        for level in (0., .3):
            corrupted = model.get_corrupted_input(model.x, level)
            corrupt = theano.function([model.x], corrupted,
                                      updates=draws.random_updates(corrupted))
            first, second = (numpy.asarray(corrupt(images)) for _ in range(2))
            kept = first != 0
            numpy.testing.assert_array_equal(first[kept], images[kept])
            n = images.size
            self.assertLessEqual(abs(1 - kept.mean() - level),
                                 5 * numpy.sqrt(level * (1 - level) / n))
            self.assertEqual(bool(numpy.array_equal(first, second)), level == 0)

    def test_cost_compares_with_the_clean_input(self):
        model = dA.dA(numpy.random.RandomState(0), n_visible=6, n_hidden=4)
        cost, _ = model.get_cost_updates(1., 0.1)  # everything is put out
        images = numpy.random.RandomState(1).uniform(size=(3, 6)).astype('f')
        z = sigmoid(sigmoid(numpy.zeros((1, 4))) @ model.W.get_value().T)
        expected = -(images * numpy.log(z) + (1 - images) * numpy.log(1 - z)).sum(1).mean()
        self.assertAlmostEqual(float(theano.function([model.x], cost)(images)), expected, 4)

    def test_cost_of_mean_image(self):
        images = numpy.array([[0, 1, 0, 1], [0, 1, 1, .5]], 'f')
        # two pixels are always the same; the others have means 1/2 and 3/4
        entropy = numpy.log(2) - .75 * numpy.log(.75) - .25 * numpy.log(.25)
        self.assertAlmostEqual(dA.cost_of_mean_image(images), entropy)


class TestTraining(TestCase):
    def test_learns_and_draws_both_sets_of_filters(self):
        with mock.patch('support.datasets.read', return_value=small_images()), printed() as output:
            result = dA.train(training_epochs=8, n_hidden=100,
                              output_folder=str(self.folder / 'run'))
        costs = {name: [row['cost'] for row in result.history if row['stage'] == name]
                 for name in ('corruption 0 %', 'corruption 30 %')}
        for name, values in costs.items():
            self.assertEqual(len(values), 8)
            self.assertLess(values[-1], .6 * values[0], name)
        self.assertGreater(costs['corruption 30 %'][-1], costs['corruption 0 %'][-1])
        for percent in (0, 30):
            with Image.open(self.folder / 'run' / f'filters_corruption_{percent}.png') as picture:
                self.assertEqual(picture.size, (79, 79))
        self.assertRegex(output.getvalue(), r'(?m)^Training epoch 0, cost \d+\.\d+$')
        self.assertAlmostEqual(result.scores['cost_corruption_30'], costs['corruption 30 %'][-1])
        baseline = dA.cost_of_mean_image(small_images().train[0])
        self.assertIn(f'would cost {baseline:.1f} nats', output.getvalue())
        self.assertLess(result.scores['cost_corruption_30'], baseline)

