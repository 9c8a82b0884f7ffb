// Question on a proposed change: accept it, reject it, or another class.
import { classQuestion, listenForClasses, showClass } from "./class_list.js";
import { begin, by, current, edit, name, press } from "./review.js";

begin({
  ...classQuestion,
  finished: "All changes are decided",

  sizeOf: (item) => `${item.area_ha} ha, ${Math.round(100 * item.share)} % of its polygon`,

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
    classQuestion.showItem(item);
  },

  summary: () => `The decisions are in ${name}. Apply them with: tesela update apply ${name} -o NEW.gpkg`,
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
