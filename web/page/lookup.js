// "Why did it not arrive?" The look-up of a job, a user or a device, and of what became
// of the one at the other.

import { path } from "./client.js";
import { h } from "./dom.js";
import { duration, number, plural } from "./format.js";
import { Loaded } from "./loaded.js";
import { badge, curl, empty, facts, fault, field, num, options, table, time, token } from "./parts.js";

const WHAT = [["", "any"], ["job", "job"], ["campaign", "campaign"]];
const WHO = [["", "any"], ["user", "user"], ["install", "installation"], ["token", "device token"]];
const SINCE = [["24h", "a day"], ["72h", "three days"], ["168h", "a week"]];

export class LookUpView {
  title = "Look-up";

  constructor(context) {
    this.context = context;
    this.answers = { job: new Loaded(context.draw), who: new Loaded(context.draw), why: new Loaded(context.draw) };
    this.asked = {};
  }

  // open asks what the fragment names. A device token is not in it, since URLs are kept in
  // many places: it is in the entry of this tab's history.
  open(_, query) {
    const asked = {
      app: query.get("app") ?? this.asked.app ?? "", what: query.get("what") ?? "", id: query.get("id") ?? "", lane: query.get("lane") ?? "transactional",
      who: query.get("who") ?? "", name: query.get("name") ?? "", since: query.get("since") ?? "24h",
    };
    if (!this.context.names.includes(asked.app)) asked.app = this.context.names[0] ?? "";
    if (asked.who === "token") asked.name = history.state?.token ?? "";
    this.asked = asked;
    this.load();
  }

  load() {
    const { app, what, id, lane, who, name, since } = this.asked;
    const { client } = this.context;
    for (const answer of Object.values(this.answers)) answer.clear();
    if (what === "job" && id) this.answers.job.load(() => client.get(path`apps/${app}/notifications/${id}`, { lane }));
    if (who === "user" && name) this.answers.who.load(async () => (await client.get(path`apps/${app}/users/${name}/devices`)).devices);
    if (who === "token" && name) this.answers.who.load(async () => [await client.get(path`apps/${app}/devices/${name}`)]);
    if (what && id && who && name) {
      this.explain(what === "job" ? since : "");
    }
  }

  explain(since) {
    const { app, what, id, lane, who, name } = this.asked;
    this.answers.why.load(() => this.context.client.get(path`apps/${app}/explain`, { [what]: id, [who]: name, lane: what === "job" ? lane : "", since }));
  }

  submit(event) {
    event.preventDefault();
    const form = Object.fromEntries([...new FormData(event.target)].map(([k, v]) => [k, v.trim()]));
    const secret = form.who === "token" ? form.name.replace(/[\s<>]/g, "") : "";
    if (secret) delete form.name;
    if (form.what !== "job") {
      delete form.lane;
      delete form.since;
    }
    this.context.go(["look-up"], form);
    if (secret) {
      history.replaceState({ token: secret }, "");
      this.open([], new URLSearchParams(form));
    }
  }

  view() {
    const { app, what, id, lane, who, name, since } = this.asked;
    const { job, who: devices, why } = this.answers;
    const nothing = !(what && id) && !(who && name);
    return [
      h("div", { class: "head" }, h("h1", null, "Why did it not arrive?")),
      h("form", { key: "form " + JSON.stringify(this.asked), class: "filters lookup", onsubmit: (e) => this.submit(e) },
        field("App", h("select", { name: "app", value: app }, options(this.context.names.map((n) => [n, n]), app))),
        h("fieldset", null, h("legend", null, "What was sent"),
          field("Kind", h("select", { name: "what", value: what || "job" }, options(WHAT.slice(1), what || "job"))),
          field("Id", h("input", { name: "id", value: id, placeholder: "order-4711-shipped", autocomplete: "off", spellcheck: "false" })),
          field("Lane of a job", h("select", { name: "lane", value: lane }, options([["transactional", "transactional"], ["bulk", "bulk"]], lane))),
          field("Sent within", h("select", { name: "since", value: since }, options(SINCE, since)))),
        h("fieldset", null, h("legend", null, "To whom"),
          field("Kind", h("select", { name: "who", value: who || "user" }, options(WHO.slice(1), who || "user"))),
          field("Id or device token", h("input", { name: "name", value: name, placeholder: "ada", autocomplete: "off", spellcheck: "false", size: 28 }))),
        h("button", { type: "submit", class: "primary" }, "Look up")),
      nothing && h("p", { class: "note" }, "A job alone shows what became of each of its recipients; a user or a device token alone, what is known of the devices; both, what became of the one at the other, and why. A device token that you look up is not put into the URL."),
      this.explained(why),
      this.job(job),
      this.campaign(what, id, app),
      this.devices(devices, who, name, app),
    ];
  }

  explained(why) {
    const x = why.value;
    if (!why.busy && !x && !why.problem) return null;
    return h("section", { key: "why", "aria-live": "polite" },
      h("h2", null, "Why"),
      why.busy && h("p", { class: "note" }, "Searching what was told… that can take some seconds."),
      fault(why.problem, () => this.load()),
      x && h("p", null, x.text),
      x?.searched_until && h("p", { class: "note" }, "The search ended at ", time(x.searched_until), " for want of time: what was told later is not here. ",
        h("button", { type: "button", onclick: () => this.explain(Math.ceil((Date.now() - Date.parse(x.searched_until)) / 1000) + 60 + "s") }, "Search what was told later")),
      x?.devices?.map((d, i) => h("div", { key: i, class: "card verdict" },
        h("p", null, badge(d.verdict), " ", d.token ? token(d.token) : d.user ? "user " + d.user : "installation " + d.install_id),
        h("p", { class: "because" }, d.text),
        d.until && h("p", null, "Until ", time(d.until), "."),
        d.outcomes?.length > 0 && table("Outcomes", [{ name: "When" }, { name: "Worker" }, { name: "Attempt", number: true }, { name: "Result" }, { name: "Reason" }, { name: "Status", number: true }],
          d.outcomes.map((o, j) => h("tr", { key: j }, h("td", null, time(o.at)), h("td", null, o.worker), num(o.attempt), h("td", null, badge(o.result)), h("td", null, o.reason ?? "", o.dead_since && h("div", { class: "small" }, "dead since ", time(o.dead_since))), num(o.status)))))));
  }

  job(answer) {
    const j = answer.value;
    if (!answer.busy && !j && !answer.problem) return null;
    const unknown = answer.problem?.code === "unknown_notification";
    return h("section", { key: "job" },
      h("h2", null, "Job ", this.asked.id, " ", j && badge(j.state)),
      answer.busy && h("p", { class: "note" }, "Asking for the job…"),
      unknown ? empty("Nothing is known of a job with this id in this lane. It is known once a worker has had it, and for a day after its last change.",
        curl("GET", path`apps/${this.asked.app}/notifications/${this.asked.id}` + "?sequence=…")) : fault(answer.problem, () => this.load()),
      j && facts([
        ["Lane", j.lane], ["Place", j.sequence && number(j.sequence)], ["Queued", j.queued_at && time(j.queued_at)], ["Not before", j.send_after && time(j.send_after)],
        ["Tried again", j.retry_at && time(j.retry_at)], ["In the queue", j.latency?.queued_ms !== undefined && duration(j.latency.queued_ms)],
        ["At the worker", j.latency?.waiting_ms !== undefined && duration(j.latency.waiting_ms)], ["At APNs", j.latency?.apns_ms !== undefined && duration(j.latency.apns_ms)],
        ["Results", Object.entries(j.counts).map(([r, n]) => `${number(n)} ${r}`).join(", ")], ["Sent or told twice", j.duplicates > 0 && number(j.duplicates)],
      ]),
      j?.recipients.length > 0 && table("Recipients", [{ name: "Recipient" }, { name: "Result" }, { name: "Reason" }, { name: "Attempts", number: true }, { name: "Sent" }, { name: "apns-id" }],
        j.recipients.slice(0, 200).map((r, i) => h("tr", { key: i },
          h("td", null, r.token ? token(r.token) : r.user ? "user " + r.user : "installation " + r.install_id),
          h("td", null, badge(r.result)),
          h("td", null, r.reason ?? "", r.dead_since && h("div", { class: "small" }, "dead since ", time(r.dead_since)), r.retry_at && h("div", { class: "small" }, "again ", time(r.retry_at))),
          num(r.attempts), h("td", null, time(r.sent_at)), h("td", null, r.apns_id && h("code", null, r.apns_id))))),
      j?.recipients.length > 200 && h("p", { class: "note" }, plural(j.recipients.length - 200, "more recipient is", "more recipients are"), " not shown: ask for one of them."),
      j?.omitted > 0 && h("p", { class: "note" }, number(j.omitted), " more are counted, and what became of each is not kept."));
  }

  campaign(what, id, app) {
    if (what !== "campaign" || !id) return null;
    return h("p", { key: "campaign" }, h("a", { href: "#/campaigns/" + encodeURIComponent(app) + "/" + encodeURIComponent(id) }, `All of campaign ${id}`));
  }

  devices(answer, who, name, app) {
    const list = answer.value;
    if (!answer.busy && !list && !answer.problem) return null;
    const unknown = answer.problem?.code === "unknown_device" || list?.length === 0;
    return h("section", { key: "devices" },
      h("h2", null, who === "user" ? `Devices of ${name}` : "The device token"),
      answer.busy && h("p", { class: "note" }, "Asking for devices…"),
      unknown ? empty(who === "user" ? `${name} has no device: nothing can be sent to this user. A device token that was removed is no user's any more: look it up by itself. The app registers one at each launch:` : "This device token is not known: it was never registered, or removed more than 30 days ago.",
        who === "user" && curl("PUT", path`apps/${app}/devices/` + "8f3a…", { user: name })) : fault(answer.problem, () => this.load()),
      list?.map((d) => h("div", { key: d.token, class: "card" },
        h("p", null, badge(d.state), " ", who === "token" ? h("code", { class: "whole" }, d.token) : token(d.token), d.state !== "live" && h("span", { class: "because" }, " ", d.reason, d.changed_at && [", since ", time(d.changed_at)])),
        d.state === "quarantined" && h("p", { class: "note" }, "Nothing is sent to it until the app registers it again: APNs rejected it in a way that may be a mistake of ours."),
        d.state === "removed" && h("p", { class: "note" }, "Nothing is sent to it until the app registers it again."),
        facts([
          ["User", d.user], ["Installation", d.install_id], ["Environment", d.environment], ["Kind", d.kind], ["Registered", d.registered_at && time(d.registered_at)],
          ["First registered", d.created_at && time(d.created_at)], ["Accepted before", d.accepted_before ? "yes" : "no"], ["App version", d.app_version], ["Locale", d.locale], ["Time zone", d.timezone],
          ["Tags", d.tags?.join(", ")], ["Attributes", Object.entries(d.attributes ?? {}).map(([k, v]) => `${k}=${v}`).join(", ")],
        ]))));
  }
}
