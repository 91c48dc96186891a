'use strict';
// After: mlp.js
/* LeNet: code/convolutional_mlp.py. */

const POOL_SIZE = 2;

class LeNetConvPoolLayer {
  /** W of (n_filters, n_input_maps, filter_height, filter_width) and b of (n_filters). */
  constructor([W, b], activation) {
    this.W = W;
    this.b = b;
    this.activation = activation;
  }

  /** From n_input_maps of (height, width) to n_filters maps of the shape `pooledSize`, all in one
      array, one map after the other. A generator that yields after each of them. */
  * output(maps, [height, width]) {
    const [nFilters, nMaps, k] = this.W.shape;
    const [pooledHeight, pooledWidth] = this.pooledSize([height, width]);
    const columns = width - k + 1;
    const result = new Float32Array(nFilters * pooledHeight * pooledWidth);
    for (let filter = 0, n = 0; filter < nFilters; filter++) {
      const convolved = new Float32Array((height - k + 1) * columns);
      for (let map = 0; map < nMaps; map++) {
        for (let i = 0; i < k; i++) {
          for (let j = 0; j < k; j++) {
            // A convolution turns the filter by half a turn.
            const w = this.W.data[((filter * nMaps + map) * k + k - 1 - i) * k + k - 1 - j];
            for (let row = 0, at = 0; row <= height - k; row++) {
              let from = (map * height + row + i) * width + j;
              for (let column = 0; column < columns; column++) convolved[at++] += w * maps[from++];
            }
          }
        }
      }
      for (let row = 0; row < pooledHeight; row++) {
        for (let column = 0; column < pooledWidth; column++) {
          let largest = -Infinity;
          for (let i = 0; i < POOL_SIZE ** 2; i++) {
            largest = Math.max(largest, convolved[
              (row * POOL_SIZE + Math.floor(i / POOL_SIZE)) * columns
              + column * POOL_SIZE + i % POOL_SIZE]);
          }
          result[n++] = this.activation(largest + this.b.data[filter]);
        }
      }
      yield;
    }
    return result;
  }

  /** Height and width of the maps that the layer makes of maps of this size. */
  pooledSize(shape) {
    return shape.map(size => Math.floor((size - this.W.shape[2] + 1) / POOL_SIZE));
  }
}

class LeNet {
  /** In the order of the Python's `params`: classifier, hidden layers, upper and lower maps. */
  constructor(params, {image_shape, activation}) {
    const convolutions = params.slice(-4);
    this.image_shape = image_shape;
    this.layer0 = new LeNetConvPoolLayer(convolutions.slice(2), ACTIVATIONS[activation]);
    this.layer1 = new LeNetConvPoolLayer(convolutions.slice(0, 2), ACTIVATIONS[activation]);
    this.mlp = new MLP([...params.slice(2, -4), ...params.slice(0, 2)], {activation});
  }

  /** The maps of both layers and the probabilities of the classes. */
  * outputs(x) {
    const maps0 = yield* this.layer0.output(x, this.image_shape);
    const maps1 = yield* this.layer1.output(maps0, this.layer0.pooledSize(this.image_shape));
    return {maps0, maps1, p_y_given_x: this.mlp.p_y_given_x(maps1)};
  }
}

MODELS.convolutional_mlp = (params, sizes) => new LeNet(params, sizes);
