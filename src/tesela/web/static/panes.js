// Three canvases that show one patch and move together.

export const SAFE = [
  // Okabe and Ito's colours, then lighter and darker ones of the same hues: told apart with every kind of sight.
  "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999",
  "#7A4F00", "#BFE3F7", "#7FD9BC", "#8A8000", "#7FB8DB", "#F5B48A", "#6B2E50", "#444444",
];
const WIDEST = 1.5; // how much of the patch's side a pane shows at most: the margin around it
const CLOSEST = 32;

export class Panes {
  /** kinds: by canvas, whether it shows "image", "labels" or "both". */
  constructor(canvases, { size, margin, legend, onhover }) {
    this.canvases = canvases;
    this.size = size;
    this.margin = margin;
    this.onhover = onhover;
    this.patch = null;
    this.opacity = 0.45;
    this.outlines = false;
    this.hidden = false;
    this.safe = false;
    this.only = null; // class to pick out
    this.zoom = 1; // 1: the patch fills the pane
    this.centre = [size / 2, size / 2];
    this.setLegend(legend);
    this.fill = document.createElement("canvas");
    this.fill.width = this.fill.height = size;
    const watch = new ResizeObserver(() => this.redraw());
    for (const canvas of canvases) {
      watch.observe(canvas);
      this.listen(canvas);
    }
  }

  setLegend(legend) {
    this.colors = {
      legend: new Map(legend.map((item) => [item.value, item.color])),
      safe: new Map(legend.map((item, place) => [item.value, SAFE[place % SAFE.length]])),
    };
  }

  colorOf(value) {
    return this.colors[this.safe ? "safe" : "legend"].get(value);
  }

  show(patch) {
    this.patch = patch;
    this.only = null;
    this.paint();
    this.draw();
  }

  set(options) {
    Object.assign(this, options);
    if ("safe" in options || "only" in options) this.paint();
    this.redraw();
  }

  /** Colours of the class values, once for all canvases. */
  paint() {
    if (!this.patch) return;
    const table = new Uint32Array(256);
    const bytes = new Uint8Array(table.buffer);
    for (const value of this.colors.legend.keys()) {
      const color = parseInt(this.colorOf(value).slice(1), 16);
      const strength = this.only === null || this.only === value ? 255 : 40;
      bytes.set([color >> 16, (color >> 8) & 255, color & 255, strength], 4 * value);
    }
    const pixels = new Uint32Array(this.size * this.size);
    const labels = this.patch.labels;
    for (let at = 0; at < labels.length; at++) pixels[at] = table[labels[at]];
    const picture = new ImageData(new Uint8ClampedArray(pixels.buffer), this.size, this.size);
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
      if (!this.patch || !wide) continue;
      const scale = this.scale(canvas);
      const [left, top] = this.corner(canvas);
      pen.setTransform(scale * ratio, 0, 0, scale * ratio, left * ratio, top * ratio);
      this.drawOne(pen, canvas.dataset.shows, scale, scale * ratio);
    }
  }

  drawOne(pen, shows, scale, device) {
    const { size, margin } = this;
    if (shows !== "labels") {
      pen.imageSmoothingEnabled = device < 4; // closer, pixels are to be seen as such
      pen.imageSmoothingQuality = "medium";
      pen.drawImage(this.patch.picture, -margin, -margin, size + 2 * margin, size + 2 * margin);
    }
    const masked = shows === "labels" || (shows === "both" && !this.hidden);
    if (masked && !(this.outlines && shows === "both")) {
      pen.globalAlpha = shows === "labels" ? 1 : this.opacity;
      pen.imageSmoothingEnabled = device < 1;
      pen.drawImage(this.fill, 0, 0);
      pen.globalAlpha = 1;
    }
    if (masked && shows === "both") {
      pen.lineJoin = pen.lineCap = "round";
      for (const [width, color] of [[3.2, "rgba(0,0,0,.65)"], [1.5, "#fff"]]) {
        pen.lineWidth = width / scale;
        pen.strokeStyle = color;
        pen.stroke(this.patch.borders);
      }
    }
    if (shows !== "labels") {
      pen.lineWidth = 1.5 / scale;
      pen.setLineDash([6 / scale, 4 / scale]);
      pen.strokeStyle = "rgba(255,255,255,.85)";
      pen.strokeRect(0, 0, size, size); // around it is context that is not judged
      pen.setLineDash([]);
    }
  }

  scale(canvas) {
    return (Math.min(canvas.clientWidth, canvas.clientHeight) / this.size) * this.zoom;
  }

  corner(canvas) {
    const scale = this.scale(canvas);
    return [canvas.clientWidth / 2 - this.centre[0] * scale, canvas.clientHeight / 2 - this.centre[1] * scale];
  }

  /** Pixel of the patch under a point of a canvas. */
  at(canvas, x, y) {
    const [left, top] = this.corner(canvas);
    const scale = this.scale(canvas);
    return [(x - left) / scale, (y - top) / scale];
  }

  fit() {
    this.zoom = 1;
    this.centre = [this.size / 2, this.size / 2];
    this.redraw();
  }

  zoomBy(factor, fixed = this.centre) {
    const zoom = Math.min(CLOSEST, Math.max(1 / WIDEST, this.zoom * factor));
    const part = this.zoom / zoom;
    this.centre = [0, 1].map((axis) => fixed[axis] + (this.centre[axis] - fixed[axis]) * part);
    this.zoom = zoom;
    this.keepInside();
  }

  /** Move by parts of the pane. */
  panBy(right, down) {
    const step = this.size / this.zoom;
    this.centre = [this.centre[0] + right * step, this.centre[1] + down * step];
    this.keepInside();
  }

  keepInside() {
    const reach = (this.size * WIDEST) / 2;
    const half = this.size / this.zoom / 2;
    const room = Math.max(0, reach - half);
    const middle = this.size / 2;
    this.centre = this.centre.map((value) => Math.min(middle + room, Math.max(middle - room, value)));
    this.redraw();
  }

  listen(canvas) {
    let from = null;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY / (event.deltaMode ? 12 : 360)), this.at(canvas, event.offsetX, event.offsetY));
    }, { passive: false });
    canvas.addEventListener("dblclick", (event) => this.zoomBy(2, this.at(canvas, event.offsetX, event.offsetY)));
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      from = [event.offsetX, event.offsetY];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (from) {
        const scale = this.scale(canvas);
        this.centre = [this.centre[0] - (event.offsetX - from[0]) / scale, this.centre[1] - (event.offsetY - from[1]) / scale];
        from = [event.offsetX, event.offsetY];
        this.keepInside();
      }
      this.point(event.offsetX, event.offsetY, canvas);
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (from = null));
    canvas.addEventListener("pointerleave", () => this.point(null));
  }

  /** A cross at the same place of all panes, and the class there. */
  point(x, y, canvas) {
    const shown = x !== null && this.patch !== null;
    for (const other of this.canvases) {
      const cross = other.nextElementSibling;
      cross.hidden = !shown || other === canvas;
      if (shown) cross.style.transform = `translate(${x}px, ${y}px)`;
    }
    if (!shown) return this.onhover(null);
    const [col, row] = this.at(canvas, x, y).map(Math.floor);
    const inside = col >= 0 && row >= 0 && col < this.size && row < this.size;
    this.onhover(inside ? this.patch.labels[row * this.size + col] : null);
  }
}

/** Borders between class values as one path of straight runs, in pixels. */
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
