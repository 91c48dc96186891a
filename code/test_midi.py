"""Tests of MIDI files: what is read is what was written, and no file does harm."""

import contextlib
import io
import time
from unittest import mock

import mido
import numpy

from support import midi
from support.errors import UserError
from support.midi import midiread, midiwrite
from support.testing import TestCase

RANGES = ((21, 109), (0, 128), (60, 61), (100, 128))
STEPS = (0.3, 0.25, 1 / 3, 0.1234567, 0.005, 1 / 7, 2.5, 17.1)


def random_roll(rng, r):
    """A roll with notes of all lengths, some of them across the whole, and silences."""
    shape = (rng.randint(1, 120), r[1] - r[0])
    onsets = rng.uniform(size=shape) < rng.choice([0., .02, .3, 1.])
    held = rng.uniform(size=shape) < rng.choice([0., .5, .95])
    roll = onsets.astype('uint8')
    for t in range(1, len(roll)):
        roll[t] |= held[t] & roll[t - 1]
    return roll


def variable(number):
    """A number as MIDI files write it."""
    digits = [number & 127]
    while number := number >> 7:
        digits.insert(0, number & 127 | 128)
    return bytes(digits)


def file_of(*tracks, type=1, division=480):
    """A MIDI file put together by hand from the bytes of its tracks."""
    content = b'MThd' + (6).to_bytes(4, 'big')
    content += b''.join((x & 0xffff).to_bytes(2, 'big') for x in (type, len(tracks), division))
    for track in tracks:
        content += b'MTrk' + len(track).to_bytes(4, 'big') + track
    return content


END = b'\x00\xff\x2f\x00'


def on(delta, pitch, velocity=64, channel=0):
    return variable(delta) + bytes([0x90 | channel, pitch, velocity])


def off(delta, pitch, channel=0):
    return variable(delta) + bytes([0x80 | channel, pitch, 0])


def tempo(delta, microseconds):
    return variable(delta) + b'\xff\x51\x03' + microseconds.to_bytes(3, 'big')


NOTE = on(0, 60) + off(480, 60) + END


def written(roll, r=(21, 109), dt=0.3):
    """A piano-roll as the bytes of a MIDI file."""
    file = io.BytesIO()
    midiwrite(file, roll, r, dt)
    return file.getvalue()


class RoundTripTest(TestCase):
    def test_random_rolls(self):
        rng = numpy.random.RandomState(0)
        for trial in range(60):
            r = RANGES[rng.randint(len(RANGES))]
            dt = STEPS[rng.randint(len(STEPS))] if trial % 2 else rng.uniform(.001, 3)
            roll = random_roll(rng, r)
            tune = midiread(('a/tune.mid', written(roll, r, dt)), r, dt)
            numpy.testing.assert_array_equal(tune.piano_roll, roll, f'r={r}, dt={dt}')
            self.assertEqual(tune.piano_roll.dtype, numpy.uint8)
            self.assertEqual((tune.r, tune.dt, tune.name), (r, dt, 'tune.mid'))

    def test_long_rolls_do_not_drift(self):
        """Nor are the longest refused, which may last a little longer when rounded to ticks."""
        roll = numpy.zeros((midi.LONGEST, 1), 'uint8')
        roll[:8_000:2] = roll[-1] = 1
        path = self.folder / 'long.mid'
        for dt in (1 / 3, 0.0123457, 0.0010004, 60):
            midiwrite(path, roll, (60, 61), dt)
            numpy.testing.assert_array_equal(midiread(path, (60, 61), dt).piano_roll, roll)
        with mock.patch.object(midi, 'LONGEST', midi.LONGEST - 1), \
                self.assertRaisesRegex(UserError, 'more than 99999 steps'):
            midiread(path, (60, 61), 60)

    def test_what_is_too_large_to_be_read_again_is_not_written(self):
        path = self.folder / 'large.mid'
        path.write_bytes(b'what has been there')
        stripes = numpy.zeros((midi.LONGEST, 128), 'uint8')
        stripes[::2] = 1  # as many notes as there can be
        with self.assertRaisesRegex(UserError, f'more than {midi.LARGEST} bytes'):
            midiwrite(path, stripes, (0, 128))
        roll = random_roll(numpy.random.RandomState(5), (21, 109))
        content = written(roll)
        with mock.patch.object(midi, 'LARGEST', len(content)):  # the same for both
            numpy.testing.assert_array_equal(midiread(('', written(roll))).piano_roll, roll)
        with mock.patch.object(midi, 'LARGEST', len(content) - 1):
            for function in (lambda: midiwrite(path, roll), lambda: midiread(('', content))):
                self.assertRaisesRegex(UserError, f'more than {len(content) - 1} bytes', function)
        self.assertEqual(path.read_bytes(), b'what has been there')

    def test_any_file_once_read_is_stable(self):
        """Notes at any times, of any tempo: what is read and written is read again the same."""
        rng = numpy.random.RandomState(1)
        for _ in range(40):
            track = b''
            for _ in range(rng.randint(60)):
                pitch, delta, kind = rng.randint(128), rng.randint(1000), rng.randint(4)
                track += (tempo(delta, rng.randint(1, 2_000_000)) if kind == 0
                          else off(delta, pitch) if kind == 1 else on(delta, pitch, kind % 2))
            roll = midiread(('', file_of(track + END, type=0)), dt=0.1).piano_roll
            again = midiread(('', written(roll, dt=0.1)), dt=0.1).piano_roll
            numpy.testing.assert_array_equal(again, roll)

    def test_one_long_note(self):
        content = written(numpy.ones((10, 1), bool), (60, 61))
        self.assertEqual([message.type for message in mido.MidiFile(file=io.BytesIO(content))],
                         ['set_tempo', 'note_on', 'note_off', 'end_of_track'])

    def test_what_is_no_roll(self):
        for roll, r, dt, message in (
                (numpy.zeros((3, 5)), (60, 64), .3, 'shape'), (numpy.zeros(3), (60, 63), .3, 'sh'),
                (numpy.full((3, 1), .5), (60, 61), .3, '0 and 1'),
                (numpy.full((3, 1), numpy.nan), (60, 61), .3, '0 and 1'),
                (numpy.zeros((3, 2)), (127, 129), .3, 'range'),
                (numpy.zeros((3, 0)), (60, 60), .3, 'range'),
                (numpy.zeros((3, 1)), (60, 61), 0, 'time step'),
                (numpy.zeros((3, 1)), (60, 61), float('nan'), 'time step')):
            with self.assertRaisesRegex(UserError, message):
                written(roll, r, dt)


class ReadingTest(TestCase):
    def roll(self, *tracks, dt=0.25, **header):
        """The roll of the notes 60 to 64, in steps of half a beat at the default tempo."""
        return midiread(('', file_of(*tracks, **header)), (60, 65), dt).piano_roll

    def test_velocity_0_and_running_status(self):
        roll = self.roll(on(0, 60) + variable(240) + bytes([62, 64]) + variable(240)
                         + bytes([60, 0]) + variable(240) + bytes([62, 0]) + END)
        numpy.testing.assert_array_equal(roll[:, [0, 2]], [[1, 0], [1, 1], [0, 1]])

    def test_tempo_changes_hold_for_every_track(self):
        conductor = tempo(480, 1_000_000) + tempo(480, 250_000) + END
        tune = on(480, 60) + off(480, 60) + on(0, 61) + off(960, 61) + END
        roll = self.roll(conductor, tune)
        # half a second, then a second, then half a second
        numpy.testing.assert_array_equal(roll[:, 0], [0, 0, 1, 1, 1, 1, 0, 0])
        numpy.testing.assert_array_equal(roll[:, 1], [0, 0, 0, 0, 0, 0, 1, 1])

    def test_channels_drums_and_notes_outside_the_range(self):
        tracks = [on(0, 60) + off(240, 60) + END, on(240, 60) + off(240, 60) + END,
                  on(0, 62, channel=3) + off(0, 62, channel=4) + off(480, 62, channel=3) + END,
                  on(0, 61, channel=9) + off(480, 61, channel=9) + END,
                  on(0, 59) + on(0, 65) + off(480, 59) + off(0, 65) + END]
        numpy.testing.assert_array_equal(self.roll(*tracks), [[1, 0, 1, 0, 0]] * 2)

    def test_notes_that_overlap_or_never_end(self):
        roll = self.roll(on(0, 60) + on(240, 60) + off(240, 60) + off(240, 60) + on(0, 61)
                         + off(0, 64) + variable(480) + END[1:], type=0)
        numpy.testing.assert_array_equal(roll[:, 0], [1, 1, 1, 0, 0])
        numpy.testing.assert_array_equal(roll[:, 1], [0, 0, 0, 1, 1])

    def test_notes_at_random(self):
        """Notes of three pitches, each on a channel of its own, begin and end with time steps."""
        rng = numpy.random.RandomState(6)
        for _ in range(30):
            expected = numpy.zeros((20, 5), 'uint8')
            tracks = [variable(20 * 240) + END[1:]]
            for channel in range(rng.randint(1, 9)):
                column, start, length = rng.randint(3), rng.randint(10), rng.randint(10)
                expected[start:start + length, column] = 1
                tracks.append(on(240 * start, 60 + column, channel=channel)
                              + off(240 * length, 60 + column, channel=channel) + END)
            numpy.testing.assert_array_equal(self.roll(*tracks), expected)

    def test_a_note_longer_than_a_step_is_never_lost(self):
        rng = numpy.random.RandomState(2)
        for _ in range(50):
            start, length = rng.randint(0, 5000), rng.randint(300, 4000)
            dt = (length - 1) / 960  # seconds, at 480 ticks a beat of half a second
            self.assertGreaterEqual(self.roll(on(start, 60) + off(length, 60) + END, dt=dt).sum(),
                                    1)


class HostileTest(TestCase):
    def fails(self, content, part):
        """Reading gives one line, within seconds."""
        started = time.monotonic()
        with self.assertRaises(UserError) as caught:
            midiread(('in.zip/\n a.mid', content))
        self.assertLess(time.monotonic() - started, 10)
        self.assertTrue(str(caught.exception).startswith('in.zip/ a.mid: cannot be read as MIDI'))
        self.assertIn(part, str(caught.exception))
        self.assertNotIn('\n', str(caught.exception))

    def test_broken_or_not_supported(self):
        whole = file_of(NOTE)
        for content in (b'', b'RIFF', b'no MIDI at all' * 9, whole[:-3], whole[:20], whole[:14],
                        file_of(b'\x00\x40\x40'), file_of(b'\x00\xf4\x00'),
                        file_of(b'\x00\x90\xff\x00' + END)):
            self.fails(content, 'damaged')
        for content, part in (
                (file_of(NOTE, type=2), 'type 2'), (file_of(NOTE, type=9), 'type 9'),
                (file_of(NOTE, division=0), 'frames'), (file_of(tempo(0, 0) + NOTE), 'tempo of 0'),
                (file_of(NOTE, division=-25 << 8 | 40), 'frames')):
            self.fails(content, part)

    def test_absurd_claims(self):
        for ticks in (2**28 - 1, 2**35, 2**62, 2**1000):
            self.fails(file_of(on(0, 60) + off(ticks, 60) + END), 'claims to last')
        self.fails(file_of(on(0, 60) + off(2**7000 - 1, 60) + END), 'too large')
        self.fails(b'MThd' + b'\xff' * 4 + b'\x00\x01\x00\x01\x01\x00', 'damaged')
        self.fails(file_of(b'')[:-4] + b'\x7f\xff\xff\xff' + on(0, 60), 'damaged')
        self.fails(file_of(b'\x00\xff\x01' + variable(2**27) + b'text'), 'exceeds')

    def test_large_files_do_not_take_long(self):
        self.fails(bytes(midi.LARGEST + 1), 'bytes')
        for byte in (b'\x80', b'\xff'):
            self.fails(file_of(byte * 1_000_000), 'number without an end')
        run = b'\x81' * (midi.LONGEST_RUN - 1)
        self.fails(file_of((run + b'\x00\xc0\x00') * (10**6 // len(run))), 'too large')
        n_notes = 50_000  # none of which ends
        content = file_of(on(0, 60) + b'\x00\x3c\x40' * n_notes + variable(96_000) + END[1:])
        started = time.monotonic()
        roll = midiread(('', content), (60, 62), 100 / midi.LONGEST).piano_roll
        self.assertEqual(roll.sum(axis=0).tolist(), [midi.LONGEST, 0])
        self.assertLess(time.monotonic() - started, 20)

    def test_any_damage_gives_a_result_or_one_line(self):
        rng = numpy.random.RandomState(3)
        tracks = [tempo(0, 400_000) + b'\x00\xff\x59\x02\x01\x00' + NOTE,
                  b''.join(on(50, pitch) + off(100, pitch) for pitch in range(40, 90)) + END]
        whole = numpy.frombuffer(file_of(*tracks), 'uint8')
        results = 0
        for _ in range(500):
            content = whole.copy()
            for place in rng.randint(len(content), size=rng.randint(1, 6)):
                content[place] = rng.choice([rng.randint(256), content[place] ^ 1 << rng.randint(8),
                                             0, 127, 128, 255])
            content = content.tobytes()[:rng.choice([None, rng.randint(len(content))])]
            try:
                tune = midiread(('a.mid', content))
            except UserError as error:
                self.assertNotIn('\n', str(error))
            else:
                results += 1
                self.assertLessEqual(len(tune.piano_roll), midi.LONGEST)
        self.assertGreater(results, 20)


class FolderTest(TestCase):
    def test_what_cannot_be_used_is_reported_and_left_out(self):
        for name, content in (('good', file_of(NOTE)), ('bad', b'bad'), ('silent', file_of(END))):
            (self.folder / f'{name}.mid').write_bytes(content)
        (self.folder / 'folder.mid').mkdir()
        files = [self.folder / f'{name}.mid'
                 for name in ('bad', 'silent', 'folder', 'nowhere', 'good')]
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            tunes = midi.read_all([*files, ('a.zip/broken\n.mid', b'')])
        self.assertEqual([tune.name for tune in tunes], ['good.mid'])
        reasons = ('bad.mid: cannot be read as MIDI', 'silent.mid: has no note from 21 to 108',
                   'folder.mid: cannot be read', 'nowhere.mid: cannot be read (No such file',
                   'a.zip/broken .mid: cannot be read as MIDI')
        notices = stderr.getvalue().splitlines()
        for reason, notice in zip(reasons, notices, strict=True):
            self.assertTrue(notice.startswith('NOTICE: ') and notice.endswith('It is left out.'))
            self.assertIn(reason, notice)

    def test_none_left(self):
        for paths in ([], [('a.mid', b'bad')]):
            with contextlib.redirect_stderr(io.StringIO()), \
                    self.assertRaisesRegex(UserError, f'none of {len(paths)} MIDI files'):
                midi.read_all(paths)


class TonalityTest(TestCase):
    def scale(self, tonic, pattern):
        """A scale up from the tonic, which is held at the end, and the fifth on the way."""
        roll = numpy.zeros((14, 88), 'uint8')
        for t, step in enumerate([*pattern, pattern[4], pattern[2], 0, 0, 0, 0]):
            roll[t, 60 + tonic + step - 21] = 1
        return roll

    def test_keys(self):
        for tonic in range(12):
            major = self.scale(tonic, (0, 2, 4, 5, 7, 9, 11, 12))
            minor = self.scale(tonic, (0, 2, 3, 5, 7, 8, 10, 12))
            self.assertEqual(midi.tonality(major), (tonic, 'major'))
            self.assertEqual(midi.tonality(minor), (tonic, 'minor'))
            self.assertEqual(midi.tonality(midi.transposed(major)), (0, 'major'))
            self.assertEqual(midi.tonality(midi.transposed(minor)), (9, 'minor'))
            self.assertEqual(midi.transposed(major).sum(), major.sum())

    def test_edges(self):
        self.assertEqual(midi.tonality(numpy.zeros((3, 88), 'uint8')), (0, 'major'))
        everything = numpy.ones((3, 88), 'uint8')
        numpy.testing.assert_array_equal(midi.transposed(everything), everything)
        roll = numpy.zeros((4, 14), 'uint8')
        roll[:, 0] = 1  # F sharp, alone: down by six semitones it would leave the range
        self.assertEqual(midi.transposed(roll, (66, 80)).sum(), 4)
