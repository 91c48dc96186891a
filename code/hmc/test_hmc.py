"""Tests of hmc.py: each part against its closed form, and the draws against known distributions.

Random results are compared with the truth in units of their Monte-Carlo standard error: what is
more than five of them away is an error of the sampler and not chance.
"""

# hmc comes first: it shows Python the way to `support`.
import hmc
from hmc import HMC_sampler, sharedX

# isort: split
from support import draws
from support.errors import UserError
from support.testing import REFERENCE_MODE, TestCase

import numpy
import pytensor as theano
import pytensor.tensor as T
import scipy.stats


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
                                                draws.RandomStreams(0))
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

    def test_mistakes(self):
        def refused(message, start=None, energy_fn=harmonic_energy, **settings):
            positions = start if start is not None else sharedX(numpy.ones((3, 2)))
            with self.assertRaisesRegex(UserError, message) as caught:
                HMC_sampler.new_from_shared_positions(positions, energy_fn, **settings)
            self.assertNotIn('\n', str(caught.exception))

        matrix = r'not a shared float.. matrix \(n_chains, dim\)'
        refused(matrix, sharedX(numpy.ones(3)))
        refused(matrix, theano.shared(numpy.ones((3, 2), 'int32')))
        for energy_fn, shape in ((lambda pos: T.sum(pos ** 2), r'\(\)'),
                                 (lambda pos: pos ** 2, r'\(3, 2\)'),
                                 (lambda pos: T.sum(pos ** 2, axis=0), r'\(2,\)')):
            refused(rf'returns shape {shape}: one value per chain, shape \(3,\), is needed',
                    energy_fn=energy_fn)
        start = numpy.ones((3, 2))
        for place, message in ((-1, 'chain 1 .*energy is nan'), (0, 'chain 1 .*energy is inf')):
            start[1, 1] = place
            refused(message, sharedX(start), lambda pos: T.sum(pos - T.log(pos), axis=1))
        refused('gradient .*inf.*finite', sharedX(start), lambda pos: T.sum(T.sqrt(pos), axis=1))
        refused('`n_steps` is 0', n_steps=0)
        refused('`initial_stepsize` is 1.0', initial_stepsize=1.)
        refused('from 0.1 to 0.25', stepsize_min=0.1)
        with self.assertRaisesRegex(UserError, '0 draws'):
            self.sampler().sample(0)
