"""Tests of MIDI files: what is read is what was written, and no file does harm."""

import contextlib
import errno
import io
import itertools
import time
import tracemalloc
import zipfile
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


class MidiTest(TestCase):
    def write(self, content, name='tune.mid'):
        path = self.folder / name
        path.write_bytes(content)
        return path

    def roll(self, *tracks, dt=0.25, **header):
        """The roll of the notes 60 to 64, in steps of half a beat at the default tempo."""
        return midiread(self.write(file_of(*tracks, **header)), (60, 65), dt).piano_roll

    def fails(self, content, *parts, dt=0.3):
        path = self.write(content)
        with self.assertRaises(UserError) as caught:
            midiread(path, dt=dt)
        self.assertEqual(str(caught.exception).count('\n'), 0)
        for part in (str(path), *parts):
            self.assertIn(part, str(caught.exception))


class RoundTripTest(MidiTest):
    def test_random_rolls(self):
        rng = numpy.random.RandomState(0)
        for trial in range(120):
            r = RANGES[rng.randint(len(RANGES))]
            dt = STEPS[rng.randint(len(STEPS))] if trial % 2 else rng.uniform(.001, 3)
            roll = random_roll(rng, r)
            file = io.BytesIO()
            midiwrite(file, roll, r, dt)
            tune = midiread(self.write(file.getvalue()), r, dt)
            numpy.testing.assert_array_equal(tune.piano_roll, roll, f'r={r}, dt={dt}')
            self.assertEqual(tune.piano_roll.dtype, numpy.uint8)
            self.assertEqual((tune.r, tune.dt, tune.name), (r, dt, 'tune.mid'))

    def test_long_rolls_do_not_drift(self):
        roll = numpy.zeros((20_000, 1), 'uint8')
        roll[::2] = 1
        for dt in (0.3, 1 / 3, 0.0123457):
            midiwrite(self.folder / 'long.mid', roll, (60, 61), dt)
            numpy.testing.assert_array_equal(
                midiread(self.folder / 'long.mid', (60, 61), dt).piano_roll, roll)

    def test_the_longest_rolls(self):
        """As many steps as are allowed, though rounded to ticks they may last a little longer."""
        roll = numpy.zeros((midi.LONGEST, 1), 'uint8')
        roll[[0, -1]] = 1
        for dt in (0.0123457, 0.0010004, 0.001, 1 / 3, 17.1, 60):
            midiwrite(self.folder / 'longest.mid', roll, (60, 61), dt)
            numpy.testing.assert_array_equal(
                midiread(self.folder / 'longest.mid', (60, 61), dt).piano_roll, roll, f'dt={dt}')
            with mock.patch.object(midi, 'LONGEST', midi.LONGEST + 1):
                longer = io.BytesIO()
                midiwrite(longer, numpy.concatenate([roll, roll[:1]]), (60, 61), dt)
            self.fails(longer.getvalue(), f'more than {midi.LONGEST} steps', dt=dt)

    def test_rolls_too_large_to_be_read_again(self):
        rng = numpy.random.RandomState(4)
        stripes = numpy.zeros((midi.LONGEST, 128), 'uint8')
        stripes[::2] = 1  # as many notes as there can be
        path = self.write(b'what has been there', 'large.mid')
        for roll, r in ((rng.randint(2, size=(8000, 88)), (21, 109)), (stripes, (0, 128))):
            started = time.monotonic()
            file = io.BytesIO()
            for target in (path, file):
                with self.assertRaisesRegex(UserError, f'more than {midi.LARGEST} bytes'):
                    midiwrite(target, roll, r)
            self.assertEqual((path.read_bytes(), file.getvalue()), (b'what has been there', b''))
            self.assertLess(time.monotonic() - started, 20)

    def test_the_largest_roll(self):
        """The size at which a file is refused is the same in writing as in reading."""
        roll = random_roll(numpy.random.RandomState(5), (21, 109))
        file = io.BytesIO()
        midiwrite(file, roll)
        size = len(file.getvalue())
        with mock.patch.object(midi, 'LARGEST', size):
            midiwrite(self.folder / 'largest.mid', roll)
            numpy.testing.assert_array_equal(midiread(self.folder / 'largest.mid').piano_roll, roll)
        with mock.patch.object(midi, 'LARGEST', size - 1):
            with self.assertRaisesRegex(UserError, f'more than {size - 1} bytes'):
                midiwrite(self.folder / 'larger.mid', roll)
            self.fails(file.getvalue(), f'more than {size - 1} bytes')
        self.assertFalse((self.folder / 'larger.mid').exists())

    def test_any_file_once_read_is_stable(self):
        """Notes at any times, of any tempo: what is read and written is read again the same."""
        rng = numpy.random.RandomState(1)
        for _ in range(40):
            track = b''
            for _ in range(rng.randint(60)):
                pitch, delta = rng.randint(128), rng.randint(1000)
                kind = rng.randint(4)
                track += (tempo(delta, rng.randint(1, 2_000_000)) if kind == 0
                          else off(delta, pitch) if kind == 1 else on(delta, pitch, kind % 2))
            tune = midiread(self.write(file_of(track + END, type=0)), dt=0.1)
            midiwrite(self.folder / 'again.mid', tune.piano_roll, dt=0.1)
            numpy.testing.assert_array_equal(
                midiread(self.folder / 'again.mid', dt=0.1).piano_roll, tune.piano_roll)

    def test_notes_longer_than_a_step_are_never_lost(self):
        rng = numpy.random.RandomState(2)
        for _ in range(50):
            start, length = rng.randint(0, 5000), rng.randint(300, 4000)
            dt = (length - 1) / 960  # seconds, at 480 ticks a beat of half a second
            roll = midiread(self.write(file_of(on(start, 60) + off(length, 60) + END)), dt=dt)
            self.assertGreaterEqual(roll.piano_roll.sum(), 1)

    def test_same_bytes_and_one_long_note(self):
        roll = numpy.ones((10, 1))
        first, second = io.BytesIO(), io.BytesIO()
        midiwrite(first, roll, (60, 61))
        midiwrite(second, roll.astype(bool), (60, 61))
        self.assertEqual(first.getvalue(), second.getvalue())
        notes = [message for message in mido.MidiFile(file=io.BytesIO(first.getvalue())).tracks[0]
                 if message.type == 'note_on']
        self.assertEqual(len(notes), 1)

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
                midiwrite(self.folder / 'x.mid', roll, r, dt)
        self.assertFalse((self.folder / 'x.mid').exists())


class ReadingTest(MidiTest):
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

    def test_several_tracks_and_channels(self):
        tracks = [on(0, 60) + off(240, 60) + END, on(240, 60) + off(240, 60) + END,
                  on(0, 62, channel=3) + off(0, 62, channel=4) + off(480, 62, channel=3) + END]
        numpy.testing.assert_array_equal(self.roll(*tracks)[:, [0, 2]], [[1, 1], [1, 1]])

    def test_drums_are_no_pitches(self):
        self.assertEqual(self.roll(on(0, 60, channel=9) + off(480, 60, channel=9) + END).sum(), 0)

    def test_notes_that_overlap_or_never_end(self):
        roll = self.roll(on(0, 60) + on(240, 60) + off(240, 60) + off(240, 60) + on(0, 61)
                         + off(0, 64) + variable(480) + END[1:], type=0)
        numpy.testing.assert_array_equal(roll[:, 0], [1, 1, 1, 0, 0])
        numpy.testing.assert_array_equal(roll[:, 1], [0, 0, 0, 1, 1])

    def test_notes_that_overlap_at_random(self):
        """Notes of three pitches, each on a track of its own, begin and end with time steps."""
        rng = numpy.random.RandomState(6)
        for _ in range(30):
            expected = numpy.zeros((20, 5), 'uint8')
            tracks = [variable(20 * 240) + END[1:]]
            for _ in range(rng.randint(1, 12)):
                column, start, length = rng.randint(3), rng.randint(10), rng.randint(10)
                expected[start:start + length, column] = 1
                tracks.append(on(240 * start, 60 + column) + off(240 * length, 60 + column) + END)
            numpy.testing.assert_array_equal(self.roll(*tracks), expected)

    def test_notes_outside_the_range(self):
        self.assertEqual(self.roll(on(0, 59) + off(480, 59) + on(0, 65) + off(9, 65) + END).sum(),
                         0)

    def test_what_is_not_supported(self):
        note = on(0, 60) + off(480, 60) + END
        self.fails(file_of(note, type=2), 'type 2')
        self.fails(file_of(note, division=0), 'beats of 0 ticks')
        self.fails(file_of(note, division=-25 << 8 | 40), 'frames of film')
        self.fails(file_of(tempo(0, 0) + note), 'tempo of 0')


class HostileTest(MidiTest):
    def test_broken(self):
        whole = file_of(on(0, 60) + off(480, 60) + END)
        for content in (b'', b'RIFF', b'no MIDI at all' * 9, whole[:-3], whole[:20], whole[:14],
                        file_of(b'\x00\x40\x40'), file_of(b'\x00\xf4\x00'),
                        file_of(b'\x00\x90\xff\x00' + END)):
            self.fails(content, 'cannot be read as MIDI')
        with self.assertRaises(FileNotFoundError):
            midiread(self.folder / 'nowhere.mid')

    def test_absurd_lengths(self):
        for ticks in (2**28 - 1, 2**35, 2**62, 2**70, 2**7000):
            self.fails(file_of(on(0, 60) + off(ticks, 60) + END), 'claims to')
        slow = b''.join(tempo(0, 2**24 - 1) + on(100_000, 60) for _ in range(50))
        self.fails(file_of(slow + END, division=1), 'claims to last')
        self.fails(b'MThd' + b'\xff' * 4 + b'\x00\x01\x00\x01\x01\x00', 'cannot be read')
        self.fails(file_of(b'')[:-4] + b'\x7f\xff\xff\xff' + on(0, 60), 'cannot be read')
        self.fails(file_of(b'\x00\xff\x01' + variable(2**27) + b'text'), 'cannot be read')

    def test_large_files_take_neither_time_nor_memory(self):
        self.fails(bytes(midi.LARGEST + 1), 'bytes')
        self.fails(file_of(b'\x00\xff\x01' + b'\xff' * (midi.LARGEST // 2)), 'without an end')
        self.fails(file_of((b'\xff' * 4000 + b'\x00\xc0\x00') * 20), 'claims to')
        crowded = bytes([0, 0xc0]) + b'\x00\x00' * 20_000
        started = time.monotonic()
        tracemalloc.start()
        try:
            self.assertEqual(midiread(self.write(file_of(crowded[:-1]))).piano_roll.size, 0)
            self.assertLess(tracemalloc.get_traced_memory()[1], 2**26)
        finally:
            tracemalloc.stop()
        self.assertLess(time.monotonic() - started, 20)

    def test_many_notes_that_never_end(self):
        """The time they take is that of the notes and the steps, and not of their product."""
        n_notes = 100_000
        content = file_of(on(0, 60) + b'\x00\x3c\x40' * (n_notes - 1) + on(0, 62)
                          + variable(96_000) + END[1:])  # 100 seconds
        path = self.write(content)
        started = time.monotonic()
        mido.MidiFile(file=io.BytesIO(content))
        parsed = time.monotonic()
        roll = midiread(path, (60, 65), 100 / midi.LONGEST).piano_roll
        # All but a part of it is for parsing, whatever the machine: the product took 20 times that.
        self.assertLess(time.monotonic() - parsed, 5 * (parsed - started) + 1)
        self.assertEqual(roll.shape, (midi.LONGEST, 5))
        self.assertEqual(roll.sum(axis=0).tolist(), [midi.LONGEST, 0, midi.LONGEST, 0, 0])

    def test_notes_that_wait_for_their_end(self):
        """However many of one pitch sound, the end of the first is found at once."""
        n_notes = 500_000
        track = itertools.chain(itertools.repeat((0, mido.Message('note_on')), n_notes),
                                itertools.repeat((1, mido.Message('note_off')), n_notes))
        started = time.monotonic()
        self.assertEqual(sum(1 for _ in midi._intervals(track, 2)), n_notes)
        self.assertLess(time.monotonic() - started, 10)

    def test_any_damage_gives_a_result_or_one_line(self):
        rng = numpy.random.RandomState(3)
        tracks = [tempo(0, 400_000) + b'\x00\xff\x59\x02\x01\x00' + on(0, 60) + off(480, 60) + END,
                  b''.join(on(50, pitch) + off(100, pitch) for pitch in range(40, 90)) + END]
        whole = numpy.frombuffer(file_of(*tracks), 'uint8')
        started = time.monotonic()
        results = 0
        for _ in range(1500):
            content = whole.copy()
            for _ in range(rng.randint(1, 6)):
                place = rng.randint(len(content))
                content[place] = rng.choice([rng.randint(256), content[place] ^ 1 << rng.randint(8),
                                             0, 127, 128, 255])
            content = content.tobytes()
            if rng.randint(3) == 0:
                cut = rng.randint(len(content))
                content = content[:cut] + content[cut + rng.randint(1, 400):]
            try:
                tune = midiread(self.write(content))
            except UserError as error:
                self.assertEqual(str(error).count('\n'), 0)
            else:
                results += 1
                self.assertLessEqual(len(tune.piano_roll), midi.LONGEST)
        self.assertGreater(results, 50)
        self.assertLess(time.monotonic() - started, 60)


class FakePath:
    """A path that gives, or raises, something else than a file when it is opened."""

    def __init__(self, name, outcome):
        self.name, self.open = name, mock.Mock(side_effect=outcome)

    def __str__(self):
        return self.name


class FolderTest(MidiTest):
    def test_one_bad_file_is_skipped(self):
        good = self.write(file_of(on(0, 60) + off(480, 60) + END), 'good.mid')
        bad, silent = self.write(b'bad', 'bad.mid'), self.write(file_of(END), 'silent.mid')
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            tunes = midi.read_all([bad, good, silent])
        self.assertEqual([tune.name for tune in tunes], ['good.mid'])
        self.assertEqual(stderr.getvalue().count('\n'), 2)
        for name in ('bad.mid', 'silent.mid'):
            self.assertIn(name, stderr.getvalue())

    def test_a_file_that_cannot_be_opened_or_read_is_skipped(self):
        good = self.write(file_of(on(0, 60) + off(480, 60) + END), 'good.mid')
        (self.folder / 'folder.mid').mkdir()
        file = mock.MagicMock()
        file.__enter__.return_value.read.side_effect = OSError(errno.EIO, 'Input/output error')
        files = {'folder.mid': self.folder / 'folder.mid',
                 'nowhere.mid': self.folder / 'nowhere.mid',
                 'secret.mid': FakePath('secret.mid', PermissionError(errno.EACCES, 'It is mine')),
                 'nameless.mid': FakePath('nameless.mid', IsADirectoryError()),
                 'worn.mid': FakePath('worn.mid', [file])}
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            tunes = midi.read_all([*files.values(), good])
        self.assertEqual([tune.name for tune in tunes], ['good.mid'])
        notices = stderr.getvalue().splitlines()
        self.assertEqual(len(notices), len(files))
        for name, notice in zip(files, notices, strict=True):
            self.assertRegex(notice, f'^NOTICE: .*{name}: cannot be read .* It is left out.$')
        for reason, notice in zip(('It is mine', 'IsADirectoryError', 'Input/output error'),
                                  notices[2:], strict=True):
            self.assertIn(f'({reason})', notice)

    def test_none_left(self):
        bad = self.write(b'bad', 'bad.mid')
        for paths in ([], [bad]):
            with contextlib.redirect_stderr(io.StringIO()), \
                    self.assertRaisesRegex(UserError, f'none of {len(paths)} MIDI files'):
                midi.read_all(paths)

    def test_damaged_and_encrypted_members_of_an_archive(self):
        path = self.folder / 'tunes.zip'
        note = file_of(on(0, 60) + off(480, 60) + END)
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_BZIP2) as archive:
            for name in ('bz2.mid', 'header.mid', 'secret.mid', 'good.mid'):
                archive.writestr(name, note)
        content = bytearray(path.read_bytes())
        content[content.index(b'BZh') + 4] ^= 1
        content[content.index(b'header.mid')] ^= 1  # no longer what the directory says
        # The flag of encryption, in the directory at the end, whose entries have 46 bytes before
        # the name and the flags as the ninth and tenth.
        content[content.rindex(b'secret.mid') - 46 + 8] |= 1
        path.write_bytes(content)
        with zipfile.ZipFile(path) as archive, \
                contextlib.redirect_stderr(io.StringIO()) as stderr:
            tunes = midi.read_all(sorted(zipfile.Path(archive).iterdir(), key=str))
        self.assertEqual([tune.name for tune in tunes], ['good.mid'])
        notices = stderr.getvalue().splitlines()
        self.assertEqual(len(notices), 3)
        for name, notice in zip(('bz2', 'header', 'secret'), notices, strict=True):
            self.assertRegex(notice, f'^NOTICE: .*{name}.mid: cannot be unpacked .* left out.$')

    def test_members_of_an_archive(self):
        path = self.folder / 'tunes.zip'
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr('a/good.mid', file_of(on(0, 60) + off(480, 60) + END))
            archive.writestr('a/bomb.mid', bytes(midi.LARGEST * 50))
        with zipfile.ZipFile(path) as archive:
            self.assertEqual(midiread(zipfile.Path(archive, 'a/good.mid')).name, 'good.mid')
            tracemalloc.start()
            try:
                with self.assertRaisesRegex(UserError, 'tunes.zip/a/bomb.mid: has more than'):
                    midiread(zipfile.Path(archive, 'a/bomb.mid'))
                self.assertLess(tracemalloc.get_traced_memory()[1], 8 * midi.LARGEST)
            finally:
                tracemalloc.stop()
            with mock.patch.object(zipfile.ZipExtFile, 'read', side_effect=zipfile.BadZipFile):
                with self.assertRaisesRegex(UserError, 'good.mid: cannot be unpacked'):
                    midiread(zipfile.Path(archive, 'a/good.mid'))


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
