import { Client } from "./client.js";
import { h } from "./dom.js";
import { fault } from "./parts.js";

const STORED = "pushfleet.key"; // of the tab: gone when it is closed

export function storedKey() {
  return sessionStorage.getItem(STORED);
}

export function storeKey(key) {
  sessionStorage.setItem(STORED, key);
}

export function forgetKey() {
  sessionStorage.removeItem(STORED);
}

// SignIn asks for an API key, and tries it.
export class SignIn {
  constructor(draw, done) {
    this.draw = draw;
    this.done = done; // called with a client and what it may
    this.busy = false;
    this.resuming = false;
    this.problem = null;
    this.note = ""; // why one is asked for again
  }

  async submit(event) {
    event.preventDefault();
    const key = new FormData(event.target).get("key").trim();
    await this.try(key);
  }

  // resume goes on with the key of before a reload.
  async resume(key) {
    this.resuming = true;
    await this.try(key);
    this.resuming = false;
    this.draw();
  }

  async try(key) {
    this.busy = true;
    this.problem = null;
    this.note = "";
    this.draw();
    const client = new Client(key);
    try {
      const { apps } = await client.get("apps");
      storeKey(key);
      this.busy = false;
      this.done(client, apps);
    } catch (problem) {
      if (problem.status === 401) forgetKey();
      this.busy = false;
      this.problem = problem;
      this.draw();
    }
  }

  view() {
    if (this.resuming) return h("p", { key: "resuming", class: "note" }, "Signing in…");
    const again = this.problem && this.problem.status !== 401 && storedKey() ? () => this.try(storedKey()) : null;
    return h("section", { key: "signin", class: "signin" },
      h("h1", null, "pushfleet"),
      this.note && h("p", { class: "fault", role: "alert" }, this.note),
      h("form", { onsubmit: (e) => this.submit(e) },
        h("label", { class: "field" }, h("span", null, "API key"),
          h("input", {
            type: "password", name: "key", required: true, autocomplete: "off", autocapitalize: "off", spellcheck: "false",
            placeholder: "pf_…", made: (el) => queueMicrotask(() => el.focus()),
          })),
        h("button", { type: "submit", class: "primary", disabled: this.busy }, this.busy ? "Signing in…" : "Sign in")),
      fault(this.problem, again),
      h("p", { class: "note" }, "The page shows and does what the key may. It is kept in this tab until you sign out or close it, and sent to this API only."),
      h("p", { class: "note" }, "A key to look at everything, and to pause campaigns:"),
      h("pre", { tabindex: "0", "aria-label": "Command" }, "pushfleet key create --all-apps --name dashboard \\\n  --scope read --scope campaigns"));
  }
}
