"""What builds the model of a run, a script of the book or one that the user names; its images.

The code that runs is chosen on the command line, never by a file with data.
"""

import importlib.util
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from support.errors import UserError
from support.folders import read_record


def builder_of(output_folder: str, builders: Mapping[str, Callable[..., Any]], what: str,
               script: Path | None = None) -> Callable[..., Any]:
    """The function that builds the model that is in an output folder.

    :param builders: by the names of the scripts of the book
    :param what: these scripts train, in words
    :param script: of the user's own, whose function ``build`` is meant instead
    :raises UserError: when the run is of another script, or the one that is named has no ``build``
    """
    if script is not None:
        return builder_in(script)
    trained_by = read_record(output_folder)['script']
    if trained_by not in builders:
        raise UserError(f'{output_folder} holds a run of {trained_by}.py, which is no {what} of '
                        'the chapters: for one of your own, name its `script`')
    return builders[trained_by]


def builder_in(script: Path) -> Callable[..., Any]:
    """The function ``build`` of a script of the user's own, which is run as a module for it.

    :raises UserError: when there is none
    """
    spec = importlib.util.spec_from_file_location(script.stem, script)
    if spec is None or spec.loader is None or not script.is_file():
        raise UserError(f'`script` is {script}, which is no Python file: name the script that '
                        'trained the model')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, 'build'):
        raise UserError(f'{script} has no function `build`: write one that makes a model from the '
                        'sizes in the record, as in the chapters')
    return module.build


def recorded_shape(output_folder: str, data: Mapping[str, Any], n_pixels: int) -> tuple[int, int]:
    """The height and width of the images that a model was trained on.

    :param data: what is on record of them
    :param n_pixels: that the model takes
    :raises UserError: when the record does not fit
    """
    shape = data.get('image_shape')
    if not (isinstance(shape, list) and [type(n) for n in shape] == [int, int]
            and min(shape) > 0 and math.prod(shape) == n_pixels):
        raise UserError(f'{output_folder} holds a record in which images of shape {shape} '
                        f'do not fit a model of {n_pixels} inputs: train it again')
    return shape[0], shape[1]
