"""Tests of hmc.py: each part against its closed form, and the draws against known distributions.

Random results are compared with the truth in units of their Monte-Carlo standard error: what is
more than five of them away is an error of the sampler and not chance.
"""

import importlib.util
import os
import subprocess
import sys
import unittest
import unittest.mock
import warnings

import numpy
import pytensor as theano
import pytensor.tensor as T
import scipy.stats

import hmc
from hmc import HMC_sampler, sharedX
from support import engine
from support.errors import UserError
from support.testing import CODE_FOLDER, REFERENCE_MODE, TestCase, printed, slow


def standard_error(draws):
    """Of the mean of correlated draws, from the means of batches of 50 successive ones.

    :param draws: (n, n_chains, ...)
    :return: (...)
    """
    n_batches = len(draws) // 50
    batches = draws[:n_batches * 50].reshape(n_batches, 50, *draws.shape[1:]).mean(axis=1)
    batches = batches.reshape(-1, *draws.shape[2:])
    return batches.std(axis=0, ddof=1) / numpy.sqrt(len(batches))


def deviation(draws, truth):
    """How many standard errors the means of ``draws``, (n, n_chains, ...), are from the truth."""
    return (draws.mean(axis=(0, 1)) - truth) / standard_error(draws)


def products(centred):
    """All products of two coordinates, (n, n_chains, dim) to (n, n_chains, dim, dim)."""
    return centred[..., :, None] * centred[..., None, :]


def frozen_sampler(start, energy_fn, stepsize, n_steps, seed=1):
    """A sampler whose step size stays as it is."""
    return HMC_sampler.new_from_shared_positions(
        sharedX(start), energy_fn, initial_stepsize=stepsize, stepsize_max=stepsize,
        stepsize_inc=1., stepsize_dec=1., n_steps=n_steps, seed=seed)


def sampler_on_nd_gaussian(sampler_cls, burnin, n_samples, dim=10):
    """Let a new sampler draw from a Gaussian, and print the moments.

    :return: the sampler, the samples, and the mean and covariance that they should have
    """
    rng = numpy.random.RandomState(123)
    mean, cov = hmc.gaussian_target(rng, dim)
    sampler = sampler_cls(sharedX(rng.randn(3, dim)), hmc.gaussian_energy(mean, cov),
                          initial_stepsize=1e-3, stepsize_max=0.5)
    sampler.sample(burnin)
    samples = sampler.sample(n_samples)
    hmc.print_moments(sampler, samples, mean, cov)
    return sampler, samples, mean, cov


class TestGaussian(TestCase):
    def test_hmc(self):
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
            mean, cov = hmc.gaussian_target(numpy.random.RandomState(123), dim)
            self.assertEqual((mean.shape, cov.shape), ((dim,), (dim, dim)))
            numpy.testing.assert_array_equal(numpy.diag(cov), 1)
            numpy.testing.assert_array_equal(cov, cov.T)
            self.assertGreater(numpy.linalg.eigvalsh(cov)[0], 0.099)


def rough_energy(pos):
    """Neither harmonic nor separable."""
    return T.sum(pos ** 4, axis=1) / 4 + T.cos(2 * pos[:, 0] * pos[:, 1])


def rough_gradient(pos):
    """The gradient of :func:`rough_energy`, by hand."""
    return pos ** 3 - 2 * numpy.sin(2 * pos[:, :1] * pos[:, 1:]) * pos[:, ::-1]


def harmonic_energy(pos):
    return 0.5 * T.sum(T.sqr(pos), axis=1)


class TestLeapfrog(TestCase):
    """In float64 whatever floatX is."""

    def path(self, energy_fn, n_steps):
        """Compiled function from position, velocity and step size to the end of the path."""
        pos, vel, stepsize = T.dmatrix(), T.dmatrix(), T.dscalar()
        return theano.function(
            [pos, vel, stepsize], hmc.simulate_dynamics(pos, vel, stepsize, n_steps, energy_fn),
            mode=REFERENCE_MODE)

    def start(self, n_chains=4):
        rng = numpy.random.RandomState(0)
        return rng.randn(n_chains, 2), rng.randn(n_chains, 2)

    def test_the_equations_one_by_one(self):
        for n_steps in (1, 2, 7):
            pos, vel = start = self.start()
            for _ in range(n_steps):
                vel = vel - 0.1 / 2 * rough_gradient(pos)
                pos = pos + 0.1 * vel
                vel = vel - 0.1 / 2 * rough_gradient(pos)
            numpy.testing.assert_allclose(self.path(rough_energy, n_steps)(*start, 0.1),
                                          (pos, vel), rtol=1e-12)

    def test_reversible(self):
        path = self.path(rough_energy, 50)
        pos, vel = self.start()
        end, end_vel = path(pos, vel, 0.05)
        self.assertGreater(numpy.abs(end - pos).min(), 0.01)
        back, back_vel = path(end, -end_vel, 0.05)
        numpy.testing.assert_allclose(back, pos, atol=1e-11)
        numpy.testing.assert_allclose(-back_vel, vel, atol=1e-11)

    def test_second_order(self):
        pos, vel = self.start()
        errors = []
        for n_steps in (20, 40, 80):
            end, _ = self.path(harmonic_energy, n_steps)(pos, vel, 1 / n_steps)
            errors.append(numpy.abs(end - (pos * numpy.cos(1) + vel * numpy.sin(1))).max())
        for coarse, fine in zip(errors, errors[1:], strict=False):
            self.assertAlmostEqual(coarse / fine, 4, delta=0.01)

    def test_preserves_volume(self):
        # Eight chains, each a little off in one of four directions, give the Jacobian.
        off = 1e-5 * numpy.concatenate([numpy.eye(4), -numpy.eye(4)])
        starts = numpy.array([0.3, -0.7, 0.5, 1.1]) + off
        ends = numpy.hstack(self.path(rough_energy, 20)(starts[:, :2], starts[:, 2:], 0.2))
        jacobian = (ends[:4] - ends[4:]) / 2e-5
        self.assertGreater(numpy.abs(jacobian - numpy.eye(4)).max(), 0.5)
        self.assertAlmostEqual(numpy.linalg.det(jacobian), 1, delta=1e-7)

    def test_error_of_the_energy_is_bounded(self):
        # For the harmonic oscillator, leapfrog steps keep v^2 + (1 - stepsize^2 / 4) s^2 exactly,
        # so the energy cannot be further off than stepsize^2 / 8 max(s^2), however long the path.
        stepsize = 0.5
        pos, vel = self.start()
        kept = vel ** 2 + (1 - stepsize ** 2 / 4) * pos ** 2
        largest = (stepsize ** 2 / 8 * kept / (1 - stepsize ** 2 / 4)).sum(axis=1)
        for n_steps in (10, 333, 2000):
            end, end_vel = self.path(harmonic_energy, n_steps)(pos, vel, stepsize)
            numpy.testing.assert_allclose(
                end_vel ** 2 + (1 - stepsize ** 2 / 4) * end ** 2, kept, rtol=1e-10)
            change = 0.5 * (end ** 2 + end_vel ** 2 - pos ** 2 - vel ** 2).sum(axis=1)
            self.assertTrue((numpy.abs(change) < largest).all())

    def test_energy_that_contains_a_scan(self):
        def by_scan(pos):
            powers = theano.scan(lambda power: power * pos[:, 0], outputs_info=[pos[:, 0]],
                                 n_steps=3, return_updates=False)
            return powers[-1] / 4

        start = [T.constant(array[:, :1]) for array in self.start()]
        ends = [hmc.simulate_dynamics(*start, 0.1, 3, energy_fn)
                for energy_fn in (by_scan, lambda pos: pos[:, 0] ** 4 / 4)]
        numpy.testing.assert_allclose(*theano.function([], [T.stack(end) for end in ends])(),
                                      rtol=1e-4)


class TestMove(TestCase):
    def test_energies(self):
        pos, vel = numpy.array([[1., 2.], [0., 3.]]), numpy.array([[3., 4.], [1., 0.]])
        self.assertEqual(hmc.kinetic_energy(vel).eval(mode=REFERENCE_MODE).tolist(), [12.5, 0.5])
        total = hmc.hamiltonian(T.constant(pos), T.constant(vel), harmonic_energy)
        self.assertEqual(total.eval(mode=REFERENCE_MODE).tolist(), [15, 5])

    def test_frequency_of_acceptance(self):
        changes = numpy.array([-1000, -1, 0, 0.1, 1, 3, 1000, numpy.nan, numpy.inf])
        probabilities = numpy.array([1, 1, 1, *numpy.exp([-0.1, -1, -3]), 0, 0, 0])
        change = T.constant(numpy.tile(changes, (10000, 1)).astype(theano.config.floatX).ravel())
        accept = hmc.metropolis_hastings_accept(T.zeros_like(change), change,
                                                engine.RandomStreams(0))
        accepted = numpy.asarray(theano.function([], accept)()).reshape(10000, -1).mean(axis=0)
        errors = numpy.sqrt(probabilities * (1 - probabilities) / 10000)
        self.assertTrue((numpy.abs(accepted - probabilities) <= 5 * errors).all(), accepted)

    def test_updates(self):
        positions, final_pos = numpy.zeros((4, 2)), numpy.ones((4, 2))
        accept = numpy.array([True, False, False, True])
        for stepsize, rate, new_stepsize in ((0.1, 0.91, 0.12), (0.1, 0.89, 0.09),
                                             (0.1, 0.9, 0.09), (0.19, 0.95, 0.2),
                                             (0.051, 0.2, 0.05)):
            updates = hmc.hmc_updates(
                *map(T.constant, (positions, stepsize, rate, final_pos, accept)),
                target_acceptance_rate=0.9, stepsize_inc=1.2, stepsize_dec=0.9,
                stepsize_min=0.05, stepsize_max=0.2, avg_acceptance_slowness=0.8)
            new = theano.function([], [value for _, value in updates], mode=REFERENCE_MODE)()
            numpy.testing.assert_array_equal(new[0], [[1, 1], [0, 0], [0, 0], [1, 1]])
            numpy.testing.assert_allclose(new[1], new_stepsize, rtol=1e-6)
            numpy.testing.assert_allclose(new[2], 0.8 * rate + 0.2 * 0.5, rtol=1e-6)


class TestDistributions(TestCase):
    """With a step size that stays as it is: adaptation would bias the draws a little."""

    def test_double_well(self):
        def energy(pos):
            return 2 * T.sum(T.sqr(T.sqr(pos) - 1), axis=1)

        # Numerical integration: 12 intervals, each with the same probability.
        grid = numpy.linspace(-3, 3, 60001)
        cumulated = numpy.cumsum(numpy.exp(-2 * (grid ** 2 - 1) ** 2))
        cumulated /= cumulated[-1]
        edges = numpy.interp(numpy.arange(1, 12) / 12, cumulated, grid)

        def interval(positions):
            return numpy.searchsorted(edges, positions.ravel())

        def p_value_of_frequencies(positions):
            return scipy.stats.chisquare(numpy.bincount(interval(positions), minlength=12)).pvalue

        # One move from exact draws: it changes nothing about the distribution, and moves from an
        # interval to another are as frequent as moves back, which is detailed balance.
        n_chains = 20000
        start = numpy.interp(numpy.random.RandomState(0).uniform(size=(n_chains, 1)),
                             cumulated, grid)
        sampler = frozen_sampler(start, energy, stepsize=0.35, n_steps=3)
        samples = sampler.sample(1)
        # Many moves are refused: without that the distribution would be wrong.
        self.assertTrue(0.5 < samples.accepted.mean() < 0.9, samples.accepted.mean())
        self.assertGreater(p_value_of_frequencies(samples.positions), 1e-4)
        moves = numpy.zeros((12, 12))
        numpy.add.at(moves, (interval(start), interval(samples.positions)), 1)
        there, back = moves[numpy.triu_indices(12, 1)], moves.T[numpy.triu_indices(12, 1)]
        seen = there + back > 0
        chi_square = numpy.sum((there - back)[seen] ** 2 / (there + back)[seen])
        self.assertGreater(scipy.stats.chi2.sf(chi_square, seen.sum()), 1e-4)

        # All chains in one well: after 100 moves, both wells have been found. Each chain counts
        # once, so that the draws are independent.
        sampler.positions.set_value(numpy.full((n_chains, 1), -1, dtype=theano.config.floatX))
        last = sampler.sample(100).positions[-1]
        self.assertGreater(p_value_of_frequencies(last), 1e-4)

    def test_banana(self):
        # A standard normal u, bent to s = (2 u0, u1 / 2 + u0^2).
        def energy(pos):
            u0 = pos[:, 0] / 2
            return 0.5 * T.sqr(u0) + 0.5 * T.sqr(2 * (pos[:, 1] - T.sqr(u0)))

        sampler = frozen_sampler(numpy.zeros((50, 2)), energy, stepsize=0.2, n_steps=20)
        sampler.sample(100)
        samples = sampler.sample(500)
        s = samples.positions.astype('float64')
        u = numpy.stack([s[..., 0] / 2, 2 * (s[..., 1] - (s[..., 0] / 2) ** 2)], axis=-1)
        self.assertLess(numpy.abs(deviation(u, 0)).max(), 5)
        self.assertLess(numpy.abs(deviation(products(u), numpy.eye(2))).max(), 5)
        # Moments of the banana itself: E[s1] = E[u0^2], E[s0^2 s1] = 4 E[u0^4].
        self.assertLess(abs(deviation(s[..., 1], 1)), 5)
        self.assertLess(abs(deviation(s[..., 0] ** 2 * s[..., 1], 12)), 5)

    def test_gaussian_bernoulli_rbm(self):
        # E(v, h) = |v - vbias|^2 / 2 - hbias'h - v'W h: given h, v is normal with mean
        # vbias + W h and unit covariance. With three hidden units, a mixture of eight Gaussians.
        W = numpy.array([[2., -1., 0.5], [0.3, 1.5, -2.]])
        vbias, hbias = numpy.array([0.5, -0.5]), numpy.array([-1.5, 0.4, 0.])
        h = numpy.array([[i & 1, i >> 1 & 1, i >> 2] for i in range(8)])
        means = vbias + h @ W.T
        logits = h @ hbias + (means ** 2).sum(axis=1) / 2
        weights = numpy.exp(logits - logits.max())
        weights /= weights.sum()
        mean = weights @ means
        cov = numpy.eye(2) + (means - mean).T @ (weights[:, None] * (means - mean))

        W, vbias, hbias = sharedX(W, 'W'), sharedX(vbias, 'vbias'), sharedX(hbias, 'hbias')

        def free_energy(v):
            return (0.5 * T.sum(T.sqr(v - vbias), axis=1)
                    - T.sum(T.softplus(T.dot(v, W) + hbias), axis=1))

        sampler = frozen_sampler(numpy.zeros((50, 2)), free_energy, stepsize=0.3, n_steps=10)
        sampler.sample(100)
        v = sampler.sample(500).positions.astype('float64')
        self.assertLess(numpy.abs(deviation(v, mean)).max(), 5)
        self.assertLess(numpy.abs(deviation(products(v - mean), cov)).max(), 5)
        self.assertLess(standard_error(v).max(), 0.05)


class TestSampler(TestCase):
    def sampler(self, seed=12345):
        start = numpy.random.RandomState(0).randn(3, 2)
        return HMC_sampler.new_from_shared_positions(sharedX(start), harmonic_energy, seed=seed,
                                                     initial_stepsize=0.1, n_steps=3)

    def test_draws_and_samples_are_the_same(self):
        mixed, plain = self.sampler(), self.sampler()
        draws = [mixed.draw(), mixed.draw(), *mixed.sample(20).positions, mixed.draw()]
        samples = plain.sample(23)
        numpy.testing.assert_array_equal(draws, samples.positions)
        self.assertEqual(draws[0].dtype, theano.config.floatX)
        for sampler in mixed, plain:
            numpy.testing.assert_array_equal(sampler.positions.get_value(), draws[-1])
        self.assertEqual(mixed.stepsize.get_value(), plain.stepsize.get_value())

        # What is recorded: chains that were refused stay, the others do not.
        self.assertEqual((samples.accepted.shape, samples.accepted.dtype), ((23, 3), bool))
        moved = (samples.positions[1:] != samples.positions[:-1]).all(axis=2)
        numpy.testing.assert_array_equal(moved, samples.accepted[1:])
        # The second step size is decided by the average with which the sampler began: .9.
        numpy.testing.assert_allclose(samples.stepsizes[:2], [0.1, 0.1 * 0.98], rtol=1e-6)
        average = 0.9
        for accepted, before, after in zip(samples.accepted, samples.stepsizes,
                                           samples.stepsizes[1:], strict=False):
            numpy.testing.assert_allclose(after / before, 1.02 if average > 0.9 else 0.98, 1e-5)
            average = 0.9 * average + 0.1 * accepted.mean()

    def test_seeds_and_positions(self):
        first, other = self.sampler(), self.sampler(seed=2)
        start = first.positions.get_value()
        draws = first.sample(5).positions
        self.assertEqual(numpy.intersect1d(draws, other.sample(5).positions).size, 0)
        # The chains go on from where they are put.
        far = numpy.asarray(start) + numpy.asarray(5, theano.config.floatX)
        first.positions.set_value(far)
        self.assertLess(numpy.abs(first.draw() - far).max(), 4)

    def test_paths_that_diverge_are_refused(self):
        # Steps of 1 in a well of width 1 / 30 lead to infinity within 200 of them.
        sampler = frozen_sampler(numpy.ones((3, 2)), lambda pos: 900 * harmonic_energy(pos),
                                 stepsize=1, n_steps=200)
        samples = sampler.sample(3)
        self.assertFalse(samples.accepted.any())
        numpy.testing.assert_array_equal(samples.positions, 1)

    def test_one_chain_or_one_dimension(self):
        for shape in ((3, 1), (1, 2)):
            sampler = frozen_sampler(numpy.ones(shape), harmonic_energy, 0.1, 2)
            positions = sampler.sample(2).positions
            self.assertEqual(positions.shape, (2, *shape))
            numpy.testing.assert_array_equal(sampler.positions.get_value(), positions[-1])

    def test_constants_of_another_precision(self):
        target = numpy.arange(2, dtype='float64')
        samples = frozen_sampler(numpy.ones((3, 2)), lambda pos: harmonic_energy(pos - target),
                                 numpy.float64(0.1), 2).sample(2)
        self.assertEqual(samples.positions.dtype, theano.config.floatX)

    def test_mistakes_in_the_energy(self):
        def refused(energy_fn, message, start=None):
            start = numpy.ones((3, 3)) if start is None else start
            with self.assertRaisesRegex(UserError, message) as caught:
                HMC_sampler.new_from_shared_positions(sharedX(start), energy_fn)
            self.assertNotIn('\n', str(caught.exception))

        refused(lambda pos: T.sum(pos ** 2), 'returns 0 dimensions: one value per chain')
        refused(lambda pos: pos ** 2, r'returns 2 dimensions: .*shape \(3,\), is needed')
        refused(lambda pos: T.sum(pos[:1] ** 2, axis=1), r'returns shape \(1,\): one value per')
        # The sum over the wrong axis, where there are as many chains as dimensions.
        refused(lambda pos: T.sum(pos ** 2, axis=0), 'depends on the positions of others')
        refused(lambda pos: T.argmax(pos, axis=1), 'int64, which has no gradient')
        refused(lambda pos: T.zeros(3), 'no path that can be differentiated')
        refused(lambda pos: T.sum(T.gammaincinv(pos, T.ones_like(pos) / 2), axis=1),
                'cannot be differentiated: .*not implemented')
        start = numpy.ones((3, 3))
        start[1, 2] = -1
        refused(lambda pos: T.sum(pos - T.log(pos), axis=1), 'chain 1 .*energy is nan', start)
        start[1, 2] = 0
        refused(lambda pos: T.sum(pos - T.log(pos), axis=1), 'chain 1 .*energy is inf', start)
        refused(lambda pos: T.sum(T.sqrt(pos), axis=1), 'gradient .*inf.*finite', start)

    def test_other_mistakes(self):
        other = {'float32': 'float64', 'float64': 'float32'}[theano.config.floatX]
        for positions in (numpy.ones((3, 2)), T.matrix(), sharedX(numpy.ones(3)),
                          sharedX(numpy.ones((0, 2))), theano.shared(numpy.ones((3, 2), other))):
            with self.assertRaisesRegex(UserError, r'matrix \(n_chains, dim\)'):
                HMC_sampler.new_from_shared_positions(positions, harmonic_energy)
        positions = sharedX(numpy.ones((3, 2)))
        for settings, message in (({'n_steps': 0}, 'n_steps is 0'),
                                  ({'initial_stepsize': 1.}, 'starts at 1.0'),
                                  ({'stepsize_min': 0.1}, 'limits 0.1 and 0.25')):
            with self.assertRaisesRegex(UserError, message):
                HMC_sampler.new_from_shared_positions(positions, harmonic_energy, **settings)
        with self.assertRaisesRegex(UserError, '0 draws'):
            self.sampler().sample(0)


class TestDiagnostics(TestCase):
    def test_without_arviz(self):
        with unittest.mock.patch.dict(sys.modules, {'arviz': None}), \
                self.assertRaisesRegex(UserError, 'pip install arviz'):
            hmc.diagnostics(numpy.zeros((10, 2, 1)))

    @unittest.skipUnless(importlib.util.find_spec('arviz'), 'ArviZ is not installed')
    def test_with_arviz(self):
        warnings.simplefilter('ignore')  # other people's
        independent = numpy.random.RandomState(0).randn(1000, 4, 2).astype('float32')
        result = hmc.diagnostics(independent)
        numpy.testing.assert_allclose(result['ess'], 4000, rtol=0.15)
        numpy.testing.assert_allclose(result['r_hat'], 1, atol=0.005)
        # Repeated ten times, the draws are no more than before; apart, the chains do not agree.
        result = hmc.diagnostics(numpy.repeat(independent, 10, axis=0))
        numpy.testing.assert_allclose(result['ess'], 4000, rtol=0.2)
        apart = independent + numpy.arange(4)[:, None]
        self.assertGreater(hmc.diagnostics(apart)['r_hat'].min(), 1.5)


class TestScript(TestCase):
    def run_script(self, *arguments, flags=''):
        return subprocess.run(
            [sys.executable, '-W', 'error', CODE_FOLDER / 'hmc' / 'hmc.py', *arguments],
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
        self.assertRegex(run.stderr, r'\AThe code for file hmc.py ran for \d+\.\d\dm\n\Z')
        folder = self.folder / 'hmc_output'
        self.assertEqual(set(os.listdir(folder)), {'samples.npz', 'trace.png'})
        self.assertTrue((folder / 'trace.png').read_bytes().startswith(b'\x89PNG'))
        with numpy.load(folder / 'samples.npz', allow_pickle=False) as samples:
            self.assertEqual(samples['positions'].dtype, 'float64')
            self.assertEqual(samples['positions'].shape, (2000, 3, 2))
            centred = samples['positions'] - samples['mean']
            self.assertLess(numpy.abs(deviation(centred, 0)).max(), 5)
            self.assertLess(numpy.abs(deviation(products(centred), samples['cov'])).max(), 5)
            self.assertLess(abs(samples['accepted'].mean() - 0.9), 0.1)

    def test_mistakes_end_in_one_line(self):
        run = self.run_script('--n-samples', '0')
        self.assertEqual((run.returncode, run.stderr),
                         (1, 'hmc.py: --n-samples is 0: it has to be at least 1\n'))

    def test_help(self):
        run = self.run_script('--help')
        self.assertEqual((run.returncode, run.stderr), (0, ''))
        for option in ('--stepsize-max', '--output-folder', '--seed', 'upper limit of the step'):
            self.assertIn(option, run.stdout)

    def test_printed_form(self):
        with printed() as output:
            samples = hmc.sample_gaussian(dim=1, burnin=0, n_samples=3, n_steps=1,
                                          output_folder=str(self.folder / 'a' / 'b'))
        self.assertEqual(samples.positions.shape, (3, 3, 1))
        for line in ('****** TARGET VALUES ******', 'target mean: [', 'target cov:',
                     'empirical cov:', '****** HMC INTERNALS ******', 'final stepsize 0.',
                     'final acceptance rate '):
            self.assertIn(line, output.getvalue())


if __name__ == '__main__':
    unittest.main()
