// The canvas: the view (centre, zoom), and the drawing of one layer on each side of the boundary.

const SIDE = 512;
const CLOSEST = 48; // largest width of a map pixel in screen pixels

export class MapCanvas {
  constructor(canvas, view, store, { onmove, onclick, onpoint }) {
    Object.assign(this, { canvas, view, store, onmove, onclick, onpoint });
    this.left = null;
    this.right = null;
    this.under = null; // image beneath class maps
    this.strength = 1;
    this.swipe = 0.5;
    this.centre = [view.cols / 2, view.rows / 2];
    this.zoom = 0; // screen pixels per map pixel; 0: no layout yet
    new ResizeObserver(() => (this.zoom ? this.moved() : this.fit())).observe(canvas);
    this.listen();
  }

  get width() { return this.canvas.clientWidth; }
  get height() { return this.canvas.clientHeight; }
  get least() { return 0.9 * Math.min(this.width / this.view.cols, this.height / this.view.rows); }

  fit() {
    this.centre = [this.view.cols / 2, this.view.rows / 2];
    this.zoom = this.least || 1;
    this.moved();
  }

  look(col, row, zoom) {
    this.centre = [col, row];
    this.zoom = zoom;
    this.moved();
  }

  /** Column and row of the map under a point of the canvas. */
  at(x, y) {
    return [this.centre[0] + (x - this.width / 2) / this.zoom, this.centre[1] + (y - this.height / 2) / this.zoom];
  }

  /** Point of the canvas over a column and row of the map. */
  point(col, row) {
    return [(col - this.centre[0]) * this.zoom + this.width / 2, (row - this.centre[1]) * this.zoom + this.height / 2];
  }

  zoomBy(factor, x = this.width / 2, y = this.height / 2) {
    const fixed = this.at(x, y);
    const zoom = Math.min(CLOSEST, Math.max(this.least, this.zoom * factor));
    const part = this.zoom / zoom;
    this.centre = [0, 1].map((axis) => fixed[axis] + (this.centre[axis] - fixed[axis]) * part);
    this.zoom = zoom;
    this.moved();
  }

  panBy(right, down) {
    this.centre = [this.centre[0] + right / this.zoom, this.centre[1] + down / this.zoom];
    this.moved();
  }

  moved() {
    const { cols, rows } = this.view;
    this.centre = [Math.min(cols, Math.max(0, this.centre[0])), Math.min(rows, Math.max(0, this.centre[1]))];
    this.redraw();
    this.onmove();
  }

  redraw() {
    this.waiting ??= requestAnimationFrame(() => this.draw());
  }

  /** Level with pixels about as large as those of the screen. */
  level(layer) {
    const ideal = Math.floor(-Math.log2(this.zoom * devicePixelRatio) + 0.35);
    return Math.min(this.view.levels - 1, Math.max(layer.finest, ideal));
  }

  /** Tiles of a layer between two columns of the screen, nearest to the middle first. */
  tilesBetween(layer, from, to) {
    const level = this.level(layer);
    const side = SIDE * 2 ** level;
    const [left, top] = this.at(from, 0);
    const [right, bottom] = this.at(to, this.height);
    const tiles = [];
    for (let y = Math.max(0, Math.floor(top / side)); y * side < Math.min(bottom, this.view.rows); y++) {
      for (let x = Math.max(0, Math.floor(left / side)); x * side < Math.min(right, this.view.cols); x++) {
        const far = Math.hypot((x + 0.5) * side - this.centre[0], (y + 0.5) * side - this.centre[1]);
        tiles.push({ layer, level, x, y, far });
      }
    }
    return tiles.sort((a, b) => a.far - b.far);
  }

  sides() {
    const edge = this.left ? Math.round(this.swipe * this.width) : 0;
    const both = [];
    if (edge > 0) both.push([this.left, 0, edge]);
    if (edge < this.width) both.push([this.right, edge, this.width]);
    return both;
  }

  draw() {
    this.waiting = undefined;
    const ratio = devicePixelRatio;
    const [wide, high] = [Math.round(this.width * ratio), Math.round(this.height * ratio)];
    if (!wide || !this.right) return;
    if (this.canvas.width !== wide || this.canvas.height !== high) [this.canvas.width, this.canvas.height] = [wide, high];
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    const wanted = [];
    for (const [layer, from, to] of this.sides()) {
      pen.save();
      pen.beginPath();
      pen.rect(from, 0, to - from, this.height);
      pen.clip();
      const through = this.under && layer.kind === "class" && this.strength < 1;
      if (through) wanted.push(...this.drawLayer(pen, this.under, from, to));
      pen.globalAlpha = through ? this.strength : 1;
      wanted.push(...this.drawLayer(pen, layer, from, to));
      pen.restore();
    }
    const whole = this.sides().map(([layer]) => ({ layer, level: this.view.levels - 1, x: 0, y: 0 })); // for a first picture
    this.store.want([...whole, ...wanted]);
  }

  drawLayer(pen, layer, from, to) {
    const tiles = this.tilesBetween(layer, from, to);
    for (const { level, x, y } of tiles) this.drawTile(pen, layer, level, x, y);
    return tiles;
  }

  /** The tile, or a part of a coarser one that is loaded. */
  drawTile(pen, layer, level, x, y) {
    for (let up = 0; level + up < this.view.levels; up++) {
      const tile = this.store.get(layer, level + up, x >> up, y >> up);
      const picture = tile && this.store.picture(layer, tile);
      if (!picture) continue;
      const part = SIDE >> up;
      if (part < 1) return;
      const side = SIDE * 2 ** level;
      const [left, top] = this.point(x * side, y * side).map((at) => Math.round(at * devicePixelRatio) / devicePixelRatio);
      const [right, bottom] = this.point((x + 1) * side, (y + 1) * side).map((at) => Math.round(at * devicePixelRatio) / devicePixelRatio);
      pen.imageSmoothingEnabled = layer.kind === "image" && this.zoom * 2 ** level * devicePixelRatio < 3;
      const [dx, dy] = [(x - ((x >> up) << up)) * part, (y - ((y >> up) << up)) * part];
      pen.drawImage(picture, dx, dy, part, part, left, top, right - left, bottom - top);
      return;
    }
  }

  /** Class shares of a layer in view, from the loaded tiles; null while some are missing. */
  shares(layer) {
    const counts = new Float64Array(256);
    for (const [shown, from, to] of this.sides()) {
      if (shown !== layer) continue;
      const [left, top] = this.at(from, 0);
      const [right, bottom] = this.at(to, this.height);
      for (const { level, x, y } of this.tilesBetween(layer, from, to)) {
        const tile = this.store.get(layer, level, x, y);
        if (!tile?.values) return null;
        const clip = (at, corner) => Math.min(SIDE, Math.max(0, Math.round(at / 2 ** level - corner * SIDE)));
        const [c0, c1, r0, r1] = [clip(left, x), clip(right, x), clip(top, y), clip(bottom, y)];
        for (let row = r0; row < r1; row++) for (let at = row * SIDE + c0; at < row * SIDE + c1; at++) counts[tile.values[at]]++;
      }
    }
    counts[0] = 0;
    const total = counts.reduce((sum, count) => sum + count, 0);
    return total ? counts.map((count) => count / total) : null;
  }

  listen() {
    const { canvas } = this;
    const fingers = new Map();
    let dragged = 0;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY / (event.deltaMode ? 12 : 300)), event.offsetX, event.offsetY);
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      if (!fingers.size) dragged = 0;
      fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      const position = [event.offsetX, event.offsetY];
      this.onpoint(...this.at(...position));
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const others = [...fingers].filter(([id]) => id !== event.pointerId).map(([, other]) => other);
      if (others.length === 1) {
        const apart = (point) => Math.hypot(point[0] - others[0][0], point[1] - others[0][1]);
        this.zoomBy(apart(position) / Math.max(8, apart(before)), (position[0] + others[0][0]) / 2, (position[1] + others[0][1]) / 2);
      }
      const part = others.length + 1;
      this.panBy((before[0] - position[0]) / part, (before[1] - position[1]) / part);
      dragged += Math.hypot(position[0] - before[0], position[1] - before[1]) + 20 * others.length;
      canvas.parentElement.classList.toggle("dragging", dragged > 4);
      fingers.set(event.pointerId, position);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => {
        if (!fingers.delete(event.pointerId) || fingers.size) return;
        canvas.parentElement.classList.remove("dragging");
        if (end === "pointerup" && dragged <= 4) this.onclick(...this.at(event.offsetX, event.offsetY));
      });
    }
    canvas.addEventListener("pointerleave", () => this.onpoint(null));
  }
}
