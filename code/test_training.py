"""Tests of early stopping, of the training loops and of what they print, save and refuse."""

import contextlib
import io
import itertools
import json
import math
import re
from types import SimpleNamespace
from unittest import mock

from support import checkpoints, datasets, engine, folders, training
from support.errors import UserError, check
from support.optimisers import sgd_updates
from support.testing import TestCase, printed, small_images, until_failure

import numpy
import pytensor as theano
import pytensor.tensor as T
from PIL import Image

import dA
import logistic_sgd
import mlp
import rbm
import rnnrbm
from logistic_sgd import (
    LogisticRegression,
    SharedDataSets,
    minibatch_givens,
    sgd_optimization_mnist,
)


def follow_naively(loss_after, n_train_batches, patience, increase, threshold, n_epochs):
    """Early stopping as the tutorial tells it, one update after the other."""
    frequency = max(1, min(n_train_batches, patience // 2))
    best, best_iteration, validated = math.inf, 0, []
    for iteration in range(n_epochs * n_train_batches):
        if (iteration + 1) % frequency == 0:
            loss = loss_after[iteration]
            validated.append(iteration)
            if loss < best:
                if loss < best * threshold:
                    patience = max(patience, iteration * increase)
                best, best_iteration = loss, iteration
        if patience <= iteration:
            break
    return validated, iteration, best, best_iteration, patience


class TrainingCase(TestCase):

    def settings(self, **changed):
        return {'output_folder': str(self.folder / 'out'), 'resume': False,
                'overwrite': False} | changed

    def run_of(self, params, **changed):
        data = SimpleNamespace(name='rows', sha256='0', image_shape=(1, 2))
        return checkpoints.Run('test', self.settings(**changed), data, params, {})


class TestEarlyStopping(TrainingCase):

    # minibatches in an epoch, patience, patience_increase; loss of one validation after the other,
    # the last one for all that follow; iterations that are validated, the last iteration, the
    # best one, and patience at the end. By hand.
    DECISIONS = {
        'an improvement doubles the present iteration':
            (4, 6, 2, [1.0, 0.9, 0.95], [2, 5, 8], 10, 5, 10),
        'a small improvement is the best and buys no time':
            (4, 6, 2, [1.0, 0.996], [2, 5], 6, 5, 6),
        'the threshold itself is too small an improvement':
            (4, 6, 2, [1.0, 0.995], [2, 5], 6, 5, 6),
        'just below the threshold is enough':
            (4, 6, 2, [1.0, 0.9949, 1.0], [2, 5, 8], 10, 5, 10),
        'the same loss again is no improvement':
            (4, 6, 2, [1.0, 1.0], [2, 5], 6, 2, 6),
        'the threshold is relative to the best, not to the last that bought time':
            (2, 8, 2, [1.0, 0.996, 0.992, 0.99], [1, 3, 5, 7], 8, 7, 8),
        'which a larger step meets at last':
            (2, 8, 2, [1.0, 0.996, 0.992, 0.985, 0.99], [1, 3, 5, 7, 9, 11, 13], 14, 7, 14),
        'patience never shrinks':
            (1, 4, 2, [1.0, 0.9, 0.8, 0.8], [0, 1, 2, 3, 4], 4, 2, 4),
        'and begins to grow where the iteration is large enough':
            (1, 4, 2, [1.0, 0.9, 0.8, 0.7, 0.8], [0, 1, 2, 3, 4, 5, 6], 6, 3, 6),
        'validation comes before the decision to stop':
            (1, 4, 2, [1.0, 1.0, 1.0, 1.0, 0.5], [0, 1, 2, 3, 4, 5, 6, 7, 8], 8, 4, 8),
        'patience may be a fraction':
            (1, 3, 1.5, [1.0, 0.9, 0.8, 0.7, 0.8], [0, 1, 2, 3, 4, 5], 5, 3, 4.5),
        'no patience': (5, 0, 2, [1.0], [0], 0, 0, 0),
        'patience for one': (5, 1, 2, [1.0], [0, 1], 1, 0, 1),
        'validation is at least once an epoch':
            (3, 100, 2, [1.0], list(range(2, 100, 3)), 100, 2, 100),
    }

    def follow(self, loss_after, n_train_batches, patience, increase, threshold, n_epochs):
        """The same by the loop that is tested, with a step that counts."""
        steps = []
        step = SimpleNamespace(
            n_minibatches=n_train_batches, batch_size=1, updated=[], returns_list=False,
            generator_states=list, over=lambda indices: steps.extend(indices) or numpy.ones(1))
        validated = []

        def validate():
            validated.append(len(steps) - 1)
            return [loss_after[len(steps) - 1]]

        W = theano.shared(numpy.zeros(1), name='W')
        with self.run_of([W], overwrite=True) as run, printed(), \
                mock.patch.object(checkpoints.Run, 'save'):
            scores = training.train_with_early_stopping(
                run, step, validate, lambda: [0.], n_epochs, patience, increase, threshold)
        self.assertEqual(steps, [i % n_train_batches for i in range(len(steps))])
        return (validated, len(steps) - 1, scores.get('best_validation_error', math.inf) / 100,
                scores.get('best_iteration', 1) - 1, run.stages['training']['patience'])

    def assert_same(self, found, expected):
        self.assertEqual(found[:2] + found[3:], expected[:2] + expected[3:])
        self.assertAlmostEqual(found[2], expected[2], places=9)

    def test_decision_table(self):
        for case, (n, patience, increase, losses, *expected) in self.DECISIONS.items():
            with self.subTest(case):
                frequency = expected[0][0] + 1
                loss_after = {iteration: losses[min(iteration // frequency, len(losses) - 1)]
                              for iteration in range(200)}
                validated, last, best, final = expected
                self.assert_same(self.follow(loss_after, n, patience, increase, 0.995, 100),
                                 (validated, last, min(losses), best, final))

    def test_logistic_regression_ends_in_epoch_74(self):
        # The last step of more than half a per cent is that of epoch 37: patience is then
        # 2 * (37 * 83 - 1) = 6140, which is reached one update before epoch 74 is complete.
        loss, loss_after = 1.0, {}
        for epoch in range(1, 1001):
            loss *= 0.99 if epoch <= 37 else 0.999 if epoch <= 73 else 1.01
            loss_after[epoch * 83 - 1] = loss
        validated, last, _, best, patience = self.follow(loss_after, 83, 5000, 2, 0.995, 1000)
        self.assertEqual(validated, [epoch * 83 - 1 for epoch in range(1, 74)])
        self.assertEqual((last, patience, best + 1, last // 83 + 1), (6140, 6140, 6059, 74))

    def test_agrees_with_a_loop_over_single_updates(self):
        rng, stopped_early = numpy.random.RandomState(0), 0
        for _ in range(100):
            n, patience, n_epochs = (int(rng.randint(*limits)) for limits
                                     in ((1, 13), (0, 60), (1, 15)))
            falling = numpy.exp(-rng.uniform(0, 0.1) * numpy.arange(n * n_epochs))
            noisy = falling * (1 + rng.uniform(0, 0.2) * rng.normal(size=n * n_epochs))
            losses = numpy.rint(noisy * 200) / 200  # so that ties and the threshold itself occur
            case = (losses.tolist(), n, patience, float(rng.choice([1, 1.5, 2, 3])),
                    float(rng.choice([0.9, 0.995, 1])), n_epochs)
            expected = follow_naively(*case)
            with self.subTest(case):
                self.assert_same(self.follow(*case), expected)
            stopped_early += expected[1] + 1 < n * n_epochs
        self.assertTrue(15 < stopped_early < 85, stopped_early)  # both ends are tested


class TestParts(TestCase):

    def test_parts(self):
        for length, limit in itertools.product(range(200), (1, 2, 3, 7, 30, 50, 1000)):
            cuts = training.parts(length, limit)
            self.assertEqual([i for first, last in cuts for i in range(first, last)],
                             list(range(length)))
            lengths = {last - first for first, last in cuts}
            self.assertLessEqual(max(lengths, default=0), limit)
            self.assertLessEqual(len(lengths), 2)
            self.assertLessEqual(len(cuts), max(0, 2 * math.ceil(length / limit) - 1))
        # One length where it can be had, without cutting twice as often.
        self.assertEqual(training.parts(20, 7), [(0, 5), (5, 10), (10, 15), (15, 20)])
        self.assertEqual(training.parts(11, 4), [(0, 3), (3, 7), (7, 11)])

    def test_mean_error_does_not_depend_on_the_order(self):
        rng = numpy.random.RandomState(0)
        mistakes = rng.multinomial(719, [1 / 16] * 16)
        errors = (mistakes / 600).tolist()
        means = {training.mean_error(rng.permutation(errors)) for _ in range(100)}
        self.assertEqual(means, {round(719 / 9600, 12)})
        self.assertEqual(f'{100 * means.pop():f}', '7.489583')
        self.assertEqual(training.mean_error([0.0]), 0)
        self.assertEqual(training.mean_error([1.0] * 7), 1)

    def test_error_rates_are_exact_fractions(self):
        wrong = numpy.random.RandomState(0).randint(2, size=(25, 7))
        index = T.lscalar('index')
        rows = T.vector('rows')
        data = engine.shared_data(numpy.append(wrong.ravel(), [1, 1]))  # and an incomplete one
        errors = engine.function([index], T.mean(rows, dtype=theano.config.floatX),
                                 givens={rows: engine.minibatch(data, index, 7)})
        rates = training.error_rates(errors)()
        self.assertIsInstance(rates, list)
        self.assertEqual(rates, (wrong.sum(axis=1) / 7).tolist())

    def test_check(self):
        check(1, n_hidden=1, sizes=(1, 10 ** 6), n=numpy.int64(3), rate=numpy.float32(1.5))
        check(0, 0.5, a=0, b=0.5, c=[0.1])
        for settings in ({'low': 0}, {'low': -1, 'high': 5}, {'low': 1.5}, {'low': (2, 0)},
                         {'low': ()}, {'low': math.nan}, {'low': math.inf}, {'low': '3'},
                         {'low': None}, {'low': [3, '']}, {'low': 10 ** 9 + 1}):
            (name, value), *_ = settings.items()
            with self.assertRaisesRegex(UserError, '`low` is .*, but has to be from 2 to'):
                check(2, settings.get('high', 10 ** 9), low=value)
        error = UserError('`n_hidden` is 0: go on with `resume=True`')
        self.assertEqual(error.with_options(), '--n-hidden is 0: go on with --resume')

    def test_settings_are_checked_before_anything_is_done(self):
        with mock.patch.object(datasets, 'read', side_effect=AssertionError), \
                self.assertRaisesRegex(UserError, '`n_epochs` is -1'):
            sgd_optimization_mnist(n_epochs=-1, output_folder=str(self.folder / 'out'))
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_plot_history(self):
        rows = [{'stage': 'pre-training layer 0', 'epoch': 1, 'cost': 3.0},
                {'stage': 'pre-training layer 0', 'epoch': 2, 'cost': 2.0},
                {'stage': 'finetuning', 'epoch': 1, 'minibatch': 5, 'cost': 1.0,
                 'validation_error': 10.0, 'test_error': 11.0},
                {'stage': 'finetuning', 'epoch': 1, 'minibatch': 10, 'cost': 0.5,
                 'validation_error': 9.0}]
        path = self.folder / 'curves.png'
        sizes = []
        for history in (rows[:2], rows[:1], rows):
            training.plot_history(history, path)
            with Image.open(path) as picture:
                sizes.append(picture.size)
                drawn = numpy.asarray(picture.convert('RGB')).reshape(-1, 3)
            self.assertGreater(len(numpy.unique(drawn, axis=0)), 10)
        self.assertEqual(sizes, [(500, 350), (500, 350), (1000, 350)])
        self.assertEqual([file.name for file in self.folder.iterdir()], ['curves.png'])


def numpy_logistic_sgd(data, learning_rate, batch_size, n_epochs, patience):
    """Logistic regression with early stopping in float64, in plain loops.

    :return: the lines that a training function prints, and the best parameters
    """
    def minibatches(pair):
        x, y = pair[0].astype('float64'), pair[1]
        return [(x[start:start + batch_size], y[start:start + batch_size])
                for start in range(0, len(x) - batch_size + 1, batch_size)]

    def error(pair):
        rates = [numpy.mean(numpy.argmax(x @ W + b, axis=1) != y) for x, y in minibatches(pair)]
        return 100 * numpy.mean(rates)

    train = minibatches(data.train)
    W, b = numpy.zeros((data.n_in, data.n_classes)), numpy.zeros(data.n_classes)
    lines, best, iteration, epoch, done = [], math.inf, -1, 0, False
    frequency = min(len(train), patience // 2)
    while epoch < n_epochs and not done:
        epoch += 1
        for i, (x, y) in enumerate(train):
            iteration += 1
            scores = numpy.exp(x @ W + b)
            delta = scores / scores.sum(axis=1, keepdims=True)
            delta[numpy.arange(batch_size), y] -= 1
            W = W - learning_rate * x.T @ delta / batch_size
            b = b - learning_rate * delta.mean(axis=0)
            if (iteration + 1) % frequency == 0:
                place = f'epoch {epoch}, minibatch {i + 1}/{len(train)}'
                loss = error(data.valid)
                lines.append(f'{place}, validation error {loss:f} %')
                if loss < best - 1e-9:
                    if loss < best * 0.995:
                        patience = max(patience, iteration * 2)
                    best, at, params, test = loss, iteration + 1, (W, b), error(data.test)
                    lines.append(f'     {place}, test error of best model {test:f} %')
            if patience <= iteration:
                done = True
                break
    lines.append(f'Optimization complete with best validation score of {best:f} %, '
                 f'obtained at iteration {at}, with test performance {test:f} %')
    return lines, params, epoch


class TestEarlyStoppingLoop(TrainingCase):

    def setUp(self):
        super().setUp()
        self.after = []

    def train(self, data, learning_rate, batch_size, n_epochs, patience):
        index, x, y = T.lscalar('index'), T.matrix('x'), T.ivector('y')
        classifier = LogisticRegression(x, data.n_in, data.n_classes)
        cost = classifier.negative_log_likelihood(y)
        shared = SharedDataSets(data)
        givens = [minibatch_givens(x, y, pair, index, batch_size) for pair in shared]
        train_model = engine.function(
            [index], cost, sgd_updates(cost, classifier.params, learning_rate), givens[0])
        validate, test = (training.error_rates(engine.function([index], classifier.errors(y),
                                                               givens=given))
                          for given in givens[1:])
        with checkpoints.Run('test', self.settings(overwrite=True), shared, classifier.params,
                             {}) as run, printed() as output:
            scores = training.train_with_early_stopping(
                run, train_model, validate, test, n_epochs, patience,
                after_epoch=lambda epoch, row: self.after.append((epoch, row['epoch'])))
        return scores, classifier, run.history, output.getvalue().splitlines()

    def test_agrees_with_numpy(self):
        data = small_images(n_train=205, n_valid=68, n_test=61)  # none a multiple of the batch
        cases = (  # validation in mid-epoch and a stop by patience; the end of n_epochs
            {'learning_rate': 0.6, 'batch_size': 6, 'n_epochs': 100, 'patience': 31},
            {'learning_rate': 0.2, 'batch_size': 20, 'n_epochs': 5, 'patience': 10 ** 4},
        )
        for case, calls, n_epochs in zip(cases, (4, 1000), (60, 5), strict=True):
            with self.subTest(**case), mock.patch.object(training, 'UPDATES_PER_CALL', calls):
                lines, params, epochs = numpy_logistic_sgd(data, **case)
                scores, classifier, history, output = self.train(data, **case)
                self.assertEqual(output[:-1], lines)
                self.assertRegex(output[-1], rf'^The code run for {epochs} epochs, '
                                             r'with \d+\.\d{6} epochs/sec$')
                self.assertEqual((scores['epochs'], epochs), (n_epochs, n_epochs))
                for param, expected in zip(classifier.params, params, strict=True):
                    numpy.testing.assert_allclose(param.get_value(), expected,
                                                  rtol=1e-4, atol=2e-6)
                final = lines[-1].split()
                self.assertEqual(f'{scores["best_validation_error"]:f}', final[7])
                self.assertEqual(scores['best_iteration'], int(final[12].rstrip(',')))
                self.assertEqual(f'{scores["test_error"]:f}', final[-2])
                self.check_history(history, lines)

    def check_history(self, history, lines):
        """Every line that was printed has its row."""
        rows = iter(history)
        for line, following in itertools.pairwise(lines):
            if not line.startswith(' '):
                row = next(rows)
                self.assertTrue(line.startswith(f'epoch {row["epoch"]}, minibatch '
                                                f'{row["minibatch"]}/'))
                self.assertTrue(line.endswith(f'error {row["validation_error"]:f} %'))
                self.assertTrue(0 < row['cost'] < 3)
                self.assertEqual('test_error' in row, following.startswith(' '))
                if 'test_error' in row:
                    self.assertTrue(following.endswith(f'model {row["test_error"]:f} %'))
        self.assertEqual(list(rows), [])

    def test_after_every_epoch(self):
        self.train(small_images(n_train=205), .2, 20, n_epochs=5, patience=10 ** 4)
        self.assertEqual(self.after, [(epoch, epoch + 1) for epoch in range(5)])

    def test_checkpoints_say_where_a_run_goes_on(self):
        save = checkpoints.Run.save
        with mock.patch.object(checkpoints.Run, 'save', autospec=True, side_effect=save) as saved:
            self.train(small_images(n_train=205), .2, 6, n_epochs=2, patience=31)
        self.assertEqual([call.args[1] for call in saved.call_args_list][:4], [
            'after epoch 0 of training and 15 minibatches',
            'after epoch 0 of training and 30 minibatches', 'after epoch 1 of training',
            'after epoch 1 of training and 11 minibatches'])

    def test_the_lines_keep_the_tutorial_s_form(self):
        with mock.patch.object(datasets, 'read', return_value=small_images()), printed() as output:
            result = sgd_optimization_mnist(n_epochs=3, batch_size=10,
                                            output_folder=str(self.folder / 'out'))
        number = r'\d+\.\d{6}'
        forms = [r'\.\.\. loading data', r'\.\.\. building the model', r'\.\.\. training the model']
        for row in result.history:
            self.assertEqual(row['minibatch'], 20)
            forms.append(rf'epoch {row["epoch"]}, minibatch 20/20, validation error {number} %')
            if 'test_error' in row:
                forms.append(rf'     epoch {row["epoch"]}, minibatch 20/20, '
                             rf'test error of best model {number} %')
        forms += [rf'Optimization complete with best validation score of {number} %, '
                  rf'obtained at iteration \d+, with test performance {number} %',
                  rf'The code run for 3 epochs, with {number} epochs/sec',
                  'The data set was small digits; everything is in ' + re.escape(
                      str(self.folder / 'out'))]
        lines = output.getvalue().splitlines()
        self.assertEqual(len(lines), len(forms))
        for line, form in zip(lines, forms, strict=True):
            self.assertRegex(line, f'^{form}$')

        self.assertEqual((result.data_name, result.output_folder),
                         ('small digits', self.folder / 'out'))
        self.assertEqual(len(result.history), 3)
        self.assertEqual(set(result.scores),
                         {'best_validation_error', 'test_error', 'best_iteration', 'epochs'})
        with Image.open(self.folder / 'out' / 'curves.png') as picture:
            self.assertEqual(picture.size, (500, 350))

    def test_no_epochs(self):
        with mock.patch.object(datasets, 'read', return_value=small_images()), printed() as output:
            result = sgd_optimization_mnist(n_epochs=0, batch_size=10,
                                            output_folder=str(self.folder / 'out'))
        self.assertIn('Optimization complete: no validation was reached\n', output.getvalue())
        self.assertEqual((result.history, result.scores), ([], {'epochs': 0}))
        self.assertFalse(result.model.W.get_value().any())
        self.assertEqual({file.name for file in (self.folder / 'out').iterdir()} - {'.lock'},
                         {'checkpoint.npz', 'likeness.npz', 'run.json'})


class TestTrainEpochs(TrainingCase):

    def setUp(self):
        super().setUp()
        self.w = theano.shared(numpy.ones(2, dtype=theano.config.floatX), name='w')
        # The mean of a row is the cost, and every row is added to w.
        self.rows = numpy.random.RandomState(0).randint(8, size=(23, 2))
        index, row = T.lscalar('index'), T.matrix('row')
        self.step = engine.function(
            [index], [T.mean(row), T.max(row)], [(self.w, self.w + T.sum(row, axis=0))],
            {row: engine.minibatch(engine.shared_data(self.rows), index, 1)})
        factor = T.scalar('factor')
        self.diverging = engine.function(
            [index, factor], T.sum(self.w) + 0 * T.sum(row), [(self.w, self.w * factor)],
            {row: engine.minibatch(engine.shared_data(self.rows), index, 1)})
        self.reports, self.after = [], []

    def train(self, run, step, n_epochs, **options):
        return training.train_epochs(
            run, 'a stage', step, n_epochs, after_epoch=lambda epoch, row: self.after.append(epoch),
            report=lambda *args: self.reports.append(args) or f'Training epoch {args[0]}',
            **options)

    def test_means_over_all_minibatches(self):
        # The last piece is the shorter one, so that a mean of means would be another number.
        with mock.patch.object(training, 'UPDATES_PER_CALL', 6), self.run_of([self.w]) as run, \
                mock.patch.object(training, 'Progress', wraps=training.Progress) as progress, \
                printed() as output, contextlib.redirect_stderr(io.StringIO()) as errors:
            rows = self.train(run, self.step, 2, columns=('cost', 'largest'))
        progress.assert_called_once_with('a stage', 2 * 23, 23, False)
        mean, largest = self.rows.mean(), self.rows.max(axis=1).mean()
        self.assertEqual([report[0] for report in self.reports], [0, 1])
        for _, *means in self.reports:
            numpy.testing.assert_allclose(means, [mean, largest], rtol=1e-6)
        self.assertEqual(self.after, [0, 1])
        self.assertEqual(output.getvalue(), 'Training epoch 0\nTraining epoch 1\n')
        self.assertEqual(errors.getvalue(), '')  # no progress bar where there is no terminal
        self.assertEqual(rows, [
            {'stage': 'a stage', 'epoch': epoch + 1, 'cost': means[0], 'largest': means[1]}
            for epoch, *means in self.reports])
        self.assertEqual(rows, run.history)
        self.assertEqual(self.w.get_value().tolist(), (1 + 2 * self.rows.sum(axis=0)).tolist())

    def test_no_epochs(self):
        with self.run_of([self.w]) as run:
            self.assertEqual(self.train(run, self.step, 0), [])
        self.assertEqual((self.reports, self.after), ([], []))
        self.assertEqual(self.w.get_value().tolist(), [1, 1])

    def test_order_of_every_epoch_also_when_it_is_resumed(self):
        def order(epoch):
            return numpy.random.RandomState(epoch).permutation(23)

        index, row = T.lscalar('index'), T.matrix('row')
        mixing = engine.function(
            [index], T.mean(row), [(self.w, (3 * self.w + T.sum(row, axis=0)) % 1009)],
            {row: engine.minibatch(engine.shared_data(self.rows), index, 1)})
        w = numpy.ones(2)
        for i in numpy.concatenate([order(0), order(1)]):
            w = (3 * w + self.rows[i]) % 1009

        with mock.patch.object(training, 'UPDATES_PER_CALL', 6), printed():
            failing = until_failure(engine.Step.over, 5, KeyboardInterrupt())
            with mock.patch.object(engine.Step, 'over', failing), \
                    self.assertRaises(KeyboardInterrupt), self.run_of([self.w]) as run:
                self.train(run, mixing, 2, order=order)
            self.assertEqual(self.after, [0])
            self.w.set_value(numpy.ones(2, dtype=theano.config.floatX))
            with self.run_of([self.w], resume=True) as run:
                self.train(run, mixing, 2, order=order)
        self.assertEqual(self.w.get_value().tolist(), w.tolist())

    def test_validation_keeps_the_best_model(self):
        costs = iter([3., 1., 2., 1.])
        with self.run_of([self.w]) as run, printed():
            rows = self.train(run, self.step, 4, columns=('cost', 'largest'),
                              validate=lambda: next(costs))
        self.assertEqual([row['validation_cost'] for row in rows], [3, 1, 2, 1])
        best = checkpoints.load_arrays(self.folder / 'out' / 'model.npz')['0_w']
        self.assertEqual(best.tolist(), (1 + 2 * self.rows.sum(axis=0)).tolist())

    def test_of_several_stages_each_has_a_best_model(self):
        costs = iter([1., 3., 2.])
        with self.run_of([self.w]) as run, printed():
            for name, n_epochs in (('a', 1), ('b', 2)):
                training.train_epochs(run, name, self.step, n_epochs, lambda *args: '',
                                      ('cost', 'largest'), validate=lambda: next(costs))
        best = checkpoints.load_arrays(self.folder / 'out' / 'model.npz')['0_w']
        self.assertEqual(best.tolist(), (1 + 3 * self.rows.sum(axis=0)).tolist())

    def test_only_the_cost_tells_divergence(self):
        index, row = T.lscalar('index'), T.matrix('row')
        step = engine.function(
            [index], [T.mean(row), 1e6 * index], [(self.w, self.w + T.sum(row, axis=0))],
            {row: engine.minibatch(engine.shared_data(self.rows), index, 1)})
        with self.run_of([self.w]) as run, printed():
            self.train(run, step, 1, columns=('cost', 'another'))

    def test_divergence_is_an_error_and_leaves_the_last_checkpoint(self):
        with self.run_of([self.w]) as run, printed():
            self.train(run, self.diverging, 2, scalars=lambda epoch: {'factor': 1.1})
            before = (self.folder / 'out' / 'checkpoint.npz').read_bytes()
            for factor, signs, message in (
                    (1e30, [1, 1], 'a stage: in epoch 3 the cost is no longer a finite number, so'),
                    (math.nan, [1, 1], 'a stage: in epoch 3 the cost is no longer a finite number'),
                    (1.2, [1, 1], 'a stage: in epoch 3 the cost is 2275; at first it was 2, so '
                                  'training has diverged: start anew, with `overwrite=True` and a'),
                    (1.2, [1, -1], 'a stage: in epoch 3 a parameter has grown to 5.3e+03, so')):
                self.w.set_value(numpy.array(signs, theano.config.floatX) * 1.1 ** 46)
                with self.assertRaises(UserError) as caught:
                    self.train(run, self.diverging, 3,
                               scalars=lambda epoch, factor=factor: {'factor': factor})
                self.assertNotIn('\n', str(caught.exception))
                self.assertTrue(str(caught.exception).startswith(message), caught.exception)
        self.assertEqual((self.folder / 'out' / 'checkpoint.npz').read_bytes(), before)
        arrays = checkpoints.load_arrays(self.folder / 'out' / 'checkpoint.npz')
        numpy.testing.assert_allclose(arrays['0_w'], 1.1 ** 46, rtol=1e-5)
        state = json.loads(str(arrays['state']))
        self.assertEqual(state['stages']['a stage']['updates'], 46)
        self.assertEqual([row['epoch'] for row in state['history']], [1, 2])

    def test_divergence_of_scripts(self):
        """Also where all numbers stay finite."""
        small = mock.patch.object(datasets, 'read', return_value=small_images(n_train=1000))
        for module, settings in (
                (logistic_sgd, {'learning_rate': 1e9, 'batch_size': 10, 'n_epochs': 2}),
                (mlp, {'learning_rate': 1000, 'n_hidden': 8, 'batch_size': 10, 'n_epochs': 2}),
                (dA, {'learning_rate': 1000, 'n_hidden': 8, 'training_epochs': 2}),
                (rbm, {'learning_rate': 1000, 'n_hidden': 8, 'k': 1, 'training_epochs': 2}),
                (rnnrbm, {'lr': 1000, 'n_hidden': 8, 'n_hidden_recurrent': 5, 'k': 1,
                          'num_epochs': 2, 'dataset': 'tunes'})):
            with self.subTest(module.__name__), small, printed(), \
                    contextlib.redirect_stderr(io.StringIO()), \
                    self.assertRaisesRegex(UserError, 'in epoch 1 .*, so training has diverged'):
                module.train(**settings, output_folder=str(self.folder / module.__name__))
            self.assertEqual(folders.read_record(self.folder / module.__name__)['status'], 'failed')
