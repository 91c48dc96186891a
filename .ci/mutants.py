"""How many of the errors that could be made in the code the tests would notice.

``python .ci/mutants.py --sample 40`` changes the code in one place, a sign, a number, a comparison,
and runs the tests that belong to the file: 40 times for each file of ``TESTS``. It prints the
changes that no test has noticed. It needs ``cosmic-ray``, and works on a copy of what is committed.
"""

import argparse
import os
import random
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import cosmic_ray.commands
import cosmic_ray.mutating
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import TestOutcome

ROOT = Path(__file__).resolve().parent.parent
TESTS = {
    'code/support/training.py': 'code/test_training.py code/test_runs.py',
    'code/support/checkpoints.py': 'code/test_training.py code/test_runs.py',
    'code/support/datasets.py': 'code/test_datasets.py code/test_pictures.py',
    'code/rbm.py': 'code/test_rbm.py',
    'code/dA.py': 'code/test_dA.py',
    'code/hmc/hmc.py': 'code/hmc/test_hmc.py',
}
# Changes that no program would survive, for which no test deserves credit: unions of types, which
# are sums of nothing, and operators of bits for those of numbers.
WORTHLESS = re.compile(r'BinaryOperator_BitOr_|_(LShift|RShift|BitAnd|BitOr|BitXor)$')
TIMEOUT = 600  # seconds; a change that makes a loop endless is noticed


def sample(path: str, size: int, seed: int) -> list:
    """So many mutants of a file, drawn without replacement."""
    with tempfile.TemporaryDirectory() as folder:
        database = WorkDB(Path(folder) / 'session.sqlite', WorkDB.Mode.create)
        cosmic_ray.commands.init([Path(path)], database, {})
        mutants = [item.mutations for item in database.work_items
                   if not WORTHLESS.search(item.mutations[0].operator_name)]
        database.close()
    mutants.sort(key=lambda mutations: (mutations[0].operator_name, mutations[0].occurrence))
    return random.Random(f'{path} {seed}').sample(mutants, min(size, len(mutants)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--sample', type=int, default=40, help='mutants of each file')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('files', nargs='*', help=f'of {" ".join(TESTS)}')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as copy:
        subprocess.run(['git', 'clone', '--quiet', ROOT, copy], check=True)
        os.chdir(copy)
        for path in args.files or TESTS:
            command = shlex.join([sys.executable, '-m', 'nose', '-x', *TESTS[path].split()])
            subprocess.run(shlex.split(command), check=True, capture_output=True)  # without change
            n_unnoticed, mutants = 0, sample(path, args.sample, args.seed)
            for mutations in mutants:
                result = cosmic_ray.mutating.mutate_and_test(mutations, command, TIMEOUT)
                if result.test_outcome is not TestOutcome.KILLED:
                    n_unnoticed += 1
                    print(result.test_outcome, result.diff, sep='\n', flush=True)
            n = len(mutants)
            print(f'{path}: {n - n_unnoticed} of {n} noticed', flush=True)


if __name__ == '__main__':
    main()
