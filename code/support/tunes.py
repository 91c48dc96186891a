"""Tunes that the project composes itself, by rule, for want of a collection.

Each is a dance of two parts of eight bars, played A A B B, in time steps of a quaver. A chain of
chords is drawn that ends in a cadence; on every strong beat the melody goes to the nearest or the
next tone of the chord, and on the weak ones it walks along the scale. A chord with its root below
accompanies each beat. So there is something to be learnt on every scale: which notes form a chord,
that a note belongs to its chord, that steps are small, that bars have a beat, that tunes are in a
key and come home to it.
"""

from collections.abc import Sequence

import numpy

SIZES = (120, 20, 20)  # training, validation, test
SEED = 1725
DT = 0.3  # seconds in a time step: as long as the chapter takes for one
R = (21, 109)  # the notes of a piano

SCALE = (0, 2, 4, 5, 7, 9, 11)  # semitones of the degrees of a major key above its tonic
TONICS = (55, 57, 60, 62, 64)  # the keys that fiddlers like: G, A, C, D, E
# Where the chord on a degree (0 is the tonic, 4 the dominant) goes, and how often of ten times.
NEXT = {0: ((0, 2), (3, 3), (4, 3), (5, 2)), 1: ((4, 8), (3, 2)), 3: ((0, 3), (4, 5), (1, 2)),
        4: ((0, 7), (5, 2), (3, 1)), 5: ((3, 4), (1, 4), (4, 2))}


def make_tunes(seed: int = SEED, sizes: tuple[int, int, int] = SIZES) -> list[list[numpy.ndarray]]:
    """Compose training, validation and test tunes; the same seed gives the same notes.

    :param seed: seed of the `RandomState` that everything is drawn from
    :param sizes: number of tunes in the training, the validation and the test set
    :returns: three lists of piano-rolls, uint8 (time steps, 88), of the notes of a piano; a time
        step has DT seconds
    """
    rng = numpy.random.RandomState(seed)
    return [[tune(rng) for _ in range(size)] for size in sizes]


def tune(rng: numpy.random.RandomState) -> numpy.ndarray:
    """Compose one tune, A A B B."""
    tonic = TONICS[rng.randint(len(TONICS))]
    beats, quavers = ((2, 3), (4, 2), (3, 2))[rng.randint(3)]  # a jig, a reel, a waltz
    a, b = (part(rng, tonic, beats, quavers) for _ in range(2))
    return numpy.concatenate([a, a, b, b])


def part(rng: numpy.random.RandomState, tonic: int, beats: int, quavers: int) -> numpy.ndarray:
    """Compose eight bars of so many beats, each of so many quavers."""
    chords = progression(rng)
    melody = walk(rng, chords, beats, quavers)
    roll = numpy.zeros((len(melody), R[1] - R[0]), dtype='uint8')
    for t, degree in enumerate(melody):
        roll[t, pitch(tonic, degree) - R[0]] = 1
        chord = chords[t // (beats * quavers)]
        # The chord is struck on the beat, and the last quaver of a beat lets the melody be heard.
        if t % quavers < quavers - 1:
            for third in (0, 2, 4):
                roll[t, pitch(tonic - 12, (chord + third) % 7) - R[0]] = 1
            roll[t, pitch(tonic - 24, chord) - R[0]] = 1
    return roll


def pitch(tonic: int, degree: int) -> int:
    """Number of the note on a degree of the major scale; degrees go on above 6 and below 0."""
    octave, step = divmod(int(degree), 7)
    return tonic + 12 * octave + SCALE[step]


def progression(rng: numpy.random.RandomState) -> list[int]:
    """Eight chords, one a bar, that begin and end at home, with the dominant before the end."""
    chords = [0]
    while len(chords) < 6:
        degrees, weights = zip(*NEXT[chords[-1]], strict=True)
        chords.append(int(rng.choice(degrees, p=numpy.array(weights) / 10)))
    return [*chords, 4, 0]


def walk(rng: numpy.random.RandomState, chords: Sequence[int], beats: int,
         quavers: int) -> list[int]:
    """Degrees of the melody, one a quaver: chord tones on the beats, steps between them."""
    melody, now = [], 4
    for bar, chord in enumerate(chords):
        tones = sorted(chord + third + octave for third in (0, 2, 4) for octave in (-7, 0, 7))
        tones = [tone for tone in tones if 0 <= tone <= 11]  # where a fiddle or a whistle sings
        for _ in range(beats):
            near = sorted(tones, key=lambda tone: (abs(tone - now), tone))
            now = near[min(rng.geometric(0.6) - 1, len(near) - 1)]
            if bar == len(chords) - 1:
                now = 7  # home, and there it stays
            melody.append(now)
            direction = rng.choice((-1, 1))
            for _ in range(quavers - 1):
                if bar < len(chords) - 1 and rng.uniform() < 0.7:
                    now = min(max(now + direction, 0), 11)
                melody.append(now)
    return melody
