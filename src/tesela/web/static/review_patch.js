// What is asked of a patch: are the labels right, are the boundaries, or its tier straight away.
import { traceBorders } from "./panes.js";
import {
  all, ask, begin, by, classes, current, edit, metres, name, panes, press, progress, set, showItem, swatch, viewsFrom,
} from "./review.js";

const TIERS = ["high", "medium", "low"];

begin({
  finished: "All patches are judged",

  draftOf: ({ label = null, boundary = null, tier = null, reasons = [] }) => ({ label, boundary, tier, reasons: new Set(reasons) }),
  answerOf: (draft) => draft.tier,
  fieldsOf: ({ label, boundary, tier, reasons }) => ({ label, boundary, tier, reasons: [...reasons] }),

  viewsOf: (item) => viewsFrom(item).slice(0, 1),
  sizeOf: (item) => `${metres(Math.round(item.place.home * item.pixel_m))} wide`,

  async fetchLabels(item) {
    const labels = new Uint8Array(await (await ask("/labels", { id: item.id })).arrayBuffer());
    return { labels, borders: traceBorders(labels, item.place.home) };
  },

  showDraft(state) {
    for (const button of all("[data-question]")) press(button, state[button.dataset.question] === Number(button.dataset.answer));
    for (const button of all("[data-tier]")) press(button, state.tier === button.dataset.tier);
    for (const button of all("[data-reason]")) press(button, state.reasons.has(button.dataset.reason));
  },

  showItem(item) {
    const rows = Object.entries(item.shares).sort((one, other) => other[1] - one[1]);
    by("legend").replaceChildren(...rows.map(([value, share]) => legendRow(classes.get(Number(value)), share)));
  },

  showProgress(whole) {
    for (const tier of TIERS) document.querySelector(`#meter .${tier}`).style.width = `${(100 * (progress.given[tier] ?? 0)) / whole}%`;
  },

  summary() {
    const counts = TIERS.map((tier) => `${progress.given[tier] ?? 0} ${tier}`).join(" · ");
    return `${counts}. Export with: tesela review ${name} --export FILE`;
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
        state.tier = state.label && state.boundary ? TIERS[Math.max(state.label, state.boundary) - 1] : null;
      }, { answers: true }));
    }
    for (const button of all("[data-tier]")) {
      const { tier } = button.dataset;
      button.addEventListener("click", () => edit((state) => Object.assign(state, { tier, label: null, boundary: null }), { answers: true }));
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
