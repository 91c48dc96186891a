"""Every script at its defaults, one after the other, and what came out beside the old results.

``python code/reproduce.py`` takes hours, and can be stopped at any time: the same command goes on.
With ``--at-once 2`` two scripts run side by side, which takes less time on two cores.
Each script is a process of its own, which gives its memory back in the end, and whose failure
leaves the others alone. What it prints is in a file beside its output folder. A table and a page
with the curves and pictures say what came out.

``python code/reproduce.py --quick`` takes minutes: the first epochs of every script, held against
those on record. It tells whether a machine, a new version or a GPU gives our numbers.
"""

import base64
import csv
import html
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import command_line
from support.checkpoints import SIGNALS, load_arrays
from support.errors import UserError, check
from support.folders import OutputFolder, is_in_use, read_record, write_json, written_atomically
from support.progress import SECONDS_BETWEEN_LINES, shows_bars, tell

import numpy
from tqdm.auto import tqdm

CODE_FOLDER = Path(__file__).resolve().parent
THREADS = 'NPROC', 'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS'  # what JAX and NumPy go by
RESULTS = CODE_FOLDER.parent / 'doc' / 'results'  # of our own runs, and in theano.json of the old

Numbers = dict[str, float]


# What comes out of a script ---------------------------------------------------------------------

def of_run(path: Path) -> Numbers:
    """The scores in the record of a training run."""
    return read_record(path.parent)['scores']


def of_samples(path: Path) -> Numbers:
    """How often the chains of Hybrid Monte Carlo moved, and how far off the mean is where it is
    farthest, in standard deviations."""
    samples = load_arrays(path)
    off = samples['positions'].mean(axis=(0, 1), dtype='float64') - samples['mean']
    return {'acceptance': float(samples['accepted'].mean()),
            'mean_error': float(numpy.max(abs(off) / numpy.sqrt(numpy.diag(samples['cov']))))}


def of_estimates(path: Path) -> Numbers:
    """The likelihood, or the lower bound of it, and the accuracy, where there is one."""
    estimates = json.loads(path.read_text(encoding='utf-8'))
    estimates |= estimates.get('nats', {})
    return {name: estimates[name]['value'] for name in
            ('log-probability', 'lower bound', 'log_likelihood', 'accuracy') if name in estimates}


def of_history(path: Path) -> Numbers:
    """Every number of the history beside a record, by its stage, epoch and column."""
    numbers: Numbers = {}
    with (path.parent / 'history.csv').open(encoding='utf-8', newline='') as file:
        for row in csv.DictReader(file):
            place = f'{row.pop("stage")}, epoch {row.pop("epoch")}'
            row.pop('minibatch', None)
            numbers |= {f'{place}, {column}': float(value) for column, value in row.items()
                        if value}
    return numbers


# How a score is written, and with which digits.
FORMATS = {'best_validation_error': ('validation {} %', '.2f'), 'test_error': ('test {} %', '.2f'),
           'epochs': ('{} epochs', '.0f'), 'cost': ('cost {} nats', '.2f'),
           'cost_corruption_0': ('cost {} nats without corruption', '.2f'),
           'cost_corruption_30': ('{} nats with 30 %', '.2f'),
           'test_bound': ('bound {} nats', '.2f'),
           'test_log_likelihood': ('log-likelihood about {} nats', '.2f'),
           'monitor': ('monitor {} nats a frame', '.2f'), 'accuracy': ('accuracy {} %', '.1f')}


def summary(scores: Sequence[Numbers]) -> str:
    """The scores of some runs in words; of several the mean and the standard deviation."""
    words = []
    for name in scores[0]:
        if name != 'best_iteration':
            values = [run[name] for run in scores]
            text, digits = FORMATS.get(name, (name.replace('_', ' ') + ' {}', '.4g'))
            spread = f' ± {statistics.stdev(values):{digits}}' if len(values) > 1 else ''
            words.append(text.format(f'{statistics.fmean(values):{digits}}{spread}'))
    return '; '.join(words)


# What there is to do ----------------------------------------------------------------------------

@dataclass(frozen=True)
class Job:
    """A script and what it leaves.

    :param script: its path in ``code/``, with settings if it needs any
    :param output: its output folder, by the usual name
    :param first_epochs: the settings for these
    :param tolerance: how far their costs and the like may be from those on record, as a part
    :param of_errors: how far their errors may be, in the unit of these
    :param why: they may be that far
    :param result: the file in the output folder with what came out
    :param scores: reads it
    :param folder_option: how the script is told of the folder
    :param is_random: with another seed something else comes out
    """

    script: str
    output: str
    first_epochs: str = ''
    tolerance: float = 0
    of_errors: float = 0
    why: str = ''
    result: str = 'run.json'
    scores: Callable[[Path], Numbers] = of_run
    folder_option: str = '--output-folder'
    is_random: bool = True

    @property
    def is_training(self) -> bool:
        """Whether it can be resumed, and has a history."""
        return self.result == 'run.json'


SUMS = 'nothing is drawn after the start, but sums may be in another order'
DRAWS = 'random: with other seeds up to {} off'
SAMPLING = '--training-epochs 1 --n-samples 1 --plot-every 1'
# By the name of the record in `doc/results`.
JOBS = {
    'logistic_sgd': Job('logistic_sgd.py', 'logistic_sgd_output', '--n-epochs 5', 1e-6, .03, SUMS,
                        is_random=False),
    'logistic_cg': Job('logistic_cg.py', 'logistic_cg_output', '--n-epochs 10', 1e-5, .03, SUMS,
                       is_random=False),
    'mlp': Job('mlp.py', 'mlp_output', '--n-epochs 3', 1e-6, .03, SUMS),
    'convolutional_mlp': Job('convolutional_mlp.py', 'convolutional_mlp_output', '--n-epochs 1',
                             1e-6, .03, SUMS),
    'dA': Job('dA.py', 'dA_plots', '--training-epochs 1', .005, 0, DRAWS.format('0.2 %')),
    'cA': Job('cA.py', 'cA_plots', '--training-epochs 1', 1e-6, 0, SUMS),
    'vae': Job('vae.py', 'vae_output', '--training-epochs 2', .08, 0, DRAWS.format('4.8 %')),
    'SdA': Job('SdA.py', 'SdA_output', '--pretraining-epochs 1 --training-epochs 1 --batch-size 10',
               .02, .3, DRAWS.format('1.0 %, errors 0.09')),
    'rbm': Job('rbm.py', 'rbm_plots', SAMPLING, .02, 0, DRAWS.format('0.9 %')),
    'gaussian_rbm': Job('gaussian_rbm.py', 'gaussian_rbm_plots', SAMPLING, .002, 0,
                        DRAWS.format('0.06 %')),
    'DBN': Job('DBN.py', 'DBN_output', '--pretraining-epochs 1 --training-epochs 1', .02, .5,
               DRAWS.format('1.1 %, errors 0.28')),
    'rnnrbm': Job('rnnrbm.py', 'rnnrbm_output', '--num-epochs 1', .003, 0, DRAWS.format('0.1 %')),
    'gaussian': Job('hmc/gaussian.py', 'hmc_output', '', .03, .15,
                    DRAWS.format('1.7 %, errors 0.06'), 'samples.npz', of_samples),
}
# Of models that the jobs above have left in their folders.
LIKELIHOOD_JOBS = {
    name: Job(script, JOBS[model].output, result=result, scores=of_estimates,
              folder_option='--model')
    for name, script, model, result in (
        ('ais_rbm', 'likelihood.py', 'rbm', 'ais.json'),
        ('ais_dbn', 'likelihood.py', 'DBN', 'ais.json'),
        ('rnnrbm_evaluation', 'rnnrbm_likelihood.py', 'rnnrbm', 'evaluation_test.json'))}


class Task:
    """A job to be done, with one seed, in a folder of its own.

    :param reproduction: the folder around that one; its record has notes on every task
    :param seed: None for the one that the script has anyway
    :param is_quick: only the first epochs, and always anew
    """

    def __init__(self, name: str, job: Job, reproduction: OutputFolder, seed: int | None = None,
                 is_quick: bool = False):
        self.name, self.job, self.reproduction, self.seed = name, job, reproduction, seed
        self.is_quick = is_quick
        prefix, suffix = 'quick_' if is_quick else '', '' if seed is None else f'_seed_{seed}'
        self.label = f'{prefix}{name}{suffix}'
        self.folder = reproduction.folder / f'{prefix}{job.output}{suffix}'

    @property
    def notes(self) -> dict[str, Any]:
        """How its process ended: ``status``, ``seconds``, ``megabytes`` and ``last_line``."""
        return self.reproduction.record['processes'].get(self.label, {})

    @property
    def record(self) -> dict[str, Any]:
        """What the script has noted in its folder; nothing before it has begun."""
        return read_record(self.folder) if (self.folder / 'run.json').exists() else {}

    @property
    def seconds(self) -> float:
        """What it has taken by now: training and scoring, or, where there is none, all of it."""
        return (sum(self.record.get('seconds', {}).values()) if self.job.is_training
                else self.notes.get('seconds', 0))

    @property
    def seconds_on_record(self) -> float:
        """What it took on our machine; 0 where that was not written down."""
        return (on_record('quick').get(self.name, {}).get('seconds', 0) if self.is_quick
                else sum(on_record(self.name).get('seconds', {}).values()))

    def is_done(self) -> bool:
        """Whether its process has come to its end, and what it left is there, and complete."""
        return (self.notes.get('status') == 0 and self.record.get('status') == 'finished'
                and (self.folder / self.job.result).exists())

    def scores(self) -> Numbers:
        """What came out."""
        read = of_history if self.is_quick and self.job.is_training else self.job.scores
        return read(self.folder / self.job.result)

    def state(self) -> str:
        """How far it is, in words."""
        if self.is_done():
            return 'done'
        if self.notes.get('status'):
            return f'failed: {self.notes["last_line"]}'
        return 'begun' if self.job.is_training and self.record else 'to do'

    def command(self) -> list[str]:
        """The command that does it, or goes on with it."""
        path, *settings = self.job.script.split()
        command = [sys.executable, str(CODE_FOLDER / path), *settings, self.job.folder_option,
                   str(self.folder)]
        if self.is_quick:
            command += self.job.first_epochs.split()
        if self.job.is_training:
            command += ['--overwrite' if self.is_quick else '--resume']
        if self.seed is not None and self.job.folder_option == '--output-folder':
            command += ['--seed', str(self.seed)]
        return command

    def start(self, n_threads: int | None = None) -> None:
        """Begin to do it, or go on with it.

        :param n_threads: threads of linear algebra that it may have; None for as many as it takes
        """
        self.log, self.started = self.reproduction.file(f'{self.label}.txt'), time.monotonic()
        limits = {} if n_threads is None else dict.fromkeys(THREADS, str(n_threads))
        with open(self.log, 'ab') as file:  # Ctrl-C on the terminal does not reach another session
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                env=os.environ | limits, start_new_session=True)

    def stop(self) -> None:
        """Stop it as Ctrl-C does, so that it can go on later."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait()

    def has_ended(self) -> bool:
        """Whether its process has ended; how is then in the notes."""
        pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        if not pid:
            return False
        self.process.returncode = os.waitstatus_to_exitcode(status)
        a_megabyte = 1024 if sys.platform == 'linux' else 1024 ** 2  # in units of the system
        lines = self.log.read_text(encoding='utf-8', errors='replace').splitlines()
        self.reproduction.write(processes=self.reproduction.record['processes'] | {self.label: {
            'status': self.process.returncode,
            'seconds': round(time.monotonic() - self.started, 1),
            'megabytes': max(self.notes.get('megabytes', 0), usage.ru_maxrss // a_megabyte),
            'last_line': lines[-1] if lines else ''}})
        return True


def on_record(name: str) -> dict[str, Any]:
    """A record in ``doc/results``; an empty one where there is none."""
    path = RESULTS / f'{name}.json'
    return json.loads(path.read_text(encoding='utf-8')) if path.exists() else {}


def run_all(tasks: Sequence[Task], at_once: int = 1,
            after_each: Callable[[], None] = lambda: None) -> None:
    """Do them, and say how long the rest will take, by the times on record.

    :param at_once: do so many at a time, the longest first, with a share of the cores for each
    :raises KeyboardInterrupt: when the user wants to stop; the scripts have then stopped, too
    """
    n_threads = max(1, (os.cpu_count() or 1) // at_once) if at_once > 1 else None

    def is_free(task: Task) -> bool:
        """Whether nothing else is going to change its folder, or is doing so: a script that
        outlived the one that began it, for instance."""
        return not is_in_use(task.folder) and not any(
            earlier.folder == task.folder for earlier in tasks[:tasks.index(task)]
            if earlier in waiting or earlier in running)

    expected = {task: max(0, task.seconds_on_record - (0 if task.is_quick else task.seconds))
                for task in tasks}
    waiting = sorted(tasks, key=expected.__getitem__, reverse=True) if at_once > 1 else [*tasks]
    running: list[Task] = []
    done, started = 0., time.monotonic()  # done: expected seconds of those that have ended
    last_line = started
    total = sum(expected.values())
    with tqdm(total=total, bar_format='{desc} |{bar}|', leave=False,
              disable=not shows_bars()) as bar:
        try:
            while waiting or running:
                free = [task for task in waiting if is_free(task)]
                for task in free[:at_once - len(running)]:
                    waiting.remove(task)
                    task.start(n_threads)
                    running.append(task)
                for task in [task for task in running if task.has_ended()]:
                    running.remove(task)
                    done += expected[task]
                    after_each()
                now = time.monotonic()
                bar.n = done + sum(min(expected[task], now - task.started) for task in running)
                slowness = (now - started) / bar.n if done else 1 / at_once  # of this machine
                left = tqdm.format_interval((total - bar.n) * slowness)
                about = 'at least' if 0 in map(expected.get, waiting + running) else 'about'
                text = (f'{" and ".join(task.label for task in running)} ({len(waiting)} of '
                        f'{len(tasks)} to come), left: {about} {left}')
                bar.set_description_str(text)
                if bar.disable and now - last_line >= SECONDS_BETWEEN_LINES:
                    last_line = now
                    tell(text)
                time.sleep(0.1)
        except BaseException:
            for task in running:
                task.stop()
            raise


# Tables and the page ----------------------------------------------------------------------------

HEAD = ['script', 'the old book', 'measured here', 'minutes then', 'minutes here', 'MB']
STYLE = ('body { font-family: sans-serif; margin: 2em; } table { border-collapse: collapse; } '
         'th, td { text-align: left; padding: .3em 1em; border-bottom: 1px solid #ccc; } '
         'img { max-width: 45em; display: block; margin: 1em 0; }')


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with columns as wide as they have to be."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, ['-' * width for width in widths], *rows):
        print('  '.join(map(str.ljust, row, widths)).rstrip())


def results(tasks: Sequence[Task]) -> list[list[str]]:
    """A row for each job, all seeds together: what the old book reported, and what came out."""
    rows = []
    for name in dict.fromkeys(task.name for task in tasks):
        of_job = [task for task in tasks if task.name == name]
        done = [task for task in of_job if task.is_done()]
        here, minutes, megabytes = [], '–', '–'
        if done:
            here = [summary([task.scores() for task in done])]
            minutes = f'{statistics.fmean(task.seconds for task in done) / 60:.1f}'
            megabytes = str(max(task.notes['megabytes'] for task in done))
        here += [f'{task.label} {task.state()}' for task in of_job if task not in done]
        old = on_record('theano').get(name, {'result': '–', 'minutes': '–'})
        rows.append([name, old['result'], '; '.join(here), old['minutes'], minutes, megabytes])
    return rows


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table that :func:`print_table` prints, as HTML."""
    def row(cells, tag):
        return '<tr>' + ''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells) + '</tr>'

    return '\n'.join(['<table>', row(head, 'th'), *(row(cells, 'td') for cells in rows),
                      '</table>'])


def html_picture(name: str, png: bytes) -> str:
    """A picture as part of an HTML text."""
    data = base64.b64encode(png).decode()
    return f'<img alt="{html.escape(name)}" src="data:image/png;base64,{data}">'


def html_page(title: str, parts: Sequence[str]) -> bytes:
    """A page that needs no other file."""
    title = html.escape(title)
    return '\n'.join(['<!DOCTYPE html>', '<html lang="en"><head><meta charset="utf-8">',
                      f'<title>{title}</title><style>{STYLE}</style></head><body>',
                      f'<h1>{title}</h1>', *parts, '</body></html>', '']).encode()


def page(tasks: Sequence[Task]) -> bytes:
    """The table, the curves and the pictures."""
    parts = [html_table(HEAD, results(tasks))]
    for task in tasks:
        if task.is_done() and task.job.folder_option == '--output-folder':
            parts.append(f'<h2>{html.escape(task.label)}</h2>')
            pictures = [name for name in task.record['files']
                        if name.endswith('.png') and (task.folder / name).exists()]
            # Of those that are drawn after every epoch, the last.
            by_epoch = [name for name in pictures if '_at_epoch_' in name]
            for name in pictures:
                if name not in by_epoch[:-1]:
                    parts.append(html_picture(name, (task.folder / name).read_bytes()))
    return html_page('Reproduction', parts)


def run_plan(output: OutputFolder, tasks: Sequence[Task], at_once: int) -> None:
    """Show the plan, carry it out, and show what came out.

    :raises UserError: when a script has failed
    """
    print_table(['script', 'state', 'minutes on record'], [
        [task.label, task.state(), f'{task.seconds_on_record / 60:.1f}'
         if task.seconds_on_record else '–'] for task in tasks])
    print(flush=True)

    def write_page():
        with written_atomically(output.file('index.html')) as file:
            file.write(page(tasks))

    try:
        run_all([task for task in tasks if not task.is_done()], at_once, write_page)
    except KeyboardInterrupt:
        raise KeyboardInterrupt('the same command goes on') from None
    write_page()
    print_table(HEAD, results(tasks))
    print(f'The page is {output.folder / "index.html"}')
    if failed := [task.label for task in tasks if not task.is_done()]:
        raise UserError(f'{", ".join(failed)} failed: see the end of '
                        f'{output.folder / failed[0]}.txt; the same command tries again')


# The first epochs -------------------------------------------------------------------------------

def entry(task: Task) -> dict[str, Any]:
    """What is put on record of the first epochs: the data set, the time, and every number."""
    return {'data': task.record.get('data', {}).get('sha256'), 'seconds': task.notes['seconds'],
            'numbers': task.scores()}


def comparison(task: Task) -> list[str]:
    """A row for the table: the number that is farthest from the record, and the verdict."""
    known = on_record('quick').get(task.name)
    if not task.is_done() or known is None:
        return [task.name, task.state() if known else 'not on record', *[''] * 5, 'WRONG']
    here = entry(task)
    if (here['data'], *here['numbers']) != (known['data'], *known['numbers']):
        return [task.name, 'other data, or other epochs', *[''] * 5, 'WRONG']
    names = list(known['numbers'])
    there, now = (numpy.array(list(numbers.values())) for numbers in
                  (known['numbers'], here['numbers']))
    off, allowed = abs(now - there), numpy.where(
        [name.endswith('_error') for name in names], task.job.of_errors,
        task.job.tolerance * abs(there))
    i = numpy.argmax(off / allowed)  # the first one that is no number, if there is one
    return [task.name, names[i], f'{there[i]:.7g}', f'{now[i]:.7g}', f'{off[i]:.1g}',
            f'{allowed[i]:.1g}', task.job.why, 'right' if off[i] <= allowed[i] else 'WRONG']


def run_quickly(tasks: Sequence[Task], record: bool, at_once: int) -> None:
    """Run the first epochs, and hold them against the record, or make them the record.

    :raises UserError: when a script has failed, or a number is farther off than it may be
    """
    run_all(tasks, at_once)
    if record:
        if failed := [task.label for task in tasks if not task.is_done()]:
            raise UserError(f'{", ".join(failed)} failed: nothing is put on record')
        write_json(RESULTS / 'quick.json',
                   on_record('quick') | {task.name: entry(task) for task in tasks})
        return
    rows = [comparison(task) for task in tasks]
    print_table(['script', 'farthest off', 'on record', 'here', 'difference', 'allowed', 'why', ''],
                rows)
    if wrong := [name for name, *_, verdict in rows if verdict == 'WRONG']:
        raise UserError(f'{", ".join(wrong)}: not as on record; run the tests, which say more')


def reproduce(only: tuple[str, ...] = (), seeds: int = 1, likelihood: bool = False,
              quick: bool = False, record: bool = False, at_once: int = 1,
              folder: str = 'reproduction') -> None:
    """Run every script at its defaults, and put what comes out beside what the old book reported.

    For example::

        python code/reproduce.py --quick
        python code/reproduce.py --only mlp SdA --seeds 3

    :param only: names of scripts, such as SdA DBN, or of likelihoods; all when left out
    :param seeds: number of runs of each script: with its own seed, then with 1, 2 ...
    :param likelihood: measure the likelihood of the RBM, the DBN and the RNN-RBM, too
    :param quick: run only the first epochs, and hold them against those on record
    :param record: with --quick, put them on record instead
    :param at_once: scripts to run at a time, with a share of the cores for each: most of them
        have work for one
    :param folder: for the output folders, what the scripts print, and the page
    """
    check(1, seeds=seeds, at_once=at_once)
    if record and not quick:
        raise UserError('`record` is of the first epochs: give `quick=True` as well')
    jobs = JOBS if quick else JOBS | LIKELIHOOD_JOBS
    if unknown := set(only).difference(jobs):
        raise UserError(f'`only` is {", ".join(sorted(unknown))}: choose from {", ".join(jobs)}')
    chosen = only or (jobs if likelihood else JOBS)
    for number in SIGNALS:  # each is to stop the present script as Ctrl-C does
        signal.signal(number, signal.default_int_handler)
    with OutputFolder(folder) as output:
        if output.record.get('script') != 'reproduce':
            output.begin('reproduce', processes={})
        tasks = [Task(name, job, output, seed, quick) for name, job in jobs.items()
                 if name in chosen for seed in (None, *range(1, seeds))
                 if seed is None or (job.is_random and not quick)]
        if quick:
            run_quickly(tasks, record, at_once)
        else:
            run_plan(output, tasks, at_once)


if __name__ == '__main__':
    command_line.main(reproduce)
