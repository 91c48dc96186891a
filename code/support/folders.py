"""Output folders: what is written there is complete or not there, and only our own is replaced.

Whoever writes into a folder holds a lock on it, which the operating system takes away from a
process that dies. ``run.json`` is the record of what was run there, and it names the files that
are ours: a file is named in it before it is written, and no other one is replaced or removed.
"""

import contextlib
import errno
import json
import math
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from support.errors import UserError

import filelock

RECORD = 'run.json'
LOCK = '.lock'


@contextlib.contextmanager
def written_atomically(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """A file that takes its name only when it is complete; until then, what was there stays.

    :param durable: wait until the disk has it, so that a power cut does no harm either
    """
    part = path.with_name(f'.{path.name}.part')
    try:
        part.unlink(missing_ok=True)  # from a kill; or a link, to what is not ours
        with open(part, 'wb') as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UserError(f'cannot write {path} ({error.strerror}): make room there; what was '
                        'written before is not lost, go on with `resume=True`') from None
    finally:
        part.unlink(missing_ok=True)  # what a failure, or Ctrl-C, has left


class OutputFolder:
    """A folder that is locked inside the context, with the record of its contents.

    :param folder: made when it is not there
    :raises UserError: on entering, when it cannot be written to, another process is at it, or it
        holds files but no record
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self.record: dict[str, Any] = {}
        # Somebody who only asks whether it is held, as below, does so for an instant.
        self._lock = filelock.FileLock(self.folder / LOCK, timeout=1)

    def __enter__(self) -> Any:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except filelock.Timeout:
            raise UserError(f'{self.folder} is in use by another run: wait for it, or choose '
                            'another folder') from None
        except OSError as error:
            raise UserError(f'cannot write into the output folder {self.folder} '
                            f'({error.strerror}): choose another folder') from None
        try:
            names = {path.name for path in self.folder.iterdir()} - {LOCK}
            if RECORD in names:
                self.record = read_record(self.folder, is_locked_by_us=True)
            elif not all(name.endswith('.part') for name in names):
                raise UserError(f'{self.folder} holds files that no run has left there: choose '
                                'another folder, one that is new or empty')
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        self._lock.release()

    def begin(self, script: str, **description: Any) -> None:
        """Begin a new record. What the old one names is removed.

        :raises UserError: when that was of another script
        """
        if self.record.get('script', script) != script:
            raise UserError(f'{self.folder} holds a run of {self.record["script"]}: choose another '
                            'folder')
        for name in self.record.get('files', []):
            (self.folder / name).unlink(missing_ok=True)
        self.record = {'script': script, 'files': [], 'started': _now(), 'settings': {},
                       'status': 'finished'}
        self.write(**description)

    def file(self, name: str) -> Path:
        """The path of a file to write, which from now on is one of ours.

        :raises UserError: when there is a file of this name that is not
        """
        if name not in self.record['files']:
            if (self.folder / name).exists():
                raise UserError(f'{self.folder / name} is in the way, and not of this run: move '
                                'it, and try again')
            self.write(files=[*self.record['files'], name])
        return self.folder / name

    def write(self, **entries: Any) -> None:
        """Write the record, with these entries changed or added, and a sign of life."""
        self.record |= entries | {'process': {
            'id': os.getpid(), 'host': platform.node(), 'last_heard_of': _now()}}
        write_json(self.folder / RECORD, self.record)


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write numbers and words as JSON; where no number can be given, infinity included, null."""
    with written_atomically(path) as file:
        text = json.dumps(_finite(record), indent=2, allow_nan=False, default=str)
        file.write(text.encode() + b'\n')


def read_record(folder: str | os.PathLike, is_locked_by_us: bool = False) -> dict[str, Any]:
    """The record of a folder. Its ``status`` is 'dead' where it says 'running' and nobody is.

    :raises UserError: when the folder holds none, or it is broken
    """
    path = Path(folder) / RECORD
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
        if not (all(isinstance(record[key], kind) for key, kind in
                    (('script', str), ('status', str), ('settings', dict), ('process', dict)))
                and all(_is_plausible(record.get(key, {})) for key in ('data', 'engine', 'model'))
                and all(type(spent) in (int, float) for spent
                        in record.get('seconds', {}).values())
                and all(Path(name).name == name for name in record['files'])):
            raise ValueError
    except FileNotFoundError:
        raise UserError(f'there is no {path}: give the output folder of a run') from None
    except OSError as error:
        raise UserError(f'cannot read {path} ({error.strerror}): choose another '
                        'folder') from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f'{path} is not the record of a run of this version: choose another '
                        'folder') from None
    if record['status'] == 'running' and (is_locked_by_us or not is_in_use(folder)):
        record['status'] = 'dead'
    return record


def is_in_use(folder: str | os.PathLike) -> bool:
    """Whether some process, this one included, is writing into the folder."""
    return is_held(Path(folder) / LOCK)


def is_held(lock: Path) -> bool:
    """Whether some process holds a lock; the system takes it away from one that dies."""
    try:
        with filelock.FileLock(lock, timeout=0):
            return False
    except filelock.Timeout:
        return True
    except OSError:  # a folder that may only be read: nobody here writes into it
        return False


def _now():
    return time.strftime('%Y-%m-%dT%H:%M:%S%z')


def _is_plausible(sizes):
    """Whether this is a dictionary of words and of numbers of a size that a model can have."""
    parts = [part for value in sizes.values()
             for part in (value if isinstance(value, list) else [value])]
    return all(part is None or isinstance(part, str) or abs(part) < 10 ** 6 for part in parts)


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
