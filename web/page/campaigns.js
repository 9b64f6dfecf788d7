// The list of campaigns.

import { path } from "./client.js";
import { Counts } from "./counts.js";
import { h } from "./dom.js";
import { duration, number, percent, rate } from "./format.js";
import { Loaded } from "./loaded.js";
import { badge, bar, curl, empty, fault, field, needs, options, table, time } from "./parts.js";
import { Steer } from "./steer.js";

const STATES = ["running", "paused", "scheduled", "loading", "done", "cancelled"];
const ACTIVE = new Set(["running", "paused", "scheduled", "loading"]);
const SHOWN = 100;

export class CampaignsView {
  title = "Campaigns";

  constructor(context) {
    this.context = context;
    this.counts = new Counts(context.client, context.draw);
    this.steer = new Steer(context);
    this.lists = new Loaded(context.draw); // where there are no events
    this.app = "";
    this.state = "";
    this.all = false;
  }

  open(_, query) {
    this.app = query.get("app") ?? "";
    this.state = query.get("state") ?? "";
    if (this.context.live.state === "refused") this.ask();
    this.refresh();
  }

  live(what) {
    if (what === "connection" && this.context.live.state === "refused") this.ask();
    this.refresh();
  }

  // ask is for a key that may not follow events, and may see campaigns.
  ask() {
    this.lists.load(async () => {
      for (const app of this.context.names) {
        const { campaigns } = await this.context.client.get(path`apps/${app}/campaigns`);
        campaigns.forEach((c) => this.context.live.setCampaign({ app, ...c }));
      }
      this.context.live.known = true;
    });
  }

  refresh() {
    this.counts.refresh(this.rows().slice(0, SHOWN));
  }

  // rows are what is active first, then the newest.
  rows() {
    const list = [...this.context.live.campaigns.values()].filter((c) => (!this.app || c.app === this.app) && (!this.state || c.state === this.state));
    const order = (c) => (ACTIVE.has(c.state) ? 0 : 1);
    return list.sort((a, b) => order(a) - order(b) || b.created_at.localeCompare(a.created_at) || a.id.localeCompare(b.id));
  }

  view() {
    const rows = this.rows();
    const shown = this.all ? rows : rows.slice(0, SHOWN);
    return [
      h("div", { class: "head" },
        h("h1", null, "Campaigns"),
        h("form", { class: "filters", onsubmit: (e) => e.preventDefault() },
          field("App", h("select", { value: this.app, onchange: (e) => this.choose({ app: e.target.value }) },
            options([["", "all"], ...this.context.names.map((n) => [n, n])], this.app))),
          field("State", h("select", { value: this.state, onchange: (e) => this.choose({ state: e.target.value }) },
            options([["", "all"], ...STATES.map((s) => [s, s])], this.state))))),
      !this.context.may("campaigns") && needs("campaigns", "pause, pace or cancel"),
      fault(this.lists.problem, () => this.ask()),
      rows.length === 0 ? this.nothing() : this.list(shown),
      rows.length > shown.length && h("button", { type: "button", onclick: () => { this.all = true; this.context.draw(); } }, `Show all ${number(rows.length)}`),
    ];
  }

  choose(change) {
    this.context.go(["campaigns"], { app: this.app, state: this.state, ...change });
  }

  nothing() {
    if (!this.context.live.known) {
      return this.lists.problem || this.context.live.state === "lost" ? null : h("p", { class: "note" }, "Asking for campaigns…");
    }
    if (this.app || this.state) return empty("No campaign is like that.");
    const app = this.context.names[0] ?? "shop";
    return empty("There are no campaigns. To send one message to all devices of an app:",
      curl("POST", path`apps/${app}/campaigns`, { id: "hello", audience: { all: true }, notification: { title: "Hello" } }));
  }

  list(rows) {
    const columns = [
      { name: "Campaign" }, { name: "State" }, { name: "Progress" }, { name: "Rate", number: true }, { name: "Pace", number: true },
      { name: "Start" }, { name: "Actions", unseen: true },
    ];
    return table("Campaigns", columns, rows.flatMap((c) => this.row(c)), "stack");
  }

  row(c) {
    const problem = this.steer.problem(c);
    const full = this.counts.get(c);
    return [
      h("tr", { key: c.app + " " + c.id, "data-campaign": c.id },
        h("td", null, h("a", { href: "#/campaigns/" + encodeURIComponent(c.app) + "/" + encodeURIComponent(c.id) }, c.id), h("div", { class: "small" }, c.app, c.recurring && ", recurring")),
        h("td", null, badge(c.state)),
        h("td", { class: "wide" }, progress(c, full)),
        h("td", { class: "n", "data-label": "Rate" }, c.state === "running" ? rate(full?.per_second) : null),
        h("td", { class: "n", "data-label": "Pace" }, c.rate ? rate(c.rate) : h("span", { class: "small" }, "free")),
        h("td", { "data-label": "Start" }, time(c.started_at ?? c.start_at ?? c.created_at)),
        h("td", null, this.steer.buttons(c))),
      problem && h("tr", { key: "problem of " + c.app + " " + c.id }, h("td", { colspan: 7 }, fault(problem))),
    ];
  }
}

// progress is how far a campaign is.
export function progress(c, full) {
  if (c.recurring) return h("span", { class: "small" }, "each run is a campaign of its own");
  if (c.state === "loading") return h("span", { class: "small" }, number(c.devices), " recipients so far");
  if (c.state === "scheduled" && c.devices === 0) return h("span", { class: "small" }, "waits for its start");
  const done = full ? full.counts.devices : undefined;
  if (done === undefined) return c.closed ? h("span", { class: "small" }, number(c.devices), " devices") : h("span", { class: "small" }, "…");
  const all = Math.max(c.devices, full.devices);
  return h("div", { class: "progress" },
    bar(`Progress of ${c.id}`, done, all),
    h("div", { class: "small" },
      full.expanded || c.expanded ? percent(done, all) + ", " : "",
      number(done), " of ", number(all), full.expanded || c.expanded ? "" : " so far",
      c.state === "running" && full.seconds_left > 0 ? ", " + duration(1000 * full.seconds_left) + " left" : ""));
}
