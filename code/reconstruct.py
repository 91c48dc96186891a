"""Show what comes back of images that go through an auto-encoder or an RBM, whole or damaged.

The model is what a script left in its output folder. One of your own has to offer two things: its
script a function ``build`` that takes the sizes in the record of the run, ``n_visible`` among
them, and the model a method ``reconstruct`` that takes symbolic images, (n_images, n_visible) in
[0, 1], and gives back others.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from support import checkpoints, command_line, datasets
from support.errors import UserError, check
from support.folders import OutputFolder, read_record
from support.own_scripts import builder_of, recorded_shape
from support.photos import read_digit, read_image
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
    build = builder_of(output_folder, builders, f'model with `{method}`', script)
    model = checkpoints.load(output_folder, build)
    if not hasattr(model, method):
        raise UserError(f'the models of {script} have no method `{method}`: write one, '
                        'as in vae.py')
    record = read_record(output_folder)
    return model, recorded_shape(output_folder, record.get('data', {}),
                                 record['model'].get('n_visible'))


def reconstruct(output_folder: str, images: tuple[Path, ...] = (), dataset: str | None = None,
                prepare: str = 'none', damage: float = 0., n: int = 10, seed: int = 0,
                script: Path | None = None) -> numpy.ndarray:
    """Write a picture, reconstructions.png: images, the same with holes, and what comes back.

    For example::

        python code/reconstruct.py --output-folder dA_plots --damage 0.3
        python code/reconstruct.py --output-folder vae_output --images seven.png --prepare digit

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
    if images:
        whole = numpy.array([read_digit(path) if prepare == 'digit' else read_image(path, shape)
                             for path in images])
    else:
        whole = datasets.read(dataset).test[0][:n]
    if whole.shape[1] != shape[0] * shape[1]:
        raise UserError(f'the images have {whole.shape[1]} pixels, those that the model was '
                        f'trained on {shape[0] * shape[1]}: name that data set')
    seen = whole * (numpy.random.RandomState(seed).uniform(size=whole.shape) >= damage)
    x = T.matrix('x')
    restored = numpy.asarray(theano.function([x], model.reconstruct(x))(
        seen.astype(theano.config.floatX)))
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
