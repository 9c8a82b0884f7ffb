// Canvases of one patch or point, which move and zoom together.

export const SAFE = [
  // Colours of Okabe and Ito, then lighter and darker ones of the same hues: distinguishable with colour blindness.
  "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999",
  "#7A4F00", "#BFE3F7", "#7FD9BC", "#8A8000", "#7FB8DB", "#F5B48A", "#6B2E50", "#444444",
];
const CLOSEST = 32;

export class Panes {
  /**
   * A canvas shows (data-shows) "image", the first picture; "second", the second one; "wide", the whole first one;
   * "labels"; or "both". It draws { pictures, extents, labels, borders }; an extent has corner and side of the picture,
   * the frame of the rated area and the width of the first view ("home"), in pixels of the picture.
   */
  constructor(canvases, { legend, onhover }) {
    this.canvases = canvases;
    this.onhover = onhover;
    this.item = null;
    this.opacity = 0.45;
    this.outlines = false;
    this.hidden = false;
    this.safe = false;
    this.only = null; // class to highlight
    this.zoom = 1; // 1: the first view
    this.centre = [0, 0]; // in widths of the first view, from the middle of the frame
    this.setLegend(legend);
    this.fill = document.createElement("canvas");
    const watch = new ResizeObserver(() => this.redraw());
    for (const canvas of canvases) {
      watch.observe(canvas);
      this.listen(canvas);
    }
  }

  setLegend(legend) {
    this.colors = {
      legend: new Map(legend.map((item) => [item.value, item.color])),
      safe: new Map(legend.map((item, index) => [item.value, SAFE[index % SAFE.length]])),
    };
  }

  colorOf(value) {
    return this.colors[this.safe ? "safe" : "legend"].get(value);
  }

  show(item) {
    const same = this.item && JSON.stringify(this.item.extents) === JSON.stringify(item.extents);
    if (!same) this.centre = [0, 0];
    this.item = item;
    this.only = null;
    this.paint();
    this.draw();
  }

  set(options) {
    Object.assign(this, options);
    if ("safe" in options || "only" in options) this.paint();
    this.redraw();
  }

  /** Draw the class values in colour, once for all canvases. */
  paint() {
    if (!this.item?.labels) return;
    const size = Math.sqrt(this.item.labels.length);
    const table = new Uint32Array(256);
    const bytes = new Uint8Array(table.buffer);
    for (const value of this.colors.legend.keys()) {
      const color = parseInt(this.colorOf(value).slice(1), 16);
      const strength = this.only === null || this.only === value ? 255 : 40;
      bytes.set([color >> 16, (color >> 8) & 255, color & 255, strength], 4 * value);
    }
    const labels = this.item.labels;
    const pixels = new Uint32Array(labels.length);
    for (let at = 0; at < labels.length; at++) pixels[at] = table[labels[at]];
    const picture = new ImageData(new Uint8ClampedArray(pixels.buffer), size, size);
    [this.fill.width, this.fill.height] = [size, size];
    this.fill.getContext("2d").putImageData(picture, 0, 0);
  }

  redraw() {
    this.waiting ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.waiting);
    this.waiting = undefined;
    const ratio = devicePixelRatio;
    for (const canvas of this.canvases) {
      const [width, height] = [canvas.clientWidth, canvas.clientHeight];
      const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
      if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
      const pen = canvas.getContext("2d");
      pen.setTransform(1, 0, 0, 1, 0, 0);
      pen.clearRect(0, 0, wide, high);
      if (!this.item || !wide || !this.pictureOf(canvas)) continue;
      const scale = this.scale(canvas);
      const [left, top] = this.corner(canvas);
      pen.setTransform(scale * ratio, 0, 0, scale * ratio, left * ratio, top * ratio);
      this.drawOne(pen, canvas, scale, scale * ratio);
    }
  }

  drawOne(pen, canvas, scale, device) {
    const { shows } = canvas.dataset;
    const { corner, side, frame, part, polygon } = this.extentOf(canvas);
    if (shows !== "labels") {
      pen.imageSmoothingEnabled = device < 4; // closer, single pixels stay visible
      pen.imageSmoothingQuality = "medium";
      pen.drawImage(this.pictureOf(canvas), ...corner, side, side);
    }
    if (part) return this.drawOutlines(pen, part, polygon, scale);
    if (!this.item.labels) return this.drawMark(pen, frame, scale);
    const masked = shows === "labels" || (shows === "both" && !this.hidden);
    if (masked && !(this.outlines && shows === "both")) {
      pen.globalAlpha = shows === "labels" ? 1 : this.opacity;
      pen.imageSmoothingEnabled = device < 1;
      pen.drawImage(this.fill, 0, 0);
      pen.globalAlpha = 1;
    }
    if (masked && shows === "both") this.stroke(pen, this.item.borders, scale);
    if (shows !== "labels") {
      pen.lineWidth = 1.5 / scale;
      pen.setLineDash([6 / scale, 4 / scale]);
      pen.strokeStyle = "rgba(255,255,255,.85)";
      pen.stroke(outline(frame)); // the rest is context
      pen.setLineDash([]);
    }
  }

  /** Outline of a change, and of the polygon that holds it; both are lists of rings. */
  drawOutlines(pen, part, polygon, scale) {
    if (this.hidden) return;
    pen.setLineDash([7 / scale, 5 / scale]);
    this.stroke(pen, pathOf(polygon), scale);
    pen.setLineDash([]);
    const path = pathOf(part);
    for (const [width, color] of [[6, "rgba(0,0,0,.6)"], [3, "#ffd400"]]) {
      pen.lineWidth = width / scale;
      pen.strokeStyle = color;
      pen.stroke(path);
    }
  }

  /** Outline of the interpreted pixel, with four strokes around it to find a small one. */
  drawMark(pen, frame, scale) {
    if (this.hidden) return;
    const mark = outline(frame);
    const [middle, reach] = [middleOf(frame), widthOf(frame) / 2];
    const [from, to] = [reach + 5 / scale, reach + 22 / scale];
    for (const [x, y] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      mark.moveTo(middle[0] + x * from, middle[1] + y * from);
      mark.lineTo(middle[0] + x * to, middle[1] + y * to);
    }
    this.stroke(pen, mark, scale);
  }

  stroke(pen, path, scale) {
    pen.lineJoin = pen.lineCap = "round";
    for (const [width, color] of [[3.2, "rgba(0,0,0,.65)"], [1.5, "#fff"]]) {
      pen.lineWidth = width / scale;
      pen.strokeStyle = color;
      pen.stroke(path);
    }
  }

  /** Number of the picture on a canvas. */
  numberOf(canvas) {
    return canvas.dataset.shows === "second" ? 1 : 0;
  }

  pictureOf(canvas) {
    return this.item.pictures[this.numberOf(canvas)];
  }

  extentOf(canvas) {
    return this.item.extents[this.numberOf(canvas)];
  }

  /** Width of a canvas at zoom 1, in pixels of the picture. */
  homeOf(canvas) {
    const { home, side } = this.extentOf(canvas);
    return canvas.dataset.shows === "wide" ? side : home;
  }

  scale(canvas) {
    return (Math.min(canvas.clientWidth, canvas.clientHeight) / this.homeOf(canvas)) * this.zoom;
  }

  /** Point of the canvas at the origin of the picture. */
  corner(canvas) {
    const scale = this.scale(canvas);
    const { home, frame } = this.extentOf(canvas);
    const middle = middleOf(frame);
    return [canvas.clientWidth, canvas.clientHeight].map((size, axis) => size / 2 - (middle[axis] + this.centre[axis] * home) * scale);
  }

  /** Pixel of the picture under a point of a canvas. */
  at(canvas, x, y) {
    const [left, top] = this.corner(canvas);
    const scale = this.scale(canvas);
    return [(x - left) / scale, (y - top) / scale];
  }

  /** The same in widths of the first view, from the middle of the frame. */
  partAt(canvas, x, y) {
    const { home, frame } = this.extentOf(canvas);
    const middle = middleOf(frame);
    return this.at(canvas, x, y).map((value, axis) => (value - middle[axis]) / home);
  }

  fit() {
    this.zoom = 1;
    this.centre = [0, 0];
    this.redraw();
  }

  zoomBy(factor, fixed = this.centre) {
    if (!this.item) return;
    const zoom = Math.min(CLOSEST, Math.max(1 / this.widest, this.zoom * factor));
    const part = this.zoom / zoom;
    this.centre = [0, 1].map((axis) => fixed[axis] + (this.centre[axis] - fixed[axis]) * part);
    this.zoom = zoom;
    this.keepInside();
  }

  /** Width of the picture in widths of the first view. */
  get widest() {
    return this.item.extents[0].side / this.item.extents[0].home;
  }

  /** Move by parts of the pane. */
  panBy(right, down) {
    if (!this.item) return;
    this.centre = [this.centre[0] + right / this.zoom, this.centre[1] + down / this.zoom];
    this.keepInside();
  }

  keepInside() {
    const room = Math.max(0, (this.widest - 1 / this.zoom) / 2);
    this.centre = this.centre.map((value) => Math.min(room, Math.max(-room, value)));
    this.redraw();
  }

  listen(canvas) {
    const fingers = new Map();
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY / (event.deltaMode ? 12 : 360)), this.partAt(canvas, event.offsetX, event.offsetY));
    }, { passive: false });
    canvas.addEventListener("dblclick", (event) => this.zoomBy(2, this.partAt(canvas, event.offsetX, event.offsetY)));
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.item) return;
      fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      const position = [event.offsetX, event.offsetY];
      const before = fingers.get(event.pointerId);
      const others = [...fingers].filter(([id]) => id !== event.pointerId).map(([, other]) => other);
      if (before && others.length === 1) {
        const apart = (point) => Math.max(8, Math.hypot(point[0] - others[0][0], point[1] - others[0][1]));
        this.zoomBy(apart(position) / apart(before), this.partAt(canvas, (position[0] + others[0][0]) / 2, (position[1] + others[0][1]) / 2));
      } else if (before) {
        const width = this.scale(canvas) * this.extentOf(canvas).home;
        this.centre = this.centre.map((value, axis) => value - (position[axis] - before[axis]) / width);
        this.keepInside();
      }
      if (before) fingers.set(event.pointerId, position);
      this.point(...position, canvas);
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => this.point(null));
  }

  /** A cross at the same position in all panes, and the class there. */
  point(x, y, canvas) {
    const shown = x !== null && this.item !== null && Boolean(this.pictureOf(canvas));
    for (const other of this.canvases) {
      const cross = other.nextElementSibling;
      cross.hidden = !shown || other === canvas || !this.pictureOf(other);
      if (cross.hidden) continue;
      const middle = [other.clientWidth / 2, other.clientHeight / 2];
      const reach = (this.scale(other) * this.extentOf(other).home) / (this.scale(canvas) * this.extentOf(canvas).home);
      const [right, down] = [x - canvas.clientWidth / 2, y - canvas.clientHeight / 2].map((away) => away * reach);
      cross.style.transform = `translate(${middle[0] + right}px, ${middle[1] + down}px)`;
    }
    const { labels } = this.item ?? {};
    if (!shown || !labels) return this.onhover(null);
    const [col, row] = this.at(canvas, x, y).map(Math.floor);
    const size = Math.sqrt(labels.length);
    const inside = col >= 0 && row >= 0 && col < size && row < size;
    this.onhover(inside ? labels[row * size + col] : null);
  }
}

function outline(frame) {
  return pathOf([frame]);
}

function pathOf(rings) {
  const path = new Path2D();
  for (const ring of rings) {
    ring.forEach((corner, index) => path[index ? "lineTo" : "moveTo"](...corner));
    path.closePath();
  }
  return path;
}

function middleOf(frame) {
  return [0, 1].map((axis) => frame.reduce((sum, corner) => sum + corner[axis], 0) / frame.length);
}

function widthOf(frame) {
  const x = frame.map((corner) => corner[0]);
  return Math.max(...x) - Math.min(...x);
}

/** Borders between class values as one path of straight lines, in pixels. */
export function traceBorders(labels, size) {
  const path = new Path2D();
  for (let line = 1; line < size; line++) {
    let [across, down] = [-1, -1];
    for (let at = 0; at <= size; at++) {
      const horizontal = at < size && labels[(line - 1) * size + at] !== labels[line * size + at];
      if (horizontal && across < 0) across = at;
      if (!horizontal && across >= 0) {
        path.moveTo(across, line);
        path.lineTo(at, line);
        across = -1;
      }
      const vertical = at < size && labels[at * size + line - 1] !== labels[at * size + line];
      if (vertical && down < 0) down = at;
      if (!vertical && down >= 0) {
        path.moveTo(line, down);
        path.lineTo(line, at);
        down = -1;
      }
    }
  }
  return path;
}
