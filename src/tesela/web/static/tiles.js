// Tiles of all layers: loaded on demand, nearest first, in a limited cache.

import { SAFE } from "./panes.js";

const AT_ONCE = 6;
const CACHED = 240;
const SIDE = 512;

export class TileStore {
  /** token: changes with each start of the server, so that the browser does not use cached tiles of an older map. */
  constructor(token, onchange, ontrouble) {
    this.token = token;
    this.onchange = onchange;
    this.ontrouble = ontrouble;
    this.tiles = new Map(); // by address, in order of last use
    this.running = new Set();
    this.wanted = [];
    this.style = 0; // counts changes of colours
    this.safe = false;
    this.only = null; // { legend, value } to show alone
  }

  /** The tile, if it is loaded. */
  get(layer, level, x, y) {
    const name = address(layer, level, x, y);
    const tile = this.tiles.get(name);
    if (!tile) return null;
    this.tiles.delete(name);
    this.tiles.set(name, tile);
    return tile;
  }

  /** Load these tiles and no others; `list` is in order of importance. */
  want(list) {
    this.wanted = list;
    this.pump();
  }

  pump() {
    while (this.running.size < AT_ONCE) {
      const next = this.wanted.find(({ layer, level, x, y }) => {
        const name = address(layer, level, x, y);
        return !this.tiles.has(name) && !this.running.has(name);
      });
      if (!next) return;
      this.load(next);
    }
  }

  get busy() {
    return this.running.size > 0;
  }

  async load({ layer, level, x, y }) {
    const name = address(layer, level, x, y);
    this.running.add(name);
    try {
      const response = await fetch(`${name}?${this.token}`);
      if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error ?? `tile ${response.status}`);
      const tile = layer.kind === "image"
        ? { picture: await createImageBitmap(await response.blob()) }
        : { values: new Uint8Array(await response.arrayBuffer()) };
      this.tiles.set(name, tile);
      this.ontrouble("");
    } catch (error) {
      this.tiles.set(name, { failed: true });
      this.ontrouble(`A tile is missing: ${error.message}`);
    }
    this.running.delete(name);
    while (this.tiles.size > CACHED) this.tiles.delete(this.tiles.keys().next().value);
    this.onchange();
    this.pump();
  }

  /** Picture of a tile: the image, or its values in the present colours. */
  picture(layer, tile) {
    if (tile.failed) return null;
    if (tile.picture) return tile.picture;
    if (tile.style !== this.style) {
      tile.canvas ??= Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
      const pixels = new Uint32Array(SIDE * SIDE);
      const table = this.colours(layer);
      for (let at = 0; at < pixels.length; at++) pixels[at] = table[tile.values[at]];
      const picture = new ImageData(new Uint8ClampedArray(pixels.buffer), SIDE, SIDE);
      tile.canvas.getContext("2d").putImageData(picture, 0, 0);
      tile.style = this.style;
    }
    return tile.canvas;
  }

  restyle(options) {
    Object.assign(this, options);
    this.style++;
    this.onchange();
  }

  colourOf(layer, value) {
    if (layer.kind === "score") return ramp(value / 100);
    const index = layer.classes.findIndex((item) => item.value === value);
    if (index < 0) return "#808080";
    return this.safe ? SAFE[index % SAFE.length] : layer.classes[index].color;
  }

  colours(layer) {
    const table = new Uint32Array(256);
    const bytes = new Uint8Array(table.buffer);
    const values = layer.kind === "score" ? [...Array(101).keys()] : layer.classes.map((item) => item.value);
    for (const value of values) {
      const colour = parseInt(this.colourOf(layer, value).slice(1), 16);
      const faint = this.only !== null && this.only.legend === layer.legend && this.only.value !== value;
      bytes.set([colour >> 16, (colour >> 8) & 255, colour & 255, faint ? 30 : 255], 4 * value);
    }
    return table;
  }
}

function address(layer, level, x, y) {
  return `/tiles/${layer.id}/${level}/${x}/${y}`;
}

// Cividis at five positions (Nuñez, Anderton and Renslow 2018): even steps also with colour blindness.
const STOPS = [[0, 34, 78], [65, 77, 107], [124, 123, 120], [188, 174, 108], [254, 232, 56]];

export function ramp(share) {
  const at = Math.min(0.9999, Math.max(0, share)) * (STOPS.length - 1);
  const low = Math.floor(at);
  const mixed = STOPS[low].map((part, k) => Math.round(part + (STOPS[low + 1][k] - part) * (at - low)));
  return "#" + mixed.map((part) => part.toString(16).padStart(2, "0")).join("");
}
