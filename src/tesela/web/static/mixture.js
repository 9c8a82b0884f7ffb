// The mixture of a clicked pixel: shares as bars, and its series beside the spectra of the classes.

const SVG = "http://www.w3.org/2000/svg";
const WIDE = 288;
const HIGH = 150;
const EDGE = { left: 34, right: 4, top: 8, bottom: 18 };
let shown = 0; // band of the chart

/** Code and name of a class; the name alone where it says the code in other letters: wet-lands Wet lands. */
export function classTitle({ code, name }) {
  const words = code.replace(/[-_]/g, " ").toLowerCase();
  const said = code === name || (words.length > 3 && name.toLowerCase().startsWith(words));
  return said ? name : `${code} ${name}`;
}

function element(kind, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(kind), attributes);
  made.append(...children);
  return made;
}

function drawing(kind, attributes, text = "") {
  const made = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

const percent = (share) => (100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0);

/** Table of the classes with a share, largest first; bars show the share, a mark the reference. */
export function mixtureTable(rows, layer, colourOf) {
  const withReference = rows.some((row) => row.reference !== null);
  const listed = rows.filter((row) => row.share >= 0.005 || (row.reference ?? 0) >= 0.005).sort((a, b) => b.share - a.share);
  const titles = ["class", "%", ...(rows[0].deviation === null ? [] : ["±"]), ...(withReference ? ["ref."] : [])];
  const body = element("tbody");
  for (const row of listed) {
    const item = layer.classes.find((other) => other.value === row.value);
    const bar = element("div", { className: "bar" }, element("i"));
    bar.firstChild.style.width = `${100 * row.share}%`;
    bar.firstChild.style.background = colourOf(row.value);
    if (row.reference !== null) {
      const mark = element("b", { title: `reference ${percent(row.reference)} %` });
      mark.style.left = `${100 * row.reference}%`;
      bar.append(mark);
    }
    const name = classTitle(item);
    const cells = [percent(row.share)];
    if (row.deviation !== null) cells.push(percent(row.deviation));
    if (withReference) cells.push(row.reference === null ? "–" : percent(row.reference));
    body.append(element("tr", {}, element("td", {}, name, bar), ...cells.map((text) => element("td", {}, text))));
  }
  const head = element("tr", {}, ...titles.map((text) => element("th", { scope: "col" }, text)));
  return element("table", { className: "mixture" }, element("thead", {}, head), body);
}

/** The series of a pixel as a line with dots, and thin lines of the endmembers of its classes. */
export function seriesChart(series, rows, colourOf) {
  const box = element("div", { className: "series" });
  const draw = () => {
    shown = Math.min(shown, series.bands.length - 1);
    const own = series.lines[shown];
    const present = new Set(rows.filter((row) => row.share >= 0.05).map((row) => row.value));
    const others = series.endmembers.filter((item) => present.has(item.value)).map((item) => [item.value, item.lines[shown]]);
    const known = [own, ...others.map(([, line]) => line)].flat().filter((value) => value !== null);
    const chooser = element("select", { ariaLabel: "Band of the series" });
    chooser.append(...series.bands.map((band, at) => new Option(band, at, false, at === shown)));
    chooser.addEventListener("change", () => ((shown = Number(chooser.value)), draw()));
    const head = element("h2", {}, "Series ", chooser);
    if (!known.length) return box.replaceChildren(head, element("p", { className: "muted" }, "No observation."));
    const [low, high] = [Math.min(...known), Math.max(...known)];
    const x = (at) => EDGE.left + (at / Math.max(1, series.times.length - 1)) * (WIDE - EDGE.left - EDGE.right);
    const y = (value) => EDGE.top + (1 - (value - low) / (high - low || 1)) * (HIGH - EDGE.top - EDGE.bottom);
    const label = `${series.bands[shown]} of ${series.times[0]} to ${series.times.at(-1)}, ${low} to ${high}`;
    const chart = drawing("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": label });
    for (const value of [low, high]) {
      chart.append(drawing("line", { x1: EDGE.left, x2: WIDE, y1: y(value), y2: y(value), class: "rule" }));
      chart.append(drawing("text", { x: EDGE.left - 4, y: y(value) + 4, "text-anchor": "end" }, String(Number(value.toPrecision(3)))));
    }
    const last = series.times.length - 1;
    for (const [at, anchor] of [[0, "start"], [last, "end"]]) {
      chart.append(drawing("text", { x: x(at), y: HIGH - 4, "text-anchor": anchor }, series.times[at]));
    }
    for (const [, line] of others) chart.append(drawing("path", { d: path(line, x, y), class: "case" }));
    for (const [value, line] of others) chart.append(drawing("path", { d: path(line, x, y), stroke: colourOf(value), class: "end" }));
    chart.append(drawing("path", { d: path(own, x, y), class: "own" }));
    own.forEach((value, at) => value !== null && chart.append(drawing("circle", { cx: x(at), cy: y(value), r: 2.4 })));
    const note = element("p", { className: "muted" }, others.length ? "Dots: this pixel. Lines in class colours: its endmembers." : "Gaps are left open.");
    box.replaceChildren(head, chart, note);
  };
  draw();
  return box;
}

/** Path of a line that breaks at gaps. */
function path(line, x, y) {
  let open = false;
  return line.map((value, at) => {
    if (value === null) return (open = false), "";
    const step = `${open ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    open = true;
    return step;
  }).join("");
}
