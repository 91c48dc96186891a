"""Tests of gaussian_rbm."""

from unittest import mock

from support import checkpoints, draws
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
from scipy.special import logsumexp

import gaussian_rbm
from gaussian_rbm import GaussianRBM, standardize
from logistic_sgd import SharedDataSets
from test_rbm import N_HIDDEN, N_VISIBLE, evaluate, parameters, small_rbm, states


class TestModel(TestCase):
    def test_free_energy_integrates_out_the_hidden_units(self):
        v = numpy.random.RandomState(3).normal(size=(5, N_VISIBLE))
        with in_float64():
            machine = small_rbm(model=GaussianRBM)
            free_energy = evaluate(machine.free_energy(T.constant(v)))
        W, c, b = parameters(machine)
        h = states(N_HIDDEN)
        expected = [-logsumexp(-((row - b) ** 2).sum() / 2 + h @ c + row @ W @ h.T) for row in v]
        numpy.testing.assert_allclose(free_energy, expected)

    def test_samples_of_the_conditional(self):
        machine = small_rbm(model=GaussianRBM)
        h = numpy.repeat([[1., 0., 1.]], 20000, axis=0).astype('float32')
        mean, same, sample = machine.sample_v_given_h(T.constant(h))
        self.assertIs(mean, same)
        draws = numpy.asarray(theano.function([], sample)())
        W, _, b = parameters(machine)
        error = 5 / numpy.sqrt(20000)
        numpy.testing.assert_allclose(draws.mean(0), b + W[:, 0] + W[:, 2], atol=error)
        numpy.testing.assert_allclose(numpy.cov(draws.T), numpy.eye(N_VISIBLE), atol=2 * error)

    def test_extreme_weights_give_finite_numbers(self):
        images = numpy.random.RandomState(0).normal(size=(6, N_VISIBLE)).astype('float32')
        for persistent in (None, theano.shared(numpy.zeros((6, N_HIDDEN), 'float32'))):
            machine = small_rbm(input=T.matrix('x'), scale=1e4, model=GaussianRBM)
            cost, updates = machine.get_cost_updates(0.1, persistent)
            free_energy = machine.free_energy(machine.input)
            step = theano.function([machine.input], [cost, free_energy], updates=updates)
            for value in step(images):
                self.assertTrue(numpy.isfinite(value).all())
            for param in machine.params:
                self.assertTrue(numpy.isfinite(param.get_value()).all())

    def test_gradient_of_contrastive_divergence(self):
        """That of the mean difference of free energies, the ends of the chains held constant."""
        ends = []

        def chain(*arguments, **kwargs):
            outputs, updates = whole_chain(*arguments, **kwargs)
            ends.append(outputs[2])
            return outputs, updates

        whole_chain = draws.chain
        with in_float64(), mock.patch('support.draws.chain', chain):
            data = T.constant(numpy.random.RandomState(4).normal(size=(7, N_VISIBLE)))
            machine = small_rbm(model=GaussianRBM, input=data)
            updates = dict(machine.get_cost_updates(0.5)[1])
            steps = [(param - updates[param]) / 0.5 for param in machine.params]
            end, *gradients = theano.function([], [*ends, *steps], mode=REFERENCE_MODE)()
            self.assertEqual(end.shape, (7, N_VISIBLE))
            cost = (T.mean(machine.free_energy(data))
                    - T.mean(machine.free_energy(T.constant(end))))
            self.assertLess(finite_difference_error(
                cost, machine.params, [T.constant(gradient) for gradient in gradients]), 1e-6)

    def test_standardize(self):
        data = SharedDataSets(small_images())
        raw = [numpy.asarray(x.get_value(), dtype='float64') for x, _ in data]
        train, valid, _ = (numpy.asarray(x.get_value()) for x, _ in standardize(data))
        numpy.testing.assert_allclose(train.mean(0), 0, atol=1e-5)
        self.assertAlmostEqual(train.var(0).mean(), 1, 5)
        scale = numpy.sqrt(raw[0].var(0).mean())
        numpy.testing.assert_allclose(valid, (raw[1] - raw[0].mean(0)) / scale, atol=1e-5)


class TestTraining(TestCase):
    def test_learns_and_is_loaded(self):
        folder = str(self.folder / 'run')
        with mock.patch('support.datasets.read', return_value=small_images()), printed() as output:
            result = gaussian_rbm.train(
                learning_rate=.005, training_epochs=12, n_hidden=100, k=2, n_chains=3,
                n_samples=2, plot_every=5, output_folder=folder)
        costs = [row['cost'] for row in result.history]
        self.assertGreater(costs[-1], costs[0] + .1 * abs(costs[0]))
        self.assertRegex(output.getvalue(), r'(?m)^Training epoch 0, cost is -\d+\.\d+$')
        # all three kinds of parameters have moved from where they began
        for param in result.model.params[1:]:
            self.assertGreater(numpy.abs(param.get_value()).max(), 1e-3)
        loaded = checkpoints.load(folder, gaussian_rbm.build)
        self.assertIsInstance(loaded, GaussianRBM)
        for param, other in zip(loaded.params, result.model.params, strict=True):
            numpy.testing.assert_array_equal(param.get_value(), other.get_value())
