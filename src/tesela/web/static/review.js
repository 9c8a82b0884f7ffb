// The review: patches come one after another, verdicts go; panes.js draws and outbox.js sends.
import { Outbox, freshKey, post } from "./outbox.js";
import { Panes, traceBorders } from "./panes.js";

const { reviewer, table } = document.body.dataset;
const query = `reviewer=${encodeURIComponent(reviewer)}`;
const TIERS = ["high", "medium", "low"];
const KEYS = { label: "asd", boundary: "jkl", tier: "123", reason: "zxcvbnm", confidence: "56789" };
const KEPT = 24; // patches kept in memory
const IDLE_MS = 120_000; // a longer look counts as a break
const VIEWS = { image: "Natural", infrared: "Infrared" };

const by = (id) => document.getElementById(id);
const all = (rule) => [...document.querySelectorAll(rule)];
const settings = JSON.parse(localStorage.getItem("tesela-review") ?? "{}");

let classes; // by value
let panes;
let size;
let queue = []; // patches to come; the first is the fresh one
let trail = []; // { item, verdict }, as they were judged
let cursor = 0; // place in the trail; its length: the fresh patch
let draft = null; // the verdict in the making
let shown = null; // id of the patch that is to be on the screen
let ready = null; // id of the patch that is there: nothing is judged unseen
let looked = { ms: 0, since: null };
let progress = null;
let undoing = false;
const drafts = new Map(); // begun and left, by patch
const loaded = new Map(); // promises of patches, by id and view

const outbox = new Outbox(`tesela-review:${table}:${reviewer}`, {
  onreply: take,
  onrefused: (verdict, why) => tell(`Not kept: ${why}`),
  onchange: (waiting, reachable) => {
    by("saved").textContent = waiting === 0 ? "saved" : reachable ? "saving" : `${waiting} not saved yet: no answer from the server`;
    by("saved").classList.toggle("late", !reachable);
  },
});

start();

async function start() {
  await outbox.emptied();
  const first = await (await fetch(`/api/start?${query}`)).json();
  if (first.error) return tell(first.error);
  ({ size } = first);
  classes = new Map(first.legend.map((item) => [item.value, item]));
  panes = new Panes(all("#panes canvas"), { ...first, onhover: readOut });
  panes.set({ opacity: settings.opacity ?? 0.45, outlines: settings.outlines ?? false, safe: settings.safe ?? false });
  by("advance").checked = settings.advance ?? true;
  trail = first.trail;
  cursor = trail.length;
  showSettings();
  take(first);
  listen();
  by("saved").textContent = trail.length ? "saved" : "";
}

// What the server says

function take(reply) {
  progress = reply.progress;
  const kept = queue.slice(0, 1);
  const coming = reply.queue.filter((item) => !outbox.has(item.id) && item.id !== kept[0]?.id);
  queue = [...kept, ...coming];
  showProgress();
  if (shown === null || (cursor === trail.length && queue[0]?.id !== shown)) show();
  else prefetch();
}

// Patches

function current() {
  return cursor < trail.length ? trail[cursor].item : queue[0];
}

function load(item) {
  const view = viewOf(item);
  const key = `${item.id}\n${view}`;
  if (!loaded.has(key)) {
    const asked = fetchPatch(item, view);
    asked.catch(() => loaded.delete(key));
    loaded.set(key, asked);
    for (const old of [...loaded.keys()].slice(0, Math.max(0, loaded.size - KEPT))) loaded.delete(old);
  }
  return loaded.get(key);
}

async function fetchPatch(item, view) {
  const place = `id=${encodeURIComponent(item.id)}`;
  const [image, labels] = await Promise.all(
    [`/patch/image?${place}&view=${view}`, `/patch/labels?${place}`].map(async (address) => {
      const answer = await fetch(address);
      if (!answer.ok) throw new Error((await answer.json()).error);
      return answer;
    }),
  );
  const values = new Uint8Array(await labels.arrayBuffer());
  return { picture: await createImageBitmap(await image.blob()), labels: values, borders: traceBorders(values, size) };
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
  looked = { ms: 0, since: null };
  showDraft();
  if (!item) return;
  let patch;
  try {
    patch = await load(item);
  } catch (error) {
    tell(`This patch cannot be shown: ${error.message}`);
    return;
  }
  if (shown !== item.id) return; // another was asked for meanwhile
  panes.show(patch);
  showItem(item);
  ready = item.id;
  looked.since = document.hidden ? null : performance.now();
  document.dispatchEvent(new CustomEvent("patchshown", { detail: item.id }));
  prefetch();
}

function viewOf(item) {
  return item.views.includes(settings.view) ? settings.view : item.views[0];
}

// Verdicts

function draftOf(verdict) {
  const found = verdict ?? {};
  return {
    label: found.label ?? null,
    boundary: found.boundary ?? null,
    tier: found.tier ?? null,
    reasons: new Set(found.reasons ?? []),
    note: found.note ?? "",
    flag: found.flag ?? false,
    confidence: found.confidence ?? null,
    changed: false,
  };
}

function answer(question, value) {
  if (!draft || ready !== shown) return;
  if (question === "tier") Object.assign(draft, { tier: TIERS[value - 1], label: null, boundary: null });
  else {
    draft[question] = value;
    draft.tier = draft.label && draft.boundary ? TIERS[Math.max(draft.label, draft.boundary) - 1] : null;
  }
  draft.changed = true;
  if (draft.tier && by("advance").checked) submit();
  else showDraft();
}

function change(field, value) {
  if (!draft || ready !== shown) return;
  if (field === "reasons") draft.reasons[draft.reasons.has(value) ? "delete" : "add"](value);
  else draft[field] = draft[field] === value && field !== "note" ? (field === "flag" ? false : null) : value;
  draft.changed = true;
  showDraft();
}

function verdictOf(item, action) {
  if (looked.since !== null) looked.ms += Math.min(IDLE_MS, performance.now() - looked.since);
  const seconds = Math.round(looked.ms / 10) / 100;
  const base = { key: freshKey(), reviewer, patch_id: item.id, action, seconds };
  if (action === "skip") return base;
  const { label, boundary, tier, reasons, note, flag, confidence } = draft;
  return { ...base, label, boundary, tier, reasons: [...reasons], note: note.trim(), flag, confidence };
}

/** Keep the verdict on the patch that is shown; true if there was one. */
function keep() {
  const item = current();
  if (!item || ready !== item.id || !draft?.tier || !draft.changed) return false;
  const verdict = verdictOf(item, "judge");
  drafts.delete(item.id);
  if (cursor === trail.length) {
    queue.shift();
    trail.push({ item, verdict });
  } else trail[cursor] = { item, verdict };
  outbox.add(verdict);
  tell(`Last: ${verdict.tier}`, verdict.tier);
  return true;
}

function submit() {
  if (!keep()) return;
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
  tell("Skipped; it comes again at the end");
  show();
}

function go(step) {
  const target = cursor + step;
  if (target < 0 || target > trail.length) return;
  if (draft?.tier) keep();
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
  if (status !== 200) return tell(`Not undone: ${reply.error}`);
  if (!reply.undone) return tell("Nothing to undo");
  const item = reply.undone;
  drafts.delete(item.id);
  trail = trail.filter((entry) => entry.item.id !== item.id);
  cursor = trail.length;
  queue = [item, ...queue.filter((other) => other.id !== item.id)];
  take(reply);
  show();
  tell("Taken back");
}

// What the page shows

function showDraft() {
  const state = draft ?? draftOf(null);
  for (const button of all("[data-question]")) press(button, state[button.dataset.question] === Number(button.dataset.answer));
  for (const button of all("[data-tier]")) press(button, state.tier === button.dataset.tier);
  for (const button of all("[data-reason]")) press(button, state.reasons.has(button.dataset.reason));
  for (const button of all("[data-confidence]")) press(button, state.confidence === Number(button.dataset.confidence));
  press(by("flag"), state.flag);
  if (by("note").value !== state.note) by("note").value = state.note;
  by("back").disabled = cursor === 0;
  by("next").disabled = cursor === trail.length && !draft?.tier;
  by("undo").disabled = !progress?.done && !trail.length;
}

function press(button, on) {
  button.setAttribute("aria-pressed", String(on));
}

function showItem(item) {
  const place = cursor < trail.length ? `Judged ${cursor + 1} of ${trail.length}` : "New patch";
  const side = Math.round(size * item.pixel_m);
  const ground = side >= 1000 ? `${(side / 1000).toFixed(1)} km` : `${side} m`;
  by("where").textContent = [place, item.scene, item.date, `${ground} wide`, `${item.crs} ${item.centre.join(", ")}`].filter(Boolean).join(" · ");
  by("view").firstChild.textContent = `${VIEWS[viewOf(item)]} `;
  by("view").hidden = item.views.length < 2;
  const rows = Object.entries(item.shares).sort((one, other) => other[1] - one[1]);
  by("legend").replaceChildren(...rows.map(([value, share]) => legendRow(classes.get(Number(value)), share)));
}

function legendRow(item, share) {
  const row = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  const swatch = document.createElement("i");
  swatch.style.background = panes.colorOf(item.value);
  const name = document.createElement("span");
  name.textContent = item.name;
  const part = document.createElement("b");
  part.textContent = share >= 0.01 ? `${Math.round(100 * share)} %` : "<1 %";
  button.title = `${item.code} ${item.name}`;
  button.append(swatch, name, part);
  for (const [on, value] of [["pointerenter", item.value], ["focus", item.value], ["pointerleave", null], ["blur", null]])
    button.addEventListener(on, () => panes.set({ only: value }));
  row.append(button);
  return row;
}

function readOut(value) {
  const item = classes.get(value);
  const swatch = document.createElement("i");
  if (item) swatch.style.background = panes.colorOf(value);
  by("readout").replaceChildren(...(item ? [swatch, `${item.code} ${item.name}`] : []));
}

function showProgress() {
  const { done, left, tiers, team, total, seconds_each: each, left_seconds: rest } = progress;
  const all = Math.max(1, done + left);
  for (const tier of TIERS) document.querySelector(`#meter .${tier}`).style.width = `${(100 * tiers[tier]) / all}%`;
  by("meter").setAttribute("aria-valuemax", String(all));
  by("meter").setAttribute("aria-valuenow", String(done));
  const words = [`${done} of ${done + left}`];
  if (each !== null) words.push(`${each < 10 ? each.toFixed(1) : Math.round(each)} s each`);
  if (rest && left) words.push(`${duration(rest)} left`);
  if (team > done) words.push(`together ${team} of ${total}`);
  by("progress").textContent = words.join(" · ");
  by("progress").title = TIERS.map((tier) => `${tiers[tier]} ${tier}`).join(", ");
}

function duration(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function showDone(done) {
  by("done").hidden = !done;
  if (!done) return;
  const waiting = outbox.waiting.length > 0 || progress?.left > 0;
  by("done-title").textContent = waiting ? "One moment" : "All patches are judged";
  by("done-text").textContent = waiting
    ? "The last verdicts are being saved."
    : `${TIERS.map((tier) => `${progress.tiers[tier]} ${tier}`).join(" · ")}. Back and undo still work; export with: tesela review ${table} --export FILE`;
  by("where").textContent = "\u00a0";
  by("legend").replaceChildren();
}

function tell(text, tier) {
  by("last").textContent = text;
  by("last").dataset.tier = tier ?? "";
}

function showSettings() {
  by("opacity").value = String(Math.round(100 * panes.opacity));
  press(by("outlines"), panes.outlines);
  press(by("safe"), panes.safe);
  press(by("hide"), panes.hidden);
  Object.assign(settings, { opacity: panes.opacity, outlines: panes.outlines, safe: panes.safe, advance: by("advance").checked });
  localStorage.setItem("tesela-review", JSON.stringify(settings));
}

function set(options) {
  panes.set(options);
  showSettings();
  if ("safe" in options && current()) showItem(current());
}

function nextView() {
  const item = current();
  if (!item) return;
  settings.view = item.views[(item.views.indexOf(viewOf(item)) + 1) % item.views.length];
  showSettings();
  load(item).then((patch) => {
    if (shown !== item.id) return;
    panes.show(patch);
    showItem(item);
  });
}

// Keys and buttons

function listen() {
  const acts = {
    f: () => change("flag", true),
    t: () => by("note").focus(),
    p: skip,
    u: undo,
    o: () => set({ outlines: !panes.outlines }),
    g: () => set({ safe: !panes.safe }),
    i: nextView,
    ",": () => set({ opacity: Math.max(0, panes.opacity - 0.1) }),
    ".": () => set({ opacity: Math.min(1, panes.opacity + 0.1) }),
    "+": () => panes.zoomBy(1.5),
    "-": () => panes.zoomBy(1 / 1.5),
    0: () => panes.fit(),
    "?": () => by("help").showModal(),
    enter: () => (draft?.changed ? submit() : go(1)),
    arrowleft: () => go(-1),
    arrowright: () => (cursor < trail.length ? go(1) : submit()),
  };
  for (const question of ["label", "boundary", "tier"])
    [...KEYS[question]].forEach((key, place) => (acts[key] = () => answer(question, place + 1)));
  all("[data-reason]").forEach((button, place) => (acts[KEYS.reason[place]] = () => change("reasons", button.dataset.reason)));
  [...KEYS.confidence].forEach((key, place) => (acts[key] = () => change("confidence", 20 * (place + 1))));
  const pans = { ArrowLeft: [-0.2, 0], ArrowRight: [0.2, 0], ArrowUp: [0, -0.2], ArrowDown: [0, 0.2] };
  const repeatable = new Set([",", ".", "+", "-"]);

  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
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
    const act = acts[key];
    if (!act) return;
    event.preventDefault();
    if (!event.repeat || repeatable.has(key)) act();
  });
  document.addEventListener("keyup", (event) => event.key === " " && hide(false));
  addEventListener("blur", () => hide(false));
  document.addEventListener("visibilitychange", () => {
    if (looked.since !== null) looked.ms += Math.min(IDLE_MS, performance.now() - looked.since);
    looked.since = document.hidden || shown === null ? null : performance.now();
  });

  const on = (id, act) => by(id).addEventListener("click", act);
  for (const button of all("[data-question]"))
    button.addEventListener("click", () => answer(button.dataset.question, Number(button.dataset.answer)));
  for (const button of all("[data-tier]"))
    button.addEventListener("click", () => answer("tier", TIERS.indexOf(button.dataset.tier) + 1));
  for (const button of all("[data-reason]")) button.addEventListener("click", () => change("reasons", button.dataset.reason));
  for (const button of all("[data-confidence]"))
    button.addEventListener("click", () => change("confidence", Number(button.dataset.confidence)));
  on("flag", acts.f);
  on("back", acts.arrowleft);
  on("next", acts.arrowright);
  on("undo", undo);
  on("skip", skip);
  on("outlines", acts.o);
  on("safe", acts.g);
  on("view", nextView);
  on("in", acts["+"]);
  on("out", acts["-"]);
  on("fit", acts[0]);
  on("help-button", acts["?"]);
  by("note").addEventListener("input", () => change("note", by("note").value));
  by("opacity").addEventListener("input", () => set({ opacity: by("opacity").valueAsNumber / 100 }));
  by("advance").addEventListener("change", showSettings);
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
}

function hide(on) {
  if (panes.hidden === on) return;
  panes.set({ hidden: on });
  press(by("hide"), on);
}

function rename() {
  const name = by("name").value.trim();
  if (name) location.search = `?reviewer=${encodeURIComponent(name)}`;
}
