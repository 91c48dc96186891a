"""Tests of ais: its estimates against sums over all states of small models."""

from support.errors import UserError
from support.estimates import Estimate, log_mean_estimate, mean_estimate, ratio_estimate
from support.testing import TestCase

import numpy
import pytensor as theano
from scipy.special import expit, logsumexp

import ais
import rbm
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
        log_p = -ais.free_energies(machine, v) - log_z
        numpy.testing.assert_allclose(numpy.exp(log_p), joint(machine).sum(1))

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


class TestEstimates(TestCase):
    def test_interval_of_a_mean(self):
        values = numpy.random.RandomState(0).normal(3, 2, size=400)
        estimate = mean_estimate(values)
        self.assertAlmostEqual(estimate.value, values.mean())
        self.assertAlmostEqual(estimate.high - estimate.value, .3, 1)  # 3 * 2 / sqrt(400)
        self.assertAlmostEqual(estimate.value - estimate.low, estimate.high - estimate.value)
        # a single value says nothing of its error
        self.assertEqual(mean_estimate(numpy.array([2.])), Estimate(2., -numpy.inf, numpy.inf))

    def test_logarithm_of_a_mean(self):
        logs = numpy.random.RandomState(0).normal(size=1000) - 5000  # exp would be 0
        estimate = log_mean_estimate(logs)
        self.assertAlmostEqual(estimate.value, logsumexp(logs) - numpy.log(1000))
        self.assertTrue(estimate.low < estimate.value < estimate.high)
        # one weight that outdoes all others says nothing about the mean
        self.assertEqual(log_mean_estimate(numpy.array([0., -99., -99.])).low, -numpy.inf)

    def test_difference(self):
        difference = Estimate(5, 1, 8).minus(Estimate(2, -2, 5))
        self.assertEqual(difference, Estimate(3, 3 - 5, 3 + 5))  # 3, 4 -> 5 each

    def test_ratio_of_sums(self):
        """Against the spread of ratios of resampled pairs."""
        rng = numpy.random.RandomState(0)
        either = rng.poisson(5, size=300).astype('float64')
        common = rng.binomial(either.astype(int), .3).astype('float64')
        estimate = ratio_estimate(common, either)
        self.assertAlmostEqual(estimate.value, common.sum() / either.sum(), 12)
        resampled = rng.randint(300, size=(4000, 300))
        spread = numpy.std(common[resampled].sum(1) / either[resampled].sum(1))
        self.assertAlmostEqual((estimate.high - estimate.value) / (3 * spread), 1, 1)
        self.assertEqual(ratio_estimate(numpy.zeros(3), numpy.zeros(3)).value, 0)

    def test_temperatures(self):
        betas = ais.inverse_temperatures(14500)
        self.assertEqual([betas[i] for i in (0, 500, 4500, 14500)], [0, .5, .9, 1])
        self.assertTrue((numpy.diff(betas) > 0).all())
        self.assertEqual(len(ais.inverse_temperatures(7)), 8)

    def test_base_rates(self):
        images = numpy.array([[0, 1, 1], [0, 1, 0]])
        p = expit(rbm.base_rate_biases(images))
        numpy.testing.assert_allclose(p, [.5 / 3, 2.5 / 3, .5])


class TestAIS(TestCase):
    def test_partition_function(self):
        for seed, base in enumerate((numpy.zeros(12), numpy.linspace(-1, 1, 12))):
            machine = larger_rbm(seed=seed)
            exact = ais.exact_log_partition(machine)
            estimate = ais.ais_log_partition(machine, base, 200, 400, seed=seed)
            self.assertTrue(estimate.low < exact < estimate.high, (exact, estimate))
            self.assertLess(estimate.high - estimate.low, 1)
        hasty, again = (ais.ais_log_partition(machine, base, 200, 10) for _ in range(2))
        self.assertLess(estimate.high - estimate.value, (hasty.high - hasty.value) / 2)
        self.assertEqual(hasty, again)

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
            estimate = log_mean_estimate(log_weights_of_model)
            self.assertTrue(estimate.low < exact < estimate.high, (exact, estimate))
            self.assertLess(estimate.high - estimate.low, 1)

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
