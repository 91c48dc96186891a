"""What the chapters stand on.

Every script imports this package first. It says in one line what keeps the rest from being
imported, at once and not after hours of training.
"""

import importlib
import importlib.util
import os
import sys
from pathlib import Path

_missing = [name for name in ('PIL', 'filelock', 'matplotlib', 'mido', 'numpy', 'pooch', 'pytensor',
                              'scipy', 'tqdm', 'typeguard', 'tyro')
            if importlib.util.find_spec(name) is None]
if not any(map(importlib.util.find_spec, ('jax', 'numba'))):
    _missing.append('jax')
if _missing:
    sys.exit(f'{", ".join(_missing)} cannot be imported: {sys.executable} -m pip install -r '
             f'{Path(__file__).resolve().parents[2] / "requirements.txt"}')
try:
    importlib.import_module('pytensor')  # which takes a second or more
    if 'MPLBACKEND' in os.environ:  # read when the curves are drawn, after hours
        importlib.import_module('matplotlib')
except (TypeError, ValueError) as error:  # their words on flags that cannot be
    sys.exit(f'mend PYTENSOR_FLAGS, .pytensorrc or the environment: {" ".join(str(error).split())}')
except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    sys.exit(130)
