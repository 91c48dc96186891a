"""Tests of gaussian.py, and of the sampler in full on its target."""

import importlib.util
import os
import subprocess
import sys
import unittest
import warnings
from unittest import mock

# hmc comes first: it shows Python the way to `support`.
from hmc import HMC_sampler, sharedX

# isort: split
from support.errors import UserError
from support.testing import CODE_FOLDER, TestCase, printed, slow

import numpy

import gaussian
from test_hmc import deviation, products, standard_error


def sampler_on_nd_gaussian(sampler_cls, burnin, n_samples, dim=10):
    """Let a new sampler draw from a Gaussian, and print the moments.

    :return: the sampler, the samples, and the mean and covariance that they should have
    """
    rng = numpy.random.RandomState(123)
    mean, cov = gaussian.gaussian_target(rng, dim)
    sampler = sampler_cls(sharedX(rng.randn(3, dim)), gaussian.gaussian_energy(mean, cov),
                          initial_stepsize=1e-3, stepsize_max=0.5)
    sampler.sample(burnin)
    samples = sampler.sample(n_samples)
    gaussian.print_moments(sampler, samples, mean, cov)
    return sampler, samples, mean, cov


class TestSampler(TestCase):
    def test_hmc(self):
        with printed():
            sampler, samples, mean, cov = sampler_on_nd_gaussian(
                HMC_sampler.new_from_shared_positions, burnin=1000, n_samples=1000, dim=5)
        self.assertEqual(samples.positions.shape, (1000, 3, 5))
        centred = samples.positions.astype('float64') - mean
        self.assertLess(numpy.abs(deviation(centred, 0)).max(), 5)
        self.assertLess(numpy.abs(deviation(products(centred), cov)).max(), 5)
        # The bounds mean something: errors of the mean are far below the standard deviation 1.
        self.assertLess(standard_error(centred).max(), 0.05)

        self.assertLess(abs(samples.accepted.mean() - sampler.target_acceptance_rate), 0.05)
        self.assertLess(abs(sampler.avg_acceptance_rate.get_value() - 0.9), 0.1)
        self.assertGreaterEqual(samples.stepsizes.min(), sampler.stepsize_min)
        self.assertLessEqual(samples.stepsizes.max(), sampler.stepsize_max)
        self.assertTrue(0.3 < samples.stepsizes.mean() < 0.5, samples.stepsizes.mean())

    def test_target_in_any_dimension(self):
        for dim in (1, 2, 5, 10, 50):
            mean, cov = gaussian.gaussian_target(numpy.random.RandomState(123), dim)
            self.assertEqual((mean.shape, cov.shape), ((dim,), (dim, dim)))
            numpy.testing.assert_array_equal(numpy.diag(cov), 1)
            numpy.testing.assert_array_equal(cov, cov.T)
            self.assertGreater(numpy.linalg.eigvalsh(cov)[0], 0.099)


class TestDiagnostics(TestCase):
    def test_without_arviz(self):
        with mock.patch.dict(sys.modules, {'arviz': None}), \
                self.assertRaisesRegex(UserError, 'pip install arviz'):
            gaussian.diagnostics(numpy.zeros((10, 2, 1)))

    @unittest.skipUnless(importlib.util.find_spec('arviz'), 'ArviZ is not installed')
    def test_with_arviz(self):
        warnings.simplefilter('ignore')  # other people's
        independent = numpy.random.RandomState(0).randn(1000, 4, 2).astype('float32')
        result = gaussian.diagnostics(independent)
        numpy.testing.assert_allclose(result['ess'], 4000, rtol=0.15)
        numpy.testing.assert_allclose(result['r_hat'], 1, atol=0.005)
        # Repeated ten times, the draws are no more than before; apart, the chains do not agree.
        result = gaussian.diagnostics(numpy.repeat(independent, 10, axis=0))
        numpy.testing.assert_allclose(result['ess'], 4000, rtol=0.2)
        apart = independent + numpy.arange(4)[:, None]
        self.assertGreater(gaussian.diagnostics(apart)['r_hat'].min(), 1.5)


class TestScript(TestCase):
    def run_script(self, *arguments, flags=''):
        return subprocess.run(
            [sys.executable, '-W', 'error', CODE_FOLDER / 'hmc' / 'gaussian.py', *arguments],
            cwd=self.folder, capture_output=True, text=True,
            env=os.environ | {'PYTENSOR_FLAGS': flags})

    def test_from_another_folder_in_float64(self):
        self.check_script('floatX=float64')

    @slow
    def test_from_another_folder_in_numba_mode(self):
        self.check_script('floatX=float64,mode=NUMBA')

    def check_script(self, flags):
        run = self.run_script('--dim', '2', '--burnin', '500', '--n-samples', '2000', flags=flags)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn('****** EMPIRICAL MEAN/COV USING HMC ******\nempirical mean: [', run.stdout)
        self.assertRegex(run.stderr, r'\AThe code for file gaussian.py ran for \d+\.\d\dm\n\Z')
        folder = self.folder / 'hmc_output'
        self.assertEqual(set(os.listdir(folder)) - {'.lock'},
                         {'samples.npz', 'trace.png', 'run.json'})
        self.assertTrue((folder / 'trace.png').read_bytes().startswith(b'\x89PNG'))
        with numpy.load(folder / 'samples.npz', allow_pickle=False) as samples:
            self.assertEqual(samples['positions'].dtype, 'float64')
            self.assertEqual(samples['positions'].shape, (2000, 3, 2))
            centred = samples['positions'] - samples['mean']
            self.assertLess(numpy.abs(deviation(centred, 0)).max(), 5)
            self.assertLess(numpy.abs(deviation(products(centred), samples['cov'])).max(), 5)
            self.assertLess(abs(samples['accepted'].mean() - 0.9), 0.1)

    def test_printed_form(self):
        with printed() as output:
            samples = gaussian.sample_gaussian(dim=1, burnin=0, n_samples=3, n_steps=1,
                                               output_folder=str(self.folder / 'a' / 'b'))
        self.assertEqual(samples.positions.shape, (3, 3, 1))
        for line in ('****** TARGET VALUES ******', 'target mean: [', 'target cov:',
                     'empirical cov:', '****** HMC INTERNALS ******', 'final stepsize 0.',
                     'final acceptance rate '):
            self.assertIn(line, output.getvalue())

    def test_mistakes(self):
        with self.assertRaisesRegex(UserError, '`n_samples` is 0, but has to be from 1 to'):
            gaussian.sample_gaussian(n_samples=0)
        with self.assertRaisesRegex(UserError, '`burnin` is -1, but has to be from 0 to'):
            gaussian.sample_gaussian(burnin=-1)
