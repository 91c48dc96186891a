'use strict';
// After: engine.js live.js
/* Images in the page: a pad to draw them, and how a drawing becomes an image as those of the data
   set are.

   `weights.images` knows the data set: some of its images and their labels, their shape, the names
   of the classes, whether they were prepared as MNIST was, and how bright their ground is, 0 or 1. */

const SIZE = 28;  // pixels of an image of MNIST on each side
const BOX = 20;   // of the square in its middle that a digit fits into
const PAD = 140;  // of the pad
const PEN = 6;    // radius of the pen in pixels of the pad
const START = [PAD / 2, PAD / 4];  // where the keyboard's pen begins

/** The test images of the page: labels, and images in [0, 1). */
function testImages() {
  const {labels, images, image_shape: [rows, columns]} = weights.images;
  const pixels = Float32Array.from(atob(images), character => character.charCodeAt(0) / 256);
  const n = rows * columns;
  return labels.map((label, i) => ({label, image: pixels.slice(i * n, (i + 1) * n)}));
}

const nPixels = () => weights.images.image_shape[0] * weights.images.image_shape[1];
const className = label => weights.images.classes[label];

/** A line of ink: each pixel nearer to it than the radius of the pen is 1, with a soft edge. */
function drawLine(ink, [x0, y0], [x1, y1]) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const [left, right] = [Math.min(x0, x1), Math.max(x0, x1)];
  const [top, bottom] = [Math.min(y0, y1), Math.max(y0, y1)];
  const reach = PEN + 1;
  for (let y = Math.max(0, Math.floor(top - reach)); y <= Math.min(PAD - 1, bottom + reach); y++) {
    for (let x = Math.max(0, Math.floor(left - reach)); x <= Math.min(PAD - 1, right + reach);
         x++) {
      const along = ((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy || 1);
      const t = Math.min(1, Math.max(0, along));
      const distance = Math.hypot(x - x0 - t * dx, y - y0 - t * dy);
      const value = Math.min(1, Math.max(0, PEN + 0.5 - distance));
      ink[y * PAD + x] = Math.max(ink[y * PAD + x], value);
    }
  }
}

/** Ink on a square of n x n pixels as MNIST was prepared: the larger side of the digit becomes 20
    pixels, each of them the mean of what it covers, and its centre of mass becomes the middle of
    28 x 28. Nothing drawn gives nothing. */
function prepared(ink, n) {
  let [left, right, top, bottom] = [n, -1, n, -1];
  let mass = 0, momentX = 0, momentY = 0;
  for (let y = 0; y < n; y++) {
    for (let x = 0; x < n; x++) {
      const value = ink[y * n + x];
      if (value === 0) continue;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y);
      mass += value;
      momentX += value * (x + 0.5);
      momentY += value * (y + 0.5);
    }
  }
  if (mass === 0) return new Float32Array(SIZE ** 2);
  const scale = (Math.max(right - left, bottom - top) + 1) / BOX;
  return means(ink, overlaps(momentX / mass, scale, n, SIZE),
               overlaps(momentY / mass, scale, n, SIZE));
}

/** Ink on a square of n x n pixels, as an image of the data set. */
function imageOf(ink, n) {
  const {image_shape: [rows, columns], is_like_mnist, ground} = weights.images;
  const image = is_like_mnist ? prepared(ink, n)
    : means(ink, overlaps(n / 2, n / columns, n, columns), overlaps(n / 2, n / rows, n, rows));
  return ground ? image.map(value => 1 - value) : image;
}

/** An image whose pixels are the means of what they cover of a square of n x n. */
function means(ink, across, down) {
  const n = Math.sqrt(ink.length), image = new Float32Array(down.length * across.length);
  down.forEach((rows, y) => across.forEach((columns, x) => {
    let sum = 0;
    for (const [i, height] of rows) {
      for (const [j, width] of columns) sum += height * width * ink[i * n + j];
    }
    image[y * across.length + x] = sum;
  }));
  return image;
}

/** For each of `length` pixels of the size `scale`, side by side around the centre, which of n small
    ones it covers, and which part of it they are: the one-dimensional half of the mean. */
function overlaps(centre, scale, n, length) {
  return Array.from({length}, (_, pixel) => {
    const from = centre + (pixel - length / 2) * scale, to = from + scale;
    const covered = [];
    for (let i = Math.max(0, Math.floor(from)); i < Math.min(n, to); i++) {
      covered.push([i, (Math.min(to, i + 1) - Math.max(from, i)) / scale]);
    }
    return covered;
  });
}

/** An image shifted by (dx, dy) pixels, turned by an angle in degrees, and thicker, or thinner for
    less than 0, by so many pixels on each side. */
function moved(image, {dx, dy, angle, thickness}) {
  let source = image;
  for (let left = Math.abs(thickness); left > 0; left--) {
    const isBrighter = thickness > 0 !== Boolean(weights.images.ground);
    source = spread(source, Math.min(1, left), isBrighter ? Math.max : Math.min);
  }
  const {image_shape: [rows, columns], ground} = weights.images;
  const at = (x, y) => x < 0 || y < 0 || x >= columns || y >= rows ? ground
    : source[y * columns + x];
  const turn = angle * Math.PI / 180, [midX, midY] = [(columns - 1) / 2, (rows - 1) / 2];
  const [cos, sin] = [Math.cos(turn), Math.sin(turn)];
  return source.map((_, i) => {
    const x = i % columns - midX - dx, y = Math.floor(i / columns) - midY - dy;
    const fromX = midX + cos * x + sin * y, fromY = midY - sin * x + cos * y;
    const [x0, y0] = [Math.floor(fromX), Math.floor(fromY)];
    const [u, v] = [fromX - x0, fromY - y0];
    return (1 - v) * ((1 - u) * at(x0, y0) + u * at(x0 + 1, y0))
      + v * ((1 - u) * at(x0, y0 + 1) + u * at(x0 + 1, y0 + 1));
  });
}

/** Each pixel goes a part of the way to the largest, or the smallest, of its neighbours. */
function spread(image, part, extreme) {
  const {image_shape: [rows, columns], ground} = weights.images;
  return image.map((value, i) => {
    const x = i % columns, y = Math.floor(i / columns);
    const beside = [x > 0 ? image[i - 1] : ground, x < columns - 1 ? image[i + 1] : ground,
                    y > 0 ? image[i - columns] : ground,
                    y < rows - 1 ? image[i + columns] : ground];
    return value + part * (extreme(value, ...beside) - value);
  });
}

/** A pad for mouse, finger and keyboard. `change` is called with the image that was drawn. */
class Pad {
  constructor(change) {
    this.ink = new Float32Array(PAD ** 2);
    this.cursor = START;
    this.isDown = false;
    this.hasKeys = false;  // whether the cursor of the keyboard is shown
    this.change = change;
    this.picture = new Picture('a pad to draw on: arrow keys move the pen, the space bar '
                               + 'lowers and lifts it, Delete clears the pad',
                               {width: 220, height: 220, draw: this.draw.bind(this)});
    const canvas = this.canvas = this.picture.canvas;
    canvas.tabIndex = 0;
    canvas.setAttribute('role', 'application');
    canvas.classList.add('live-pad');
    canvas.addEventListener('pointerdown', event => {
      canvas.setPointerCapture(event.pointerId);
      this.isDown = true;
      this.hasKeys = false;
      this.cursor = this.place(event);
      this.lineTo(this.cursor);
    });
    canvas.addEventListener('pointermove', event => {
      if (this.isDown && !this.hasKeys) this.lineTo(this.place(event));
    });
    for (const name of ['pointerup', 'pointercancel']) {
      canvas.addEventListener(name, () => { this.isDown = false; });
    }
    canvas.addEventListener('keydown', event => this.key(event));
    canvas.addEventListener('blur', () => {
      this.isDown = this.hasKeys = false;
      this.picture.redraw();
    });
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width * PAD,
            (event.clientY - box.top) / box.height * PAD];
  }

  lineTo(place) {
    if (this.isDown) drawLine(this.ink, this.cursor, place);
    this.cursor = place;
    this.changed();
  }

  key(event) {
    const [x, y] = this.cursor, step = PAD / 28;
    const inside = value => Math.min(PAD - PEN, Math.max(PEN, value));
    const move = {ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step],
                  ArrowDown: [0, step]}[event.key];
    if (move) this.lineTo([inside(x + move[0]), inside(y + move[1])]);
    else if (event.key === ' ') {
      this.isDown = !this.isDown;
      this.lineTo(this.cursor);
    } else if (event.key === 'Delete' || event.key === 'Backspace') this.clear();
    else return;
    this.hasKeys = true;
    event.preventDefault();
    event.stopPropagation();  // the arrow keys would turn the page of the book
  }

  clear() {
    this.ink.fill(0);
    this.cursor = START;
    this.isDown = false;
    this.changed();
  }

  changed() {
    this.picture.redraw();
    this.change(imageOf(this.ink, PAD));
  }

  draw(context, width, height) {
    drawPixels(context, this.ink, [PAD, PAD], 0, 0, width, height);
    if (!this.hasKeys) return;
    context.strokeStyle = this.isDown ? '#f0a050' : '#9ab';
    context.lineWidth = 2;
    context.beginPath();
    context.arc(...this.cursor.map(value => value / PAD * width), PEN / PAD * width, 0, 7);
    context.stroke();
  }
}

/** A pad, the test images, and sliders that move the drawing. `image` is what the model sees, and
    `change` is called when it is another one. */
class ImageInput {
  constructor(change) {
    this.change = change;
    this.tests = testImages();
    this.chosen = 0;
    this.original = this.image = this.tests[0].image;
    this.moves = {dx: 0, dy: 0, angle: 0, thickness: 0};
    this.pad = new Pad(image => {
      this.original = image;
      this.label.textContent = 'your drawing';
      this.update();
    });
    this.label = element('span', {}, this.name());
    this.seen = pixelPicture('the pixels that the model sees', 140, () => this.image);
    const pixels = value => `${value} px`;
    this.sliders = [['right', 'dx', 8, 1, pixels], ['down', 'dy', 8, 1, pixels],
                    ['turn', 'angle', 90, 5, value => `${value}°`],
                    ['thicken', 'thickness', 2, 0.25, pixels]].map(
      ([label, name, limit, step, show]) => slider(label, {
        min: -limit, max: limit, step, value: 0, show,
        change: value => { this.moves[name] = value; this.update(); }}));
    this.element = row(
      column(this.pad.canvas, row(button('clear', () => this.pad.clear()),
                                  button('a test image', () => this.next()))),
      column(element('div', {}, 'The model sees ', this.label), this.seen.canvas),
      column(...this.sliders.map(({element}) => element),
             row(button('as it was', () => this.reset()))));
  }

  name() {
    const {label} = this.tests[this.chosen];
    return label === null ? 'a test image' : `a test image, a ${className(label)}`;
  }

  next() {
    this.chosen = (this.chosen + 1) % this.tests.length;
    this.pad.clear();
    this.original = this.tests[this.chosen].image;
    this.label.textContent = this.name();
    this.update();
  }

  reset() {
    for (const name in this.moves) this.moves[name] = 0;
    this.sliders.forEach(each => each.set(0));
    this.update();
  }

  update() {
    this.image = moved(this.original, this.moves);
    this.seen.redraw();
    this.change();
  }
}

const percent = p => p > 0.9995 && p < 1 ? '>99.9 %' : `${(100 * p).toFixed(1)} %`;

/** A bar for each class and each model. */
class ProbabilityTable {
  constructor(titles) {
    const {classes} = weights.images;
    this.cells = titles.map(() => classes.map(() => {
      const bar = element('span', {className: 'live-bar'}), number = element('span');
      return {bar, number, cell: element('td', {}, bar, number)};
    }));
    this.element = element('table', {className: 'live-probabilities'},
      element('thead', {}, element('tr', {}, element('th', {}, 'class'), ...titles.map(
        title => element('th', {}, title)))),
      element('tbody', {}, ...classes.map((name, label) => element(
        'tr', {}, element('th', {}, name),
        ...this.cells.map(cells => cells[label].cell)))));
  }

  show(model, p) {
    this.cells[model].forEach(({bar, number, cell}, label) => {
      bar.style.width = `${100 * p[label]}%`;
      number.textContent = percent(p[label]);
      cell.classList.toggle('live-most', label === argmax(p));
    });
  }
}
