'use strict';
// After: engine.js
/* What the figures stand on: elements, sliders, canvases in the colours of the page, and work in
   pieces that never hold up the page.

   The book leaves <div class="live" data-figure="NAME" data-models="..."> where a figure goes.
   The file of the figure puts a function `figures.NAME(box, models)` into the table below. It is
   called when the page has been read. */

const figures = {};
const MODELS = {};  // from parameters and sizes to a model, by the name of the script

/** An element of HTML: its attributes, and what it holds. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function button(text, onClick) {
  const made = element('button', {type: 'button'}, text);
  made.addEventListener('click', onClick);
  return made;
}

/** A slider with its name and value: `value` to read, `set(value)` to move, `element` to place.

    @param toText what is written for a value */
class Slider {
  constructor(label, {min, max, step, value, toText = String, onInput}) {
    this.input = element('input', {type: 'range', min, max, step});
    this.shown = element('output');
    this.toText = toText;
    this.element = element('label', {class: 'live-slider'}, element('span', {}, label), this.input,
                           this.shown);
    this.input.addEventListener('input', () => {
      this.show();
      onInput();
    });
    this.set(value);
  }

  get value() {
    return Number(this.input.value);
  }

  set(value) {
    this.input.value = value;
    this.show();
  }

  show() {
    this.shown.textContent = this.toText(this.value);
    this.input.setAttribute('aria-valuetext', this.shown.textContent);
  }
}

/** A list to choose from, of [value, text]: `value` to read, `element` to place. */
class Choice {
  constructor(label, options, onChange) {
    this.select = element('select', {}, ...options.map(
      ([value, text]) => element('option', {value}, text)));
    this.element = element('label', {class: 'live-choice'}, element('span', {}, label), this.select);
    this.select.addEventListener('change', onChange);
  }

  get value() {
    return this.select.value;
  }
}

const reducedMotion = matchMedia('(prefers-reduced-motion: reduce)');

/** A colour of the theme, such as 'foreground-primary', as the page shows it now. */
function themeColour(name) {
  return getComputedStyle(document.body).getPropertyValue(`--color-${name}`).trim();
}

/** The same as numbers: red, green and blue, up to 255. */
function themeRGB(name) {
  const context = element('canvas', {width: 1, height: 1}).getContext('2d');
  context.fillStyle = themeColour(name);
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
}

/** Call a function whenever the page has become dark or light. */
function onTheme(draw) {
  new MutationObserver(draw).observe(document.body, {attributeFilter: ['data-theme']});
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
}

/** A canvas of so many units of the drawing a side, as sharp as the screen is.

    @return its context, in which a unit is one unit */
function sharpCanvas(width, height, attributes) {
  const canvas = element('canvas', attributes);
  const scale = Math.min(devicePixelRatio || 1, 3);
  canvas.width = width * scale;
  canvas.height = height * scale;
  const context = canvas.getContext('2d');
  context.scale(scale, scale);
  return context;
}

/** Draw tiles of numbers from `low`, in the colour of the ground, to `high`, in that of the text.

    @param images one after the other in an array, each of rows x columns
    @param across how many tiles stand side by side; there is a pixel between them */
function drawTiles(canvas, images, [rows, columns], {across = 1, low = 0, high = 1} = {}) {
  const n = images.length / (rows * columns);
  canvas.width = across * (columns + 1) - 1;
  canvas.height = Math.ceil(n / across) * (rows + 1) - 1;
  const context = canvas.getContext('2d');
  const [ground, ink] = [themeRGB('background-primary'), themeRGB('foreground-primary')];
  const tile = context.createImageData(columns, rows);
  for (let image = 0; image < n; image++) {
    for (let i = 0; i < rows * columns; i++) {
      const share = (images[image * rows * columns + i] - low) / (high - low);
      for (let c = 0; c < 3; c++) tile.data[4 * i + c] = ground[c] + share * (ink[c] - ground[c]);
      tile.data[4 * i + 3] = 255;
    }
    context.putImageData(tile, image % across * (columns + 1),
                         Math.floor(image / across) * (rows + 1));
  }
}

const MILLISECONDS_A_FRAME = 8;  // of work, half of what there is

/** Runs generators in pieces between two frames; a new one puts an end to the one before. */
class InFrames {
  run(generator, whenDone = () => {}) {
    this.stop();
    const go = () => {
      const end = performance.now() + MILLISECONDS_A_FRAME;
      do {
        const {done, value} = generator.next();
        if (done) {
          this.request = undefined;
          return whenDone(value);
        }
      } while (performance.now() < end);
      this.request = requestAnimationFrame(go);
    };
    this.request = requestAnimationFrame(go);
  }

  stop() {
    cancelAnimationFrame(this.request);
    this.request = undefined;
  }

  get isRunning() {
    return this.request !== undefined;
  }
}

/** The model of this name, from the weights of the page. A generator, as its parameters are many. */
function* load(name) {
  return MODELS[name](yield* parameters(name), weights[name].sizes);
}

document.addEventListener('DOMContentLoaded', () => {
  for (const box of document.querySelectorAll('div.live')) {
    figures[box.dataset.figure](box, box.dataset.models.split(' ').filter(Boolean));
    box.parentElement.classList.add('is-live');
  }
});
