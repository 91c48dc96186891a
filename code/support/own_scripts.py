"""The model of a run, built by a script of the book or one that the user names; its images.

A script of the user's own has to offer a function ``build``, which takes the sizes that the run has
on record as keyword arguments, and gives a model. This has the shared variables that were trained
in ``params``, with the names and in the order in which the run was given them; and what the tool
that uses the model asks for.

The code that runs is chosen on the command line, never by a file with data.
"""

import importlib.util
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from support import checkpoints
from support.errors import UserError
from support.folders import read_record


def load_model(output_folder: str, builders: Mapping[str, Callable[..., Any]], what: str,
               needs: tuple[str, ...], script: Path | None = None) -> tuple[Any, dict[str, Any]]:
    """The model that a run left in its folder, and the record of the run.

    :param builders: by the names of the scripts of the book
    :param what: these scripts train, in words
    :param needs: names of the attributes that the model has to have, beside ``params``
    :param script: of the user's own, whose function ``build`` is meant instead
    :raises UserError: when the run is of another script, the one that is named has no ``build`` or
        its models lack an attribute, or the parameters do not fit
    """
    record = read_record(output_folder)
    trained_by = record['script']
    if script is None and trained_by not in builders:
        raise UserError(f'{output_folder} holds a run of {trained_by}.py, which is no {what} of '
                        'the chapters: for one of your own, name its `script`')

    def params(model: Any) -> Any:
        if missing := [name for name in ('params', *needs) if not hasattr(model, name)]:
            raise UserError(f'the models of {script} have no {" and no ".join(missing)}: give '
                            'them what those of the chapters have')
        return model.params

    model: Any = checkpoints.load(
        output_folder, builders[trained_by] if script is None else builder_in(script),
        params=params)
    return model, record


def builder_in(script: Path) -> Callable[..., Any]:
    """The function ``build`` of a script of the user's own, which is run as a module for it.

    :raises UserError: when there is none
    """
    # Under a name that no chapter has: its file may be called mlp.py as well.
    spec = importlib.util.spec_from_file_location('own_script', script)
    if spec is None or spec.loader is None or not script.is_file():
        raise UserError(f'`script` is {script}, which is no Python file: name the script that '
                        'trained the model')
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    sys.path.append(str(script.resolve().parent))  # for what it imports from beside it
    spec.loader.exec_module(module)
    if not hasattr(module, 'build'):
        raise UserError(f'{script} has no function build: write one that makes a model from the '
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
