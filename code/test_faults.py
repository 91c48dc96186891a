"""Tests of what surrounds a script when it fails: streams, disks, folders, devices, files."""

import importlib.util
import os
import random
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

from support import checkpoints, folders, photos
from support.errors import UserError
from support.testing import CODE_FOLDER, TestCase, small_images

import numpy
from PIL import Image

import predict
from test_scripts import write_data


class TestSurroundings(TestCase):
    """A script of seconds in bad surroundings: one line, or none where nobody could read it."""

    def setUp(self):
        super().setUp()
        data = small_images()
        arrays = {f'{name}_{part}': array for name in ('train', 'valid', 'test')
                  for part, array in zip('xy', getattr(data, name), strict=True)}
        numpy.savez(self.folder / 'images.npz', **arrays)

    def shell(self, command, **environment):
        """What a shell makes of a command, in which SCRIPT stands for one that trains for a bit."""
        script = (f'{sys.executable} {CODE_FOLDER / "logistic_sgd.py"} --dataset images.npz '
                  '--n-epochs 3 --batch-size 20 --output-folder out')
        return subprocess.run(['bash', '-c', command.replace('SCRIPT', script)], cwd=self.folder,
                              capture_output=True, text=True, timeout=120,
                              env=os.environ | environment)

    def test_closed_streams(self):
        run = self.shell('SCRIPT >&- 2>&-')
        self.assertEqual(run.returncode, 0)
        checkpoints.load_arrays(self.folder / 'out' / 'checkpoint.npz')

    def test_one_line(self):
        for command, environment, message in (
                ('SCRIPT > /dev/full', {}, 'No space left on device'),
                ('ulimit -f 1; SCRIPT', {}, 'File too large'),
                ('mkdir gone; cd gone; rmdir ../gone; SCRIPT', {}, 'the working directory is gone'),
                ('SCRIPT', {'PYTENSOR_FLAGS': 'floatX=float16'}, 'float32 and float64 can be had'),
                ('SCRIPT', {'PYTENSOR_FLAGS': 'mode=BOGUS'}, 'mend PYTENSOR_FLAGS'),
                ('SCRIPT', {'OMP_NUM_THREADS': 'x'}, 'OMP_NUM_THREADS should be a number'),
                ('SCRIPT', {'MPLBACKEND': 'x'}, "'x' is not a valid value for backend"),
                ('SCRIPT', {'JAX_ENABLE_X64': 'x'}, 'JAX cannot start'),
                ('SCRIPT', {'JAX_PLATFORMS': 'cuda'}, 'JAX cannot start'),
                ('SCRIPT', {'JAX_PLATFORMS': 'nonsense'}, 'JAX cannot start')):
            with self.subTest(command, **environment):
                run = self.shell(command, **environment)
                self.assertEqual(run.returncode, 1, run.stderr)
                self.assertIn(message, run.stderr)
                self.assertEqual(run.stderr.count('\n'), 1, run.stderr)

    def test_missing_modules(self):
        without = ('-c "import sys; sys.modules.update(tyro=None, jax=None, numba=None); '
                   'import support"')
        run = self.shell(f'{sys.executable} {without}', PYTHONPATH=str(CODE_FOLDER))
        self.assertEqual(run.returncode, 1)
        self.assertRegex(run.stderr, r'\Atyro, jax cannot be imported: .*pip install -r .*\n\Z')

    def test_few_letters(self):
        run = self.shell('SCRIPT --output-folder Übung', PYTHONIOENCODING='ascii',
                         PYTHONUTF8='0', LC_ALL='C')
        self.assertEqual((run.returncode, 'Traceback' in run.stderr), (0, False), run.stderr)
        self.assertRegex(run.stdout, r'everything is in \\.*bung\n')

    def test_nothing_is_left_in_the_folder_for_temporary_files(self):
        with tempfile.TemporaryDirectory() as folder:
            run = self.shell('SCRIPT', TMPDIR=folder)
            self.assertEqual((run.returncode, os.listdir(folder)), (0, []), run.stderr)


class TestRecords(TestCase):

    def record(self, **changed):
        record = {'script': 'mlp', 'status': 'finished', 'settings': {}, 'process': {},
                  'files': [], 'data': {'image_shape': [7, 7]},
                  'model': {'n_in': 49, 'n_hidden': 2, 'n_out': 3}} | changed
        folders.write_json(self.folder / 'run.json', record)

    def save(self, change):
        shapes = {'0_W': (49, 2), '1_b': (2,), '2_W': (2, 3), '3_b': (3,)}
        arrays = {name: numpy.ones(shape, 'float32') for name, shape in shapes.items()}
        change(arrays)
        checkpoints.save_arrays(self.folder / 'model.npz', arrays)

    def test_models_that_do_not_fit(self):
        for change, message in (
                (lambda arrays: arrays['0_W'].fill(numpy.nan), 'not finite'),
                (lambda arrays: arrays['3_b'].fill(numpy.inf), 'not finite'),
                (lambda arrays: arrays.update({'1_b': numpy.zeros(0)}), 'where this model has'),
                (lambda arrays: arrays.update({'1_b': numpy.array(['a', 'b'])}), 'this model has'),
                (lambda arrays: arrays.pop('2_W'), 'holds nothing for 2_W')):
            self.record()
            self.save(change)
            with self.assertRaisesRegex(UserError, message):
                predict.load_classifier(str(self.folder))
        self.save(lambda arrays: None)
        predict.load_classifier(str(self.folder))

    def test_records_that_do_not_fit(self):
        self.save(lambda arrays: None)
        for changed in ({'data': {'image_shape': [60000, 60000]}}, {'data': {'image_shape': [1]}},
                        {'data': {'image_shape': 'wide'}}, {'data': {'image_shape': [None, 49]}},
                        {'data': {'image_shape': [-7, -7]}}, {'engine': None}, {'seconds': [1]},
                        {'data': {}}, {'data': None},
                        {'model': {'n_in': 49}}, {'model': {'n_in': 4.5, 'n_hidden': 2,
                                                            'n_out': 3}},
                        {'model': {'n_in': 49, 'n_hidden': -2, 'n_out': 3}}, {'model': []},
                        {'model': {'n_in': 49, 'n_hidden': [], 'n_out': 3}},
                        {'model': {'n_in': 49, 'n_hidden': [2, [2]], 'n_out': 3}},
                        {'model': {'n_in': 49, 'n_hidden': 2, 'n_out': 3, 'activation': 'eval'}},
                        {'model': {'n_in': 49, 'n_hidden': 2, 'n_out': 3, 'activation': []}},
                        {'model': {'n_in': 10 ** 9, 'n_hidden': 10 ** 9, 'n_out': 3}},
                        {'files': ['../../precious']}, {'files': [3]}, {'status': 3}):
            with self.subTest(**changed):
                self.record(**changed)
                with self.assertRaises(UserError) as caught:
                    predict.load_classifier(str(self.folder))
                self.assertNotIn('\n', str(caught.exception))


class TestImages(TestCase):
    """Whatever Pillow reads becomes the grey that one sees, or is refused."""

    def read(self, picture, suffix='png'):
        path = self.folder / f'picture.{suffix}'
        picture.save(path)
        return photos.read_image(path, picture.size[::-1]) * 256

    def test_transparent_paper(self):
        levels = numpy.arange(0, 256, 17, dtype='uint8').reshape(4, 4)
        ink = numpy.zeros((4, 4, 4), 'uint8')  # black
        ink[..., 3] = 255 - levels
        numpy.testing.assert_allclose(self.read(Image.fromarray(ink)).reshape(4, 4), levels,
                                      atol=1.01)
        with self.assertRaisesRegex(UserError, 'floating-point numbers; save it with 8 bits'):
            self.read(Image.fromarray(levels.astype('float32')), 'tiff')

    def test_a_camera_that_was_turned(self):
        seen = Image.fromarray(numpy.arange(0, 240, 20, dtype='uint8').reshape(3, 4))
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees clockwise
        path = self.folder / 'photo.png'
        seen.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
        self.assertEqual((photos.read_image(path, (3, 4)) * 256).tolist(),
                         numpy.asarray(seen).ravel().tolist())

    def test_whatever_a_decoder_raises_is_one_line(self):
        for error in (KeyError('mode'), RuntimeError('two\nlines'), EOFError()):
            with mock.patch.object(Image, 'open', side_effect=error), \
                    self.assertRaisesRegex(UserError, r'cannot be read as an image: [^\n]+\Z'):
                photos.read_image(self.folder / 'a.png', (3, 4))


@unittest.skipUnless(importlib.util.find_spec('hypothesis'), 'Hypothesis is not installed')
class TestSuite(TestCase):
    """What the suite does within this process: all that is quick, and some of the rest."""

    def test_a_part_of_it(self):
        import faults
        import hostile

        write_data(self.folder / 'small.npz')
        for kind, stride in ((faults.output_folders, 1), (hostile.pictures, 1), (hostile.images, 3),
                             (hostile.pickles, 3), (hostile.tunes, 4), (hostile.models, 2),
                             (hostile.checkpoints, 9), (hostile.records, 80),
                             (hostile.damaged_images, 8), (hostile.damaged_pictures, 7)):
            cases = list(kind(random.Random(0), self.folder))
            for description, case in cases[::stride]:
                with self.subTest(kind.__name__, case=description):
                    tried, failure = faults.attempt(case, self.folder)
                    self.assertFalse(failure, failure)
