"""Tests of DBN."""

import unittest
from unittest import mock

from support import engine
from support.errors import UserError
from support.testing import TestCase, mnist_is_here, printed, slow, small_images

import numpy
import pytensor as theano
from scipy.special import logsumexp

import ais
import DBN
import predict
import sample
import stacked
from logistic_sgd import SharedDataSets

SETTINGS = {'hidden_layers_sizes': (40, 30), 'pretraining_epochs': 3, 'training_epochs': 20,
            'batch_size': 2, 'finetune_lr': .3}


class TestModel(TestCase):
    def test_layers_are_those_of_the_perceptron(self):
        dbn = DBN.DBN(numpy.random.RandomState(0), n_ins=6, hidden_layers_sizes=[5, 4], n_outs=3)
        for layer, machine in zip(dbn.sigmoid_layers, dbn.rbm_layers, strict=True):
            self.assertIs(machine.W, layer.W)
            self.assertIs(machine.hbias, layer.b)
            self.assertIs(machine.input, layer.input)
        shapes = [param.get_value().shape for param in dbn.params]
        self.assertEqual(shapes, [(6, 5), (5,), (5, 4), (4,), (4, 3), (3,)])

    def test_order_of_draws(self):
        rng = numpy.random.RandomState(4)
        rng.randint(2 ** 30)
        dbn = DBN.DBN(numpy.random.RandomState(4), n_ins=6, hidden_layers_sizes=[5, 4], n_outs=3)
        for layer, (n_in, n_out) in zip(dbn.sigmoid_layers, ((6, 5), (5, 4)), strict=True):
            bound = 4 * numpy.sqrt(6 / (n_in + n_out))
            numpy.testing.assert_allclose(
                layer.W.get_value(), rng.uniform(-bound, bound, (n_in, n_out)), rtol=1e-6)

    def test_second_layer_sees_mean_activations(self):
        dbn = DBN.DBN(numpy.random.RandomState(0), n_ins=6, hidden_layers_sizes=[5, 4], n_outs=3)
        x = numpy.random.RandomState(1).uniform(size=(3, 6)).astype('float32')
        seen = theano.function([dbn.x], dbn.rbm_layers[1].input)(x)
        expected = 1 / (1 + numpy.exp(-x @ dbn.params[0].get_value()))
        numpy.testing.assert_allclose(seen, expected, rtol=1e-5)


class TestPretraining(TestCase):
    def test_one_layer_changes_at_a_time(self):
        data = SharedDataSets(small_images())
        dbn = DBN.DBN(numpy.random.RandomState(0), n_ins=49, hidden_layers_sizes=[20, 10])
        variables = [*dbn.params, *(machine.vbias for machine in dbn.rbm_layers)]
        functions = dbn.pretraining_functions(data[0][0], batch_size=20, k=3)
        for i, step in enumerate(functions):
            before = [numpy.array(variable.get_value()) for variable in variables]
            cost = float(step(0, lr=0.1))
            self.assertLess(cost, 0)  # a log-probability
            changed = {j for j, variable in enumerate(variables)
                       if not numpy.array_equal(before[j], variable.get_value())}
            self.assertEqual(changed, {2 * i, 2 * i + 1, 6 + i})


def states(n):
    """All states of n binary units, (2 ** n, n)."""
    return (numpy.arange(2 ** n)[:, None] >> numpy.arange(n) & 1).astype('float32')


def probabilities(dbn):
    """Of all images under a stack of two RBMs before finetuning, summed over all hidden states."""
    bottom, top = dbn.rbm_layers
    v, h = states(bottom.n_visible), states(top.n_visible)
    W, vbias = bottom.W.get_value(), bottom.vbias.get_value()
    log_prior = -ais.free_energies(top, h)
    a = h @ W.T + vbias
    log_conditional = v @ a.T - numpy.logaddexp(0, a).sum(axis=1)
    return numpy.exp(log_conditional) @ numpy.exp(log_prior - logsumexp(log_prior))


class TestGenerative(TestCase):
    def setUp(self):
        super().setUp()
        self.dbn = DBN.DBN(numpy.random.RandomState(5), n_ins=6, hidden_layers_sizes=[5, 4],
                           n_outs=2, sample_units=True)

    def test_samples_are_of_the_model(self):
        rng = numpy.random.RandomState(0)
        for param in self.dbn.generative_params:
            param.set_value(rng.normal(size=param.get_value().shape).astype('float32'))
        p = probabilities(self.dbn)
        self.assertAlmostEqual(p.sum(), 1, places=5)
        drawn = self.dbn.sample(rng, 4000)
        self.assertEqual(drawn.shape, (4000, 6))
        numpy.testing.assert_allclose(drawn.mean(axis=0), p @ states(6), atol=.03)

    def test_units_are_drawn(self):
        grey = numpy.full((4000, 6), .3, 'float32')
        for machine in self.dbn.rbm_layers:
            drawn, probability = theano.function(
                [self.dbn.x], [machine.input, self.dbn.sigmoid_layers[
                    self.dbn.rbm_layers.index(machine)].input])(grey)
            self.assertEqual(set(numpy.unique(drawn)), {0, 1})
            numpy.testing.assert_allclose(drawn.mean(axis=0), probability.mean(axis=0), atol=.04)

    def test_persistent_chains_raise_the_likelihood(self):
        images = numpy.repeat([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], 20, axis=0)
        data = engine.shared_data(numpy.random.RandomState(1).permutation(images))
        number = images @ (1 << numpy.arange(6))
        before = numpy.log(probabilities(self.dbn)[number]).mean()
        for i in range(2):
            step = self.dbn.pretraining_function(i, {self.dbn.x: data}, 20, 5, persistent=True)
            for _ in range(300):
                step.over(range(2), lr=.1)
        after = numpy.log(probabilities(self.dbn)[number]).mean()
        self.assertLess(before, -3)
        self.assertGreater(after, -1.2)  # and no model is above -log 2
        self.assertLess(after, -.69)


class TestTraining(TestCase):
    def train(self, **settings):
        settings = SETTINGS | {'output_folder': str(self.folder / 'run')} | settings
        with mock.patch('support.datasets.read', return_value=small_images()), \
                printed() as output:
            return DBN.train(**settings), output.getvalue()

    def test_pretraining_and_finetuning_learn(self):
        result, output = self.train()
        for layer in range(2):
            costs = [row['cost'] for row in result.history
                     if row['stage'] == f'pre-training layer {layer}']
            self.assertEqual(len(costs), 3)
            self.assertGreater(costs[-1], costs[0] + .02 * abs(costs[0]))
        self.assertRegex(output, r'(?m)^Pre-training layer 0, epoch 0, cost -\d+\.\d+$')
        self.assertLess(result.scores['best_validation_error'], 30)

        classifier, image_shape, classes = predict.load_classifier(str(result.output_folder))
        self.assertIsInstance(classifier, stacked.StackedNetwork)
        self.assertEqual(image_shape, (7, 7))

    @slow
    def test_interrupted_run_ends_the_same(self):
        """And what pretraining has left is kept, whatever comes afterwards."""
        whole, _ = self.train(training_epochs=2)
        names = ('checkpoint.npz', 'model.npz', 'pretrained.npz')
        expected = [(self.folder / 'run' / name).read_bytes() for name in names]
        with mock.patch.object(stacked.training, 'train_with_early_stopping',
                               side_effect=KeyboardInterrupt), \
                self.assertRaises(KeyboardInterrupt):
            self.train(training_epochs=2, overwrite=True)
        self.train(training_epochs=2, resume=True)
        self.assertEqual([(self.folder / 'run' / name).read_bytes() for name in names], expected)

        machines = DBN.load_rbms(str(self.folder / 'run'))
        self.assertEqual([(machine.n_visible, machine.n_hidden) for machine in machines],
                         [(49, 40), (40, 30)])
        self.assertFalse(numpy.array_equal(machines[0].W.get_value(),
                                           whole.model.params[0].get_value()))

    def test_drawing(self):
        self.train(training_epochs=0, persistent=True, sample_units=True, pretrain_lr_decay=.9)
        with printed():
            drawn = sample.sample(str(self.folder / 'run'), n=3)
        self.assertEqual(drawn.shape, (3, 49))
        self.assertTrue((self.folder / 'run' / 'drawn.png').exists())

    def test_settings_that_cannot_be(self):
        with self.assertRaisesRegex(UserError, '`k` is 0'):
            self.train(k=0)
        with self.assertRaisesRegex(UserError, 'there is no .*run.json'):
            DBN.load_rbms(str(self.folder / 'none'))

    @slow
    @unittest.skipUnless(mnist_is_here(), 'MNIST is not in $DLT_DATA_DIR')
    def test_mnist(self):
        """An epoch each of pretraining the smaller layers and of finetuning."""
        with printed():
            result = DBN.train(hidden_layers_sizes=(200, 200), pretraining_epochs=1,
                                  training_epochs=1, batch_size=20,
                                  output_folder=str(self.folder / 'mnist'))
        self.assertLess(result.scores['best_validation_error'], 8)
