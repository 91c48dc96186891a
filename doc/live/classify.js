'use strict';
// After: digits.js
/* The figure "draw a digit": what the classifiers of the page make of it. */

const TITLES = {logistic_sgd: 'logistic regression', mlp: 'MLP', convolutional_mlp: 'LeNet'};

class Classify {
  constructor(box, names) {
    this.box = box;
    this.work = new InFrames();
    this.models = {};
    this.digits = storedDigits();
    this.pad = new Pad(() => {
      this.image = prepared(this.pad.strokes);
      this.said.textContent = '';
      this.update();
    });
    this.seen = element('canvas', {class: 'live-pixels live-seen', role: 'img',
                                   'aria-label': 'The 28 x 28 pixels that the network sees'});
    const slider = (label, min, max, step, unit) => new Slider(label, {
      min, max, step, value: 0, toText: value => `${value}${unit}`, onInput: () => this.update()});
    this.sliders = {
      right: slider('to the right', -8, 8, 0.5, ' px'), down: slider('down', -8, 8, 0.5, ' px'),
      degrees: slider('turned', -90, 90, 5, '°'), thicker: slider('thicker', -1, 1, 0.1, ' px')};
    this.said = element('p', {class: 'live-said', role: 'status'});
    this.columns = Object.fromEntries(names.map(name => [name, new Probabilities(TITLES[name])]));
    this.chart = element('div', {class: 'live-columns'},
                         ...names.map(name => this.columns[name].element));
    box.append(
      element('div', {class: 'live-row'},
              element('div', {}, this.pad.canvas, element('small', {}, 'draw here')),
              element('div', {}, this.seen, element('small', {}, 'what the network sees'))),
      element('div', {class: 'live-buttons'},
              button('clear', () => this.pad.clear()),
              button('a test image', () => this.takeTestImage()),
              button('back to the middle', () => this.straighten())),
      this.said,
      element('div', {class: 'live-sliders'},
              ...Object.values(this.sliders).map(made => made.element)),
      this.chart);
    if (names.includes('convolutional_mlp')) {
      this.maps = new FeatureMaps();
      box.append(this.maps.element);
    }
    this.next = 0;
    this.image = this.digits[0].image;
    onTheme(() => this.update());
    this.work.run(this.loadAll(names), () => this.takeTestImage());
  }

  * loadAll(names) {
    for (const name of names) this.models[name] = yield* load(name);
  }

  takeTestImage() {
    const {label, image} = this.digits[this.next];
    this.next = (this.next + 1) % this.digits.length;
    this.pad.clear();
    this.image = image;
    this.said.textContent = `A test image, a ${label}.`;
    this.update();
  }

  straighten() {
    for (const slider of Object.values(this.sliders)) slider.set(0);
    this.update();
  }

  update() {
    const values = Object.entries(this.sliders).map(([name, slider]) => [name, slider.value]);
    const image = moved(this.image, Object.fromEntries(values));
    drawTiles(this.seen, image, [SIDE, SIDE]);
    if (Object.keys(this.models).length === Object.keys(this.columns).length) {
      this.box.setAttribute('aria-busy', true);
      this.work.run(this.classify(image), () => this.box.setAttribute('aria-busy', false));
    }
  }

  * classify(image) {
    const isEmpty = sum(image) === 0;
    for (const [name, model] of Object.entries(this.models)) {
      if (name === 'convolutional_mlp') {
        const {maps0, maps1, p_y_given_x} = yield* model.outputs(image);
        this.columns[name].show(p_y_given_x, isEmpty);
        this.maps.show(model, maps0, maps1);
      } else {
        this.columns[name].show(model.p_y_given_x(image), isEmpty);
      }
      yield;
    }
  }
}

/** What one model says: a bar for each class. */
class Probabilities {
  constructor(title) {
    this.answer = element('strong');
    this.bars = [...Array(10).keys()].map(label => {
      const [bar, share] = [element('span', {class: 'live-bar'}), element('span')];
      return {bar, share, row: element('div', {class: 'live-class'}, element('span', {}, label),
                                       element('span', {class: 'live-scale'}, bar), share)};
    });
    this.element = element('div', {class: 'live-model', 'data-title': title},
                           element('p', {}, `${title}: `, this.answer),
                           ...this.bars.map(({row}) => row));
  }

  show(p, isEmpty) {
    this.answer.textContent = isEmpty ? '–' : argmax(p);
    this.bars.forEach(({bar, share, row}, label) => {
      bar.style.width = `${isEmpty ? 0 : 100 * p[label]}%`;
      share.textContent = isEmpty ? '' : `${(100 * p[label]).toFixed(0)} %`;
      row.classList.toggle('is-largest', !isEmpty && label === argmax(p));
    });
  }
}

/** The maps of LeNet's two layers, from -1 to 1. */
class FeatureMaps {
  constructor() {
    const canvas = layer => element('canvas', {
      class: 'live-pixels live-maps', role: 'img', 'aria-label': `Feature maps of ${layer}`});
    this.canvases = [canvas('the first layer'), canvas('the second layer')];
    this.element = element('div', {},
                           element('small', {}, 'feature maps of the first layer, pooled'),
                           this.canvases[0],
                           element('small', {}, 'feature maps of the second layer, pooled'),
                           this.canvases[1]);
  }

  show({image_shape, layer0, layer1}, maps0, maps1) {
    const shape0 = layer0.pooledSize(image_shape);
    const range = {across: 10, low: -1, high: 1};
    drawTiles(this.canvases[0], maps0, shape0, range);
    drawTiles(this.canvases[1], maps1, layer1.pooledSize(shape0), range);
  }
}

figures.classify = (box, names) => new Classify(box, names);
