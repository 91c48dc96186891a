"""Tests of reconstruct.py and sample.py, with models of the book and of a script elsewhere."""

import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from support import datasets
from support.errors import UserError
from support.testing import CODE_FOLDER, TestCase, printed

import numpy
from PIL import Image

import cA
import mlp
import rbm
import reconstruct
import sample
import vae

# A linear auto-encoder of the principal components, which draws by their scales.
OWN = """
from __future__ import annotations
import dataclasses, sys
from support.checkpoints import Run
import numpy, pytensor, pytensor.tensor as T
from beside import N_HIDDEN
from logistic_sgd import load_data

@dataclasses.dataclass
class Model:
    n_visible: int
    def __post_init__(self):
        self.W = pytensor.shared(numpy.zeros((self.n_visible, N_HIDDEN), 'float32'), name='W')
        self.params = [self.W]
    def reconstruct(self, x):
        return T.dot(T.dot(x, self.W), self.W.T)
    def sample(self, rng, n):
        return abs(rng.normal(size=(n, N_HIDDEN)) @ self.W.get_value().T)

build = Model

if __name__ == '__main__':
    data = load_data('digits')
    model = build(data.n_in)
    settings = {'output_folder': sys.argv[1], 'resume': False, 'overwrite': False}
    with Run('own', settings, data, model.params, {'n_visible': data.n_in}) as run:
        components = numpy.linalg.svd(data[1][0].get_value(), full_matrices=False)[2]
        model.W.set_value(components[:N_HIDDEN].T)
        run.keep_model()
        run.finish({})
"""


class TestCommands(TestCase):
    def test_auto_encoder(self):
        run = str(self.folder / 'run')
        with printed():
            cA.train(training_epochs=1, n_hidden=20, dataset='digits', output_folder=run)
        with printed() as out:
            restored = reconstruct.reconstruct(run, dataset='digits', damage=0.3, n=4)
        images = datasets.read('digits').test[0][:4]
        self.assertRegex(out.getvalue(), r'mean squared error of a pixel 0\.\d+; the picture is ')
        self.assertLess(numpy.mean((restored - images) ** 2),
                        numpy.mean((images - images.mean()) ** 2))
        with Image.open(Path(run) / 'reconstructions.png') as picture:
            pixels = numpy.asarray(picture).reshape(-1, 4 * 29 - 1)[:, :28]
        self.assertEqual(len(pixels), 3 * 29 - 1)
        numpy.testing.assert_allclose(pixels[:28], 255 * images[0].reshape(28, 28), atol=1)
        holes = (pixels[29:57] == 0) & (pixels[:28] > 0)
        self.assertTrue(0.1 < holes.sum() / (pixels[:28] > 0).sum() < 0.5)
        numpy.testing.assert_allclose(pixels[58:], 255 * restored[0].reshape(28, 28), atol=1)

    def test_models_that_draw(self):
        for train, sizes in ((vae.train, {'hidden_layers_sizes': (10,), 'n_latent': 2,
                                          'n_codes': 2}),
                             (rbm.train, {'n_hidden': 40, 'k': 1, 'n_samples': 1,
                                          'plot_every': 1})):
            run = str(self.folder / train.__module__)
            with printed():
                train(training_epochs=1, dataset='digits', output_folder=run, **sizes)
                first, again, other = (sample.sample(run, 12, seed) for seed in (1, 1, 2))
                restored = reconstruct.reconstruct(run, dataset='digits')
            self.assertEqual(restored.shape, (10, 784))
            numpy.testing.assert_array_equal(first, again)
            self.assertTrue(numpy.any(first != other))
            self.assertTrue(((first >= 0) & (first <= 1)).all())
            with Image.open(Path(run) / 'drawn.png') as picture:
                self.assertEqual(picture.size, (10 * 29 - 1, 2 * 29 - 1))

    def test_script_of_the_users_own(self):
        run, script = str(self.folder / 'run'), self.folder / 'own.py'
        script.write_text(OWN)
        (self.folder / 'beside.py').write_text('N_HIDDEN = 30\n')
        subprocess.run([sys.executable, script, run], check=True, capture_output=True,
                       env=os.environ | {'PYTHONPATH': str(CODE_FOLDER)})
        for function in (reconstruct.reconstruct, sample.sample):
            with self.assertRaisesRegex(UserError, 'run of own.py, .* of your own, name its `scr'):
                function(run)
        self.enterContext(mock.patch('sys.path', sys.path.copy()))
        with printed():
            restored = reconstruct.reconstruct(run, dataset='digits', script=script)
            self.assertEqual(sample.sample(run, 3, script=script).shape, (3, 784))
        images, _ = datasets.read('digits').test
        W = numpy.linalg.svd(datasets.read('digits').valid[0], full_matrices=False)[2][:30]
        numpy.testing.assert_allclose(restored, images[:10] @ W.T @ W, atol=1e-4)
        with self.assertRaisesRegex(UserError, '`prepare` is x, .* one of digit, none'):
            reconstruct.reconstruct(run, script=script, prepare='x')
        # And when the script is no longer the one that has trained it, or the record is damaged.
        for old, new, message in (
                ('N_HIDDEN)', 'N_HIDDEN + 1)', r'holds float32\(784, 30\) for 0_W, where'),
                ('self.params =', 'params =', 'own.py have no params: give them what those of'),
                ('def reconstruct', 'def other', 'own.py have no reconstruct: give them'),
                ('x, self.W), self.W.T)', 'x, self.W), self.W.T)[1:]', r'shape \(9, 784\), where')):
            script.write_text(OWN.replace(old, new))
            with self.assertRaisesRegex(UserError, message):
                reconstruct.reconstruct(run, dataset='digits', script=script)
        script.write_text(OWN.replace('size=(n,', 'size=(n + 1,'))
        with self.assertRaisesRegex(UserError, r'shape \(4, 784\), not \(3, 784\): mend it'):
            sample.sample(run, 3, script=script)
        script.write_text(OWN)
        record = Path(run, 'run.json')
        text = record.read_text()
        record.write_text(text.replace('"image_shape": [', '"image_shape": [7, '))
        with self.assertRaisesRegex(UserError, 'do not fit a model of 784 inputs'):
            sample.sample(run, script=script)
        record.write_text(text.replace('n_visible', 'n_pixels'))
        script.write_text(OWN.replace('n_visible', 'n_pixels'))
        with self.assertRaisesRegex(UserError, 'record, n_pixels, have no n_visible: let the scr'):
            sample.sample(run, script=script)

    def test_mistakes(self):
        run, script = str(self.folder / 'run'), self.folder / 'none.py'
        with printed():
            mlp.train(n_epochs=1, n_hidden=3, dataset='digits', output_folder=run)
        with self.assertRaisesRegex(UserError, 'a run of mlp.py, which is no model with a method '
                                               'sample of the chapters'):
            sample.sample(run)
        with self.assertRaisesRegex(UserError, 'none.py, which is no Python file: name the script'):
            sample.sample(run, script=script)
        for text, message in (('', 'has no function build'),
                              ('from mlp import build', 'have no reconstruct: give them')):
            script.write_text(text)
            with self.assertRaisesRegex(UserError, message):
                reconstruct.reconstruct(run, script=script)
        with self.assertRaisesRegex(UserError, '`damage` is 2'):
            reconstruct.reconstruct(run, damage=2)
