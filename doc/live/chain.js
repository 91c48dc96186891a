'use strict';
// After: drawings.js plot.js rbm.js logistic_sgd.js
/* Gibbs chains of RBMs from the same image, step by step or running, with half of the pixels held
   if so asked. A classifier, where there is one, says what a chain shows. */

const columnsOf = () => weights.images.image_shape[1];
const HALVES = {
  none: ['nothing', () => false],
  right: ['the right half', i => i % columnsOf() >= columnsOf() / 2],
  left: ['the left half', i => i % columnsOf() < columnsOf() / 2],
  lower: ['the lower half', i => i >= nPixels() / 2],
  upper: ['the upper half', i => i < nPixels() / 2],
};
const COLOURS = ['orange', 'blue'];
const SHOWN = 400;  // steps of the plot of energies

figures.chain = async function (stage) {
  const chains = [];
  let classifier = null;
  for (const name of modelsOf(stage)) {
    const model = await load(name);
    if (model instanceof RBM) chains.push({rbm: model, name: weights[name].title});
    else classifier = model;
  }
  const table = classifier ? new ProbabilityTable(chains.map(({name}) => name)) : null;
  const result = words();
  let steps, isErased = HALVES.none[1], isHeld = true, perFrame = 1;

  function begin() {
    steps = 0;
    chains.forEach((chain, i) => {
      chain.rng = new RandomStreams(i);
      chain.v = chain.mean = input.image.map((value, i) => isErased(i) ? 0 : value);
      chain.energies = [chain.rbm.free_energy(chain.v)];
      chain.visits = new Float32Array(weights.images.classes.length);
    });
    show();
  }

  /** What is held is put back after each step, and the chain samples the rest given it. */
  const held = v => isErased === HALVES.none[1] || !isHeld ? v
    : v.map((value, i) => isErased(i) ? value : input.image[i]);

  function step() {
    steps++;
    for (const chain of chains) {
      const {v1_mean, v1_sample} = chain.rbm.gibbs_vhv(chain.v, chain.rng);
      chain.v = held(v1_sample);
      chain.mean = held(v1_mean);
      chain.energies.push(chain.rbm.free_energy(chain.v));
      if (chain.energies.length > SHOWN) chain.energies.shift();
      if (classifier) chain.visits[argmax(classifier.p_y_given_x(chain.mean))]++;
    }
  }

  function show() {
    chains.forEach((chain, i) => {
      chain.picture.redraw();
      table?.show(i, chain.visits.map(n => n / Math.max(1, steps)));
    });
    energies.redraw();
    result.textContent = `After ${steps} steps` + chains.map(({name, mean, energies}) => classifier
      ? `; ${name} shows a ${className(argmax(classifier.p_y_given_x(mean)))}`
      : `, the free energy is ${energies.at(-1).toFixed(1)}`).join('');
  }

  for (const chain of chains) {
    chain.picture = pixelPicture(`the chain of ${chain.name}`, 168, () => chain.mean);
  }
  const energies = new Plot('the free energy of both chains by step', {
    width: 680, height: 190,
    x: () => {
      const first = steps - chains[0].energies.length + 1;
      return {min: first, max: first + SHOWN, ticks: ticks(first, first + SHOWN),
              label: 'Gibbs step'};
    },
    y: () => {
      const all = chains.flatMap(({energies}) => energies);
      const [low, high] = [Math.min(...all) - 5, Math.max(...all) + 5];
      return {min: low, max: high, ticks: ticks(low, high), label: 'free energy'};
    },
    draw(plot) {
      const first = steps - chains[0].energies.length + 1;
      chains.forEach(({energies}, i) => plot.line(
        energies.map((energy, k) => [first + k, energy]), COLOURS[i]));
    }});
  const player = new Player('run', 60, () => {
    const end = performance.now() + BUDGET;
    for (let n = 0; n < perFrame && (n === 0 || performance.now() < end); n++) step();
    show();
  });
  const hold = element('input', {type: 'checkbox', checked: true,
                                 change: () => { isHeld = hold.checked; }});
  const input = new ImageInput(begin);
  stage.append(
    input.element,
    row(choice('erase', Object.fromEntries(Object.entries(HALVES).map(
          ([key, [label]]) => [key, label])), key => { [, isErased] = HALVES[key]; begin(); }),
        element('label', {}, hold, ' hold the other half'),
        slider('steps a frame', {min: 1, max: 20, step: 1, value: 1,
                                 change: value => { perFrame = value; }}).element),
    row(player.button, button('one step', () => { step(); show(); }),
        button('start again', begin)),
    row(...chains.map(({name, picture}) => column(name, picture.canvas))),
    result,
    ...(table ? [element('div', {}, 'How often the chain has shown which class'), table.element]
      : []),
    legend(Object.fromEntries(chains.map(({name}, i) => [COLOURS[i], name]))), energies.canvas);
  begin();
};
