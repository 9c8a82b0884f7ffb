// Question on a point: the class in the frame.
import { classKeys, listenForClasses, showClass } from "./class_list.js";
import { all, begin, edit, metres, name, progress, viewsFrom } from "./review.js";

begin({
  finished: "All points are interpreted",

  draftOf: ({ reference = null }) => ({ reference }),
  answerOf: (draft) => draft.reference,
  fieldsOf: ({ reference }) => ({ reference }),

  viewsOf: (item) => viewsFrom(item).slice(0, 2),
  sizeOf: (item) => `frame ${metres(item.side_m)}`,
  fetchLabels: async () => ({}),

  showDraft: (state) => showClass(state.reference),

  showItem(item) {
    const [first, second] = this.viewsOf(item);
    const titles = { image: item.views[first], second: item.views[second] ?? "", wide: `Around · ${item.views[first]}` };
    for (const canvas of all("#panes canvas")) {
      const figure = canvas.closest("figure");
      figure.hidden = !titles[canvas.dataset.shows];
      figure.querySelector("figcaption").textContent = titles[canvas.dataset.shows];
    }
  },

  showProgress: (whole) => (document.querySelector("#meter .done").style.width = `${(100 * progress.done) / whole}%`),
  summary: () => `The answers are in the field "reference" of ${name}. Estimate with: tesela sample estimate ${name} MAP -o DIR`,
  showSettings() {},

  keys: classKeys,
  listen: () => listenForClasses((code) => edit((state) => (state.reference = code), { answers: true })),
});
