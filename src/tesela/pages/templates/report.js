"use strict";
// Linked panes: one view (x, y: the corner in parts of the picture, s: how many times enlarged) moves all pictures.
(() => {
  const data = JSON.parse(document.getElementById("hover").textContent);
  const panes = document.querySelector(".panes");
  const views = [...panes.querySelectorAll(".view")];
  const readout = document.getElementById("readout");
  const hint = readout.textContent;
  const view = { x: 0, y: 0, s: 1 };
  const most = Math.max(4, Math.max(data.rows, data.cols) / 12);
  const values = {};
  const names = ["map", "generalised", "reference"].filter((name) => data[name]);

  async function unpack(name) {
    const bytes = Uint8Array.from(atob(data[name]), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    values[name] = new Uint8Array(await new Response(stream).arrayBuffer());
  }
  if ("DecompressionStream" in window) { names.forEach(unpack); }

  function show() {
    view.s = Math.min(Math.max(view.s, 1), most);
    view.x = Math.min(Math.max(view.x, 0), 1 - 1 / view.s);
    view.y = Math.min(Math.max(view.y, 0), 1 - 1 / view.s);
    const transform = `scale(${view.s}) translate(${-100 * view.x}%, ${-100 * view.y}%)`;
    for (const element of views) element.firstElementChild.style.transform = transform;
    panes.classList.toggle("zoomed", view.s > 1);
  }

  // Enlarge, and keep the point at the parts u, v of the pane where it is.
  function zoom(times, u = 0.5, v = 0.5) {
    const before = view.s;
    view.s = Math.min(Math.max(view.s * times, 1), most);
    view.x += u / before - u / view.s;
    view.y += v / before - v / view.s;
    show();
  }

  function position(event) {
    const box = event.currentTarget.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  function named(name, index) {
    const item = values[name] && data.classes[values[name][index]];
    const parts = [document.createElement("b"), item ? item[0] : "no data"];
    parts[0].textContent = { map: "Map: ", generalised: "Generalised: ", reference: "Reference: " }[name];
    if (item) {
      const swatch = document.createElement("i");
      swatch.className = "swatch";
      swatch.style.background = item[1];
      parts.splice(1, 0, swatch);
    }
    return parts;
  }

  function read(u, v) {
    const x = view.x + u / view.s, y = view.y + v / view.s;
    const col = Math.floor(x * data.cols), row = Math.floor(y * data.rows);
    if (names.some((name) => !values[name]) || col < 0 || row < 0 || col >= data.cols || row >= data.rows) return;
    const index = row * data.cols + col;
    const [a, b, c, d, e, f] = data.transform;
    const east = a * x * data.cols + b * y * data.rows + c, north = d * x * data.cols + e * y * data.rows + f;
    const at = [east, north].map((number) => number.toFixed(data.decimals)).join(", ");
    readout.replaceChildren(...names.flatMap((name) => [...named(name, index), " · "]), `${data.crs}: ${at}`);
    readout.classList.add("live");
    for (const element of views) {
      const cross = element.lastElementChild;
      cross.hidden = false;
      cross.style.left = `${100 * u}%`;
      cross.style.top = `${100 * v}%`;
    }
  }

  const fingers = new Map();
  for (const element of views) {
    element.addEventListener("pointerdown", (event) => {
      fingers.set(event.pointerId, position(event));
      if (view.s > 1) element.setPointerCapture(event.pointerId);
      read(...position(event));
    });
    element.addEventListener("pointermove", (event) => {
      const now = position(event), last = fingers.get(event.pointerId);
      if (last && view.s > 1 && fingers.size === 1) {
        view.x -= (now[0] - last[0]) / view.s;
        view.y -= (now[1] - last[1]) / view.s;
        show();
      } else if (last && fingers.size === 2) {
        const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
        const length = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
        zoom(length(now) / Math.max(length(last), 0.01), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
      }
      if (last) fingers.set(event.pointerId, now);
      read(...now);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      element.addEventListener(end, (event) => fingers.delete(event.pointerId));
    }
    element.addEventListener("pointerleave", (event) => {
      fingers.delete(event.pointerId);
      if (event.pointerType !== "mouse") return;
      for (const other of views) other.lastElementChild.hidden = true;
      readout.textContent = hint;
      readout.classList.remove("live");
    });
    element.addEventListener("dblclick", (event) => zoom(2, ...position(event)));
    element.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / 300), ...position(event));
    }, { passive: false });
    element.addEventListener("keydown", (event) => {
      const step = 0.1 / view.s;
      const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
      if (event.key === "+") zoom(1.5);
      else if (event.key === "-") zoom(1 / 1.5);
      else if (moves[event.key] && view.s > 1) {
        view.x += moves[event.key][0];
        view.y += moves[event.key][1];
        show();
        event.preventDefault();
      }
    });
  }
  for (const button of document.querySelectorAll("[data-do]")) {
    button.addEventListener("click", () => {
      if (button.dataset.do === "reset") { view.s = 1; show(); }
      else zoom(button.dataset.do === "in" ? 1.6 : 1 / 1.6);
    });
  }

  // The matrix in three units; shares of the map where asked for, of the reference otherwise.
  const hectares = (number) => number.toFixed(number >= 100 ? 0 : number >= 1 ? 1 : 2);
  const percent = (share) => (share >= 0.005 ? (100 * share).toFixed(0) : "<1");
  for (const button of document.querySelectorAll("[data-matrix]")) {
    button.addEventListener("click", () => {
      const unit = button.dataset.matrix;
      for (const other of document.querySelectorAll("[data-matrix]")) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      for (const cell of document.querySelectorAll(".matrix td[data-ha]")) {
        const share = Number(unit === "col" ? cell.dataset.col : cell.dataset.row);
        cell.style.setProperty("--s", share);
        cell.textContent = unit === "ha" ? hectares(Number(cell.dataset.ha)) : percent(share);
      }
    });
  }
})();
