"""Tests of every script as a whole: as a user runs it, and how the files hang together."""

import ast
import contextlib
import functools
import importlib
import io
import itertools
import os
import re
import signal
import subprocess
import sys
import zipfile
from functools import partial
from unittest import mock

from support import command_line
from support.midi import midiwrite
from support.testing import CODE_FOLDER, TestCase, printed, small_images
from support.tunes import make_tunes

import numpy
import tyro

import logistic_sgd
import mlp
from predict import BUILDERS

# Each script with settings that let it finish in seconds, and what it leaves in its folder.
SCRIPTS = {
    'logistic_sgd.py': ['--n-epochs', '3', '--batch-size', '20'],
    'logistic_cg.py': ['--n-epochs', '3', '--batch-size', '20'],
    'mlp.py': ['--n-epochs', '2', '--n-hidden', '8'],
    'convolutional_mlp.py': ['--n-epochs', '2', '--nkerns', '2', '3', '--batch-size', '20'],
    'dA.py': ['--training-epochs', '1', '--n-hidden', '100'],
    'cA.py': ['--training-epochs', '1', '--n-hidden', '100'],
    'vae.py': ['--training-epochs', '1', '--hidden-layers-sizes', '8', '--n-latent', '3',
               '--n-codes', '4', '--batch-size', '20'],
    'SdA.py': ['--pretraining-epochs', '1', '--training-epochs', '2', '--batch-size', '10',
               '--hidden-layers-sizes', '8', '6', '--corruption-levels', '0.1', '0.2'],
    'rbm.py': ['--training-epochs', '1', '--n-hidden', '100', '--k', '1', '--n-chains', '3',
               '--n-samples', '2', '--plot-every', '3'],
    'gaussian_rbm.py': ['--training-epochs', '1', '--n-hidden', '100', '--k', '1', '--n-chains',
                        '3', '--n-samples', '2', '--plot-every', '3'],
    'DBN.py': ['--pretraining-epochs', '1', '--training-epochs', '2',
               '--hidden-layers-sizes', '8', '6'],
    'rnnrbm.py': ['--num-epochs', '1', '--n-hidden', '8', '--n-hidden-recurrent', '5', '--k', '1'],
}
EVERY_RUN_LEAVES = {'checkpoint.npz', 'model.npz', 'history.csv', 'curves.png', 'run.json'}
FURTHER_FILES = {'dA.py': {'filters_corruption_0.png', 'filters_corruption_30.png'},
                 'cA.py': {'cae_filters.png'},
                 'vae.py': {'samples.png'},
                 **{f'{name}.py': {'likeness.npz'} for name in BUILDERS},
                 'convolutional_mlp.py': {'likeness.npz', 'filters.png'},
                 'rbm.py': {'filters_at_epoch_0.png', 'samples.png'},
                 'gaussian_rbm.py': {'filters_at_epoch_0.png', 'samples.png'},
                 'DBN.py': {'likeness.npz', 'pretrained.npz'},
                 'rnnrbm.py': {f'sample{i}.{kind}' for i in (1, 2)
                               for kind in ('mid', 'png', 'wav')}}

# From the ground up: a module may import those before it.
ORDER = ['errors', 'files', 'progress', 'xla', 'engine', 'draws', 'convolution', 'optimisers',
         'folders', 'digits', 'download', 'chorales', 'photos', 'pictures', 'parquet', 'tunes',
         'midi', 'audio', 'datasets', 'checkpoints', 'own_scripts', 'likeness', 'training',
         'sequences', 'tune_statistics', 'estimates', 'command_line', 'tiles', 'testing', 'utils',
         'hmc', 'gaussian', 'logistic_sgd', 'logistic_cg', 'mlp', 'convolutional_mlp',
         'convolution_demo', 'dA', 'cA', 'vae', 'stacked', 'SdA', 'rbm', 'gaussian_rbm', 'DBN',
         'ais', 'likelihood', 'rnnrbm_model', 'frame_likelihood', 'rnnrbm', 'rnnrbm_likelihood',
         'predict', 'reconstruct', 'sample', 'playground', 'peers', 'benchmark', 'reproduce',
         'runs', 'search', 'hostile', 'faults']


def write_data(path):
    """A small data set as a file; each pixel is a square of nine, or LeNet had no room."""
    arrays = {f'{name}_{part}': array for name in ('train', 'valid', 'test')
              for part, array in zip('xy', getattr(small_images(), name), strict=True)}
    for name in ('train_x', 'valid_x', 'test_x'):
        arrays[name] = numpy.kron(arrays[name].reshape(-1, 7, 7), numpy.ones((1, 3, 3), 'f'))
    numpy.savez(path, **arrays)


def write_tunes(path):
    """A few tunes as a zip of MIDI files."""
    with zipfile.ZipFile(path, 'w') as archive:
        for i, roll in enumerate(make_tunes(sizes=(2, 1, 1))[0]):
            file = io.BytesIO()
            midiwrite(file, roll)
            archive.writestr(f'{i}.mid', file.getvalue())


class TestScripts(TestCase):
    def setUp(self):
        super().setUp()
        self.data = self.folder / 'small.npz'
        write_data(self.data)
        write_tunes(self.folder / 'tunes.zip')

    def run_script(self, script, *arguments, **kwargs):
        return subprocess.run([sys.executable, '-W', 'error', CODE_FOLDER / script, *arguments],
                              cwd=self.folder, capture_output=True, text=True, **kwargs)

    def call_script(self, module, *arguments):
        """The exit status and stderr of a script that is run in this process."""
        arguments = [f'{module.__name__}.py', *map(str, arguments)]
        with contextlib.chdir(self.folder), mock.patch('sys.argv', arguments), printed(), \
                contextlib.redirect_stderr(io.StringIO()) as errors, \
                self.assertRaises(SystemExit) as stopped:
            command_line.main(module.train)
        return stopped.exception.code, errors.getvalue()

    def test_every_script_from_another_folder(self):
        for script, settings in SCRIPTS.items():
            output = self.folder / script
            data = self.folder / ('tunes.zip' if script == 'rnnrbm.py' else 'small.npz')
            with self.subTest(script):
                run = self.run_script(script, *settings, '--dataset', data,
                                      '--output-folder', output)
                self.assertEqual(run.returncode, 0, run.stderr)
                self.assertTrue(run.stdout.startswith('... loading data\n... building the model\n'))
                self.assertIn(f'The data set was {data.name}', run.stdout)
                # No progress bar and no warning: only the running time.
                self.assertRegex(run.stderr,
                                 rf'\AThe code for file {script} ran for \d+\.\d\dm\n\Z')
                self.assertEqual(set(os.listdir(output)) - {'.lock'},
                                 EVERY_RUN_LEAVES | FURTHER_FILES.get(script, set()))
        self.assertEqual(set(os.listdir(self.folder)), {'small.npz', 'tunes.zip', *SCRIPTS})

    def test_help_explains_every_option(self):
        run = self.run_script('SdA.py', '--help')
        self.assertEqual((run.returncode, run.stderr), (0, ''))
        for path in CODE_FOLDER.glob('*.py'):
            if main := re.search(r'^    command_line\.main\(.*?(\w+)\)$', path.read_text(), re.M):
                function = getattr(importlib.import_module(path.stem), main[1])
                parse = partial(tyro.cli, command_line.legible(
                    functools.wraps(function)(lambda **settings: settings)),
                    config=command_line.CONFIG)
                with printed() as output, self.assertRaises(SystemExit):
                    parse(args=['--help'])
                text = output.getvalue()
                self.assertNotRegex(text, r'\bNone\b|default: *\)|\bFalse\b')
                beginning = f'    python code/{path.name} '
                examples = [line.removeprefix(beginning).split()
                            for line in text.replace('\\\n', '').splitlines()
                            if line.startswith(beginning)]
                self.assertGreater(len(examples), 1, path)
                for arguments in examples:
                    parse(args=arguments)
                if path.name in SCRIPTS:
                    for option in ('--dataset', '--batch-size', '--seed', '--output-folder',
                                   '--resume', '--overwrite'):
                        self.assertIn(option, text)

    def test_completion_of_options(self):
        script = (f'source <({sys.executable} code/mlp.py --tyro-print-completion bash); '
                  'COMP_WORDS=(mlp --n-); COMP_CWORD=1; _tyro_code_mlp_py; '
                  'echo "${COMPREPLY[@]}"')
        done = subprocess.run(['bash', '-c', script], cwd=CODE_FOLDER.parent, text=True,
                              capture_output=True)
        self.assertEqual((done.stdout.split(), done.stderr), (['--n-epochs', '--n-hidden'], ''))

    def test_mistakes_end_in_one_line(self):
        broken = self.folder / 'broken.npz'
        broken.write_bytes(b'no archive')
        for arguments, message in (
                (['--dataset', 'nowhere.npz'], 'nowhere.npz'),
                (['--dataset', broken], 'broken.npz'),
                (['--batch-size', '201'], 'from 1 to 200'),
                (['--batch-size', '61'], 'from 1 to 60'),
                (['--batch-size', '0'], '--batch-size is 0'),
                (['--n-epochs', '-1'], '--n-epochs is -1'),
                (['--learning-rate', 'nan'], '--learning-rate is nan'),
                (['--seed', '-1'], '--seed is -1'),
                (['--dataset', 'two\nlines.npz'], r'two\nlines.npz'),
                (['--batch-size', '20', '--output-folder', self.data / 'x'], 'small.npz/x')):
            with self.subTest(message):
                status, errors = self.call_script(logistic_sgd, '--dataset', self.data, *arguments)
                self.assertEqual(status, 1)
                self.assertIn(message, errors)
                self.assertEqual(len(errors.splitlines()), 1, errors)
        run = self.run_script('logistic_sgd.py', '--learning-rat', '1')
        self.assertEqual(run.returncode, 2)
        self.assertNotIn('Traceback', run.stderr)

    def test_sizes_for_which_there_is_no_memory(self):
        run = self.run_script('mlp.py', '--dataset', self.data, '--n-hidden', '999999999')
        self.assertEqual(run.returncode, 1)
        self.assertRegex(run.stderr, r'\Amlp.py: not enough memory .*choose smaller sizes\n\Z')

    def test_interrupted_script_goes_on(self):
        arguments = [*SCRIPTS['mlp.py'][2:], '--n-epochs', '40', '--dataset', self.data]
        whole = self.run_script('mlp.py', *arguments, '--output-folder', 'whole')
        self.assertEqual(whole.returncode, 0, whole.stderr)
        process = subprocess.Popen(
            [sys.executable, CODE_FOLDER / 'mlp.py', *arguments, '--output-folder', 'parts'],
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while not process.stdout.readline().startswith('epoch 2,'):
            self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, errors)
        self.assertRegex(errors, r'interrupted; the same with --resume goes on after epoch '
                                 r'\d+ of training\n\Z')
        status, errors = self.call_script(mlp, *arguments, '--output-folder', 'parts')
        self.assertEqual(status, 1)
        self.assertIn('holds a run of mlp (interrupted, process', errors)
        # As the message says, with the same arguments, or without them.
        resumed = self.run_script('mlp.py', *arguments, '--output-folder', 'parts', '--resume')
        self.assertEqual(resumed.returncode, 0, resumed.stderr)
        for file in ('checkpoint.npz', 'model.npz', 'history.csv'):
            self.assertEqual((self.folder / 'parts' / file).read_bytes(),
                             (self.folder / 'whole' / file).read_bytes(), file)


class TestStructure(TestCase):
    def modules(self):
        """Every module that is no test, by name."""
        paths = [path for folder in ('.', 'support', 'hmc')
                 for path in (CODE_FOLDER / folder).glob('*.py')]
        return {path.stem: path for path in paths
                if not path.name.startswith(('test', '__')) or path.stem == 'testing'}

    def test_imports_only_go_down(self):
        modules = self.modules()
        self.assertEqual(set(modules), set(ORDER))
        for name, path in modules.items():
            for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
                imported = []
                if isinstance(node, ast.Import):
                    imported = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    imported = [f'{node.module}.{alias.name}' for alias in node.names]
                ours = [full.split('.') for full in imported
                        if full.split('.')[0] in ('support', *ORDER)]
                for other in set(itertools.chain(*ours)) & set(ORDER):
                    if other != name:
                        self.assertLess(ORDER.index(other), ORDER.index(name),
                                        f'{name} imports {other}')

    def test_chapters_beside_a_utils_of_the_users_own(self):
        (self.folder / 'utils.py').write_text('MINE = 3\n')
        (self.folder / 'my.py').write_text('import utils\nimport dA, rbm, rnnrbm, predict\n'
                                           'print(utils.MINE)\n')
        run = subprocess.run([sys.executable, '-W', 'error', self.folder / 'my.py'], text=True,
                             capture_output=True, env=os.environ | {'PYTHONPATH': str(CODE_FOLDER)})
        self.assertEqual((run.returncode, run.stdout, run.stderr), (0, '3\n', ''))

    def test_nothing_happens_at_import(self):
        program = ('import numpy, sys\nbefore = numpy.random.get_state()[1].tolist()\n'
                   f'import {", ".join(name[:-3] for name in SCRIPTS)}\n'
                   'assert numpy.random.get_state()[1].tolist() == before\n'
                   'assert "matplotlib" not in sys.modules')
        run = subprocess.run([sys.executable, '-W', 'error', '-c', program], text=True,
                             capture_output=True, cwd=self.folder,
                             env=os.environ | {'PYTHONPATH': str(CODE_FOLDER)})
        self.assertEqual((run.returncode, run.stdout, run.stderr), (0, '', ''))
        self.assertEqual(os.listdir(self.folder), [])
