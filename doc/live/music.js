'use strict';
// After: live.js
/* Tunes that sound: frames of notes, played by Web Audio. */

const AHEAD = 0.3;  // seconds that are handed to the sound card before they are due

/** The frequency of a key of the piano in Hz, by its number in MIDI: 69 is the A of 440. */
const frequency = note => 440 * 2 ** ((note - 69) / 12);

/** The notes that begin in a frame, each [note, how many frames it is held]. */
function beginnings(frames, t) {
  return [...frames[t].keys()].filter(note => frames[t][note] && !(t > 0 && frames[t - 1][note]))
    .map(note => {
      let end = t + 1;
      while (end < frames.length && frames[end][note]) end++;
      return [note, end - t];
    });
}

class Sound {
  /** `context` is made when a key is first pressed, since no page may sound before. */
  start() {
    this.context ??= new AudioContext();
    this.context.resume();
    return this.context;
  }

  /** A soft tone of so many seconds that begins at a time of the context's clock. */
  tone(note, start, seconds) {
    const oscillator = this.context.createOscillator(), gain = this.context.createGain();
    oscillator.type = 'triangle';
    oscillator.frequency.value = frequency(note);
    gain.gain.setValueAtTime(0, start);
    gain.gain.linearRampToValueAtTime(0.12, start + 0.02);
    gain.gain.setTargetAtTime(0, start + 0.8 * seconds, 0.1 * seconds + 0.02);
    oscillator.connect(gain).connect(this.context.destination);
    oscillator.start(start);
    oscillator.stop(start + seconds + 0.3);
    (this.sounding ??= new Set()).add(oscillator);
    oscillator.onended = () => this.sounding.delete(oscillator);
  }

  stop() {
    this.sounding?.forEach(oscillator => oscillator.stop());
  }
}
