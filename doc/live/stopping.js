'use strict';
// After: engine.js plot.js training.js
/* Early stopping on the histories of the long runs of the book. */

figures.stopping = async function (stage) {
  const histories = weights.histories;
  const result = words();
  let history, settings, found;

  function choose(name) {
    history = histories[name];
    const {minibatches, patience, validation} = history;
    settings = {patience, improvement_threshold: 0.995};
    // Steps of an epoch, from two up, among which the patience of the script is.
    const max = patience + minibatches * Math.max(8, Math.round(validation.length / 2));
    const min = patience - minibatches * (Math.floor(patience / minibatches) - 2);
    const asked = slider('patience', {
      min, max, step: minibatches, value: patience,
      show: value => `${value.toLocaleString('en')} updates`,
      change: value => { settings.patience = value; show(); }});
    const threshold = slider('threshold', {
      min: 0.9, max: 1, step: 0.005, value: settings.improvement_threshold,
      show: value => value.toFixed(3),
      change: value => { settings.improvement_threshold = value; show(); }});
    sliders.replaceChildren(asked.element, threshold.element);
    show();
  }

  function show() {
    const {minibatches, validation, test} = history;
    found = train_with_early_stopping(validation, minibatches, settings);
    const {updates, bestEpoch, isOver} = found;
    const percent = value => `${value.toFixed(2)} %`;
    const end = isOver
      ? `Training stops after update ${updates.toLocaleString('en')}, in epoch `
        + `${Math.ceil(updates / minibatches)}.`
      : `Training would go on after epoch ${validation.length}, where the record ends.`;
    result.textContent = `${end} Best validation error ${percent(validation[bestEpoch])}, in epoch `
      + `${bestEpoch + 1}; test error of that model ${percent(test[bestEpoch])}.`;
    plot.redraw();
  }

  const plot = new Plot('validation error by epoch, and where training stops', {
    width: 680, height: 320,
    x: () => {
      const n = history.validation.length + 1;
      return {min: 0, max: n, ticks: ticks(0, n), label: 'epoch'};
    },
    y: () => {
      const [low, high] = [Math.min(...history.validation), Math.max(...history.validation)];
      return {min: low / 1.05, max: high * 1.05, isLog: true, label: 'error (%)',
              ticks: [0.5, 1, 1.5, 2, 3, 5, 7, 10, 15, 20].filter(
                value => value > low / 1.05 && value < high * 1.05)};
    },
    draw(inside) {
      const {validation, test, minibatches} = history, {updates, bestEpoch, patiences} = found;
      const {min, max} = inside.axes.y(), stop = updates / minibatches;
      const point = (error, epoch) => [epoch + 1, error];
      const points = validation.map(point), last = Math.floor(stop);
      inside.line(points, 'grey');
      inside.line(points.slice(0, last), 'blue', {width: 2.5});
      inside.dots(test.map(point).filter(([epoch, error]) => error !== null && epoch <= last),
                  'orange');
      inside.dots(points.filter((_, epoch) => patiences[epoch] > (patiences[epoch - 1]
                                                                  ?? settings.patience)),
                  'green', 4);
      inside.line([[stop, min], [stop, max]], 'ink', {dash: [5, 4]});
      inside.dots([points[bestEpoch]], 'violet', 6);
    }});

  const sliders = row();
  stage.append(
    row(choice('run', Object.fromEntries(Object.entries(histories).map(
      ([name, {title}]) => [name, title])), choose)),
    sliders, result,
    legend({blue: 'validation error', grey: 'of the rest of the run',
            orange: 'test error of a new best', green: 'patience is extended',
            violet: 'the best model'}),
    plot.canvas);
  choose(Object.keys(histories)[0]);
};
