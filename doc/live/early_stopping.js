'use strict';
// After: figure.js weights/histories.js
/* The figure of early stopping: the rule of code/support/training.py, on the histories of runs. */

/** Play the rule through on a history.

    @param validations [updates made, validation error, test error or null], one after the other
    @return `best`, the best validation until then; `updates`, how many were made in the end; and
            `hasStopped`, whether the rule ended it, not the history */
function early_stopping({n_train_batches, validations}, {patience, patience_increase, improvement_threshold}) {
  let best = [0, Infinity, null];
  let updates = 0;
  for (const validation of validations) {
    const [next, error] = validation;
    if (Math.ceil(patience) + 1 < next) {
      return {best, updates: Math.ceil(patience) + 1, hasStopped: true};
    }
    updates = next;
    if (error < best[1] * improvement_threshold) {
      // Updates are numbered from 0 where patience is concerned.
      patience = Math.max(patience, (updates - 1) * patience_increase);
    }
    if (error < best[1]) best = validation;
    if (patience <= updates - 1) return {best, updates, hasStopped: true};
  }
  // Perhaps before the validation that would have come next.
  const hasStopped = Math.ceil(patience) + 1 < updates + n_train_batches;
  return {best, updates: hasStopped ? Math.ceil(patience) + 1 : updates, hasStopped};
}

const RUNS = [['mlp', 'MLP'], ['logistic_sgd', 'logistic regression'],
              ['convolutional_mlp', 'LeNet']];
const PLOT = {width: 540, height: 230, left: 46, right: 10, top: 10, bottom: 26};

class EarlyStopping {
  constructor(box) {
    this.run = new Choice('run', RUNS, () => this.toDefaults());
    this.plot = sharpCanvas(PLOT.width, PLOT.height, {
      class: 'live-wide', role: 'img', 'aria-label': 'Validation errors, and where training stops'});
    this.said = element('p', {class: 'live-said', role: 'status'});
    const slider = (label, settings) => new Slider(label, {...settings, onInput: () => this.draw()});
    this.sliders = {
      patience: slider('patience', {toText: updates => updates.toLocaleString('en')}),
      improvement_threshold: slider('threshold', {min: 0.9, max: 1, step: 0.001, value: 1}),
      patience_increase: slider('increase', {min: 1, max: 4, step: 0.25, value: 2})};
    box.append(this.plot.canvas, this.said,
               element('div', {class: 'live-buttons'}, this.run.element,
                       button('as in the script', () => this.toDefaults())),
               element('div', {class: 'live-sliders'},
                       ...Object.values(this.sliders).map(made => made.element)));
    onTheme(() => this.draw());
    this.toDefaults();
  }

  get history() {
    return weights.histories[this.run.value];
  }

  toDefaults() {
    const {patience, n_train_batches} = this.history;
    const step = 10 ** Math.floor(Math.log10(n_train_batches));
    // With less than two epochs, the run would have validated more often than once an epoch.
    Object.assign(this.sliders.patience.input, {
      min: Math.ceil(2 * n_train_batches / step) * step, max: 12 * patience, step});
    this.sliders.patience.set(patience);
    this.sliders.improvement_threshold.set(0.995);
    this.sliders.patience_increase.set(2);
    this.draw();
  }

  draw() {
    const {n_train_batches, validations} = this.history;
    const {best, updates, hasStopped} = early_stopping(this.history, {
      patience: this.sliders.patience.value,
      improvement_threshold: this.sliders.improvement_threshold.value,
      patience_increase: this.sliders.patience_increase.value});
    const epoch = n => Math.ceil(n / n_train_batches);
    this.said.textContent = (hasStopped
      ? `Stops after ${updates.toLocaleString('en')} updates, in epoch ${epoch(updates)}. `
      : `Does not stop in the ${validations.length} epochs of this run. `)
      + `The best model is that of epoch ${epoch(best[0])}: validation error `
      + `${best[1].toFixed(2)} %, test error ${best[2].toFixed(2)} %.`;

    const errors = validations.map(([, error]) => error);
    const [low, high] = [Math.log(Math.min(...errors) * 0.9), Math.log(Math.max(...errors) * 1.05)];
    const [width, height] = [PLOT.width - PLOT.left - PLOT.right,
                             PLOT.height - PLOT.top - PLOT.bottom];
    const x = n => PLOT.left + n / validations.at(-1)[0] * width;
    const y = error => PLOT.top + (high - Math.log(error)) / (high - low) * height;
    const context = this.plot;
    context.clearRect(0, 0, PLOT.width, PLOT.height);
    context.font = '12px sans-serif';
    context.fillStyle = themeColour('foreground-secondary');
    context.strokeStyle = themeColour('background-border');
    context.lineWidth = 1;
    context.textAlign = 'right';
    for (const error of [1, 2, 3, 5, 10, 12]) {
      if (Math.log(error) < low || Math.log(error) > high) continue;
      context.strokeRect(PLOT.left, y(error), width, 0);
      context.fillText(`${error} %`, PLOT.left - 6, y(error) + 4);
    }
    context.fillText(`epoch ${validations.length}`, PLOT.width - PLOT.right, PLOT.height - 6);

    const line = (part, colour) => {
      context.strokeStyle = themeColour(colour);
      context.lineWidth = 1.5;
      context.beginPath();
      for (const [n, error] of part) context.lineTo(x(n), y(error));
      context.stroke();
    };
    line(validations, 'foreground-border');
    line(validations.filter(([n]) => n <= updates), 'brand-primary');
    if (hasStopped) {
      context.setLineDash([4, 4]);
      line([[updates, Math.exp(low)], [updates, Math.exp(high)]], 'foreground-primary');
      context.setLineDash([]);
    }
    context.fillStyle = themeColour('foreground-primary');
    context.beginPath();
    context.arc(x(best[0]), y(best[1]), 4, 0, 2 * Math.PI);
    context.fill();
  }
}

figures.early_stopping = box => new EarlyStopping(box);
