"""Tests of rnnrbm: the equations, the options, and training as a whole."""

import io
import unittest
from contextlib import redirect_stderr
from inspect import signature
from unittest import mock

from support import checkpoints, datasets, engine, tunes
from support.errors import UserError
from support.midi import midiread, midiwrite, tonality
from support.sequences import Subsequences
from support.testing import (
    REFERENCE_MODE,
    TestCase,
    finite_difference_error,
    in_float64,
    printed,
    until_failure,
)

import mido
import numpy
import pytensor as theano
import pytensor.tensor as T
from PIL import Image
from pytensor.graph.replace import graph_replace
from scipy.io import wavfile
from scipy.special import logsumexp

import rnnrbm
import rnnrbm_model
from rnnrbm import RnnRbm

R = (60, 72)  # an octave is enough to learn from


def sigmoid(a):
    return 1 / (1 + numpy.exp(-a))


def small_rolls(n=6, seed=0, lengths=(24, 45)):
    """Tunes of one octave in which every frame is the last one, a semitone higher."""
    rng = numpy.random.RandomState(seed)
    rolls = []
    for _ in range(n):
        t = numpy.arange(rng.randint(*lengths))
        roll = numpy.zeros((len(t), 12), 'uint8')
        start = rng.randint(12)
        roll[t, (start + t) % 12] = 1
        roll[t, (start + t + 4) % 12] = 1
        rolls.append(roll)
    return rolls


def write_tunes(folder, rolls):
    folder.mkdir(parents=True)
    for i, roll in enumerate(rolls):
        midiwrite(folder / f'{i}.mid', roll, R)


def random_params(params, seed=0, scale=.5):
    rng = numpy.random.RandomState(seed)
    for param in params:
        param.set_value(rng.normal(scale=scale, size=param.get_value().shape).astype(param.dtype))
    return [param.get_value() for param in params]


def biases_by_hand(v, params):
    """Biases of every frame, one step of the recurrence at a time."""
    W, bv, bh, Wuh, Wuv, Wvu, Wuu, bu, u = params
    biases_v, biases_h = [], []
    for v_t in v:
        biases_v.append(bv + u @ Wuv)
        biases_h.append(bh + u @ Wuh)
        u = numpy.tanh(bu + v_t @ Wvu + u @ Wuu)
    return numpy.array(biases_v), numpy.array(biases_h)


def log_likelihood(params, rolls):
    """Mean log P(v_t | v_1 ... v_{t-1}) of all frames, summed over all 2 ^ 10 hidden states."""
    W, bv, bh, *others = (numpy.asarray(param.get_value(), 'float64') for param in params)
    if len(others) < 6:
        others.append(numpy.zeros(len(others[-1])))  # u0
    h = numpy.arange(2 ** len(bh))[:, None] >> numpy.arange(len(bh)) & 1
    values = []
    for roll in rolls:
        biases_v, biases_h = biases_by_hand(roll, (W, bv, bh, *others))
        for v, b, c in zip(roll, biases_v, biases_h, strict=True):
            log_z = logsumexp(h @ c + numpy.logaddexp(0, h @ W.T + b).sum(1))
            values.append(v @ b + numpy.logaddexp(0, v @ W + c).sum() - log_z)
    return numpy.mean(values)


def flat(params):
    """All values in one vector."""
    return numpy.concatenate([param.get_value().ravel() for param in params]).astype('float64')


class TestEquations(TestCase):
    def test_shapes_order_and_draws(self):
        params = rnnrbm_model.build_rnnrbm(7, 5, 3, numpy_rng=numpy.random.RandomState(4))[4]
        self.assertEqual([param.name for param in params],
                         ['W', 'bv', 'bh', 'Wuh', 'Wuv', 'Wvu', 'Wuu', 'bu'])
        self.assertEqual([param.get_value().shape for param in params],
                         [(7, 5), (7,), (5,), (3, 5), (3, 7), (7, 3), (3, 3), (3,)])
        rng = numpy.random.RandomState(4)
        rng.randint(2 ** 30)
        for name, scale, shape in (('W', .01, (7, 5)), ('Wuh', .0001, (3, 5)),
                                   ('Wuv', .0001, (3, 7)), ('Wvu', .0001, (7, 3)),
                                   ('Wuu', .0001, (3, 3))):
            param = next(param for param in params if param.name == name)
            numpy.testing.assert_allclose(param.get_value(), rng.normal(scale=scale, size=shape),
                                          rtol=1e-5)
        learnt = rnnrbm_model.Parameters.drawn(rng, 7, 5, 3, learn_u0=True)
        self.assertEqual([param.name for param in learnt.all()][8:], ['u0'])

    def test_cost_and_gradient(self):
        with in_float64():
            rng = numpy.random.RandomState(0)
            p = rnnrbm_model.Parameters.drawn(rng, 6, 4, 3, learn_u0=True)
            params, v = p.all(), T.matrix('v')
            v_sample, cost, _, _ = rnnrbm_model.build_rbm(
                v, p.W, *p.biases(p.states_before(v)), k=2)
            values = random_params(params)
            x, sampled = (rng.uniform(size=(9, 6)).round() for _ in range(2))
            cost, = graph_replace([cost], {v: T.constant(x), v_sample: T.constant(sampled)},
                                  strict=False)
            biases_v, biases_h = biases_by_hand(x, values)

            def free_energy(v):
                return (-(v * biases_v).sum(1)
                        - numpy.log1p(numpy.exp(v @ values[0] + biases_h)).sum(1))

            self.assertAlmostEqual(float(cost.eval(mode=REFERENCE_MODE)),
                                   (free_energy(x) - free_energy(sampled)).mean(), places=10)
            self.assertLess(finite_difference_error(cost, params), 1e-6)

    def test_monitor_is_finite_where_sigmoids_are_not(self):
        v = T.constant(numpy.array([[1, 0], [0, 1]], theano.config.floatX))
        W, bv, bh = (numpy.full(shape, 300, theano.config.floatX) for shape in ((2, 3), 2, 3))
        monitor = rnnrbm_model.build_rbm(v, T.constant(W), T.constant(bv), T.constant(bh), 2)[2]
        self.assertEqual(float(theano.function([], monitor)()), -1200)

    def test_samples_come_from_the_rbm(self):
        """Long chains visit the states of a small RBM as often as its energies say."""
        rng = numpy.random.RandomState(3)
        W, bv, bh = (rng.normal(size=shape) for shape in ((3, 2), 3, 2))
        states = numpy.array([[i >> bit & 1 for bit in range(3)] for i in range(8)])
        p = numpy.exp(states @ bv) * numpy.prod(1 + numpy.exp(states @ W + bh), axis=1)
        floatX = theano.config.floatX
        n = 20_000
        v_sample = rnnrbm_model.build_rbm(T.zeros((n, 3), dtype=floatX), *(
            T.constant(value.astype(floatX)) for value in (W, bv, bh)), 30)[0]
        seen = numpy.asarray(theano.function([], v_sample)())
        counts = numpy.bincount((seen @ [1, 2, 4]).astype(int), minlength=8) / n
        numpy.testing.assert_allclose(counts, p / p.sum(), atol=5 * .5 / n ** .5)

    def test_one_frame_of_generation(self):
        *_, params, _, v_t, updates = rnnrbm_model.build_rnnrbm(6, 4, 3)
        W, bv, bh, Wuh, Wuv, Wvu, Wuu, bu = random_params(params)
        frame = engine.function([T.lscalar('t')], v_t, updates)
        u = numpy.zeros(3)
        for t in range(4):
            v = frame(t)
            self.assertEqual(v.shape, (6,))
            u = numpy.tanh(bu + v @ Wvu + u @ Wuu)
            numpy.testing.assert_allclose(updates[0][0].get_value(), u, rtol=1e-4)


class TestSubsequences(TestCase):
    def test_cut(self):
        rolls = small_rolls()
        pieces = Subsequences.cut(rolls, 20)
        self.assertEqual(len(pieces.frames), 20 * pieces.pieces[-1].stop)
        self.assertEqual(pieces.mask.sum(), sum(map(len, rolls)))
        for roll, numbers in zip(rolls, pieces.pieces, strict=True):
            rows = slice(20 * numbers.start, 20 * numbers.stop)
            numpy.testing.assert_array_equal(
                pieces.frames[rows][pieces.mask[rows] == 1], roll)
            self.assertEqual(pieces.frames[rows][pieces.mask[rows] == 0].sum(), 0)
        for length in (0, 1):
            with self.assertRaisesRegex(UserError, f'`batch_size` is {length}'):
                Subsequences.cut(rolls, length)

    def test_order(self):
        pieces = Subsequences.cut(small_rolls(), 20)
        orders = [pieces.order(5, epoch).tolist() for epoch in range(4)]
        self.assertEqual(orders, [pieces.order(5, epoch).tolist() for epoch in range(4)])
        self.assertEqual(len({tuple(order) for order in orders}), 4)
        for order in orders:
            self.assertEqual(sorted(order), list(range(pieces.pieces[-1].stop)))
            for numbers in pieces.pieces:
                place = order.index(numbers.start)
                self.assertEqual(order[place:place + len(numbers)], list(numbers))

    def test_padding_changes_no_gradient(self):
        with in_float64():
            rng = numpy.random.RandomState(0)
            mask = T.vector('mask')
            p = rnnrbm_model.Parameters.drawn(rng, 6, 4, 3, learn_u0=True)
            params, v = p.all(), T.matrix('v')
            v_sample, cost, monitor, _ = rnnrbm_model.build_rbm(
                v, p.W, *p.biases(p.states_before(v)), k=1, mask=mask)
            random_params(params)
            gradients = T.grad(cost, params, consider_constant=[v_sample])
            x, sampled = (rng.uniform(size=(7, 6)).round() for _ in range(2))
            results = []
            for added in (0, 5):
                padded = [numpy.concatenate([part, numpy.zeros((added, 6))])
                          for part in (x, sampled)]
                # Whatever the chains of the frames that were added have come to.
                padded[1][7:] = 1
                given = {v: T.constant(padded[0]), v_sample: T.constant(padded[1]),
                         mask: T.constant(numpy.repeat([1., 0.], [7, added]))}
                graphs = graph_replace([cost, *gradients], given, strict=False)
                results.append(theano.function([], graphs, mode=REFERENCE_MODE)())
            for without, padded in zip(*results, strict=True):
                numpy.testing.assert_allclose(padded, without, rtol=1e-9, atol=1e-12)
            self.assertGreater(numpy.abs(results[0][-1]).max(), 1e-6)


class TestModel(TestCase):
    def setUp(self):
        super().setUp()
        self.train_folder = self.folder / 'train'
        write_tunes(self.train_folder, small_rolls())
        self.files = sorted(self.train_folder.glob('*.mid'))

    def model(self, **settings):
        return RnnRbm(**{'n_hidden': 10, 'n_hidden_recurrent': 8, 'r': R, 'k': 3, 'seed': 1,
                         'lr': .05} | settings)

    def test_likelihood_rises(self):
        """The likelihood itself, after every epoch: the sum over all hidden states is possible."""
        model = self.model()
        rolls = model.read(self.files)
        likelihoods = [log_likelihood(model.params, rolls)]

        def report(*arguments):
            likelihoods.append(log_likelihood(model.params, rolls))
            return line_to_print(*arguments)

        line_to_print = rnnrbm.report
        with mock.patch('rnnrbm.report', report), printed() as output:
            model.train(self.files, batch_size=20, num_epochs=8)
        lines = output.getvalue().splitlines()
        self.assertEqual(len(lines), 8)
        for i, line in enumerate(lines):
            self.assertRegex(line, rf'\AEpoch {i + 1}/8 -\d+\.\d{{6,}}\Z')
        self.assertAlmostEqual(likelihoods[0], -12 * numpy.log(2), delta=.05)  # fair coins
        self.assertGreater(likelihoods[1], likelihoods[0] + 1)
        self.assertGreater(likelihoods[8], likelihoods[1] + .5)

    def test_clipping_and_momentum_of_updates(self):
        """Against NumPy, from the steps of a model that has neither."""
        clip, momentum = 6., .5
        pieces = Subsequences.cut(small_rolls(2), 10)
        plain, model = (self.model(k=1, learn_u0=True, **settings)
                        for settings in ({}, {'clip': clip, 'momentum': momentum}))
        update_plain, update = (m.training_function(pieces, 10) for m in (plain, model))
        random_params(model.params)
        velocity, lengths = 0., []
        for piece in range(4):
            # The generators of the two draw the same, so the chains are the same as well.
            for param, other in zip(plain.params, model.params, strict=True):
                param.set_value(other.get_value())
            before = flat(model.params)
            update_plain(piece, plain.lr)
            update(piece, model.lr)
            step = flat(plain.params) - before
            lengths.append(numpy.linalg.norm(step) / plain.lr)
            velocity = momentum * velocity + step * min(1, clip / lengths[-1])
            numpy.testing.assert_allclose(flat(model.params) - before, velocity, rtol=0, atol=1e-6)
            self.assertGreater(numpy.linalg.norm(velocity[-8:]), 1e-4)  # the state u0
        self.assertLess(min(lengths), .9 * clip)
        self.assertGreater(max(lengths), 1.1 * clip)

    def test_adam(self):
        """Where it begins, and its first step, which is as long for every entry."""
        model = self.model(optimiser='adam', lr=.01)
        rolls = model.read(self.files)
        model.begin_well(rolls)
        W, bv, _, _, _, _, Wuu, *_ = (param.get_value() for param in model.params)
        frames = numpy.concatenate(rolls)
        p = (frames.sum(axis=0) + .5) / (len(frames) + 1)
        numpy.testing.assert_allclose(bv, numpy.log(p / (1 - p)), rtol=1e-5)
        numpy.testing.assert_allclose(Wuu.T @ Wuu, numpy.eye(8), atol=1e-5)
        independent = numpy.where(frames, numpy.log(p), numpy.log1p(-p)).sum(axis=1).mean()
        self.assertAlmostEqual(log_likelihood(model.params, rolls), independent, delta=.02)
        pieces = Subsequences.cut(rolls, 20)
        step = model.training_function(pieces, 20)
        step(0, model.lr)
        numpy.testing.assert_allclose(numpy.abs(model.params[0].get_value() - W), .01, rtol=1e-2)
        for _ in range(8):
            step.over(range(step.n_minibatches), lr=model.lr)
        self.assertGreater(log_likelihood(model.params, rolls), independent + 1)

        self.assertEqual([self.model(**settings).clip for settings in (
            {}, {'optimiser': 'adam'}, {'optimiser': 'adam', 'clip': 0.}, {'clip': 2.})],
            [0, 5, 0, 2])

    def test_transposing(self):
        folder = self.folder / 'keys'
        folder.mkdir()
        for i, roll in enumerate(tunes.make_tunes(sizes=(5, 1, 1))[0]):
            midiwrite(folder / f'{i}.mid', roll, tunes.R)
        files = sorted(folder.glob('*.mid'))
        keys = {tonality(roll) for roll in self.model(r=tunes.R).read(files)}
        self.assertGreater(len(keys), 1)
        rolls = self.model(r=tunes.R, transpose=True).read(files)
        self.assertEqual({tonality(roll) for roll in rolls}, {(0, 'major')})

    def test_pretraining_on_frames(self):
        model = self.model()
        before = [numpy.array(param.get_value()) for param in model.params]
        step = model.pretraining_function(model.read(self.files), .1)
        monitors = [step.over(range(step.n_minibatches)).mean() for _ in range(8)]
        self.assertGreater(monitors[-1], monitors[0] + .5)
        changed = [not numpy.array_equal(old, param.get_value())
                   for old, param in zip(before, model.params, strict=True)]
        self.assertEqual(changed, [True] * 3 + [False] * 5)

    def test_generation(self):
        model, same = self.model(), self.model()
        model.generate(self.folder / 'new.mid')
        roll = midiread(self.folder / 'new.mid', R).piano_roll
        self.assertEqual(roll.shape, (200, 12))
        self.assertEqual(set(numpy.unique(roll)), {0, 1})
        with Image.open(self.folder / 'new.png') as picture:
            self.assertEqual((picture.format, picture.size), ('PNG', (1000, 500)))
        numpy.testing.assert_array_equal(same.sample(), roll)
        self.assertFalse(numpy.array_equal(same.sample(), roll))
        model.generate(str(self.folder / 'unseen.mid'), show=False)
        self.assertFalse((self.folder / 'unseen.png').exists())
        rate, sound = wavfile.read(self.folder / 'new.wav')
        self.assertEqual(len(sound), 200 * .3 * rate)
        with mock.patch('rnnrbm.LONGEST', 59), redirect_stderr(io.StringIO()) as stderr:
            model.generate(self.folder / 'long.mid', show=False)
        self.assertRegex(stderr.getvalue(), r'\ANOTICE: \S+long.wav would last more than 59 s')
        self.assertFalse((self.folder / 'long.wav').exists())

    def test_primer(self):
        """The tune goes on as from the state that the equations give."""
        primer = small_rolls(1)[0]
        model, same, deaf = (self.model(learn_u0=True) for _ in range(3))
        for each in (model, same, deaf):
            values = random_params(each.params, scale=1.)
        tune = model.sample(30, primer)
        W, bv, bh, Wuh, Wuv, Wvu, Wuu, bu, u = values
        for v in primer:
            u = numpy.tanh(bu + v @ Wvu + u @ Wuu)
        same.u.set_value(u.astype(theano.config.floatX))
        numpy.testing.assert_array_equal(tune, same.next_frame.over(range(30)))
        self.assertFalse(numpy.array_equal(tune, deaf.sample(30)))
        self.assertEqual(model.sample(5, primer[:0]).shape, (5, 12))  # heard nothing

    def test_tempo_and_beats(self):
        for settings, how, dt, beat in (
                ({}, {}, .3, .3), ({}, {'tempo': 100}, .6, .6),
                ({'steps_per_beat': 4}, {}, .125, .5),
                ({'steps_per_beat': 4}, {'tempo': 100, 'instrument': 74}, .15, .6)):
            model = self.model(**settings)
            primer = small_rolls(1)[0]
            with mock.patch.object(model, 'sample', lambda n_steps, primer: small_rolls(1, 1)[0]):
                model.generate(self.folder / 'a.mid', False, primer=primer, **how)
            file = mido.MidiFile(self.folder / 'a.mid')
            whole = numpy.concatenate([primer, small_rolls(1, 1)[0]])
            self.assertAlmostEqual(file.length, dt * len(whole), places=2)
            self.assertEqual(next(iter(file)).tempo, 1e6 * beat)
            self.assertEqual([message.program for message in file
                              if message.type == 'program_change'], [73] * ('instrument' in how))
            numpy.testing.assert_array_equal(model.read_one(self.folder / 'a.mid'), whole
                                             if settings or not how else
                                             numpy.repeat(whole, 2, axis=0))

    def test_settings_that_cannot_be(self):
        for settings, message in (({'k': 0}, '`k`'), ({'momentum': 1.}, '`momentum`'),
                                  ({'clip': -1.}, '`clip`'), ({'r': (5, 5)}, 'range'),
                                  ({'dt': 0.}, 'time step'),
                                  ({'steps_per_beat': 0}, '`steps_per_beat`'),
                                  ({'optimiser': 'best'}, '`optimiser` is best'),
                                  ({'optimiser': 'adam', 'momentum': .5}, 'leave it out'),
                                  ({'steps_per_beat': 4, 'dt': .2}, 'one of the two')):
            with self.assertRaisesRegex(UserError, message):
                self.model(**settings)


class TestScript(TestCase):
    def setUp(self):
        super().setUp()
        self.data = self.folder / 'data'
        write_tunes(self.data / 'train', small_rolls())
        write_tunes(self.data / 'test', small_rolls(2, seed=1))

    def train(self, name, **settings):
        settings = {'n_hidden': 10, 'n_hidden_recurrent': 8, 'r': R, 'k': 1, 'batch_size': 20,
                    'num_epochs': 4, 'momentum': .5, 'learn_u0': True, 'pretraining_epochs': 2,
                    'lr': .02, 'dataset': str(self.data)} | settings
        with printed() as self.output:
            return rnnrbm.train(output_folder=str(self.folder / name), **settings)

    def test_run_resumed_run_and_generation(self):
        # One Gibbs step is compiled sooner than a loop.
        patch = mock.patch('rnnrbm_model.GIBBS_STEPS_TO_GENERATE', 1)
        patch.start()
        self.addCleanup(patch.stop)
        result = self.train('whole')
        whole, parts = self.folder / 'whole', self.folder / 'parts'
        self.assertEqual({path.name for path in whole.iterdir()} - {'.lock'},
                         {'checkpoint.npz', 'model.npz', 'history.csv', 'curves.png', 'run.json',
                          *(f'sample{i}.{kind}' for i in (1, 2) for kind in ('mid', 'png', 'wav'))})
        output = self.output.getvalue()
        self.assertTrue(output.startswith('... loading data\n... building the model\n'))
        rows = [row for row in result.history if row['stage'] == 'tunes']
        self.assertIn(f'\nEpoch 4/4 {rows[-1]["monitor"]}\n', output)
        self.assertEqual(result.scores['monitor'], rows[-1]['monitor'])

        failing = until_failure(checkpoints.Run.save, 3, KeyboardInterrupt())
        with mock.patch.object(checkpoints.Run, 'save', failing), \
                self.assertRaises(KeyboardInterrupt):
            self.train('parts', num_epochs=3)
        with self.assertRaisesRegex(UserError, 'single frames has had 2 epochs'):
            self.train('parts', resume=True, pretraining_epochs=3)
        with printed() as self.output:
            rnnrbm.train(output_folder=str(parts), resume=True, num_epochs=4)
        self.assertNotIn('Epoch 1/', self.output.getvalue())
        for file in ('checkpoint.npz', 'model.npz', 'history.csv', 'sample1.mid', 'sample2.mid'):
            self.assertEqual((parts / file).read_bytes(), (whole / file).read_bytes(), file)

        # More tunes, after those that are there; nothing else changes.
        before = {path: path.read_bytes() for path in whole.iterdir()}
        self.assertNotEqual(before[whole / 'sample1.mid'], before[whole / 'sample2.mid'])
        primer = self.data / 'train' / '0.mid'
        with printed() as output:
            rnnrbm.generate(2, 30, str(primer), output_folder=str(whole))
            (whole / 'sample4.mid').unlink()
            rnnrbm.generate(1, output_folder=str(whole))  # 200 steps
            for folder in (whole, parts):
                rnnrbm.generate(1, output_folder=str(folder), seed=7)
        self.assertTrue(output.getvalue().startswith(
            f'New in {whole}, each as .mid, .wav and .png: sample3, sample4\n'))
        self.assertEqual({path.name for path in whole.iterdir()} - {path.name for path in before},
                         {f'sample{i}.{kind}' for i in (3, 4, 5, 6)
                          for kind in ('mid', 'png', 'wav')} - {'sample4.mid'})
        for path, content in before.items():
            if path.name != 'run.json':  # which names the new files
                self.assertEqual(path.read_bytes(), content, path)
        heard = midiread(primer, R).piano_roll
        roll = midiread(whole / 'sample3.mid', R).piano_roll
        self.assertEqual(len(roll), len(heard) + 30)
        numpy.testing.assert_array_equal(roll[:len(heard)], heard)
        samples = [(whole / f'sample{i}.mid').read_bytes() for i in (1, 2, 5, 6)]
        self.assertEqual(len(set(samples)), 4)
        self.assertEqual((parts / 'sample3.mid').read_bytes(), samples[-1])
        self.assertEqual([rnnrbm.load(str(whole), seed, 5).seed for seed in (None, 7)],
                         [rnnrbm.SEED + 5, 7])
        broken = self.folder / 'broken.mid'
        broken.write_bytes(b'no MIDI')
        for mistake, message in (({'length': 0}, '`length` is 0'), ({'tempo': 0.}, '`tempo` is 0'),
                                 ({'instrument': 0}, '`instrument` is 0'),
                                 ({'primer': str(broken)}, 'broken.mid: cannot be read as MIDI')):
            with self.assertRaisesRegex(UserError, message):
                rnnrbm.generate(1, output_folder=str(whole), **mistake)

    def test_settings_reach_the_model(self):
        settings = {'n_hidden': 9, 'n_hidden_recurrent': 7, 'lr': .03, 'steps_per_beat': 3, 'k': 2,
                    'momentum': .25, 'clip': 3., 'learn_u0': True, 'transpose': True, 'seed': 5}
        for others in ({'optimiser': 'sgd', 'dt': .3},
                       {'optimiser': 'rmsprop', 'momentum': 0., 'steps_per_beat': None, 'dt': .2}):
            with mock.patch('rnnrbm.write_samples'), \
                    mock.patch('rnnrbm.RnnRbm', wraps=RnnRbm) as made:
                self.train(others['optimiser'], num_epochs=0, pretraining_epochs=0,
                           **settings | others)
            given = signature(RnnRbm).bind(*made.call_args.args, **made.call_args.kwargs).arguments
            self.assertEqual(given, settings | others | {'r': R})

    def test_the_model_that_foretells_the_validation_tunes_best_is_kept(self):
        with self.assertRaisesRegex(UserError, 'has no folder valid'):
            self.train('none', validation_frames=10)
        write_tunes(self.data / 'valid', small_rolls(2, seed=2))
        best = mock.Mock(side_effect=[-5., -3., -4., -6.])
        with mock.patch('rnnrbm.write_samples') as written, \
                mock.patch('rnnrbm.Validation.log_likelihood', best):
            result = self.train('validated', validation_frames=10, pretraining_epochs=0)
        self.assertEqual((result.scores['validation_log_likelihood'], result.scores['best_epoch']),
                         (-3., 2))
        self.assertIn('     of the tunes for validation: -3.000 nats a frame\n',
                      self.output.getvalue())
        with mock.patch('rnnrbm.write_samples'):
            second = self.train('two', num_epochs=2, pretraining_epochs=0)
        kept = checkpoints.load_arrays(self.folder / 'validated' / 'model.npz')
        for param, same, model in zip(second.model.params, result.model.params, kept.values(),
                                      strict=True):
            numpy.testing.assert_array_equal(param.get_value(), same.get_value())
            numpy.testing.assert_array_equal(param.get_value(), model)
        self.assertIs(written.call_args.args[0], result.model)

    def test_keys_and_advice(self):
        advice = 'for so little data, try --optimiser adam --augment'
        range_of_two_octaves = (54, 78)
        with mock.patch('rnnrbm.write_samples'):
            result = self.train('few', num_epochs=0, pretraining_epochs=0)
            self.assertIn(advice, self.output.getvalue())
            self.assertIn(f'rnnrbm_likelihood.py --model {result.output_folder} --dataset '
                          f'{self.data}\n', self.output.getvalue())
            with mock.patch('rnnrbm.FEW_UPDATES', 4 * 13), \
                    mock.patch('rnnrbm.Subsequences.cut', wraps=Subsequences.cut) as cut:
                self.train('many', num_epochs=4, pretraining_epochs=0, r=range_of_two_octaves)
                self.assertNotIn(advice, self.output.getvalue())
                self.train('keys', num_epochs=1, pretraining_epochs=0, r=range_of_two_octaves,
                           augment=True, optimiser='adam', momentum=0.)
                self.assertNotIn(advice, self.output.getvalue())
        without, all_keys = (call.args[0] for call in cut.call_args_list)
        self.assertEqual(len(all_keys), 12 * len(without))
        numpy.testing.assert_array_equal(all_keys[0][:, 1:13], without[0][:, 6:18])

    def test_mistakes(self):
        with self.assertRaisesRegex(UserError, '`generate` is 0'):
            rnnrbm.generate(0)
        with self.assertRaisesRegex(UserError, 'there is no'):
            rnnrbm.generate(1, output_folder=str(self.folder / 'none'))
        for settings, message in (({'dataset': str(self.folder / 'none')}, 'give the path of'),
                                  ({'num_epochs': -1}, '`num_epochs`'), ({'lr': -1.}, '`lr`'),
                                  ({'augment': True, 'transpose': True}, 'leave one out')):
            with self.assertRaisesRegex(UserError, message):
                self.train('empty', **settings)


@unittest.skipUnless(datasets.find('Nottingham.zip') or datasets.find('Nottingham'),
                     'the Nottingham tunes are not in $DLT_DATA_DIR')
class TestNottingham(TestCase):
    def test_first_epoch(self):
        files = datasets.find_tunes('Nottingham')
        self.assertEqual([len(files.train), len(files.valid), len(files.test)], [694, 173, 167])
        with printed() as output, redirect_stderr(io.StringIO()) as stderr:
            RnnRbm().train(files.train[::16], num_epochs=2)
        self.assertEqual(stderr.getvalue(), '')
        first, second = (float(line.split()[-1]) for line in output.getvalue().splitlines())
        self.assertGreater(first, -60)  # where every unit is a fair coin: -88 log 2
        self.assertGreater(second, first + 5)


if __name__ == '__main__':
    unittest.main()
