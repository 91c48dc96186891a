'use strict';
// After: hmc.js plot.js
/* A ball that samples, beside a random walk that may look at the energy as often. */

const ENERGIES = {
  gaussian: ['a Gaussian', gaussian_energy(0.85)],
  ring: ['a ring', ring_energy(2, 0.25)],
  modes: ['two modes', two_modes_energy(1.5, 0.5)],
};
const REACH = 3.2;  // of the plots, from the middle
const KEPT = 600;   // samples that are shown
const LEVELS = [0.25, 0.5, 1, 2, 4, 8];  // of energy, above the lowest

figures.ball = async function (stage) {
  const settings = {stepsize: 0.12, nSteps: 20, mass: 1};
  let energyFn, rng, ball, walk, path, move, counts;

  function begin() {
    rng = new RandomStreams(3);
    ball = {pos: [-1.8, -1.2], samples: []};
    walk = {pos: ball.pos, samples: []};
    [path, move, counts] = [[], null, {moves: 0, accepted: 0, ball: 0, walk: 0}];
    result.textContent = 'Roll the ball.';
    redraw();
  }

  /** One leapfrog step, and one of the walk; at the end of the path, whether it is accepted. */
  function step() {
    if (move === null) {
      move = hmc_move(rng, ball.pos, energyFn, settings.stepsize, settings.nSteps, settings.mass);
      path = [];
      walk.from = walk.pos;
    }
    const {done, value} = move.next();
    if (!done) {
      path.push(value);
      if (path.length > 1) walk.pos = random_walk_move(rng, walk.pos, energyFn, settings.stepsize);
    } else {
      move = null;
      counts.moves++;
      counts.accepted += value.accepted;
      counts.ball += distance(ball.pos, value.pos);
      counts.walk += distance(walk.from, walk.pos);
      ball.pos = value.pos;
      for (const {samples, pos} of [ball, walk]) {
        samples.push(pos);
        if (samples.length > KEPT) samples.shift();
      }
      tell(value);
    }
    redraw();
    return !done;
  }

  const distance = (a, b) => (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2;
  const wholeMove = () => { while (step()); };
  function* moves(n) {
    for (let i = 0; i < n; i++) {
      wholeMove();
      yield;
    }
  }

  function tell({error, accepted}) {
    const {moves, ball, walk} = counts;
    result.textContent = `Move ${moves}: the energy has changed by ${number(error)}, `
      + `${accepted ? 'accepted' : 'rejected'}; ${Math.round(100 * counts.accepted / moves)} % `
      + `accepted so far. Mean squared distance of a move: ball ${number(ball / moves)}, walk `
      + `${number(walk / moves)}.`;
  }

  const number = value => Number.isFinite(value)
    ? value.toFixed(Math.abs(value) < 1 ? 3 : 1).replace('-', '−') : 'infinity';
  const redraw = () => [left, right, errors].forEach(plot => plot.redraw());

  const axis = label => () => ({min: -REACH, max: REACH, ticks: [-2, 0, 2], label});
  const plane = (name, who, colourName) => new Plot(name, {
    width: 330, height: 330, x: axis('s₁'), y: axis('s₂'), draw(plot) {
      drawLandscape(plot, energyFn);
      const {samples, pos} = who();
      plot.dots(samples, colourName, 1.5);
      if (colourName === 'blue' && path.length) {
        plot.line(path.map(point => point.pos), 'blue');
        plot.dots([path.at(-1).pos], 'blue', 6);
      } else {
        plot.dots([pos], colourName, 6);
      }
    }});
  const left = plane('the ball on the landscape of the energy', () => ball, 'blue');
  const right = plane('the random walk on the same landscape', () => walk, 'orange');
  const errors = new Plot('the error of the energy along the path', {
    width: 680, height: 150, x: () => ({min: 0, max: Math.max(settings.nSteps, path.length - 1),
                                        ticks: ticks(0, settings.nSteps), label: 'leapfrog step'}),
    y() {
      const most = Math.min(1e6, Math.max(0.1, ...path.map(({error}) => Math.abs(error) || 0)));
      return {min: -most, max: most, ticks: [-most, 0, most].map(value => [value, number(value)]),
              label: 'change of H'};
    },
    draw(plot) {
      plot.line([[0, 0], [settings.nSteps, 0]], 'grey');
      plot.line(path.map(({error}, i) => [i, error]), 'blue');
    }});

  const set = name => value => { settings[name] = value; move = null; };
  const result = words();
  const player = new Player('play', 30, () => {
    if (matchMedia('(prefers-reduced-motion: reduce)').matches) wholeMove();
    else step();
  });
  const chosen = choice('landscape', Object.fromEntries(
    Object.entries(ENERGIES).map(([key, [label]]) => [key, label])), key => {
    [, energyFn] = ENERGIES[key];
    begin();
  });
  [, energyFn] = ENERGIES.gaussian;
  stage.append(
    row(chosen, player.button, button('one move', wholeMove), button('100 moves', () => inFrames(moves(100))), button('start again', begin)),
    row(slider('step size', {min: 0.02, max: 1.2, step: 0.01, value: settings.stepsize,
                             show: value => value.toFixed(2), change: set('stepsize')}).element,
        slider('steps', {min: 1, max: 60, step: 1, value: settings.nSteps,
                         change: set('nSteps')}).element,
        slider('mass', {min: 0.25, max: 4, step: 0.25, value: settings.mass,
                        change: set('mass')}).element),
    row(column('The ball', left.canvas), column('A random walk', right.canvas)),
    result, errors.canvas);
  begin();
};

/** The landscape in steps of grey, the greyer the higher. */
function drawLandscape(plot, {energy}) {
  const n = 160, cell = 2 * REACH / n;
  const place = k => -REACH + (k + 0.5) * cell;
  const levels = new Float32Array(n * n).map((_, i) => {
    const height = energy([place(i % n), -place(Math.floor(i / n))]);
    return 0.45 * LEVELS.filter(level => height > level).length / LEVELS.length;
  });
  const [left, top] = [plot.toX(-REACH), plot.toY(REACH)];
  drawMask(plot.context, levels, [n, n], left, top, plot.toX(REACH) - left,
           plot.toY(-REACH) - top, 'grey');
}
