'use strict';
// After: drawings.js dA.js
/* A damaged image, and what auto-encoders make of it; their hidden units can be put out. */

const UNITS = 20;  // that can be put out

figures.restore = async function (stage) {
  let level = 0.3, seed = 0, seen = new Float32Array(nPixels()), chosen;
  const models = {};
  for (const name of modelsOf(stage)) {
    models[name] = {model: await load(name), off: new Set(), restored: seen};
    chosen = name;
  }
  const result = words(), filters = row();

  const restore = repeatable(function* () {
    seen = get_corrupted_input(input.image, level, new RandomStreams(seed));
    damaged.redraw();
    const costs = [];
    for (const [name, each] of Object.entries(models)) {
      const {title} = weights[name];
      each.hidden = each.model.get_hidden_values(seen);
      each.off.forEach(j => { each.hidden[j] = 0; });
      each.restored = each.model.get_reconstructed_input(each.hidden);
      costs.push(`${title}, ${each.model.get_cost(input.image, each.hidden).toFixed(1)}`);
      each.picture.redraw();
      yield;
    }
    result.textContent = `Cross-entropy to the whole image, in nats: ${costs.join('; ')}`;
  });

  /** Buttons for the units that contribute most: how active they are times the size of the filter. */
  function offer() {
    const {model: {W}, hidden, off} = models[chosen], [nVisible, nHidden] = W.shape;
    const sizes = new Float64Array(nHidden);
    W.data.forEach((w, k) => { sizes[k % nHidden] += w * w; });
    const most = Array.from(hidden.keys()).sort(
      (i, j) => hidden[j] * Math.sqrt(sizes[j]) - hidden[i] * Math.sqrt(sizes[i])).slice(0, UNITS);
    filters.replaceChildren(...most.map(unit => {
      const filter = Float32Array.from({length: nVisible}, (_, i) => W.data[i * nHidden + unit]);
      const largest = Math.max(...filter.map(Math.abs));
      const picture = pixelPicture(`the filter of unit ${unit}`, 44,
                                   () => filter.map(w => 0.5 + w / largest / 2));
      const toggle = element('button', {
        type: 'button', className: 'live-unit', ariaPressed: 'true', click() {
          const isOn = off.delete(unit);
          if (!isOn) off.add(unit);
          toggle.ariaPressed = String(isOn);
          restore();
        }}, picture.canvas);
      return toggle;
    }));
  }

  async function renew() {
    Object.values(models).forEach(({off}) => off.clear());
    await restore();
    offer();
  }

  const damaged = pixelPicture('the damaged image', 140, () => seen);
  for (const [name, each] of Object.entries(models)) {
    each.picture = pixelPicture(`restored by the model ${weights[name].title}`, 140,
                                () => each.restored);
  }
  const input = new ImageInput(renew);
  stage.append(
    input.element,
    row(slider('damage', {min: 0, max: 0.9, step: 0.05, value: level,
                          show: value => `${Math.round(100 * value)} %`,
                          change: value => { level = value; renew(); }}).element,
        button('other pixels', () => { seed++; renew(); })),
    row(column('damaged', damaged.canvas),
        ...Object.entries(models).map(([name, {picture}]) => column(weights[name].title,
                                                                    picture.canvas))),
    result,
    row('Put out hidden units, of those that do most here:',
        choice('model', Object.fromEntries(Object.keys(models).reverse().map(
          name => [name, weights[name].title])), name => {
          chosen = name;
          renew();
        }), button('all on', renew)),
    filters);
  await renew();
};
