// Pieces that several views have.

import { h } from "./dom.js";
import { local, none, number, percent, short, utc } from "./format.js";

// time is on the reader's clock, with UTC in the title.
export function time(at) {
  return at ? h("time", { datetime: at, title: utc(at) }, local(at)) : none;
}

// token is a device token, short but for where it was asked for.
export function token(text) {
  return h("code", { class: "token" }, short(text));
}

const TONES = {
  running: "good", done: "calm", scheduled: "calm", loading: "calm", paused: "warn", cancelled: "bad",
  accepted: "good", rejected: "bad", failed: "bad", unknown: "warn", retrying: "warn", waiting: "calm", queued: "calm", in_work: "calm",
  live: "good", quarantined: "warn", removed: "bad", closed: "good", tripped: "bad",
};

export function badge(word) {
  return h("span", { class: "badge " + (TONES[word] ?? "calm") }, word.replace("_", " "));
}

// bar is how much of all is done.
export function bar(label, part, all) {
  const share = all > 0 ? Math.min(1, part / all) : 0;
  return h("div", {
    class: "bar", role: "progressbar", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100",
    "aria-valuenow": Math.floor(share * 100), "aria-valuetext": percent(part, all),
  }, h("span", { class: "fill", style: { width: (share * 100).toFixed(2) + "%" } }));
}

// fault says what went wrong, where it did; again, if given, tries once more.
export function fault(problem, again) {
  if (!problem) return null;
  let text = problem.message;
  if (problem.code === "no_route") text = "this API does not have what this part of the page asks for: is it an older version, or behind a proxy that hides it?";
  if (problem.retryAfter > 0) text += ` (again in ${problem.retryAfter} s)`;
  const errors = problem.errors ?? [];
  const list = errors.length > 1 || (errors[0] && !text.includes(errors[0].message)) ? errors : [];
  return h("div", { class: "fault", role: "alert" },
    h("p", null, h("strong", null, problem.status === 403 ? "Not allowed: " : problem.status === 404 ? "Not found: " : "That did not work: "), text),
    list.length > 0 && h("ul", null, list.map((e) => h("li", null, (e.path ? e.path + ": " : "") + e.message))),
    problem.requestID && problem.status >= 500 && h("p", { class: "small" }, "Request ", h("code", null, problem.requestID), " in the logs."),
    again && h("button", { type: "button", onclick: again }, "Try again"));
}

// empty says what to do next, with a command where there is one.
export function empty(text, command) {
  return h("div", { class: "empty" }, h("p", null, text), command && h("pre", { tabindex: "0", "aria-label": "Command" }, command));
}

// curl is a command that does it.
export function curl(method, where, body) {
  const url = new URL("v1/" + where, document.baseURI);
  url.hash = "";
  return `curl -X ${method} -H "Authorization: Bearer $KEY" ${url}` + (body ? ` \\\n  -d '${JSON.stringify(body)}'` : "");
}

// table has columns [{name, number}], and rows of its own. Of kind stack, its rows are
// cards where there is no room.
export function table(caption, columns, rows, kind) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", { class: kind },
      h("caption", { class: "unseen" }, caption),
      h("thead", null, h("tr", null, columns.map((c) => h("th", { key: c.name, scope: "col", class: c.number ? "n" : null, title: c.about },
        c.unseen ? h("span", { class: "unseen" }, c.name) : c.name)))),
      h("tbody", null, rows)));
}

export function num(n, text = number(n)) {
  return h("td", { class: "n" }, text);
}

// facts are names with values; those without are left out.
export function facts(list) {
  return h("dl", { class: "facts" }, list.filter(([, v]) => v !== undefined && v !== null && v !== "" && v !== false)
    .map(([name, value]) => h("div", { key: name }, h("dt", null, name), h("dd", null, value))));
}

// field is a labelled input or select.
export function field(label, control) {
  return h("label", { class: "field" }, h("span", null, label), control);
}

export function options(list, chosen) {
  return list.map(([value, text]) => h("option", { key: value, value, selected: value === chosen }, text));
}

// needs is why there are fewer buttons.
export function needs(scope, what) {
  return h("p", { class: "note needs" }, "This key may only look: to ", what, " it needs the scope ", h("code", null, scope), ".");
}
