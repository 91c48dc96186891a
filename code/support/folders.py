"""Output folders: what is written there is complete or not there, and only our own is replaced.

Whoever writes into a folder holds a lock on it, which the operating system takes away from a
process that dies. ``run.json`` is the record of what was run there, and it names the files that
are ours: a file is named in it before it is written, and no other one is replaced or removed.
"""

import contextlib
import json
import math
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import filelock

from support.errors import UserError

RECORD = 'run.json'
LOCK = '.lock'


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


class OutputFolder:
    """A folder that is locked inside the context, with the record of its contents.

    :param path: of the folder, which is made when it is not there
    :raises UserError: on entering, when it cannot be written to, another process is at it, or it
        holds files but no record
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.record: dict[str, Any] = {}
        self._lock = filelock.FileLock(self.path / LOCK, timeout=0)

    def __enter__(self) -> 'OutputFolder':
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except filelock.Timeout:
            raise UserError(f'{self.path} is in use by another run, {_process(self.path)}: wait '
                            'for it, or choose another `output_folder`') from None
        except OSError as error:
            raise UserError(f'cannot write into the output folder {self.path} ({error.strerror}): '
                            'choose another `output_folder`') from None
        try:
            names = {path.name for path in self.path.iterdir()} - {LOCK}
            if RECORD in names:
                self.record = read_record(self.path, may_be_in_use=False)
            elif any(not name.endswith('.part') for name in names):
                raise UserError(f'{self.path} holds files that no run has left there: choose '
                                'another `output_folder`, one that is new or empty')
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def begin(self, script: str, settings: dict[str, Any]) -> None:
        """Begin anew, for a script whose results take seconds: those of its last time are removed.

        :raises UserError: when they are not of this script
        """
        if self.record:
            if self.record['script'] != script:
                raise UserError(f'{self.path} holds a run of {self.record["script"]}: choose '
                                'another `output_folder`')
            self.clear()
        self.record = {'script': script, 'settings': settings, 'files': []}
        self.write(status='finished')

    def clear(self) -> None:
        """Remove the files that the record names, and the record."""
        for name in [*self.record['files'], RECORD]:
            (self.path / name).unlink(missing_ok=True)
        self.record = {}

    def file(self, name: str) -> Path:
        """The path of a file to write, which from now on is one of ours.

        :raises UserError: when there is a file of this name that is not
        """
        if name not in self.record['files']:
            if (self.path / name).exists():
                raise UserError(f'{self.path / name} is in the way, and not of this run: move it, '
                                'then go on with `resume=True`')
            self.write(files=[*self.record['files'], name])
        return self.path / name

    def write(self, **entries: Any) -> None:
        """Write the record, with these entries changed or added, and a sign of life."""
        self.record |= entries | {
            'process': {'id': os.getpid(), 'host': platform.node(),
                        'last_heard_of': time.strftime('%Y-%m-%dT%H:%M:%S%z')}}
        write_json(self.path / RECORD, self.record)


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write numbers and words as JSON; where no number can be given, infinity included, null."""
    with written_atomically(path) as file:
        text = json.dumps(_finite(record), indent=2, allow_nan=False, default=str)
        file.write(text.encode() + b'\n')


def read_record(folder: str | os.PathLike, may_be_in_use: bool = True) -> dict[str, Any]:
    """The record of a folder. Its ``status`` is 'dead' where it says 'running' and nobody is.

    :param may_be_in_use: False for one who holds the lock
    :raises UserError: when the folder holds none, or it is broken
    """
    path = Path(folder) / RECORD
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
        if not all(isinstance(record[key], kind) for key, kind in
                   (('script', str), ('status', str), ('files', list), ('settings', dict),
                    ('process', dict))):
            raise ValueError
        if any(Path(name).name != name for name in record['files']):
            raise ValueError
    except FileNotFoundError:
        raise UserError(f'there is no {path}: give the output folder of a run') from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f'{path} is not the record of a run of this version: choose another '
                        '`output_folder`') from None
    if record['status'] == 'running' and not (may_be_in_use and is_in_use(folder)):
        record['status'] = 'dead'
    return record


def is_in_use(folder: str | os.PathLike) -> bool:
    """Whether some process, this one included, is writing into the folder."""
    lock = filelock.FileLock(Path(folder) / LOCK, timeout=0)
    try:
        with lock:
            return False
    except filelock.Timeout:
        return True
    except OSError:  # a folder that may only be read: nobody here writes into it
        return False


def _process(folder):
    """Who is at it, in words; a record that cannot be read does not make it less in use."""
    try:
        process = json.loads((folder / RECORD).read_text(encoding='utf-8'))['process']
        return f'process {process["id"]} on {process["host"]}'
    except (OSError, ValueError, KeyError, TypeError):
        return 'which has just begun'


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
