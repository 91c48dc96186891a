"""Tests of rbm, most of them against the whole joint distribution of a 4 x 3 RBM."""

import itertools
import unittest
from itertools import pairwise
from unittest import mock

from support import checkpoints, draws, engine
from support.errors import UserError
from support.testing import (
    REFERENCE_MODE,
    TestCase,
    finite_difference_error,
    in_float64,
    mnist_is_here,
    printed,
    slow,
    small_images,
    until_failure,
)

import numpy
import pytensor as theano
import pytensor.tensor as T
from PIL import Image
from pytensor.graph.traversal import explicit_graph_inputs
from scipy.special import expit, logsumexp

import rbm

N_VISIBLE, N_HIDDEN = 4, 3


def states(n):
    """All 2 ** n binary vectors, (2 ** n, n)."""
    return numpy.array(list(itertools.product((0., 1.), repeat=n)))


def small_rbm(seed=0, scale=1., model=rbm.RBM, **kwargs):
    """An RBM small enough to sum over all of its states, all its parameters random."""
    rng = numpy.random.RandomState(seed)
    machine = model(n_visible=N_VISIBLE, n_hidden=N_HIDDEN, numpy_rng=rng, **kwargs)
    for param in machine.params:
        param.set_value(rng.normal(scale=scale, size=param.get_value().shape)
                        .astype(theano.config.floatX))
    return machine


def parameters(machine):
    return [numpy.asarray(param.get_value(), dtype='float64') for param in machine.params]


def joint(machine):
    """p(v, h) of every state, (2 ** n_visible, 2 ** n_hidden)."""
    W, c, b = parameters(machine)
    v, h = states(len(b)), states(len(c))
    minus_energy = (v @ b)[:, None] + (h @ c)[None, :] + v @ W @ h.T
    return numpy.exp(minus_energy - logsumexp(minus_energy))


def evaluate(output, inputs=(), *arguments):
    return numpy.asarray(theano.function(list(inputs), output, mode=REFERENCE_MODE)(*arguments))


class TestModel(TestCase):
    def test_free_energy_sums_over_the_hidden_units(self):
        with in_float64():
            machine = small_rbm()
            free_energy = evaluate(machine.free_energy(T.constant(states(N_VISIBLE))))
        W, c, b = parameters(machine)
        h = states(N_HIDDEN)
        for v, value in zip(states(N_VISIBLE), free_energy, strict=True):
            self.assertAlmostEqual(value, -logsumexp(v @ b + h @ c + v @ W @ h.T), 12)

    def test_conditionals(self):
        with in_float64():
            machine = small_rbm()
            p_h = evaluate(machine.propup(T.constant(states(N_VISIBLE)))[1])
            p_v = evaluate(machine.propdown(T.constant(states(N_HIDDEN)))[1])
        p = joint(machine)
        numpy.testing.assert_allclose(p_h, p @ states(N_HIDDEN) / p.sum(1, keepdims=True))
        numpy.testing.assert_allclose(p_v, p.T @ states(N_VISIBLE) / p.sum(0)[:, None])

    def test_hidden_units_of_a_step_are_given_the_sample(self):
        machine = small_rbm()
        _, _, v, _, h_mean, _ = theano.function(
            [], machine.gibbs_hvh(T.constant(states(N_HIDDEN))), mode=REFERENCE_MODE)()
        W, c, _ = parameters(machine)
        numpy.testing.assert_allclose(h_mean, expit(v @ W + c), rtol=1e-5)

    def test_gradient_of_the_likelihood(self):
        """F(data) less F over the whole model has the gradient of -log p(data)."""
        with in_float64():
            machine = small_rbm()
            data = T.constant(states(N_VISIBLE)[[3, 5, 6]])
            every = T.constant(states(N_VISIBLE))
            log_z = T.log(T.sum(T.exp(-machine.free_energy(every))))
            nll = T.mean(machine.free_energy(data)) + log_z
            p = T.constant(joint(machine).sum(1))
            cost = T.mean(machine.free_energy(data)) - T.sum(p * machine.free_energy(every))
            gradients = T.grad(cost, machine.params)
            self.assertLess(finite_difference_error(nll, machine.params, gradients), 1e-6)

    def test_order_of_draws(self):
        rng = numpy.random.RandomState(7)
        rng.randint(2 ** 30)  # the seed of the samples comes first
        bound = 4 * numpy.sqrt(6 / (4 + 3))
        expected = rng.uniform(-bound, bound, (4, 3))
        machine = rbm.RBM(n_visible=4, n_hidden=3, numpy_rng=numpy.random.RandomState(7))
        numpy.testing.assert_allclose(machine.W.get_value(), expected, rtol=1e-6)
        self.assertEqual([param.name for param in machine.params], ['W', 'hbias', 'vbias'])
        default = rbm.RBM(n_visible=4, n_hidden=3)
        given = rbm.RBM(n_visible=4, n_hidden=3, numpy_rng=numpy.random.RandomState(1234))
        numpy.testing.assert_array_equal(default.W.get_value(), given.W.get_value())


class TestGibbs(TestCase):
    def frequencies(self, start, step, n_chains=4000, n_steps=30):
        """How often each visible state is met at the end of many chains."""
        index = T.lscalar('index')
        v = theano.shared(numpy.repeat(start[None], n_chains, 0).astype('float32'), name='v')
        new = step(v)
        walk = engine.function([index], T.mean(new), [(v, new)] + draws.random_updates(new))
        walk.over(range(n_steps))
        numbers = numpy.asarray(v.get_value()) @ 2 ** numpy.arange(N_VISIBLE)[::-1]
        return numpy.bincount(numbers.astype(int), minlength=2 ** N_VISIBLE) / n_chains

    def test_long_run_distribution(self):
        machine = small_rbm()
        p = joint(machine).sum(1)
        frequencies = self.frequencies(numpy.ones(N_VISIBLE), lambda v: machine.gibbs_vhv(v)[-1])
        self.assertLess(numpy.abs(frequencies - p).max(), 5 * numpy.sqrt(p.max() / 4000))
        self.assertLess(numpy.square((frequencies - p) * 4000).sum() / 4000, 4)  # about 1

    def test_many_steps_in_one_call_are_one_chain(self):
        """chain(gibbs_hvh, k) brings any start to the distribution of the hidden units."""
        machine = small_rbm()
        start = T.constant(numpy.zeros((4000, N_HIDDEN), 'float32'))
        outputs, updates = draws.chain(machine.gibbs_hvh, start, n_steps=25)
        h = numpy.asarray(theano.function([], outputs[-1], updates=updates)())
        frequencies = numpy.bincount((h @ 2 ** numpy.arange(N_HIDDEN)[::-1]).astype(int),
                                     minlength=2 ** N_HIDDEN) / 4000
        p = joint(machine).sum(0)
        self.assertLess(numpy.abs(frequencies - p).max(), 5 * numpy.sqrt(p.max() / 4000))

    def test_steps_of_a_chain_draw_anew(self):
        streams = draws.RandomStreams(3)
        start = T.constant(numpy.zeros(1000, 'float32'))
        (total,), updates = draws.chain(
            lambda sums: [sums + streams.uniform(sums.shape)], start, n_steps=12)
        function = theano.function([], total, updates=updates)
        first, second = numpy.asarray(function()), numpy.asarray(function())
        # sums of 12 independent draws: variance 1; of 12 times the same draw: variance 12
        self.assertLess(abs(first.var() - 1), .3)
        self.assertLess(abs(numpy.corrcoef(first, second)[0, 1]), 5 / numpy.sqrt(1000))


class TestCosts(TestCase):
    def test_pseudo_likelihood(self):
        """Averaged over the pixels it is the mean of sum_i log P(v_i | other v)."""
        data = states(N_VISIBLE)[[1, 6, 11]]
        machine = small_rbm(input=T.matrix('x'))
        updates = []
        cost = machine.get_pseudo_likelihood_cost(updates)
        measure = theano.function([machine.input], cost, updates=updates)
        measured = [float(measure(data.astype('float32'))) for _ in range(N_VISIBLE)]
        self.assertEqual(int(machine.bit_i_idx.get_value()), 0)  # once around
        p = joint(machine).sum(1)
        number = 2 ** numpy.arange(N_VISIBLE)[::-1]
        expected = 0.
        for v in data.astype(int):
            for i in range(N_VISIBLE):
                flipped = v.copy()
                flipped[i] = 1 - v[i]
                expected += numpy.log(p[v @ number] / (p[v @ number] + p[flipped @ number]))
        self.assertAlmostEqual(numpy.mean(measured), expected / len(data), 4)

    def test_one_half_counts_as_on(self):
        machine = small_rbm(input=T.matrix('x'))
        cost = theano.function([machine.input], machine.get_pseudo_likelihood_cost([]))
        half, on = numpy.full((1, 4), .5, 'float32'), numpy.ones((1, 4), 'float32')
        self.assertEqual(float(cost(half)), float(cost(on)))

    def test_reconstruction_cost(self):
        with in_float64():
            x = numpy.random.RandomState(1).uniform(size=(5, N_VISIBLE))
            machine = small_rbm(input=T.constant(x))
            activation = numpy.random.RandomState(2).normal(size=x.shape)
            cost = evaluate(machine.get_reconstruction_cost([], T.constant(activation)))
        z = expit(activation)
        expected = (x * numpy.log(z) + (1 - x) * numpy.log(1 - z)).sum(1).mean()
        self.assertAlmostEqual(float(cost), expected, 12)

    def test_extreme_weights_give_finite_numbers(self):
        images = numpy.random.RandomState(0).uniform(size=(6, N_VISIBLE)).astype('float32')
        for persistent in (None, theano.shared(numpy.zeros((6, N_HIDDEN), 'float32'))):
            machine = small_rbm(input=T.matrix('x'), scale=1e4)
            cost, updates = machine.get_cost_updates(0.1, persistent, k=3)
            step = theano.function([machine.input], cost, updates=updates)
            self.assertTrue(numpy.isfinite(float(step(images))))
            for param in machine.params:
                self.assertTrue(numpy.isfinite(param.get_value()).all())


class TestUpdates(TestCase):
    def step(self, machine, rows, persistent=None, k=1):
        index = T.lscalar('index')
        cost, updates = machine.get_cost_updates(0.1, persistent, k)
        data = engine.shared_data(rows)
        return engine.function([index], cost, updates,
                               {machine.input: engine.minibatch(data, index, len(rows))})

    def mean_change(self, persistent, k, n=300):
        """Mean change of the parameters by one update of the same model, over many draws."""
        rows = numpy.repeat(states(N_VISIBLE)[[3, 5, 6]], 50, axis=0)
        machine = small_rbm(input=T.matrix('x'))
        step = self.step(machine, rows, persistent, k)
        before = [param.get_value() for param in machine.params]
        total = [0.] * 3
        for _ in range(n):
            for param, value in zip(machine.params, before, strict=True):
                param.set_value(value)
            step(0)
            total = [t + numpy.asarray(param.get_value(), dtype='float64') - value
                     for t, param, value in zip(total, machine.params, before, strict=True)]
        return machine, before, [t / n for t in total]

    def expected_change(self, params, p_data, p_chain):
        """0.1 times the difference of the expectations of (v'P(h|v), P(h|v), v)."""
        W, c, _ = params
        v = states(N_VISIBLE)
        h = expit(v @ W + c)
        weight = 0.1 * (p_data - p_chain)[:, None]
        return [(weight * v).T @ h, (weight * h).sum(0), (weight * v).sum(0)]

    def test_contrastive_divergence(self):
        """CD-k against the exact distribution of the chain after k steps from the data."""
        p_data = numpy.bincount([3, 5, 6], minlength=16) / 3
        for k in (1, 3):
            machine, before, change = self.mean_change(None, k)
            for param, value in zip(machine.params, before, strict=True):
                param.set_value(value)
            p = joint(machine)
            step = (p / p.sum(1, keepdims=True)) @ (p / p.sum(0)).T  # v -> h -> v
            expected = self.expected_change(
                before, p_data, p_data @ numpy.linalg.matrix_power(step, k))
            for mean, exact in zip(change, expected, strict=True):
                # 45,000 chains: a standard error below .1 / 2 / sqrt(45000)
                numpy.testing.assert_allclose(mean, exact, atol=5 * .05 / numpy.sqrt(45000))

    def test_persistent_chain_comes_from_the_model(self):
        """With one model, chains that go on forget their start: the gradient is the exact one."""
        chain = theano.shared(numpy.zeros((150, N_HIDDEN), 'float32'), name='chain')
        machine, before, change = self.mean_change(chain, 5)
        for param, value in zip(machine.params, before, strict=True):
            param.set_value(value)
        p_data = numpy.bincount([3, 5, 6], minlength=16) / 3
        expected = self.expected_change(before, p_data, joint(machine).sum(1))
        for mean, exact in zip(change, expected, strict=True):
            numpy.testing.assert_allclose(mean, exact, atol=6 * .05 / numpy.sqrt(45000))
        self.assertTrue(set(numpy.unique(chain.get_value())) <= {0., 1.})

    def test_momentum_and_weight_decay(self):
        rows = numpy.repeat(states(N_VISIBLE)[[3, 5, 6]], 50, axis=0)

        def changes(**settings):
            """Of all parameters by an update with a rate of 0.1, and then by one with 0."""
            machine, index, lr = small_rbm(input=T.matrix('x')), T.lscalar('index'), T.scalar('lr')
            cost, updates = machine.get_cost_updates(lr, **settings)
            step = engine.function([index, lr], cost, updates, {
                machine.input: engine.minibatch(engine.shared_data(rows), index, len(rows))})
            values = [[param.get_value() for param in machine.params]]
            for rate in .1, 0:
                step(0, rate)
                values.append([numpy.array(param.get_value()) for param in machine.params])
            return ([b - a for a, b in zip(*pair, strict=True)] for pair in pairwise(values))

        first, nothing = changes()
        self.assertTrue(all((change == 0).all() for change in nothing))
        with_momentum, by_inertia = changes(optimiser='momentum')
        (W, *biases), _ = changes(weight_decay=.5)
        initial = small_rbm(input=T.matrix('x')).W.get_value()
        numpy.testing.assert_allclose(W, first[0] - .1 * .5 * initial, atol=1e-6)
        for change, known in zip([*biases, *with_momentum, *by_inertia], [
                *first[1:], *first, *(.9 * change for change in first)], strict=True):
            numpy.testing.assert_allclose(change, known, atol=1e-6)

    def test_a_centred_step_changes_energies_as_one_of_the_centred_model_does(self):
        # That model has the energy -(v - mu)'W(h - lambda) - b'(v - mu) - c'(h - lambda).
        rng = numpy.random.RandomState(3)
        mu, hidden_mean = rng.uniform(size=N_VISIBLE), numpy.full(N_HIDDEN, .5)
        of_W, of_c, of_b = gradients = [rng.normal(size=size) for size in
                                        ((N_VISIBLE, N_HIDDEN), N_HIDDEN, N_VISIBLE)]
        with in_float64():
            machine = small_rbm(input=T.constant(states(N_VISIBLE)[[1]].astype('float64')))
            steps, _ = machine.centred([T.constant(gradient) for gradient in gradients], mu)
            steps = theano.function([], steps, mode=REFERENCE_MODE)()
        # The gradient in the centred form, of a cost whose gradient in the usual form is given.
        centred_W = of_W - numpy.outer(mu, of_c) - numpy.outer(of_b, hidden_mean)
        v, h = states(N_VISIBLE), states(N_HIDDEN)

        def energies(x, y, W, c, b):
            return x @ W @ y.T + (x @ b)[:, None] + y @ c

        difference = (energies(v, h, *steps)
                      - energies(v - mu, h - hidden_mean, centred_W, of_c, of_b))
        self.assertAlmostEqual(float(numpy.ptp(difference)), 0, 10)

    def test_a_centred_model_does_not_mind_which_state_is_called_on(self):
        """With all pixels, and all hidden units, turned round it learns the same distribution.

        The plain gradient is another one then.
        """
        rows = numpy.repeat(states(N_VISIBLE)[[7, 14, 15]], 500, axis=0)
        found = {}
        for centred, turned in itertools.product((False, True), repeat=2):
            data = 1 - rows if turned else rows
            chain = theano.shared(numpy.full((1500, N_HIDDEN), turned, 'float32'), name='chain')
            machine = small_rbm(input=T.matrix('x'), scale=.1)
            if turned:  # the same distribution of images that are turned round
                W, c, b = parameters(machine)
                for param, value in zip(machine.params, (
                        W, -c - W.sum(axis=0), -b - W.sum(axis=1)), strict=True):
                    param.set_value(value.astype('float32'))
            cost, updates = machine.get_cost_updates(
                .1, chain, visible_mean=data.mean(axis=0) if centred else None)
            step = engine.function([T.lscalar('index')], cost, updates,
                                   {machine.input: engine.shared_data(data)})
            step.over([0] * 40)
            p = joint(machine).sum(axis=1)
            found[centred, turned] = p[::-1] if turned else p
        self.assertLess(abs(found[True, True] - found[True, False]).max(), .02)
        self.assertGreater(abs(found[False, True] - found[False, False]).max(), .08)

    def test_persistent_chains_find_what_contrastive_divergence_misses(self):
        """All units off or all on: chains of one step from there do not see what lies between.

        CD-1 leaves probability on such states, and in the end more and more of it.
        """
        rows = numpy.repeat(states(N_VISIBLE)[[0, 15]], 500, axis=0)
        chain = theano.shared(numpy.zeros((1000, N_HIDDEN), 'float32'), name='chain')
        likelihoods = []
        for persistent in (None, chain):
            machine = small_rbm(input=T.matrix('x'), scale=.1)
            self.step(machine, rows, persistent).over([0] * 1000)
            likelihoods.append(numpy.log(joint(machine).sum(1)[[0, 15]]).mean())
        cd, pcd = likelihoods
        # The best is -log 2 = -.69. Other seeds: CD -1.84 to -1.72, PCD -.86 to -.82.
        self.assertGreater(pcd, -numpy.log(2) - .25)
        self.assertGreater(pcd, cd + .5)

    def test_persistent_chains_and_data_of_different_number(self):
        machine = small_rbm(input=T.matrix('x'))
        chain = theano.shared(numpy.zeros((1, N_HIDDEN), 'float32'), name='chain')
        step = self.step(machine, states(N_VISIBLE), chain, k=2)
        step.over([0, 0])
        self.assertEqual(chain.get_value().shape, (1, N_HIDDEN))


class TestTraining(TestCase):
    def train(self, images=None, **settings):
        settings = {'n_hidden': 100, 'n_samples': 2, 'n_chains': 3, 'plot_every': 5, 'k': 2,
                    'output_folder': str(self.folder / 'run')} | settings
        with mock.patch('support.datasets.read', return_value=images or small_images()), \
                printed() as output:
            return rbm.train(**settings), output.getvalue()

    def without_sampling(self, **settings):
        return self.train(plot_every=1, n_samples=1, n_chains=1, **settings)[0]

    def test_learns(self):
        result, output = self.train(training_epochs=12, persistent=False, sample_pixels=True,
                                    lr_decay=.9)
        costs = [row['cost'] for row in result.history]
        self.assertEqual(len(costs), 12)
        self.assertGreater(costs[-1], costs[0] + .1 * abs(costs[0]))
        self.assertRegex(output, r'(?m)^Training epoch 0, cost is -\d+\.\d+$')
        self.assertIn('\n ... plotting sample 1\n', output)
        # all three kinds of parameters have moved from where they began
        for param in result.model.params[1:]:
            self.assertGreater(numpy.abs(param.get_value()).max(), 1e-3)

    def test_samples_begin_with_images_of_the_test_set(self):
        images = small_images()
        with mock.patch.object(rbm, 'Sampler', wraps=rbm.Sampler) as sampler:
            self.train(images, training_epochs=1)
        _, start = sampler.call_args.args
        first = [image.tolist() for image in images.test[0]].index(start[0].tolist())
        numpy.testing.assert_array_equal(start, images.test[0][first:first + 3])

    def test_rate_decays(self):
        """Two epochs by the script against the same updates with the rates 0.2 and 0.05."""
        result = self.without_sampling(training_epochs=2, learning_rate=.2, lr_decay=.25, k=1)
        images = small_images().train[0]
        rng = numpy.random.RandomState(123)
        streams = draws.RandomStreams(rng.randint(2 ** 30))
        index, lr = T.lscalar('index'), T.scalar('lr')
        machine = rbm.RBM(n_visible=49, n_hidden=100, numpy_rng=rng, theano_rng=streams)
        chain = theano.shared(numpy.zeros((20, 100), 'float32'))
        cost, updates = machine.get_cost_updates(lr, chain)
        step = engine.function([index, lr], cost, updates, {
            machine.input: engine.minibatch(engine.shared_data(images), index, 20)})
        for rate in (.2, .05):
            step.over(range(len(images) // 20), rate)
        for found, expected in zip(parameters(result.model), parameters(machine), strict=True):
            numpy.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)

    def test_sampled_pixels(self):
        model = self.without_sampling(training_epochs=0, sample_pixels=True).model
        x, = explicit_graph_inputs([model.input])
        draw = theano.function([x], model.input, updates=draws.random_updates(model.input))
        levels = numpy.array([0, .2, .5, .9, 1])
        drawn = numpy.asarray(draw(numpy.tile(levels, (10_000, 1)).astype('float32')))
        self.assertEqual(set(numpy.unique(drawn)), {0, 1})
        numpy.testing.assert_allclose(drawn.mean(0), levels, rtol=0, atol=5 * .5 / 100)
        numpy.testing.assert_array_equal(drawn[:, [0, 4]].mean(0), [0, 1])
        self.assertLess(abs(numpy.corrcoef(drawn[:, 1], drawn[:, 2])[0, 1]), .05)

    def test_pixels_are_sampled_anew(self):
        """Of a model that stays the same, 49 minibatches meet the same 49 pixels every epoch."""
        for sample_pixels in (False, True):
            result = self.without_sampling(
                images=small_images(n_train=196), batch_size=4, training_epochs=3, k=1,
                learning_rate=0., sample_pixels=sample_pixels, overwrite=True)
            costs = {row['cost'] for row in result.history}
            self.assertEqual(len(costs), 3 if sample_pixels else 1)

    def test_interrupted_run_ends_the_same_and_is_used(self):
        whole, _ = self.train(training_epochs=3, output_folder=str(self.folder / 'whole'))
        for resume, method in ((False, 'save_filters'), (True, 'save_picture')):
            failing = until_failure(getattr(rbm, method), 1 - resume, KeyboardInterrupt())
            with mock.patch.object(rbm, method, failing), self.assertRaises(KeyboardInterrupt):
                self.train(training_epochs=3, resume=resume)
        self.train(resume=True)
        run = self.folder / 'run'
        for name in ('checkpoint.npz', 'model.npz', 'history.csv', 'samples.png'):
            self.assertEqual((run / name).read_bytes(),
                             (self.folder / 'whole' / name).read_bytes(), name)
        for name, size in (('filters_at_epoch_0.png', (79, 79)),
                           ('samples.png', (8 * 3 - 1, 8 * 2 + 1))):
            with Image.open(run / name) as picture:
                self.assertEqual(picture.size, size)
        loaded = checkpoints.load(run, rbm.build)
        for param, other in zip(loaded.params, whole.model.params, strict=True):
            numpy.testing.assert_array_equal(param.get_value(), other.get_value())

        self.train(resume=True, n_samples=4)  # a model that is complete is sampled again
        with Image.open(run / 'samples.png') as picture:
            self.assertEqual(picture.size, (8 * 3 - 1, 8 * 4 + 1))

    def test_settings_that_cannot_be(self):
        for settings, message in (({'n_chains': 61}, '`n_chains` is 61, .* from 1 to 60'),
                                  ({'k': 0}, '`k` is 0'), ({'lr_decay': 2.}, '`lr_decay` is 2'),
                                  ({'batch_size': -1}, '`batch_size` is -1'),
                                  ({'seed': -1}, '`seed` is -1'),
                                  ({'n_hidden': 0}, '`n_hidden` is 0')):
            with self.assertRaisesRegex(UserError, message):
                self.train(training_epochs=0, **settings)

    @slow
    @unittest.skipUnless(mnist_is_here(), 'MNIST is not in $DLT_DATA_DIR')
    def test_mnist(self):
        """One epoch: the old book saw a pseudo-likelihood of -90.65 after PCD-15."""
        with printed():
            result = rbm.train(training_epochs=1, k=5, plot_every=10, n_samples=1,
                                  output_folder=str(self.folder / 'mnist'))
        self.assertLess(abs(result.history[0]['cost'] + 90.65), 8)
