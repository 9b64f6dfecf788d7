// What happens now: the fleet and its campaigns, by server-sent events, with a new
// connection whenever the last one has ended.

import { Problem } from "./client.js";

const FIRST_WAIT = 1000;
const LONGEST_WAIT = 15_000;
const HISTORY = 300; // samples, one a second

export class Live {
  // changed is called after each change, with what it was: fleet, campaigns or connection.
  constructor(client, changed) {
    this.client = client;
    this.changed = changed;
    this.state = "connecting"; // live, lost, refused
    this.problem = null; // why it is not live
    this.since = 0; // when it was lost
    this.retryAt = 0;
    this.fleet = null;
    this.campaigns = new Map(); // "app id" -> campaign
    this.known = false; // campaigns have been told
    this.history = []; // {at, rate, p99, backlog}
    this.stopped = new AbortController();
    this.followed = new AbortController(); // the connection that there is
    this.wake = () => {};
  }

  async run() {
    let wait = FIRST_WAIT;
    while (!this.stopped.signal.aborted) {
      const began = Date.now();
      let problem = new Problem(0, "ended", "the API ended the connection");
      this.followed = new AbortController();
      try {
        await this.client.events("events", null, this.followed.signal, (event, data) => this.take(event, data));
      } catch (err) {
        problem = err instanceof Problem ? err : new Problem(0, "ended", "the page was left");
      }
      if (this.stopped.signal.aborted) return;
      if (Date.now() - began > LONGEST_WAIT) wait = FIRST_WAIT;
      this.lose(problem, Math.max(wait * (0.8 + 0.4 * Math.random()), 1000 * (problem.retryAfter ?? 0)));
      await this.sleep(this.retryAt - Date.now());
      wait = Math.min(2 * wait, LONGEST_WAIT);
    }
  }

  stop() {
    this.stopped.abort();
    this.drop();
    this.wake();
  }

  // drop ends the connection, of which the API has only so many, until the next one.
  drop() {
    this.followed.abort();
  }

  // retry does not wait any longer.
  retry() {
    this.wake();
  }

  sleep(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  lose(problem, wait) {
    if (this.state !== "lost" && this.state !== "refused") this.since = Date.now();
    // A key that may not follow, or an API that has no events, will not change soon.
    const refused = problem.status === 403 || problem.status === 404;
    this.state = refused ? "refused" : "lost";
    this.problem = problem;
    this.retryAt = Date.now() + (refused ? 60_000 : wait);
    this.changed("connection");
  }

  take(event, data) {
    if (this.state !== "live") {
      this.state = "live";
      this.problem = null;
      this.changed("connection");
    }
    if (event === "fleet") this.takeFleet(data);
    else if (event === "campaigns") this.takeCampaigns(data);
  }

  takeFleet(fleet) {
    this.fleet = fleet;
    const sum = total(fleet);
    this.history.push({ at: Date.parse(fleet.at), rate: sum.perSecond, p99: sum.p99, backlog: sum.backlog });
    if (this.history.length > HISTORY) this.history.shift();
    this.changed("fleet");
  }

  takeCampaigns({ app, whole, campaigns, deleted }) {
    if (whole) {
      for (const [key, c] of this.campaigns) if (c.app === app) this.campaigns.delete(key);
    }
    for (const id of deleted ?? []) this.campaigns.delete(app + " " + id);
    for (const c of campaigns) this.setCampaign(c);
    this.known = true;
    this.changed("campaigns");
  }

  setCampaign(c) {
    this.campaigns.set(c.app + " " + c.id, c);
  }

  campaign(app, id) {
    return this.campaigns.get(app + " " + id);
  }
}

// total adds up what the apps have. Of p99, which does not add up, it is the highest.
export function total(fleet) {
  const sum = { perSecond: 0, p99: undefined, backlog: 0, oldest: 0, inFlight: 0, connections: 0, wanted: 0 };
  for (const app of Object.values(fleet.apps ?? {})) {
    sum.perSecond += app.per_second ?? 0;
    if (app.p99_ms > (sum.p99 ?? 0)) sum.p99 = app.p99_ms;
    for (const lane of Object.values(app.backlog ?? {})) {
      sum.backlog += lane.notifications ?? 0;
      sum.oldest = Math.max(sum.oldest, lane.oldest_ms ?? 0);
    }
  }
  for (const worker of fleet.workers ?? []) {
    sum.inFlight += worker.in_flight ?? 0;
    for (const app of Object.values(worker.apps ?? {})) {
      sum.connections += app.connections ?? 0;
      sum.wanted += app.connections_wanted ?? 0;
    }
  }
  return sum;
}
