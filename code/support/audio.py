"""Piano-rolls as sound, in WAV files that any player opens: additive synthesis.

A note of frequency f is a sum of sines, :math:`\\sum_h \\sin(2 \\pi h f t) / h^2`, that dies away
like a string that was struck. Every tune sounds like that, whatever its instrument is in MIDI.
"""

from typing import BinaryIO

import numpy
from scipy.io import wavfile

RATE = 22050  # samples a second
HARMONICS = 6
DECAY = 1.5  # seconds in which a note falls to 1 / e
EDGE = 0.01  # seconds in which it begins and ends, so that there is no click
LONGEST = 3600  # seconds


def synthesised(piano_roll: numpy.ndarray, r: tuple[int, int] = (21, 109),
                dt: float = 0.3) -> numpy.ndarray:
    """The sound of a piano-roll (time steps, r[1] - r[0]), float32 (samples,), from -1 to 1."""
    sound = numpy.zeros(round(len(piano_roll) * dt * RATE), 'float32')
    changes = numpy.diff(piano_roll.T.astype('int8'), axis=1, prepend=0, append=0)
    # Pitch by pitch, in the order of time: each start has its end.
    for (pitch, first), (_, last) in zip(numpy.argwhere(changes == 1),
                                         numpy.argwhere(changes == -1), strict=True):
        start, stop = round(first * dt * RATE), round(last * dt * RATE)
        t = numpy.arange(stop - start) / RATE
        frequency = 440 * 2 ** ((r[0] + pitch - 69) / 12)
        tone = sum(numpy.sin(2 * numpy.pi * h * frequency * t) / h ** 2
                   for h in range(1, HARMONICS + 1) if h * frequency < RATE / 2)
        edges = numpy.clip(numpy.minimum(t, t[::-1]) / EDGE, 0, 1)
        sound[start:stop] += edges * numpy.exp(-t / DECAY) * tone
    return sound / max(1, numpy.abs(sound).max(initial=0))


def wavwrite(file: BinaryIO, piano_roll: numpy.ndarray, r: tuple[int, int] = (21, 109),
             dt: float = 0.3) -> None:
    """Write a piano-roll (time steps, r[1] - r[0]) as a WAV file of 16 bits, with one channel."""
    wavfile.write(file, RATE, (32767 * synthesised(piano_roll, r, dt)).astype('int16'))
