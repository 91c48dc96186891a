'use strict';
// After: rnnrbm_model.js music.js
/* A piano-roll with a cursor that plays; tunes of the model at several ages, and what it makes of
   yours. */

const NEW_FRAMES = 100;   // that the model goes on with
const KEYS = 'awsedftgyhujkolp';  // of the computer, for the keys of the piano from middle C up
const HELD = 2;           // frames that a key of yours is held

figures.tunes = async function (stage) {
  const model = await load('rnnrbm');
  const {r: [lowest, above], dt} = weights.rnnrbm.sizes, nNotes = above - lowest;
  const sound = new Sound(), result = words(), rng = new RandomStreams(1);
  const yours = 'yours', tunes = {[yours]: {title: 'your melody', frames: []}};
  for (const [name, {title, frames}] of Object.entries(weights.tunes)) {
    tunes[name] = {title, frames: frames.map(frameOf)};
  }
  // What is shown: the frames, how many of them the model was given, and where the cursor is.
  let shown = {frames: [], nGiven: 0}, cursor = 0, playing = null;

  function frameOf(notes) {
    const frame = new Float32Array(nNotes);
    notes.forEach(note => { frame[note - lowest] = 1; });
    return frame;
  }

  function show(name) {
    stop();
    chosen.querySelector('select').value = name;
    const {frames, title} = tunes[name];
    shown = {frames, nGiven: frames.length, name};
    place(0);
    result.textContent = frames.length ? `${title}: ${frames.length} frames of ${dt} s`
      : 'Play some keys, and let the model go on.';
  }

  function place(frame) {
    cursor = frame;
    from.input.max = shown.frames.length;
    from.set(frame);
    roll.redraw();
  }

  function stop() {
    clearTimeout(playing);
    playing = null;
    sound.stop();
    play.textContent = 'play';
  }

  /** Hand the sound card what is soon due, and come back before it is over. */
  function start() {
    const context = sound.start(), first = cursor < shown.frames.length ? cursor : 0;
    const began = context.currentTime + 0.05;
    let next = first;
    play.textContent = 'pause';
    const advance = () => {
      const now = first + (context.currentTime - began) / dt;
      while (next < shown.frames.length && next < now + AHEAD / dt) {
        const at = began + (next - first) * dt;
        beginnings(shown.frames, next).forEach(
          ([note, length]) => sound.tone(lowest + note, at, length * dt));
        next++;
      }
      place(Math.min(shown.frames.length, Math.max(first, Math.floor(now))));
      if (cursor === shown.frames.length) stop();
      else playing = setTimeout(advance, 50);
    };
    advance();
  }

  /** Up to the cursor, or all if it is at an end, and then what the model makes up. */
  async function goOn() {
    stop();
    const inside = cursor > 0 && cursor < shown.frames.length;
    const given = shown.frames.slice(0, inside ? cursor : shown.frames.length);
    goOnButton.disabled = true;
    result.textContent = 'The model makes up the rest.';
    const made = await inFrames(model.continued(given, NEW_FRAMES, rng));
    goOnButton.disabled = false;
    shown = {frames: [...given, ...made], nGiven: given.length, name: shown.name};
    place(given.length);
    result.textContent = `${given.length} frames were given, and ${made.length} are made up, with `
      + `${(sum(made.map(sum)) / made.length).toFixed(1)} notes in each`;
  }

  function press(note) {
    sound.start();
    sound.tone(note, sound.context.currentTime, HELD * dt);
    for (let i = 0; i < HELD; i++) tunes[yours].frames.push(frameOf([note]));
    show(yours);
    place(shown.frames.length);
  }

  const roll = new Picture('the piano-roll', {
    width: 680, height: 240, draw(context, width, height) {
      const n = Math.max(1, shown.frames.length), w = width / n, h = height / nNotes;
      context.fillStyle = colour('grey');
      context.globalAlpha = 0.15;
      context.fillRect(0, 0, width, height);
      context.globalAlpha = 1;
      shown.frames.forEach((frame, t) => {
        context.fillStyle = colour(t < shown.nGiven ? 'blue' : 'orange');
        frame.forEach((on, note) => {
          if (on) context.fillRect(t * w, (nNotes - 1 - note) * h, w + 0.3, h);
        });
      });
      context.fillStyle = colour('ink');
      context.fillRect(Math.min(width - 2, cursor * w), 0, 2, height);
    }});
  roll.canvas.addEventListener('click', event => {
    const {left, width} = roll.canvas.getBoundingClientRect();
    stop();
    place(Math.floor((event.clientX - left) / width * shown.frames.length));
  });
  const from = slider('cursor', {min: 0, max: 1, step: 1, value: 0,
                                 change: value => { stop(); place(value); }});
  const chosen = choice('tune', Object.fromEntries(
    Object.entries(tunes).map(([name, {title}]) => [name, title])), show);
  const play = button('play', () => playing === null ? start() : stop());
  const goOnButton = button('go on with it', goOn);
  const piano = element('div', {className: 'live-piano', keydown(event) {
    const key = event.ctrlKey || event.altKey || event.metaKey ? -1 : KEYS.indexOf(event.key);
    if (key >= 0 && event.key.length === 1) {
      press(60 + key);
      event.stopPropagation();
    }
  }}, ...[...KEYS].map((letter, i) => {
    const name = ['C', 'C♯', 'D', 'D♯', 'E', 'F', 'F♯', 'G', 'G♯', 'A', 'A♯', 'B'][i % 12];
    return element('button', {type: 'button', title: `${name}, key ${letter}`,
                              className: name.length > 1 ? 'live-black' : '',
                              click: () => press(60 + i)}, name);
  }));
  stage.append(
    row(chosen, play, goOnButton, button('clear your melody', () => {
      tunes[yours].frames = [];
      show(yours);
    })),
    row(from.element), roll.canvas,
    legend({blue: 'given', orange: 'made up in this page'}), result,
    element('div', {}, 'A piano, for the mouse, a finger or, when one of its keys has the focus, '
      + `the keys ${[...KEYS].join(' ')}`), piano);
  show(Object.keys(weights.tunes)[0]);
};
