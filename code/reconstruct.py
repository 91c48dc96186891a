"""Show what comes back of images that go through an auto-encoder or an RBM, whole or damaged.

The model is what a script left in its output folder. That of a script of your own
(:mod:`support.own_scripts`) needs ``n_visible`` among the sizes on record, and a method
``reconstruct``, which takes symbolic images, floatX (n_images, n_visible) in [0, 1], and gives as
many others.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from support import command_line, datasets, own_scripts
from support.errors import UserError, check, choose
from support.folders import OutputFolder
from support.photos import reader
from support.tiles import save_picture, tile_raster_images

import numpy
import pytensor as theano
import pytensor.tensor as T

import cA
import dA
import rbm
import vae

BUILDERS: dict[str, Callable[..., Any]] = {'dA': dA.build, 'cA': cA.build, 'vae': vae.build,
                                           'rbm': rbm.build}


def load_model(output_folder: str, builders: Mapping[str, Callable[..., Any]], method: str,
               script: Path | None = None) -> tuple[Any, tuple[int, int]]:
    """A model that has such a method, and the shape of the images that it was trained on."""
    model, record = own_scripts.load_model(
        output_folder, builders, f'model with a method {method}', (method,), script)
    sizes = record['model']
    if 'n_visible' not in sizes:
        raise UserError(f'the sizes that {output_folder} has on record, {", ".join(sizes)}, have '
                        'no n_visible: let the script record it as well')
    return model, own_scripts.recorded_shape(output_folder, record.get('data', {}),
                                             sizes['n_visible'])


def reconstruct(output_folder: str, images: tuple[Path, ...] = (), dataset: str | None = None,
                prepare: str = 'none', damage: float = 0., n: int = 10, seed: int = 0,
                script: Path | None = None) -> numpy.ndarray:
    """Write a picture, reconstructions.png: images, the same with holes, and what comes back.

    For example::

        python code/reconstruct.py --output-folder dA_plots --damage 0.3
        python code/reconstruct.py --output-folder vae_output --images seven.png --prepare digit
        python code/reconstruct.py --output-folder my_output --script my.py

    :param output_folder: of a run of dA.py, cA.py, vae.py or rbm.py
    :param images: image files; when there are none, the first of the test set are taken
    :param dataset: whose test set; MNIST when left out
    :param prepare: digit to find the digit in each file and make it as those of MNIST are; none to
        scale the whole picture
    :param damage: the fraction of the pixels to mask
    :param n: number of images of the test set
    :param seed: of the masked pixels
    :param script: of your own that has trained the model; its function build is called
    :return: the reconstructions, (n_images, n_visible)
    """
    check(0, 1, damage=damage)
    check(0, seed=seed)
    check(1, n=n)
    model, shape = load_model(output_folder, BUILDERS, 'reconstruct', script)
    read = reader(choose({'digit': True, 'none': False}, prepare=prepare), shape)
    whole = (numpy.array([read(path) for path in images]) if images
             else datasets.read(dataset).test[0][:n])
    if whole.shape[1] != math.prod(shape):
        raise UserError(f'the images have {whole.shape[1]} pixels, those that the model was '
                        f'trained on {math.prod(shape)}: name that data set')
    seen = whole * (numpy.random.RandomState(seed).uniform(size=whole.shape) >= damage)
    x = T.matrix('x')
    restored = numpy.asarray(theano.function([x], model.reconstruct(x))(
        seen.astype(theano.config.floatX)))
    if restored.shape != whole.shape:
        raise UserError(f'the method reconstruct gives images of shape {restored.shape}, where '
                        f'those that went in are {whole.shape}: mend it')
    rows = numpy.concatenate([whole, seen, restored] if damage else [whole, restored])
    with OutputFolder(output_folder) as output:
        path = output.file('reconstructions.png')
        save_picture(path, tile_raster_images(
            rows, shape, (len(rows) // len(whole), len(whole)), (1, 1),
            scale_rows_to_unit_interval=False))
    error = numpy.mean((restored - whole) ** 2)
    print(f'mean squared error of a pixel {error:.4f}; the picture is {path}')
    return restored


if __name__ == '__main__':
    command_line.main(reconstruct)
