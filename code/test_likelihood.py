"""Tests of likelihood: the bound of a DBN against sums over all states, and the script."""

import dataclasses
import io
import json
from unittest import mock

from support.errors import UserError
from support.estimates import Estimate
from support.testing import TestCase, printed, small_images

import numpy
from scipy.special import expit, logsumexp

import ais
import DBN
import gaussian_rbm
import likelihood
import rbm
from test_rbm import N_HIDDEN, N_VISIBLE, joint, parameters, small_rbm, states


class TestLowerBound(TestCase):
    def test_below_the_exact_likelihood_of_a_dbn(self):
        """Two layers, 4 - 3 - 2, summed over all their states."""
        bottom, top = small_rbm(1), rbm.RBM(n_visible=N_HIDDEN, n_hidden=2)
        rng = numpy.random.RandomState(2)
        for param in top.params:
            param.set_value(rng.normal(size=param.get_value().shape).astype('float32'))
        W, c, b = parameters(bottom)
        v, h = states(N_VISIBLE), states(N_HIDDEN)
        log_z = ais.exact_log_partition(top)
        log_p_h = -ais.free_energies(top, h) - log_z
        down = h @ W.T + b
        log_p_v_h = v @ down.T - numpy.logaddexp(0, down).sum(1)
        exact = logsumexp(log_p_v_h + log_p_h, axis=1)
        # the bound with the expectation over q summed out
        p_h = expit(v @ W + c)
        q = numpy.prod(numpy.where(h[None], p_h[:, None], 1 - p_h[:, None]), axis=2)
        bound = (q * (log_p_v_h + log_p_h - numpy.log(q))).sum(1)
        self.assertTrue((bound < exact).all())

        z = Estimate(log_z, log_z, log_z)
        estimate = likelihood.dbn_lower_bound([bottom, top], z, v, n_draws=4000)
        self.assertAlmostEqual(estimate.value, bound.mean(), 1)
        self.assertLess(estimate.value, exact.mean())

    def test_of_one_layer_is_the_likelihood(self):
        machine = small_rbm()
        log_z = ais.exact_log_partition(machine)
        z = Estimate(log_z, log_z, log_z)
        estimate = likelihood.dbn_lower_bound([machine], z, states(N_VISIBLE))
        self.assertAlmostEqual(estimate.value, numpy.log(joint(machine).sum(1)).mean(), 5)


class TestScript(TestCase):
    def setUp(self):
        super().setUp()
        self.model = self.folder / 'run'

    def train_rbm(self, **settings):
        settings = {'n_hidden': 4, 'k': 1, 'training_epochs': 0} | settings
        with mock.patch('support.datasets.read', return_value=small_images()), printed():
            rbm.test_rbm(n_chains=2, n_samples=1, plot_every=1, output_folder=str(self.model),
                         **settings)

    def measure(self, data=None, **settings):
        """What the script returns, prints and writes."""
        with mock.patch('support.datasets.read', return_value=data or small_images()), \
                printed() as output:
            results = likelihood.log_likelihood(self.model, **settings)
        return results, output.getvalue(), json.loads((self.model / 'ais.json').read_text())

    def check_log_z(self, results):
        exact, estimate = results['exact log Z'].value, results['log Z']
        self.assertTrue(estimate.low < exact < estimate.high, (exact, estimate))

    def test_rbm(self):
        self.train_rbm(n_hidden=10, training_epochs=3)
        results, output, record = self.measure(n_chains=50, n_temperatures=2000, n_reverse=40)
        self.check_log_z(results)
        value, forward, reverse = (results[name].value for name in (
            'log-probability', 'log-probability of the chosen',
            'log-probability of the chosen, reverse AIS'))
        self.assertLess(value, 0)
        self.assertLess(abs(forward - reverse), 1)  # on the same images
        self.assertIn('average test log-probability by AIS: -', output)
        self.assertEqual(record['nats']['log-probability']['value'], value)
        self.assertEqual(record['n_reverse'], 40)

    def test_dbn(self):
        with mock.patch('support.datasets.read', return_value=small_images()), printed():
            DBN.test_DBN(hidden_layers_sizes=(12, 8), pretraining_epochs=2, training_epochs=1,
                         output_folder=str(self.model))
        results, output, _ = self.measure(n_chains=50, n_temperatures=2000)
        self.check_log_z(results)
        self.assertIn('average test lower bound by AIS: -', output)

    def test_all_images_and_other_data_than_that_of_the_training(self):
        self.train_rbm()
        results, _, record = self.measure(n_chains=2, n_temperatures=2, n_reverse=10_000)
        # their order is another, and so is that of the sum
        self.assertAlmostEqual(results['log-probability'].value,
                               results['log-probability of the chosen'].value, 9)
        self.assertEqual(record['n_reverse'], len(small_images().test[0]))

        images = small_images()
        other = dataclasses.replace(images, name='other.npz', sha256='1')
        with self.assertRaisesRegex(UserError, f'trained on {images.name}, which other.npz is '
                                               'not: .*dataset'):
            self.measure(other)
        with mock.patch('sys.stderr', io.StringIO()) as errors:
            _, output, record = self.measure(other, dataset='other.npz', n_temperatures=2,
                                             n_chains=1, n_reverse=0)
        self.assertRegex(errors.getvalue(), r'NOTICE: .* is measured on other.npz\n\Z')
        self.assertIn('The data set was other.npz', output)
        # A single chain says nothing of the error; JSON has no number for that.
        self.assertIsNone(record['nats']['log Z']['low'])
        self.assertIsNone(record['nats']['log Z']['high'])

    def test_models_and_settings_that_it_is_not_for(self):
        with self.assertRaisesRegex(UserError, 'there is no .*run.json'):
            self.measure()
        for name in ('n_chains', 'n_reverse'):
            with self.assertRaisesRegex(UserError, f'{name[0]}.{name[2:]}`? is -1'):
                self.measure(**{name: -1})
        with mock.patch('support.datasets.read', return_value=small_images()), printed():
            gaussian_rbm.train(n_hidden=4, training_epochs=0, n_chains=2, n_samples=1,
                               plot_every=1, output_folder=str(self.model))
        with self.assertRaisesRegex(UserError, 'run of gaussian_rbm.py, not of rbm.py or DBN.py'):
            self.measure()
