"""Tests of support.optimisers, against the formulas in NumPy, and that their state is kept."""

import math
from types import SimpleNamespace
from unittest import mock

from support import checkpoints, engine, training
from support.errors import UserError, choose
from support.optimisers import (
    OPTIMISERS,
    adam_updates,
    averaged,
    clipped,
    cosine_decay,
    decayed,
    momentum_updates,
    sgd_updates,
    step_decay,
)
from support.testing import REFERENCE_MODE, TestCase, in_float64, printed, until_failure

import numpy
import pytensor as theano
import pytensor.tensor as T


def numpy_optimiser(name, rate):
    """A function from a parameter and its gradient to the next parameter, in float64."""
    state = {'v': 0., 'm': 0., 's': 0., 't': 0}

    def step(w, g):
        if name == 'sgd':
            return w - rate * g
        if name in ('momentum', 'nesterov'):
            before = state['v']
            v = state['v'] = .9 * before - rate * g
            # Nesterov's, in the form of Bengio et al. (2013), where parameters are already ahead.
            return w + v if name == 'momentum' else w - .9 * before + 1.9 * v
        if name == 'rmsprop':
            state['s'] += .1 * (g * g - state['s'])
            return w - rate * g / (state['s'] ** .5 + 1e-8)
        state['t'] += 1
        state['m'] += .1 * (g - state['m'])
        state['s'] += .001 * (g * g - state['s'])
        # The efficient order of Kingma and Ba, section 2, with the epsilon that belongs to it.
        c1, c2 = 1 - .9 ** state['t'], math.sqrt(1 - .999 ** state['t'])
        return w - rate * c2 / c1 * state['m'] / (numpy.sqrt(state['s']) + 1e-8 * c2)

    return step


class TestUpdates(TestCase):
    """On a cost whose gradient is known, a quadratic form of a matrix and a sum over a vector."""

    def problem(self):
        rng = numpy.random.RandomState(0)
        self.scales = numpy.exp(rng.normal(size=(3, 2)))
        params = [theano.shared(rng.normal(size=size).astype(theano.config.floatX), name=name)
                  for name, size in (('W', (3, 2)), ('b', 4))]
        W, b = params
        cost = T.sum(self.scales.astype(theano.config.floatX) * T.sqr(W)) / 2 + T.sum(T.exp(b))
        return params, cost

    def gradients(self, W, b):
        return self.scales * W, numpy.exp(b)

    def assert_ten_steps(self, mode, tolerance):
        for name, updates in OPTIMISERS.items():
            for rate in (.0625, T.constant(.0625, dtype='float32')):
                params, cost = self.problem()
                expected = [param.get_value().astype('float64') for param in params]
                steps = [numpy_optimiser(name, .0625) for _ in params]
                step = theano.function([], cost, updates=updates(
                    params, T.grad(cost, params), rate), mode=mode)
                for _ in range(10):
                    step()
                    expected = [one(w, g) for one, w, g in zip(
                        steps, expected, self.gradients(*expected), strict=True)]
                    for param, value in zip(params, expected, strict=True):
                        numpy.testing.assert_allclose(param.get_value(), value, rtol=tolerance,
                                                      atol=tolerance, err_msg=name)

    def test_ten_steps_by_hand(self):
        with in_float64():
            self.assert_ten_steps(REFERENCE_MODE, 1e-8)
        self.assert_ten_steps(None, 1e-5)

    def test_sgd_updates(self):
        start = numpy.array([1.0, -2.0, 0.5])
        for rate in (0.25, T.constant(0.25, dtype='float64')):
            u = theano.shared(start.astype('float32'), name='u')
            v = theano.shared(start, name='v')
            updates = sgd_updates(T.sum(u ** 2) / 2 + 3 * T.sum(v), [u, v], rate)
            self.assertEqual([param for param, _ in updates], [u, v])
            for param, new in updates:  # a learning rate of another precision changes no type
                self.assertEqual(new.type.dtype, param.type.dtype)
            new_u, new_v = theano.function([], [new for _, new in updates],
                                          mode=REFERENCE_MODE)()
            self.assertEqual(new_u.tolist(), (start * 0.75).tolist())
            self.assertEqual(new_v.tolist(), (start - 0.75).tolist())

    def test_first_step_of_adam_is_the_learning_rate(self):
        """Whatever the size of the gradient, and so if the cost is in other units."""
        for units in (1e-3, 1., 1e3):
            W = theano.shared(numpy.array([1., -2., .5], theano.config.floatX), name='W')
            gradient = units * T.constant(numpy.array([3., -.2, 40.], theano.config.floatX))
            theano.function([], updates=adam_updates([W], [gradient], .01))()
            numpy.testing.assert_allclose(W.get_value(), [.99, -1.99, .49], rtol=1e-4)

    def test_where_there_is_no_gradient_nothing_moves(self):
        for name, updates in OPTIMISERS.items():
            W = theano.shared(numpy.ones(3, theano.config.floatX), name='W')
            step = theano.function([], updates=updates([W], [0 * W], .1))
            step()
            numpy.testing.assert_array_equal(W.get_value(), numpy.ones(3), name)

    def test_state_is_as_large_as_the_parameter(self):
        for name, n in (('sgd', 0), ('momentum', 1), ('nesterov', 1), ('rmsprop', 1), ('adam', 2)):
            params, cost = self.problem()
            state = [variable for variable, _ in OPTIMISERS[name](
                params, T.grad(cost, params), .1) if variable not in params]
            sizes = [variable.get_value().shape for variable in state if variable.name != 't']
            self.assertEqual(sizes, [(3, 2)] * n + [(4,)] * n)
            self.assertTrue(all(variable.name for variable in state))

    def test_momentum_and_clipping(self):
        W = theano.shared(numpy.array([1., -2.]), name='W')
        cost = T.sum(W ** 2) / 2
        gradients = clipped([W * 1.], 1.5)
        step = theano.function([], cost, updates=momentum_updates([W], gradients, 0.1, 0.9),
                               mode=REFERENCE_MODE)
        w, velocity = numpy.array([1., -2.]), numpy.zeros(2)
        for _ in range(20):
            step()
            gradient = w * min(1, 1.5 / numpy.sqrt(numpy.sum(w ** 2)))
            velocity = 0.9 * velocity - 0.1 * gradient
            w = w + velocity
            numpy.testing.assert_allclose(W.get_value(), w, rtol=1e-6)

    def test_clipped_gradients_keep_their_direction(self):
        gradients = [T.constant(numpy.array(values, theano.config.floatX))
                     for values in ([[3., 0.]], [4.])]
        for longest, factor in ((1., .2), (5., 1.), (6., 1.)):
            got = theano.function([], clipped(gradients, longest))()
            numpy.testing.assert_allclose(got[0], [[3 * factor, 0]], rtol=1e-6)
            numpy.testing.assert_allclose(got[1], [4 * factor], rtol=1e-6)

    def test_weight_decay(self):
        # For plain descent it is the penalty weight_decay / 2 * W ** 2. For Adam it is not.
        for name, is_penalty in (('sgd', True), ('adam', False)):
            values = []
            for penalty, decay in ((0, 0), (0, .5), (.5, 0)):
                (W, b), cost = self.problem()
                cost += penalty / 2 * T.sum(W ** 2)
                updates = OPTIMISERS[name]([W, b], T.grad(cost, [W, b]), .1)
                start = W.get_value()
                theano.function([], updates=decayed(updates, [W], .1, decay))()
                values.append((W.get_value(), b.get_value()))
            plain, decaying, penalised = (W for W, _ in values)
            numpy.testing.assert_allclose(decaying, plain - .05 * start, rtol=1e-5)
            self.assertEqual(numpy.allclose(decaying, penalised, rtol=1e-4), is_penalty)
            numpy.testing.assert_array_equal(values[0][1], values[1][1])

    def test_averages(self):
        """The mean of all values at first, and then one in which the old ones fade."""
        p = theano.shared(numpy.array([1., -2.], dtype='float32'), name='p')
        updates = [(p, 2 * p)]
        (average,), of_average = averaged(updates, [p], 3)
        step = engine.function([T.lscalar('index')], p.sum(), updates + of_average)
        values, expected = [], numpy.array([1., -2.])
        for t in (1, 2, 3, 3, 3):
            step(0)
            values.append(p.get_value())
            expected = expected + (values[-1] - expected) / t
            numpy.testing.assert_allclose(average.get_value(), expected, rtol=1e-6)
            if len(values) == 3:
                numpy.testing.assert_allclose(expected, numpy.mean(values, axis=0), rtol=1e-6)
        self.assertEqual(average.name, 'p')

    def test_unknown_name(self):
        with self.assertRaisesRegex(UserError, '`optimiser` is adan, but has to be one of sgd, '):
            choose(OPTIMISERS, optimiser='adan')


class TestSchedules(TestCase):
    def test_steps(self):
        rate = step_decay(.8, .5, 3)
        self.assertEqual([rate(epoch) for epoch in range(7)], [.8] * 3 + [.4] * 3 + [.2])
        numpy.testing.assert_allclose([step_decay(.8, .9)(epoch) for epoch in range(5)],
                                      .8 * numpy.exp(numpy.log(.9) * numpy.arange(5)))

    def test_cosine(self):
        rates = [cosine_decay(.8, 4)(epoch) for epoch in range(7)]
        half = math.sqrt(.5)
        numpy.testing.assert_allclose(
            rates, [.8, .4 * (1 + half), .4, .4 * (1 - half), 0, 0, 0], atol=1e-12)


class TestResume(TestCase):
    """Descent on rows of numbers, which ends at the second checkpoint and is resumed."""

    def train(self, folder, updates, resume=False):
        W = theano.shared(numpy.ones((3, 2), theano.config.floatX), name='W')
        index, x, rate = T.lscalar('index'), T.matrix('x'), T.scalar('rate')
        rows = engine.shared_data(numpy.random.RandomState(0).uniform(size=(20, 3)))
        cost = T.mean(T.sqr(T.dot(x, W) - 1))
        gradients = clipped(T.grad(cost, [W]), .5)
        step = engine.function(
            [index, rate], cost, decayed(updates([W], gradients, rate), [W], rate, .01),
            {x: engine.minibatch(rows, index, 4)})
        data = SimpleNamespace(name='rows', sha256='0', image_shape=(1, 3))
        settings = {'output_folder': str(folder), 'resume': resume, 'overwrite': False}
        schedule = cosine_decay(.05, 5)
        with printed(), checkpoints.Run('mine', settings, data, [W], {}) as run:
            training.train_epochs(run, 'training', step, 4, report=lambda epoch, cost: '',
                                  scalars=lambda epoch: {'rate': schedule(epoch)})
        return checkpoints.load_arrays(folder / 'checkpoint.npz')

    def test_resumed_run_is_the_same_bit_for_bit(self):
        for name, updates in OPTIMISERS.items():
            with self.subTest(name):
                whole = self.train(self.folder / f'{name} whole', updates)
                parts = self.folder / f'{name} parts'
                failing = until_failure(checkpoints.Run.save, 2, KeyboardInterrupt())
                with mock.patch.object(checkpoints.Run, 'save', failing), \
                        self.assertRaises(KeyboardInterrupt):
                    self.train(parts, updates)
                resumed = self.train(parts, updates, resume=True)
                self.assertEqual({name: array.tobytes() for name, array in resumed.items()},
                                 {name: array.tobytes() for name, array in whole.items()})
                self.assertEqual(any('_t' in name for name in whole), name == 'adam')
