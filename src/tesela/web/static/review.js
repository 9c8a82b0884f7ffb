// The review: items come one by one, verdicts are sent. panes.js draws, outbox.js sends; the questions are in
// review_patch.js and review_point.js, which start the review.
import { Outbox, freshKey, post } from "./outbox.js";
import { Panes } from "./panes.js";

export const by = (id) => document.getElementById(id);
export const all = (rule) => [...document.querySelectorAll(rule)];
export const { reviewer, name, noun, subject } = document.body.dataset;
export const settings = JSON.parse(localStorage.getItem("tesela-review") ?? "{}");

const query = `reviewer=${encodeURIComponent(reviewer)}`;
const CACHED = 24; // items in memory
const IDLE_MS = 120_000; // a longer time counts as a break
const RETRY_MS = 1000; // pause before an item is requested again, while the server does not respond

export let panes;
export let classes; // by value
export let progress = null;
let questions; // see begin
let queue = []; // next items; the first is the new one
let trail = []; // { item, verdict }, in the order of the verdicts
let cursor = 0; // position in the trail; its length: the new item
let draft = null; // the verdict being edited
let shown = null; // id of the requested item
let ready = null; // id of the item on the screen: no verdict before it is visible
let watched = { ms: 0, since: null };
let undoing = false;
let outbox;
const drafts = new Map(); // unfinished verdicts, by id
const loaded = new Map(); // promises of pictures and labels, by id and views

/**
 * Questions: { draftOf(verdict), answerOf(draft), fieldsOf(draft), showDraft(draft), showItem(item), showProgress(),
 * summary(), viewsOf(item), fetchLabels(item), listen() }, and additional `keys`.
 */
export async function begin(ofItems) {
  questions = ofItems;
  outbox = new Outbox(["tesela-review", name, ...(subject ? [subject] : []), reviewer].join(":"), {
    onreply: take,
    onrefused: (verdict, why) => notify(`Not stored: ${why}`),
    onchange: (waiting, reachable) => {
      by("saved").textContent = waiting === 0 ? "saved" : reachable ? "saving" : `${waiting} not saved yet: no response from the server`;
      by("saved").classList.toggle("late", !reachable);
    },
  });
  await outbox.emptied();
  const first = await (await fetch(`/api/start?${query}`)).json();
  if (first.error) return notify(first.error);
  classes = new Map(first.legend.map((item) => [item.value, item]));
  panes = new Panes(all("#panes canvas"), { legend: first.legend, onhover: readOut });
  panes.set({ opacity: settings.opacity ?? 0.45, outlines: settings.outlines ?? false, safe: settings.safe ?? false });
  by("advance").checked = settings.advance ?? true;
  trail = first.trail;
  cursor = trail.length;
  saveSettings();
  take(first);
  listen();
  by("saved").textContent = trail.length ? "saved" : "";
  if (first.notes.length) notify(first.notes.join(" "));
}

// Responses of the server

function take(reply) {
  progress = reply.progress;
  const kept = queue.slice(0, 1);
  const coming = reply.queue.filter((item) => !outbox.has(item.id) && item.id !== kept[0]?.id);
  queue = [...kept, ...coming];
  if (reply.warning) notify(reply.warning);
  showProgress();
  if (shown === null || (cursor === trail.length && queue[0]?.id !== shown)) show();
  else prefetch();
}

// Items

export function current() {
  return cursor < trail.length ? trail[cursor].item : queue[0];
}

function load(item) {
  const views = questions.viewsOf(item);
  const key = [item.id, ...views].join("\n");
  if (!loaded.has(key)) {
    const fetched = fetchItem(item, views);
    fetched.catch(() => loaded.delete(key));
    loaded.set(key, fetched);
    for (const old of [...loaded.keys()].slice(0, Math.max(0, loaded.size - CACHED))) loaded.delete(old);
  }
  return loaded.get(key);
}

async function fetchItem(item, views) {
  const pictures = views.map(async (view) => createImageBitmap(await (await get("/picture", { id: item.id, view })).blob()));
  const [labels, ...bitmaps] = await Promise.all([questions.fetchLabels(item), ...pictures]);
  return { pictures: bitmaps, extents: views.map((view) => item.extent ?? item.extents[view.split(" ")[0]]), ...labels };
}

export async function get(address, given) {
  const response = await fetch(`${address}?${new URLSearchParams(given)}`);
  if (!response.ok) throw new Error((await response.json()).error);
  return response;
}

function prefetch() {
  const ahead = cursor < trail.length ? [trail[cursor + 1]?.item, queue[0]] : queue.slice(1, 4);
  for (const item of ahead) if (item) load(item).catch(() => {});
}

async function show() {
  const item = current();
  const fresh = cursor === trail.length;
  shown = item?.id ?? null;
  ready = null;
  showDone(!item);
  draft = item ? (drafts.get(item.id) ?? draftOf(fresh ? null : trail[cursor].verdict)) : null;
  watched = { ms: 0, since: null };
  showDraft();
  if (!item) return;
  let loadedItem;
  try {
    loadedItem = await load(item);
  } catch (error) {
    if (shown !== item.id) return;
    const unreachable = error instanceof TypeError; // what `fetch` throws without a response
    if (unreachable) setTimeout(() => shown === item.id && show(), RETRY_MS);
    notify(`This ${noun} cannot be shown${unreachable ? " yet: no response from the server" : `: ${error.message}`}`);
    return;
  }
  if (shown !== item.id) return; // another item was requested meanwhile
  panes.show(loadedItem);
  showItem(item);
  ready = item.id;
  watched.since = document.hidden ? null : performance.now();
  document.dispatchEvent(new CustomEvent("itemshown", { detail: item.id }));
  prefetch();
}

// Verdicts

function draftOf(verdict) {
  const { note = "", flag = false, confidence = null } = verdict ?? {};
  return { ...questions.draftOf(verdict ?? {}), note, flag, confidence, changed: false };
}

/** Change the draft; a complete answer shows the next item. */
export function edit(change, { answers = false } = {}) {
  if (!draft || ready !== shown) return;
  change(draft);
  draft.changed = true;
  if (answers && questions.answerOf(draft) && by("advance").checked) submit();
  else showDraft();
}

function verdictOf(item, action) {
  if (watched.since !== null) watched.ms += Math.min(IDLE_MS, performance.now() - watched.since);
  const seconds = Math.round(watched.ms / 10) / 100;
  const base = { key: freshKey(), reviewer, item_id: item.id, action, seconds };
  if (action === "skip") return base;
  const { note, flag, confidence } = draft;
  return { ...base, ...questions.fieldsOf(draft), note: note.trim(), flag, confidence };
}

/** Store the verdict on the item on the screen; true if there was one. */
function storeVerdict() {
  const item = current();
  if (!item || ready !== item.id || !draft?.changed || !questions.answerOf(draft)) return false;
  const verdict = verdictOf(item, "rate");
  drafts.delete(item.id);
  if (cursor === trail.length) {
    queue.shift();
    trail.push({ item, verdict });
  } else trail[cursor] = { item, verdict };
  outbox.add(verdict);
  notify(`Last: ${questions.answerOf(draft)}`, verdict.quality);
  return true;
}

export function submit() {
  if (!storeVerdict()) return;
  cursor += 1;
  show();
}

function skip() {
  const item = current();
  if (!item || ready !== item.id) return;
  if (cursor < trail.length) return go(1);
  queue.shift();
  drafts.delete(item.id);
  outbox.add(verdictOf(item, "skip"));
  notify("Skipped; it comes again at the end");
  show();
}

function go(step) {
  const target = cursor + step;
  if (target < 0 || target > trail.length) return;
  if (draft && questions.answerOf(draft)) storeVerdict();
  else if (draft?.changed && shown) drafts.set(shown, draft);
  cursor = Math.min(target, trail.length);
  show();
}

async function undo() {
  if (undoing) return;
  undoing = true;
  await outbox.emptied();
  const { status, document: reply } = await post("/api/undo", { reviewer, key: freshKey() });
  undoing = false;
  if (status !== 200) return notify(`Not undone: ${reply.error}`);
  if (!reply.undone) return notify("Nothing to undo");
  const item = reply.undone;
  drafts.delete(item.id);
  trail = trail.filter((entry) => entry.item.id !== item.id);
  cursor = trail.length;
  queue = [item, ...queue.filter((other) => other.id !== item.id)];
  take(reply);
  show();
  if (!reply.warning) notify("Undone");
}

// Display

function showDraft() {
  const state = draft ?? draftOf(null);
  questions.showDraft(state);
  for (const button of all("[data-confidence]")) press(button, state.confidence === Number(button.dataset.confidence));
  press(by("flag"), state.flag);
  if (by("note").value !== state.note) by("note").value = state.note;
  by("back").disabled = cursor === 0;
  by("next").disabled = cursor === trail.length && !(draft && questions.answerOf(draft));
  by("undo").disabled = !progress?.done && !trail.length;
}

export function press(button, on) {
  button.setAttribute("aria-pressed", String(on));
}

export function showItem(item) {
  const position = cursor < trail.length ? `Reviewed ${cursor + 1} of ${trail.length}` : `New ${noun}`;
  const words = [position, ...item.where, questions.sizeOf(item), `${item.crs} ${item.centre.join(", ")}`];
  by("where").textContent = words.filter(Boolean).join(" · ");
  by("view").firstChild.textContent = `${item.views[questions.viewsOf(item)[0]]} `;
  by("view").hidden = Object.keys(item.views).length < 2;
  questions.showItem(item);
}

function readOut(value) {
  const item = classes.get(value);
  by("readout").replaceChildren(...(item ? [swatch(value), `${item.code} ${item.name}`] : []));
}

export function swatch(value) {
  const square = document.createElement("i");
  square.style.background = panes.colorOf(value);
  return square;
}

export function metres(number) {
  return number >= 1000 ? `${(number / 1000).toFixed(1)} km` : `${Math.round(number * 10) / 10} m`;
}

function showProgress() {
  const { done, left, team, total, seconds_each: each, left_seconds: rest } = progress;
  questions.showProgress(Math.max(1, done + left));
  by("meter").setAttribute("aria-valuemax", String(Math.max(1, done + left)));
  by("meter").setAttribute("aria-valuenow", String(done));
  const words = [`${done} of ${done + left}`];
  if (each !== null) words.push(`${each < 10 ? each.toFixed(1) : Math.round(each)} s each`);
  if (rest && left) words.push(`${duration(rest)} left`);
  if (team > done) words.push(`together ${team} of ${total}`);
  by("progress").textContent = words.join(" · ");
  by("progress").title = Object.entries(progress.given).map(([answer, count]) => `${count} ${answer}`).join(", ");
}

function duration(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function showDone(done) {
  by("done").hidden = !done;
  if (!done) return;
  const waiting = outbox.waiting.length > 0 || progress?.left > 0;
  by("done-title").textContent = waiting ? "One moment" : questions.finished;
  by("done-text").textContent = waiting ? "The last verdicts are being saved." : `Back and undo still work. ${questions.summary()}`;
  by("where").textContent = "\u00a0";
}

export function notify(text, quality) {
  by("last").textContent = text;
  by("last").dataset.quality = quality ?? "";
}

export function saveSettings() {
  press(by("hide"), panes.hidden);
  questions.showSettings();
  Object.assign(settings, { opacity: panes.opacity, outlines: panes.outlines, safe: panes.safe, advance: by("advance").checked });
  localStorage.setItem("tesela-review", JSON.stringify(settings));
}

export function set(options) {
  panes.set(options);
  saveSettings();
}

/** The views of an item, the selected one first. */
export function viewsFrom(item) {
  const views = Object.keys(item.views);
  const first = Math.max(0, views.indexOf(settings.view));
  return [...views.slice(first), ...views.slice(0, first)];
}

function nextView() {
  const item = current();
  if (!item) return;
  settings.view = viewsFrom(item)[1] ?? viewsFrom(item)[0];
  saveSettings();
  load(item).then((loadedItem) => {
    if (shown !== item.id) return;
    panes.show(loadedItem);
    showItem(item);
  });
}

// Keys and buttons

function listen() {
  const buttons = new Map(all("[data-key]").map((button) => [button.dataset.key, button]));
  const acts = {
    t: () => by("note").focus(),
    enter: () => (draft?.changed ? submit() : go(1)),
    arrowright: () => (cursor < trail.length ? go(1) : submit()),
    ...questions.keys,
  };
  const pans = { ArrowLeft: [-0.2, 0], ArrowRight: [0.2, 0], ArrowUp: [0, -0.2], ArrowDown: [0, 0.2] };
  const repeatable = new Set([",", ".", "+", "-"]);

  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || event.target.matches("input[type=search]")) return;
    if (event.target === by("note")) {
      if (event.key === "Escape" || (event.key === "Enter" && !event.shiftKey)) {
        event.preventDefault();
        by("note").blur();
      }
      return;
    }
    const key = event.key.toLowerCase();
    if ((event.ctrlKey || event.metaKey) && key === "z") {
      event.preventDefault();
      return void undo();
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const pressing = event.target.matches("button:focus-visible, input");
    if (pressing && (key === " " || key === "enter" || (key.startsWith("arrow") && event.target.type === "range"))) return;
    if (event.shiftKey && pans[event.key]) {
      event.preventDefault();
      return panes.panBy(...pans[event.key]);
    }
    if (key === " ") {
      event.preventDefault();
      return hide(true);
    }
    const act = acts[key] ?? (buttons.has(key) ? () => buttons.get(key).click() : null);
    if (!act) return;
    event.preventDefault();
    if (!event.repeat || repeatable.has(key)) act();
  });
  document.addEventListener("keyup", (event) => event.key === " " && hide(false));
  addEventListener("blur", () => hide(false));
  document.addEventListener("visibilitychange", () => {
    if (watched.since !== null) watched.ms += Math.min(IDLE_MS, performance.now() - watched.since);
    watched.since = document.hidden || shown === null ? null : performance.now();
  });

  const on = (id, act) => by(id).addEventListener("click", act);
  for (const button of all("[data-confidence]")) {
    const percent = Number(button.dataset.confidence);
    button.addEventListener("click", () => edit((state) => (state.confidence = state.confidence === percent ? null : percent)));
  }
  on("flag", () => edit((state) => (state.flag = !state.flag)));
  on("back", () => go(-1));
  on("next", acts.arrowright);
  on("undo", undo);
  on("skip", skip);
  on("view", nextView);
  on("in", () => panes.zoomBy(1.5));
  on("out", () => panes.zoomBy(1 / 1.5));
  on("fit", () => panes.fit());
  on("help-button", () => by("help").showModal());
  by("note").addEventListener("input", () => edit((state) => (state.note = by("note").value)));
  by("advance").addEventListener("change", saveSettings);
  by("hide").addEventListener("pointerdown", () => hide(true));
  for (const end of ["pointerup", "pointerleave"]) by("hide").addEventListener(end, () => hide(false));
  for (const button of all("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
  on("who", () => {
    by("name").value = reviewer;
    by("names").showModal();
    by("name").select();
  });
  on("rename", rename);
  by("name").addEventListener("keydown", (event) => event.key === "Enter" && rename());
  questions.listen();
}

function hide(on) {
  if (panes.hidden === on) return;
  panes.set({ hidden: on });
  press(by("hide"), on);
}

function rename() {
  const chosen = by("name").value.trim();
  if (chosen) location.search = `?reviewer=${encodeURIComponent(chosen)}`;
}
