// Counts of campaigns. Events tell of states; how far one is, is asked for: of those that
// are shown, after an event; again and again only of those that run, and of the others
// once more when they change.

import { path } from "./client.js";

const AGE = 1000;
const MOST = 20; // campaigns that are asked about in one go

export class Counts {
  constructor(client, changed) {
    this.client = client;
    this.changed = changed;
    this.known = new Map(); // "app id" -> {value, at, of}
    this.busy = new Set();
  }

  get(c) {
    return this.known.get(c.app + " " + c.id)?.value;
  }

  // refresh asks about those of a list of which more may be known by now.
  refresh(list) {
    for (const c of list.filter((one) => this.due(one)).slice(0, MOST)) this.ask(c);
  }

  due(c) {
    const id = c.app + " " + c.id;
    const known = this.known.get(id);
    if (this.busy.has(id) || c.recurring) return false;
    if (!known || known.of !== stamp(c)) return !known || Date.now() - known.at > AGE / 2;
    return !c.closed && c.state !== "scheduled" && c.state !== "loading" && Date.now() - known.at >= AGE;
  }

  async ask(c) {
    const id = c.app + " " + c.id;
    this.busy.add(id);
    try {
      const value = await this.client.get(path`apps/${c.app}/campaigns/${c.id}`);
      this.known.set(id, { value, at: Date.now(), of: stamp(c) });
    } catch {
      // The list shows what was known, and the banner why there is no more.
      this.known.set(id, { ...this.known.get(id), at: Date.now(), of: stamp(c) });
    }
    this.busy.delete(id);
    this.changed();
  }
}

function stamp(c) {
  return [c.state, c.closed, c.ranges, c.expanded].join(" ");
}
