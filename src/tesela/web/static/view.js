// The view page: layers, boundary, legend, values under a click, keys.

import { MapCanvas } from "./canvas.js";
import { classTitle, mixtureTable, seriesChart } from "./mixture.js";
import { ramp, TileStore } from "./tiles.js";

const $ = (id) => document.getElementById(id);
const view = await (await fetch("/api/view")).json();
const store = new TileStore(view.token, () => map.redraw() || settle(), (text) => ($("trouble").textContent = text));
const map = new MapCanvas($("canvas"), view, store, { onmove: moved, onclick: identify, onpoint: point });
let selected = null; // values of the clicked pixel
let request = 0; // counts clicks
let only = null;

// ---- layers ----

const image = view.layers.find((layer) => layer.kind === "image") ?? null;
const label = (layer) => (layer.year && !layer.name.includes(layer.year) ? `${layer.name} ${layer.year}` : layer.name);
for (const side of ["left", "right"]) {
  const shares = Object.assign(document.createElement("optgroup"), { label: "Share of" });
  for (const layer of view.layers) (layer.group === "share" ? shares : $(side)).append(new Option(label(layer), layer.id));
  if (shares.children.length) $(side).append(shares);
  $(side).addEventListener("change", () => choose(side, view.layers[$(side).value]));
}
const alone = view.layers.length === 1;
const narrow = matchMedia("(max-width: 760px)");
$("left-label").hidden = $("swipe").hidden = $("left-tag").hidden = alone;
$("strength-label").hidden = image === null;
map.under = image;

function choose(side, layer) {
  map[side] = layer;
  $(side).value = layer.id;
  $(`${side}-tag`).textContent = label(layer);
  map.redraw();
  drawLegend();
}

function swap() {
  if (alone) return;
  const [left, right] = [map.left, map.right];
  choose("left", right);
  choose("right", left);
}

$("strength").addEventListener("input", () => {
  map.strength = $("strength").value / 100;
  map.redraw();
});

// ---- boundary ----

function setSwipe(share) {
  map.swipe = Math.min(1, Math.max(0, share));
  $("swipe").style.left = `${100 * map.swipe}%`;
  $("swipe").setAttribute("aria-valuenow", Math.round(100 * map.swipe));
  map.redraw();
  settle();
}
$("swipe").addEventListener("pointerdown", (event) => {
  event.preventDefault();
  $("swipe").setPointerCapture(event.pointerId);
  $("swipe").focus();
});
$("swipe").addEventListener("pointermove", (event) => {
  if (!$("swipe").hasPointerCapture(event.pointerId)) return;
  const box = $("stage").getBoundingClientRect();
  setSwipe((event.clientX - box.left) / box.width);
});

// ---- view ----

function moved() {
  drawScale();
  drawPin();
  settle();
}

let settling;
function settle() {
  clearTimeout(settling);
  settling = setTimeout(() => {
    const { centre, zoom } = map;
    history.replaceState(null, "", `#${centre.map((at) => at.toFixed(1)).join("/")}/${zoom.toPrecision(5)}`);
    drawShares();
  }, 250);
}

function fromAddress() {
  const [col, row, zoom] = location.hash.slice(1).split("/").map(Number);
  if (zoom > 0 && Number.isFinite(col + row)) map.look(col, row, zoom);
}
addEventListener("hashchange", fromAddress);

/** Metres of a map pixel, in the middle of the screen. */
function pixelMetres() {
  const last = view.pixel_m.length - 1;
  const at = Math.min(last, Math.max(0, (map.centre[1] / view.rows) * last));
  const low = Math.min(last - 1, Math.floor(at));
  return view.pixel_m[low] + (view.pixel_m[low + 1] - view.pixel_m[low]) * (at - low);
}

function drawScale() {
  const perPixel = pixelMetres() / map.zoom;
  const most = 140 * perPixel;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].map((times) => times * power).find((metres) => metres <= most) ?? power;
  $("scale").style.width = `${length / perPixel}px`;
  $("scale").textContent = length >= 1000 ? `${length / 1000} km` : `${Number(length.toPrecision(1))} m`;
}

function toMap(col, row) {
  const [a, b, c, d, e, f] = view.transform;
  return [a * col + b * row + c, d * col + e * row + f];
}

function coordinates(x, y) {
  return view.degrees ? `${y.toFixed(5)}°, ${x.toFixed(5)}°` : `${x.toFixed(0)} E, ${y.toFixed(0)} N`;
}

function point(col, row) {
  $("position").textContent = col === null ? "" : `${coordinates(...toMap(col, row))} (${view.crs})`;
}

// ---- legend ----

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const percent = (share) => (share >= 0.0995 ? (100 * share).toFixed(0) : share > 0 ? (100 * share).toFixed(1) : "–");

function node(kind, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(kind), attributes);
  made.append(...children);
  return made;
}

function chip(layer, value) {
  const made = node("i", { className: "chip" });
  made.style.background = store.colourOf(layer, value);
  return made;
}

function drawLegend() {
  const shown = [map.right, map.left].filter((layer, index, all) => layer && all.indexOf(layer) === index);
  const [first, second] = shown;
  const together = second?.kind === "class" && first.kind === "class" && first.legend === second.legend && first.classes.length === second.classes.length;
  const parts = together ? [classTable([second, first])] : shown.map((layer) => LEGENDS[layer.kind](layer));
  $("legend").replaceChildren(...parts.flat());
  drawShares();
}

const LEGENDS = { image: () => [], score: rampLegend, class: (layer) => classTable([layer]) };

function rampLegend(layer) {
  const bar = node("div", { className: "ramp" });
  bar.style.background = `linear-gradient(90deg, ${[0, 0.25, 0.5, 0.75, 1].map(ramp).join(", ")})`;
  const ends = node("div", { className: "ends" }, node("span", {}, "0 %"), node("span", {}, layer.most ? `${layer.most} % or more` : "100 %"));
  const title = layer.group === "share" ? [`Share of ${label(layer)}`] : [`${label(layer)} `, node("span", {}, layer.unit ?? "")];
  return [node("h2", {}, ...title), bar, ends];
}

/** Classes of one layer with area and share in view, or areas of two layers of one legend side by side. */
function classTable(layers) {
  const { legend, classes } = layers[0];
  const exact = layers.every((layer) => layer.exact);
  const title = node("h2", {}, `${layers.map(label).join(", ")} `, node("span", {}, exact ? legend : `${legend}, areas estimated`));
  const unit = classes.some((item) => item.ha !== null) ? "ha" : "%";
  const columns = layers.length > 1 ? layers.map((layer) => `${unit} ${layer.year || layer.name}`) : [unit, "% in view"];
  const head = node("tr", {}, ...["class", ...columns].map((text) => node("th", { scope: "col" }, text)));
  const body = node("tbody");
  classes.forEach((item, index) => {
    if (layers.every((layer) => layer.classes[index].share === 0)) return;
    const cells = layers.map((layer) => {
      const { ha, share } = layer.classes[index];
      return node("td", {}, unit === "ha" ? number.format(ha) : percent(share));
    });
    if (layers.length === 1) {
      cells.push(node("td", { className: "muted" }));
      Object.assign(cells[1].dataset, { layer: layers[0].id, value: item.value });
    }
    body.append(node("tr", {}, node("td", {}, classButton(layers[0], item)), ...cells));
  });
  return [title, node("table", {}, node("thead", {}, head), body)];
}

function classButton(layer, item) {
  const pressed = only !== null && only.legend === layer.legend && only.value === item.value;
  const text = node("span", {}, classTitle(item));
  const button = node("button", { type: "button", className: "class" }, chip(layer, item.value), text);
  button.setAttribute("aria-pressed", pressed);
  button.addEventListener("click", () => {
    only = pressed ? null : { legend: layer.legend, value: item.value };
    store.restyle({ only });
    drawLegend();
  });
  return button;
}

function drawShares() {
  const sharesOf = new Map();
  for (const cell of document.querySelectorAll("td[data-layer]")) {
    const { layer, value } = cell.dataset;
    if (!sharesOf.has(layer)) sharesOf.set(layer, map.zoom ? map.shares(view.layers[layer]) : null);
    const shares = sharesOf.get(layer);
    cell.textContent = shares ? percent(shares[value]) : "";
  }
}

// ---- values under a click ----

async function identify(col, row) {
  [col, row] = [Math.floor(col), Math.floor(row)];
  if (col < 0 || row < 0 || col >= view.cols || row >= view.rows) return clearSelection();
  const number = ++request;
  const response = await fetch(`/api/at?row=${row}&col=${col}`);
  const values = await response.json();
  if (number !== request) return; // another click came meanwhile
  if (!response.ok) return void ($("trouble").textContent = values.error);
  selected = values;
  drawSelected();
  if (narrow.matches && $("panel").hidden) togglePanel(); // shows the values
  drawPin();
  if ($("pin").hidden) map.look(selected.col, selected.row, map.zoom);
}

/** Whether a class differs from that of an earlier year; maps of one legend are compared at the coarser of their levels. */
function differs(layer, item, earlier) {
  if (layer.family !== earlier.layer.family) return false;
  const level = Math.min(item.path.length, earlier.item.path.length) - 1;
  return item.path[level] !== earlier.item.path[level];
}

function clearSelection() {
  request++;
  selected = null;
  drawPin();
  $("values").replaceChildren(node("p", { className: "muted" }, "Click the map to see its values."));
}

function drawPin() {
  $("pin").hidden = selected === null;
  if (selected) {
    const [x, y] = map.point(selected.col + 0.5, selected.row + 0.5);
    $("pin").style.transform = `translate(${x}px, ${y}px)`;
    $("pin").hidden = x < 0 || y < 0 || x > map.width || y > map.height;
  }
}

function drawSelected() {
  const list = node("dl");
  const add = (term, ...what) => list.append(node("dt", {}, term), node("dd", {}, ...what));
  const years = view.layers.filter((layer) => layer.kind === "class" && layer.name !== "Reference");
  years.sort((a, b) => (a.year || "now").localeCompare(b.year || "now")); // a map without a year is the latest
  const ordered = years.length > 1 ? [...years, ...view.layers.filter((layer) => !years.includes(layer))] : view.layers;
  let earlier = null;
  for (const layer of ordered) {
    const value = selected.values[layer.id];
    if (layer.group === "share") continue; // in the table of the mixture
    if (layer.kind === "class") {
      const item = layer.classes.find((other) => other.value === value);
      const name = item ? classTitle(item) : "no data";
      const changed = years.includes(layer) && earlier !== null && item && differs(layer, item, earlier);
      add(label(layer), ...(item ? [chip(layer, value)] : []), node("span", { className: changed ? "changed" : "" }, name));
      if (years.includes(layer) && item) earlier = { layer, item };
    } else if (layer.kind === "score") {
      add(label(layer), value === null ? "no data" : `${value} %`);
    } else {
      const bands = Object.entries(value ?? {}).map(([name, quantity]) => node("span", { className: "pair" }, `${name} ${quantity ?? "–"}`));
      add(label(layer), bands.length ? node("span", {}, ...bands.flatMap((band, index) => (index ? [", ", band] : [band]))) : "no data");
    }
  }
  add(view.crs, coordinates(selected.x, selected.y));
  if (!view.degrees) add("WGS 84", `${selected.lat.toFixed(5)}°, ${selected.lon.toFixed(5)}°`);
  const behind = [];
  const colourOf = (value) => store.colourOf(view.layers[0], value);
  if (selected.mixture) behind.push(mixtureTable(selected.mixture, view.layers[0], colourOf));
  if (selected.series) behind.push(seriesChart(selected.series, selected.mixture, colourOf));
  $("values").replaceChildren(node("h2", {}, "Here"), list, ...behind);
}

// ---- buttons and keys ----

function toggleSafe() {
  const safe = !store.safe;
  $("safe").setAttribute("aria-pressed", safe);
  store.restyle({ safe });
  drawLegend();
  if (selected) drawSelected();
}

function togglePanel() {
  $("panel").hidden = !$("panel").hidden;
  $("panel-button").setAttribute("aria-expanded", !$("panel").hidden);
}

const KEYS = {
  ArrowLeft: (far) => map.panBy(-far, 0),
  ArrowRight: (far) => map.panBy(far, 0),
  ArrowUp: (far) => map.panBy(0, -far),
  ArrowDown: (far) => map.panBy(0, far),
  "+": () => map.zoomBy(1.5),
  "=": () => map.zoomBy(1.5),
  "-": () => map.zoomBy(1 / 1.5),
  0: () => map.fit(),
  "[": () => setSwipe(map.swipe - 0.05),
  "]": () => setSwipe(map.swipe + 0.05),
  s: swap,
  g: toggleSafe,
  l: togglePanel,
  Escape: clearSelection,
  "?": () => $("help").showModal(),
};
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const where = event.target;
  if (where.matches("input, select, textarea")) return;
  if (where === $("swipe") && ["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) {
    event.preventDefault();
    const step = { ArrowLeft: map.swipe - 0.02, ArrowRight: map.swipe + 0.02, Home: 0, End: 1 };
    return setSwipe(step[event.key]);
  }
  if (event.key === "Enter" && !where.matches("button")) return void identify(...map.centre);
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act(event.shiftKey ? Math.min(map.width, map.height) / 2 : 80);
});
for (const [id, act] of [["in", () => map.zoomBy(2)], ["out", () => map.zoomBy(0.5)], ["fit", () => map.fit()], ["safe", toggleSafe], ["panel-button", togglePanel], ["help-button", KEYS["?"]]]) {
  $(id).addEventListener("click", act);
}
if (!alone) choose("left", image ?? view.layers.find((layer) => layer.name === "Reference") ?? view.layers[1]);
choose("right", view.layers[0]);
if (narrow.matches) togglePanel();
requestAnimationFrame(() => {
  if (!map.zoom) map.fit();
  fromAddress();
  document.body.dataset.ready = "";
});
