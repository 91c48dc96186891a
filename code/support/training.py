"""Training loops, written once: epochs over minibatches, early stopping, progress, history.

A chapter describes one step; here it is taken as often as needed. Many minibatches go into each
call of a compiled function (see :mod:`support.engine`), which changes no number: the loops cut
the updates at the points where something is to be measured, printed or decided. There is a
checkpoint after every validation and at the end of every epoch; what comes after the last one is
repeated when a run is resumed.
"""

import base64
import html
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import engine
from support.checkpoints import Run, named, restore
from support.errors import UserError
from support.folders import written_atomically
from support.progress import Progress

import numpy
from pytensor.tensor.random.type import RandomType
from tqdm import tqdm

# Between two calls of a compiled function come progress and Ctrl-C; a call of this many updates,
# or of this many examples, takes less than a second on two cores.
UPDATES_PER_CALL = 1000
EXAMPLES_PER_CALL = 50_000

LARGEST_WEIGHT = 1e3  # no model here means anything with one beyond, with inputs of the order of 1
# Nor with a cost, in nats, of so many times the one before the first update, and so many more.
LARGEST_COST = 5, 1000

Row = dict[str, Any]


class Diverged(UserError):
    """Training has diverged: these settings lead nowhere."""


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
    history: list[Row] = field(repr=False)
    scores: dict[str, Any] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """What a notebook shows of it: a table of the scores, and the curves."""
        cells = {'data': self.data_name, 'output folder': self.output_folder} | self.scores
        rows = [f'<tr><th>{name.replace("_", " ")}</th><td>{html.escape(str(value))}</td></tr>'
                for name, value in cells.items()]
        curves = self.output_folder / 'curves.png'
        picture = base64.b64encode(curves.read_bytes()).decode() if curves.exists() else ''
        return (f'<table>{"".join(rows)}</table>'
                + f'<img alt="curves" src="data:image/png;base64,{picture}">' * bool(picture))


# Steps ------------------------------------------------------------------------------------------

def error_rates(errors: engine.Step) -> Callable[[], list[float]]:
    """A function without arguments that gives the zero-one error of every minibatch, as a list.

    :param errors: gives the mean zero-one loss of one minibatch
    """
    def scores():
        # A float32 mean is a rounded fraction; the number of mistakes behind it is exact, so that
        # two models with equally many are never told apart by rounding.
        rates = errors.over(range(errors.n_minibatches)).astype('float64')
        return (numpy.rint(rates * errors.batch_size) / errors.batch_size).tolist()

    return scores


# Loops ------------------------------------------------------------------------------------------

class Stage:
    """One part of a run: a step that is taken minibatch after minibatch from where it was left.

    :param run: the run that this is a part of
    :param name: unique in the run
    :param step: returns the cost of a minibatch, or a list that begins with it
    :param n_epochs: epochs to have in the end
    :param scalars: gives the values of the further inputs of ``step``, by name, in an epoch,
        counted from 0: a learning-rate schedule, for instance
    :param stands_alone: True when no later stage builds on this one
    :param may_end_early: True for the last part of a run that may have fewer epochs
    """

    def __init__(self, run: Run, name: str, step: engine.Step, n_epochs: int,
                 scalars: Callable[[int], dict[str, float]] | None = None,
                 stands_alone: bool = False, may_end_early: bool = False):
        self.run, self.name, self.step, self.n_epochs = run, name, step, n_epochs
        self.scalars = scalars or (lambda epoch: {})
        # What the step changes decides how the run goes on.
        run.hold(variable for variable in step.updated
                 if not isinstance(variable.type, RandomType))
        self.record = run.stage(name, n_epochs, step.n_minibatches, stands_alone)
        if self.record.get('generators') and self.has_more_epochs():
            step.set_generator_states(self.record['generators'])
        self.progress = Progress(name, n_epochs * step.n_minibatches, step.n_minibatches,
                                 may_end_early)
        self._started = time.monotonic()

    @property
    def epoch(self) -> int:
        """The present epoch, from 0."""
        return self.record['updates'] // self.step.n_minibatches

    def has_more_epochs(self) -> bool:
        """Whether there is an epoch to come, or one that is not complete."""
        return self.epoch < self.n_epochs

    def advance(self, indices: Sequence[int] | numpy.ndarray) -> list[float]:
        """Take the step on these minibatches of the present epoch.

        :return: sums over the minibatches of what the step returns
        :raises UserError: when the cost is no longer a number, or beyond ``LARGEST_COST``
        :raises KeyboardInterrupt: when the user wants to stop
        """
        limit = min(UPDATES_PER_CALL, max(1, EXAMPLES_PER_CALL // self.step.batch_size))
        totals = numpy.zeros(1)  # or more, if the step returns a list
        for first, last in parts(len(indices), limit):
            self.run.check_interruption()
            outputs = self.step.over(indices[first:last], **self.scalars(self.epoch))
            outputs = outputs if self.step.returns_list else [outputs]
            totals = totals + numpy.array([numpy.sum(output, dtype='float64')
                                           for output in outputs])
            if not numpy.isfinite(totals).all():
                raise self.diverged(self.epoch + 1, 'the cost is no longer a finite number')
            before = self.record.setdefault('first_cost', float(outputs[0][0]))
            cost, (times, more) = totals[0] / last, LARGEST_COST
            if abs(cost) > times * abs(before) + more:
                raise self.diverged(self.epoch + 1, f'the cost is {cost:.4g}; at first it was '
                                                    f'{before:.4g}')
            self.progress.update(self.record['updates'] + last)
        self.record['updates'] += len(indices)
        return totals.tolist()

    def diverged(self, epoch: int, what: str) -> Diverged:
        """The error that ends a run in an epoch, counted from 1, in which this has been seen."""
        return Diverged(f'{self.name}: in epoch {epoch} {what}, so training has diverged: start '
                        'anew, with `overwrite=True` and a smaller learning rate')

    def save(self) -> None:
        """Write a checkpoint.

        :raises UserError: when the parameters have diverged; the last checkpoint stays
        """
        n = self.step.n_minibatches
        now = time.monotonic()
        self.run.seconds[self.name] = self.run.seconds.get(self.name, 0.) + now - self._started
        self._started = now
        largest = max(float(numpy.abs(numpy.asarray(param.get_value(borrow=True))).max())
                      for param in self.run.params)
        if not largest < LARGEST_WEIGHT:
            raise self.diverged(-(-self.record['updates'] // n),
                                f'a parameter has grown to {largest:.1e}')
        self.record['generators'] = self.step.generator_states()
        n_more = self.record['updates'] % n
        self.run.save(f'after epoch {self.epoch} of {self.name}'
                      + (f' and {n_more} minibatches' if n_more else ''))


def train_epochs(run: Run, name: str, step: engine.Step, n_epochs: int,
                 report: Callable[..., str], columns: Sequence[str] = ('cost',),
                 scalars: Callable[[int], dict[str, float]] | None = None,
                 stands_alone: bool = False, after_epoch: Callable[[int, Row], None] | None = None,
                 order: Callable[[int], Sequence[int] | numpy.ndarray] | None = None,
                 validate: Callable[[], float] | None = None) -> list[Row]:
    """Unsupervised training: all minibatches, epoch after epoch. For ``run``, ``name``, ``step``,
    ``n_epochs``, ``scalars`` and ``stands_alone`` see :class:`Stage`.

    :param report: makes the line to print from the epoch, from 0, and the means over its
        minibatches of what ``step`` returned
    :param columns: names for what ``step`` returns
    :param after_epoch: called with the epoch, from 0, and its row of the history, before its
        checkpoint
    :param order: gives the numbers of the minibatches of an epoch in the order in which they are
        run, and depends on nothing but the epoch; None for 0, 1, 2 ...
    :param validate: gives a cost on other data; the model that is kept is then the one for which
        it is lowest
    :return: the rows of the history that belong to this part
    """
    stage = Stage(run, name, step, n_epochs, scalars, stands_alone)
    with stage.progress:
        while stage.has_more_epochs():
            epoch = stage.epoch
            indices = range(step.n_minibatches) if order is None else order(epoch)
            means = [total / len(indices) for total in stage.advance(indices)]
            say(report(epoch, *means))
            row = {'stage': name, 'epoch': epoch + 1, **dict(zip(columns, means, strict=True))}
            if validate is not None:
                row['validation_cost'] = validate()
                if all(row['validation_cost'] < earlier['validation_cost']
                       for earlier in run.history if earlier['stage'] == name):
                    run.keep_model()
            run.history.append(row)
            if after_epoch is not None:
                after_epoch(epoch, row)
            run.after_epoch(epoch, row)
            stage.save()
    return [row for row in run.history if row['stage'] == name]


def train_with_early_stopping(
        run: Run, train_model: engine.Step, validate: Callable[[], list[float]],
        test: Callable[[], list[float]], n_epochs: int, patience: float,
        patience_increase: float = 2, improvement_threshold: float = 0.995,
        name: str = 'training', scalars: Callable[[int], dict[str, float]] | None = None,
        after_epoch: Callable[[int, Row], None] | None = None) -> dict[str, Any]:
    """Minibatch descent with early stopping, the last part of every supervised script.

    Training goes on for ``patience`` updates at least. Whenever the validation error falls below
    ``improvement_threshold`` times the best so far, patience becomes ``patience_increase`` times
    the number of the present update, if that is more. (Bengio, 2012.) The best parameters go into
    ``model.npz`` whenever they are found, and into the model at last. For the other parameters
    see :class:`Stage` and :func:`train_epochs`.

    :param validate: gives the validation error of every minibatch
    :param test: the same for the test set; asked whenever the validation error is the best so far
    :return: the scores, as in :class:`Result`
    """
    n_train_batches = train_model.n_minibatches
    validation_frequency = max(1, min(n_train_batches, patience // 2))
    stage = Stage(run, name, train_model, n_epochs, scalars, may_end_early=True)
    state = {'patience': patience, 'cost': 0., 'n_costs': 0} | stage.record
    stage.record = run.stages[name] = state
    scores = Scores(run, state, name, n_train_batches, validate, test)

    with stage.progress:
        while stage.has_more_epochs() and state['patience'] > state['updates'] - 1:
            first, epoch = state['updates'], stage.epoch
            last = min((first // validation_frequency + 1) * validation_frequency,
                       (epoch + 1) * n_train_batches, math.ceil(state['patience']) + 1)
            total, = stage.advance(numpy.arange(first, last) % n_train_batches)
            state['cost'] += total
            state['n_costs'] += last - first
            if last % validation_frequency == 0:
                best_error = scores.best_error
                error = scores.measure(last, state['cost'] / state['n_costs'])
                state |= {'cost': 0., 'n_costs': 0}
                if error < best_error * improvement_threshold:
                    # Updates are numbered from 0 where patience is concerned.
                    state['patience'] = max(state['patience'], (last - 1) * patience_increase)
            if last % n_train_batches == 0:
                if after_epoch is not None:
                    after_epoch(epoch, run.history[-1])
                run.after_epoch(epoch, run.history[-1])
            stage.save()
    return scores.conclude()


class Scores:
    """Validation errors of a supervised run, and what belongs to the best model.

    :param run: where history and best model go
    :param state: part of every checkpoint; what is best so far is kept in it
    :param name: of the stage that is scored
    :param n_minibatches: in an epoch
    :param validate: gives the validation error of every minibatch
    :param test: the same for the test set; asked when the validation error is the best so far
    """

    def __init__(self, run: Run, state: dict[str, Any], name: str, n_minibatches: int,
                 validate: Callable[[], list[float]], test: Callable[[], list[float]]):
        self.run, self.state, self.name, self.n_minibatches = run, state, name, n_minibatches
        self.validate, self.test = validate, test

    @property
    def best_error(self) -> float:
        """The lowest validation error so far; infinite before the first."""
        return self.state.get('best_error', math.inf)

    def measure(self, n_updates: int, cost: float, iteration: int | None = None) -> float:
        """Print the validation error after so many updates; if it is the best, test and keep.

        :param cost: mean training cost since the last time, for the history
        :param iteration: its number, from 1, where that is not the number of updates
        :return: the error
        """
        epoch, before = divmod(n_updates - 1, self.n_minibatches)
        error = mean_error(self.validate())
        row = {'stage': self.name, 'epoch': epoch + 1, 'minibatch': before + 1, 'cost': cost,
               'validation_error': 100 * error}
        place = f'epoch {epoch + 1}, minibatch {before + 1}/{self.n_minibatches}'
        say(f'{place}, validation error {100 * error:f} %')
        if error < self.best_error:
            row['test_error'] = 100 * mean_error(self.test())
            say(f'     {place}, test error of best model {row["test_error"]:f} %')
            self.state |= {'best_error': error, 'test_error': row['test_error'],
                           'best_iteration': n_updates if iteration is None else iteration}
            self.run.keep_model()
        self.run.history.append(row)
        return error

    def conclude(self) -> dict[str, Any]:
        """Print the scores, finish the run and give its model the best parameters."""
        epochs = -(-self.state['updates'] // self.n_minibatches)
        scores = {'epochs': epochs}
        if 'best_error' not in self.state:
            print('Optimization complete: no validation was reached')
        else:
            scores = {'best_validation_error': 100 * self.best_error,
                      'test_error': self.state['test_error'],
                      'best_iteration': self.state['best_iteration']} | scores
            print('Optimization complete with best validation score of '
                  '{best_validation_error:f} %, obtained at iteration {best_iteration}, with test '
                  'performance {test_error:f} %'.format(**scores))
            # Not known when there was next to nothing to do.
            seconds = self.run.seconds.get(self.name) or math.nan
            print(f'The code run for {epochs} epochs, with {epochs / seconds:f} epochs/sec')
        self.run.finish(scores)
        if self.run.model:
            restore(named(self.run.params), self.run.model, self.run.folder)
        return scores


def mean_error(errors: Sequence[float]) -> float:
    """Mean over minibatches, without the last digits, which depend on the order of summation."""
    return round(math.fsum(errors) / len(errors), 12)


def parts(length: int, limit: int) -> list[tuple[int, int]]:
    """Cut ``range(length)`` into parts of at most ``limit``, of one length where it can be.

    Each length is compiled anew; two lengths are the most there are.

    :return: first and last-plus-one of each
    """
    fewest = math.ceil(length / limit)
    n = next((n for n in range(fewest, 2 * fewest) if length % n == 0), fewest)
    return [(i * length // n, (i + 1) * length // n) for i in range(n)]


def say(line: str) -> None:
    """Print a line above the progress bar."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


def plot_history(history: Sequence[Row], path: Path) -> None:
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
    if run.history:
        plot_history(run.history, run.file('curves.png'))
    print(f'The data set was {run.data_name}; everything is in {run.folder}')
    return Result(model, run.data_name, run.folder, run.history, scores)
