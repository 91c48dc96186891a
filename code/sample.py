"""Let a trained model draw: an RBM, a DBN, a variational auto-encoder, or one of your own.

The model is what a script left in its output folder. That of a script of your own
(:mod:`support.own_scripts`) needs ``n_visible`` among the sizes on record, and a method ``sample``,
which takes a ``numpy.random.RandomState`` and a number n, and gives an array of n images,
(n, n_visible) in [0, 1].
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support import command_line, own_scripts
from support.errors import UserError, check
from support.folders import OutputFolder, read_record
from support.tiles import save_picture, tile_raster_images

import numpy

import DBN
import rbm
import vae
from reconstruct import load_model

BUILDERS: dict[str, Callable[..., Any]] = {'rbm': rbm.build, 'vae': vae.build}
COLUMNS = 10
LARGEST = 10_000  # images in a picture


def sample(output_folder: str, n: int = 100, seed: int = 0,
           script: Path | None = None) -> numpy.ndarray:
    """Write a picture, drawn.png, of images that the model has drawn.

    For example::

        python code/sample.py --output-folder vae_output
        python code/sample.py --output-folder my_output --script my.py --n 30

    :param output_folder: of a run of rbm.py, vae.py or DBN.py
    :param n: number of images
    :param seed: of the draws
    :param script: of your own that has trained the model; its function build is called
    :return: the images, (n, n_visible)
    """
    check(0, seed=seed)
    check(1, LARGEST, n=n)
    record = read_record(output_folder)
    if script is None and record['script'] == 'DBN':  # which does not draw with its best classifier
        model, n_pixels = DBN.load_pretrained(output_folder), record['model']['n_ins']
        shape = own_scripts.recorded_shape(output_folder, record.get('data', {}), n_pixels)
    else:
        model, shape = load_model(output_folder, BUILDERS, 'sample', script)
    drawn = numpy.asarray(model.sample(numpy.random.RandomState(seed), n))
    if drawn.shape != (n, math.prod(shape)):
        raise UserError(f'the method sample gives images of shape {drawn.shape}, not '
                        f'{(n, math.prod(shape))}: mend it')
    with OutputFolder(output_folder) as output:
        path = output.file('drawn.png')
        save_picture(path, tile_raster_images(drawn, shape, (-(-n // COLUMNS), min(n, COLUMNS)),
                                              (1, 1), scale_rows_to_unit_interval=False))
    print(f'the picture is {path}')
    return drawn


if __name__ == '__main__':
    command_line.main(sample)
