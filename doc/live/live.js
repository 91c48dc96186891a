'use strict';
/* What the figures stand on: elements of the page, canvases in the colours of the book, work in
   pieces, and buttons that play.

   A figure is a function of its stage, the empty element in which it builds itself:
   `figures.NAME = async function (stage) {...}`. Until it has, the picture that was there before
   stays; on paper, and where no scripts run, there is nothing but that picture.
*/

const figures = {};
const BUDGET = 6;  // milliseconds of work in a frame; the rest of its 16 is the browser's

/** An element of the page; attributes that are functions are listeners. */
function element(tag, attributes = {}, ...children) {
  const result = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') result.addEventListener(name, value);
    else if (name in result) result[name] = value;
    else result.setAttribute(name, value);
  }
  result.append(...children);
  return result;
}

/** A row of controls, or a column of what belongs together. */
const row = (...children) => element('div', {className: 'live-row'}, ...children);
const column = (...children) => element('div', {className: 'live-column'}, ...children);

const button = (label, click) => element('button', {type: 'button', click}, label);

/** A slider with its name and its value: `input` has the value as `Number(input.value)`.
    `show` makes words of a value; `change` is called with a new one. */
function slider(label, {min, max, step, value, show = String, change}) {
  const input = element('input', {
    type: 'range', ariaLabel: label, min, max, step,
    input: () => { tell(); change(Number(input.value)); }});
  input.value = value;  // after its limits, or it would be cut to others
  const output = element('output');
  const tell = () => {
    output.value = show(Number(input.value));
    input.setAttribute('aria-valuetext', output.value);
  };
  tell();
  return {
    input, set(value) { input.value = value; tell(); },
    element: element('label', {className: 'live-slider'}, element('span', {}, label), input,
                     output)};
}

/** A choice among a few: `options` from values to labels; `change` is called with a value. */
function choice(label, options, change) {
  const select = element('select', {ariaLabel: label, change: () => change(select.value)},
    ...Object.entries(options).map(([value, text]) => element('option', {value}, text)));
  return element('label', {className: 'live-choice'}, element('span', {}, label), select);
}

/** A line of words that a screen reader reads out when it changes. */
const words = () => element('p', {className: 'live-words', role: 'status'});

/** The names of what is in a plot, each in its colour. */
function legend(names) {
  return element('div', {className: 'live-legend'}, ...Object.entries(names).map(
    ([name, text]) => element('span', {}, element('i', {className: `live-${name}`}), text)));
}

/** A colour of the book, light or dark: ink, ground, grey, blue, orange, green, violet. */
const colour = name => getComputedStyle(document.body).getPropertyValue(`--live-${name}`);

/** A canvas that is drawn again when it changes its size or the page its colours.
    `draw(context, width, height)` is in pixels of CSS. */
class Picture {
  constructor(label, {width, height, minHeight = 0, draw}) {
    this.canvas = element('canvas', {className: 'live-picture', role: 'img', ariaLabel: label});
    this.canvas.style.maxWidth = `${width}px`;
    this.canvas.style.aspectRatio = `${width} / ${height}`;
    this.canvas.style.minHeight = `${minHeight}px`;
    this.draw = draw;
    this.isWaiting = false;
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
    Picture.all.add(this);
  }

  /** Draw in the next frame, once, however often it was asked for. */
  redraw() {
    if (this.isWaiting) return;
    this.isWaiting = true;
    requestAnimationFrame(() => {
      this.isWaiting = false;
      const {clientWidth: width, clientHeight: height} = this.canvas;
      if (width === 0) return;
      const scale = window.devicePixelRatio;
      this.canvas.width = Math.round(width * scale);
      this.canvas.height = Math.round(height * scale);
      const context = this.canvas.getContext('2d');
      context.scale(scale, scale);
      context.font = `13px ${getComputedStyle(document.body).fontFamily}`;
      this.draw(context, width, height);
    });
  }
}
Picture.all = new Set();

{
  const redrawAll = () => Picture.all.forEach(picture => picture.redraw());
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redrawAll);
  new MutationObserver(redrawAll).observe(document.body, {attributeFilter: ['data-theme']});
}

/** Grey levels from 0 to 1 as a picture of (rows, columns), black to white, with sharp pixels. */
function drawPixels(context, pixels, shape, left, top, width, height) {
  context.fillStyle = 'black';
  context.fillRect(left, top, width, height);
  drawMask(context, pixels, shape, left, top, width, height, null);
}

/** The same in a colour of the book, or in white, over what is there; 0 lets it through. */
function drawMask(context, pixels, [rows, columns], left, top, width, height, name) {
  const small = new OffscreenCanvas(columns, rows), inside = small.getContext('2d');
  const image = new ImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) image.data[4 * i + 3] = 255 * pixels[i];
  inside.putImageData(image, 0, 0);
  inside.globalCompositeOperation = 'source-in';
  inside.fillStyle = name === null ? 'white' : colour(name);
  inside.fillRect(0, 0, columns, rows);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, left, top, width, height);
}

/** A picture of pixels, of the shape of the images if no other is given. */
function pixelPicture(label, width, pixels, shape = weights.images.image_shape) {
  return new Picture(label, {width, height: width * shape[0] / shape[1], draw(context, w, h) {
    drawPixels(context, pixels(), shape, 0, 0, w, h);
  }});
}

/** Many small images of one shape in one array, in a grid with gaps. */
function tiled(images, [rows, columns], across) {
  const n = images.length / (rows * columns), down = Math.ceil(n / across);
  const shape = [down * (rows + 1) - 1, across * (columns + 1) - 1];
  const result = new Float32Array(shape[0] * shape[1]);
  for (let i = 0; i < images.length; i++) {
    const tile = Math.floor(i / (rows * columns)), inside = i % (rows * columns);
    const y = Math.floor(tile / across) * (rows + 1) + Math.floor(inside / columns);
    result[y * shape[1] + tile % across * (columns + 1) + inside % columns] = images[i];
  }
  return {pixels: result, shape};
}

let nAtWork = 0;  // generators that are not done; the tests wait for none

/** Do the work of a generator, a few milliseconds in each frame. Returns a promise of its value. */
function inFrames(work) {
  nAtWork++;
  return new Promise((resolve, reject) => {
    function frame() {
      const end = performance.now() + BUDGET;
      try {
        do {
          const {done, value} = work.next();
          if (done) return resolve(value);
        } while (performance.now() < end);
        requestAnimationFrame(frame);
      } catch (error) {
        reject(error);
      }
    }
    requestAnimationFrame(frame);
  }).finally(() => { nAtWork--; });
}

/** The model of these weights; its parameters are many, and decoded in pieces. */
async function load(name) {
  const {script, sizes} = weights[name];
  return MODELS[script](await inFrames(parameters(name)), sizes);
}

/** The names of the weights of a figure, but for the images. */
const modelsOf = stage => stage.dataset.weights.split(' ').filter(name => name !== 'images');

/** A function that does the work of `generate()`; called meanwhile, it does it once more then. */
function repeatable(generate) {
  let isRunning = false, isOld = false;
  return async function () {
    isOld = true;
    if (isRunning) return;
    isRunning = true;
    try {
      while (isOld) {
        isOld = false;
        await inFrames(generate());
      }
    } finally {
      isRunning = false;
    }
  };
}

/** A button that plays and pauses: `step()` is called so often a second while the figure is seen,
    and once a second for a reader who prefers less motion. It returns false to stop. */
class Player {
  constructor(label, perSecond, step) {
    this.button = button(label, () => this.isPlaying ? this.pause() : this.play());
    this.label = label;
    this.perSecond = perSecond;
    this.step = step;
    this.isPlaying = false;
    this.isSeen = true;
    new IntersectionObserver(entries => { this.isSeen = entries.at(-1).isIntersecting; })
      .observe(this.button);
  }

  play() {
    this.isPlaying = true;
    this.button.textContent = 'pause';
    let last = -Infinity;
    const frame = now => {
      if (!this.isPlaying) return;
      const rate = matchMedia('(prefers-reduced-motion: reduce)').matches ? 1 : this.perSecond;
      if (this.isSeen && now - last >= 1000 / rate - 2) {  // frames come a little early or late
        last = now;
        if (this.step() === false) return this.pause();
      }
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  pause() {
    this.isPlaying = false;
    this.button.textContent = this.label;
  }
}

/** Build the figure when it is about to be seen. */
async function start(stage) {
  try {
    await figures[stage.dataset.figure](stage);
    stage.parentElement.classList.add('live-runs');
  } catch (error) {
    stage.replaceChildren(element('p', {role: 'alert'}, 'This figure does not run in this browser '
      + `(${error.message}); the picture stands for it.`));
    throw error;
  }
}

document.addEventListener('DOMContentLoaded', () => {
  const near = new IntersectionObserver(entries => {
    for (const {isIntersecting, target} of entries) {
      if (isIntersecting) {
        near.unobserve(target);
        start(target);
      }
    }
  }, {rootMargin: '100% 0%'});
  document.querySelectorAll('.live-stage').forEach(stage => near.observe(stage));
});
