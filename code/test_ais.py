"""Tests of ais: its estimates against sums over all states of small models."""

import dataclasses
import io
import json
import unittest
from unittest import mock

import numpy
import pytensor as theano
from scipy.special import expit, logsumexp

import ais
import DBN
import rbm
from support.errors import UserError
from support.testing import TestCase, mnist_is_here, printed, slow, small_images
from test_rbm import N_HIDDEN, N_VISIBLE, joint, parameters, small_rbm, states


def larger_rbm(n_visible=12, n_hidden=9, scale=1., seed=0):
    """An RBM with more than one mode, and still small enough to sum over."""
    machine = rbm.RBM(n_visible=n_visible, n_hidden=n_hidden)
    rng = numpy.random.RandomState(seed)
    for param in machine.params:
        param.set_value(rng.normal(scale=scale, size=param.get_value().shape)
                        .astype(theano.config.floatX))
    return machine


class TestExact(TestCase):
    def test_sum_over_all_states(self):
        machine = small_rbm()
        W, c, b = parameters(machine)
        v, h = states(N_VISIBLE), states(N_HIDDEN)
        log_z = logsumexp((v @ b)[:, None] + (h @ c)[None, :] + v @ W @ h.T)
        self.assertAlmostEqual(ais.exact_log_partition(machine), log_z, 10)

    def test_either_layer_may_be_the_smaller(self):
        machine = larger_rbm(11, 4)
        W, c, b = (param.get_value() for param in machine.params)
        swapped = rbm.RBM(n_visible=4, n_hidden=11)
        for param, value in zip(swapped.params, (W.T, b, c), strict=True):
            param.set_value(value)
        self.assertAlmostEqual(ais.exact_log_partition(machine),
                               ais.exact_log_partition(swapped), 10)

    def test_too_many_units(self):
        with self.assertRaisesRegex(UserError, '21 units'):
            ais.exact_log_partition(rbm.RBM(n_visible=30, n_hidden=21))

    def test_free_energies_normalise(self):
        machine = small_rbm()
        log_p = -ais.free_energies(machine, states(N_VISIBLE)) - ais.exact_log_partition(machine)
        numpy.testing.assert_allclose(numpy.exp(log_p), joint(machine).sum(1))


class TestEstimates(TestCase):
    def test_interval_of_a_mean(self):
        values = numpy.random.RandomState(0).normal(3, 2, size=400)
        estimate = ais.mean_estimate(values)
        self.assertAlmostEqual(estimate.value, values.mean())
        self.assertAlmostEqual(estimate.high - estimate.value, .3, 1)  # 3 * 2 / sqrt(400)
        self.assertAlmostEqual(estimate.value - estimate.low, estimate.high - estimate.value)

    def test_logarithm_of_a_mean(self):
        logs = numpy.random.RandomState(0).normal(size=1000) - 5000  # exp would be 0
        estimate = ais.log_mean_estimate(logs)
        self.assertAlmostEqual(estimate.value, logsumexp(logs) - numpy.log(1000))
        self.assertTrue(estimate.low < estimate.value < estimate.high)
        # one weight that outdoes all others says nothing about the mean
        self.assertEqual(ais.log_mean_estimate(numpy.array([0., -99., -99.])).low, -numpy.inf)

    def test_difference(self):
        difference = ais.Estimate(5, 1, 8).minus(ais.Estimate(2, -2, 5))
        self.assertEqual(difference, ais.Estimate(3, 3 - 5, 3 + 5))  # 3, 4 -> 5 each

    def test_one_value_says_nothing_of_its_error(self):
        self.assertEqual(ais.mean_estimate(numpy.array([2.])),
                         ais.Estimate(2., -numpy.inf, numpy.inf))

    def test_ratio_of_sums(self):
        """Against the spread of ratios of resampled pairs."""
        rng = numpy.random.RandomState(0)
        either = rng.poisson(5, size=300).astype('float64')
        common = rng.binomial(either.astype(int), .3).astype('float64')
        estimate = ais.ratio_estimate(common, either)
        self.assertAlmostEqual(estimate.value, common.sum() / either.sum(), 12)
        resampled = rng.randint(300, size=(4000, 300))
        spread = numpy.std(common[resampled].sum(1) / either[resampled].sum(1))
        self.assertAlmostEqual((estimate.high - estimate.value) / (3 * spread), 1, 1)
        self.assertEqual(ais.ratio_estimate(numpy.zeros(3), numpy.zeros(3)).value, 0)

    def test_temperatures(self):
        betas = ais.inverse_temperatures(14500)
        self.assertEqual([betas[i] for i in (0, 500, 4500, 14500)], [0, .5, .9, 1])
        self.assertTrue((numpy.diff(betas) > 0).all())
        self.assertEqual(len(ais.inverse_temperatures(7)), 8)

    def test_base_rates(self):
        images = numpy.array([[0, 1, 1], [0, 1, 0]])
        p = expit(ais.base_rate_biases(images))
        numpy.testing.assert_allclose(p, [.5 / 3, 2.5 / 3, .5])


class TestAIS(TestCase):
    def test_partition_function(self):
        for seed, base in enumerate((numpy.zeros(12), numpy.linspace(-1, 1, 12))):
            machine = larger_rbm(seed=seed)
            exact = ais.exact_log_partition(machine)
            estimate = ais.ais_log_partition(machine, base, 200, 400, seed=seed)
            self.assertTrue(estimate.low < exact < estimate.high, (exact, estimate))
            self.assertLess(estimate.high - estimate.low, 1)
        hasty = ais.ais_log_partition(machine, base, 200, 10)
        self.assertLess(estimate.high - estimate.value, (hasty.high - hasty.value) / 2)

    def test_model_without_weights_is_exact(self):
        machine = larger_rbm()
        W, _, b = machine.params
        W.set_value(numpy.zeros_like(W.get_value()))
        base = numpy.asarray(b.get_value(), 'float64')
        exact = ais.exact_log_partition(machine)
        # only the hidden biases differ, and they do not depend on v
        estimate = ais.ais_log_partition(machine, base, 10, 20)
        self.assertAlmostEqual(estimate.value, exact, 3)
        self.assertAlmostEqual(estimate.high, exact, 3)

    def annealed(self, biases, n_chains=6, n_temperatures=40):
        machine = larger_rbm()
        annealing = ais.Annealing(machine.W, *biases, numpy.linspace(0, 1, n_temperatures + 1),
                                  n_chains, seed=3)
        rng = numpy.random.RandomState(1)
        p = numpy.broadcast_to(expit(biases[2]), (n_chains, 12))
        log_weights, ends = annealing.run(ais.binarized(p, rng), 'AIS')
        return log_weights + ais.log_partition_of_base(*biases[2:]), ends

    def test_biases_of_each_chain(self):
        """Chains with the same biases, given once or for each of them."""
        rng = numpy.random.RandomState(0)
        shared = [rng.normal(size=n) for n in (12, 9, 12, 9)]
        log_weights, ends = self.annealed(shared)
        self.assertGreater(log_weights.std(), 0)
        for which in ((0, 1, 2, 3), (0,), (3,)):
            biases = [numpy.tile(bias, (6, 1)) if i in which else bias
                      for i, bias in enumerate(shared)]
            log_weights_of_each, ends_of_each = self.annealed(biases)
            numpy.testing.assert_allclose(log_weights_of_each, log_weights, rtol=1e-4)
            numpy.testing.assert_array_equal(ends_of_each, ends)

    def test_models_side_by_side(self):
        """Three models that differ in all biases, and so do the models to start from."""
        rng = numpy.random.RandomState(0)
        machine, n_chains = larger_rbm(), 300
        biases = [rng.normal(scale=2, size=(3, n)) for n in (12, 9, 12, 9)]
        log_weights, _ = self.annealed([numpy.repeat(bias, n_chains, axis=0) for bias in biases],
                                       3 * n_chains, 300)
        for i, log_weights_of_model in enumerate(log_weights.reshape(3, n_chains)):
            for param, bias in ((machine.vbias, biases[0]), (machine.hbias, biases[1])):
                param.set_value(bias[i].astype(param.dtype))
            exact = ais.exact_log_partition(machine)
            estimate = ais.log_mean_estimate(log_weights_of_model)
            self.assertTrue(estimate.low < exact < estimate.high, (exact, estimate))
            self.assertLess(estimate.high - estimate.low, 1)

    def test_same_seed_same_estimate(self):
        first, second = (ais.ais_log_partition(larger_rbm(), numpy.zeros(12), 20, 30, 1)
                         for _ in range(2))
        self.assertEqual(first, second)

    def test_reverse_is_conservative_and_close(self):
        machine = larger_rbm()
        log_z = ais.exact_log_partition(machine)
        v = states(12)
        p = numpy.exp(-ais.free_energies(machine, v) - log_z)
        images = v[numpy.random.RandomState(0).choice(len(v), size=1000, p=p / p.sum())]
        exact = float(numpy.mean(-ais.free_energies(machine, images) - log_z))
        few, many = (ais.reverse_ais_log_likelihood(machine, numpy.zeros(12), images, n)
                     for n in (20, 1000))
        self.assertLess(few.value, exact)
        self.assertLess(abs(many.value - exact), .15)
        self.assertLess(abs(many.value - exact), abs(few.value - exact))


class TestLowerBound(TestCase):
    def test_below_the_exact_likelihood_of_a_dbn(self):
        """Two layers, 4 - 3 - 2, summed over all their states."""
        bottom, top = small_rbm(1), rbm.RBM(n_visible=N_HIDDEN, n_hidden=2)
        rng = numpy.random.RandomState(2)
        for param in top.params:
            param.set_value(rng.normal(size=param.get_value().shape).astype('float32'))
        W, _, b = parameters(bottom)
        v, h = states(N_VISIBLE), states(N_HIDDEN)
        log_z = ais.exact_log_partition(top)
        log_p_h = -ais.free_energies(top, h) - log_z
        down = h @ W.T + b
        log_p_v_h = v @ down.T - numpy.logaddexp(0, down).sum(1)
        exact = logsumexp(log_p_v_h + log_p_h, axis=1)
        # the bound with the expectation over q summed out
        p_h = expit(v @ W + parameters(bottom)[1])
        q = numpy.prod(numpy.where(h[None], p_h[:, None], 1 - p_h[:, None]), axis=2)
        bound = (q * (log_p_v_h + log_p_h - numpy.log(q))).sum(1)
        self.assertTrue((bound < exact).all())

        z = ais.Estimate(log_z, log_z, log_z)
        estimate = ais.dbn_lower_bound([bottom, top], z, v, n_draws=4000)
        self.assertAlmostEqual(estimate.value, bound.mean(), 1)
        self.assertLess(estimate.value, exact.mean())

    def test_of_one_layer_is_the_likelihood(self):
        machine = small_rbm()
        log_z = ais.exact_log_partition(machine)
        z = ais.Estimate(log_z, log_z, log_z)
        estimate = ais.dbn_lower_bound([machine], z, states(N_VISIBLE))
        self.assertAlmostEqual(estimate.value, numpy.log(joint(machine).sum(1)).mean(), 5)


class TestCommand(TestCase):
    def run_on(self, train, **settings):
        folder = str(self.folder / 'run')
        with mock.patch('support.datasets.read', return_value=small_images()), \
                printed() as output:
            train(folder)
            results = ais.log_likelihood(folder, n_chains=50, n_temperatures=2000, **settings)
        return results, output.getvalue()

    def test_of_an_rbm(self):
        results, output = self.run_on(lambda folder: rbm.test_rbm(
            n_hidden=10, k=1, training_epochs=3, n_chains=2, n_samples=1, plot_every=1,
            output_folder=folder), n_reverse=40)
        exact, estimate = results['exact log Z'].value, results['log Z']
        self.assertTrue(estimate.low < exact < estimate.high)
        likelihood, forward, reverse = (results[name].value for name in (
            'log-probability', 'log-probability of the chosen',
            'log-probability of the chosen, reverse AIS'))
        self.assertLess(likelihood, 0)
        self.assertLess(abs(forward - reverse), 1)  # on the same images
        self.assertIn('average test log-probability by AIS: -', output)
        record = json.loads((self.folder / 'run' / 'ais.json').read_text())
        self.assertEqual(record['nats']['log-probability']['value'], likelihood)
        self.assertEqual(record['n_reverse'], 40)

    def test_all_images_chosen(self):
        results, _ = self.run_on(lambda folder: rbm.test_rbm(
            n_hidden=4, k=1, training_epochs=0, n_chains=2, n_samples=1, plot_every=1,
            output_folder=folder), n_reverse=10_000)
        # their order is another, and so is that of the sum
        self.assertAlmostEqual(results['log-probability'].value,
                               results['log-probability of the chosen'].value, 9)
        self.assertEqual(json.loads((self.folder / 'run' / 'ais.json').read_text())['n_reverse'],
                         len(small_images().test[0]))

    def test_other_data_than_that_of_the_training(self):
        folder = str(self.folder / 'run')
        images = small_images()
        with mock.patch('support.datasets.read', return_value=images), printed():
            rbm.test_rbm(n_hidden=4, k=1, training_epochs=0, n_chains=2, n_samples=1, plot_every=1,
                         output_folder=folder)
        other = dataclasses.replace(images, name='other.npz', sha256='1')
        with mock.patch('support.datasets.read', return_value=other):
            with self.assertRaisesRegex(UserError, f'trained on {images.name}, which other.npz is '
                                                   'not: .*--dataset'):
                ais.log_likelihood(folder)
            with printed() as output, mock.patch('sys.stderr', io.StringIO()) as errors:
                ais.log_likelihood(folder, dataset='other.npz', n_temperatures=2, n_chains=1,
                                   n_reverse=0)
        self.assertRegex(errors.getvalue(), r'NOTICE: .* is measured on other.npz\n\Z')
        self.assertIn('The data set was other.npz', output.getvalue())
        # A single chain says nothing of the error; JSON has no number for that.
        nats = json.loads((self.folder / 'run' / 'ais.json').read_text())['nats']
        self.assertIsNone(nats['log Z']['low'])
        self.assertIsNone(nats['log Z']['high'])

    def test_of_a_dbn(self):
        results, output = self.run_on(lambda folder: DBN.test_DBN(
            hidden_layers_sizes=(12, 8), pretraining_epochs=2, training_epochs=1,
            output_folder=folder))
        self.assertTrue(results['log Z'].low < results['exact log Z'].value < results['log Z'].high)
        self.assertIn('average test lower bound by AIS: -', output)

    def test_models_that_it_is_not_for(self):
        with self.assertRaisesRegex(UserError, 'Gaussian'):
            self.run_on(lambda folder: rbm.test_rbm(
                n_hidden=4, training_epochs=0, n_chains=2, n_samples=1, plot_every=1,
                gaussian=True, output_folder=folder))
        with self.assertRaisesRegex(UserError, 'there is no .*run.json'):
            ais.log_likelihood(self.folder / 'nowhere')
        with self.assertRaisesRegex(UserError, '--n-chains is 0'):
            ais.log_likelihood(self.folder, n_chains=0)

    @slow
    @unittest.skipUnless(mnist_is_here(), 'MNIST is not in $DLT_DATA_DIR')
    def test_mnist_with_enumerable_hidden_units(self):
        folder = str(self.folder / 'mnist')
        with printed():
            rbm.test_rbm(n_hidden=10, k=1, training_epochs=1, n_chains=2, n_samples=1,
                         plot_every=1, output_folder=folder)
            results = ais.log_likelihood(folder, n_chains=100, n_temperatures=1000, n_reverse=0)
        estimate = results['log Z']
        self.assertTrue(estimate.low < results['exact log Z'].value < estimate.high)
        # about as good as independent pixels, -206 nats; large models come to -90
        self.assertTrue(-230 < results['log-probability'].value < -150)
