// Question on a proposed change: accept it, reject it, or another class.
import { classKeys, listenForClasses, showClass } from "./class_list.js";
import { all, begin, by, current, edit, name, press, progress, viewsFrom } from "./review.js";

begin({
  finished: "All changes are decided",

  draftOf: ({ reference = null }) => ({ reference }),
  answerOf: (draft) => draft.reference,
  fieldsOf: ({ reference }) => ({ reference }),

  viewsOf: (item) => viewsFrom(item).slice(0, 2),
  sizeOf: (item) => `${item.area_ha} ha, ${Math.round(100 * item.share)} % of its polygon`,
  fetchLabels: async () => ({}),

  showDraft(state) {
    const item = current();
    showClass(state.reference);
    by("accept").disabled = !item?.new;
    press(by("accept"), Boolean(item?.new) && state.reference === item.new.code);
    press(by("reject"), Boolean(item) && state.reference === item.old.code);
  },

  showItem(item) {
    by("old-class").replaceChildren(...named(item.old));
    by("new-class").replaceChildren(...(item.new ? named(item.new) : ["no change proposed"]));
    const [first, second] = this.viewsOf(item);
    const titles = { image: item.views[first], second: item.views[second] ?? "", wide: `Around · ${item.views[first]}` };
    for (const canvas of all("#panes canvas")) {
      const figure = canvas.closest("figure");
      figure.hidden = !titles[canvas.dataset.shows];
      figure.querySelector("figcaption").textContent = titles[canvas.dataset.shows];
    }
  },

  showProgress: (whole) => (document.querySelector("#meter .done").style.width = `${(100 * progress.done) / whole}%`),
  summary: () => `The decisions are in ${name}. Apply them with: tesela update apply ${name} -o NEW.gpkg`,
  showSettings() {},

  keys: classKeys,
  listen() {
    by("accept").addEventListener("click", () => decide(current()?.new));
    by("reject").addEventListener("click", () => decide(current()?.old));
    listenForClasses((code) => decide({ code }));
  },
});

function decide(chosen) {
  if (chosen) edit((state) => (state.reference = chosen.code), { answers: true });
}

function named({ code, name: title, color }) {
  const square = document.createElement("i");
  square.style.background = color;
  return [square, code === title ? code : `${code} ${title}`];
}
