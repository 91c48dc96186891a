'use strict';
// After: drawings.js stacked.js convolutional_mlp.js
/* Draw, and see what classifiers make of it: in the chapters on logistic regression, the
   perceptron, LeNet and the stacked auto-encoders, each with the models known there. */

figures.classify = async function (stage) {
  const names = modelsOf(stage), models = {};
  for (const name of names) models[name] = await load(name);
  const table = new ProbabilityTable(names.map(name => weights[name].title));
  const lenet = names.find(name => models[name] instanceof LeNet);
  const maps = lenet ? new MapPictures(models[lenet], weights[lenet].sizes.nkerns) : null;
  const result = words();

  const classify = repeatable(function* () {
    const found = [];
    for (const [i, name] of names.entries()) {
      let p;
      if (name === lenet) {
        const outputs = yield* models[name].outputs(input.image);
        maps.show(outputs);
        p = outputs.p_y_given_x;
      } else {
        p = models[name].p_y_given_x(input.image);
      }
      table.show(i, p);
      found.push(`${weights[name].title}: ${className(argmax(p))} (${percent(Math.max(...p))})`);
      yield;
    }
    result.textContent = found.join('; ');
  });
  const input = new ImageInput(classify);
  stage.append(input.element, result, table.element, ...(maps ? [maps.element] : []));
  await classify();
};

const ACROSS = 10;  // feature maps in a row

/** The feature maps of both layers of LeNet, from black, -1, to white, 1. */
class MapPictures {
  constructor(lenet, [n0, n1]) {
    const shape0 = lenet.layer0.pooledSize(lenet.image_shape);
    const shape1 = lenet.layer1.pooledSize(shape0);
    const grid = (n, shape) => tiled(new Float32Array(n * shape[0] * shape[1]), shape, ACROSS);
    this.layers = [[n0, shape0], [n1, shape1]].map(([n, shape]) => ({
      shape, grid: grid(n, shape)}));
    this.pictures = this.layers.map((layer, i) => pixelPicture(
      `feature maps of layer ${i}`, 640, () => layer.grid.pixels, layer.grid.shape));
    this.element = element('div', {}, ...this.pictures.flatMap((picture, i) => [
      element('div', {}, `Feature maps of layer ${i}`), picture.canvas]));
  }

  show({maps0, maps1}) {
    [maps0, maps1].forEach((maps, i) => {
      const layer = this.layers[i];
      layer.grid = tiled(maps.map(value => (value + 1) / 2), layer.shape, ACROSS);
      this.pictures[i].redraw();
    });
  }
}
