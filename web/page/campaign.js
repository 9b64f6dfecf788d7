// One campaign.

import { path } from "./client.js";
import { progress } from "./campaigns.js";
import { h } from "./dom.js";
import { number, percent, rate } from "./format.js";
import { Loaded } from "./loaded.js";
import { badge, bar, facts, fault, needs, num, table, time } from "./parts.js";
import { Steer } from "./steer.js";

export class CampaignView {
  constructor(context) {
    this.context = context;
    this.steer = new Steer(context);
    this.loaded = new Loaded(context.draw);
    this.app = "";
    this.id = "";
    this.at = 0;
  }

  get title() {
    return this.id;
  }

  open([app, id]) {
    if (app !== this.app || id !== this.id) this.loaded.clear();
    this.app = app;
    this.id = id;
    this.load();
  }

  load() {
    this.at = Date.now();
    this.loaded.load(() => this.context.client.get(path`apps/${this.app}/campaigns/${this.id}`));
  }

  // summary is what is newest: events may be ahead of the counts.
  get summary() {
    return this.context.live.campaign(this.app, this.id) ?? this.loaded.value;
  }

  live(what) {
    const known = this.loaded.value;
    if (this.loaded.busy || (what !== "fleet" && what !== "campaigns")) return;
    const changed = known && (this.summary.state !== known.state || this.summary.rate !== known.rate);
    if (changed || (!known?.closed && Date.now() - this.at > 900)) this.load();
  }

  view() {
    const full = this.loaded.value;
    const c = this.summary;
    return [
      h("p", { class: "crumb" }, h("a", { href: "#/campaigns" }, "Campaigns")),
      h("div", { class: "head" },
        h("h1", null, this.id, " ", c && badge(c.state)),
        c && this.steer.buttons(c)),
      c && !this.context.may("campaigns", c.app) && needs("campaigns", "pause, pace or cancel"),
      c && fault(this.steer.problem(c)),
      fault(this.loaded.problem, () => this.load()),
      full ? this.full(c, full) : !this.loaded.problem && h("p", { class: "note" }, "Asking for the campaign…"),
    ];
  }

  full(c, full) {
    const { counts } = full;
    return [
      h("section", { class: "card" },
        progress(c, full),
        facts([
          ["App", c.app],
          ["Rate", c.state === "running" ? rate(full.per_second) : ""],
          ["Pace", c.rate ? rate(c.rate) : "as many as it can"],
          ["Looked at", number(counts.devices)],
          ["In the audience", number(counts.matched)],
          ["Remaining", number(counts.remaining)],
          ["Created", time(c.created_at)],
          ["Start", c.start_at && time(c.start_at)],
          ["Started", c.started_at && time(c.started_at)],
          ["Paused", c.state === "paused" && time(c.paused_at)],
          ["Ended", c.ended_at && time(c.ended_at)],
          ["Run of", c.parent && h("a", { href: "#/campaigns/" + encodeURIComponent(c.app) + "/" + encodeURIComponent(c.parent) }, c.parent)],
          ["Counts", full.closed ? "final" : "not final yet"],
          ["Sent or told twice", counts.duplicates > 0 && number(counts.duplicates)],
        ])),
      this.results(counts),
      h("details", { class: "card" }, h("summary", null, "Definition"), h("pre", { tabindex: "0", "aria-label": "Definition" }, JSON.stringify(full.definition, null, 2))),
    ];
  }

  results(counts) {
    const results = Object.entries(counts.results).sort(([, a], [, b]) => b - a);
    if (results.length === 0) return h("p", { class: "note" }, "No recipient is settled yet.");
    const settled = results.reduce((sum, [, n]) => sum + n, 0);
    const columns = [{ name: "Result" }, { name: "Reason" }, { name: "Recipients", number: true }, { name: "Share", number: true }, { name: "Of all", unseen: true }];
    const rows = results.flatMap(([result, n]) => [
      h("tr", { key: result }, h("td", null, badge(result)), h("td", null), num(n), num(n, percent(n, settled)), h("td", { class: "wide" }, bar(result, n, settled))),
      ...counts.reasons.filter((r) => r.result === result).map((r) =>
        h("tr", { key: result + ":" + r.reason, class: "minor" }, h("td", null), h("td", null, r.reason), num(r.count), num(r.count, percent(r.count, settled)), h("td", null))),
    ]);
    return [
      h("h2", null, "What became of its recipients"),
      table("Results", columns, rows),
      counts.removed + counts.quarantined > 0 && h("p", { class: "note" },
        `Of those rejected, ${number(counts.removed)} device tokens are dead and removed, ${number(counts.quarantined)} look wrong and are quarantined.`),
    ];
  }
}
