"""Tunes as training data: cut into pieces of one length, in a new order every epoch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from support.errors import check

import numpy
import pytensor as theano


@dataclass(frozen=True)
class Subsequences:
    """Tunes cut into pieces of one length; the last piece of each is filled up with silence.

    :param frames: all pieces, one below the other, floatX (n_pieces * length, n_visible)
    :param mask: 1 for the frames of the tunes and 0 for those that were added, floatX
        (n_pieces * length,)
    :param pieces: for each tune, the numbers of its pieces
    """

    frames: numpy.ndarray
    mask: numpy.ndarray
    pieces: list[range]

    @classmethod
    def cut(cls, rolls: Sequence[numpy.ndarray], length: int) -> 'Subsequences':
        """Cut piano-rolls, each (time steps, n_visible), into pieces of this length."""
        check(2, batch_size=length)  # the last frame of a piece teaches the network nothing
        frames, mask, pieces, n = [], [], [], 0
        for roll in rolls:
            n_pieces = -(-len(roll) // length)
            added = n_pieces * length - len(roll)
            frames += [roll, numpy.zeros((added, roll.shape[1]))]
            mask += [numpy.ones(len(roll)), numpy.zeros(added)]
            pieces.append(range(n, n + n_pieces))
            n += n_pieces
        floatX = theano.config.floatX
        return cls(numpy.concatenate(frames, dtype=floatX, casting='unsafe'),
                   numpy.concatenate(mask).astype(floatX), pieces)

    def order(self, seed: int, epoch: int) -> numpy.ndarray:
        """The pieces in the order of an epoch: tunes shuffled, the pieces of a tune in sequence.

        It depends on nothing but seed and epoch, so that a run that goes on needs to know no more.
        """
        shuffled = numpy.random.RandomState([seed, epoch]).permutation(len(self.pieces))
        return numpy.concatenate([self.pieces[tune] for tune in shuffled])


@dataclass
class TuneData:
    """What a run records of its tunes."""

    name: str
    sha256: str
    image_shape: tuple[int, int]

    @classmethod
    def of(cls, name: str, rolls: Sequence[numpy.ndarray]) -> 'TuneData':
        """Describe the piano-rolls that are trained on: their hash is that of the content."""
        sha256 = hashlib.sha256()
        for roll in rolls:
            sha256.update(str(roll.shape).encode())
            sha256.update(numpy.ascontiguousarray(roll).data)
        return cls(name, sha256.hexdigest(), (1, int(rolls[0].shape[1])))
