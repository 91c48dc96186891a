'use strict';
// After: live.js
/* Axes with ticks, for curves over numbers. */

/** A plane with axes: `draw(plane)` draws in its coordinates, by `plane.line` and `plane.dots`. */
class Plot extends Picture {
  /** x and y are functions that give {min, max, ticks, label}, since they may change; ticks is a
      list of numbers, or of [number, text]; a logarithmic axis says isLog. */
  constructor(label, {width, height, x, y, draw}) {
    super(label, {width, height, minHeight: 130,
                  draw: (context, w, h) => this.drawAll(context, w, h)});
    this.axes = {x, y};
    this.drawInside = draw;
  }

  drawAll(context, width, height) {
    const [x, y] = [this.axes.x(), this.axes.y()];
    const box = {left: 58, top: 8, right: width - 18, bottom: height - 36};
    const position = ({min, max, isLog}, value) => isLog
      ? Math.log(value / min) / Math.log(max / min) : (value - min) / (max - min);
    this.toX = value => box.left + position(x, value) * (box.right - box.left);
    this.toY = value => box.bottom - position(y, value) * (box.bottom - box.top);
    this.context = context;
    context.strokeStyle = colour('grey');
    context.fillStyle = colour('ink');
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(box.left, box.top);
    context.lineTo(box.left, box.bottom);
    context.lineTo(box.right, box.bottom);
    const tick = each => Array.isArray(each) ? each : [each, String(each).replace('-', '−')];
    context.textAlign = 'center';
    for (const [value, text] of x.ticks.map(tick)) {
      context.moveTo(this.toX(value), box.bottom);
      context.lineTo(this.toX(value), box.bottom + 4);
      context.fillText(text, this.toX(value), box.bottom + 16);
    }
    context.textAlign = 'right';
    for (const [value, text] of y.ticks.map(tick)) {
      context.moveTo(box.left - 4, this.toY(value));
      context.lineTo(box.left, this.toY(value));
      context.fillText(text, box.left - 7, this.toY(value) + 4);
    }
    context.stroke();
    context.textAlign = 'center';
    context.fillText(x.label, (box.left + box.right) / 2, height - 4);
    context.save();
    context.translate(11, (box.top + box.bottom) / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(y.label, 0, 0);
    context.restore();
    context.save();
    context.beginPath();
    context.rect(box.left, box.top - 4, box.right - box.left + 6, box.bottom - box.top + 4);
    context.clip();
    this.drawInside(this);
    context.restore();
  }

  /** A line through points [x, y]; dashed if so asked. */
  line(points, name, {width = 1.5, dash = []} = {}) {
    this.context.beginPath();
    points.forEach(([x, y]) => this.context.lineTo(this.toX(x), this.toY(y)));
    this.context.strokeStyle = colour(name);
    this.context.lineWidth = width;
    this.context.setLineDash(dash);
    this.context.stroke();
    this.context.setLineDash([]);
  }

  dots(points, name, radius = 2) {
    this.context.fillStyle = colour(name);
    for (const [x, y] of points) {
      this.context.beginPath();
      this.context.arc(this.toX(x), this.toY(y), radius, 0, 7);
      this.context.fill();
    }
  }
}

/** Round numbers from low to high, about so many. */
function ticks(low, high, about = 4) {
  const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(n => n * power).find(size => size >= rough);
  const result = [];
  for (let n = Math.ceil(low / step); n * step <= high; n++) {
    result.push(Number((n * step).toPrecision(6)));
  }
  return result;
}
