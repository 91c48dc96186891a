'use strict';
// After: figure.js weights/digits.js
/* Digits: drawn by hand, prepared as those of MNIST were, and moved.

   A drawing is a list of strokes, each a list of points [x, y]. An image is a Float32Array of
   28 x 28 numbers from 0 to 1, row by row, its pixel (row, column) at [column + 1/2, row + 1/2]. */

const SIDE = 28;
const BOX = 20;  // into which a digit is fitted
const PEN = 2.6;  // the width of a stroke, in pixels

/** The image of strokes: a pixel is the darker the more of it lies under the pen. */
function raster(strokes) {
  const image = new Float32Array(SIDE ** 2);
  for (const stroke of strokes) {
    for (let n = 0; n < stroke.length; n++) {
      const [[x0, y0], [x1, y1]] = [stroke[Math.max(n - 1, 0)], stroke[n]];
      const [dx, dy] = [x1 - x0, y1 - y0];
      const length2 = dx * dx + dy * dy || 1;
      const near = (a, b) => [Math.max(Math.floor(Math.min(a, b) - PEN), 0),
                              Math.min(Math.ceil(Math.max(a, b) + PEN), SIDE)];
      const [[left, right], [top, bottom]] = [near(x0, x1), near(y0, y1)];
      for (let row = top; row < bottom; row++) {
        for (let column = left; column < right; column++) {
          const [x, y] = [column + 0.5 - x0, row + 0.5 - y0];
          const along = Math.min(Math.max((x * dx + y * dy) / length2, 0), 1);
          const distance = Math.hypot(x - along * dx, y - along * dy);
          const ink = Math.min(Math.max(PEN / 2 + 0.5 - distance, 0), 1);
          const i = row * SIDE + column;
          image[i] = Math.max(image[i], ink);
        }
      }
    }
  }
  return image;
}

/** Where the ink of an image is on average, [x, y]. */
function centreOfMass(image) {
  let [x, y] = [0, 0];
  image.forEach((ink, i) => {
    x += ink * (i % SIDE + 0.5);
    y += ink * (Math.floor(i / SIDE) + 0.5);
  });
  return [x / sum(image), y / sum(image)];
}

/** The image of a drawing, as MNIST was prepared: fitted into 20 x 20 pixels in its own
    proportions, its centre of mass in the middle of 28 x 28. */
function prepared(strokes) {
  const points = strokes.flat();
  if (points.length === 0) return new Float32Array(SIDE ** 2);
  const sides = [0, 1].map(axis => {
    const values = points.map(point => point[axis]);
    return [Math.min(...values), Math.max(...values)];
  });
  const extent = Math.max(...sides.map(([low, high]) => high - low));
  const scale = extent > 0 ? (BOX - PEN) / extent : 1;
  const placed = (middle, target) => strokes.map(stroke => stroke.map(point => point.map(
    (value, axis) => (value - middle[axis]) * scale + target[axis])));
  const middle = sides.map(([low, high]) => (low + high) / 2);
  const mass = centreOfMass(raster(placed(middle, [SIDE / 2, SIDE / 2])));
  return raster(placed(middle, mass.map(value => SIDE - value)));
}

/** An image moved by so many pixels, turned about its middle by so many degrees, and its strokes
    made thicker by so many pixels on each side, or thinner if these are negative. */
function moved(image, {right, down, degrees, thicker}) {
  const at = (x, y) => x < 0 || y < 0 || x >= SIDE || y >= SIDE ? 0 : image[y * SIDE + x];
  const [cos, sin] = [Math.cos(degrees * Math.PI / 180), Math.sin(degrees * Math.PI / 180)];
  const middle = (SIDE - 1) / 2;
  const turned = new Float32Array(SIDE ** 2);
  for (let i = 0; i < SIDE ** 2; i++) {
    // Where this pixel was before, between four others.
    const [x, y] = [i % SIDE - middle - right, Math.floor(i / SIDE) - middle - down];
    const [fromX, fromY] = [cos * x + sin * y + middle, cos * y - sin * x + middle];
    const [column, row] = [Math.floor(fromX), Math.floor(fromY)];
    const [u, v] = [fromX - column, fromY - row];
    turned[i] = (1 - v) * ((1 - u) * at(column, row) + u * at(column + 1, row))
      + v * ((1 - u) * at(column, row + 1) + u * at(column + 1, row + 1));
  }
  const extreme = thicker < 0 ? Math.min : Math.max;
  return turned.map((ink, i) => {
    const column = i % SIDE;
    const neighbours = [ink, turned[i - SIDE] || 0, turned[i + SIDE] || 0,
                        column > 0 ? turned[i - 1] : 0, column < SIDE - 1 ? turned[i + 1] : 0];
    return ink + Math.abs(thicker) * (extreme(...neighbours) - ink);
  });
}

/** The test images that the page has: [{label, image}]. */
function storedDigits() {
  const bytes = Uint8Array.from(atob(weights.digits.images), c => c.charCodeAt(0));
  return weights.digits.labels.map((label, n) => ({
    label, image: Float32Array.from(bytes.subarray(n * SIDE ** 2, (n + 1) * SIDE ** 2),
                                    byte => byte / 256)}));
}

const PAD = 200;  // units of the drawing, a side
const KEY_STEP = PAD / 40;

/** A square to draw in, by mouse, finger or keys: the arrows move a pen, the space bar lowers and
    lifts it, Delete clears. `strokes` has what was drawn.

    @param onChange called when the drawing has changed */
class Pad {
  constructor(onChange) {
    this.context = sharpCanvas(PAD, PAD, {
      class: 'live-pad', tabindex: 0, role: 'application',
      'aria-label': 'Draw a digit. Arrow keys move the pen, space lowers and lifts it, '
                    + 'Delete clears.'});
    this.canvas = this.context.canvas;
    this.onChange = onChange;
    this.strokes = [];
    this.isDown = false;
    this.pen = [PAD / 2, PAD / 4];
    this.canvas.addEventListener('pointerdown', event => {
      this.canvas.setPointerCapture(event.pointerId);
      this.begin(this.place(event));
    });
    this.canvas.addEventListener('pointermove', event => {
      if (this.isDown && this.canvas.hasPointerCapture(event.pointerId)) {
        this.go(this.place(event));
      }
    });
    for (const end of ['pointerup', 'pointercancel']) {
      this.canvas.addEventListener(end, () => {
        this.isDown = false;
        this.draw();
      });
    }
    this.canvas.addEventListener('keydown', event => this.key(event));
    for (const change of ['focus', 'blur']) {
      this.canvas.addEventListener(change, () => this.draw());
    }
    onTheme(() => this.draw());
    this.draw();
  }

  place(event) {
    const {left, top, width} = this.canvas.getBoundingClientRect();
    return [(event.clientX - left) * PAD / width, (event.clientY - top) * PAD / width];
  }

  begin(point) {
    this.isDown = true;
    this.pen = point;
    this.strokes.push([point]);
    this.changed();
  }

  go(point) {
    this.pen = point.map(value => Math.min(Math.max(value, 0), PAD));
    if (this.isDown) {
      const stroke = this.strokes.at(-1);
      // Points closer than a pixel of the image would cost time and change nothing.
      const last = stroke.at(-1);
      if (Math.hypot(last[0] - this.pen[0], last[1] - this.pen[1]) < PAD / 80) return;
      stroke.push(this.pen);
    }
    this.changed();
  }

  clear() {
    this.strokes = [];
    this.isDown = false;
    this.changed();
  }

  key(event) {
    const arrows = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
    if (event.key in arrows) {
      this.go(this.pen.map((value, axis) => value + KEY_STEP * arrows[event.key][axis]));
    } else if (event.key === ' ') {
      if (this.isDown) this.isDown = false;
      else this.begin(this.pen);
      this.draw();
    } else if (event.key === 'Delete' || event.key === 'Backspace') {
      this.clear();
    } else {
      return;
    }
    // Neither shall the page scroll, nor the book turn to the next chapter.
    event.preventDefault();
    event.stopPropagation();
  }

  changed() {
    this.draw();
    this.onChange();
  }

  draw() {
    const context = this.context;
    context.clearRect(0, 0, PAD, PAD);
    context.lineCap = context.lineJoin = 'round';
    context.lineWidth = PAD / 12;
    context.strokeStyle = themeColour('foreground-primary');
    for (const stroke of this.strokes) {
      context.beginPath();
      context.moveTo(...stroke[0]);
      for (const point of stroke) context.lineTo(...point);
      context.stroke();
    }
    if (document.activeElement === this.canvas) {
      context.lineWidth = 2;
      context.strokeStyle = themeColour('brand-primary');
      context.beginPath();
      context.arc(...this.pen, this.isDown ? 5 : 9, 0, 2 * Math.PI);
      context.stroke();
    }
  }
}
