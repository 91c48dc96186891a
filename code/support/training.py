"""Training loops, written once: epochs over minibatches, early stopping, progress, history.

A chapter describes one step; here it is run as often as needed. Many minibatches go into each
call of a compiled function (see :mod:`support.engine`), which changes no number: the loops cut
the updates at the points where something is to be measured, printed or decided.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from tqdm import tqdm

from support import engine
from support.checkpoints import Run, load_model, written_atomically
from support.errors import UserError

# Between two calls of a compiled function come progress, Ctrl-C and checkpoints; a call of this
# many updates, or of this many examples, takes less than a second on two cores.
UPDATES_PER_CALL = 1000
EXAMPLES_PER_CALL = 50_000

Order = Callable[[int], Sequence[int] | numpy.ndarray]


@dataclass
class Result:
    """What a training function returns.

    :param model: the model, with the best parameters where there is a validation set
    :param data_name: the data set that was used
    :param output_folder: where everything was written
    :param history: one row for every line that was printed, with the columns of ``history.csv``
    :param scores: ``best_validation_error`` and ``test_error`` in per cent, ``best_iteration``
        (minibatches, from 1) and ``epochs``; or the last costs of an unsupervised model
    """

    model: Any
    data_name: str
    output_folder: Path
    history: list[dict[str, Any]]
    scores: dict[str, Any] = field(default_factory=dict)


def check_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Look over the keyword arguments of a training function before hours are spent on them.

    :param settings: the arguments, by name; the names decide what is allowed
    :return: a copy
    :raises UserError: when a number is outside what its name allows
    """
    def numbers(value):
        return value if isinstance(value, (list, tuple)) else [value]

    def refuse(name, value, allowed):
        option = '--' + name.replace('_', '-')
        raise UserError(f'{option} is {value}, but has to be {allowed}')

    for name, value in settings.items():
        if value is None or isinstance(value, (bool, str)):
            continue
        if name.endswith('epochs'):
            if value < 0:
                refuse(name, value, 'at least 0')
        elif name == 'seed':
            if not 0 <= value < 2 ** 32:
                refuse(name, value, 'from 0 to 4294967295')
        elif (name in ('batch_size', 'k', 'plot_every', 'nkerns')
              or name.startswith(('n_', 'hidden_layers'))):
            if not numbers(value) or min(numbers(value)) < 1:
                refuse(name, value, 'at least 1')
        elif name.startswith('corruption'):
            if not all(0 <= number < 1 for number in numbers(value)):
                refuse(name, value, 'at least 0 and below 1')
        elif name.endswith('decay'):
            if not 0 < value <= 1:
                refuse(name, value, 'above 0 and at most 1')
        elif name.endswith(('lr', 'learning_rate', '_reg')):
            if not 0 <= value < math.inf:
                refuse(name, value, 'at least 0 and finite')
        elif not all(math.isfinite(number) for number in numbers(value)
                     if isinstance(number, float)):
            refuse(name, value, 'finite')
    return dict(settings)


# Steps ------------------------------------------------------------------------------------------

def sgd_updates(cost: Variable, params: Sequence[SharedVariable],
                learning_rate: Variable | float) -> engine.Updates:
    """Stochastic gradient descent: ``param - learning_rate * d cost / d param`` for each one.

    :param cost: scalar
    :return: pairs of a parameter and its new value, as ``theano.function`` takes them
    """
    gradients = T.grad(cost, list(params))
    return [(param, param - T.cast(learning_rate, param.dtype) * gradient)
            for param, gradient in zip(params, gradients, strict=True)]


def error_rates(errors: engine.MinibatchFunction) -> Callable[[], list[float]]:
    """A function without arguments that gives the zero-one error of every minibatch, as a list.

    :param errors: compiled to the mean zero-one loss of one minibatch
    """
    def scores():
        # A float32 mean is a rounded fraction; the number of mistakes behind it is exact, so that
        # two models with equally many are never told apart by rounding.
        rates = errors.run(range(errors.n_minibatches)).astype('float64')
        return (numpy.rint(rates * errors.batch_size) / errors.batch_size).tolist()

    return scores


# Early stopping ---------------------------------------------------------------------------------

class EarlyStopping:
    """When to validate and when to stop, after the rule of Bengio (2012).

    Training goes on for ``patience`` updates at least. Whenever the validation loss falls below
    ``improvement_threshold`` times the best so far, patience becomes ``patience_increase`` times
    the present iteration, if that is more. Iterations count minibatch updates, from 0.

    :param n_train_batches: minibatches in an epoch; validation is no rarer than once an epoch
    :param patience: updates to make in any case
    :param patience_increase: how much longer to wait after an improvement
    :param improvement_threshold: what counts as an improvement worth waiting for
    """

    def __init__(self, n_train_batches: int, patience: int, patience_increase: float = 2,
                 improvement_threshold: float = 0.995):
        self.validation_frequency = max(1, min(n_train_batches, patience // 2))
        self.n_train_batches = n_train_batches
        self.patience = patience
        self.patience_increase = patience_increase
        self.improvement_threshold = improvement_threshold
        self.best_loss = math.inf
        self.best_iteration = 0

    def is_validated_after(self, iteration: int) -> bool:
        """Whether the validation set is looked at after update number ``iteration``."""
        return (iteration + 1) % self.validation_frequency == 0

    def stops_after(self, iteration: int) -> bool:
        """Whether update number ``iteration`` is the last; asked after the validation."""
        return self.patience <= iteration

    def observe(self, iteration: int, loss: float) -> bool:
        """Take note of the validation loss after update ``iteration``.

        :return: whether it is the best so far
        """
        if not loss < self.best_loss:
            return False
        if loss < self.best_loss * self.improvement_threshold:
            self.patience = max(self.patience, iteration * self.patience_increase)
        self.best_loss, self.best_iteration = loss, iteration
        return True

    def state(self) -> list[float]:
        """What :meth:`restore` needs to go on as if nothing had happened."""
        return [self.patience, self.best_loss, self.best_iteration]

    def restore(self, state: list[float]) -> None:
        """Take over the state of another object with the same arguments."""
        self.patience, self.best_loss, self.best_iteration = state

    def segment(self, iteration: int) -> tuple[int, int]:
        """First and last-plus-one of the updates around ``iteration`` that nothing interrupts.

        A segment ends with a validation, with the epoch, or where patience ends.
        """
        in_epoch = iteration % self.n_train_batches
        start = iteration - min(in_epoch, iteration % self.validation_frequency)
        end = min(iteration - in_epoch + self.n_train_batches,
                  iteration - iteration % self.validation_frequency + self.validation_frequency)
        return start, min(end, max(start, math.ceil(self.patience)) + 1)


# Loops ------------------------------------------------------------------------------------------

class Stage:
    """One part of a run: a step that is taken minibatch after minibatch from where it was left.

    What it keeps in ``record`` is part of every checkpoint: the epochs that are complete, the
    minibatches of the present one, and the sums of what the step returned since the last report.

    :param run: the run that this is a part of
    :param name: unique in the run
    :param step: the compiled step; returns the cost, or a list that begins with it
    :param n_epochs: epochs to have in the end
    :param scalars: gives the values of the further inputs of ``step``, by name, in an epoch,
        counted from 0
    :param stands_alone: True when no later stage builds on this one
    :param order: gives the numbers of the minibatches of an epoch, from 0, in the order in which
        they are run; it depends on nothing else, so that a run that is resumed finds the same;
        None for 0, 1, 2 ... in every epoch
    """

    def __init__(self, run: Run, name: str, step: engine.MinibatchFunction, n_epochs: int,
                 scalars: Callable[[int], dict[str, float]] = lambda epoch: {},
                 stands_alone: bool = False, order: Order | None = None):
        self.run = run
        self.name = name
        self.step = step
        self.n_epochs = n_epochs
        self.scalars = scalars
        self.order = order or (lambda epoch: range(step.n_minibatches))
        self.record = run.stage(name, n_epochs, stands_alone)
        self._clock = time.monotonic()
        if self.has_more_epochs():
            step.set_generator_states(self.record['generators'])

    def has_more_epochs(self) -> bool:
        return self.record['epoch'] < self.n_epochs

    def progress(self) -> tqdm:
        """A progress bar for the present epoch; there is none unless stderr is a terminal."""
        return tqdm(total=self.step.n_minibatches, initial=self.record['minibatch'], leave=False,
                    desc=f'{self.name}, epoch {self.record["epoch"] + 1}', unit='minibatch',
                    disable=None, delay=0.5)

    def advance(self, start: int, end: int, bar: tqdm) -> None:
        """Run what is left of the minibatches ``start`` to ``end - 1`` of the present epoch.

        Here minibatches are numbered in the order in which they are run.

        :raises UserError: when the cost is no longer a number
        :raises KeyboardInterrupt: when the user wants to stop, after a checkpoint
        """
        record = self.record
        order = self.order(record['epoch'])
        limit = min(UPDATES_PER_CALL, max(1, EXAMPLES_PER_CALL // self.step.batch_size))
        for first, last in pieces(start, end, limit):
            if last <= record['minibatch']:  # done before the run was interrupted
                continue
            first = max(first, record['minibatch'])
            if self.run.checkpoint_is_due():
                self.save()
            outputs = self.step.run(order[first:last], **self.scalars(record['epoch']))
            outputs = outputs if self.step.returns_list else [outputs]
            sums = [float(numpy.sum(output, dtype='float64')) for output in outputs]
            if not all(map(math.isfinite, sums)):
                raise UserError(
                    f'{self.name}: in epoch {record["epoch"] + 1} the cost is no longer a finite '
                    'number: start anew, with --overwrite and a smaller learning rate')
            before = record['sums'] or [0.0] * len(sums)
            record['sums'] = [old + new for old, new in zip(before, sums, strict=True)]
            record['count'] = record.get('count', 0) + last - first
            record['minibatch'] = last
            bar.update(last - first)

    def means(self) -> list[float]:
        """Means over minibatches of what the step has returned since the last call."""
        record = self.record
        means = [total / record['count'] for total in record['sums']]
        record |= {'sums': [], 'count': 0}
        return means

    def end_epoch(self) -> None:
        """Count the epoch as complete and write a checkpoint."""
        self.record |= {'epoch': self.record['epoch'] + 1, 'minibatch': 0}
        self.save()

    def save(self) -> None:
        """Write a checkpoint."""
        now = time.monotonic()
        spent = self.run.seconds.get(self.name, 0.0) + now - self._clock
        self.run.seconds[self.name], self._clock = spent, now
        self.record['generators'] = self.step.generator_states()
        self.run.save()


def train_epochs(run: Run, name: str, step: engine.MinibatchFunction, n_epochs: int,
                 report: Callable[..., str], columns: Sequence[str] = ('cost',),
                 scalars: Callable[[int], dict[str, float]] = lambda epoch: {},
                 stands_alone: bool = False,
                 after_epoch: Callable[[int], None] | None = None,
                 order: Order | None = None) -> list[dict[str, Any]]:
    """Unsupervised training: all minibatches, epoch after epoch.

    :param run: where checkpoints go
    :param name: name of this part of the run
    :param step: one update on a minibatch; returns its cost, or a list that begins with it
    :param n_epochs: number of epochs
    :param report: makes the line to print from the epoch, from 0, and the means over its
        minibatches of what ``step`` returned
    :param columns: names for what ``step`` returns
    :param scalars: gives the values of the further inputs of ``step``, by name, in an epoch,
        counted from 0
    :param stands_alone: True when no later part of the run builds on this one
    :param after_epoch: called with the epoch, from 0, before its checkpoint
    :param order: see :class:`Stage`
    :return: the rows of the history that belong to this part
    """
    stage = Stage(run, name, step, n_epochs, scalars, stands_alone, order)
    while stage.has_more_epochs():
        epoch = stage.record['epoch']
        with stage.progress() as bar:
            stage.advance(0, step.n_minibatches, bar)
            means = stage.means()
            say(report(epoch, *means))
        run.state['history'].append(
            {'stage': name, 'epoch': epoch + 1} | dict(zip(columns, means, strict=True)))
        if after_epoch is not None:
            after_epoch(epoch)
        stage.end_epoch()
    return [row for row in run.state['history'] if row['stage'] == name]


def train_with_early_stopping(
        run: Run, train_model: engine.MinibatchFunction, validate: Callable[[], list[float]],
        test: Callable[[], list[float]], n_epochs: int, patience: int,
        patience_increase: float = 2, improvement_threshold: float = 0.995,
        name: str = 'training') -> dict[str, Any]:
    """Minibatch descent with early stopping, the last part of every supervised script.

    The best parameters go into ``model.npz`` whenever they are found, and into the model at last.

    :param run: where checkpoints and the best model go
    :param train_model: one update on a minibatch; returns its cost
    :param validate: gives the validation error of every minibatch
    :param test: the same for the test set; asked whenever the validation error is the best so far
    :param n_epochs: epochs at most
    :param patience: see :class:`EarlyStopping`, as for the two after it
    :param name: name of this part of the run
    :return: the scores, as in :class:`Result`
    """
    n_batches = train_model.n_minibatches
    stopping = EarlyStopping(n_batches, patience, patience_increase, improvement_threshold)
    stage = Stage(run, name, train_model, n_epochs)
    record = stage.record
    scores = Scores(run, stage, stopping, validate, test)
    while stage.has_more_epochs() and not record.get('stopped'):
        with stage.progress() as bar:
            while record['minibatch'] < n_batches and not record.get('stopped'):
                epoch_start = record['epoch'] * n_batches
                start, end = stopping.segment(epoch_start + record['minibatch'])
                stage.advance(start - epoch_start, end - epoch_start, bar)
                if stopping.is_validated_after(end - 1):
                    scores.measure(end - 1, stage.means()[0])
                record['stopped'] = stopping.stops_after(end - 1)
        stage.end_epoch()
    return scores.conclude()


class Scores:
    """Validation and test errors of a supervised run, and its best model.

    :param run: where history and best model go
    :param stage: the part of the run that is scored
    :param stopping: decides what is the best so far
    :param validate: gives the validation error of every minibatch
    :param test: the same for the test set; asked when the validation error is the best so far
    """

    def __init__(self, run: Run, stage: Stage, stopping: EarlyStopping,
                 validate: Callable[[], list[float]], test: Callable[[], list[float]]):
        self.run = run
        self.stage = stage
        self.stopping = stopping
        self.validate = validate
        self.test = test
        if 'stopping' in stage.record:
            stopping.restore(stage.record['stopping'])

    def measure(self, iteration: int, cost: float) -> None:
        """Print the validation error after update ``iteration``; if it is the best, test and save.

        :param cost: mean training cost since the last time, for the history
        """
        record = self.stage.record
        error = mean_error(self.validate())
        row = {'stage': self.stage.name, 'epoch': record['epoch'] + 1,
               'minibatch': record['minibatch'], 'cost': cost, 'validation_error': 100 * error}
        place = (f'epoch {row["epoch"]}, minibatch {row["minibatch"]}/'
                 f'{self.stage.step.n_minibatches}')
        say(f'{place}, validation error {100 * error:f} %')
        if self.stopping.observe(iteration, error):
            row['test_error'] = record['test_error'] = 100 * mean_error(self.test())
            say(f'     {place}, test error of best model {row["test_error"]:f} %')
            self.run.keep_model()
        record['stopping'] = self.stopping.state()
        self.run.state['history'].append(row)

    def conclude(self) -> dict[str, Any]:
        """Print the scores, finish the run and give its model the best parameters."""
        epochs = self.stage.record['epoch']
        if math.isinf(self.stopping.best_loss):
            print('Optimization complete: no validation was reached')
            self.run.finish({'epochs': epochs})
            return self.run.state['scores']
        scores = {'best_validation_error': 100 * self.stopping.best_loss,
                  'test_error': self.stage.record['test_error'],
                  'best_iteration': self.stopping.best_iteration + 1, 'epochs': epochs}
        print('Optimization complete with best validation score of {best_validation_error:f} %, '
              'obtained at iteration {best_iteration}, with test performance {test_error:f} %'
              .format(**scores))
        # Not known when run.json was lost, or when there was next to nothing to do.
        seconds = self.run.seconds.get(self.stage.name) or math.nan
        print(f'The code run for {epochs} epochs, with {epochs / seconds:f} epochs/sec')
        self.run.finish(scores)
        load_model(self.run.folder, self.run.params)
        return scores


def mean_error(errors: Sequence[float]) -> float:
    """Mean over minibatches, without the last digits, which depend on the order of summation."""
    return round(math.fsum(errors) / len(errors), 12)


def pieces(start: int, end: int, limit: int) -> Iterator[tuple[int, int]]:
    """Cut ``range(start, end)`` into pieces of at most ``limit``, of one length where it can be.

    Each length is compiled anew; two lengths are the most there are. The cuts depend on nothing
    but the arguments, so an interrupted run meets the same ones when it goes on.
    """
    length = end - start
    fewest = math.ceil(length / limit)
    n_pieces = next((n for n in range(fewest, 2 * fewest) if length % n == 0), fewest)
    for piece in range(n_pieces):
        yield (start + piece * length // n_pieces, start + (piece + 1) * length // n_pieces)


def say(line: str) -> None:
    """Print a line above the progress bar."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


def plot_history(history: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw costs, one panel for every part of the run, and errors against epochs.

    :param history: the rows of ``history.csv``
    :param path: the PNG to write
    """
    from matplotlib.figure import Figure  # slow to import, and needed only here

    stages = list(dict.fromkeys(row['stage'] for row in history))
    columns = [column for column in dict.fromkeys(key for row in history for key in row)
               if column not in ('stage', 'epoch', 'minibatch')]
    figure = Figure(figsize=(5 * len(stages), 3.5), layout='constrained')
    for axes, stage in zip(figure.subplots(1, len(stages), squeeze=False)[0], stages, strict=True):
        for column in columns:
            points = [(row['epoch'], row[column]) for row in history
                      if row['stage'] == stage and column in row]
            if points:
                axes.plot(*zip(*points, strict=True), '.-', label=column.replace('_', ' '))
        axes.set(title=stage, xlabel='epoch')
        axes.legend()
    with written_atomically(path) as file:
        figure.savefig(file, format='png', dpi=100)


def result(run: Run, model: Any, scores: dict[str, Any]) -> Result:
    """What a training function returns, after the curves have been drawn."""
    if run.state['history']:
        plot_history(run.state['history'], run.folder / 'curves.png')
    print(f'The data set was {run.data_name}; everything is in {run.folder}')
    return Result(model, run.data_name, run.folder, run.state['history'], scores)
