// Outbox of verdicts: they stay in the browser until the server has stored them on disk.

const PAUSE_MS = 1000;

export class Outbox {
  /** name: key in the storage of the browser. */
  constructor(name, { onreply, onrefused, onchange }) {
    this.name = name;
    Object.assign(this, { onreply, onrefused, onchange });
    this.waiting = JSON.parse(localStorage.getItem(name) ?? "[]");
    this.reachable = true;
    this.run = null;
    if (this.waiting.length) this.send();
  }

  add(verdict) {
    this.waiting.push(verdict);
    this.store();
    this.send();
  }

  has(id) {
    return this.waiting.some((verdict) => verdict.item_id === id);
  }

  /** Resolves when the outbox is empty. */
  async emptied() {
    while (this.waiting.length) await this.send();
  }

  store() {
    localStorage.setItem(this.name, JSON.stringify(this.waiting));
    this.onchange(this.waiting.length, this.reachable);
  }

  send() {
    this.run ??= this.sendAll().finally(() => (this.run = null));
    return this.run;
  }

  async sendAll() {
    while (this.waiting.length) {
      const reply = await post("/api/verdicts", this.waiting[0]);
      this.reachable = reply.status < 500;
      if (!this.reachable) {
        this.onchange(this.waiting.length, false);
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
        continue;
      }
      const verdict = this.waiting.shift();
      this.store();
      if (reply.status === 200) this.onreply(reply.document);
      else this.onrefused(verdict, reply.document.error);
    }
  }
}

/** Status and document of a response; 599 if there was none. */
export async function post(address, document) {
  try {
    const response = await fetch(address, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(document),
    });
    return { status: response.status, document: await response.json() };
  } catch {
    return { status: 599, document: { error: "The server does not respond." } };
  }
}

/** A unique key of a verdict. */
export function freshKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
