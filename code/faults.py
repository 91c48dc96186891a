"""Try what can go wrong, and see that nothing is lost by it.

Hostile and damaged files of every kind, wrong settings, odd surroundings, broken mirrors, full
disks, signals, and kills (-9) of every script at random moments. All of it is made here, in a
folder that is removed afterwards. A case holds when what has to work works, when what cannot work
is refused in one line, and when after it the user's own files have their old bytes, nothing that
was in a file has been run, and nothing is left in the folder for temporary files.
"""

import contextlib
import faulthandler
import functools
import importlib
import inspect
import itertools
import math
import multiprocessing
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from support import command_line, folders
from support.errors import UserError, check
from support.testing import CODE_FOLDER

from tqdm import tqdm

import hostile
from hostile import MINE, Case, Cases, command, expect, expect_whole, outcome
from test_scripts import SCRIPTS, write_data, write_tunes

LARGEST = 3 * 1024 ** 3  # bytes of memory that a process may take for the files that it is given
LANES = 2  # processes at a time
SECONDS = 200  # that a case may take; a slow one takes 30
KILLS = 3  # of a run, before it may come to its end

# Scripts, with settings for a run of some seconds: ten times the epochs that their tests have.
RUNS = {script: [str(10 * int(word)) if before.endswith('-epochs') else word
                 for before, word in zip(['', *settings], settings, strict=False)]
        for script, settings in SCRIPTS.items()}
# These cannot be resumed: killed, and run again, they give what they would have given.
ONCE = {'likelihood.py': ['--model', 'out', '--n-chains', '5', '--n-temperatures', '20000',
                          '--n-reverse', '5'],
        'hmc/gaussian.py': ['--n-samples', '2000']}


# Scripts as processes ---------------------------------------------------------------------------

def arguments(script: str, place: Path) -> list[str]:
    """The command line of a run of seconds, into the folder out."""
    line = [sys.executable, str(CODE_FOLDER / script), *(RUNS | ONCE)[script]]
    if script != 'hmc/gaussian.py':
        line += ['--dataset', str(place / ('tunes.zip' if script == 'rnnrbm.py' else 'small.npz'))]
    return line if script == 'likelihood.py' else [*line, '--output-folder', 'out']


def again(script: str, place: Path) -> list[str]:
    """What the user says when the run was interrupted."""
    return arguments(script, place) + ['--resume'] * (script in RUNS)


def ended(line: list[str], **options: Any) -> subprocess.CompletedProcess:
    """Let a command come to its end."""
    return subprocess.run(line, capture_output=True, text=True, **options)


def ends(status: int, errors: str, words: str | None = None, right: int = 1) -> None:
    """See that a script ended well or, with words that it has to say, in one line with them."""
    if words is None:
        expect(status == 0 and 'Traceback' not in errors, status, errors)
    else:
        lines = [line for line in errors.splitlines()
                 if not line.startswith(('NOTICE', 'The code for file'))]
        expect(status == right and len(lines) == 1 and words in errors, status, errors)


def left() -> dict[str, Any]:
    """What is in the folder of a run, but for its times."""
    record = folders.read_record('out')
    return {path.name: path.read_bytes() for path in Path('out').iterdir()
            if path.name not in (folders.RECORD, folders.LOCK)} | {
                key: record.get(key) for key in ('settings', 'scores', 'status')}


def same(wanted: dict[str, Any]) -> None:
    """See that the same was left as by a run that nothing disturbed."""
    found = left()
    expect(found == wanted, 'other than undisturbed:', *[
        name for name in found | wanted if found.get(name) != wanted.get(name)])


def begin(script: str, place: Path) -> None:
    """Prepare a folder for a run."""
    shutil.rmtree('out', ignore_errors=True)
    if script == 'likelihood.py':
        undisturbed('rbm.py', place)
        shutil.copytree(place / 'rbm.py', 'out')


@functools.cache
def undisturbed(script: str, place: Path) -> tuple[dict[str, Any], float]:
    """What a run leaves, and the seconds it takes."""
    with tempfile.TemporaryDirectory(dir=place) as folder, contextlib.chdir(folder):
        begin(script, place)
        started = time.monotonic()
        run = ended(arguments(script, place))
        seconds = time.monotonic() - started
        ends(run.returncode, run.stderr)
        shutil.copytree('out', place / script, dirs_exist_ok=True)
        return left(), seconds


# Kinds of faults --------------------------------------------------------------------------------

def kills(rng: random.Random, place: Path, number: int = 100) -> Cases:
    """Every script is killed, wherever it may be, and goes on to the same end."""
    scripts = itertools.cycle([*RUNS, *ONCE])
    for done, script in zip(range(0, number, KILLS), scripts, strict=False):
        yield script, partial(killed, script, place, rng.random(), min(KILLS, number - done))


def killed(script: str, place: Path, seed: float, number: int) -> int:
    """Kill a run so often, at random moments."""
    wanted, seconds = undisturbed(script, place)
    rng, done = random.Random(seed), 0
    begin(script, place)
    while True:
        try:
            run = ended(again(script, place),
                        timeout=rng.uniform(0, seconds) if done < number else None)
        except subprocess.TimeoutExpired:  # and it was killed
            done += 1
        else:
            ends(run.returncode, run.stderr)
            same(wanted)
            if done == number:
                return number
            begin(script, place)


def signals(rng: random.Random, place: Path) -> Cases:
    """Every script is asked to stop, says how to go on, and comes to the same end."""
    numbers = itertools.cycle([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    for script, number in zip(RUNS, numbers, strict=False):
        yield f'{script}, {number.name}', partial(stopped, script, place, number, rng.random())


def stopped(script: str, place: Path, number: signal.Signals, moment: float) -> None:
    """Send a signal to a run, once or some times."""
    wanted, seconds = undisturbed(script, place)
    with subprocess.Popen(arguments(script, place), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        next(iter(process.stdout or ()))  # before the first line, Python is still importing
        time.sleep(moment * seconds * 0.7)
        for _ in range(1 if moment < 0.7 else 4):
            process.send_signal(number)
        _, errors = process.communicate()
    expect('Traceback' not in errors, errors)
    has_ended = 'The code for file' in errors
    # As long as nothing has begun, other signals than Ctrl-C end it without a word.
    if not has_ended and (process.returncode != -number or number == signal.SIGINT):
        ends(process.returncode, errors, 'interrupted', right=130)
    run = ended(again(script, place))
    ends(run.returncode, run.stderr)
    same(wanted)


def disks(rng: random.Random, place: Path) -> Cases:
    """Disks that are full, or become so, or can no longer be written to."""
    for size in (1, 4, rng.randint(5, 99)):
        for script in ('SdA.py', 'rnnrbm.py'):
            yield f'{script}, files of {size} KB', partial(
                full_disk, script, place, f'ulimit -f {size}')
    if os.geteuid() == 0:
        for options in ('ro', *[f'size={size}k' for size in (16, 32, 64, rng.randint(65, 300))]):
            mount = f'mount -t tmpfs -o {options} none out'
            yield f'mlp.py, {mount}', partial(full_disk, 'mlp.py', place, 'true', mount)
    else:
        print('NOTICE: only root may mount small disks: left out', file=sys.stderr)


def full_disk(script: str, place: Path, limit: str, mount: str = 'true') -> None:
    """Run a script where there is no room, as a shell has seen to; where there is, it goes on."""
    wanted, _ = undisturbed(script, place)
    Path('out').mkdir()
    run = ended([*['unshare', '--mount'][:2 * (mount != 'true')], 'bash', '-c', f"""
        {mount}; ({limit}; {shlex.join(arguments(script, place))} > /dev/null); status=$?
        cp -r out kept; exit $status"""])
    ends(run.returncode, run.stderr, '' if run.returncode else None)
    expect(not list(Path('kept').rglob('*.part')), 'left behind:', os.listdir('kept'))
    shutil.rmtree('out')
    os.rename('kept', 'out')
    run = ended(again(script, place))
    ends(run.returncode, run.stderr)
    same(wanted)


# What a shell does with a run of a second, and part of the one line that it ends in; None where it
# has to end well.
SURROUNDINGS: dict[str, str | None] = {
    'RUN >&-': None, 'RUN 2>&-': None, 'RUN <&-': None, 'RUN >&- 2>&- <&-': None,
    'RUN 2> /dev/full; RUN --resume': None, 'RUN | head -1; exit ${PIPESTATUS[0]}': 'Broken pipe',
    'mkdir gone; cd gone; rmdir ../gone; RUN': 'the working directory is gone',
    'PYTENSOR_FLAGS=floatX=float16 RUN': 'float32 and float64 can be had',
    'PYTENSOR_FLAGS=floatX=float17 RUN': 'mend PYTENSOR_FLAGS',
    'PYTENSOR_FLAGS=mode=BOGUS RUN': 'mend PYTENSOR_FLAGS', 'PYTENSOR_FLAGS=nonsense RUN': None,
    'PYTENSOR_FLAGS=floatX=float64 RUN': None, 'RUN > /dev/full': 'No space left on device',
    'PYTENSOR_FLAGS=base_compiledir=/proc/nowhere RUN': None,
    'JAX_PLATFORMS=cuda RUN': 'JAX cannot start', 'JAX_PLATFORMS=x RUN': 'JAX cannot start',
    'JAX_PLATFORMS= RUN': None, 'JAX_ENABLE_X64=maybe RUN': 'JAX cannot start',
    'JAX_DEFAULT_MATMUL_PRECISION=x RUN': 'JAX cannot start', 'XLA_FLAGS=--x RUN': 'XLA_FLAGS',
    'MPLBACKEND=nonsense RUN': 'not a valid value', 'MPLCONFIGDIR=/nowhere RUN': None,
    'OMP_NUM_THREADS=nonsense RUN': 'OMP_NUM_THREADS', 'OMP_NUM_THREADS=1 RUN': None,
    'DLT_DATA_DIR=/nowhere RUN': None, 'DLT_DATA_DIR=/dev/null RUN': None,
    'RUN --dataset nowhere': "there is no 'nowhere'",
    'unset HOME; RUN': None, 'HOME=/nowhere RUN': None, 'HOME=/proc RUN': None,
    'TZ=:/dev/zero RUN': None, 'LC_ALL=xx_YY LANG=nonsense RUN': None,
    'LC_ALL=C PYTHONUTF8=0 PYTHONIOENCODING=ascii RUN --output-folder Übung': None,
    'PYTHONOPTIMIZE=2 RUN': None, 'PYTHONWARNINGS=error RUN': None, 'TMPDIR=/nowhere RUN': None,
    'COLUMNS=1 LINES=0 TERM=nonsense RUN': None, 'env -i RUN': None,
    'ulimit -n 40; RUN': None, 'ulimit -s 256; RUN': None, 'ulimit -v 3000000; RUN': None,
    'cd /; RUN --output-folder $OLDPWD/o': None, 'mkdir -p "a b/\'c"; cd "a b/\'c"; RUN': None,
    'RUN; RUN': '--resume', 'RUN && RUN --resume': None, 'RUN && RUN --overwrite': None,
    'RUN --resume': None, 'RUN && OTHER --resume': 'logistic_sgd',
    'RUN && OTHER --overwrite': 'logistic_sgd', 'RUN && RUN --resume --learning-rate 1': 'was 0.13',
}


def surroundings(rng: random.Random, place: Path) -> Cases:
    """A script in odd surroundings, and before and beside others."""
    def surrounded(line: str, words: str | None) -> None:
        for name, script in {'RUN': 'logistic_sgd.py --batch-size 20', 'OTHER': 'mlp.py'}.items():
            line = line.replace(name, f'{sys.executable} {CODE_FOLDER}/{script} --n-epochs 3 '
                                      f'--dataset {place}/small.npz --output-folder out')
        run = ended(['bash', '-c', line])
        ends(run.returncode, run.stderr, words)

    def at_once(script: str) -> None:
        wanted, _ = undisturbed(script, place)
        with ThreadPoolExecutor(3) as pool:
            runs = list(pool.map(ended, [arguments(script, place)] * 3))
        expect(sorted(run.returncode for run in runs) == [0, 1, 1], runs)
        for run in runs:
            ends(run.returncode, run.stderr, ' --' if run.returncode else None)
        same(wanted)

    for line, words in SURROUNDINGS.items():
        yield line, partial(surrounded, line, words)
    for script in ('logistic_sgd.py', 'dA.py', 'rnnrbm.py'):
        yield f'three of {script} at once', partial(at_once, script)


def output_folders(rng: random.Random, place: Path) -> Cases:
    """Output folders that are none, may not be written to, or hold what is not ours."""
    def entered(before: str, folder: str, is_refused: bool) -> None:
        subprocess.run(['bash', '-c', before], check=True)
        result = outcome(write, folder)
        expect(isinstance(result, UserError) == is_refused, result)

    def write(folder: str) -> None:
        with folders.OutputFolder(folder) as output:
            output.begin('mlp')
            output.file('model.npz').write_bytes(b'ours')

    for folder in ('mine', 'mine/out', '.', '..', 'a' * 300, '', '/dev/null', '/proc/out'):
        yield f'{folder:.9}', partial(entered, '', folder, True)
    for folder in ('out', 'a\nb', '/'.join('abcdefgh' * 9), 'Übung \u2028 %s'):
        yield f'{folder!r:.9}', partial(entered, '', folder, False)
    for before, is_refused in {
            'ln -s nowhere out': True, 'ln -s out out': True, 'ln -s mine out': True,
            'ln -s . out': True, 'mkdir out; cp mine out/run.json': True,
            'mkdir -p out/.lock': True, 'mkdir out; ln -s ../mine out/.lock': True,
            'mkdir out': False,
            'mkdir out; ln -s ../mine out/.run.json.part': False}.items():
        yield before, partial(entered, before, 'out', is_refused)


BAD: dict[str, tuple[Any, ...]] = {
    'tuple': ([], ['x'], ['-1'], ['0'], ['nan'], ['1', '2', '3', '4'], ['9' * 30]),
    'float': ('', 'x', 'nan', 'inf', '-1', '1e300', '0'),
    'int': ('', 'x', '-1', '0', '1.5', '9' * 30), 'bool': ('maybe',),
    'str': ('', 'nowhere', '/dev/null', 'a' * 5000, '../mine', '\n', '-')}
FUNCTIONS = {script: (Path(script).stem, 'train') for script in SCRIPTS} | {
    'predict.py': ('predict', 'predict'), 'reconstruct.py': ('reconstruct', 'reconstruct'),
    'sample.py': ('sample', 'sample'), 'likelihood.py': ('likelihood', 'log_likelihood'),
    'rnnrbm.py': ('rnnrbm', 'generate'), 'hmc/gaussian.py': ('gaussian', 'sample_gaussian'),
    'rnnrbm_likelihood.py': ('rnnrbm_likelihood', 'log_likelihood'),
    'convolution_demo.py': ('convolution_demo', 'edges')}


def settings(rng: random.Random, place: Path) -> Cases:
    """Every option of every script, given what it cannot be, or might not be."""
    sys.path.insert(0, str(CODE_FOLDER / 'hmc'))  # of a script that is there
    for script, (module, name) in FUNCTIONS.items():
        function = getattr(importlib.import_module(module), name)
        parameters = inspect.signature(function).parameters
        words = [*(SCRIPTS | ONCE).get(script, ()), '--output-folder', 'out', '--dataset',
                 str(place / ('tunes.zip' if 'rnnrbm' in script else 'small.npz'))]
        usual = {option.replace('-', '_'): values for option, *values
                 in map(str.split, ' '.join(words).split('--')[1:])}
        usual = {option: values for option, values in usual.items() if option in parameters}
        for option, parameter in parameters.items():
            kind = next((kind for kind in BAD if kind in str(parameter.annotation)), 'str')
            for value in BAD[kind]:
                changed = usual | {option: value if isinstance(value, list) else [value]}
                yield f'{script} {option} {value!r:.30}', partial(set_to, function, changed)


def set_to(function: Callable[..., Any], options: dict[str, list[str]]) -> None:
    """Call a script with these settings: it ends in one line, or its numbers are finite."""
    command(function, *itertools.chain(*(
        [f'--{option.replace("_", "-")}', *values] for option, values in options.items())))
    expect_whole()


# Going through them ------------------------------------------------------------------------------

# What takes longest comes first.
KINDS: dict[str, Callable[..., Cases]] = {kind.__name__: kind for kind in (
    kills, settings, surroundings, signals, disks, hostile.records, hostile.tunes,
    hostile.checkpoints, hostile.models, hostile.images, hostile.pictures, hostile.damaged_images,
    hostile.collections, hostile.pickles, hostile.damaged_pictures, output_folders)}


def attempt(case: Case, place: Path) -> tuple[int, str]:
    """Call a case in a folder of its own; how many faults it has tried, and what failed.

    :param place: where that folder is to be
    :return: the number, and a traceback when a promise is not kept
    """
    with tempfile.TemporaryDirectory(dir=place) as folder:
        work, temporary, *mine = [Path(folder, name) for name in
                                  ('work', 'tmp', 'mine', 'work/mine')]
        work.mkdir()
        temporary.mkdir()
        for path in mine:
            path.write_bytes(MINE)
        with (contextlib.chdir(work), mock.patch.object(tempfile, 'tempdir', str(temporary)),
              mock.patch.dict(os.environ, TMPDIR=str(temporary))):
            try:
                tried = case()
                for path in mine:
                    expect(path.read_bytes() == MINE, 'a file of the user is lost')
                expect(not (work / 'executed').exists(), 'what was in a file has been run')
                expect(not os.listdir(temporary), 'left behind:', os.listdir(temporary))
                memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # at most
                expect(memory < LARGEST, memory, 'bytes of memory were taken')
            except Exception:
                return 1, traceback.format_exc()
    return (tried if isinstance(tried, int) else 1), ''


@functools.cache
def cases_of(kind: str, seed: int, n_kills: int) -> list[tuple[str, Case]]:
    """The cases of a kind, with what they share in a folder."""
    place = Path(tempfile.mkdtemp())
    write_data(place / 'small.npz')
    write_tunes(place / 'tunes.zip')
    rng = random.Random(f'{seed} {kind}')
    return list(kills(rng, place, n_kills) if kind == 'kills' else KINDS[kind](rng, place))


def try_case(number: int, *which: Any) -> tuple[str, int, str]:
    """What a process does: the description of a case, and what :func:`attempt` gives.

    :raises IndexError: when there are fewer cases
    """
    description, case = cases_of(*which)[number]
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    result = attempt(case, Path(tempfile.gettempdir()))
    faulthandler.cancel_dump_traceback_later()
    return description, *result


def lead() -> int:
    """Make this process the leader of a group, so that what it starts can be ended with it."""
    os.setsid()
    return os.getpid()


class Suite:
    """What has become of the cases, and until when others are begun."""

    def __init__(self, kinds: Sequence[str], n_kills: int, deadline: float):
        self.n_kills, self.deadline = n_kills, deadline
        self.table = {kind: Counter(tried=0, failed=0) for kind in kinds}
        self.bar = tqdm(unit=' faults', disable=None)

    def try_cases(self, seed: int, numbers: Iterable[int], kind: str) -> None:
        """Let a process go through cases of a kind; another one goes on where a case failed."""
        rest = iter(numbers)
        while True:
            with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as process:
                leader = process.submit(lead).result()
                for number in rest:
                    if time.monotonic() > self.deadline:
                        tqdm.write(f'there was no time for all of {kind}')
                        return
                    try:
                        description, tried, failure = process.submit(
                            try_case, number, kind, seed, self.n_kills).result()
                    except IndexError:
                        return
                    except BrokenProcessPool:
                        description, tried, failure = '?', 1, f'no end in {SECONDS} s, or ever'
                    self.bar.update(tried)
                    self.table[kind].update(tried=tried, failed=bool(failure))
                    if failure:
                        tqdm.write(f'{failure}\n{description!r} failed: to see it again, --only '
                                   f'{kind} --seed {seed} --case {number}', file=sys.stdout)
                        with contextlib.suppress(ProcessLookupError):  # it has died
                            os.killpg(leader, signal.SIGKILL)
                        break
                else:
                    return


def try_faults(only: tuple[str, ...] = (), seed: int = 0, kills: int = 100, minutes: float = 15,
               forever: bool = False, case: int | None = None) -> None:
    """Try every kind of fault, and print a table of what has held.

    For example::

        python code/faults.py --minutes 5
        python code/faults.py --only images tunes --forever

    :param only: kinds to try; all when left out
    :param seed: of everything that is drawn at random
    :param kills: how often scripts are killed
    :param minutes: after which no further case is begun
    :param forever: begin again with the next seed, until Ctrl-C, however long it takes
    :param case: the number of one case, to try it alone
    """
    if hostile.hypothesis is None:
        raise UserError('Hypothesis is needed: pip install -r requirements-dev.txt')
    check(1, kills=kills)
    check(0, minutes=minutes, seed=seed)
    if unknown := set(only) - set(KINDS):
        raise UserError(f'`only` is {" ".join(unknown)}, but has to be of {", ".join(KINDS)}')
    suite = Suite(only or list(KINDS), kills,
                  math.inf if forever else time.monotonic() + 60 * minutes)
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(LANES) as lanes, suite.bar:
        # Of the processes, with a core for each, and without the network.
        os.environ |= {'TMPDIR': place, 'NPROC': '1', 'OMP_NUM_THREADS': '1',
                       'DLT_MNIST_MIRRORS': '', 'DLT_NOTTINGHAM_URLS': ''}
        try:
            for now in itertools.count(seed) if forever else [seed]:
                numbers = range(10 ** 6) if case is None else [case]
                list(lanes.map(partial(suite.try_cases, now, numbers), suite.table))
        except KeyboardInterrupt:  # the cases at hand come to their end
            suite.deadline = 0
    print(f'{"kind of fault":17}{"tried":>8}{"held":>8}{"failed":>8}')
    for kind, count in [*suite.table.items(), ('all', sum(suite.table.values(), Counter()))]:
        tried, failed = count['tried'], count['failed']
        print(f'{kind:17}{tried:8}{tried - failed:8}{failed:8}')
    sys.exit(any(count['failed'] for count in suite.table.values()))


if __name__ == '__main__':
    command_line.main(try_faults)
