// Pausing, resuming, pacing and cancelling a campaign.

import { path } from "./client.js";
import { ask } from "./dialog.js";
import { h } from "./dom.js";
import { number } from "./format.js";

const OVER = new Set(["done", "cancelled"]);

export class Steer {
  constructor(context) {
    this.context = context;
    this.busy = new Set();
    this.problems = new Map(); // "app id" -> why it did not work
  }

  problem(c) {
    return this.problems.get(c.app + " " + c.id);
  }

  // buttons are what the campaign's state and the key allow.
  buttons(c) {
    if (OVER.has(c.state) || !this.context.may("campaigns", c.app)) return null;
    const busy = this.busy.has(c.app + " " + c.id);
    const button = (word, text, act, tone) => h("button", {
      key: word, type: "button", class: tone, disabled: busy, "aria-label": `${text} ${c.id}`, onclick: act,
    }, text);
    return h("div", { class: "buttons" },
      c.state === "paused"
        ? button("resume", "Resume", () => this.now(c, "resume", "resumed"))
        : c.state !== "loading" && button("pause", "Pause", () => this.now(c, "pause", "paused")),
      button("pace", "Pace…", () => this.pace(c)),
      button("cancel", "Cancel…", () => this.cancel(c), "danger"));
  }

  // now does what can be undone, without a question.
  async now(c, word, done) {
    const id = c.app + " " + c.id;
    this.busy.add(id);
    this.problems.delete(id);
    this.context.draw();
    try {
      await this.do(c, word, done);
    } catch (problem) {
      this.problems.set(id, problem);
    }
    this.busy.delete(id);
    this.context.draw();
  }

  async do(c, word, done) {
    this.took(await this.context.client.post(path`apps/${c.app}/campaigns/${c.id}/` + word), done);
  }

  took(summary, done) {
    this.problems.delete(summary.app + " " + summary.id);
    this.context.live.setCampaign(summary);
    this.context.say(`Campaign ${summary.id} is ${done}`);
    this.context.draw();
  }

  cancel(c) {
    return ask({
      title: `Cancel ${c.id}?`,
      text: ["What is not sent of it will not be, and it cannot be resumed. What was sent cannot be called back.", "To stop it for a while, pause it."],
      confirm: "Cancel the campaign", danger: true,
      act: () => this.do(c, "cancel", "cancelled"),
    });
  }

  pace(c) {
    return ask({
      title: `Pace of ${c.id}`,
      text: [c.rate ? `It may send ${number(c.rate)} notifications a second now.` : "It sends as many as it can now."],
      field: {
        label: "Notifications a second, over the whole fleet; 0: as many as it can", value: c.rate ?? 0,
        input: { type: "number", min: 0, max: 10_000_000, step: 1, required: true },
      },
      confirm: "Change the pace",
      act: async (value) => this.took(
        await this.context.client.patch(path`apps/${c.app}/campaigns/${c.id}`, { rate: Number(value) }),
        Number(value) === 0 ? "not paced any more" : `paced at ${number(Number(value))} a second`),
    });
  }
}
