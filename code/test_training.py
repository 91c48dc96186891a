"""Tests of early stopping, of the training loops and of what they print, save and refuse."""

import contextlib
import io
import itertools
import json
import math
import re
from types import SimpleNamespace
from unittest import mock

import numpy
import pytensor as theano
import pytensor.tensor as T
from PIL import Image

from logistic_sgd import (
    LogisticRegression,
    SharedDataSets,
    minibatch_givens,
    sgd_optimization_mnist,
)
from support import checkpoints, datasets, engine, training
from support.errors import UserError
from support.testing import REFERENCE_MODE, TestCase, printed, small_images, until_failure


def follow(stopping, loss_after, n_epochs, restart=lambda stopping, iteration: stopping):
    """Go through training segment by segment, as the loop does.

    :param loss_after: validation loss, by iteration
    :param restart: gives what takes the place of ``stopping`` at a segment's beginning
    :return: validated iterations, last iteration, and the segments
    """
    validated, segments, iteration = [], [], 0
    while iteration < n_epochs * stopping.n_train_batches:
        stopping = restart(stopping, iteration)
        start, end = stopping.segment(iteration)
        segments.append((start, end))
        if stopping.is_validated_after(end - 1):
            stopping.observe(end - 1, loss_after[end - 1])
            validated.append(end - 1)
        iteration = end
        if stopping.stops_after(end - 1):
            break
    return stopping, validated, iteration - 1, segments


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


class TestEarlyStopping(TestCase):

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

    def test_decision_table(self):
        for case, (n, patience, increase, losses, *expected) in self.DECISIONS.items():
            with self.subTest(case):
                stopping = training.EarlyStopping(n, patience, increase)
                frequency = expected[0][0] + 1
                self.assertEqual(stopping.validation_frequency, frequency)
                loss_after = {iteration: losses[min(iteration // frequency, len(losses) - 1)]
                              for iteration in range(200)}
                _, validated, last, _ = follow(stopping, loss_after, n_epochs=100)
                self.assertEqual(
                    [validated, last, stopping.best_iteration, stopping.patience], expected)
                self.assertEqual(stopping.best_loss, min(losses))

    def test_validation_frequency(self):
        for n, patience, frequency in ((83, 5000, 83), (2500, 10000, 2500), (100, 150, 75),
                                       (100, 3, 1), (100, 1, 1), (100, 0, 1), (1, 10, 1)):
            stopping = training.EarlyStopping(n, patience)
            self.assertEqual(stopping.validation_frequency, frequency)
            self.assertEqual([i for i in range(3 * frequency) if stopping.is_validated_after(i)],
                             [frequency - 1, 2 * frequency - 1, 3 * frequency - 1])

    def test_logistic_regression_ends_in_epoch_74(self):
        # The last step of more than half a per cent is that of epoch 37: patience is then
        # 2 * (37 * 83 - 1) = 6140, which is reached one update before epoch 74 is complete.
        loss, loss_after = 1.0, {}
        for epoch in range(1, 1001):
            loss *= 0.99 if epoch <= 37 else 0.999 if epoch <= 73 else 1.01
            loss_after[epoch * 83 - 1] = loss
        stopping = training.EarlyStopping(83, 5000)
        _, validated, last, _ = follow(stopping, loss_after, n_epochs=1000)
        self.assertEqual(validated, [epoch * 83 - 1 for epoch in range(1, 74)])
        self.assertEqual((last, stopping.patience, stopping.best_iteration + 1),
                         (6140, 6140, 6059))
        self.assertEqual(last // 83 + 1, 74)

    def random_cases(self):
        rng = numpy.random.RandomState(0)
        for _ in range(400):
            n, patience, n_epochs = rng.randint(1, 13), rng.randint(0, 60), rng.randint(1, 15)
            falling = numpy.exp(-rng.uniform(0, 0.1) * numpy.arange(n * n_epochs))
            noisy = falling * (1 + rng.uniform(0, 0.2) * rng.normal(size=n * n_epochs))
            losses = numpy.rint(noisy * 200) / 200  # so that ties and the threshold itself occur
            yield (losses.tolist(), int(n), int(patience), float(rng.choice([1, 1.5, 2, 3])),
                   float(rng.choice([0.9, 0.995, 1])), int(n_epochs))

    def test_agrees_with_a_loop_over_single_updates(self):
        stopped_early = 0
        for losses, n, patience, increase, threshold, n_epochs in self.random_cases():
            stopping = training.EarlyStopping(n, patience, increase, threshold)
            _, validated, last, _ = follow(stopping, losses, n_epochs)
            self.assertEqual(
                (validated, last, stopping.best_loss, stopping.best_iteration, stopping.patience),
                follow_naively(losses, n, patience, increase, threshold, n_epochs))
            stopped_early += last + 1 < n * n_epochs
        self.assertTrue(50 < stopped_early < 350, stopped_early)  # both ends are tested

    def test_segments(self):
        for losses, n, patience, increase, threshold, n_epochs in self.random_cases():
            stopping = training.EarlyStopping(n, patience, increase, threshold)

            def same_from_the_middle(stopping, iteration, n=n):
                start, end = stopping.segment(iteration)
                self.assertEqual(start, iteration)
                for middle in range(start, end):
                    self.assertEqual(stopping.segment(middle), (start, end))
                for inside in range(start, end - 1):
                    self.assertFalse(stopping.is_validated_after(inside)
                                     or stopping.stops_after(inside) or (inside + 1) % n == 0)
                self.assertTrue(stopping.is_validated_after(end - 1)
                                or stopping.stops_after(end - 1) or end % n == 0)
                return stopping

            _, _, last, segments = follow(stopping, losses, n_epochs, same_from_the_middle)
            self.assertEqual([i for start, end in segments for i in range(start, end)],
                             list(range(last + 1)))

    def test_goes_on_from_its_state(self):
        for losses, n, patience, increase, threshold, n_epochs in self.random_cases():
            def anew(stopping, iteration, arguments=(n, patience, increase, threshold)):
                if math.isinf(stopping.best_loss):  # nothing to save yet
                    return stopping
                other = training.EarlyStopping(*arguments)
                other.restore(json.loads(json.dumps(stopping.state(), allow_nan=False)))
                self.assertEqual(repr(other.state()), repr(stopping.state()))
                return other

            whole = training.EarlyStopping(n, patience, increase, threshold)
            _, *expected = follow(whole, losses, n_epochs)
            parts, *found = follow(training.EarlyStopping(n, patience, increase, threshold),
                                   losses, n_epochs, anew)
            self.assertEqual(found, expected)
            self.assertEqual(parts.state(), whole.state())


class TestParts(TestCase):

    def test_pieces(self):
        for length, limit in itertools.product(range(1, 200), (1, 2, 3, 7, 30, 50, 1000)):
            cuts = list(training.pieces(0, length, limit))
            self.assertEqual([i for first, last in cuts for i in range(first, last)],
                             list(range(length)))
            lengths = {last - first for first, last in cuts}
            self.assertLessEqual(max(lengths), limit)
            self.assertLessEqual(len(lengths), 2)
            self.assertLess(len(cuts), 2 * math.ceil(length / limit))
            self.assertEqual([(first + 5, last + 5) for first, last in cuts],
                             list(training.pieces(5, 5 + length, limit)))
        # One length where it can be had, without cutting twice as often.
        self.assertEqual(list(training.pieces(0, 20, 7)), [(0, 5), (5, 10), (10, 15), (15, 20)])
        self.assertEqual(list(training.pieces(3, 13, 4)), [(3, 5), (5, 7), (7, 9), (9, 11),
                                                           (11, 13)])
        self.assertEqual(list(training.pieces(0, 11, 4)), [(0, 3), (3, 7), (7, 11)])
        self.assertEqual(list(training.pieces(0, 0, 4)), [])

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

    GOOD_SETTINGS = {
        'n_epochs': (0, 1, 10 ** 6), 'pretraining_epochs': (0,), 'training_epochs': (0, 5),
        'seed': (None, 0, 2 ** 32 - 1), 'batch_size': (1, 600), 'n_hidden': (1,),
        'hidden_layers_sizes': ((1,), [1000, 1000], (3, 2, 1)),
        'corruption_levels': ((0.0, 0.999), [], (0,)), 'learning_rate': (0, 0.13, 1e30),
        'finetune_lr': (0.0,), 'pretrain_lr': (1,), 'L1_reg': (0.0, 3),
        'dataset': (None, 'digits'), 'output_folder': ('-1',), 'resume': (True, False),
    }
    BAD_SETTINGS = {
        'n_epochs': ((-1,), 'at least 0'), 'pretraining_epochs': ((-5,), 'at least 0'),
        'seed': ((-1, 2 ** 32), 'from 0 to 4294967295'),
        'batch_size': ((0, -20), 'at least 1'), 'n_hidden': ((0,), 'at least 1'),
        'hidden_layers_sizes': (((), (10, 0), [-1]), 'at least 1'),
        'corruption_levels': (((0.1, 1.0), (-0.1,), (math.nan,)), 'at least 0 and below 1'),
        'learning_rate': ((-0.1, math.inf, math.nan), 'at least 0 and finite'),
        'finetune_lr': ((-1, -math.inf), 'at least 0 and finite'),
        'L2_reg': ((-1e-4, math.nan), 'at least 0 and finite'),
    }

    def test_check_settings(self):
        for name, values in self.GOOD_SETTINGS.items():
            for value in values:
                settings = {name: value}
                checked = training.check_settings(settings)
                self.assertEqual(checked, {name: value})
                self.assertIsNot(checked, settings)
        for name, (values, allowed) in self.BAD_SETTINGS.items():
            for value in values:
                with self.assertRaises(UserError) as caught:
                    training.check_settings({'n_epochs': 1, name: value})
                self.assertEqual(str(caught.exception), f'--{name.replace("_", "-")} is {value}, '
                                                        f'but has to be {allowed}')

    def test_settings_are_checked_before_anything_is_done(self):
        with mock.patch.object(datasets, 'read', side_effect=AssertionError), \
                self.assertRaisesRegex(UserError, '--batch-size is 0'):
            sgd_optimization_mnist(batch_size=0, output_folder=str(self.folder / 'out'))
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_sgd_updates(self):
        start = numpy.array([1.0, -2.0, 0.5])
        for rate in (0.25, T.constant(0.25, dtype='float64')):
            u = theano.shared(start.astype('float32'), name='u')
            v = theano.shared(start, name='v')
            updates = training.sgd_updates(T.sum(u ** 2) / 2 + 3 * T.sum(v), [u, v], rate)
            self.assertEqual([param for param, _ in updates], [u, v])
            for param, new in updates:  # a learning rate of another precision changes no type
                self.assertEqual(new.type.dtype, param.type.dtype)
            new_u, new_v = theano.function([], [new for _, new in updates],
                                          mode=REFERENCE_MODE)()
            self.assertEqual(new_u.tolist(), (start * 0.75).tolist())
            self.assertEqual(new_v.tolist(), (start - 0.75).tolist())

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


class TrainingCase(TestCase):

    def settings(self, **changed):
        return {'output_folder': str(self.folder), 'resume': False, 'overwrite': False} | changed


class TestEarlyStoppingLoop(TrainingCase):

    def train(self, data, learning_rate, batch_size, n_epochs, patience):
        index, x, y = T.lscalar('index'), T.matrix('x'), T.ivector('y')
        classifier = LogisticRegression(x, data.n_in, data.n_classes)
        cost = classifier.negative_log_likelihood(y)
        shared = SharedDataSets(data)
        givens = [minibatch_givens(x, y, pair, index, batch_size) for pair in shared]
        train_model = engine.function(
            [index], cost, training.sgd_updates(cost, classifier.params, learning_rate), givens[0])
        validate, test = (training.error_rates(engine.function([index], classifier.errors(y),
                                                               givens=given))
                          for given in givens[1:])
        with checkpoints.Run('test', self.settings(), shared, classifier.params) as run, \
                printed() as output:
            scores = training.train_with_early_stopping(
                run, train_model, validate, test, n_epochs, patience)
        return scores, classifier, run.state, output.getvalue().splitlines()

    def test_agrees_with_numpy(self):
        data = small_images(n_train=205, n_valid=68, n_test=61)  # none a multiple of the batch
        cases = (  # validation in mid-epoch and a stop by patience; the end of n_epochs
            {'learning_rate': 0.6, 'batch_size': 6, 'n_epochs': 100, 'patience': 31},
            {'learning_rate': 0.2, 'batch_size': 20, 'n_epochs': 5, 'patience': 10 ** 4},
        )
        for case, calls, n_epochs in zip(cases, (4, 1000), (60, 5), strict=True):
            with self.subTest(**case), mock.patch.object(training, 'UPDATES_PER_CALL', calls):
                lines, params, epochs = numpy_logistic_sgd(data, **case)
                scores, classifier, state, output = self.train(data, **case)
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
                self.check_history(state['history'], lines)

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
                                            output_folder=str(self.folder))
        self.assertIn('Optimization complete: no validation was reached\n', output.getvalue())
        self.assertEqual((result.history, result.scores), ([], {'epochs': 0}))
        self.assertFalse(result.model.W.get_value().any())
        self.assertEqual({file.name for file in self.folder.iterdir()},
                         {'checkpoint.npz', 'run.json'})


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

    def run_of(self, **changed):
        data = SimpleNamespace(name='rows', sha256='0', image_shape=(1, 2))
        return checkpoints.Run('test', self.settings(**changed), data, [self.w])

    def train(self, run, step, n_epochs, **options):
        return training.train_epochs(
            run, 'a stage', step, n_epochs, after_epoch=self.after.append,
            report=lambda *args: self.reports.append(args) or f'Training epoch {args[0]}',
            **options)

    def test_means_over_all_minibatches(self):
        # The last piece is the shorter one, so that a mean of means would be another number.
        with mock.patch.object(training, 'UPDATES_PER_CALL', 6), self.run_of() as run, \
                printed() as output, contextlib.redirect_stderr(io.StringIO()) as errors:
            rows = self.train(run, self.step, 2, columns=('cost', 'largest'))
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
        self.assertEqual(rows, run.state['history'])
        self.assertEqual(self.w.get_value().tolist(), (1 + 2 * self.rows.sum(axis=0)).tolist())

    def test_no_epochs(self):
        with self.run_of() as run:
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

        save = checkpoints.Run.save
        with mock.patch.object(training, 'UPDATES_PER_CALL', 6), printed(), \
                mock.patch.object(checkpoints.Run, 'checkpoint_is_due', return_value=True):
            with mock.patch.object(checkpoints.Run, 'save',
                                   until_failure(save, 8, KeyboardInterrupt())), \
                    self.assertRaises(KeyboardInterrupt), self.run_of() as run:
                self.train(run, mixing, 2, order=order)
            self.assertEqual(self.after, [0])
            self.w.set_value(numpy.ones(2, dtype=theano.config.floatX))
            with self.run_of(resume=True) as run:
                self.assertGreater(run.stage('a stage', 2)['minibatch'], 0)
                self.train(run, mixing, 2, order=order)
        self.assertEqual(self.w.get_value().tolist(), w.tolist())

    def test_divergence_is_an_error_and_leaves_the_last_checkpoint(self):
        with self.run_of() as run, printed():
            self.train(run, self.diverging, 2, scalars=lambda epoch: {'factor': 1.5})
            before = (self.folder / 'checkpoint.npz').read_bytes()
            for factor in (1e30, math.nan):
                with self.assertRaises(UserError) as caught:
                    self.train(run, self.diverging, 3,
                               scalars=lambda epoch, factor=factor: {'factor': factor})
                self.assertNotIn('\n', str(caught.exception))
                self.assertTrue(str(caught.exception).startswith(
                    'a stage: in epoch 3 the cost is no longer a finite number: start anew'))
        self.assertEqual((self.folder / 'checkpoint.npz').read_bytes(), before)
        arrays, state = checkpoints.load_checkpoint(self.folder / 'checkpoint.npz')
        numpy.testing.assert_allclose(arrays['0_w'], 1.5 ** 46, rtol=1e-5)
        self.assertEqual(state['stages']['a stage']['epoch'], 2)
        self.assertEqual([row['epoch'] for row in state['history']], [1, 2])

    def test_divergence_of_a_script(self):
        with mock.patch.object(datasets, 'read', return_value=small_images()), printed(), \
                self.assertRaisesRegex(UserError, 'training: in epoch 1 the cost is no longer'):
            sgd_optimization_mnist(learning_rate=3e38, batch_size=10, n_epochs=2,
                                   output_folder=str(self.folder))
        arrays, _ = checkpoints.load_checkpoint(self.folder / 'checkpoint.npz')
        self.assertFalse(arrays['0_W'].any())  # from before the first update
