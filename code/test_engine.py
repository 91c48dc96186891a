"""Tests of support.engine: the one place that knows what is peculiar to today's engine."""

import os
import re
import subprocess
import sys
import unittest.mock

from support import draws, engine
from support.errors import UserError
from support.optimisers import sgd_updates
from support.testing import CODE_FOLDER, REFERENCE_MODE, TestCase

import numpy
import pytensor as theano
import pytensor.tensor as T


def noisy_step(seed=5):
    """A step on minibatches of 4 out of 22 rows, with a draw for every entry."""
    rng = numpy.random.RandomState(seed)
    data = engine.shared_data(rng.uniform(size=(22, 6)))
    W = theano.shared(rng.normal(size=(6, 3)).astype(theano.config.floatX), name='W')
    index, rate = T.lscalar('index'), T.scalar('rate')
    x = T.matrix('x')
    noisy = draws.RandomStreams(seed).bernoulli(x.shape, 0.7) * x
    cost = T.mean(T.sum(T.sqr(T.tanh(T.dot(noisy, W))), axis=1))
    step = engine.function(
        [index, rate], cost, sgd_updates(cost, [W], rate) + draws.random_updates(cost),
        {x: engine.minibatch(data, index, 4)}, defaults={rate: 0.1})
    return step, W


class TestStep(TestCase):
    def test_one_by_one_or_many_in_a_call(self):
        one, one_W = noisy_step()
        many, many_W = noisy_step()
        order = [0, 1, 2, 3, 4, 2, 0]
        costs = [one(0), one(1), *one.over([2, 3]), *(one(i) for i in order[4:])]
        self.assertEqual(numpy.array(costs).tobytes(), many.over(order).tobytes())
        numpy.testing.assert_array_equal(many_W.get_value(), one_W.get_value())

    def test_length_of_a_call_changes_no_bit(self):
        long, long_W = noisy_step()
        short, short_W = noisy_step()
        costs = long.over([0, 1, 2, 3, 4] * 4)
        pieces = numpy.concatenate([short.over([0, 1, 2, 3, 4]) for _ in range(4)])
        self.assertEqual(costs.tobytes(), pieces.tobytes())
        self.assertEqual(numpy.asarray(long_W.get_value()).tobytes(),
                         numpy.asarray(short_W.get_value()).tobytes())

    def test_generator_states_are_put_back_exactly(self):
        step, W = noisy_step()
        step.over([0, 1])
        states, value = step.generator_states(), W.get_value()
        after = step.over([2, 3])
        fresh, fresh_W = noisy_step()
        fresh_W.set_value(value)
        fresh.set_generator_states(states)
        self.assertEqual(fresh.over([2, 3]).tobytes(), after.tobytes())

    def test_defaults_and_names_of_scalars(self):
        step, W = noisy_step()
        before = numpy.array(W.get_value())
        step(0, 0.0)
        step(0, rate=0.0)
        step.over([0, 1], rate=0.0)
        numpy.testing.assert_array_equal(W.get_value(), before)
        step(0)
        self.assertGreater(numpy.abs(numpy.asarray(W.get_value()) - before).max(), 1e-4)
        for arguments, names in (((0, 1., 2.), {}), ((0,), {'speed': 1.})):
            with self.assertRaisesRegex(TypeError, 'rate'):
                step(*arguments, **names)

    def test_scores_of_any_number_of_minibatches(self):
        rows = numpy.arange(40, dtype='float32').reshape(20, 2)
        data = engine.shared_data(rows)
        index, x = T.lscalar('index'), T.matrix('x')
        means = engine.function([index], T.mean(x), givens={x: engine.minibatch(data, index, 3)})
        expected = [rows[3 * i:3 * i + 3].mean() for i in range(6)]
        self.assertEqual(means.n_minibatches, 6)
        self.assertEqual(means.batch_size, 3)
        with unittest.mock.patch.object(engine, 'EXAMPLES_AT_ONCE', 12):
            for n in (1, 4, 6):
                numpy.testing.assert_allclose(means.over(range(n)), expected[:n])
            self.assertEqual(means(4), expected[4])

    def test_list_of_outputs(self):
        data = engine.shared_data(numpy.ones((8, 2)))
        index, x = T.lscalar('index'), T.matrix('x')
        total = theano.shared(numpy.zeros((), theano.config.floatX), name='total')
        both = engine.function([index], [T.sum(x), T.mean(x)], [(total, total + T.sum(x))],
                               {x: engine.minibatch(data, index, 2)})
        sums, means = both.over([0, 1, 2])
        self.assertEqual((sums.tolist(), means.tolist()), ([4, 4, 4], [1, 1, 1]))
        self.assertEqual([float(value) for value in both(3)], [4, 1])
        self.assertEqual(float(total.get_value()), 16)

    def test_minibatches_out_of_range(self):
        step, _ = noisy_step()
        for index in (-1, 5):
            with self.assertRaisesRegex(IndexError, 'from 0 to 4'):
                step(index)
            with self.assertRaisesRegex(IndexError, 'from 0 to 4'):
                step.over([0, index])

    def test_batch_size_that_does_not_fit(self):
        data = engine.shared_data(numpy.zeros((5, 2)))
        for batch_size in (0, 6):
            with self.assertRaisesRegex(UserError, 'choose one from 1 to 5'):
                engine.minibatch(data, T.lscalar('index'), batch_size)

    def test_slice_of_the_old_tutorials(self):
        data = engine.shared_data(numpy.zeros((6, 2)))
        index, x = T.lscalar('index'), T.matrix('x')
        for rows in (data[index * 2:(index + 1) * 2], data[:2 * index]):
            with self.assertRaisesRegex(UserError, r'write engine.minibatch\(x, i, b\)'):
                engine.function([index], T.mean(x), givens={x: rows})
        mean = engine.function([index], T.mean(x), givens={x: data[1:3] + index})
        self.assertEqual(float(mean(2)), 2)

    def test_draw_that_would_never_change(self):
        index, x = T.lscalar('index'), T.matrix('x')
        W = theano.shared(numpy.ones((2, 2), theano.config.floatX), name='W')
        data = engine.shared_data(numpy.ones((6, 2)))
        dropped = draws.RandomStreams(1).bernoulli(x.shape, 0.5) * x
        cost = T.mean(T.dot(dropped, W))
        givens = {x: engine.minibatch(data, index, 2)}
        with self.assertRaisesRegex(UserError, 'add draws.random_updates'):
            engine.function([index], cost, sgd_updates(cost, [W], 0.1), givens)
        engine.function([index], cost, sgd_updates(cost, [W], 0.1) + draws.random_updates(cost),
                        givens)


class TestUnusualSteps(TestCase):
    def test_error_passes_down_through_the_old_weights(self):
        """Three layers, one example at a time, against the same steps in NumPy."""
        rng = numpy.random.RandomState(0)
        images = rng.uniform(size=(5, 1, 4))
        data = engine.shared_data(images.reshape(5, 4))
        layers = [theano.shared(rng.normal(size=shape).astype('float32'), name='W')
                  for shape in ((4, 3), (3, 3), (3, 2))]
        expected = [W.get_value().astype('float64') for W in layers]
        x = T.matrix('x')
        h = x
        for W in layers:
            h = T.tanh(T.dot(h, W))
        cost, index = T.sum(T.sqr(h)), T.lscalar('index')
        step = engine.function([index], cost, sgd_updates(cost, layers, 0.1),
                               {x: engine.minibatch(data, index, 1)})
        step.over(range(5))
        for image in images:
            activations = [image]
            for W in expected:
                activations.append(numpy.tanh(activations[-1] @ W))
            error = 2 * activations[-1]
            for i in (2, 1, 0):
                error = error * (1 - activations[i + 1] ** 2)
                error, expected[i] = (error @ expected[i].T,
                                      expected[i] - 0.1 * activations[i].T @ error)
        for W, value in zip(layers, expected, strict=True):
            numpy.testing.assert_allclose(W.get_value(), value, rtol=1e-4)

    def test_weights_are_changed_in_place(self):
        """XLA copies no weights in the loop over minibatches, only once, before it begins."""
        program = (
            'import numpy, pytensor as theano, pytensor.tensor as T\n'
            'from support import engine\n'
            'from support.optimisers import sgd_updates\n'
            'x, index = T.matrix("x"), T.lscalar("index")\n'
            'W = [theano.shared(numpy.ones((256, 256), "float32")) for _ in range(3)]\n'
            'h = x\n'
            'for w in W: h = T.tanh(T.dot(h, w))\n'
            'data = engine.shared_data(numpy.ones((5, 256)))\n'
            'step = engine.function([index], T.sum(h), sgd_updates(T.sum(h), W, 0.1),\n'
            '                       {x: engine.minibatch(data, index, 1)})\n'
            'step.over(range(5))\n')
        finished = subprocess.run(
            [sys.executable, '-W', 'error', '-c', program], cwd=CODE_FOLDER, text=True,
            capture_output=True, env=os.environ | {
                'PYTENSOR_FLAGS': 'mode=JAX',
                'JAX_COMPILATION_CACHE_DIR': '',  # what was kept leaves no text
                'XLA_FLAGS': f'--xla_dump_to={self.folder} --xla_dump_hlo_as_text'})
        self.assertEqual(finished.stderr, '')
        programs = [path.read_text() for path in self.folder.glob('*cpu_after_optimizations.txt')]
        loop = max(programs, key=len)
        self.assertIn('while(', loop)
        copies = re.findall(r'= f32\[256,256\]\S* copy\(%get-tuple-element', loop)
        self.assertEqual(copies, [])

    def test_step_without_data(self):
        total = theano.shared(numpy.zeros((), theano.config.floatX), name='total')
        index = T.lscalar('index')
        count = engine.function([index], total, [(total, total + 1)])
        self.assertEqual(count.over(range(4)).tolist(), [0, 1, 2, 3])
        self.assertEqual((float(count(100)), count.n_minibatches), (4, None))

    def test_state_with_a_single_row(self):
        state = theano.shared(numpy.zeros((1, 3), theano.config.floatX), name='state')
        index = T.lscalar('index')
        step = engine.function([index], T.sum(state), [(state, state + 1)])
        step(0)
        step.over(range(2))
        self.assertEqual(state.get_value().tolist(), [[3, 3, 3]])

    def test_chain_through_a_single_unit(self):
        """A length of 1, in a step with a scan inside the scan over minibatches."""
        W = theano.shared(numpy.ones((1, 3), theano.config.floatX), name='W')
        state = theano.shared(numpy.zeros((2, 1), theano.config.floatX), name='state')
        streams, index = draws.RandomStreams(1), T.lscalar('index')

        def walk(h):
            p = T.sigmoid(T.dot(T.dot(h, W), W.T))
            return [streams.bernoulli(p.shape, p)]

        (end,), updates = draws.chain(walk, state, n_steps=3)
        step = engine.function([index], T.sum(end), [*updates, (state, end), (W, 1.5 * W)])
        sums = step.over(range(8))
        self.assertEqual(set(sums.tolist()) - {0, 1, 2}, set())
        self.assertEqual(float(step(8)), 2)  # by now the weights leave no doubt

    def test_draw_that_nothing_depends_on(self):
        streams, index = draws.RandomStreams(1), T.lscalar('index')
        used = streams.uniform((3,))
        unused = streams.bernoulli(used.shape, used)
        step = engine.function([index], T.sum(used), draws.random_updates(used, unused))
        self.assertEqual(len({float(step(i)) for i in range(3)} | set(step.over(range(3)))), 6)


class TestRandomStreams(TestCase):
    def draws(self, make, times=50):
        """What a function that returns ``make(streams)`` gives, call after call."""
        draw = make(draws.RandomStreams(3))
        function = theano.function([], draw, updates=draws.random_updates(draw))
        return numpy.array([function() for _ in range(times)])

    def test_uniform_moments(self):
        draws = self.draws(lambda streams: streams.uniform((1000,)))
        self.assertEqual(draws.dtype, theano.config.floatX)
        self.assertTrue(0 <= draws.min() and draws.max() < 1)
        # five standard errors of the mean, 1 / sqrt(12 n), and of the mean of squares
        n = draws.size
        self.assertLess(abs(draws.mean() - 1 / 2), 5 / numpy.sqrt(12 * n))
        self.assertLess(abs((draws ** 2).mean() - 1 / 3), 5 * numpy.sqrt(4 / 45 / n))

    def test_bernoulli_frequency(self):
        for p in (0.0, 0.3, 1.0):
            draws = self.draws(lambda streams, p=p: streams.bernoulli((1000,), p))
            self.assertEqual(set(numpy.unique(draws)) - {0., 1.}, set())
            self.assertLessEqual(abs(draws.mean() - p), 5 * numpy.sqrt(p * (1 - p) / draws.size))

    def test_draws_of_a_chain(self):
        """Those of all steps come from halves of the same random words, yet are independent."""
        uniform = draws._coarse_uniform().make_node(
            draws.RandomStreams(3).generator(), [5, 200, 501], 0, 1).outputs[1]
        numbers = theano.function([], T.cast(uniform, 'float64'), mode='JAX')().reshape(5, -1)
        n = numbers.shape[1]
        steps = numbers * 2 ** 17
        self.assertTrue(numpy.all(steps % 2 == 1))  # the middles of 2 ** 16 equal parts
        self.assertTrue(0 < steps.min() and steps.max() < 2 ** 17)
        correlations = numpy.corrcoef(numbers)[numpy.triu_indices(5, 1)]
        self.assertLess(numpy.abs(correlations).max(), 5 / numpy.sqrt(n))
        for bit in range(16):
            on = steps.astype('int64') >> bit + 1 & 1
            self.assertLess(numpy.abs(on.mean(axis=1) - 1 / 2).max(), 5 / numpy.sqrt(4 * n))

    @unittest.skipUnless(engine.mode_name() == 'JAX', 'these are its generator')
    def test_bits_are_those_of_jax(self):
        import jax
        for shape in ((2, 3, 50), (1, 2), (40, 1000)):
            key = jax.random.key_data(jax.random.key(sum(shape)))
            with jax.threefry_partitionable(False):
                expected = jax.random.bits(key, shape, 'uint32')
            numpy.testing.assert_array_equal(draws.random_bits(key, shape), expected)
        self.assertEqual(draws.random_bits(key, (3, 5)).shape, (3, 5))

    def test_frequency_in_a_chain(self):
        p = numpy.array([0, 2. ** -9, 0.3, 1 - 2. ** -9, 1], theano.config.floatX)
        probabilities = T.constant(numpy.tile(p, (20_000, 1)))
        streams = draws.RandomStreams(3)
        start = theano.shared(numpy.zeros((20_000, 5), theano.config.floatX))
        (total,), updates = draws.chain(
            lambda state: [state + streams.bernoulli(probabilities.shape, probabilities)], start, 5)
        frequencies = theano.function([], total, updates=updates)().mean(axis=0) / 5
        standard_errors = numpy.sqrt(p * (1 - p) / 100_000)
        self.assertTrue(numpy.all(abs(frequencies - p) <= 5 * standard_errors), frequencies)

    def test_normal_moments(self):
        draws = self.draws(lambda streams: streams.normal((1000,)))
        self.assertEqual(draws.dtype, theano.config.floatX)
        n = draws.size
        self.assertLess(abs(draws.mean()), 5 / numpy.sqrt(n))
        self.assertLess(abs(draws.var() - 1), 5 * numpy.sqrt(2 / n))

    def test_draws_are_new_every_time_and_independent(self):
        draws = self.draws(lambda streams: T.stack([streams.uniform((500,)) for _ in range(2)]))
        flat = draws.reshape(100, 500)
        correlations = numpy.corrcoef(flat)[numpy.triu_indices(100, 1)]
        # 4,950 correlations of 500 draws each: the largest has to be chance
        self.assertLess(numpy.abs(correlations).max(), 5.5 / numpy.sqrt(500))

    def test_same_seed_same_draws(self):
        first, second = (self.draws(lambda streams: streams.uniform((5,)), 3) for _ in range(2))
        numpy.testing.assert_array_equal(first, second)


class TestRewrite(TestCase):
    def test_row_times_transpose(self):
        rng = numpy.random.RandomState(0)
        W = theano.shared(rng.normal(size=(5, 3)), shape=(5, 3))
        for n_rows in (1, 2):
            x = T.tensor('x', dtype='float64', shape=(n_rows, 3))
            values = rng.normal(size=(n_rows, 3))
            for mode in ('NUMBA', REFERENCE_MODE):
                function = theano.function([x], T.dot(x, W.T), mode=mode)
                numpy.testing.assert_allclose(function(values), values @ W.get_value().T)

    def test_weights_are_never_transposed_for_one_row(self):
        W = theano.shared(numpy.zeros((5, 3), 'float32'), shape=(5, 3))
        x = T.tensor('x', dtype='float32', shape=(1, 3))
        function = theano.function([x], T.dot(x, W.T), mode='JAX')
        products = [node for node in function.maker.fgraph.toposort()
                    if 'Dot' in str(node.op) or 'dot' in str(node.op)]
        self.assertEqual([node.inputs[0].type.shape for node in products], [(5, 3)])

    def test_weights_with_one_row(self):
        """They would be a row times a transpose again, without end."""
        W = theano.shared(numpy.array([[1., 2., 4.]]), shape=(1, 3))
        x = T.tensor('x', dtype='float64', shape=(1, 3))
        with self.assertNoLogs('pytensor'):
            function = theano.function([x], T.dot(x, W.T), mode='NUMBA')
        self.assertEqual(function([[1., 1., 1.]]).tolist(), [[7.]])


class TestWithoutXla(TestCase):
    @unittest.skipIf(engine.mode_name() != 'JAX', 'there is nothing to compare in other modes')
    def test_the_same_numbers_to_rounding(self):
        program = ('import sys, types\n'
                   'sys.modules["support.xla"] = types.SimpleNamespace(\n'
                   '    update_last=lambda new_values, states: new_values,\n'
                   '    mode_for=lambda outputs: None)\n'
                   'from test_engine import noisy_step\n'
                   'step, W = noisy_step()\n'
                   'print(step.over(range(5)).tolist(), W.get_value().tolist())\n')
        finished = subprocess.run([sys.executable, '-W', 'error', '-c', program], cwd=CODE_FOLDER,
                                  text=True, capture_output=True)
        self.assertEqual(finished.stderr, '')
        step, W = noisy_step()
        found = re.findall(r'[-\d.e]+', finished.stdout)
        expected = [*step.over(range(5)), *numpy.asarray(W.get_value()).ravel()]
        numpy.testing.assert_allclose([float(number) for number in found], expected, rtol=1e-5)


class TestFlags(TestCase):
    def ask(self, flags='', **environment):
        """What the engine's flags are in a new process."""
        program = ('import pytensor as theano\nfrom support import engine\n'
                   'import pytensor.tensor as T\nx = T.scalar("x")\n'
                   'double = theano.function([x], 2 * x)\n'
                   'print(theano.config.floatX, engine.mode_name(), float(double(4)))')
        finished = subprocess.run(
            [sys.executable, '-W', 'error', '-c', program], cwd=CODE_FOLDER, text=True,
            capture_output=True, env=os.environ | {'PYTENSOR_FLAGS': flags} | environment)
        self.assertEqual(finished.stderr, '')
        return finished.stdout.split()

    def test_defaults(self):
        self.assertEqual(self.ask(), ['float32', 'JAX', '8.0'])

    def test_flags_of_the_user_are_respected(self):
        self.assertEqual(self.ask('floatX=float64,mode=NUMBA'), ['float64', 'NUMBA', '8.0'])

    def test_numba_where_there_is_no_jax(self):
        with unittest.mock.patch.object(engine.importlib.util, 'find_spec', return_value=None), \
                theano.config.change_flags(mode=theano.config.mode):
            engine.set_default_flags()
            self.assertEqual(engine.mode_name(), 'NUMBA')

    def test_products_have_the_full_precision_unless_the_user_says_otherwise(self):
        for settings, precision in (({}, 'float32'), (
                {'JAX_DEFAULT_MATMUL_PRECISION': 'tensorfloat32'}, 'tensorfloat32')):
            finished = subprocess.run(
                [sys.executable, '-c', 'from support import engine\nimport jax\n'
                 'print(jax.config.jax_default_matmul_precision)'], cwd=CODE_FOLDER, text=True,
                capture_output=True, env={name: value for name, value in os.environ.items()
                                          if name not in engine.GPU_SETTINGS} | settings)
            self.assertEqual(finished.stdout, f'{precision}\n')

    def test_home_that_cannot_be_written(self):
        self.assertEqual(self.ask(HOME=os.devnull), ['float32', 'JAX', '8.0'])


class TestCache(TestCase):
    def folder_for(self, **environment):
        """Where JAX is told to keep what it compiles, by whoever has that set."""
        with unittest.mock.patch.dict(os.environ, environment):
            if not environment:
                os.environ.pop('JAX_COMPILATION_CACHE_DIR', None)
            engine.keep_compiled_functions()
            return os.environ.get('JAX_COMPILATION_CACHE_DIR')

    def test_it_is_kept_with_the_data(self):
        with unittest.mock.patch.object(engine, 'COMPILED_FOLDER', self.folder / 'compiled'):
            self.assertEqual(self.folder_for(), str(self.folder / 'compiled'))
        self.assertTrue((self.folder / 'compiled').is_dir())

    def test_the_word_of_the_user_counts(self):
        for name in ('/somewhere/else', ''):
            self.assertEqual(self.folder_for(JAX_COMPILATION_CACHE_DIR=name), name)

    def test_there_is_none_where_nothing_can_be_written(self):
        with unittest.mock.patch.object(engine, 'COMPILED_FOLDER', os.devnull + '/compiled'):
            self.assertIsNone(self.folder_for())

    @unittest.skipUnless(engine.mode_name() == 'JAX', 'only JAX has such a cache')
    def test_it_changes_no_bit(self):
        program = ('from test_engine import noisy_step\nstep, W = noisy_step()\n'
                   'print(step.over(range(5)).tobytes(), W.get_value().tolist())')

        def run(cache):
            # Whoever asks for a cache asks before the tests say where theirs is.
            finished = subprocess.run(
                [sys.executable, '-W', 'error', '-c',
                 'import support.testing, os\n'
                 f'os.environ["JAX_COMPILATION_CACHE_DIR"] = {str(cache)!r}\n'
                 'os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"\n' + program],
                cwd=CODE_FOLDER, text=True, capture_output=True)
            self.assertEqual(finished.stderr, '')
            return finished.stdout

        expected = run('')
        cache = self.folder / 'cache'
        self.assertEqual(run(cache), expected)
        names = sorted(path.name for path in cache.glob('*-cache'))
        self.assertNotEqual(names, [])
        self.assertEqual(run(cache), expected)
        self.assertEqual(sorted(path.name for path in cache.glob('*-cache')), names)
        for path in cache.glob('*-cache'):
            path.write_bytes(path.read_bytes()[:100])
        self.assertEqual(run(cache), expected)  # and without a word about what is broken


class TestOtherMode(TestCase):
    @unittest.skipIf(engine.mode_name() == 'NUMBA', 'this is the run in the other mode')
    def test_steps_in_numba_mode(self):
        run = subprocess.run(
            [sys.executable, '-m', 'unittest',
             'test_engine.TestStep.test_one_by_one_or_many_in_a_call',
             'test_engine.TestStep.test_generator_states_are_put_back_exactly'],
            cwd=CODE_FOLDER, capture_output=True, text=True,
            env=os.environ | {'PYTENSOR_FLAGS': 'mode=NUMBA'})
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertRegex(run.stderr, r'Ran 2 tests')
