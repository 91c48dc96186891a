"""Numbers that tell whether tunes are alike: how thick, how long, how restless, how familiar."""

from collections.abc import Sequence

import numpy


def statistics_of(rolls: Sequence[numpy.ndarray],
                  known: Sequence[numpy.ndarray]) -> dict[str, float]:
    """What a listener hears of tunes, as means.

    A note lasts as long as it sounds in frames that follow one another. The melody is the highest
    note of each frame, and its steps are what lies between two of them that differ.

    :param rolls: piano-rolls, each (time steps, n_notes)
    :param known: others, whose chords are known
    :return: notes in a frame, frames that a note lasts, frames that repeat the one before, chords
        of the frames with notes that are among the known ones, and semitones in a step of the
        melody; 0 where there is nothing to take a mean of
    """
    rolls = [numpy.asarray(roll, dtype=bool) for roll in rolls]
    frames = numpy.concatenate(rolls)
    chords = {frame.tobytes() for frame in numpy.concatenate(known).astype(bool)}
    n_begun = sum(roll[0].sum() + (roll[1:] & ~roll[:-1]).sum() for roll in rolls)
    repeats = numpy.concatenate([(roll[1:] == roll[:-1]).all(axis=1) for roll in rolls])
    familiar = [frame.tobytes() in chords for frame in frames if frame.any()]
    steps = []
    for roll in rolls:
        melody = roll.shape[1] - 1 - numpy.argmax(roll[roll.any(axis=1), ::-1], axis=1)
        steps.append(abs(numpy.diff(melody)))
    moves = numpy.concatenate(steps)
    return {'notes a frame': _mean(frames.sum(axis=1)),
            'frames a note lasts': float(frames.sum() / n_begun) if n_begun else 0.,
            'frames repeated (%)': 100 * _mean(repeats),
            'chords known (%)': 100 * _mean(familiar),
            'semitones a step': _mean(moves[moves > 0])}


def _mean(values):
    return float(numpy.mean(values)) if len(values) else 0.
