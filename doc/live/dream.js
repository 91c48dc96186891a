'use strict';
// After: drawings.js logistic_sgd.js DBN.js
/* A deep belief network draws: its top RBM takes Gibbs steps, and the layers below turn what it sees
   into an image. */

figures.dream = async function (stage) {
  const [dbn, classifier] = await Promise.all(modelsOf(stage).map(load));
  const nTop = dbn.top.vbias.data.length, result = words();
  let rng = new RandomStreams(0), steps = 0, perFrame = 1;
  let v, pictured, hidden;  // of the top RBM what it sees; the image; its hidden units

  function begin(probabilities) {
    steps = 0;
    v = rng.bernoulli(probabilities);
    hidden = dbn.top.propup(v);
    show();
  }

  function step() {
    steps++;
    const {h1_sample, v1_sample} = dbn.top.gibbs_vhv(v, rng);
    [hidden, v] = [h1_sample, v1_sample];
  }

  function show() {
    [pictured = v] = dbn.generate(v, rng);
    pictures.forEach(picture => picture.redraw());
    const p = classifier.p_y_given_x(pictured);
    result.textContent = `After ${steps} steps at the top: the image is taken for a `
      + `${className(argmax(p))} `
      + `(${percent(Math.max(...p))})`;
  }

  const fromImage = () => begin(dbn.propup(input.image).at(-2) ?? input.image);
  const square = (label, units) => {
    const across = Math.ceil(Math.sqrt(units().length));
    return new Picture(label, {width: 140, height: 140, draw(context, width, height) {
      const {pixels, shape} = tiled(units(), [1, 1], across);
      drawPixels(context, pixels, shape, 0, 0, width, height);
    }});
  };
  [v, hidden, pictured] = [new Float32Array(nTop), new Float32Array(dbn.top.hbias.data.length),
                           new Float32Array(nPixels())];
  const pictures = [square('the hidden units of the top RBM', () => hidden),
                    square('the units that the top RBM sees', () => v),
                    pixelPicture('the image that is generated', 168, () => pictured)];
  const player = new Player('run', 60, () => {
    const end = performance.now() + BUDGET;
    for (let n = 0; n < perFrame && (n === 0 || performance.now() < end); n++) step();
    show();
  });
  const input = new ImageInput(fromImage);
  stage.append(
    input.element,
    row(player.button, button('one step', () => { step(); show(); }),
        button('from the image', fromImage),
        button('from noise', () => begin(v.map(() => 0.5))),
        slider('steps a frame', {min: 1, max: 20, step: 1, value: 1,
                                 change: value => { perFrame = value; }}).element),
    row(...['top units', 'what they see', 'the image'].map(
      (title, i) => column(title, pictures[i].canvas))),
    result);
  fromImage();
};
