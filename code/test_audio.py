"""Tests of sound: the right frequency at the right time."""

import io
import unittest

from support.audio import RATE, synthesised, wavwrite

import numpy
from scipy.io import wavfile


def dominant(sound):
    """The strongest frequency, in Hz, of a piece of one second."""
    assert len(sound) == RATE
    return int(numpy.argmax(numpy.abs(numpy.fft.rfft(sound))))


class AudioTest(unittest.TestCase):
    def test_pitches_and_times(self):
        roll = numpy.zeros((8, 88), 'uint8')
        roll[:2, 69 - 21] = 1  # the A of a tuning fork, for a second
        roll[4:6, 57 - 21] = roll[4:6, 81 - 21] = 1  # and those an octave below and above
        file = io.BytesIO()
        wavwrite(file, roll, dt=.5)
        file.seek(0)
        rate, sound = wavfile.read(file)
        self.assertEqual((rate, sound.dtype, sound.shape), (RATE, numpy.int16, (4 * RATE,)))
        seconds = sound.reshape(4, RATE)
        self.assertEqual(dominant(seconds[0]), 440)
        self.assertTrue((seconds[[1, 3]] == 0).all())
        loudness = numpy.abs(numpy.fft.rfft(seconds[2]))
        self.assertEqual(set(numpy.argsort(loudness)[-2:]), {220, 880})
        self.assertGreater(numpy.abs(sound.astype(int)).max(), 16_000)

    def test_harmonics_that_die_away(self):
        """Of a note of 220 Hz, by the formula."""
        roll = numpy.ones((1, 1), 'uint8')
        sound = synthesised(roll, (57, 58), 2.)
        t = numpy.arange(2 * RATE) / RATE
        tone = sum(numpy.sin(2 * numpy.pi * 220 * h * t) / h ** 2 for h in range(1, 7))
        inside = slice(RATE // 50, -RATE // 50)
        expected = (tone * numpy.exp(-t / 1.5))[inside]
        scale = sound[inside] @ expected / (expected @ expected)
        numpy.testing.assert_allclose(sound[inside], scale * expected, atol=1e-5)
        self.assertEqual((sound[0], sound[-1]), (0, 0))

    def test_edges(self):
        """The highest note has no sound above what the samples can hold; chords are no louder."""
        self.assertFalse(synthesised(numpy.ones((2, 1), 'uint8'), (127, 128), .5).any())  # 12544 Hz
        everything = synthesised(numpy.ones((2, 88), 'uint8'), dt=.1)
        self.assertAlmostEqual(float(numpy.abs(everything).max()), 1, places=6)
        for roll in (numpy.zeros((3, 88), 'uint8'), numpy.zeros((0, 88), 'uint8')):
            self.assertFalse(synthesised(roll).any())


if __name__ == '__main__':
    unittest.main()
