// Dead letters: what was given up, and sending it after all.

import { path } from "./client.js";
import { ask, sheet } from "./dialog.js";
import { h } from "./dom.js";
import { number, plural } from "./format.js";
import { Loaded } from "./loaded.js";
import { empty, facts, fault, field, needs, options, table, time } from "./parts.js";

const PAGE = 50;
const MOST_COUNTED = 10_000; // before it is asked: there may be a million
const FILTERS = ["reason", "campaign", "job", "newer_than", "older_than"];

export class LettersView {
  title = "Dead letters";

  constructor(context) {
    this.context = context;
    this.loaded = new Loaded(context.draw);
    this.more = new Loaded(context.draw);
    this.list = [];
    this.next = undefined;
    this.chosen = new Set();
    this.app = "";
    this.filters = {};
    this.done = "";
    this.counting = false;
    this.acting = null; // why counting did not work
  }

  open(_, query) {
    this.app = query.get("app") ?? this.app;
    if (!this.context.names.includes(this.app)) this.app = this.context.names[0] ?? "";
    this.filters = Object.fromEntries(FILTERS.map((f) => [f, query.get(f) ?? ""]));
    this.done = "";
    this.acting = null;
    this.load();
  }

  load() {
    if (!this.app) return;
    this.more.clear();
    this.loaded.load(async () => {
      const answer = await this.ask();
      this.list = answer.dead_letters;
      this.next = answer.next;
      this.chosen = new Set();
      return answer;
    });
  }

  ask(after) {
    return this.context.client.get(path`apps/${this.app}/dead-letters`, { ...this.filters, limit: PAGE, after });
  }

  loadMore() {
    this.more.load(async () => {
      const answer = await this.ask(this.next);
      this.list = [...this.list, ...answer.dead_letters];
      this.next = answer.next;
      return answer;
    });
  }

  submit(event) {
    event.preventDefault();
    const form = Object.fromEntries([...new FormData(event.target)].map(([k, v]) => [k, v.trim()]));
    this.context.go(["dead-letters"], form);
  }

  view() {
    const admin = this.context.may("admin", this.app);
    return [
      h("div", { class: "head" }, h("h1", null, "Dead letters")),
      // The key: other filters in the URL are another form.
      h("form", { key: "filters " + JSON.stringify([this.app, this.filters]), class: "filters", onsubmit: (e) => this.submit(e) },
        field("App", h("select", { name: "app", value: this.app }, options(this.context.names.map((n) => [n, n]), this.app))),
        this.text("reason", "Reason has", "BadTopic"), this.text("job", "Job", "order-4711"), this.text("campaign", "Campaign", "spring-sale"),
        this.text("newer_than", "Given up since", "24h"), this.text("older_than", "Longer ago than", "7d"),
        h("button", { type: "submit", class: "primary" }, "Filter")),
      !admin && needs("admin", "redrive or purge"),
      this.done && h("p", { class: "done", role: "status" }, this.done),
      fault(this.acting),
      fault(this.loaded.problem, () => this.load()),
      this.loaded.value ? this.letters(admin) : this.loaded.busy && h("p", { class: "note" }, "Asking for dead letters…"),
    ];
  }

  text(name, label, example) {
    return field(label, h("input", { name, value: this.filters[name], placeholder: example, autocomplete: "off", spellcheck: "false", size: 12 }));
  }

  get filtered() {
    return FILTERS.some((f) => this.filters[f]);
  }

  letters(admin) {
    if (this.list.length === 0) {
      return empty(this.filtered ? "No dead letter is like that." : `Nothing was given up for ${this.app}. What cannot be sent will be here, with its reason.`);
    }
    const n = this.chosen.size;
    const busy = this.counting;
    return [
      admin && h("div", { class: "buttons", role: "group", "aria-label": "What to do with dead letters" },
        h("button", { type: "button", disabled: n === 0 || busy, onclick: () => this.act("redrive", this.these()) }, n > 0 ? `Redrive ${number(n)}…` : "Redrive…"),
        h("button", { type: "button", class: "danger", disabled: n === 0 || busy, onclick: () => this.act("purge", this.these()) }, n > 0 ? `Purge ${number(n)}…` : "Purge…"),
        h("span", { class: "gap" }),
        h("button", { type: "button", disabled: busy, onclick: () => this.act("redrive", this.all()) }, "Redrive all that match…"),
        h("button", { type: "button", class: "danger", disabled: busy, onclick: () => this.act("purge", this.all()) }, "Purge all that match…")),
      table("Dead letters", [
        ...(admin ? [{ name: "Chosen", unseen: true }] : []),
        { name: "Number", number: true }, { name: "Given up" }, { name: "Reason" }, { name: "Job" }, { name: "Recipients", number: true }, { name: "Attempts", number: true }, { name: "Actions", unseen: true },
      ], this.list.map((l) => this.row(l, admin)), "stack"),
      fault(this.more.problem),
      this.next !== undefined && h("button", { type: "button", disabled: this.more.busy, onclick: () => this.loadMore() }, this.more.busy ? "…" : "More"),
    ];
  }

  row(l, admin) {
    return h("tr", { key: l.sequence, "data-letter": l.sequence },
      admin && h("td", null, h("input", {
        type: "checkbox", checked: this.chosen.has(l.sequence), "aria-label": `Choose dead letter ${l.sequence}`, onchange: (e) => this.choose(l.sequence, e.target.checked),
      })),
      h("td", { class: "n", "data-label": "Number" }, number(l.sequence)), h("td", { "data-label": "Given up" }, time(l.last)),
      h("td", { class: "wide" }, l.reason, l.refusal && h("div", { class: "held" }, "cannot be redriven: ", l.refusal)),
      h("td", null, l.root ?? l.id ?? "", l.campaign && h("div", { class: "small" }, "campaign ", h("a", { href: "#/campaigns/" + encodeURIComponent(this.app) + "/" + encodeURIComponent(l.campaign) }, l.campaign))),
      h("td", { class: "n", "data-label": "Recipients" }, number(l.recipients)), h("td", { class: "n", "data-label": "Attempts" }, number(l.attempts)),
      h("td", null, h("button", { type: "button", "aria-label": `Show dead letter ${l.sequence}`, onclick: () => this.show(l) }, "Show")));
  }

  choose(sequence, on) {
    if (on) this.chosen.add(sequence);
    else this.chosen.delete(sequence);
    this.context.draw();
  }

  these() {
    return { sequences: [...this.chosen].sort((a, b) => a - b) };
  }

  all() {
    const given = Object.fromEntries(FILTERS.filter((f) => this.filters[f]).map((f) => [f, this.filters[f]]));
    return this.filtered ? given : { all: true };
  }

  // act counts what is meant, asks, and does it.
  async act(word, which) {
    const where = path`apps/${this.app}/dead-letters/` + word;
    let sum;
    this.counting = true;
    this.acting = null;
    this.context.draw();
    try {
      sum = await this.goOn(where, { ...which, dry_run: true }, MOST_COUNTED);
    } catch (problem) {
      this.acting = problem;
    }
    this.counting = false;
    this.context.draw();
    if (!sum) return;
    const many = (sum.more ? "at least " : "") + plural(sum.letters, "dead letter", "dead letters");
    await ask({
      title: (word === "redrive" ? "Redrive " : "Purge ") + many + "?",
      text: [
        word === "redrive"
          ? `They are put into the queue again and sent, to ${plural(sum.recipients, "recipient", "recipients")} as far as that is known. What is still at fault comes back here.`
          : "They are deleted for ever, and never sent.",
        ...sum.reasons.slice(0, 5).map((r) => `${number(r.letters)}: ${r.reason}`),
        ...(sum.stays > 0 ? [`${plural(sum.stays, "other stays", "others stay")}, as it cannot be redriven: ${sum.refusals.map((r) => r.reason).join("; ")}.`] : []),
        ...(word === "redrive" ? sum.notes : []),
      ],
      confirm: word === "redrive" ? "Redrive" : "Purge", danger: word === "purge",
      act: async (_, tell) => {
        this.done = said(word, await this.goOn(where, which, Infinity, (soFar) => tell(number(soFar.letters) + " so far")));
        this.context.say(this.done);
        this.load();
      },
    });
  }

  // goOn repeats a request until all of it is done: each does a part.
  async goOn(where, which, most, tell) {
    const sum = { letters: 0, recipients: 0, stays: 0, reasons: [], refusals: [], notes: [], more: false };
    for (let body = which; ;) {
      const answer = await this.context.client.post(where, body);
      for (const name of ["letters", "recipients", "stays"]) sum[name] += answer[name] ?? 0;
      for (const name of ["reasons", "refusals"]) {
        for (const r of answer[name] ?? []) {
          const known = sum[name].find((one) => one.reason === r.reason);
          if (known) known.letters += r.letters;
          else sum[name].push({ ...r });
        }
      }
      sum.notes = [...new Set([...sum.notes, ...(answer.notes ?? [])])];
      if (!answer.next) return sum;
      if (sum.letters >= most) return { ...sum, more: true };
      tell?.(sum);
      body = { ...which, after: answer.next, through: answer.through };
    }
  }

  async show(l) {
    const loaded = new Loaded(() => {});
    await loaded.load(() => this.context.client.get(path`apps/${this.app}/dead-letters/${l.sequence}`));
    const whole = loaded.value ?? l;
    sheet(`Dead letter ${l.sequence}`,
      fault(loaded.problem),
      facts([
        ["Reason", whole.reason], ["Subject", whole.subject], ["Job", whole.root ?? whole.id], ["Campaign", whole.campaign],
        ["Recipients", whole.recipients && number(whole.recipients)], ["Attempts", whole.attempts && number(whole.attempts)], ["Deliveries", whole.deliveries && number(whole.deliveries)],
        ["First", whole.first && time(whole.first)], ["Given up", whole.last && time(whole.last)], ["Expires", whole.expires && time(whole.expires)],
        ["Redrive", whole.refusal ? "not possible: " + whole.refusal : whole.redrive_id && "as job " + whole.redrive_id],
      ]),
      whole.headers && [h("h3", null, "Headers"), h("pre", { tabindex: "0", "aria-label": "Headers" }, Object.entries(whole.headers).map(([k, v]) => k + ": " + v.join(", ")).join("\n"))],
      whole.body !== undefined && [h("h3", null, "Body"), h("pre", { tabindex: "0", "aria-label": "Body" }, whole.body)]);
  }
}

function said(word, sum) {
  const stays = sum.stays > 0 ? ` ${plural(sum.stays, "stays", "stay")}: ${sum.refusals.map((r) => r.reason).join("; ")}.` : "";
  return `${plural(sum.letters, "dead letter", "dead letters")} ${word === "redrive" ? "redriven" : "purged"}.${stays}`;
}
