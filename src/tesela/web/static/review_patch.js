// Questions on a patch: are the labels right, are the boundaries right, or directly its quality.
import { traceBorders } from "./panes.js";
import {
  all, begin, by, classes, current, edit, get, metres, name, panes, press, progress, set, showItem, swatch, viewsFrom,
} from "./review.js";

const QUALITIES = ["high", "medium", "low"];

begin({
  finished: "All patches are reviewed",

  draftOf: ({ label = null, boundary = null, quality = null, reasons = [] }) => ({ label, boundary, quality, reasons: new Set(reasons) }),
  answerOf: (draft) => draft.quality,
  fieldsOf: ({ label, boundary, quality, reasons }) => ({ label, boundary, quality, reasons: [...reasons] }),

  viewsOf: (item) => viewsFrom(item).slice(0, 1),
  sizeOf: (item) => `${metres(Math.round(item.extent.home * item.pixel_m))} wide`,

  async fetchLabels(item) {
    const labels = new Uint8Array(await (await get("/labels", { id: item.id })).arrayBuffer());
    return { labels, borders: traceBorders(labels, item.extent.home) };
  },

  showDraft(state) {
    for (const button of all("[data-question]")) press(button, state[button.dataset.question] === Number(button.dataset.answer));
    for (const button of all("[data-quality]")) press(button, state.quality === button.dataset.quality);
    for (const button of all("[data-reason]")) press(button, state.reasons.has(button.dataset.reason));
  },

  showItem(item) {
    const rows = Object.entries(item.shares).sort((one, other) => other[1] - one[1]);
    by("legend").replaceChildren(...rows.map(([value, share]) => legendRow(classes.get(Number(value)), share)));
  },

  showProgress(whole) {
    for (const quality of QUALITIES) document.querySelector(`#meter .${quality}`).style.width = `${(100 * (progress.given[quality] ?? 0)) / whole}%`;
  },

  summary() {
    const counts = QUALITIES.map((quality) => `${progress.given[quality] ?? 0} ${quality}`).join(" · ");
    return `${counts}. Export with: tesela review export ${name} -o FILE`;
  },

  showSettings() {
    by("opacity").value = String(Math.round(100 * panes.opacity));
    press(by("outlines"), panes.outlines);
    press(by("safe"), panes.safe);
  },

  keys: {
    ",": () => set({ opacity: Math.max(0, panes.opacity - 0.1) }),
    ".": () => set({ opacity: Math.min(1, panes.opacity + 0.1) }),
  },

  listen() {
    for (const button of all("[data-question]")) {
      const { question, answer } = button.dataset;
      button.addEventListener("click", () => edit((state) => {
        state[question] = Number(answer);
        state.quality = state.label && state.boundary ? QUALITIES[Math.max(state.label, state.boundary) - 1] : null;
      }, { answers: true }));
    }
    for (const button of all("[data-quality]")) {
      const { quality } = button.dataset;
      button.addEventListener("click", () => edit((state) => Object.assign(state, { quality, label: null, boundary: null }), { answers: true }));
    }
    for (const button of all("[data-reason]")) {
      const { reason } = button.dataset;
      button.addEventListener("click", () => edit(({ reasons }) => reasons[reasons.has(reason) ? "delete" : "add"](reason)));
    }
    by("outlines").addEventListener("click", () => set({ outlines: !panes.outlines }));
    by("safe").addEventListener("click", () => {
      set({ safe: !panes.safe });
      if (current()) showItem(current());
    });
    by("opacity").addEventListener("input", () => set({ opacity: by("opacity").valueAsNumber / 100 }));
  },
});

function legendRow(item, share) {
  const row = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  const title = document.createElement("span");
  title.textContent = item.name;
  const part = document.createElement("b");
  part.textContent = share >= 0.01 ? `${Math.round(100 * share)} %` : "<1 %";
  button.title = `${item.code} ${item.name}`;
  button.append(swatch(item.value), title, part);
  for (const [on, value] of [["pointerenter", item.value], ["focus", item.value], ["pointerleave", null], ["blur", null]])
    button.addEventListener(on, () => panes.set({ only: value }));
  row.append(button);
  return row;
}
