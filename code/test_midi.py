"""Tests of MIDI files: what is read is what was written, and no file does harm."""

import contextlib
import io
import time
from unittest import mock

from support import midi
from support.errors import UserError
from support.midi import midiread, midiwrite
from support.testing import TestCase

import mido
import numpy
from mido.midifiles.meta import encode_variable_int

END = b'\x00\xff\x2f\x00'


def random_roll(rng, r):
    """A roll of no, few, many or all notes, some of them long."""
    roll = rng.uniform(size=(rng.randint(1, 15), r[1] - r[0])) < rng.choice([0., .02, .3, 1.])
    return numpy.repeat(roll.astype('uint8'), rng.randint(1, 15, size=len(roll)), axis=0)


def file_of(*tracks, type=1, division=480):
    """A MIDI file put together by hand from the bytes of its tracks."""
    content = b'MThd' + (6).to_bytes(4, 'big')
    content += b''.join((x & 0xffff).to_bytes(2, 'big') for x in (type, len(tracks), division))
    for track in tracks:
        content += b'MTrk' + len(track).to_bytes(4, 'big') + track
    return content


def after(delta, *message):
    """A message so many ticks after the one before it."""
    return bytes([*encode_variable_int(delta), *message])


def on(delta, pitch, channel=0):
    return after(delta, 0x90 | channel, pitch, 64)


def off(delta, pitch, channel=0):
    return after(delta, 0x80 | channel, pitch, 0)


def pedal(delta, value, channel=0):
    return after(delta, 0xb0 | channel, 64, value)


def tempo(delta, microseconds):
    return after(delta, 0xff, 0x51, 3, *microseconds.to_bytes(3, 'big'))


NOTE = on(0, 60) + off(480, 60) + END


def written(roll, *arguments, **settings):
    """A piano-roll as the bytes of a MIDI file."""
    file = io.BytesIO()
    midiwrite(file, roll, *arguments, **settings)
    return file.getvalue()


class RoundTripTest(TestCase):
    def test_random_rolls(self):
        rng = numpy.random.RandomState(0)
        for trial in range(60):
            r = ((21, 109), (0, 128), (60, 61), (100, 128))[trial % 4]
            dt = rng.choice([.3, .25, 1 / 3, .1234567, .005, 1 / 7, 17.1, rng.uniform(.001, 3)])
            roll = random_roll(rng, r)
            tune = midiread(('a/tune\n.mid', written(roll, r, dt)), r, dt)
            numpy.testing.assert_array_equal(tune.piano_roll, roll, f'r={r}, dt={dt}')
            self.assertEqual((tune.piano_roll.dtype, tune.name), (numpy.uint8, 'a/tune .mid'))

    def test_random_rolls_in_beats(self):
        rng = numpy.random.RandomState(1)
        for steps_per_beat in range(1, midi.MOST_STEPS_PER_BEAT + 1):
            roll = random_roll(rng, (21, 109))
            dt = 60 / rng.uniform(30, 300) / steps_per_beat
            content = written(roll, dt=dt, steps_per_beat=steps_per_beat)
            for how in ({'dt': dt}, {'steps_per_beat': steps_per_beat}):
                numpy.testing.assert_array_equal(midiread(('', content), **how).piano_roll, roll)
        long = numpy.zeros((midi.LONGEST, 1), 'uint8')
        long[:8_000:2] = long[-1] = 1
        content = written(long, (60, 61), 60 / 97 / 7, 7)  # a beat is no whole microsecond
        numpy.testing.assert_array_equal(
            midiread(('', content), (60, 61), steps_per_beat=7).piano_roll, long)

    def test_tempo_and_instrument(self):
        content = written(numpy.ones((8, 1), bool), (60, 61), .125, 4, 74)
        tempo_of, program, *_, end = mido.MidiFile(file=io.BytesIO(content))
        self.assertEqual((tempo_of.tempo, program.type, program.program),
                         (500_000, 'program_change', 73))  # from 0
        self.assertAlmostEqual(mido.MidiFile(file=io.BytesIO(content)).length, 1)

    def test_long_rolls_do_not_drift(self):
        """Nor are the longest refused, which may last a little longer when rounded to ticks."""
        roll = numpy.zeros((midi.LONGEST, 1), 'uint8')
        roll[:8_000:2] = roll[-1] = 1
        path = self.folder / 'long.mid'
        for dt in (1 / 3, 0.0123457, 0.0010004, 60):
            midiwrite(path, roll, (60, 61), dt)
            numpy.testing.assert_array_equal(midiread(path, (60, 61), dt).piano_roll, roll)

    def test_what_is_too_large_to_be_read_again_is_not_written(self):
        stripes = numpy.zeros((101, 128), 'uint8')
        stripes[::2] = 1  # as many notes as there can be, 51 * 128, and each begins and ends
        with mock.patch.object(midi, 'LARGEST', 16 * 51 * 128):
            tune = midiread(('', written(stripes, (0, 128), 60)), (0, 128), 60)
        numpy.testing.assert_array_equal(tune.piano_roll, stripes)
        with mock.patch.object(midi, 'LARGEST', 16 * 51 * 128 - 1):
            with self.assertRaisesRegex(UserError, 'in several pieces'):
                midiwrite(self.folder / 'large.mid', stripes, (0, 128))
        self.assertFalse((self.folder / 'large.mid').exists())

    def test_one_long_note(self):
        content = written(numpy.ones((10, 1), bool), (60, 61))
        self.assertEqual([message.type for message in mido.MidiFile(file=io.BytesIO(content))],
                         ['set_tempo', 'note_on', 'note_off', 'end_of_track'])

    def test_what_is_no_roll(self):
        for shape, value, r, dt, wrong in (
                ((3, 5), 0, (60, 64), .3, 'piano_roll'), ((3,), 0, (60, 63), .3, 'piano_roll'),
                ((3, 1), .5, (60, 61), .3, 'piano_roll'),
                ((3, 1), numpy.nan, (60, 61), .3, 'piano_roll'),
                ((3, 2), 0, (127, 129), .3, 'r'), ((3, 0), 0, (60, 60), .3, 'r'),
                ((3, 1), 0, (60, 61), 0, 'dt'), ((3, 1), 0, (60, 61), numpy.nan, 'dt')):
            with self.assertRaisesRegex(UserError, f'`{wrong}` is'):
                written(numpy.full(shape, value), r, dt)


class ReadingTest(TestCase):
    def roll(self, *tracks, dt=0.25, steps_per_beat=None, **header):
        """The roll of the notes 60 to 64, in steps of half a beat at the default tempo."""
        content = file_of(*tracks, **header)
        return midiread(('', content), (60, 65), dt, steps_per_beat).piano_roll

    def test_notes(self):
        for what, tracks, expected in (
                ('velocity 0 and running status', [
                    on(0, 60) + after(240, 62, 64) + after(240, 60, 0) + after(240, 62, 0) + END],
                 {0: [1, 1, 0], 2: [0, 1, 1]}),
                ('tempo changes hold for every track: half a second, a second, half a second', [
                    tempo(480, 1_000_000) + tempo(480, 250_000) + END,
                    on(480, 60) + off(480, 60) + on(0, 61) + off(960, 61) + END],
                 {0: [0, 0, 1, 1, 1, 1, 0, 0], 1: [0, 0, 0, 0, 0, 0, 1, 1]}),
                ('channels, drums and notes outside the range', [
                    on(0, 60) + off(240, 60) + END, on(240, 60) + off(240, 60) + END,
                    on(0, 62, channel=3) + off(0, 62, channel=4) + off(480, 62, channel=3) + END,
                    on(0, 61, channel=9) + off(480, 61, channel=9) + END,
                    on(0, 59) + on(0, 65) + off(480, 59) + off(0, 65) + END],
                 {0: [1, 1], 2: [1, 1]}),
                ('notes that overlap or never end', [
                    on(0, 60) + on(240, 60) + off(240, 60) + off(240, 60) + on(0, 61) + off(0, 64)
                    + after(480, *END[1:])],
                 {0: [1, 1, 1, 0, 0], 1: [0, 0, 0, 1, 1]})):
            with self.subTest(what):
                roll = self.roll(*tracks, type=int(len(tracks) > 1))
                silence = [0] * len(roll)
                self.assertEqual(roll.T.tolist(), [expected.get(i, silence) for i in range(5)])

    def test_beats_across_changes_of_tempo(self):
        tracks = [tempo(480, 1_000_000) + tempo(480, 250_000) + END,
                  on(480, 60) + off(480, 60) + on(0, 61) + off(240, 61) + END]
        self.assertEqual(self.roll(*tracks, steps_per_beat=2).T.tolist(),
                         [[0, 0, 1, 1, 0], [0, 0, 0, 0, 1], *[[0] * 5] * 3])
        for n in (0, 49):
            with self.assertRaisesRegex(UserError, '`steps_per_beat` is'):
                self.roll(*tracks, steps_per_beat=n)
        with self.assertRaisesRegex(UserError, 'claims to last 100000 beats'):
            self.roll(on(0, 60) + off(480 * 100_000, 60) + END, steps_per_beat=2)

    def test_pedal(self):
        """Steps of half a beat; each row is what sounds from then on."""
        for what, track, expected in (
                ('holds until it is up', pedal(0, 64) + on(0, 60) + off(240, 60) + pedal(480, 63)
                 + after(240, *END[1:]), {0: [1, 1, 1, 0]}),
                ('but no key that is down, nor what began before and is over',
                 on(0, 60) + off(240, 60) + on(0, 61) + pedal(0, 127) + pedal(240, 0)
                 + off(240, 61) + END, {0: [1, 0, 0], 1: [0, 1, 1]}),
                ('struck again while it is down',
                 pedal(0, 127) + on(0, 60) + off(240, 60) + on(240, 60) + pedal(240, 0)
                 + off(240, 60) + END, {0: [1, 1, 1, 1]}),
                ('of another channel, or another controller',
                 pedal(0, 127, channel=1) + after(0, 0xb0, 66, 127) + on(0, 60) + off(240, 60)
                 + after(240, *END[1:]), {0: [1, 0]}),
                ('never let go', pedal(0, 127) + pedal(0, 127) + on(0, 60) + off(240, 60)
                 + after(480, *END[1:]), {0: [1, 1, 1]})):
            with self.subTest(what):
                roll = self.roll(track, type=0)
                silence = [0] * len(roll)
                self.assertEqual(roll.T.tolist(), [expected.get(i, silence) for i in range(5)])

    def test_a_note_longer_than_a_step_is_never_lost(self):
        rng = numpy.random.RandomState(2)
        for _ in range(50):
            start, length = rng.randint(0, 5000), rng.randint(300, 4000)
            dt = (length - 1) / 960  # seconds, at 480 ticks a beat of half a second
            self.assertTrue(self.roll(on(start, 60) + off(length, 60) + END, dt=dt).any())


class HostileTest(TestCase):
    def fails(self, content, part):
        """Reading gives one line, within seconds."""
        started = time.monotonic()
        with self.assertRaises(UserError) as caught:
            midiread(('in.zip/\n a.mid', content))
        self.assertLess(time.monotonic() - started, 10)
        self.assertRegex(str(caught.exception),
                         rf'\Ain.zip/ a.mid: cannot be read as MIDI \(.*{part}.*\Z')

    def test_broken_or_not_supported(self):
        whole = file_of(NOTE)
        for content in (b'', b'no MIDI at all' * 9, whole[:-3], whole[:20], whole[:14],
                        *map(file_of, (b'\x00\x40\x40', b'\x00\xf4\x00', b'\x00\x90\xff' + END))):
            self.fails(content, '')
        for header, part in (({'type': 2}, 'type 2'), ({'type': 9}, 'type 9'),
                             ({'division': 0}, 'frames'), ({'division': -25 << 8 | 40}, 'frames')):
            self.fails(file_of(NOTE, **header), part)

    def test_absurd_claims(self):
        for ticks, part in ((2**28 - 1, 'claims to last'), (2**1000, 'claims to last'),
                            (2**7000 - 1, 'too large')):
            self.fails(file_of(on(0, 60) + off(ticks, 60) + END), part)
        for content in (b'MThd' + b'\xff' * 4 + b'\x00\x01\x00\x01\x01\x00',
                        file_of(b'')[:-4] + b'\x7f\xff\xff\xff' + on(0, 60),
                        file_of(b'\x00\xff\x01' + after(2**27) + b'text')):
            self.fails(content, '')

    def test_large_files_do_not_take_long(self):
        for content in (bytes(midi.LARGEST + 1), file_of(b'\x80' * 10**6)):
            self.fails(content, 'bytes, or a number without an end')
        run = b'\x81' * (midi.LONGEST_RUN - 1)
        self.fails(file_of((run + b'\x00\xc0\x00') * (10**6 // len(run))), 'too large')
        # 50,000 notes, none of which ends, and as many time steps as there may be.
        content = file_of(on(0, 60) + b'\x00\x3c\x40' * 50_000 + after(96_000, *END[1:]))
        roll = midiread(('', content), (60, 62), 100 / midi.LONGEST).piano_roll
        self.assertEqual(roll.sum(axis=0).tolist(), [midi.LONGEST, 0])

    def test_any_damage_gives_a_result_or_one_line(self):
        rng = numpy.random.RandomState(3)
        tune = b''.join(on(50, pitch) + off(100, pitch) for pitch in range(40, 90)) + END
        whole = numpy.frombuffer(file_of(tempo(0, 400_000) + NOTE, tune), 'uint8')
        results = 0
        for _ in range(500):
            content = whole.copy()
            places = rng.randint(len(content), size=rng.randint(1, 6))
            content[places] = rng.choice([rng.randint(256), 0, 127, 128, 255], size=len(places))
            content = content.tobytes()[:rng.choice([None, rng.randint(len(content))])]
            try:
                self.assertLessEqual(len(midiread(('a.mid', content)).piano_roll), midi.LONGEST)
                results += 1
            except UserError as error:
                self.assertNotIn('\n', str(error))
        self.assertGreater(results, 20)


class FolderTest(TestCase):
    def test_what_cannot_be_used_is_reported_and_left_out(self):
        good = self.folder / 'good.mid'
        good.write_bytes(file_of(NOTE))
        useless = [self.folder, self.folder / 'nowhere.mid', ('bad', b'bad'),
                   ('silent', file_of(END)), ('a.zip/broken\n.mid', b'')]
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            self.assertEqual([tune.name for tune in midi.read_all([*useless, good])], [str(good)])
            for files in ([], useless):
                with self.assertRaisesRegex(UserError, 'no MIDI file that can be used'):
                    midi.read_all(files)
        reasons = (f'{self.folder}: cannot be read', 'nowhere.mid: cannot be read',
                   'bad: cannot be read', 'silent: has no note from 21 to 108',
                   'a.zip/broken .mid: cannot be read')
        for reason, notice in zip(reasons * 2, stderr.getvalue().splitlines(), strict=True):
            self.assertRegex(notice, rf'\ANOTICE: .*{reason}.* It is left out\.\Z')


class KeysTest(TestCase):
    def test_all_keys(self):
        for lowest, highest, shifts in ((40, 50, range(-5, 7)), (3, 50, range(-3, 7)),
                                        (40, 84, range(-5, 4)), (0, 87, [0])):
            roll = numpy.zeros((2, 88), 'uint8')
            roll[0, lowest] = roll[1, highest] = 1
            copies = midi.in_all_keys(roll)
            self.assertEqual([numpy.argwhere(copy).tolist() for copy in copies],
                             [[[0, lowest + shift], [1, highest + shift]] for shift in shifts])


class TonalityTest(TestCase):
    def test_keys(self):
        for tonic in range(12):
            for mode, pattern, its_tonic in (('major', (0, 2, 4, 5, 7, 9, 11, 12), 0),
                                             ('minor', (0, 2, 3, 5, 7, 8, 10, 12), 9)):
                # A scale up from the tonic, which is held at the end, and the fifth on the way.
                roll = numpy.zeros((14, 88), 'uint8')
                steps = [*pattern, pattern[4], pattern[2], 0, 0, 0, 0]
                roll[range(14), numpy.add(steps, 60 + tonic - 21)] = 1
                self.assertEqual(midi.tonality(roll), (tonic, mode))
                there = midi.transposed(roll)
                self.assertEqual(midi.tonality(there), (its_tonic, mode))
                self.assertEqual((there.sum(), there.dtype), (roll.sum(), roll.dtype))

    def test_edges(self):
        self.assertEqual(midi.tonality(numpy.zeros((3, 88), 'uint8')), (0, 'major'))
        everything = numpy.ones((3, 88), 'uint8')
        numpy.testing.assert_array_equal(midi.transposed(everything), everything)
        roll = numpy.zeros((4, 14), 'uint8')
        roll[:, 0] = 1  # F sharp, alone: down by six semitones it would leave the range
        self.assertEqual(midi.transposed(roll, (66, 80)).sum(), 4)
        with self.assertRaisesRegex(UserError, '`r` is .* less than an octave'):
            midi.transposed(roll[:, :11], (66, 77))
