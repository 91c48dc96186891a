"""Tests of what a run leaves in its folder, and that an interrupted run ends like any other."""

import contextlib
import csv
import errno
import io
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from types import SimpleNamespace
from unittest import mock

from support import checkpoints, datasets, draws, engine, folders, training
from support.checkpoints import Run, Stop, load_arrays, save_arrays
from support.errors import UserError
from support.folders import OutputFolder, read_record
from support.testing import CODE_FOLDER, TestCase, printed, small_images, until_failure

import numpy
import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable

import dA
import logistic_cg
import logistic_sgd
import SdA


class Crash(BaseException):
    """A power cut."""


class RunCase(TestCase):

    def assert_user_error(self, pattern, function, *args, **kwargs):
        with self.assertRaisesRegex(UserError, pattern) as caught:
            function(*args, **kwargs)
        self.assertNotIn('\n', str(caught.exception))

    def names(self, folder=None):
        return sorted(path.name for path in (folder or self.folder).iterdir()
                      if path.name != folders.LOCK)


class TestFiles(RunCase):

    ARRAYS = {'0_W': numpy.arange(6, dtype='float32').reshape(2, 3), '1_b': numpy.zeros(0),
              '2_n': numpy.array(-3), 'state': numpy.array('{"epoch": 1, "π": "\\n"}')}

    def test_equal_arrays_give_equal_bytes_at_any_time(self):
        path = self.folder / 'a.npz'
        save_arrays(path, self.ARRAYS)
        first = path.read_bytes()
        for name, array in load_arrays(path).items():
            self.assertEqual((array.dtype, array.tolist()),
                             (self.ARRAYS[name].dtype, self.ARRAYS[name].tolist()))
        with mock.patch('time.time', return_value=2125983609.0), \
                mock.patch('time.localtime', return_value=(2037, 5, 6, 7, 8, 9, 2, 126, 0)):
            save_arrays(path, {name: array.copy() for name, array in self.ARRAYS.items()})
        self.assertEqual(path.read_bytes(), first)

    def test_a_failure_while_writing_leaves_the_old_file(self):
        path = self.folder / 'a.npz'
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for old in (None, b'old'):
            if old is not None:
                path.write_bytes(old)
            for failure in (full, KeyboardInterrupt(), Crash()):
                expected = UserError if failure is full else type(failure)
                with self.assertRaises(expected), folders.written_atomically(path) as file:
                    file.write(b'new')
                    raise failure
            for where in ('fsync', 'replace'):
                with mock.patch.object(folders.os, where, side_effect=full), \
                        self.assertRaisesRegex(UserError, r'a\.npz \(No space left on device\)'):
                    save_arrays(path, self.ARRAYS)
            self.assertEqual(self.names(), [] if old is None else ['a.npz'])
        self.assertEqual(path.read_bytes(), b'old')
        (self.folder / '.a.npz.part').symlink_to('mine')
        (self.folder / 'mine').write_bytes(b'mine')
        save_arrays(path, self.ARRAYS)
        self.assertEqual((self.folder / 'mine').read_bytes(), b'mine')

    def test_a_file_reaches_the_disk_before_it_takes_its_name(self):
        for durable, expected in ((True, ['fsync', 'replace']), (False, ['replace'])):
            done = []
            with mock.patch.object(folders.os, 'fsync', lambda fd, d=done: d.append('fsync')), \
                    mock.patch.object(folders.os, 'replace',
                                      lambda a, b, d=done: d.append('replace')), \
                    folders.written_atomically(self.folder / 'x', durable) as file:
                file.write(b'x')
            self.assertEqual(done, expected)

    def test_broken_files(self):
        path = self.folder / 'a.npz'
        save_arrays(path, self.ARRAYS)
        good = path.read_bytes()
        middle = good.index(self.ARRAYS['0_W'].tobytes())
        objects = io.BytesIO()
        numpy.savez(objects, a=numpy.array([{'an': 'object'}]))
        for content in (b'', b'no archive\n', good[:30], good[:len(good) // 2], good[:-1],
                        good[:middle] + b'\xff' + good[middle + 1:], bytes(len(good)),
                        pickle.dumps({'0_W': 1}), objects.getvalue()):
            path.write_bytes(content)
            self.assert_user_error(r'a\.npz is broken \(.*`overwrite=True`', load_arrays, path)
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('0_W.npy', b'no array')
        self.assertEqual(load_arrays(path)['0_W'].dtype.kind, 'S')  # as no parameter is
        path.unlink()
        self.assert_user_error('there is no .*a.npz', load_arrays, path)
        save_arrays(path, self.ARRAYS)
        with mock.patch.object(checkpoints, 'LARGEST', 500):
            self.assert_user_error('holds more than 500 bytes', load_arrays, path)


class TestFolder(RunCase):

    def test_a_folder_of_the_user_s_is_left_alone(self):
        (self.folder / 'notes.txt').write_text('mine')
        self.assert_user_error('holds files that no run has left there',
                               OutputFolder(self.folder).__enter__)
        self.assertEqual(self.names(), ['notes.txt'])
        for content in ('', '[]', '{"script": "mine"}', '{' * 100000):
            (self.folder / 'run.json').write_text(content)
            self.assert_user_error('run.json is not the record of a run', OutputFolder(
                self.folder).__enter__)
        (self.folder / 'run.json').unlink()
        (self.folder / 'run.json').mkdir()
        self.assert_user_error(r'cannot read .*run\.json \(Is a directory\)',
                               OutputFolder(self.folder).__enter__)
        self.assertEqual(self.names(), ['notes.txt', 'run.json'])

    def test_a_record_has_null_where_there_is_no_number(self):
        path = self.folder / 'run.json'
        folders.write_json(path, {'cost': float('nan'), 'rows': [{'cost': float('inf')}, 1]})
        self.assertEqual(json.loads(path.read_text()), {'cost': None, 'rows': [{'cost': None}, 1]})

    def test_a_folder_that_cannot_be_used(self):
        file = self.folder / 'file'
        file.write_text('')
        for folder in (file, file / 'below'):
            self.assert_user_error('cannot write into the output folder .*choose another folder',
                                   OutputFolder(folder).__enter__)
        self.assert_user_error('there is no .*nowhere.run.json', read_record,
                               self.folder / 'nowhere')


class TestRun(RunCase):

    def run_of(self, resume=False, overwrite=False, data='data', sha256='0', shape=(2, 3),
               script='script', **settings):
        self.W = theano.shared(numpy.zeros(shape, dtype='float32'), name='W')
        settings = {'rate': 0.5, 'sizes': (3, 2), 'n_epochs': 5, 'seed': 1, 'dataset': data,
                    'output_folder': str(self.folder / 'out')} | settings
        return Run(script, settings | {'resume': resume, 'overwrite': overwrite},
                   SimpleNamespace(name=data, sha256=sha256, image_shape=(1, 2)), [self.W],
                   {'n': 3}, ['n_epochs'])

    def enter(self, **options):
        with self.run_of(**options) as run:
            return run

    def write(self, *stages, finished=False, **options):
        """A run that ends with these stages: (name, updates), of 10 in an epoch."""
        with contextlib.suppress(Crash), self.run_of(overwrite=True, **options) as run:
            for name, updates in stages:
                run.stage(name, 100, 10)['updates'] = updates
                run.history.append({'stage': name, 'epoch': updates // 10, 'cost': 1 / 3})
            self.W.set_value(numpy.arange(6, dtype='float32').reshape(2, 3))
            run.keep_model()
            if finished:
                run.finish({'test_error': 12.5})
            else:
                run.save('after epoch 3')
                raise Crash

    def status(self):
        return read_record(self.folder / 'out')['status']

    def test_no_run_is_lost_or_continued_unasked(self):
        for finished, status in ((True, 'finished'), (False, 'failed')):
            self.write(('training', 30), finished=finished)
            before = {path.name: path.read_bytes() for path in (self.folder / 'out').iterdir()}
            self.assert_user_error(rf'holds a run of script \({status}, process .* last heard of '
                                   '.*: go on with `resume=True`, or replace it with '
                                   '`overwrite=True`', self.enter)
            after = {path.name: path.read_bytes() for path in (self.folder / 'out').iterdir()}
            self.assertEqual(before, after)
            with self.run_of(resume=True) as run:
                self.assertEqual(self.W.get_value().tolist(), [[0, 1, 2], [3, 4, 5]])
                self.assertEqual(run.stage('training', 5, 10)['updates'], 30)
                self.assertEqual(run.is_finished, finished)

    def test_overwriting_removes_what_is_ours_and_nothing_else(self):
        self.write(('training', 30), finished=True)
        out = self.folder / 'out'
        with self.run_of(resume=True) as run:
            run.file('curves.png').write_bytes(b'ours')
        for name in ('notes.txt', 'filters_of_mine.png', 'sample1.mid'):
            (out / name).write_text('mine')
        with self.run_of(overwrite=True) as run:
            self.assertEqual(self.names(out), ['filters_of_mine.png', 'notes.txt', 'run.json',
                                               'sample1.mid'])
            self.assert_user_error('sample1.mid is in the way, and not of this run: move it',
                                   run.file, 'sample1.mid')
            self.assertFalse(self.W.get_value().any())
        self.assertEqual((out / 'sample1.mid').read_text(), 'mine')

    def test_a_folder_is_used_by_one_run_at_a_time(self):
        with self.run_of():
            for options in ({}, {'resume': True}, {'overwrite': True}):
                self.assert_user_error('in use by another run: wait for it', self.enter, **options)
            self.assertEqual(self.status(), 'running')
            self.assertTrue(folders.is_in_use(self.folder / 'out'))
        self.assertEqual(self.status(), 'dead')  # it did not say that it is finished
        self.enter(resume=True)

    def test_what_would_change_the_past_is_refused_by_name(self):
        self.write(('training', 30))
        for changed, message in (
                ({'rate': 0.25}, r'`rate` was 0\.5, not 0\.25'),
                ({'sizes': (3, 2, 1)}, r'`sizes` was \[3, 2\], not \[3, 2, 1\]'),
                ({'seed': 2, 'rate': 1.0}, r'`rate` was 0\.5, not 1\.0; `seed` was 1, not 2'),
                ({'another': 3}, '`another` was None, not 3'),
                ({'sha256': '1', 'data': 'other.npz'}, 'the data set was another than other.npz'),
                ({'script': 'other'}, 'the script was script'),
                ({'shape': (2, 2)}, r'holds float32\(2, 3\) for 0_W, where this model has'),
                ({'shape': (2, 4)}, r'holds float32\(2, 3\) for 0_W, where this model has')):
            with self.subTest(message):
                self.assert_user_error(message, self.enter, resume=True, **changed)
        with mock.patch.object(engine, 'mode_name', return_value='OTHER'):
            self.assert_user_error('mode was .*, not OTHER', self.enter, resume=True)
        record = read_record(self.folder / 'out')
        for key in ('data', 'engine'):  # of an older version
            folders.write_json(self.folder / 'out' / 'run.json', record | {key: {}})
            self.assert_user_error('the data set was|mode was None', self.enter, resume=True)
        folders.write_json(self.folder / 'out' / 'run.json', record)
        # Neither the place nor the name of the data set decides, nor a list in a tuple's place.
        (self.folder / 'out').rename(self.folder / 'moved')
        self.enter(resume=True, output_folder=str(self.folder / 'moved'), data='moved.npz',
                   sizes=[3, 2])

    # The stages of a run as it was left, with their updates; a stage and its epochs when it is
    # resumed, whether it stands alone; what the error says, or None.
    EPOCHS = (
        ([('a', 30)], 'a', 4, False, None),
        ([('a', 30)], 'a', 3, False, None),
        ([('a', 30)], 'a', 2, False, 'a has had 3 epochs, which cannot become 2'),
        ([('a', 31)], 'a', 3, False, 'a has had 4 epochs, which cannot become 3'),
        ([('a', 30), ('b', 10)], 'a', 3, False, None),
        ([('a', 30), ('b', 0)], 'a', 4, False, 'a has had 3 epochs'),
        ([('a', 30), ('b', 10)], 'a', 4, True, None),
        ([('a', 30), ('b', 10)], 'a', 2, True, 'a has had 3 epochs'),
        ([('a', 30), ('b', 10)], 'b', 9, False, None),
        ([('a', 30), ('b', 10)], 'c', 9, False, None),
    )

    def test_how_many_epochs_a_resumed_stage_may_have(self):
        for stages, name, n_epochs, stands_alone, error in self.EPOCHS:
            with self.subTest(f'{stages}, {name}: {n_epochs}', alone=stands_alone):
                self.write(*stages)
                with self.run_of(resume=True, n_epochs=n_epochs) as run:
                    arguments = name, n_epochs, 10, stands_alone
                    if error is None:
                        self.assertIs(run.stages[name], run.stage(*arguments)
                                      ) if name in run.stages else run.stage(*arguments)
                    else:
                        self.assert_user_error(error, run.stage, *arguments)

    def test_broken_checkpoints(self):
        self.write(('training', 30))
        path = self.folder / 'out' / 'checkpoint.npz'
        good, arrays = path.read_bytes(), load_arrays(path)
        state = json.loads(str(arrays['state']))
        for changed, message in (
                (None, 'checkpoint.npz is broken'),
                ({'state': numpy.array('{')}, 'is no checkpoint of this version'),
                ({'state': numpy.array(json.dumps(state | {'place': 'elsewhere'}))},
                 'is no checkpoint of this version'),
                ({'seal': numpy.array('')}, 'is no checkpoint of this version'),
                ({'best_0_W': arrays['best_0_W'] * numpy.nan}, 'not finite'),
                ({'0_W': numpy.full((2, 3), 1e300)}, 'not finite'),  # once they are float32
                ({'best_0_W': numpy.zeros(0)}, r'holds float64\(0,\) for 0_W'),
                ({'0_W': arrays['0_W'].astype(complex)}, 'holds complex128'),
                ({'0_W': numpy.array(['a'])}, 'holds <U1')):
            if changed is None:
                path.write_bytes(good[:-50])
            else:
                save_arrays(path, arrays | changed)
            self.assert_user_error(message, self.enter, resume=True)
        with mock.patch.object(checkpoints, 'VERSION', 0):  # as an older one left it
            self.write(('training', 30))
        self.assert_user_error('is no checkpoint of this version', self.enter, resume=True)
        self.enter(overwrite=True)
        self.assert_user_error('holds a run of script: choose another', self.enter,
                               overwrite=True, script='other')

    def test_record(self):
        with mock.patch.object(sys, 'argv', ['/some/where/script.py', '--rate', '0.5']):
            self.write(('training', 30), finished=True, n_epochs=7)
        record = read_record(self.folder / 'out')
        expected = {
            'command': ['script.py', '--rate', '0.5'],
            'script': 'script', 'status': 'finished', 'scores': {'test_error': 12.5},
            'settings': {'rate': 0.5, 'sizes': [3, 2], 'n_epochs': 7, 'seed': 1,
                         'dataset': 'data'},
            'data': {'name': 'data', 'sha256': '0', 'image_shape': [1, 2]}, 'model': {'n': 3},
            'files': ['checkpoint.npz', 'model.npz', 'history.csv'], 'seconds': {},
            'engine': {'floatX': theano.config.floatX, 'mode': engine.mode_name()},
        }
        self.assertEqual({key: record[key] for key in expected}, expected)
        self.assertEqual(set(record) - set(expected),
                         {'started', 'process', 'versions', 'machine'})
        self.assertEqual(record['versions']['numpy'], numpy.__version__)
        self.assertEqual(record['process']['id'], os.getpid())
        for words in (record['started'], record['process']['last_heard_of']):
            self.assertRegex(words, r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}$')
        with open(self.folder / 'out' / 'history.csv', newline='') as file:
            self.assertEqual(list(csv.DictReader(file)),
                             [{'stage': 'training', 'epoch': '3', 'cost': repr(1 / 3)}])

    def test_signals(self):
        numbers = checkpoints.SIGNALS
        before = [signal.getsignal(number) for number in numbers]
        for number in numbers:
            with self.assertRaisesRegex(KeyboardInterrupt, 'goes on after epoch 2$'), \
                    self.run_of(overwrite=True) as run:
                run.save('after epoch 2')
                signal.raise_signal(number)  # only noted: nothing is cut in half
                run.check_interruption()
            self.assertEqual([signal.getsignal(number) for number in numbers], before)
            self.assertEqual(self.status(), 'interrupted')
        with self.assertRaises(KeyboardInterrupt), self.run_of(overwrite=True):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)  # the second time at once
            self.fail('still running')
        # What is complete is not made incomplete in the last moment.
        with self.run_of(overwrite=True) as run:
            signal.raise_signal(signal.SIGINT)
            run.finish({})
        self.assertEqual(self.status(), 'finished')

    def test_load(self):
        def build(n):
            return SimpleNamespace(params=[theano.shared(numpy.ones((2, n), 'float32'), name='W')])

        self.write(finished=True)
        model = checkpoints.load(self.folder / 'out', build)
        self.assertEqual(model.params[0].get_value().tolist(), [[0, 1, 2], [3, 4, 5]])
        self.assert_user_error('a model of script, which cannot be used here',
                               checkpoints.load, self.folder / 'out', lambda m: None)
        self.assert_user_error(r'where this model has float32\(2, 4\)', checkpoints.load,
                               self.folder / 'out', lambda n: build(n + 1))


def contents(folder):
    """The files of a run that its settings and data decide to the last bit."""
    return {path.name: path.read_bytes() for path in folder.iterdir()
            if path.suffix in ('.npz', '.csv', '.mid') or path.name.startswith('filters')}


def parameters(model):
    return [value.get_value().tolist() for name, value in sorted(vars(model).items())
            if isinstance(value, SharedVariable)]


@contextlib.contextmanager
def compiled_once():
    """JAX compiles a model that is built again and again only once; other modes always do."""
    if engine.mode_name() != 'JAX':
        yield
        return
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    def set_flags(flags):
        for name, value in flags.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()

    with tempfile.TemporaryDirectory() as folder:
        wanted = {'jax_compilation_cache_dir': folder,
                  'jax_persistent_cache_min_compile_time_secs': 0,
                  'jax_persistent_cache_min_entry_size_bytes': -1}
        before = {name: getattr(jax.config, name) for name in wanted}
        set_flags(wanted)
        yield
        set_flags(before)


class TestResumption(RunCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.enterClassContext(compiled_once())

    def setUp(self):
        super().setUp()
        for patch in (
                mock.patch.object(datasets, 'read', return_value=small_images(n_train=150)),
                mock.patch.object(training, 'UPDATES_PER_CALL', 4)):
            patch.start()
            self.addCleanup(patch.stop)

    def train(self, module, settings, folder, resume=False):
        """Result and output of a training function, called anew as in a new process."""
        with printed() as output, contextlib.redirect_stderr(io.StringIO()):
            result = module.train(**settings, output_folder=str(self.folder / folder),
                                  resume=resume)
        return result, output.getvalue()

    def assert_same_end(self, module, settings, crashes):
        """One run after the other breaks off; the last one ends as if nothing had happened.

        :param crashes: what fails, and after how many calls of it
        """
        whole, _ = self.train(module, settings, 'whole')
        for i, (owner, method, calls) in enumerate(crashes):
            failing = until_failure(getattr(owner, method), calls, Crash())
            with mock.patch.object(owner, method, failing), self.assertRaises(Crash):
                self.train(module, settings, 'parts', resume=i > 0)
        # All that it takes is in the record.
        parts, _ = self.train(module, {}, 'parts', resume=True)
        self.assertEqual(parts.history, whole.history)
        self.assertEqual(parts.scores, whole.scores)
        self.assertEqual(parameters(parts.model), parameters(whole.model))
        self.assertEqual(contents(self.folder / 'parts'), contents(self.folder / 'whole'))

    STEP = (engine.Step, 'over')
    SAVE = (Run, 'save')
    FILE = (folders.os, 'replace')

    def test_logistic_regression(self):
        # An epoch has 15 minibatches, in 5 calls, and is followed by one or two calls that score.
        # Each save replaces the record, and 3 or 4 other files.
        self.assert_same_end(logistic_sgd, {'n_epochs': 4, 'batch_size': 10}, [
            (*self.STEP, 0),   # before the first update
            (*self.STEP, 3),   # in mid-epoch
            (*self.STEP, 5),   # while the model is scored
            (*self.SAVE, 1),   # the epoch is scored, but not saved
            (*self.FILE, 4),   # a new checkpoint beside older files
            (*self.FILE, 6),
            (*self.FILE, 1)])

    def test_early_stopping(self):
        # Validation after every 7 updates of 15.
        train = training.train_with_early_stopping
        with mock.patch.object(training, 'train_with_early_stopping',
                               lambda *args, **options: train(*args, **options | {'patience': 15})):
            self.assert_same_end(
                logistic_sgd, {'n_epochs': 100, 'batch_size': 10, 'learning_rate': 0.5}, [
                    (*self.SAVE, 6),    # in the first epochs: patience is still as it was
                    (*self.STEP, 25),
                    (*self.SAVE, 8)])  # the best is behind
        record = read_record(self.folder / 'whole')
        self.assertTrue(2 < record['scores']['epochs'] < 100)

    def test_stacked_auto_encoders(self):
        self.assert_same_end(
            SdA, {'pretraining_epochs': 2, 'training_epochs': 2, 'batch_size': 10,
                  'hidden_layers_sizes': (8, 6), 'corruption_levels': (0.1, 0.3),
                  'pretrain_lr': 0.1}, [
                (*self.STEP, 7),   # in the second epoch of the first layer
                (*self.SAVE, 1),   # between the layers
                (*self.STEP, 5),   # in the second layer
                (*self.SAVE, 2),   # in finetuning
                (*self.STEP, 6)])

    def test_denoising_auto_encoders(self):
        self.assert_same_end(
            dA, {'training_epochs': 2, 'batch_size': 10, 'n_hidden': 8}, [
                (*self.STEP, 2),
                (*self.STEP, 6),
                (*self.STEP, 7),
                (Run, 'keep_model', 0)])  # all is trained, nothing is concluded

    def test_ctrl_c(self):
        settings = {'n_epochs': 3, 'batch_size': 10}
        self.train(logistic_sgd, settings, 'whole')
        over, calls = engine.Step.over, []

        def interrupted(self, *args, **kwargs):
            calls.append(args)
            if len(calls) in (9, 16):
                signal.raise_signal(signal.SIGINT)
            return over(self, *args, **kwargs)

        with mock.patch.object(engine.Step, 'over', interrupted):
            for epoch, resume in ((1, False), (2, True)):
                with self.assertRaisesRegex(KeyboardInterrupt, f'after epoch {epoch} of training'):
                    self.train(logistic_sgd, settings, 'parts', resume)
                self.assertEqual(read_record(self.folder / 'parts')['status'], 'interrupted')
        self.train(logistic_sgd, settings, 'parts', resume=True)
        self.assertEqual(contents(self.folder / 'parts'), contents(self.folder / 'whole'))

    def test_a_hook_sees_every_epoch_and_may_end_the_run(self):
        for module, settings, stages in (
                (SdA, {'pretraining_epochs': 2, 'training_epochs': 2, 'batch_size': 10,
                       'hidden_layers_sizes': (8,), 'corruption_levels': (0.1,)},
                 ['pre-training layer 0', 'finetuning']),
                (logistic_cg, {'n_epochs': 2, 'batch_size': 10}, ['training'])):
            seen = []

            def hook(epoch, row, seen=seen, stages=stages):
                seen.append((row['stage'], epoch))
                if seen[-1] == (stages[-1], 1) and len(seen) == 2 * len(stages):
                    raise Stop('pruned')

            folder = module.__name__
            with self.assertRaises(Stop):
                self.train(module, settings | {'after_epoch': hook}, folder)
            self.assertEqual(seen, [(stage, epoch) for stage in stages for epoch in (0, 1)])
            self.assertEqual(read_record(self.folder / folder)['status'], 'pruned')
            resumed, _ = self.train(module, {'after_epoch': hook}, folder, resume=True)
            self.assertEqual(seen[-1], (stages[-1], 1))  # it was not saved, so it comes again
            whole, _ = self.train(module, settings, f'whole {folder}')
            self.assertEqual(resumed.history, whole.history)

    def test_a_finished_run_gives_its_result_again(self):
        settings = {'n_epochs': 3, 'batch_size': 10}
        whole, output = self.train(logistic_sgd, settings, 'whole')
        before = contents(self.folder / 'whole')
        with mock.patch.object(engine.Step, 'over', side_effect=AssertionError):
            again, output_again = self.train(logistic_sgd, {}, 'whole', resume=True)
        self.assertEqual(contents(self.folder / 'whole'), before)
        self.assertEqual((again.history, again.scores), (whole.history, whole.scores))
        self.assertEqual(parameters(again.model), parameters(whole.model))
        self.assertIn('Optimization complete', output_again)
        self.assertNotIn('epoch 1', output_again)

        # More epochs: as if they had been asked for from the beginning.
        self.train(logistic_sgd, {'n_epochs': 5}, 'whole', resume=True)
        self.train(logistic_sgd, settings | {'n_epochs': 5}, 'parts')
        self.assertEqual(contents(self.folder / 'whole'), contents(self.folder / 'parts'))
        self.assert_user_error('training has had 5 epochs, which cannot become 4', self.train,
                               logistic_sgd, {'n_epochs': 4}, 'parts', resume=True)
        self.assert_user_error('`batch_size` was 10, not 15', self.train, logistic_sgd,
                               {'batch_size': 15}, 'parts', resume=True)

    def test_more_epochs_where_no_later_stage_builds_on_them(self):
        settings = {'training_epochs': 1, 'batch_size': 10, 'n_hidden': 8}
        self.train(dA, settings, 'parts')
        parts, _ = self.train(dA, {'training_epochs': 2}, 'parts', resume=True)
        whole, _ = self.train(dA, settings | {'training_epochs': 2}, 'whole')
        for name in ('model.npz', 'filters_corruption_0.png', 'filters_corruption_30.png'):
            self.assertEqual((self.folder / 'parts' / name).read_bytes(),
                             (self.folder / 'whole' / name).read_bytes())
        self.assertEqual(parts.scores, whole.scores)

    def test_recorded_settings_are_such(self):
        self.train(SdA, {'pretraining_epochs': 0, 'training_epochs': 0}, 'whole')
        record = read_record(self.folder / 'whole')
        for name, value in (('seed', 'x'), ('pretrain_lr', None), ('dataset', 3),
                            ('corruption_levels', [0.1, 'x'])):
            folders.write_json(self.folder / 'whole' / 'run.json',
                               record | {'settings': record['settings'] | {name: value}})
            self.assert_user_error(f'`{name}` was', self.train, SdA, {}, 'whole', resume=True)

    def test_state_of_a_user_s_own_step_is_kept(self):
        """A velocity that nobody handed to the run, and a mask that is drawn anew."""
        def train(resume=False, fails_after=1000):
            W, velocity = (theano.shared(numpy.ones((3, 2), theano.config.floatX), name=name)
                           for name in ('W', 'velocity'))
            index, x = T.lscalar('index'), T.matrix('x')
            rows = numpy.random.RandomState(0).uniform(size=(20, 3))
            dropped = draws.RandomStreams(1).bernoulli(x.shape, 0.8) * x
            cost = T.mean(T.sqr(T.dot(dropped, W) - 1))
            new = 0.9 * velocity - 0.1 * T.grad(cost, W)
            step = engine.function(
                [index], cost, [(velocity, new), (W, W + new), *draws.random_updates(cost)],
                {x: engine.minibatch(engine.shared_data(rows), index, 4)})
            data = SimpleNamespace(name='rows', sha256='0', image_shape=(1, 3))
            settings = {'output_folder': self.folder / f'{fails_after}', 'resume': resume,
                        'overwrite': False}
            with mock.patch.object(Run, 'save', until_failure(Run.save, fails_after, Crash())), \
                    printed(), Run('mine', settings, data, [W], {}) as run:
                training.train_epochs(run, 'training', step, 4, report=lambda epoch, cost: '')
            return W.get_value().tolist()

        whole = train()
        with self.assertRaises(Crash):
            train(fails_after=2)
        with mock.patch.object(Run, 'save'):
            (self.folder / '2').rename(self.folder / '3')
        with mock.patch(f'{__name__}.until_failure', lambda function, calls, failure: function):
            self.assertEqual(train(resume=True, fails_after=3), whole)


class TestKill(RunCase):

    N_KILLS = int(os.environ.get('DLT_KILLS', '2'))
    SETTINGS = ['--n-epochs', '250', '--batch-size', '10', '--dataset', 'images.npz']

    def script(self, folder, *options):
        return subprocess.Popen(
            [sys.executable, CODE_FOLDER / 'logistic_sgd.py', '--output-folder', folder, *options],
            cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def test_a_script_that_is_killed_again_and_again_goes_on(self):
        data = small_images()
        numpy.savez(self.folder / 'images.npz', train_x=data.train[0], train_y=data.train[1],
                    valid_x=data.valid[0], valid_y=data.valid[1], test_x=data.test[0],
                    test_y=data.test[1])
        with self.script('whole', *self.SETTINGS) as process:
            _, errors = process.communicate()
        self.assertEqual(process.returncode, 0, errors)

        options = self.SETTINGS
        for kill in range(self.N_KILLS):
            with self.script('parts', *options) as process:
                for _ in process.stdout:
                    if folders.is_in_use(self.folder / 'parts'):
                        break
                if kill == 0:
                    process.send_signal(signal.SIGSTOP)  # or it might come to its end meanwhile
                    with self.script('parts', '--overwrite', *self.SETTINGS) as second:
                        _, errors = second.communicate()
                    self.assertEqual((second.returncode, errors.count('\n')), (1, 1), errors)
                    self.assertIn('in use by another run', errors)
                    process.send_signal(signal.SIGCONT)
                time.sleep(random.Random(kill).uniform(0, 0.3))
                process.kill()
                process.communicate()
            self.assertEqual(read_record(self.folder / 'parts')['status'], 'dead')
            options = ['--resume']
        with self.script('parts', *self.SETTINGS) as process:  # no --resume, no --overwrite
            _, errors = process.communicate()
        self.assertEqual((process.returncode, errors.count('\n')), (1, 1), errors)
        self.assertRegex(errors, r'holds a run of logistic_sgd \(dead, process .*--resume')
        with self.script('parts', '--resume') as process:
            _, errors = process.communicate()
        self.assertEqual(process.returncode, 0, errors)
        self.assertEqual(contents(self.folder / 'parts'), contents(self.folder / 'whole'))
