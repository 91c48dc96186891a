'use strict';
// After: drawings.js cA.js plot.js
/* How far the code moves when the image moves: as digits move, and in directions of noise. */

const FARTHEST = 4;   // that an image is moved
const POINTS = 8;     // of each curve
const NOISES = 5;     // directions of noise, of which the mean is shown
const WAYS = {
  blue: ['to the right', t => ({dx: 2 * t})], green: ['turned', t => ({angle: 30 * t})],
  violet: ['thicker', t => ({thickness: t})]};

figures.contract = async function (stage) {
  const encoders = {};
  for (const name of modelsOf(stage)) encoders[name] = {model: await load(name), curves: {}};
  const result = words();
  const length = (x, y) => Math.hypot(...x.map((value, i) => value - y[i]));
  const none = {dx: 0, dy: 0, angle: 0, thickness: 0};

  /** Points [how far the image has moved, how far the code has] along a way. */
  function* curve(model, image, way) {
    const code = model.get_hidden_values(image);
    const points = [[0, 0]];
    for (let i = 1; i <= POINTS; i++) {
      const other = way(i / POINTS);
      points.push([length(other, image), length(model.get_hidden_values(other), code)]);
      yield;
    }
    return points;
  }

  const measure = repeatable(function* () {
    const image = input.image, norms = [];
    for (const [name, {model, curves}] of Object.entries(encoders)) {
      for (const [key, [, move]] of Object.entries(WAYS)) {
        curves[key] = yield* curve(model, image, t => moved(image, {...none, ...move(t)}));
      }
      const all = [];
      for (let seed = 0; seed < NOISES; seed++) {
        const rng = new RandomStreams(seed), direction = image.map(() => rng.normal());
        const size = length(direction, image.map(() => 0));
        all.push(yield* curve(model, image, t => image.map(
          (value, i) => value + FARTHEST * t * direction[i] / size)));
      }
      curves.orange = all[0].map(([x], i) => [x, sum(all.map(points => points[i][1])) / NOISES]);
      norms.push(`${weights[name].title}, ${get_jacobian_norm(
        model, model.get_hidden_values(image)).toFixed(2)}`);
    }
    plots.forEach(plot => plot.redraw());
    result.textContent = `Norm of the Jacobian here: ${norms.join('; ')}`;
  });

  const highest = () => Math.max(1, ...Object.values(encoders).flatMap(({curves}) =>
    Object.values(curves).flat().filter(([x]) => x <= FARTHEST).map(([, y]) => y)));
  const plots = Object.entries(encoders).map(([name, {curves}]) => new Plot(
    `how far the code of the auto-encoder moves: ${weights[name].title}`, {
      width: 330, height: 280,
      x: () => ({min: 0, max: FARTHEST, ticks: [0, 1, 2, 3, 4], label: 'the image moves by'}),
      y: () => ({min: 0, max: highest(), ticks: ticks(0, highest()), label: 'the code moves by'}),
      draw: plot => Object.entries(curves).forEach(([key, points]) => plot.line(
        points, key, {width: 2}))}));
  const input = new ImageInput(measure);
  stage.append(input.element, result,
    legend({...Object.fromEntries(Object.entries(WAYS).map(([key, [label]]) => [key, label])),
            orange: 'noise'}),
    row(...plots.map((plot, i) => column(weights[Object.keys(encoders)[i]].title,
                                         plot.canvas))));
  await measure();
};
