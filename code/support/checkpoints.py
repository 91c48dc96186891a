"""What a run leaves in its output folder, written so that nothing is ever lost or half-written.

- ``checkpoint.npz``: every variable that decides how the run goes on, and beside them, as JSON
  text, the epoch, the minibatch, the patience, the best scores, the states of the random
  generators and the history. One file, so that its parts cannot disagree.
- ``model.npz``: the parameters to use: the best on the validation set, or, where there is nothing
  to validate, the latest.
- ``pretrained.npz``: what a deep belief network was before it was finetuned.
- ``history.csv`` and ``curves.png``: costs and errors as training went on.
- ``run.json``: settings, versions, data set, times and scores, for people and for the book.

Arrays and JSON rather than pickles: they can be read with any version of anything, and reading
them runs no code.
"""

import contextlib
import csv
import importlib.metadata
import importlib.util
import io
import json
import math
import os
import platform
import signal
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

import numpy
import pytensor as theano
from pytensor.compile.sharedvalue import SharedVariable

from support import engine
from support.errors import UserError

CHECKPOINT = 'checkpoint.npz'
MODEL = 'model.npz'
PRETRAINED = 'pretrained.npz'
# What the scripts make of a model; that of an earlier run goes when a new one begins.
RESULTS = (MODEL, PRETRAINED, 'history.csv', 'curves.png', '*filters*.png', 'samples.png',
           'sample[0-9]*.mid', 'sample[0-9]*.png', 'ais.json', 'evaluation_*.json')
HOW_TO_GO_ON = 'give the same command with --resume to go on'
SECONDS_BETWEEN_CHECKPOINTS = 30
# Not among what a run is resumed with: where and how it goes, and what is drawn after training.
NOT_SETTINGS = ('output_folder', 'resume', 'overwrite', 'dataset', 'n_chains', 'n_samples',
                'plot_every')
STATE = 'state'  # the entry of a checkpoint that holds the JSON text
EXTRA = 'extra_'  # before the names of arrays that are no shared variables
BEST = 'best_'  # before the names of the parameters to use


class DataDescription(Protocol):
    """What a run records of its data set."""

    name: str
    sha256: str
    image_shape: tuple[int, ...]


# Files ------------------------------------------------------------------------------------------

@contextlib.contextmanager
def written_atomically(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """A file that takes its name only when it is complete; until then, what was there stays.

    :param path: where the file goes
    :param durable: wait until the disk has it, so that a power cut does no harm either
    """
    part = path.with_name(f'.{path.name}.part')
    try:
        with open(part, 'wb') as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)  # what a failure, or Ctrl-C, has left


def make_output_folder(folder: Path) -> None:
    """Make the folder, unless it is there, and see that files can be written into it.

    :raises UserError: when not
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f'cannot write into the output folder {folder} ({error.strerror}): '
                        'choose another with --output-folder') from None


def save_arrays(path: Path, arrays: dict[str, numpy.ndarray]) -> None:
    """Write arrays as ``.npz``, atomically. Equal arrays give equal bytes."""
    with written_atomically(path) as file:
        numpy.savez(file, **arrays)


def load_arrays(path: Path) -> dict[str, numpy.ndarray]:
    """Read what :func:`save_arrays` wrote.

    :raises UserError: when the file is missing, cut short or no archive of plain arrays
    """
    try:
        file = open(path, 'rb')
    except FileNotFoundError:
        raise UserError(f'there is no {path}: give the output folder of a run') from None
    with file:  # which NumPy would leave open if it is broken
        try:
            with numpy.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (ValueError, TypeError, EOFError, KeyError, AttributeError, NotImplementedError,
                OSError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f'{path} is broken ({error}): train the model again, with '
                            '--overwrite') from None


def named(params: Iterable[SharedVariable]) -> dict[str, SharedVariable]:
    """Parameters by place and name, ``0_W, 1_b, 2_W ...``: unique in a stack of layers."""
    return {f'{i}_{param.name}': param for i, param in enumerate(params)}


def values(variables: dict[str, SharedVariable]) -> dict[str, numpy.ndarray]:
    """The present values of ``variables``."""
    return {name: numpy.asarray(variable.get_value(borrow=True))
            for name, variable in variables.items()}


def restore(variables: dict[str, SharedVariable], arrays: dict[str, numpy.ndarray],
            path: Path) -> None:
    """Set ``variables`` to ``arrays``, all of them or none.

    :raises UserError: when names or shapes are not those of the variables
    """
    present = {name: array.shape for name, array in values(variables).items()}
    saved = {name: array.shape for name, array in arrays.items()}
    if present != saved:
        raise UserError(f'{path} holds other arrays, {saved}, than this model has, {present}: '
                        'give the settings that it was trained with')
    for name, variable in variables.items():
        variable.set_value(arrays[name].astype(variable.dtype))


def load_model(output_folder: str | os.PathLike, params: Sequence[SharedVariable],
               file: str = MODEL) -> None:
    """Give ``params`` the values that a run left in its folder.

    :param output_folder: the folder of a run of the same script with the same sizes
    :param file: where they are in this folder
    :raises UserError: when there is no such file, it is broken, or the shapes differ
    """
    path = Path(output_folder) / file
    restore(named(params), load_arrays(path), path)


def model_shapes(output_folder: str | os.PathLike, ndims: Sequence[int] = (2, 1),
                 n_layers: int | None = 1, file: str = MODEL) -> list[tuple[int, ...]]:
    """Shapes of the saved parameters, in the order of the model's ``params``.

    :param ndims: numbers of dimensions that the parameters of a layer have to have
    :param n_layers: number of layers; None for any
    :param file: where they are in the folder
    :raises UserError: when they have not
    """
    path = Path(output_folder) / file
    shapes = [array.shape for array in load_arrays(path).values()]
    if n_layers is None:
        n_layers = max(1, len(shapes) // len(ndims))
    if [len(shape) for shape in shapes] != n_layers * list(ndims):
        raise UserError(f'{path} holds arrays of shapes {shapes}, which is another kind of model')
    return shapes


def read_description(output_folder: str | os.PathLike) -> dict[str, Any]:
    """What ``run.json`` says of a model: the ``script`` that trained it, its ``settings``, the
    ``data_name`` and ``data_sha256`` of its data set, and ``image_shape``, the (height, width) of
    the images.

    :raises UserError: when the folder holds no run, or the file is broken
    """
    path = Path(output_folder) / 'run.json'
    try:
        description = json.loads(path.read_text(encoding='utf-8'))
        data = description['data']
        return {'script': str(description['script']), 'settings': dict(description['settings']),
                'data_name': str(data['name']), 'data_sha256': str(data['sha256']),
                'image_shape': tuple(data['image_shape'])}
    except FileNotFoundError:
        raise UserError(f'there is no {path}: give the output folder of a run') from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f'{path} is broken: train the model again') from None


# A run ------------------------------------------------------------------------------------------

class Run:
    """One training run and its output folder; a context manager around the training.

    :param script: name of the script, for ``run.json``
    :param settings: the keyword arguments of the training function, among them
        ``output_folder``, ``resume`` and ``overwrite``
    :param data: the data set, with its name and hash
    :param params: the parameters of the model, saved in ``model.npz``
    :param others: further shared variables that decide how training goes on
    :raises UserError: when the folder cannot be used, holds an unfinished run that is neither to
        be resumed nor overwritten, or holds a run of other settings or data
    """

    def __init__(self, script: str, settings: dict[str, Any], data: DataDescription,
                 params: Sequence[SharedVariable], others: Sequence[SharedVariable] = ()):
        self.script = script
        self.folder = Path(settings['output_folder'])
        self.params = list(params)
        self.variables = named([*params, *others])
        # Through JSON, so that they compare with what was read back: a tuple is then a list.
        self.settings = json.loads(json.dumps(
            {key: value for key, value in settings.items() if key not in NOT_SETTINGS}))
        self.state = {
            'script': script, 'settings': self.settings, 'data': data.sha256,
            'stages': {}, 'history': [],
            'engine': {'floatX': theano.config.floatX, 'mode': engine.mode_name()},
            'scores': {}, 'finished': False,
        }
        self.data_name = data.name
        self.image_shape = list(data.image_shape)
        self.seconds = {}  # by stage; clock times stay out of the checkpoint
        self.started = time.strftime('%Y-%m-%dT%H:%M:%S%z')
        self.extra = {}  # further arrays that decide how the run goes on, by name
        self.model = {}  # the parameters to use, as arrays; a copy of what model.npz is to hold
        self.model_is_saved = True
        self.changed_epochs = []
        self.interrupted = False
        self.saved_at = time.monotonic()
        self._old_handlers = {}
        self._open_folder(settings['resume'], settings['overwrite'])

    def _open_folder(self, resume, overwrite):
        make_output_folder(self.folder)
        path = self.folder / CHECKPOINT
        if not path.exists():
            if resume:
                print(f'NOTICE: no checkpoint in {self.folder}, so this is a new run',
                      file=sys.stderr)
        elif resume:
            self._resume(path)
            return
        elif not overwrite and not load_checkpoint(path)[1]['finished']:
            raise UserError(f'{self.folder} holds an unfinished run: continue it with --resume, '
                            'or lose it with --overwrite')
        # The old checkpoint is replaced first: the rest means nothing without it.
        self.save()
        for pattern in RESULTS:
            for path in self.folder.glob(pattern):
                path.unlink()

    def _resume(self, path):
        arrays, saved = load_checkpoint(path)
        different = [key for key in self.settings | saved['settings']
                     if self.settings.get(key) != saved['settings'].get(key)]
        # How many epochs may grow; whether this is so is known when their stage begins.
        self.changed_epochs = [key for key in different if key.endswith('epochs')]
        refused = [f'{key} was {saved["settings"].get(key)!r}, not {self.settings.get(key)!r}'
                   for key in different if key not in self.changed_epochs]
        if saved['script'] != self.script:
            refused.append(f'the script was {saved["script"]}')
        if saved['data'] != self.state['data']:
            refused.append(f'the data set was another than {self.data_name}')
        refused += [f'{key} was {saved["engine"][key]}, not {value}'
                    for key, value in self.state['engine'].items() if saved['engine'][key] != value]
        if refused:
            raise UserError(f'cannot resume the run in {self.folder}: {"; ".join(refused)}. Give '
                            'the same settings, or start anew with --overwrite')
        self.extra, self.model = (
            {name.removeprefix(prefix): arrays.pop(name)
             for name in list(arrays) if name.startswith(prefix)} for prefix in (EXTRA, BEST))
        self.model_is_saved = False  # the file may be older or newer than the checkpoint
        restore(self.variables, arrays, path)
        self.state = saved | {'settings': self.settings, 'finished': False}
        # Only for people, and so no reason to stop where it is missing or broken.
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            earlier = json.loads((self.folder / 'run.json').read_text(encoding='utf-8'))
            self.started = earlier['started']
            self.seconds = {str(name): float(spent) for name, spent in earlier['seconds'].items()}

    # Interruptions: a signal only raises a flag, so that no update is cut in half.

    def __enter__(self) -> 'Run':
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old_handlers[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._old_handlers = {}

    def _interrupt(self, number, frame):
        if self.interrupted:  # asked for twice: do not wait for the end of the present call
            raise KeyboardInterrupt(HOW_TO_GO_ON)
        self.interrupted = True

    # Stages: the pretraining of a layer, the finetuning ...

    def stage(self, name: str, n_epochs: int, stands_alone: bool = False) -> dict[str, Any]:
        """The record of a stage, new or as it was saved.

        :param n_epochs: how many epochs the stage is to have in the end
        :param stands_alone: True when no later stage builds on this one
        :raises UserError: when the stage cannot have that number of epochs any more
        """
        stages = self.state['stages']
        if name not in stages:
            stages[name] = {'epoch': 0, 'minibatch': 0, 'sums': [], 'generators': []}
        record = stages[name]
        begun = record['epoch'] + (record['minibatch'] > 0)
        is_last = list(stages)[-1] == name
        if n_epochs < begun or (n_epochs > begun and not is_last and not stands_alone):
            raise UserError(
                f'cannot resume the run in {self.folder}: {name} has had {begun} epochs, so '
                f'{" and ".join(self.changed_epochs)} cannot be changed to {n_epochs}. Give the '
                'number it had, or start anew with --overwrite')
        return record

    def checkpoint_is_due(self) -> bool:
        """Whether the last checkpoint is so old, or an interruption so near, that one is due."""
        return self.interrupted or time.monotonic() - self.saved_at > SECONDS_BETWEEN_CHECKPOINTS

    def save_if_due(self) -> None:
        """Write a checkpoint where one is due; for work that may take long.

        :raises KeyboardInterrupt: as in :meth:`save`
        """
        if self.checkpoint_is_due():
            self.save()

    def save(self, status: str = 'running') -> None:
        """Write the checkpoint, the history and ``run.json``.

        :raises KeyboardInterrupt: when the user has asked to stop, after everything is written
        """
        stopping = self.interrupted and status == 'running'
        state = json.dumps(self.state, allow_nan=False)
        save_arrays(self.folder / CHECKPOINT,
                    values(self.variables) | {STATE: numpy.array(state)}
                    | {EXTRA + name: array for name, array in self.extra.items()}
                    | {BEST + name: array for name, array in self.model.items()})
        if self.model and not self.model_is_saved:
            save_arrays(self.folder / MODEL, self.model)
            self.model_is_saved = True
        if self.state['history']:
            save_text(self.folder / 'history.csv', _as_csv(self.state['history']))
        save_record(self.folder / 'run.json', self.describe('interrupted' if stopping else status))
        self.saved_at = time.monotonic()
        if stopping:
            raise KeyboardInterrupt(HOW_TO_GO_ON)

    def keep_model(self) -> None:
        """Make the present parameters those of ``model.npz``, which the next checkpoint writes."""
        self.model = {name: array.copy() for name, array in values(named(self.params)).items()}
        self.model_is_saved = False

    def finish(self, scores: dict[str, Any]) -> None:
        """Note the scores and that the run is complete."""
        self.state |= {'scores': scores, 'finished': True}
        self.save('finished')

    def describe(self, status: str) -> dict[str, Any]:
        """The contents of ``run.json``; errors in per cent, times in seconds."""
        versions = {name: importlib.metadata.version(name)
                    for name in ('pytensor', 'jax', 'numba', 'numpy')
                    if importlib.util.find_spec(name)}
        return {
            'script': self.script,
            'status': status,
            'command': [Path(sys.argv[0]).name, *_without_place(sys.argv[1:])],
            'settings': self.settings,
            'data': {'name': self.data_name, 'sha256': self.state['data'],
                     'image_shape': self.image_shape},
            'scores': self.state['scores'],
            'epochs': {name: record['epoch'] for name, record in self.state['stages'].items()},
            'seconds': {name: round(spent, 1) for name, spent in self.seconds.items()},
            'started': self.started,
            'written': time.strftime('%Y-%m-%dT%H:%M:%S%z'),
            'engine': self.state['engine'],
            'versions': {'python': platform.python_version(), **versions},
            'machine': {'system': platform.system(), 'processor': platform.machine(),
                        'cores': os.cpu_count()},
        }


def load_checkpoint(path: Path) -> tuple[dict[str, numpy.ndarray], dict[str, Any]]:
    """Arrays and state of a checkpoint.

    :raises UserError: when the file is broken
    """
    arrays = load_arrays(path)
    try:
        return arrays, json.loads(str(arrays.pop(STATE)))
    except (KeyError, ValueError):
        raise UserError(f'{path} is no checkpoint of this version: start anew with --overwrite') \
            from None


def save_text(path: Path, text: str) -> None:
    """Write a text file atomically, but not durably: it can be made anew from a checkpoint."""
    with written_atomically(path, durable=False) as file:
        file.write(text.encode())


def save_record(path: Path, record: dict[str, Any]) -> None:
    """Write numbers and words as JSON; where no number can be given, infinity included, null."""
    save_text(path, json.dumps(_finite(record), indent=2, allow_nan=False) + '\n')


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _without_place(arguments):
    """The arguments that would give the same result in a new folder, anywhere."""
    kept = list(arguments)
    for flag in ('--resume', '--overwrite'):
        kept = [argument for argument in kept if argument != flag]
    while '--output-folder' in kept:
        place = kept.index('--output-folder')
        del kept[place:place + 2]
    return [argument for argument in kept if not argument.startswith('--output-folder=')]


def _as_csv(rows):
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO(newline='')
    writer = csv.DictWriter(text, columns, lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
