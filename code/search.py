"""Search for the settings of a script: many runs, of which those without hope are ended early.

A *trial* is a run with settings that were drawn from what the command line gives; its score is
what the run's record says in the end, by default the validation error of the best model. Optuna
draws the settings, at first at random and then, by a tree-structured Parzen estimator, where the
trials before were good; it ends a trial that after an epoch is worse than half of the others.
Dask carries the trials out, in processes here or on a cluster.

The study is in the output folder, with an output folder for each trial. It can be stopped or killed
at any time, and go on with ``--resume``; others may join it in the same way. Whoever carries out a
trial holds a lock on it, which the operating system takes away from a process that dies, so that a
trial without one is free for anybody, and goes on from its last checkpoint.

References:
    - J. Bergstra, Y. Bengio, "Random search for hyper-parameter optimization", 2012
    - J. Bergstra, R. Bardenet, Y. Bengio, B. Kégl, "Algorithms for hyper-parameter optimization",
      2011, for the estimator
    - K. Jamieson, A. Talwalkar, "Non-stochastic best arm identification and hyperparameter
      optimization", 2016, for halving
"""

import contextlib
import html
import importlib
import importlib.util
import inspect
import io
import logging
import math
import os
import shlex
import signal
import statistics
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from support import command_line, engine
from support.checkpoints import SIGNALS, Stop, fits, resumable
from support.errors import UserError, check, choose
from support.folders import (
    RECORD,
    OutputFolder,
    is_held,
    is_in_use,
    read_record,
    written_atomically,
)
from support.training import Diverged

import filelock
import numpy
import tyro
from tqdm.auto import tqdm

from reproduce import CODE_FOLDER, THREADS, html_page, html_picture, html_table, print_table
from runs import SCRIPTS, Repeatable, in_words, literal, named_texts, see_that_there_is

try:
    import distributed
    import optuna
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState
except ImportError:
    optuna = None  # type: ignore[assignment]  # search() says so

# The method of an Optuna trial that draws from low:high, the type of these, and its options.
KINDS: dict[str, tuple[str, type, dict[str, Any]]] = {
    'float': ('suggest_float', float, {}), 'log': ('suggest_float', float, {'log': True}),
    'int': ('suggest_int', int, {}), 'intlog': ('suggest_int', int, {'log': True})}
# Optuna's classes. What is still running counts as bad, lest all workers try the same.
SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    'tpe': ('TPESampler', {'constant_liar': True}), 'random': ('RandomSampler', {})}
PRUNERS = {'median': 'MedianPruner', 'halving': 'SuccessiveHalvingPruner', 'none': 'NopPruner'}
NOT_SEARCHED = 'seed', 'output_folder', 'resume', 'overwrite'


class Space(NamedTuple):
    """From what a setting is drawn: the method of an Optuna trial, and its arguments."""

    method: str
    arguments: dict[str, Any]


def space_of(name: str, text: str, annotation: Any) -> Space:
    """What ``log:0.01:0.5`` or ``tanh|relu`` means for a setting of this type.

    :raises UserError: when it cannot be, or is nothing for the setting
    """
    kind, *bounds = text.split(':')
    if kind in KINDS:
        method, number, options = KINDS[kind]
        try:
            low, high = values = [number(bound) for bound in bounds]
            if not (math.isfinite(high - low) and low < high and (low > 0 or not options)):
                raise ValueError
        except ValueError:
            raise UserError(f'`set` is {name}={text}: write {kind}:LOW:HIGH, with LOW below HIGH'
                            + ' and above 0' * bool(options)) from None
        space = Space(method, {'low': low, 'high': high, **options})
    else:
        # Words, because a study holds no tuples.
        choices = list(dict.fromkeys(text.split('|')))
        values = [literal(choice) for choice in choices]
        space = Space('suggest_categorical', {'choices': choices})
    see_that_it_fits('set', name, values, annotation)
    return space


def see_that_it_fits(option: str, name: str, values: list, annotation: Any) -> None:
    """Refuse values that are not of the type of the setting.

    :raises UserError: when one is not
    """
    for value in values:
        if not fits(value, annotation):
            raise UserError(f'`{option}` gives {name} the value {value!r}, but it has to be '
                            f'{getattr(annotation, "__name__", annotation)}; ranges are '
                            f'{", ".join(f"{kind}:LOW:HIGH" for kind in KINDS)}, choices A|B')


# On a worker ------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Plan:
    """All that a worker has to know of a study; see :func:`search`."""

    script: str
    folder: Path
    fixed: dict[str, Any]
    spaces: dict[str, Space]
    seeds: int
    score: str
    maximise: bool
    sampler: str
    pruner: str
    seed: int
    storage: str | None

    def new_sampler(self, number: int = 0) -> Any:
        """What draws the settings of a trial: they follow from the trials before it, the seed and
        the number of the trial, however often the search was interrupted."""
        seed = numpy.random.SeedSequence([self.seed, number]).generate_state(1).item()
        sampler, options = SAMPLERS[self.sampler]
        return getattr(optuna.samplers, sampler)(seed=seed, **options)

    def study(self) -> Any:
        """The Optuna study."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return optuna.create_study(
            storage=self.storage or optuna.storages.JournalStorage(
                JournalFileBackend(str(self.folder / 'study.log'))),
            study_name=f'{self.script} {self.folder.name}', load_if_exists=True,
            direction='maximize' if self.maximise else 'minimize',
            sampler=self.new_sampler(), pruner=getattr(optuna.pruners, PRUNERS[self.pruner])())

    def lock(self, number: int) -> Path:
        """What is locked by whoever sees to a trial."""
        return self.folder / f'.trial_{number:04}.lock'

    def run_folder(self, number: int, seed: int | None = None) -> Path:
        """The output folder of a trial's run."""
        return self.folder / (f'trial_{number:04}' + (f'_seed_{seed}' if seed else ''))

    def settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a script that Optuna's parameters stand for, and those that are fixed."""
        return self.fixed | {name: literal(value) if isinstance(value, str) else value
                             for name, value in params.items()}


class Outcome(NamedTuple):
    """How a trial ended: 'complete' with its score, 'pruned', 'failed', or 'interrupted'."""

    state: str
    value: float | None = None
    message: str = ''


def run_trial(plan: Plan, number: int) -> Outcome:
    """Carry out a trial, or go on with it where it was left; its output goes into a file beside
    its folder."""
    engine.keep_compiled_functions()
    with open(f'{plan.run_folder(number)}.txt', 'a', encoding='utf-8') as log, \
            contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            scores = [score_of_run(plan, number, seed) for seed in (None, *range(1, plan.seeds))]
        except Stop as stop:
            return Outcome(stop.status)
        except Diverged as error:
            return Outcome('pruned', message=str(error))
        except UserError as error:
            return Outcome('failed', message=str(error))
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and 'RESOURCE_EXHAUSTED' not in str(error):
                raise
            return Outcome('failed', message='not enough memory: give smaller sizes')
    return Outcome('complete', statistics.fmean(scores))


def score_of_run(plan: Plan, number: int, seed: int | None) -> float:
    """Train with one seed. Hopeless trials are ended in their first run.

    :raises Stop: when the trial is hopeless, or nobody sees to it any more
    :raises UserError: when the settings are wrong, or there is no such score
    """
    study = plan.study()
    frozen = study.get_trials(deepcopy=False)[number]
    trial = optuna.trial.Trial(study, frozen._trial_id)  # there is no public way to take one up
    folder, column = plan.run_folder(number, seed), plan.score.removeprefix('best_')

    def after_epoch(epoch: int, row: dict[str, Any]) -> None:
        if not is_held(plan.lock(number)):
            raise Stop('interrupted')
        if column in row and seed is None:
            if row['epoch'] not in frozen.intermediate_values:
                trial.report(row[column], row['epoch'])
            if trial.should_prune():
                raise Stop('pruned')

    while is_in_use(folder):  # by a worker that was given up, until it notices
        time.sleep(0.5)
    exists = (folder / RECORD).exists()
    if exists and read_record(folder)['status'] == 'pruned':
        raise Stop('pruned')
    train = importlib.import_module(plan.script).train
    scores = train(**plan.settings(frozen.params), seed=seed, output_folder=str(folder),
                   resume=exists, after_epoch=after_epoch).scores
    see_that_there_is('score', plan.score, scores)
    if not math.isfinite(scores[plan.score]):
        raise Diverged(f'{plan.score} is {scores[plan.score]}')
    return scores[plan.score]


# Here -------------------------------------------------------------------------------------------

class Trials:
    """The trials of a study: what is to be done next, and what was done. A context manager around
    the work; what is not done at its end is free for others.

    :param total: how many there are to be, those of other users of the study included
    """

    def __init__(self, plan: Plan, total: int):
        self.plan, self.total = plan, total
        self.study = plan.study()
        self.claims: dict[int, filelock.FileLock] = {}
        self._lock = filelock.FileLock(plan.folder / '.trials.lock')
        self._started, self._n_before = time.monotonic(), self.n_ended()

    def __enter__(self) -> 'Trials':
        return self

    def __exit__(self, *error: object) -> None:
        for lock in self.claims.values():
            lock.release()

    def all(self, *states: Any) -> list[Any]:
        """Optuna's trials in these states, or in all."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def n_ended(self) -> int:
        """How many have come to an end."""
        return sum(trial.state.is_finished() for trial in self.all())

    def next(self) -> int | None:
        """The number of a trial to carry out, one without a lock before a new one; None when there
        is none left."""
        with self._lock:
            for trial in self.all(TrialState.RUNNING):
                if trial.number not in self.claims and self._claim(trial.number):
                    self._draw(optuna.trial.Trial(self.study, trial._trial_id))
                    return trial.number
            number = len(self.all())
            if number >= self.total or not self._claim(number):
                return None
            self.study.sampler = self.plan.new_sampler(number)
            self._draw(self.study.ask())
            return number

    def _claim(self, number):
        lock = filelock.FileLock(self.plan.lock(number))
        try:
            lock.acquire(timeout=0.2)  # workers look for an instant whether it is held
        except filelock.Timeout:
            return False
        self.claims[number] = lock
        return True

    def _draw(self, trial):
        for name, space in self.plan.spaces.items():  # what was drawn before, stays
            getattr(trial, space.method)(name, **space.arguments)

    def end(self, number: int, outcome: Outcome) -> None:
        """Note how a trial ended, and say so."""
        states = {'complete': TrialState.COMPLETE, 'pruned': TrialState.PRUNED,
                  'failed': TrialState.FAIL}
        with self._lock:  # or somebody who has seen it running would take it up now
            if outcome.state in states:
                self.study.tell(number, outcome.value, states[outcome.state])
            self.claims.pop(number).release()
        n_ended = self.n_ended()
        seconds = (time.monotonic() - self._started) / max(1, n_ended - self._n_before)
        _, score, *params = self.row(self.all()[number])
        best, pairs = self.best(), zip(self.plan.spaces, params, strict=True)
        print(f'trial {number}: {score}, {" ".join(map("=".join, pairs))}'
              + (f'; {outcome.message}' if outcome.message else '')
              + (f'; best {in_words(best.value)} (trial {best.number})' if best else '')
              + f'; left: {tqdm.format_interval(seconds * (self.total - n_ended))}', flush=True)
        if outcome.state == 'failed' and n_ended == 1:
            raise UserError(f'the first trial has failed, so mend the settings, and choose '
                            f'another `output_folder`: {outcome.message}')

    def best(self) -> Any:
        """The best trial that is complete; None when there is none."""
        return min(self.all(TrialState.COMPLETE), key=self._rank, default=None)

    def _rank(self, trial):
        if trial.state != TrialState.COMPLETE:
            return math.inf
        return -trial.value if self.plan.maximise else trial.value

    def row(self, trial: Any) -> list[str]:
        """A trial as a row of the table: its number, its score or state, and what was drawn."""
        is_complete = trial.state == TrialState.COMPLETE
        return [str(trial.number),
                in_words(trial.value) if is_complete else trial.state.name.lower(),
                *(in_words(trial.params.get(name)) for name in self.plan.spaces)]

    def command(self) -> str:
        """The command that trains with the best settings, as far as they are not the defaults."""
        defaults = inspect.signature(importlib.import_module(self.plan.script).train).parameters
        words = ['python', f'code/{self.plan.script}.py']
        for name, value in self.plan.settings(self.best().params).items():
            option = name.replace('_', '-')
            if value == defaults[name].default:
                continue
            if isinstance(value, bool):
                words.append(f'--{option}' if value else f'--no-{option}')
            else:
                values = value if isinstance(value, tuple) else [value]
                words += [f'--{option}', *map(str, values)]
        return shlex.join([*words, '--output-folder', 'best_output'])

    def pictures(self) -> Iterator[tuple[str, bytes]]:
        """Name and PNG of Optuna's plots: the history, the importances, where there is something
        to compare, and a slice along each setting."""
        from matplotlib import pyplot
        from optuna.visualization import matplotlib as plots

        drawers: dict[str, Any] = {'history': plots.plot_optimization_history,
                                   'slices': plots.plot_slice}
        if len({trial.value for trial in self.all(TrialState.COMPLETE)}) > 1:
            drawers['importances'] = plots.plot_param_importances
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', optuna.exceptions.ExperimentalWarning)
            for name, draw in drawers.items():
                file = io.BytesIO()
                draw(self.study)
                pyplot.gcf().set_size_inches(5 * max(2, len(self.plan.spaces)), 4)
                pyplot.savefig(file, format='png', dpi=100, bbox_inches='tight')
                pyplot.close()
                yield f'{name}.png', file.getvalue()

    def conclude(self) -> None:
        """Show all trials and the best settings, and write the page.

        :raises UserError: when no trial is complete
        """
        if self.best() is None:
            raise UserError('no trial came to its end: see above, or give other spaces')
        head = ['trial', self.plan.score, *self.plan.spaces]
        rows = [self.row(trial) for trial in sorted(self.all(), key=self._rank)]
        print_table(head, rows)
        print(f'The best settings, with {self.plan.score} {in_words(self.best().value)}:\n'
              f'    {self.command()}')
        files = dict(self.pictures())
        files['index.html'] = html_page(f'Search: {self.plan.script}', [
            html_table(head, rows), f'<pre>{html.escape(self.command())}</pre>',
            *(html_picture(name, png) for name, png in files.items())])
        with OutputFolder(self.plan.folder) as output:
            for name, content in files.items():
                with written_atomically(output.file(name)) as file:
                    file.write(content)
        print(f'The page is {self.plan.folder / "index.html"}')


@contextlib.contextmanager
def cluster(workers: int, scheduler: str | None, folder: Path) -> Iterator[Any]:
    """A Dask client of processes here, with a share of the cores each, or of a cluster that exists.

    :raises UserError: when it does not answer, or its workers cannot do the work
    """
    if scheduler is None:
        threads = dict.fromkeys(THREADS, str(max(1, (os.cpu_count() or 1) // workers)))
        with distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, memory_limit=None, env=threads,
                dashboard_address='localhost:0', silence_logs=logging.ERROR) as local:
            with distributed.Client(local) as client:
                yield client
        return
    try:
        client = distributed.Client(scheduler, timeout=10)
    except (OSError, ValueError) as error:
        raise UserError(f'`scheduler` is {scheduler}, which does not answer ({error})') from None
    with client:
        client.wait_for_workers(1)
        found = client.run(importlib.util.find_spec, 'search')
        if not (client.run_on_scheduler(importlib.util.find_spec, 'search')
                and all(found.values())):
            raise UserError(f'{scheduler} or its workers cannot import the scripts: start them '
                            f'with PYTHONPATH={CODE_FOLDER}')
        if not all(client.run(os.path.exists, folder).values()):
            raise UserError(f'workers of {scheduler} do not see {folder}: choose an '
                            '`output_folder` on a disk that all share')
        yield client


def carry_out(trials: Trials, client: Any) -> None:
    """Keep every worker of a cluster at a trial until none is left."""
    running: dict[distributed.Future, int] = {}
    while True:
        while len(running) < max(1, len(client.nthreads())) and (
                number := trials.next()) is not None:
            running[client.submit(run_trial, trials.plan, number, pure=False)] = number
        if not running:
            return
        with contextlib.suppress(TimeoutError):  # to see workers that have come or gone
            distributed.wait(list(running), timeout=5, return_when='FIRST_COMPLETED')
        for future in [future for future in running if future.done()]:
            number = running.pop(future)
            try:
                outcome = future.result()
            except distributed.KilledWorker:
                outcome = Outcome('failed', message='it has killed every worker that tried it')
            trials.end(number, outcome)


def begin(folder: Path, resume: bool, trials: int, settings: dict[str, Any]) -> None:
    """Put a new study on record, or see that the one in the folder has these settings.

    :raises UserError: when it is another one, or not to be resumed
    """
    with OutputFolder(folder) as output:
        if not output.record:
            output.begin('search', settings={'trials': trials} | settings)
            if settings['storage'] is None:
                output.file('study.log')
            return
        if not resume or output.record['script'] != 'search':
            raise UserError(f'{folder} holds what {output.record["script"]} has left: go on with '
                            'a study, or join it, with `resume=True`, or choose another '
                            '`output_folder`')
        old = output.record['settings']
        if changed := [f'`{name}` was {old.get(name)}, not {value}'
                       for name, value in settings.items() if old.get(name) != value]:
            raise UserError(f'cannot resume the study in {folder}: {"; ".join(changed)}')
        output.write(settings=old | {'trials': trials})


@resumable
def search(script: Annotated[str, tyro.conf.Positional], set: Repeatable = (),
           fixed: Repeatable = (), trials: int = 40, seeds: int = 1, dataset: str | None = None,
           score: str = 'best_validation_error', maximise: bool = False, sampler: str = 'tpe',
           pruner: str = 'median', seed: int = 0, workers: int = 1, scheduler: str | None = None,
           storage: str | None = None, output_folder: str = 'search_output',
           resume: bool = False) -> None:
    """Search for the settings with which a script gets its best score.

    For example::

        python code/search.py mlp --set learning_rate=log:0.001:1 --fixed n_epochs=20 --workers 2
        python code/search.py SdA --set finetune_lr=log:0.01:0.5 --set pretraining_epochs=int:1:9
        python code/search.py mlp --resume --trials 80

    :param script: whose training function it is, such as mlp
    :param set: from where a setting is drawn: learning_rate=log:0.01:0.5 for a range of floats on a
        logarithmic scale, float:0:1 on a plain one, int:1:9 and intlog:10:1000 for integers, and
        activation=tanh|relu or n_hidden=500|500,300 for a choice
    :param fixed: a setting that is the same in all trials, such as n_epochs=20
    :param trials: how many there are to be in the end, failed ones and those of others included
    :param seeds: runs of each trial: with the script's own seed, then with 1, 2 ...; their mean is
        its score
    :param dataset: what the script is given; its own data set when left out
    :param score: a score in the record of a run; how the run is doing is told by the column of its
        history that has this name, but for the word best
    :param maximise: the largest score is the best
    :param sampler: tpe, or random
    :param pruner: ends trials that are worse than others after as many epochs: median, halving or
        none
    :param seed: of what is drawn
    :param workers: processes to carry out trials at the same time, with a share of the cores each
    :param scheduler: of a Dask cluster to use instead, such as tcp://host:8786
    :param storage: the address of a data base for the study, such as sqlite:///study.db; a file in
        the output folder when left out
    :param output_folder: for the study, and the output folders of all runs
    :param resume: go on with the study in the output folder, or join others at it
    """
    if optuna is None:
        raise UserError('optuna or distributed cannot be imported: python -m pip install -r '
                        f'{CODE_FOLDER.parent / "requirements-search.txt"}')
    see_that_there_is('script', script, SCRIPTS)
    check(1, trials=trials, seeds=seeds, workers=workers)
    check(0, seed=seed)
    choose(SAMPLERS, sampler=sampler)
    choose(PRUNERS, pruner=pruner)
    annotations = {
        name: parameter.annotation for name, parameter
        in inspect.signature(importlib.import_module(script).train).parameters.items()
        if name not in NOT_SEARCHED}
    texts = named_texts('set', set, annotations)
    fixed_texts = named_texts('fixed', fixed, annotations)
    values = {name: literal(text) for name, text in fixed_texts.items()}
    for name, value in values.items():
        see_that_it_fits('fixed', name, [value], annotations[name])
    if not texts:
        raise UserError('`set` is empty: give what to search, such as learning_rate=log:0.001:1')
    if dataset is not None:  # workers may be elsewhere
        values['dataset'] = os.path.abspath(dataset) if os.path.exists(dataset) else dataset
    if both := texts.keys() & values.keys():
        raise UserError(f'`set` and `fixed` both have {", ".join(both)}: choose one')
    plan = Plan(script, Path(output_folder).resolve(), values,
                {name: space_of(name, text, annotations[name]) for name, text in texts.items()},
                seeds, score, maximise, sampler, pruner, seed, storage)
    begin(plan.folder, resume, trials, {
        'script': script, 'set': [f'{name}={text}' for name, text in texts.items()],
        'fixed': [f'{name}={text}' for name, text in fixed_texts.items()],
        'dataset': values.get('dataset'), 'seeds': seeds, 'score': score, 'maximise': maximise,
        'sampler': sampler, 'pruner': pruner, 'seed': seed, 'storage': storage})
    for number in SIGNALS:  # each is to end the search as Ctrl-C does
        signal.signal(number, signal.default_int_handler)
    todo = Trials(plan, trials)
    try:
        with cluster(workers, scheduler, plan.folder) as client, todo:
            print(f'Dask shows what it does at {client.dashboard_link}', flush=True)
            carry_out(todo, client)
    except KeyboardInterrupt:
        raise KeyboardInterrupt('the same with `resume=True` goes on') from None
    todo.conclude()


if __name__ == '__main__':
    import search as by_its_name  # by which workers know what they are sent

    command_line.main(by_its_name.search)
