"""Tests of what a run leaves in its folder, and that an interrupted run ends like any other."""

import contextlib
import csv
import errno
import gc
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import warnings
from types import SimpleNamespace
from unittest import mock

import numpy
import pytensor as theano
from pytensor.compile.sharedvalue import SharedVariable

from dA import test_dA
from logistic_sgd import sgd_optimization_mnist
from SdA import test_SdA
from support import checkpoints, datasets, engine, training
from support.checkpoints import Run, load_arrays, load_checkpoint, load_model, save_arrays
from support.errors import UserError
from support.testing import CODE_FOLDER, TestCase, printed, slow, small_images, until_failure


class Crash(BaseException):
    """A power cut."""


class CheckpointCase(TestCase):

    def assert_user_error(self, pattern, function, *args, **kwargs):
        with self.assertRaisesRegex(UserError, pattern) as caught:
            function(*args, **kwargs)
        self.assertNotIn('\n', str(caught.exception))

    def names(self, folder=None):
        return sorted(path.name for path in (folder or self.folder).iterdir())


class TestFiles(CheckpointCase):

    ARRAYS = {'0_W': numpy.arange(6, dtype='float32').reshape(2, 3), '1_b': numpy.zeros(0),
              '2_n': numpy.array(-3), 'state': numpy.array('{"epoch": 1, "π": "\\n"}')}

    def assert_arrays(self, found, expected):
        self.assertEqual(list(found), list(expected))
        for name, array in expected.items():
            self.assertEqual((found[name].dtype, found[name].shape, found[name].tolist()),
                             (array.dtype, array.shape, array.tolist()))

    def test_equal_arrays_give_equal_bytes_at_any_time(self):
        path = self.folder / 'a.npz'
        save_arrays(path, self.ARRAYS)
        first = path.read_bytes()
        self.assert_arrays(load_arrays(path), self.ARRAYS)
        years_later = (2037, 5, 6, 7, 8, 9, 2, 126, 0)
        with mock.patch('time.time', return_value=2125983609.0), \
                mock.patch('time.localtime', return_value=years_later):
            save_arrays(path, {name: array.copy() for name, array in self.ARRAYS.items()})
        self.assertEqual(path.read_bytes(), first)
        save_arrays(path, self.ARRAYS | {'2_n': numpy.array(-4)})
        self.assertNotEqual(path.read_bytes(), first)

    def test_a_failure_while_writing_leaves_the_old_file(self):
        path = self.folder / 'a.npz'
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for old in (None, b'old'):
            if old is not None:
                path.write_bytes(old)
            for failure in (full, ValueError(), KeyboardInterrupt(), Crash()):
                with self.assertRaises(type(failure)) as caught, \
                        checkpoints.written_atomically(path) as file:
                    file.write(b'new')
                    raise failure
                self.assertIs(caught.exception, failure)
                self.assertEqual(self.names(), [] if old is None else ['a.npz'])
            for where in ('fsync', 'replace'):
                with mock.patch.object(checkpoints.os, where, side_effect=full), \
                        self.assertRaises(OSError):
                    save_arrays(path, self.ARRAYS)
                self.assertEqual(self.names(), [] if old is None else ['a.npz'])
        self.assertEqual(path.read_bytes(), b'old')
        # What a kill left behind is in nobody's way.
        (self.folder / '.a.npz.part').write_bytes(b'half')
        save_arrays(path, self.ARRAYS)
        self.assertEqual(self.names(), ['a.npz'])
        self.assert_arrays(load_arrays(path), self.ARRAYS)

    def test_durable_files_reach_the_disk_before_they_take_their_name(self):
        for durable, expected in ((True, ['fsync', 'replace']), (False, ['replace'])):
            done = []
            with mock.patch.object(checkpoints.os, 'fsync', lambda fd, d=done: d.append('fsync')), \
                    mock.patch.object(checkpoints.os, 'replace',
                                      lambda a, b, d=done: d.append('replace')), \
                    checkpoints.written_atomically(self.folder / 'x', durable) as file:
                file.write(b'x')
            self.assertEqual(done[:2], expected)

    def broken_files(self):
        path = self.folder / 'good.npz'
        save_arrays(path, self.ARRAYS)
        good = path.read_bytes()
        yield 'empty', b''
        yield 'text', b'no archive\n'
        for length in (1, 4, 30, len(good) // 2, len(good) - 1):
            yield f'cut after {length} bytes', good[:length]
        middle = good.index(self.ARRAYS['0_W'].tobytes())
        yield 'a byte of an array', good[:middle] + b'\xff' + good[middle + 1:]
        yield 'zeros', bytes(len(good))
        yield 'pickle', pickle.dumps({'0_W': 1})
        for name, array in (('npy', numpy.zeros(3)), ('object npy', numpy.array([None]))):
            file = io.BytesIO()
            numpy.save(file, array)
            yield name, file.getvalue()
        file = io.BytesIO()
        numpy.savez(file, a=numpy.array([{'an': 'object'}]))
        yield 'objects', file.getvalue()
        method = good.index(b'PK\x01\x02') + 10
        yield 'unknown compression', good[:method] + b'\x63' + good[method + 1:]

    def test_broken_files(self):
        path = self.folder / 'a.npz'
        for what, content in self.broken_files():
            with self.subTest(what), warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter('always')
                path.write_bytes(content)
                self.assert_user_error(r'a\.npz is broken \(.*--overwrite', load_arrays, path)
                gc.collect()
                self.assertEqual(caught, [])  # no file is left open
                path.unlink()
        self.assert_user_error('there is no .*a.npz', load_arrays, path)

    def test_no_byte_that_changes_goes_unnoticed(self):
        path = self.folder / 'a.npz'
        save_arrays(path, self.ARRAYS)
        good = bytearray(path.read_bytes())
        for place in range(0, len(good), 3):
            path.write_bytes(good[:place] + bytes([good[place] ^ 0x41]) + good[place + 1:])
            with contextlib.suppress(UserError):
                for name, array in load_arrays(path).items():
                    self.assertEqual(array.tolist(), self.ARRAYS[name].tolist())

    def test_load_model(self):
        def params(*shapes):
            return [theano.shared(numpy.ones(shape, dtype='float32'), name=name)
                    for name, shape in zip('Wb', shapes, strict=False)]

        saved = params((2, 3), 3)
        saved[0].set_value(numpy.arange(6, dtype='float32').reshape(2, 3))
        save_arrays(self.folder / 'model.npz',
                    checkpoints.values(checkpoints.named(saved)))
        loaded = params((2, 3), 3)
        load_model(str(self.folder), loaded)
        self.assertEqual(loaded[0].get_value().tolist(), [[0, 1, 2], [3, 4, 5]])
        self.assertEqual(load_arrays(self.folder / 'model.npz').keys(), {'0_W', '1_b'})
        for other in (params((2, 4), 4), params((2, 3)), params((3, 2), 3),
                      params((2, 3), 3)[::-1]):
            before = [param.get_value() for param in other]
            self.assert_user_error('holds other arrays, .*than this model has', load_model,
                                   self.folder, other)
            for param, value in zip(other, before, strict=True):
                numpy.testing.assert_array_equal(param.get_value(), value)
        self.assert_user_error('there is no .*nowhere.model.npz', load_model,
                               self.folder / 'nowhere', loaded)


class TestRun(CheckpointCase):

    def open(self, resume=False, overwrite=False, data='data', sha256='0', folder=None,
             shape=(2, 3), script='script', **settings):
        self.W = theano.shared(numpy.zeros(shape, dtype='float32'), name='W')
        self.extra = theano.shared(numpy.zeros(2, dtype='float32'), name='extra')
        settings = {'rate': 0.5, 'sizes': (3, 2), 'n_epochs': 5, 'seed': None,
                    'dataset': data, 'output_folder': str(folder or self.folder)} | settings
        with contextlib.redirect_stderr(io.StringIO()) as errors:
            try:
                return Run(script, settings | {'resume': resume, 'overwrite': overwrite},
                           SimpleNamespace(name=data, sha256=sha256, image_shape=(1, 2)),
                           [self.W], [self.extra])
            finally:
                self.errors = errors.getvalue()

    def write(self, *stages, finished=False, **settings):
        """A run that ends with these stages: (name, epochs, minibatches)."""
        run = self.open(overwrite=True, **settings)
        for name, epoch, minibatch in stages:
            run.stage(name, 100).update(epoch=epoch, minibatch=minibatch)
            run.state['history'].append({'stage': name, 'epoch': epoch, 'cost': 1 / 3})
        self.W.set_value(numpy.arange(6, dtype='float32').reshape(2, 3))
        self.extra.set_value(numpy.array([7, 8], dtype='float32'))
        run.keep_model()
        if finished:
            run.finish({'test_error': 12.5})
        else:
            run.save()

    def test_an_unfinished_run_is_neither_lost_nor_continued_unasked(self):
        self.write(('training', 3, 2))
        before = {name: (self.folder / name).read_bytes() for name in self.names()}
        self.assert_user_error('unfinished run: continue it with --resume, or lose it with '
                               '--overwrite', self.open)
        self.assertEqual({name: (self.folder / name).read_bytes() for name in self.names()}, before)
        run = self.open(resume=True)
        self.assertEqual(self.errors, '')
        self.assertEqual(self.W.get_value().tolist(), [[0, 1, 2], [3, 4, 5]])
        self.assertEqual(self.extra.get_value().tolist(), [7, 8])
        record = run.stage('training', 5)
        self.assertEqual((record['epoch'], record['minibatch']), (3, 2))
        self.assertFalse(run.checkpoint_is_due())

    def test_overwriting_leaves_nothing_stale(self):
        for finished in (False, True):
            self.write(('training', 3, 2), finished=finished)
            for name in ('curves.png', 'filters_at_epoch_7.png', 'sample1.mid', 'ais.json'):
                (self.folder / name).write_bytes(b'old')
            (self.folder / 'notes.txt').write_text('mine')
            # A finished run may be replaced unasked.
            run = self.open(overwrite=not finished)
            self.assertEqual(self.names(), ['checkpoint.npz', 'notes.txt', 'run.json'])
            arrays, state = load_checkpoint(self.folder / 'checkpoint.npz')
            self.assertEqual((state['stages'], state['history'], state['finished']),
                             ({}, [], False))
            self.assertFalse(arrays['0_W'].any())
            self.assertEqual(run.state['history'], [])

    def test_resuming_where_there_is_no_checkpoint(self):
        self.open(resume=True, folder=self.folder / 'a' / 'b')
        self.assertRegex(self.errors, r'^NOTICE: no checkpoint in .*b, so this is a new run\n$')
        self.assertEqual(self.names(self.folder / 'a' / 'b'), ['checkpoint.npz', 'run.json'])

    def test_what_would_change_the_past_is_refused_by_name(self):
        self.write(('training', 3, 0))
        for changed, message in (
                ({'rate': 0.25}, r'rate was 0\.5, not 0\.25'),
                ({'sizes': (3, 2, 1)}, r'sizes was \[3, 2\], not \[3, 2, 1\]'),
                ({'seed': 1, 'rate': 1.0}, r'rate was 0\.5, not 1\.0; seed was None, not 1'),
                ({'another': 3}, 'another was None, not 3'),
                ({'sha256': '1', 'data': 'other.npz'}, 'the data set was another than other.npz'),
                ({'script': 'other'}, 'the script was script'),
                ({'shape': (2, 4)}, r'holds other arrays, .*\(2, 3\).* than .*\(2, 4\)')):
            with self.subTest(message):
                self.assert_user_error(message, self.open, resume=True, **changed)
        with mock.patch.object(engine, 'mode_name', return_value='OTHER'):
            self.assert_user_error('mode was .*, not OTHER', self.open, resume=True)
        with theano.config.change_flags(floatX='float64'):
            self.assert_user_error('floatX was float32, not float64', self.open, resume=True)
        # Neither the place nor the name of the data set decides, nor a list in a tuple's place.
        moved = self.folder.rename(self.folder.with_name(self.folder.name + '_moved'))
        try:
            self.open(resume=True, folder=moved, data='moved.npz', sizes=[3, 2])
        finally:
            moved.rename(self.folder)

    # The stages of a run as it was left, (name, epochs, minibatches); a stage and its epochs when
    # it is resumed, whether it stands alone; what the error says, or None.
    EPOCHS = (
        ([('a', 3, 0)], 'a', 4, False, None),
        ([('a', 3, 0)], 'a', 3, False, None),
        ([('a', 3, 0)], 'a', 2, False, 'a has had 3 epochs, so n_epochs cannot be changed to 2'),
        ([('a', 3, 1)], 'a', 4, False, None),
        ([('a', 3, 1)], 'a', 3, False, 'a has had 4 epochs, so n_epochs cannot be changed to 3'),
        ([('a', 3, 0), ('b', 1, 0)], 'a', 3, False, None),
        ([('a', 3, 0), ('b', 1, 0)], 'a', 4, False, 'a has had 3 epochs'),
        ([('a', 3, 0), ('b', 0, 0)], 'a', 4, False, 'a has had 3 epochs'),
        ([('a', 3, 0), ('b', 1, 0)], 'a', 2, False, 'a has had 3 epochs'),
        ([('a', 3, 0), ('b', 1, 0)], 'a', 4, True, None),
        ([('a', 3, 0), ('b', 1, 0)], 'a', 2, True, 'a has had 3 epochs'),
        ([('a', 3, 0), ('b', 1, 0)], 'b', 9, False, None),
        ([('a', 3, 0), ('b', 1, 0)], 'c', 9, False, None),
    )

    def test_how_many_epochs_a_resumed_stage_may_have(self):
        for finished in (False, True):
            for stages, name, n_epochs, stands_alone, error in self.EPOCHS:
                with self.subTest(f'{stages}, {name}: {n_epochs}', alone=stands_alone):
                    self.write(*stages, finished=finished)
                    before = (self.folder / 'checkpoint.npz').read_bytes()
                    run = self.open(resume=True, n_epochs=n_epochs)
                    if error is None:
                        record = run.stage(name, n_epochs, stands_alone)
                        self.assertIs(run.state['stages'][name], record)
                    else:
                        self.assert_user_error(error, run.stage, name, n_epochs, stands_alone)
                    self.assertEqual((self.folder / 'checkpoint.npz').read_bytes(), before)

    def test_broken_checkpoints(self):
        self.write(('training', 3, 0))
        path = self.folder / 'checkpoint.npz'
        good = path.read_bytes()
        arrays = load_arrays(path)
        save_arrays(path, {name: arrays[name] for name in ('0_W', '1_extra')})
        without_state = path.read_bytes()
        save_arrays(path, arrays | {'state': numpy.array('{')})
        for content, message in ((b'', 'checkpoint.npz is broken'),
                                 (good[:-50], 'checkpoint.npz is broken'),
                                 (without_state, 'is no checkpoint of this version'),
                                 (path.read_bytes(), 'is no checkpoint of this version')):
            path.write_bytes(content)
            for resume in (False, True):
                self.assert_user_error(message + '.*--overwrite', self.open, resume=resume)
            self.assertEqual(path.read_bytes(), content)
        self.open(overwrite=True)
        self.assertFalse(load_checkpoint(path)[1]['finished'])

    def test_a_run_goes_on_without_a_good_run_json(self):
        for content in (None, '', '{"status": "runn', '[]', '{}'):
            with self.subTest(content):
                self.write(('training', 3, 0))
                path = self.folder / 'run.json'
                path.unlink()
                if content is not None:
                    path.write_text(content)
                self.open(resume=True).save()
                self.assertEqual(json.loads(path.read_text())['epochs'], {'training': 3})

    def test_a_folder_that_cannot_be_used(self):
        file = self.folder / 'file'
        file.write_text('')
        for folder in (file, file / 'below'):
            self.assert_user_error(r'cannot write into the output folder .*--output-folder',
                                   self.open, folder=folder)
        with mock.patch.object(checkpoints.tempfile, 'TemporaryFile',
                               side_effect=PermissionError(errno.EACCES, 'Permission denied')):
            self.assert_user_error(r'output folder .*out \(Permission denied\)', self.open,
                                   folder=self.folder / 'out')

    def test_run_json(self):
        with mock.patch.object(sys, 'argv', ['/some/where/script.py', '--rate', '0.5', '--resume',
                                             '--output-folder', '/else/where', '--overwrite']):
            self.write(('training', 3, 2), finished=True, n_epochs=7)
        described = json.loads((self.folder / 'run.json').read_text())
        expected = {
            'command': ['script.py', '--rate', '0.5'],
            'script': 'script', 'status': 'finished', 'scores': {'test_error': 12.5},
            'settings': {'rate': 0.5, 'sizes': [3, 2], 'n_epochs': 7, 'seed': None},
            'data': {'name': 'data', 'sha256': '0', 'image_shape': [1, 2]},
            'epochs': {'training': 3}, 'seconds': {},
            'engine': {'floatX': theano.config.floatX, 'mode': engine.mode_name()},
        }
        self.assertEqual({key: described[key] for key in expected}, expected)
        self.assertEqual(set(described) - set(expected),
                         {'started', 'written', 'versions', 'machine'})
        self.assertEqual(described['versions']['numpy'], numpy.__version__)
        self.assertEqual(described['versions']['pytensor'], theano.__version__)
        time_form = r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}$'
        for key in ('started', 'written'):
            self.assertRegex(described[key], time_form)
        self.assertEqual(described['machine']['cores'], os.cpu_count())
        # Times are kept here and nowhere else.
        _, state = load_checkpoint(self.folder / 'checkpoint.npz')
        self.assertEqual(set(state), {'script', 'settings', 'data', 'stages', 'history', 'engine',
                                      'scores', 'finished'})
        self.assertEqual(state['script'], described['script'])

    def test_history_csv(self):
        run = self.open()
        run.state['history'] += [{'stage': 'a, b', 'epoch': 1, 'cost': 0.1},
                                 {'stage': 'c', 'epoch': 1, 'test_error': 1 / 3}]
        run.save()
        with open(self.folder / 'history.csv', newline='') as file:
            rows = list(csv.DictReader(file))
        self.assertEqual(rows, [
            {'stage': 'a, b', 'epoch': '1', 'cost': '0.1', 'test_error': ''},
            {'stage': 'c', 'epoch': '1', 'cost': '', 'test_error': repr(1 / 3)}])

    def test_a_checkpoint_is_due_after_30_seconds(self):
        run = self.open()
        for seconds, due in ((29, False), (31, True)):
            with mock.patch.object(checkpoints.time, 'monotonic',
                                   return_value=run.saved_at + seconds):
                self.assertEqual(run.checkpoint_is_due(), due)
        run.interrupted = True
        self.assertTrue(run.checkpoint_is_due())

    def test_signals(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
            with self.subTest(number), self.assertRaises(KeyboardInterrupt), \
                    self.open(overwrite=True) as run:
                run.stage('training', 5)['epoch'] = 1
                signal.raise_signal(number)  # only noted: nothing is cut in half
                run.stage('training', 5)['epoch'] = 2
                self.assertTrue(run.checkpoint_is_due())
                run.save()
            self.assertEqual([signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)],
                             before)
            described = json.loads((self.folder / 'run.json').read_text())
            self.assertEqual((described['status'], described['epochs']),
                             ('interrupted', {'training': 2}))
        with self.assertRaises(KeyboardInterrupt), self.open(overwrite=True) as run:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)  # the second time at once
            self.fail('still running')
        # What is complete is not made incomplete in the last moment.
        with self.open(overwrite=True) as run:
            signal.raise_signal(signal.SIGINT)
            run.finish({})
        self.assertEqual(json.loads((self.folder / 'run.json').read_text())['status'], 'finished')


def contents(folder):
    """The files of a run that its settings and data decide to the last bit."""
    return {path.name: path.read_bytes() for path in folder.iterdir()
            if path.suffix in ('.npz', '.csv') or path.name.startswith('filters')}


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


class TestResumption(CheckpointCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.enterClassContext(compiled_once())

    def setUp(self):
        super().setUp()
        for patch in (
                mock.patch.object(datasets, 'read', return_value=small_images(n_train=150)),
                mock.patch.object(training, 'UPDATES_PER_CALL', 4),
                mock.patch.object(checkpoints, 'SECONDS_BETWEEN_CHECKPOINTS', -1)):
            patch.start()
            self.addCleanup(patch.stop)

    def train(self, function, settings, folder, resume=False):
        """Result and output of a training function, called anew as in a new process."""
        with printed() as output, contextlib.redirect_stderr(io.StringIO()) as self.errors:
            result = function(**settings, output_folder=str(self.folder / folder), resume=resume)
        return result, output.getvalue()

    def crash(self, function, settings, owner, method, calls, failure, resume,
              seconds_between=-1):
        method_with_failure = until_failure(getattr(owner, method), calls, failure)
        with mock.patch.object(owner, method, method_with_failure), \
                mock.patch.object(checkpoints, 'SECONDS_BETWEEN_CHECKPOINTS', seconds_between), \
                self.assertRaises(type(failure)):
            self.train(function, settings, 'parts', resume)

    def assert_same_end(self, function, settings, crashes):
        """One run after the other breaks off; the last one ends as if nothing had happened.

        :param crashes: what fails, after how many calls of it, and seconds between checkpoints
        """
        whole, _ = self.train(function, settings, 'whole')
        places = []
        for i, (owner, method, calls, seconds_between) in enumerate(crashes):
            self.crash(function, settings, owner, method, calls, Crash(), i > 0, seconds_between)
            stages = load_checkpoint(self.folder / 'parts' / 'checkpoint.npz')[1]['stages']
            places.append([(record['epoch'], record['minibatch']) for record in stages.values()])
        parts, _ = self.train(function, settings, 'parts', resume=True)
        self.assertEqual(parts.history, whole.history)
        self.assertEqual(parts.scores, whole.scores)
        self.assertEqual(parameters(parts.model), parameters(whole.model))
        self.assertEqual(contents(self.folder / 'parts'), contents(self.folder / 'whole'))
        return places

    STEP = (engine.MinibatchFunction, 'run')
    SAVE = (Run, 'save')
    FILE = (checkpoints.os, 'replace')

    def test_logistic_regression(self):
        # An epoch has 15 minibatches, in 5 calls, with a checkpoint before each and one at the
        # end; each epoch is followed by one or two calls that score.
        places = self.assert_same_end(
            sgd_optimization_mnist, {'n_epochs': 4, 'batch_size': 10}, [
                (*self.STEP, 0, -1),  # before the first update
                (*self.STEP, 3, -1),  # in mid-epoch
                (*self.STEP, 2, -1),  # while the model is scored
                (*self.SAVE, 1, -1),  # the epoch is scored, but not saved
                (*self.STEP, 9, 30),  # checkpoints only at the ends of epochs
                (*self.FILE, 1, -1),  # a new checkpoint beside older files
                (*self.FILE, 5, -1),
            ])
        self.assertEqual(places, [[(0, 0)], [(0, 9)], [(0, 12)], [(0, 12)], [(1, 0)], [(1, 0)],
                                  [(1, 3)]])

    def test_early_stopping(self):
        # Validation after every 7 updates of 15; the best is found in epoch 6, and patience ends
        # with the third update of epoch 11.
        train = training.train_with_early_stopping
        with mock.patch.object(training, 'train_with_early_stopping',
                               lambda *args, **options: train(*args, **options | {'patience': 15})):
            places = self.assert_same_end(
                sgd_optimization_mnist,
                {'n_epochs': 100, 'batch_size': 10, 'learning_rate': 0.5}, [
                    (*self.SAVE, 6, -1),    # in the first epoch: patience is still as it was
                    (*self.STEP, 25, -1),
                    (*self.SAVE, 27, -1),   # the best is behind
                    (*self.SAVE, 11, -1),   # the end is decided, but not saved
                ])
        final = load_checkpoint(self.folder / 'whole' / 'checkpoint.npz')[1]
        self.assertEqual(final['scores']['epochs'], 11)
        self.assertEqual(final['stages']['training']['stopping'][2], 76)
        self.assertEqual(places, [[(0, 14)], [(4, 0)], [(8, 6)], [(10, 0)]])

    def test_stacked_auto_encoders(self):
        # As above in each of two layers, without scoring, and then in finetuning.
        places = self.assert_same_end(
            test_SdA, {'pretraining_epochs': 2, 'training_epochs': 2, 'batch_size': 10,
                       'hidden_layers_sizes': (8, 6), 'corruption_levels': (0.1, 0.3),
                       'pretrain_lr': 0.1}, [
                (*self.STEP, 7, -1),   # in the second epoch of the first layer
                (*self.SAVE, 4, -1),   # between the layers
                (*self.STEP, 3, -1),   # in the second layer
                (*self.SAVE, 12, -1),  # in finetuning
                (*self.STEP, 6, 30),
            ])
        self.assertEqual([len(place) for place in places], [1, 1, 2, 3, 3])

    def test_denoising_auto_encoders(self):
        places = self.assert_same_end(
            test_dA, {'training_epochs': 2, 'batch_size': 10, 'n_hidden': 8}, [
                (*self.STEP, 2, -1),
                (*self.STEP, 6, 30),
                (*self.STEP, 7, -1),
                (Run, 'keep_model', 0, -1),  # all is trained, nothing is concluded
            ])
        self.assertEqual(places, [[(0, 6)], [(1, 0)], [(2, 0), (0, 6)], [(2, 0), (2, 0)]])

    def test_other_cuts_than_before_skip_no_minibatch(self):
        settings = {'n_epochs': 2, 'batch_size': 10}
        whole, _ = self.train(sgd_optimization_mnist, settings, 'whole')
        self.crash(sgd_optimization_mnist, settings, *self.STEP, 2, Crash(), resume=False)
        with mock.patch.object(training, 'UPDATES_PER_CALL', 5):
            parts, _ = self.train(sgd_optimization_mnist, settings, 'parts', resume=True)
        self.assertEqual(parameters(parts.model), parameters(whole.model))

    def test_ctrl_c(self):
        settings = {'n_epochs': 3, 'batch_size': 10}
        self.train(sgd_optimization_mnist, settings, 'whole')
        run = engine.MinibatchFunction.run
        calls = []

        def interrupted(self, *args, **kwargs):
            calls.append(args)
            if len(calls) in (3, 7):  # in an epoch, and while scoring
                signal.raise_signal(signal.SIGINT)
            return run(self, *args, **kwargs)

        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        with mock.patch.object(engine.MinibatchFunction, 'run', interrupted), \
                mock.patch.object(checkpoints, 'SECONDS_BETWEEN_CHECKPOINTS', 30):
            # The call in which the signal came is completed, and nothing of it is lost.
            for place, resume in (((0, 9), False), ((1, 0), True)):
                with self.assertRaises(KeyboardInterrupt):
                    self.train(sgd_optimization_mnist, settings, 'parts', resume)
                record = load_checkpoint(
                    self.folder / 'parts' / 'checkpoint.npz')[1]['stages']['training']
                self.assertEqual((record['epoch'], record['minibatch']), place)
                described = json.loads((self.folder / 'parts' / 'run.json').read_text())
                self.assertEqual(described['status'], 'interrupted')
                self.assertEqual([signal.getsignal(number)
                                  for number in (signal.SIGINT, signal.SIGTERM)], handlers)
        self.train(sgd_optimization_mnist, settings, 'parts', resume=True)
        self.assertEqual(contents(self.folder / 'parts'), contents(self.folder / 'whole'))

    def test_a_finished_run_gives_its_result_again(self):
        settings = {'n_epochs': 3, 'batch_size': 10}
        whole, output = self.train(sgd_optimization_mnist, settings, 'whole')
        before = contents(self.folder / 'whole')
        with mock.patch.object(engine.MinibatchFunction, 'run', side_effect=AssertionError):
            again, output_again = self.train(sgd_optimization_mnist, settings, 'whole', resume=True)
        self.assertEqual(contents(self.folder / 'whole'), before)
        self.assertEqual((again.history, again.scores), (whole.history, whole.scores))
        self.assertEqual(parameters(again.model), parameters(whole.model))
        for line in output_again.splitlines():
            if not line.startswith('The code run'):
                self.assertIn(line + '\n', output)
        self.assertIn('Optimization complete', output_again)
        self.assertNotIn('epoch 1', output_again)

        # More epochs: as if they had been asked for from the beginning.
        self.train(sgd_optimization_mnist, settings | {'n_epochs': 5}, 'whole', resume=True)
        self.train(sgd_optimization_mnist, settings | {'n_epochs': 5}, 'parts')
        self.assertEqual(contents(self.folder / 'whole'), contents(self.folder / 'parts'))

        # Its times may be lost.
        (self.folder / 'parts' / 'run.json').unlink()
        scores = self.train(sgd_optimization_mnist, settings | {'n_epochs': 5}, 'parts',
                            resume=True)[0].scores
        self.assertEqual(scores['epochs'], 5)
        for n_epochs in (4, 0):
            self.assert_user_error(f'training has had 5 epochs, so n_epochs .*to {n_epochs}',
                                   self.train, sgd_optimization_mnist,
                                   settings | {'n_epochs': n_epochs}, 'parts', resume=True)

    def test_more_epochs_where_no_later_stage_builds_on_them(self):
        settings = {'training_epochs': 1, 'batch_size': 10, 'n_hidden': 8}
        self.train(test_dA, settings, 'parts')
        more = settings | {'training_epochs': 2}
        parts, _ = self.train(test_dA, more, 'parts', resume=True)
        whole, _ = self.train(test_dA, more, 'whole')
        for name in ('model.npz', 'filters_corruption_0.png', 'filters_corruption_30.png'):
            self.assertEqual((self.folder / 'parts' / name).read_bytes(),
                             (self.folder / 'whole' / name).read_bytes())
        self.assertEqual(parts.scores, whole.scores)

    def test_the_model_is_that_of_the_scores(self):
        settings = {'n_epochs': 5, 'batch_size': 10}
        shorter = settings | {'n_epochs': 1}
        whole, _ = self.train(sgd_optimization_mnist, shorter, 'whole')
        # The checkpoint of the first epoch is written, its model is not.
        replace = os.replace

        def replace_all_but_the_model(part, path):
            if path.name == 'model.npz':
                raise Crash
            replace(part, path)

        with mock.patch.object(checkpoints.os, 'replace', replace_all_but_the_model), \
                mock.patch.object(checkpoints, 'SECONDS_BETWEEN_CHECKPOINTS', 30), \
                self.assertRaises(Crash):
            self.train(sgd_optimization_mnist, shorter, 'torn')
        self.assertFalse((self.folder / 'torn' / 'model.npz').exists())
        torn, _ = self.train(sgd_optimization_mnist, shorter, 'torn', resume=True)
        self.assertEqual(parameters(torn.model), parameters(whole.model))
        self.assertEqual(contents(self.folder / 'torn'), contents(self.folder / 'whole'))

        # A better model was found in the second epoch, which is then no longer wanted.
        self.crash(sgd_optimization_mnist, settings, *self.SAVE, 2, Crash(), resume=False,
                   seconds_between=30)
        parts, _ = self.train(sgd_optimization_mnist, shorter, 'parts', resume=True)
        self.assertEqual(parts.scores, whole.scores)
        self.assertEqual(parameters(parts.model), parameters(whole.model))


class TestKill(CheckpointCase):

    def script(self, folder, *options):
        return subprocess.Popen(
            [sys.executable, CODE_FOLDER / 'logistic_sgd.py', '--dataset',
             self.folder / 'images.npz', '--n-epochs', '200', '--batch-size', '10',
             '--output-folder', folder, *options], cwd=self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    @slow
    def test_a_script_that_was_killed_goes_on(self):
        data = small_images()
        numpy.savez(self.folder / 'images.npz', train_x=data.train[0], train_y=data.train[1],
                    valid_x=data.valid[0], valid_y=data.valid[1], test_x=data.test[0],
                    test_y=data.test[1])
        with self.script('whole') as process:
            whole, errors = process.communicate()
        self.assertEqual(process.returncode, 0, errors)

        for line_to_wait_for, options in (('epoch 3,', []), ('epoch 20,', ['--resume'])):
            with self.script('parts', *options) as process:
                for line in process.stdout:
                    if line.startswith(line_to_wait_for):
                        process.kill()
                        break
                process.communicate()
            self.assertNotEqual(process.returncode, 0)
            described = json.loads((self.folder / 'parts' / 'run.json').read_text())
            self.assertEqual(described['status'], 'running')

        with self.script('parts') as process:  # neither --resume nor --overwrite
            _, errors = process.communicate()
        self.assertEqual((process.returncode, errors.count('\n')), (1, 1))
        self.assertRegex(errors, '^logistic_sgd.py: parts holds an unfinished run')

        with self.script('parts', '--resume') as process:
            parts, errors = process.communicate()
        self.assertEqual(process.returncode, 0, errors)
        self.assertEqual(contents(self.folder / 'parts'), contents(self.folder / 'whole'))
        lines = parts.splitlines()
        self.assertTrue(set(lines[3:-2]) <= set(whole.splitlines()))
        self.assertLess(len(lines), len(whole.splitlines()))
        self.assertTrue(lines[-3].startswith('Optimization complete with best validation score'))
