"""Tests of rnnrbm_likelihood, most of them against sums over all frames of a small model."""

import json
from pathlib import Path
from unittest import mock

from support import estimates
from support.errors import UserError
from support.testing import TestCase, printed
from support.tune_statistics import statistics_of

import numpy
from scipy.special import logsumexp

import frame_likelihood
import rnnrbm
import rnnrbm_likelihood
import rnnrbm_model
from test_rnnrbm import R, biases_by_hand, random_params, small_rolls, write_tunes


class TestEvaluation(TestCase):
    """Against sums over all 2 ^ 5 frames of a small model."""

    def setUp(self):
        super().setUp()
        rng = numpy.random.RandomState(0)
        self.p = rnnrbm_model.Parameters.drawn(rng, 5, 3, 2, learn_u0=True)
        values = random_params(self.p.all(), scale=1.5)
        # Parameters.all() and by hand: W, bv, bh, Wuh, Wuv, Wvu, Wuu, bu, u0
        self.rolls = [rng.randint(2, size=(n, 5)).astype('uint8') for n in (4, 7, 5)]
        self.v = numpy.concatenate(self.rolls)
        self.bv, self.bh = (numpy.concatenate(biases) for biases in zip(
            *(biases_by_hand(roll, values) for roll in self.rolls), strict=True))
        frames = numpy.array([[i >> bit & 1 for bit in range(5)] for i in range(2 ** 5)])
        log_f = frames @ self.bv.T + numpy.logaddexp(
            0, (frames @ values[0])[:, None, :] + self.bh).sum(2)  # (32, 16)
        self.log_z = logsumexp(log_f, axis=0)
        self.p_frames = numpy.exp(log_f - self.log_z).T  # (16, 32)
        number = self.v @ (1 << numpy.arange(5))
        self.free_energy = -log_f[number, numpy.arange(16)]
        self.log_p = -self.free_energy - self.log_z
        common = (self.v[:, None, :] & frames).sum(2)  # (16, 32)
        either = (self.v[:, None, :] | frames).sum(2)
        self.accuracy = 100 * (self.p_frames * common).sum() / (self.p_frames * either).sum()

    def test_models_of_frames(self):
        for chosen in (numpy.arange(16), numpy.array([2, 4, 11, 15])):
            with mock.patch('frame_likelihood.FRAMES_PER_CALL', 6):
                models = frame_likelihood.FrameReader(self.p, self.rolls, chosen).read()
            numpy.testing.assert_array_equal(models.v, self.v[chosen])
            for found, exact in ((models.bv, self.bv), (models.bh, self.bh),
                                 (models.free_energy, self.free_energy)):
                numpy.testing.assert_allclose(found, exact[chosen], rtol=1e-3, atol=1e-4)

    def test_partition_function_of_each_frame(self):
        chains = frame_likelihood.FrameChains(self.p.W, numpy.linspace(-1, 1, 5), 16, 200, 100,
                                               seed=1)
        self.assertGreater(numpy.ptp(self.log_z), 2)
        for n in (16, 3):  # the second time, the last of three fills up the rest
            log_weights, samples = chains.run(self.bv[:n], self.bh[:n], 'AIS')
            self.assertEqual((log_weights.shape, samples.shape), ((n, 200), (n, 200, 5)))
            for t in range(n):
                estimate = estimates.log_mean_estimate(log_weights[t])
                # Of so many intervals of three standard errors, one may miss.
                self.assertLess(abs(estimate.value - self.log_z[t]),
                                5 / 3 * (estimate.high - estimate.value))
                self.assertLess(estimate.high - estimate.low, .3)

    def test_validation_follows_the_model_and_nothing_else(self):
        validation = frame_likelihood.Validation(self.p, self.rolls, 16, 1000, 2)
        found = validation.log_likelihood()
        self.assertAlmostEqual(found, self.log_p.mean(), delta=.1)
        self.assertEqual(validation.log_likelihood(), found)
        before = self.p.bv.get_value()
        self.p.bv.set_value(before + 9)  # all notes at once: never in these tunes
        self.assertLess(validation.log_likelihood(), found - 5)
        self.p.bv.set_value(before)
        self.assertEqual(validation.log_likelihood(), found)
        some = frame_likelihood.Validation(self.p, self.rolls, 4, 1000, 2)
        self.assertEqual(len(some.reader.chosen), 4)

    def test_likelihood_and_accuracy(self):
        # In two steps the chains do not arrive: without the weights, the accuracy is 0.6 too low.
        for chains_per_call in (2000, 50_000):  # one frame at a time, eight at a time
            with mock.patch('frame_likelihood.CHAINS_PER_CALL', chains_per_call):
                found = frame_likelihood.measured(self.p, self.rolls, 0, 4000, 2)
            self.assertEqual((found.n_frames, found.n_all_frames), (16, 16))
            self.assertAlmostEqual(found.log_likelihood.value, self.log_p.mean(), delta=.03)
            self.assertAlmostEqual(found.accuracy.value, self.accuracy, delta=.35)
            error = 3 * self.log_p.std(ddof=1) / 4
            self.assertAlmostEqual(found.log_likelihood.high - found.log_likelihood.value, error,
                                   delta=.1 * error)

    def test_temperatures_that_suffice(self):
        """All notes or none: chains that are annealed too fast find one of the two."""
        random_params(self.p.all(), scale=.1)
        for param, value in ((self.p.W, 4), (self.p.bv, -6), (self.p.bh, -10)):
            param.set_value(numpy.full(param.get_value().shape, value, 'float32'))
        rolls = [numpy.repeat([[0] * 5, [1] * 5], 20, axis=0).astype('uint8')] * 2
        few = frame_likelihood.measured(self.p, rolls, 0, 5, 1)
        self.assertFalse(few.has_converged)
        self.assertGreater(few.log_likelihood.low, 0)  # which no logarithm of a probability is
        self.assertIn('With 10 temperatures instead of 1 it changes by', str(few))
        self.assertIn('is not known yet', str(few))
        with mock.patch('frame_likelihood.FEWEST_TEMPERATURES', 1):
            found = frame_likelihood.measured(self.p, rolls, 0, 5)
        self.assertGreater(found.n_temperatures, 1)
        self.assertTrue(found.has_converged)
        self.assertNotIn('is not known yet', str(found))
        enough = frame_likelihood.measured(self.p, rolls, 0, 5, 1000)
        self.assertAlmostEqual(found.log_likelihood.value, enough.log_likelihood.value, delta=.1)

    def test_independent_notes(self):
        """Against sums over all frames."""
        bv = numpy.random.RandomState(1).normal(size=5)
        frames = numpy.array([[i >> bit & 1 for bit in range(5)] for i in range(2 ** 5)])
        log_p = frames @ bv - logsumexp(frames @ bv)
        number = self.v @ (1 << numpy.arange(5))
        common, either = (operation(self.v[:, None, :], frames).sum(2) @ numpy.exp(log_p)
                          for operation in (numpy.bitwise_and, numpy.bitwise_or))
        numpy.testing.assert_allclose(frame_likelihood.measured_base(self.v, bv), (
            log_p[number].mean(), 100 * common.sum() / either.sum()), rtol=1e-12)
        # Of these tunes, by how often each note sounds, as if in one more frame by half.
        p = (self.v.sum(axis=0) + .5) / 17
        found = frame_likelihood.measured(self.p, self.rolls, 0, 1, 1)
        self.assertAlmostEqual(
            found.base_log_likelihood,
            numpy.where(self.v, numpy.log(p), numpy.log1p(-p)).sum(axis=1).mean(), places=9)

    def test_some_of_the_frames(self):
        settings = {'n_frames': 9, 'n_chains': 20, 'n_temperatures': 20}
        with mock.patch('frame_likelihood.CHAINS_PER_CALL', 80):  # pieces of 3
            first, same, other = (
                frame_likelihood.measured(self.p, self.rolls, seed=seed, **settings)
                for seed in (1, 1, 2))
        self.assertEqual(first, same)
        self.assertNotEqual(first.log_likelihood, other.log_likelihood)
        self.assertEqual((first.n_frames, first.n_all_frames), (9, 16))
        for found in (first, other):
            self.assertTrue(found.log_likelihood.low < self.log_p.mean()
                            < found.log_likelihood.high)
            self.assertTrue(found.accuracy.low < self.accuracy < found.accuracy.high)
        everything = frame_likelihood.measured(self.p, self.rolls, **settings | {'n_frames': 99})
        self.assertEqual(everything.n_frames, 16)

    def test_notes_that_count(self):
        v = numpy.array([[1, 1, 0, 0]])
        samples = numpy.array([[[1, 0, 1, 1], [0, 0, 0, 0]]])
        common, either = frame_likelihood.expected_notes(v, samples, numpy.array([[.75, .25]]))
        numpy.testing.assert_allclose(common, [.75])  # 1 TP; 0
        numpy.testing.assert_allclose(either, [.75 * 4 + .25 * 2])  # 1 TP, 2 FP, 1 FN; 2 FN


class TestStatistics(TestCase):
    def test_a_small_tune_by_hand(self):
        tune = numpy.array([[0, 1, 0, 1],
                            [0, 1, 0, 1],
                            [0, 0, 0, 0],
                            [1, 1, 0, 0],
                            [0, 0, 1, 0]])
        known = numpy.array([[0, 1, 0, 1], [0, 0, 1, 1]])
        found = statistics_of([tune, tune[2:]], [known])
        # Begun are 2, 2 and 1 notes, and in the second tune 2 and 1; 10 notes sound. Melodies:
        # 3, 3, 1, 2 and 1, 2.
        expected = {'notes a frame': 10 / 8, 'frames a note lasts': 10 / 8,
                    'frames repeated (%)': 100 / 6, 'chords known (%)': 100 * 2 / 6,
                    'semitones a step': (2 + 1 + 1) / 3}
        self.assertEqual(list(found), list(expected))
        numpy.testing.assert_allclose(list(found.values()), list(expected.values()))
        silence = statistics_of([tune[2:3]], [known])
        self.assertEqual(set(silence.values()), {0.})


class TestScript(TestCase):
    def setUp(self):
        super().setUp()
        self.data = self.folder / 'data'
        write_tunes(self.data / 'train', small_rolls())
        write_tunes(self.data / 'test', small_rolls(2, seed=1))

    def test_evaluation(self):
        folder = self.folder / 'run'
        with printed(), mock.patch('rnnrbm.write_samples'):
            rnnrbm.train(n_hidden=10, n_hidden_recurrent=8, r=R, k=1, batch_size=20, num_epochs=0,
                         dataset=str(self.data), output_folder=str(folder))
        few = {'n_frames': 20, 'n_chains': 3, 'n_temperatures': 10}
        n_test = sum(map(len, small_rolls(2, seed=1)))
        for which, name, n in (('train', 'data, train', sum(map(len, small_rolls()))),
                               (str(self.data / 'test'), 'test', n_test)):
            with printed() as output:
                rnnrbm_likelihood.log_likelihood(str(folder), which, str(self.data), seed=3,
                                                 **few)
            number = r'-?\d+\.\d\d'
            self.assertRegex(output.getvalue(),
                             rf'\nlog-likelihood: {number} \({number} to {number}\) nats a frame, '
                             rf'on 20 of {n} frames\n'
                             rf'With 100 temperatures instead of 10 it changes by [^\n]*\n'
                             rf'accuracy: {number} \({number} to {number}\) %\n'
                             r'That is: [^\n]* \d+ % are both\.\n'
                             rf'One who [^\n]* {number} nats and {number} %; [^\n]* times as '
                             r'probable\.\n'
                             r'\n +training +evaluated +made up\n'
                             r'notes a frame( +\d+\.\d\d){3}\n(.*( +\d+\.\d\d){3}\n){4}\n'
                             rf'The tunes were those of {name}; [^\n]*\n\Z')
            path = folder / f'evaluation_{Path(which).name}.json'
            self.assertIn(str(path), output.getvalue())
            record = json.loads(path.read_text())
            self.assertEqual((record['data'], record['n_all_frames'], record['seed']),
                             (name, n, 3))
            known, rolls = small_rolls(), small_rolls(*((2, 1) if which != 'train' else ()))
            self.assertEqual(record['tunes']['evaluated'], statistics_of(rolls, known))
            self.assertEqual(record['tunes']['training']['chords known (%)'], 100)
            value = record['log_likelihood']['value']
            self.assertIn(f'log-likelihood: {value:.2f} (', output.getvalue())
        for settings, message in (({'evaluate': 'valid'}, 'no folder valid'),
                                  ({'evaluate': str(self.folder / 'none')}, 'give the path of'),
                                  ({'evaluate': str(folder / 'model.npz')}, 'model.npz'),
                                  ({'n_frames': -1}, '`n_frames` is -1'),
                                  ({'n_chains': 0}, '`n_chains` is 0'),
                                  ({'n_temperatures': 0}, '`n_temperatures` is 0'),
                                  ({'model': str(self.folder / 'other')}, 'there is no')):
            with self.assertRaisesRegex(UserError, message), printed():
                rnnrbm_likelihood.log_likelihood(**{
                    'evaluate': 'test', 'dataset': str(self.data),
                    'model': str(folder)} | settings)
