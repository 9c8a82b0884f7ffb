// Question on a point: the class in the frame.
import { classQuestion, listenForClasses, showClass } from "./class_list.js";
import { begin, edit, metres, name } from "./review.js";

begin({
  ...classQuestion,
  finished: "All points are interpreted",

  sizeOf: (item) => `frame ${metres(item.side_m)}`,
  showDraft: (state) => showClass(state.reference),
  summary: () => `The answers are in the field "reference" of ${name}. Estimate with: tesela sample estimate ${name} MAP -o DIR`,

  listen: () => listenForClasses((code) => edit((state) => (state.reference = code), { answers: true })),
});
