// Items answered by a class: the list of classes, of which one is picked by mouse, number, code or name, and the panes.
import { all, by, progress, viewsFrom } from "./review.js";

const options = all("[data-class]");
const short = options.length <= 9; // digits are numbers in the list; otherwise they start a code
const digits = [..."0123456789"].filter((digit) => options.some((option) => option.dataset.class.startsWith(digit)));
let onpick;

/** Keys of the page that belong to the list. */
export const classKeys = {
  "/": () => by("search").focus(),
  ...(short ? {} : Object.fromEntries(digits.map((digit) => [digit, () => type(digit)]))),
};

/** What all items with this question have in common, for `begin`. */
export const classQuestion = {
  draftOf: ({ reference = null }) => ({ reference }),
  answerOf: (draft) => draft.reference,
  fieldsOf: ({ reference }) => ({ reference }),

  viewsOf: (item) => viewsFrom(item).slice(0, 2),
  fetchLabels: async () => ({}),

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
  showSettings() {},

  keys: classKeys,
};

export function showClass(code) {
  for (const option of options) option.setAttribute("aria-selected", String(option.dataset.class === code));
  search("");
}

/** Call `picked` with the code of each class that is picked. */
export function listenForClasses(picked) {
  onpick = picked;
  for (const option of options) option.addEventListener("click", () => pick(option));
  by("search").addEventListener("input", () => search(by("search").value));
  by("search").addEventListener("keydown", (event) => {
    const moves = { ArrowDown: 1, ArrowUp: -1 };
    if (event.key === "Escape") leave();
    else if (event.key === "Enter") {
      const chosen = options.find((option) => option.classList.contains("first"));
      if (chosen) pick(chosen);
    } else if (moves[event.key]) {
      const listed = options.filter((option) => !option.parentElement.hidden);
      const at = listed.findIndex((option) => option.classList.contains("first")) + moves[event.key];
      mark(listed[Math.min(listed.length - 1, Math.max(0, at))]);
    } else return;
    event.preventDefault();
  });
}

function pick(option) {
  leave();
  onpick(option.dataset.class);
}

function leave() {
  by("search").blur();
  search("");
}

function type(digit) {
  by("search").focus();
  search(digit);
}

/** List the classes with a code or a word of the name that starts with the text; a complete numeric code that starts no other selects its class. */
function search(text) {
  if (by("search").value !== text) by("search").value = text;
  const wanted = text.trim().toLowerCase();
  const matches = [];
  for (const option of options) {
    const code = option.dataset.class.toLowerCase();
    const words = option.querySelector("span").textContent.toLowerCase();
    const fits = code.startsWith(wanted) || words.startsWith(wanted) || words.includes(` ${wanted}`);
    option.parentElement.hidden = !fits;
    if (fits) matches.push(option);
  }
  mark(wanted ? matches[0] : null);
  const codes = options.map((option) => option.dataset.class.toLowerCase()).filter((code) => code.startsWith(wanted));
  if (/^\d+$/.test(wanted) && codes.length === 1 && codes[0] === wanted) pick(matches[0]);
}

function mark(chosen) {
  for (const option of options) option.classList.toggle("first", option === chosen);
  chosen?.scrollIntoView({ block: "nearest" });
}
