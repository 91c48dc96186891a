"""What a run leaves in its output folder, so that it can be resumed and its model used.

- ``checkpoint.npz``: every variable that decides how the run goes on, and beside them, as JSON
  text, the updates made, the patience, the best scores, the states of the random generators and
  the history. One file, so that its parts cannot disagree.
- ``model.npz``: the parameters to use: the best on the validation set, or, where there is nothing
  to validate, the latest.
- ``history.csv``: costs and errors as training went on.
- ``run.json``: the record, with settings, sizes of the model, versions, data set, times, scores,
  and what :mod:`support.folders` keeps there.

Arrays and JSON rather than pickles: they can be read with any version of anything, and reading
them runs no code.
"""

import contextlib
import contextvars
import csv
import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
import io
import json
import os
import platform
import signal
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from support import engine
from support.errors import UserError
from support.folders import OutputFolder, read_record, written_atomically

import numpy
import pytensor as theano
from pytensor.compile.sharedvalue import SharedVariable

CHECKPOINT = 'checkpoint.npz'
MODEL = 'model.npz'
STATE = 'state'  # the entry of a checkpoint that holds the JSON text
SEAL = 'seal'  # and the one by which it is known that the text is of this version, and unchanged
VERSION = 1  # of what is in the text
BEST = 'best_'  # before the names of the parameters to use
# A terminal that is closed sends the last one, where there is such a signal.
SIGNALS = [getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP')
           if hasattr(signal, name)]
LARGEST = 2 * 1024 ** 3  # bytes of the arrays of a file, once they are unpacked

Model = TypeVar('Model')
Hook = Callable[[int, dict[str, Any]], None]

_after_epoch: contextvars.ContextVar[Hook] = contextvars.ContextVar('after_epoch')


# Arrays -----------------------------------------------------------------------------------------

def save_arrays(path: Path, arrays: dict[str, numpy.ndarray]) -> None:
    """Write arrays as ``.npz``, atomically. Equal arrays give equal bytes."""
    with written_atomically(path) as file:
        numpy.savez(file, **arrays)  # type: ignore[arg-type]


def load_arrays(path: Path) -> dict[str, numpy.ndarray]:
    """Read what :func:`save_arrays` wrote.

    :raises UserError: when the file is missing, cut short, too large, or no archive of plain
        arrays
    """
    try:
        with open(path, 'rb') as file:  # which NumPy would leave open if it is broken
            with zipfile.ZipFile(file) as archive:
                if sum(member.file_size for member in archive.infolist()) > LARGEST:
                    raise ValueError(f'it holds more than {LARGEST} bytes')
            with numpy.load(file, allow_pickle=False) as arrays:
                return {name: numpy.asarray(arrays[name]) for name in arrays.files}  # or bytes
    except FileNotFoundError:
        raise UserError(f'there is no {path}: give the output folder of a run') from None
    except (ValueError, TypeError, EOFError, KeyError, AttributeError, NotImplementedError,
            MemoryError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f'{path} is broken ({error}): train the model again, with '
                        '`overwrite=True`') from None


def seal(text: str) -> str:
    """What stands beside the JSON text of a checkpoint: a hash of it, and of its version."""
    return hashlib.sha256(f'{VERSION} {text}'.encode()).hexdigest()


def named(params: Iterable[SharedVariable]) -> dict[str, SharedVariable]:
    """Parameters by place and name, ``0_W, 1_b, 2_W ...``: unique in a stack of layers."""
    return {f'{i}_{param.name}': param for i, param in enumerate(params)}


def values(variables: dict[str, SharedVariable]) -> dict[str, numpy.ndarray]:
    """Copies of the present values, of the type that the variable has, whatever JAX makes of it."""
    return {name: numpy.array(variable.get_value(borrow=True), dtype=variable.dtype)
            for name, variable in variables.items()}


def save_params(path: Path, params: Sequence[SharedVariable]) -> None:
    """Write the present values of some parameters, for :func:`load`."""
    save_arrays(path, values(named(params)))


def restore(variables: dict[str, SharedVariable], arrays: dict[str, numpy.ndarray],
            path: Path) -> None:
    """Give variables the values of the arrays of the same names.

    :param path: where the arrays come from, for the message
    :raises UserError: when one is missing, or is of another shape or kind
    """
    fitting = {}
    for name, variable in variables.items():
        present = variable.get_value(borrow=True)
        if name not in arrays or (arrays[name].shape, arrays[name].dtype.kind) != (
                present.shape, present.dtype.kind):
            found = f'{arrays[name].dtype}{arrays[name].shape}' if name in arrays else 'nothing'
            raise UserError(f'{path} holds {found} for {name}, where this model has '
                            f'{present.dtype}{present.shape}: give the settings that it was '
                            'trained with')
        with numpy.errstate(over='ignore'):  # what is too large for the type becomes infinite
            fitting[name] = arrays[name].astype(variable.dtype)
        if not numpy.isfinite(fitting[name]).all():
            raise UserError(f'{path} holds numbers in {name} that are not finite: train the model '
                            'again, with `overwrite=True`')
    for name, variable in variables.items():
        variable.set_value(fitting[name])


def load(output_folder: str | os.PathLike, build: Callable[..., Model], file: str = MODEL,
         params: Callable[[Any], Sequence[SharedVariable]] = lambda model: model.params) -> Model:
    """The model that a run left in its output folder, built anew from the sizes in its record.

    :param build: makes a model of the same kind; its keyword arguments are those sizes
    :param file: where the parameters are
    :param params: which parameters of the model these are
    :raises UserError: when there is no such model, or it is broken
    """
    record = read_record(output_folder)
    try:
        model = build(**record['model'])
    except (TypeError, ValueError, KeyError, MemoryError) as error:
        raise UserError(f'{output_folder} holds a model of {record["script"]}, which cannot be '
                        f'used here ({error})') from None
    path = Path(output_folder) / file
    restore(named(params(model)), load_arrays(path), path)
    return model


def resumable(train: Callable[..., Any]) -> Callable[..., Any]:
    """A training function that resumes a run with the settings that this was begun with.

    Settings that are given count, and are refused later if they would change the past. The function
    also takes ``after_epoch``, no setting of the run: it is called after every epoch of every
    stage with the epoch, from 0, and its row of the history, before the checkpoint. It may raise
    :class:`Stop`.
    """
    signature = inspect.signature(train)

    @functools.wraps(train)
    def resuming(*args: Any, after_epoch: Hook = lambda epoch, row: None, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        if given.get('resume'):
            folder = given.get('output_folder', signature.parameters['output_folder'].default)
            given = recorded_settings(train, folder) | given
        token = _after_epoch.set(after_epoch)
        try:
            return train(**given)
        finally:
            _after_epoch.reset(token)

    return resuming


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value, every item of it included, is of this type."""
    import typeguard  # slow to import, and needed only here

    try:
        typeguard.check_type(value, annotation, collection_check_strategy=(
            typeguard.CollectionCheckStrategy.ALL_ITEMS))
    except typeguard.TypeCheckError:
        return False
    return True


def recorded_settings(train: Callable[..., Any], output_folder: str) -> dict[str, Any]:
    """The keyword arguments of a training function that the run in a folder was begun with.

    :raises UserError: when one is of a type that it cannot have been
    """
    if not Path(output_folder, 'run.json').exists():
        return {}
    parameters, settings = inspect.signature(train).parameters, {}
    for name, value in read_record(output_folder)['settings'].items():
        if name in parameters:
            settings[name] = tuple(value) if isinstance(value, list) else value
            if not fits(settings[name], parameters[name].annotation):
                raise UserError(f'{output_folder} holds a record in which `{name}` was '
                                f'{value!r:.50}: start anew with `overwrite=True`')
    return settings


# A run ------------------------------------------------------------------------------------------

class Stop(Exception):
    """What ``after_epoch`` raises to end a run where it is.

    :param status: what the record says from then on, such as 'pruned'
    """

    def __init__(self, status: str):
        super().__init__(status)
        self.status = status


def command_of(script: str, settings: dict[str, Any]) -> list[str]:
    """What to give to ``python`` to repeat a run: the command line of its script; or, of a run in a
    notebook or another program, a call of its training function."""
    if Path(sys.argv[0]).stem == script:
        return [Path(sys.argv[0]).name, *sys.argv[1:]]
    given = ', '.join(f'{name}={value!r}' for name, value in settings.items()
                      if name not in ('resume', 'overwrite'))
    return ['-c', f'import {script}; {script}.train({given})']


class Run(OutputFolder):
    """One training run and its output folder; a context manager around the training.

    :param script: name of the script, for the record
    :param settings: the keyword arguments of the training function, among them
        ``output_folder``, ``resume`` and ``overwrite``
    :param data: the data set, with its ``name``, ``sha256`` and ``image_shape``; and with the names
        of its ``classes``, if they have names
    :param params: the parameters of the model, saved in ``model.npz``
    :param sizes: what the model is to be built with when it is loaded, see :func:`load`
    :param may_change: names of the settings that may be others when the run is resumed, such as
        the number of epochs
    :raises UserError: on entering, when the folder cannot be used, holds a run that is neither to
        be resumed nor overwritten, or one of other settings or data
    """

    def __init__(self, script: str, settings: dict[str, Any], data: Any,
                 params: Sequence[SharedVariable], sizes: dict[str, Any],
                 may_change: Sequence[str] = ()):
        super().__init__(settings['output_folder'])
        self.resumes, self.overwrites = settings['resume'], settings['overwrite']
        self.command = command_of(script, settings)
        self.may_change = [*may_change, 'dataset']  # of which the content decides, not the name
        self.params = list(params)
        self.data_name = data.name
        classes = getattr(data, 'classes', ())
        # Through JSON, so that it compares with what is read back: a tuple is then a list.
        self.description = json.loads(json.dumps({
            'script': script, 'model': sizes,
            'settings': {name: value for name, value in settings.items()
                         if name not in ('output_folder', 'resume', 'overwrite')},
            'data': {'name': data.name, 'sha256': data.sha256, 'image_shape': data.image_shape,
                     **({'classes': classes} if classes else {})},
            'engine': {'floatX': theano.config.floatX, 'mode': engine.mode_name()},
        }, default=str))
        self.variables: dict[str, SharedVariable] = {}
        self.stages: dict[str, dict[str, Any]] = {}
        self.history: list[dict[str, Any]] = []
        self.scores: dict[str, Any] = {}
        self.is_finished = False
        self.model: dict[str, numpy.ndarray] = {}  # the parameters to use, for model.npz
        self.seconds: dict[str, float] = {}  # by stage; clock times stay out of the checkpoint
        self.place = 'from its beginning'  # where a resumed run would go on
        self.after_epoch = _after_epoch.get(lambda epoch, row: None)
        self._saved: dict[str, numpy.ndarray] = {}  # of a checkpoint, until variables ask for it
        self._interrupted = False
        self._old_handlers: dict[int, Any] = {}

    def __enter__(self) -> 'Run':
        super().__enter__()
        try:
            self._begin()
        except BaseException:
            super().__exit__()
            raise
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._old_handlers[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(self, kind: type[BaseException] | None = None,
                 error: BaseException | None = None, *traceback: Any) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        if kind is not None:
            # What ended the run says more than that this could not be noted, on a full disk.
            with contextlib.suppress(OSError):
                self.write(status=error.status if isinstance(error, Stop) else
                           'interrupted' if kind is KeyboardInterrupt else 'failed')
        super().__exit__()

    def _begin(self):
        old = self.record
        if old and self.resumes:
            self._resume(old)
            self.write(status='running')
        elif old and not self.overwrites:
            process = old['process']
            raise UserError(
                f'{self.folder} holds a run of {old["script"]} ({old["status"]}, process '
                f'{process.get("id")} on {process.get("host")}, last heard of at '
                f'{process.get("last_heard_of")}): go on with `resume=True`, or replace it with '
                '`overwrite=True`')
        else:
            if self.resumes:
                print(f'NOTICE: no run in {self.folder}, so this is a new one', file=sys.stderr)
            versions = {name: importlib.metadata.version(name) for name
                        in ('pytensor', 'jax', 'numba', 'numpy') if importlib.util.find_spec(name)}
            self.begin(
                **self.description, status='running',
                command=self.command,
                versions={'python': platform.python_version(), **versions},
                machine={'system': platform.system(), 'processor': platform.machine(),
                         'cores': os.cpu_count()})
        self.hold(self.params)

    def _resume(self, old):
        new = self.description
        refused = [f'`{name}` was {old["settings"].get(name)!r}, not {new["settings"].get(name)!r}'
                   for name in new['settings'] | old['settings'] if name not in self.may_change
                   and new['settings'].get(name) != old['settings'].get(name)]
        if old['script'] != new['script']:
            refused.append(f'the script was {old["script"]}')
        if old.get('data', {}).get('sha256') != new['data']['sha256']:
            refused.append(f'the data set was another than {new["data"]["name"]}')
        engine_then = old.get('engine', {})
        refused += [f'{name} was {engine_then.get(name)}, not {value}'
                    for name, value in new['engine'].items() if engine_then.get(name) != value]
        if refused:
            raise UserError(f'cannot resume the run in {self.folder}: {"; ".join(refused)}. Give '
                            'the same settings, or start anew with `overwrite=True`')
        path = self.folder / CHECKPOINT
        if not path.exists():  # it had not come to its first one
            return
        self._saved = load_arrays(path)
        text, found = (str(self._saved.pop(name, '')) for name in (STATE, SEAL))
        if found != seal(text):
            raise UserError(f'{path} is no checkpoint of this version: start anew with '
                            '`overwrite=True`')
        state = json.loads(text)
        self.stages, self.history, self.scores, self.is_finished, self.place = (
            state[name] for name in ('stages', 'history', 'scores', 'is_finished', 'place'))
        self.seconds = old.get('seconds', {})
        self.model = {name.removeprefix(BEST): self._saved.pop(name)
                      for name in list(self._saved) if name.startswith(BEST)}
        if self.model:  # of which nothing may be missing either
            restore(named(self.params), self.model, path)

    def hold(self, variables: Iterable[SharedVariable]) -> None:
        """Make these part of every checkpoint, with the values that they have in a resumed one."""
        known = set(self.variables.values())
        for variable in variables:
            if variable not in known:
                name = f'{len(self.variables)}_{variable.name}'
                # What is not there belongs to a part of the run that had not begun.
                if name in self._saved or (self._saved and variable in self.params):
                    restore({name: variable}, self._saved, self.folder / CHECKPOINT)
                self.variables[name] = variable

    def stage(self, name: str, n_epochs: int, n_minibatches: int,
              stands_alone: bool = False) -> dict[str, Any]:
        """What a checkpoint holds of a stage, such as the pretraining of a layer, or a new one.

        :param n_epochs: how many epochs the stage is to have in the end
        :param n_minibatches: in an epoch
        :param stands_alone: True when no later stage builds on this one
        :raises UserError: when the stage cannot have that number of epochs any more
        """
        record = self.stages.setdefault(name, {'updates': 0})
        done = -(-record['updates'] // n_minibatches)
        is_last = list(self.stages)[-1] == name
        if n_epochs < done or (n_epochs > done and not is_last and not stands_alone):
            raise UserError(f'cannot resume the run in {self.folder}: {name} has had {done} '
                            f'epochs, which cannot become {n_epochs}. Give the number it had, or '
                            'start anew with `overwrite=True`')
        return record

    def keep_model(self) -> None:
        """Make the present parameters those of ``model.npz``, which the next checkpoint writes."""
        self.model = values(named(self.params))

    def save(self, place: str, status: str = 'running') -> None:
        """Write the checkpoint, the model, the history and the record.

        :param place: where a resumed run goes on, in words
        """
        self.place = place
        state = json.dumps({'stages': self.stages, 'history': self.history, 'scores': self.scores,
                            'is_finished': self.is_finished, 'place': place})
        save_arrays(self.file(CHECKPOINT), values(self.variables)
                    | {STATE: numpy.array(state), SEAL: numpy.array(seal(state))}
                    | {BEST + name: array for name, array in self.model.items()})
        if self.model:
            save_arrays(self.file(MODEL), self.model)
        if self.history:
            columns = list(dict.fromkeys(key for row in self.history for key in row))
            text = io.StringIO(newline='')
            writer = csv.DictWriter(text, columns, lineterminator='\n')
            writer.writeheader()
            writer.writerows(self.history)
            with written_atomically(self.file('history.csv'), durable=False) as file:
                file.write(text.getvalue().encode())
        self.write(**self.description, status=status, scores=self.scores, seconds={
            name: round(spent, 1) for name, spent in self.seconds.items()})

    def finish(self, scores: dict[str, Any]) -> None:
        """Note the scores and that the run is complete."""
        self.scores, self.is_finished = scores, True
        self.save('at its end', 'finished')

    def check_interruption(self) -> None:
        """Stop here if the user has asked for it: a signal only raises a flag.

        :raises KeyboardInterrupt: with words on where a resumed run goes on
        """
        if self._interrupted:
            raise KeyboardInterrupt(f'the same with `resume=True` goes on {self.place}')

    def _interrupt(self, number, frame):
        if self._interrupted:  # asked for twice: do not wait for the end of the present call
            self.check_interruption()
        self._interrupted = True
