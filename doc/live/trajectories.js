'use strict';
// After: figure.js hmc.js
/* The figure of the ball: Hybrid Monte Carlo beside a random walk. */

const ENERGIES = {gaussian: gaussian(0.85), ring: ring(1.8, 0.3), modes: modes(1.5, 0.5)};
const TITLES_OF_ENERGIES = [['gaussian', 'a Gaussian'], ['ring', 'a ring'], ['modes', 'two modes']];
const START = [-1.5, -1.1];
const REACH = 3.2;  // what is shown of the plane, from -REACH to REACH
const PLANE = 260;  // units of the drawing
const LEVELS = [0.25, 0.5, 1, 2, 4, 8];
const SAMPLES_SHOWN = 1000;
const MOVES_AT_ONCE = 100;
const PAUSE = 400;  // milliseconds from move to move where no motion is wanted

/** The plane with contour lines, samples, and a path over it. */
class Plane {
  constructor(label) {
    this.context = sharpCanvas(PLANE, PLANE, {role: 'img', 'aria-label': label});
    this.element = element('div', {}, this.context.canvas, element('small', {}, label));
  }

  /** Where a position is in the drawing. */
  at([x, y]) {
    return [(x + REACH) / (2 * REACH) * PLANE, (REACH - y) / (2 * REACH) * PLANE];
  }

  /** Find the contour lines, cell by cell of a grid: a line joins the points on the sides of a cell
      where the energy crosses the level. */
  setEnergy({energy}) {
    const n = 64;
    const points = [...Array(n + 1).keys()].map(i => (2 * i / n - 1) * REACH);
    const heights = points.map(y => points.map(x => energy([x, y])));
    this.contours = new Path2D();
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) {
        const corners = [[i, j], [i, j + 1], [i + 1, j + 1], [i + 1, j]];
        for (const level of LEVELS) {
          const crossings = [];
          corners.forEach(([row, column], k) => {
            const [otherRow, otherColumn] = corners[(k + 1) % 4];
            const [a, b] = [heights[row][column] - level, heights[otherRow][otherColumn] - level];
            if (a < 0 === b < 0) return;
            const share = a / (a - b);
            crossings.push([points[column] + share * (points[otherColumn] - points[column]),
                            points[row] + share * (points[otherRow] - points[row])]);
          });
          for (let k = 0; k + 1 < crossings.length; k += 2) {
            this.contours.moveTo(...this.at(crossings[k]));
            this.contours.lineTo(...this.at(crossings[k + 1]));
          }
        }
      }
    }
  }

  draw(samples, path, isRefused) {
    const context = this.context;
    context.clearRect(0, 0, PLANE, PLANE);
    context.lineWidth = 0.7;
    context.strokeStyle = themeColour('foreground-muted');
    context.stroke(this.contours);
    context.fillStyle = themeColour('foreground-secondary');
    for (const sample of samples.slice(-SAMPLES_SHOWN)) {
      const [x, y] = this.at(sample);
      context.fillRect(x - 1, y - 1, 2, 2);
    }
    if (path.length === 0) return;
    context.strokeStyle = context.fillStyle = themeColour(isRefused ? 'foreground-primary'
                                                                    : 'brand-primary');
    context.lineWidth = 1.5;
    context.setLineDash(isRefused ? [3, 3] : []);
    context.beginPath();
    for (const pos of path) context.lineTo(...this.at(pos));
    context.stroke();
    context.setLineDash([]);
    context.beginPath();
    context.arc(...this.at(path.at(-1)), 5, 0, 2 * Math.PI);
    context.fill();
  }
}

/** What a chain has come to. */
class Chain {
  constructor() {
    this.pos = START;
    this.samples = [];
    this.nAccepted = 0;
  }

  add(end, accept) {
    if (accept) this.pos = end;
    this.nAccepted += accept;
    this.samples.push(this.pos);
  }

  get text() {
    const n = this.samples.length;
    if (n === 0) return 'no move yet';
    const mean = sum(this.samples.map(([x]) => x)) / n;
    return `${n} moves, ${(100 * this.nAccepted / n).toFixed(0)} % accepted, `
      + `mean of s₁ ${mean.toFixed(2)}`;
  }
}

const ERROR_WIDTH = 540;
const ERROR_HEIGHT = 90;

class Trajectories {
  constructor(box) {
    this.planes = [new Plane('Hybrid Monte Carlo'), new Plane('random walk')];
    this.texts = this.planes.map(plane => {
      const text = element('p', {class: 'live-said'});
      plane.element.append(text);
      return text;
    });
    this.errors = sharpCanvas(ERROR_WIDTH, ERROR_HEIGHT, {
      class: 'live-wide', role: 'img', 'aria-label': 'The error of the energy along the path'});
    this.errorText = element('small');
    this.energy = new Choice('energy', TITLES_OF_ENERGIES, () => this.reset());
    const slider = (label, min, max, step, value) => new Slider(label, {
      min, max, step, value, onInput: () => this.reset()});
    this.stepsize = slider('step size', 0.02, 1.8, 0.02, 0.12);
    this.n_steps = slider('steps', 1, 60, 1, 12);
    this.mass = slider('mass', 0.25, 4, 0.25, 1);
    this.play = button('play', () => this.playing ? this.pause() : this.start());
    box.append(
      element('div', {class: 'live-row'}, ...this.planes.map(plane => plane.element)),
      this.errors.canvas, this.errorText,
      element('div', {class: 'live-buttons'}, this.energy.element, this.play,
              button('one move', () => this.moveAtOnce(1)),
              button(`${MOVES_AT_ONCE} moves`, () => this.moveAtOnce(MOVES_AT_ONCE)),
              button('from the start', () => this.reset())),
      element('div', {class: 'live-sliders'},
              ...[this.stepsize, this.n_steps, this.mass].map(made => made.element)));
    onTheme(() => this.draw());
    this.reset();
  }

  reset() {
    this.rng = new RandomStreams(1);
    this.chains = [new Chain(), new Chain()];
    for (const plane of this.planes) plane.setEnergy(ENERGIES[this.energy.value]);
    this.move = undefined;
    this.walked = [];
    this.shown = 0;
    this.draw();
  }

  start() {
    this.playing = true;
    this.play.textContent = 'pause';
    this.frame();
  }

  pause() {
    this.playing = false;
    this.play.textContent = 'play';
    clearTimeout(this.timer);
    cancelAnimationFrame(this.request);
  }

  /** A leapfrog step in a frame; or a move at a time, where no motion is wanted. */
  frame() {
    if (reducedMotion.matches) {
      this.makeMove();
      this.timer = setTimeout(() => this.frame(), PAUSE);
    } else {
      if (this.move === undefined || this.shown === this.move.path.length) this.makeMove(1);
      else this.shown++;
      this.request = requestAnimationFrame(() => this.frame());
    }
    this.draw();
  }

  /** Move both chains, the random walk by a step for each gradient of the path.

      @param shown how much of the path is shown, in steps; all if left out */
  makeMove(shown) {
    const [ball, walk] = this.chains;
    const energy_fn = ENERGIES[this.energy.value];
    const [stepsize, n_steps, mass] = [this.stepsize.value, this.n_steps.value, this.mass.value];
    this.move = hmc_move(this.rng, ball.pos, energy_fn, stepsize, n_steps, mass);
    const [end] = this.move.path.at(-1);
    ball.add(end, this.move.accept);
    this.walked = [walk.pos];
    for (let gradient = 0; gradient <= n_steps; gradient++) {
      const {end, accept} = random_walk_move(this.rng, walk.pos, energy_fn, stepsize, mass);
      walk.add(end, accept);
      this.walked.push(walk.pos);
    }
    this.shown = shown ?? this.move.path.length;
  }

  moveAtOnce(n) {
    this.pause();
    for (let i = 0; i < n; i++) this.makeMove();
    this.draw();
  }

  draw() {
    const path = (this.move?.path ?? []).slice(0, this.shown).map(([pos]) => pos);
    const isOver = this.shown === this.move?.path.length;
    const [ball, walk] = this.chains;
    this.planes[0].draw(ball.samples, path, isOver && !this.move.accept);
    this.planes[1].draw(walk.samples, this.walked.slice(0, this.shown + 1), false);
    this.chains.forEach((chain, i) => { this.texts[i].textContent = chain.text; });
    this.drawErrors();
  }

  /** H along the path, minus H at its start. */
  drawErrors() {
    const context = this.errors;
    context.clearRect(0, 0, ERROR_WIDTH, ERROR_HEIGHT);
    const errors = (this.move?.energies ?? [0]).map((H, _, all) => H - all[0]);
    const largest = Math.max(...errors.map(Math.abs).filter(Number.isFinite));
    const scale = Math.max(largest, 0.1);
    const at = (step, error) => [10 + step / this.n_steps.value * (ERROR_WIDTH - 20),
                                 ERROR_HEIGHT / 2 - error / scale * (ERROR_HEIGHT / 2 - 8)];
    const line = (points, colour) => {
      context.strokeStyle = themeColour(colour);
      context.beginPath();
      for (const point of points) context.lineTo(...point);
      context.stroke();
    };
    context.lineWidth = 1;
    line([at(0, 0), at(this.n_steps.value, 0)], 'foreground-muted');
    context.lineWidth = 2;
    line(errors.slice(0, this.shown).map((error, step) => at(step, error)), 'brand-primary');
    this.errorText.textContent = this.move === undefined
      ? 'the error of the energy along the path, step by step'
      : `the error of the energy along the path, step by step: at most ${largest.toPrecision(2)}, `
        + `${errors.at(-1).toPrecision(2)} at the end, so `
        + (this.move.accept ? 'the move is accepted' : 'it stays where it was');
  }
}

figures.trajectories = box => new Trajectories(box);
