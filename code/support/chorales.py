"""Bach's chorales for four voices, as MIDI files, from the corpus of music21.

They are in the public domain. music21, of which only this needs anything, comes by
``pip install music21``.
"""

import contextlib
import os
import random
import tempfile
from pathlib import Path

from support.errors import UserError, notice

SPLITS = {'train': 0.6, 'valid': 0.8, 'test': 1.0}  # in this order, each up to this share
SEED = 1685


def make_chorales(folder: Path) -> Path:
    """Write the chorales into a new folder, with folders `train`, `valid` and `test`.

    The folder appears when all of them are in it.

    :return: the folder
    :raises UserError: where music21 is not installed
    """
    try:
        from music21 import corpus, repeat
    except ImportError:
        raise UserError('the chorales come with music21: pip install music21') from None
    notice('writing the chorales of the corpus of music21 as MIDI files, once; this takes minutes')
    paths = sorted(map(Path, corpus.getComposer('bach')))
    random.Random(SEED).shuffle(paths)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.chorales', dir=folder.parent) as temporary:
        for i, path in enumerate(paths):
            score = corpus.parse(path)
            if len(score.parts) == 4:
                split = next(split for split, end in SPLITS.items() if i < end * len(paths))
                target = Path(temporary) / 'chorales' / split / f'{path.stem}.mid'
                target.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(repeat.ExpanderException):  # repeats that nobody can play
                    score.write('midi', fp=target)
        os.rename(Path(temporary) / 'chorales', folder)
    return folder
