"""Tunes as piano-rolls, read from MIDI files and written to them.

A piano-roll is a matrix of 0 and 1, one row for each time step of ``dt`` seconds and one column
for each pitch: ``roll[t, i]`` is 1 where the note with MIDI number ``r[0] + i`` sounds at time
``t * dt``, and ``r[1]`` is the number above the highest. (Number 60 is the middle C, a semitone is
1, and a piano has the notes 21 to 108.) With ``steps_per_beat``, a time step is that part of a
beat, however fast it goes. What a piano-roll leaves out is how loud a note is, on which instrument,
and whether one that goes on is struck again.

A file may come from anywhere: whatever is wrong with it is one line that names it, and limits on
its bytes and its time steps keep it from taking minutes to read.

References:
    - MIDI Manufacturers Association, "Standard MIDI files 1.0", 1988
    - C. L. Krumhansl, "Cognitive foundations of musical pitch", 1990 (the profiles of the keys)
"""

import io
import math
import os
import re
import sys
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

from support.errors import UserError, check

import mido
import numpy

N_PITCHES = 128  # that MIDI knows
MOST_STEPS_PER_BEAT = 48
PEDAL = 64  # the controller that is the sustain pedal; it is down at 64 and above
DRUMS = 9  # the channel, counted from 0, on which a number says which drum, and is no pitch
TICKS = 480  # a beat, in files written here: many enough that rounding a time does no harm

# A note that is said to begin at a time step begins, in ticks and microseconds, perhaps a little
# later. So each row shows what sounds a hundredth of a step after its time.
LATE = 0.01

# What a file may claim. The largest of the Nottingham collection has 34 KB and 600 steps.
LARGEST = 2**20  # bytes
LONGEST = 100_000  # time steps
LONGEST_RUN = 4000  # bytes above 127: three in a number, more in a text; of a million mido would
# make one number, in minutes

File = str | os.PathLike | tuple[str, bytes]  # or the name and the content of one in an archive


class Tune(NamedTuple):
    """A piano-roll, uint8 (time steps, r[1] - r[0]), and the name of the file, on one line."""

    piano_roll: numpy.ndarray
    name: str


def check_resolution(r: tuple[int, int], dt: float, steps_per_beat: int | None = None) -> None:
    """Raise a UserError unless these can be the range and the time step of a piano-roll."""
    if not 0 <= r[0] < r[1] <= N_PITCHES:
        raise UserError(f'`r` is the range {r}: give the lowest note and the one above the '
                        f'highest, from 0 to {N_PITCHES}')
    if not 0.001 <= dt <= 60:
        raise UserError(f'`dt` is a time step of {dt} seconds: give 0.001 to 60')
    if steps_per_beat is not None:
        check(1, MOST_STEPS_PER_BEAT, steps_per_beat=steps_per_beat)


def midiread(filename: File, r: tuple[int, int] = (21, 109), dt: float = 0.3,
             steps_per_beat: int | None = None) -> Tune:
    """Read a MIDI file of type 0 or 1; notes on all its tracks and channels, but for the drums.

    Notes outside of ``r`` are left out; one shorter than a time step may fall between two of them.
    The sustain pedal holds notes whose keys are up.

    :param dt: length of a time step in seconds
    :param steps_per_beat: time steps in a beat, in place of ``dt``
    :raises UserError: when the file cannot be read, or claims to be longer than ``LONGEST`` steps
    """
    check_resolution(r, dt, steps_per_beat)
    step, unit = (1 / steps_per_beat, 'beats') if steps_per_beat else (dt, 'seconds')
    path, content = filename if isinstance(filename, tuple) else (filename, None)
    name = ' '.join(str(path).split())
    try:
        if content is None:
            with open(path, 'rb') as file:
                content = file.read(LARGEST + 1)
        notes, end = _notes(content, unit)
        # In rows, as everywhere: rounded to ticks, the longest tune may last a little longer.
        if end / step - LATE > LONGEST:
            raise ValueError(f'it claims to last {end:.0f} {unit}, more than {LONGEST} steps')
    except Exception as error:
        # The parser can fail in a dozen ways, and says so by exceptions of as many types.
        reason = ' '.join(str(error).split())[:200] or type(error).__name__
        raise UserError(f'{name}: cannot be read as MIDI ({reason}): delete it, or replace it by a '
                        'good copy.') from error
    piano_roll = numpy.zeros((_first_step(end, step), N_PITCHES), dtype='uint8')
    for pitch, start, stop in notes:
        piano_roll[_first_step(start, step):_first_step(stop, step), pitch] = 1
    return Tune(numpy.ascontiguousarray(piano_roll[:, slice(*r)]), name)


def read_tune(file: File, r: tuple[int, int] = (21, 109), dt: float = 0.3,
              steps_per_beat: int | None = None) -> Tune:
    """:func:`midiread` of a file that has to have a note.

    :raises UserError: when it has none in ``r``, too
    """
    tune = midiread(file, r, dt, steps_per_beat)
    if not tune.piano_roll.any():
        raise UserError(f'{tune.name}: has no note from {r[0]} to {r[1] - 1}.')
    return tune


def read_all(files: Iterable[File], r: tuple[int, int] = (21, 109), dt: float = 0.3,
             steps_per_beat: int | None = None) -> list[Tune]:
    """Read many files; one that is broken, unreadable or empty is reported on stderr and left out.

    :raises UserError: when none is left
    """
    tunes = []
    for file in files:
        try:
            tunes.append(read_tune(file, r, dt, steps_per_beat))
        except UserError as error:
            print(f'NOTICE: {error} It is left out.', file=sys.stderr)
    if not tunes:
        raise UserError('there is no MIDI file that can be used: give a folder of tunes, *.mid')
    return tunes


def _first_step(time, step):
    """Number of the first time step whose row shows what begins at ``time``."""
    return max(0, math.ceil(time / step - LATE))


def _notes(content, unit):
    """Triples of pitch, start and end, and the end of the whole, in seconds or beats."""
    runs = re.findall(rb'[\x80-\xff]+', content)
    if len(content) > LARGEST or max(map(len, runs), default=0) > LONGEST_RUN:
        raise ValueError(f'it has more than {LARGEST} bytes, or a number without an end')
    midi = mido.MidiFile(file=io.BytesIO(content))
    if midi.type not in (0, 1) or midi.ticks_per_beat <= 0:
        raise ValueError(f'MIDI of type {midi.type}, or time in frames of film, is not supported')
    # Of all tracks together; the file itself gives times in seconds, the merged track in ticks.
    messages, per_unit = (midi, 1) if unit == 'seconds' else (midi.merged_track,
                                                              midi.ticks_per_beat)
    notes, now, starts = [], 0., {}
    held = {}  # of each channel whose pedal is down, the notes that it holds, and their starts
    for message in messages:
        now += message.time / per_unit
        if message.type == 'control_change' and message.control == PEDAL:
            if message.value >= 64:
                held.setdefault(message.channel, {})
            else:
                notes += [(pitch, start, now)
                          for pitch, start in held.pop(message.channel, {}).items()]
        if message.type not in ('note_on', 'note_off') or message.channel == DRUMS:
            continue
        # Notes of one pitch may overlap: it sounds from the first start to the last end.
        sounding = starts.setdefault((message.channel, message.note), [])
        if message.type == 'note_on' and message.velocity > 0:
            sounding.append(now)
        elif sounding:  # some files switch off what has not been on
            start = sounding.pop()
            if not sounding and message.channel in held:
                held[message.channel].setdefault(message.note, start)
            elif not sounding:
                notes.append((message.note, start, now))
    # And some never switch off, or never let the pedal go.
    notes += [(pitch, sounding[0], now) for (_, pitch), sounding in starts.items() if sounding]
    notes += [(pitch, start, now) for rest in held.values() for pitch, start in rest.items()]
    return notes, now


def midiwrite(filename: str | os.PathLike | BinaryIO, piano_roll: numpy.ndarray,
              r: tuple[int, int] = (21, 109), dt: float = 0.3,
              steps_per_beat: int | None = None, instrument: int | None = None) -> None:
    """Write a piano-roll as a MIDI file; :func:`midiread` with ``r`` and ``dt`` gives it back.

    A note that sounds in several rows on end is one long note. The same roll, the same bytes.

    :param filename: a path, or a file that is open for writing bytes
    :param dt: how long a time step takes, in seconds
    :param steps_per_beat: time steps in a beat; :func:`midiread` with that gives it back, too
    :param instrument: number in the list of General MIDI, from 1, a piano, to 128; 74 is a flute
    :raises UserError: when it is no piano-roll, or has so many notes that :func:`midiread` might
        refuse the file; nothing is written then
    """
    check_resolution(r, dt, steps_per_beat)
    roll = numpy.asarray(piano_roll)
    if (roll.ndim != 2 or roll.shape[1] != r[1] - r[0] or len(roll) > LONGEST
            or not ((roll == 0) | (roll == 1)).all()):
        raise UserError(f'`piano_roll` is {roll.dtype} of shape {roll.shape}: give 0 and 1, (time '
                        f'steps, {r[1] - r[0]}), with {LONGEST} steps at most')
    # 1 where a note begins and -1 where one ends; in the file each takes 8 bytes at most.
    silence = numpy.int8(0)
    changes = numpy.diff(roll.astype('int8'), axis=0, prepend=silence, append=silence)
    if 8 * numpy.count_nonzero(changes) > LARGEST:
        raise UserError(f'`piano_roll` has more than {LARGEST // 16} notes, and midiread would not '
                        'read them again: write it in several pieces')
    # A step is a whole number of ticks; without beats, it is one itself where the format allows.
    n = steps_per_beat or 1
    tempo = min(max(1, round(1e6 * dt * n)), 2**24 - 1)  # microseconds a beat
    ticks = TICKS // n * n
    ticks_per_step = ticks / n if steps_per_beat else dt * 1e6 / tempo * TICKS
    track = mido.MidiTrack([mido.MetaMessage('set_tempo', tempo=tempo)])
    if instrument is not None:
        track.append(mido.Message('program_change', program=instrument - 1))
    now = 0
    for step, column in numpy.argwhere(changes).tolist():
        tick = round(step * ticks_per_step)
        track.append(mido.Message('note_on' if changes[step, column] > 0 else 'note_off',
                                  note=int(r[0] + column), velocity=64, time=tick - now))
        now = tick
    end = round(len(roll) * ticks_per_step)
    track.append(mido.MetaMessage('end_of_track', time=end - now))
    midi = mido.MidiFile(type=0, ticks_per_beat=ticks, tracks=[track])
    if hasattr(filename, 'write'):
        midi.save(file=filename)
    else:
        midi.save(filename)


# How well each of the twelve tones, from the tonic up, fits into a key, as listeners rated it.
PROFILES = {
    'major': (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    'minor': (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)}


def tonality(piano_roll: numpy.ndarray, r: tuple[int, int] = (21, 109)) -> tuple[int, str]:
    """The key of a tune: the one whose profile correlates best with how long each tone sounds.

    :return: the tonic, from 0 for C to 11 for B, and 'major' or 'minor'
    """
    durations = numpy.zeros(12)
    numpy.add.at(durations, numpy.arange(*r) % 12, numpy.asarray(piano_roll).sum(axis=0))
    if numpy.ptp(durations) == 0:  # nothing, or everything, sounds: no key is better than another
        return 0, 'major'
    return max(((tonic, mode) for mode in PROFILES for tonic in range(12)),
               key=lambda key: numpy.corrcoef(
                   numpy.roll(PROFILES[key[1]], key[0]), durations)[0, 1])


def transposed(piano_roll: numpy.ndarray, r: tuple[int, int] = (21, 109)) -> numpy.ndarray:
    """The tune in C major or A minor, which have the same tones, by the shortest way there.

    :return: the same shape and type; a note that would leave the range is put an octave back
    """
    width = r[1] - r[0]
    if width < 12:
        raise UserError(f'`r` is {r}, less than an octave: give a wider range, or do not transpose')
    tonic, mode = tonality(piano_roll, r)
    shift = ((0 if mode == 'major' else 9) - tonic + 6) % 12 - 6  # from -6 to 5 semitones
    result = numpy.zeros_like(piano_roll)
    for old in range(width):
        new = old + shift
        new += 12 if new < 0 else -12 if new >= width else 0
        result[:, new] = numpy.maximum(result[:, new], piano_roll[:, old])
    return result


def in_all_keys(piano_roll: numpy.ndarray) -> list[numpy.ndarray]:
    """The tune in twelve keys, from five semitones down to six up.

    :param piano_roll: with at least one note
    :return: the same shape and type; without a key in which a note would leave the range
    """
    pitches = numpy.flatnonzero(piano_roll.any(axis=0))
    return [numpy.roll(piano_roll, shift, axis=1) for shift in range(-5, 7)
            if pitches[0] + shift >= 0 and pitches[-1] + shift < piano_roll.shape[1]]
