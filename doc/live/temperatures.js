'use strict';
// After: ais.js plot.js
/* log Z by annealed importance sampling, beside its exact value, on two small models. */

const NUMBERS = [1, 3, 10, 30, 100, 300, 1000, 3000];  // of temperatures

figures.temperatures = async function (stage) {
  const matrix = (rows, columns, value) => ({
    shape: [rows, columns], data: new Float32Array(rows * columns).fill(value)});
  const models = {
    small_rbm: ['random weights', await load('small_rbm')],
    trap: ['a trap', new RBM([matrix(40, 10, 1), matrix(1, 10, -36), matrix(1, 40, 0)])]};
  const result = words();
  let rbm, exact, estimates, nTemperatures = 30, nChains = 20, wanted = 0;

  async function choose(name) {
    wanted++;  // whatever is under way is of another model
    [, rbm] = models[name];
    estimates = new Map();
    exact = await inFrames(exact_log_partition(rbm));
    result.textContent = `log Z is ${exact.toFixed(2)}, summed exactly.`;
    plot.redraw();
  }

  async function estimate() {
    const mine = ++wanted, seed = mine;
    await inFrames((function* () {
      const rng = new RandomStreams(seed), betas = inverse_temperatures(nTemperatures);
      const n = nTemperatures, logWeights = [], base = new Float32Array(rbm.vbias.data.length);
      const logBase = log_partition_of_base(base, rbm.hbias.data.length);
      for (let chain = 0; chain < nChains; chain++) {
        const start = rng.bernoulli(base.map(sigmoid));
        const steps = annealing(rbm, base, betas, start, rng);
        let step;
        while (!(step = steps.next()).done) {
          if (mine !== wanted) return;
          yield;
        }
        logWeights.push(logBase + step.value);
        const found = log_mean_estimate(logWeights);
        estimates.set(n, found);
        result.textContent = `${n} temperatures, ${chain + 1} chains: log Z is about `
          + `${found.value.toFixed(2)} (${shown(found.low)} to ${shown(found.high)}); exactly, `
          + `${exact.toFixed(2)}`;
        plot.redraw();
      }
    })());
  }

  const shown = value => Number.isFinite(value) ? value.toFixed(2)
    : value < 0 ? '−infinity' : 'infinity';
  const range = () => {
    const values = [exact ?? 0, ...[...estimates?.values() ?? []].map(({value}) => value)];
    return [Math.min(...values) - 8, Math.max(...values) + 4];
  };
  const plot = new Plot('estimates of log Z by the number of temperatures', {
    width: 680, height: 300,
    x: () => ({min: 0.8, max: 4000, isLog: true, ticks: NUMBERS, label: 'temperatures'}),
    y: () => {
      const [min, max] = range();
      return {min, max, ticks: ticks(min, max), label: 'log Z'};
    },
    draw(inside) {
      const [min, max] = range();
      inside.line([[0.8, exact], [4000, exact]], 'orange');
      for (const [n, {value, low, high}] of estimates ?? []) {
        inside.line([[n, Math.max(low, min)], [n, Math.min(high, max)]], 'blue', {width: 2});
        inside.dots([[n, value]], 'blue', 4);
      }
    }});
  stage.append(
    row(choice('model', Object.fromEntries(Object.entries(models).map(
      ([name, [label]]) => [name, label])), choose), button('estimate', estimate)),
    row(slider('temperatures', {
          min: 0, max: NUMBERS.length - 1, step: 1, value: NUMBERS.indexOf(nTemperatures),
          show: i => String(NUMBERS[i]), change: i => { nTemperatures = NUMBERS[i]; }}).element,
        slider('chains', {min: 1, max: 100, step: 1, value: nChains,
                          change: value => { nChains = value; }}).element),
    result, legend({orange: 'exactly', blue: 'estimate, with its interval'}), plot.canvas);
  await choose('small_rbm');
};
