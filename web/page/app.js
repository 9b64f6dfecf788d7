// The page: signing in, the views, and which of them the URL's fragment names.

import { CampaignView } from "./campaign.js";
import { CampaignsView } from "./campaigns.js";
import { h, render } from "./dom.js";
import { FleetView } from "./fleet.js";
import { duration, plural } from "./format.js";
import { LettersView } from "./letters.js";
import { Live } from "./live.js";
import { LookUpView } from "./lookup.js";
import { SignIn, forgetKey, storedKey } from "./signin.js";

const top = document.getElementById("top");
const main = document.getElementById("view");
const said = document.getElementById("said");

const NAV = [
  ["fleet", "Fleet"],
  ["campaigns", "Campaigns"],
  ["dead-letters", "Dead letters"],
  ["look-up", "Look-up"],
];

let session = null; // {client, apps, live, views}
let drawing = false;

const signIn = new SignIn(draw, begin);

// draw brings the page up to date, once for whatever changed meanwhile.
function draw() {
  if (drawing) return;
  drawing = true;
  setTimeout(() => { // not an animation frame: those stand still in the background
    drawing = false;
    drawNow();
  }, 0);
}

function drawNow() {
  if (!session) {
    document.title = "Sign in · pushfleet";
    render(top);
    render(main, signIn.view());
    return;
  }
  const { name, view } = current();
  document.title = view.title + " · pushfleet";
  render(top, header(name), banner(), fuseBanner());
  main.classList.toggle("stale", session.live.state === "lost");
  render(main, h("div", { key: name, class: "view" }, view.view()));
}

// begin starts a session.
function begin(client, apps) {
  client.refused = (problem) => end("Signed out: " + problem.message + ".");
  const live = new Live(client, (what) => {
    if (what === "connection") announce();
    if (session) current().view.live?.(what);
    draw();
  });
  const context = {
    client, apps, live, draw, say, go,
    names: apps.map((a) => a.name),
    // may reports whether the key may do something for an app, or for any.
    may: (scope, app) => apps.some((a) => (app === undefined || a.name === app) && (a.scopes.includes(scope) || a.scopes.includes("admin"))),
  };
  session = {
    client, apps, live,
    views: {
      fleet: new FleetView(context), campaigns: new CampaignsView(context), campaign: new CampaignView(context),
      "dead-letters": new LettersView(context), "look-up": new LookUpView(context),
    },
  };
  live.run();
  const typed = main.contains(document.activeElement); // into the form, which goes
  route();
  if (typed) main.focus();
}

function end(note) {
  if (!session) return;
  session.live.stop();
  forgetKey();
  session = null;
  signIn.note = note ?? "";
  signIn.problem = null;
  draw();
}

// where reads the fragment: #/campaigns/shop/spring?x=y.
function where() {
  const [route, query] = location.hash.replace(/^#\/?/, "").split("?");
  let parts;
  try {
    parts = route.split("/").map(decodeURIComponent);
  } catch {
    parts = [""];
  }
  return { parts, query: new URLSearchParams(query) };
}

function current() {
  const { parts } = where();
  let name = NAV.some(([n]) => n === parts[0]) ? parts[0] : "fleet";
  let key = name;
  if (name === "campaigns" && parts.length === 3) key = "campaign";
  return { name, view: session.views[key] };
}

// go shows another view: go(["campaigns", "shop", id], {state: "running"}). With replace,
// going back leads past it.
function go(parts, query = {}, replace = false) {
  const given = Object.entries(query).filter(([, v]) => v !== "" && v !== null && v !== undefined);
  const hash = "#/" + parts.map(encodeURIComponent).join("/") + (given.length > 0 ? "?" + new URLSearchParams(given) : "");
  if (hash === location.hash) {
    route();
    return;
  }
  history[replace ? "replaceState" : "pushState"](null, "", hash);
  route();
}

function route() {
  if (!session) return;
  const { parts, query } = where();
  current().view.open?.(parts.slice(1), query);
  draw();
}

function say(text) {
  said.textContent = text;
}

let wasLost = false;

function announce() {
  const { state, problem } = session?.live ?? {};
  if (state === "lost" && !wasLost) say("Connection lost: " + problem.message);
  if (state === "live" && wasLost) say("Connected again");
  if (state === "lost" || state === "live") wasLost = state === "lost";
}

function header(name) {
  return h("header", { key: "header", class: "top" },
    h("a", { class: "brand", href: "#/fleet" }, "pushfleet"),
    h("nav", { "aria-label": "Views" }, NAV.map(([id, text]) =>
      h("a", { key: id, href: "#/" + id, "aria-current": id === name ? "page" : null }, text))),
    connection(),
    h("span", { class: "who", title: session.apps.map((a) => `${a.name}: ${a.scopes.join(", ")}`).join("\n") }, "key ", h("code", null, session.client.id)),
    h("button", { type: "button", onclick: () => end() }, "Sign out"));
}

function connection() {
  const { state } = session.live;
  const text = { connecting: "connecting", live: "live", lost: "not connected", refused: "not live" }[state];
  return h("span", { class: "connection " + state }, h("span", { class: "dot", "aria-hidden": "true" }), text);
}

// banner says that what is shown is old, and when it is tried again.
function banner() {
  const { state, problem, since, retryAt } = session.live;
  if (state !== "lost" && state !== "refused") return null;
  const left = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
  const old = state === "lost"
    ? `What you see is ${duration(Math.max(1000, Math.floor((Date.now() - since) / 1000) * 1000))} old. `
    : "Nothing is updated by itself. ";
  return h("div", { key: "banner", class: "banner " + state },
    h("span", null, h("strong", null, state === "lost" ? "Connection lost: " : "No live data: "), reason(problem), ". ", old, left > 0 ? `Trying again in ${left} s.` : "Trying again…"),
    h("button", { type: "button", onclick: () => session.live.retry() }, "Try now"));
}

function reason(problem) {
  if (problem.status === 404) return "this API has no events: it is an older version, or a proxy hides them";
  if (problem.status === 503) return "the API is there, but not what it needs: " + problem.message;
  return problem.message;
}

// fuseBanner is in all views: while a fuse is tripped nothing is sent.
function fuseBanner() {
  const tripped = Object.entries(session.live.fleet?.apps ?? {})
    .flatMap(([app, a]) => (a.fuses ?? []).filter((f) => f.tripped).map((f) => `${app} (${f.environment})`));
  if (tripped.length === 0) return null;
  return h("div", { key: "fuse", class: "banner fuse" },
    h("span", null, h("strong", null, plural(tripped.length, "fuse has", "fuses have") + " tripped: "), "nothing is sent for ", tripped.join(", "), "."),
    h("a", { href: "#/fleet" }, "See why"));
}

// Its fragment would be taken for a view.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
window.addEventListener("hashchange", route); // pushState does not fire it
window.addEventListener("pagehide", () => session?.live.drop());
window.addEventListener("pageshow", () => session?.live.retry());
window.addEventListener("online", () => session?.live.retry());
// The seconds of the banner.
setInterval(() => {
  if (session && session.live.state !== "live") draw();
}, 1000);

const stored = storedKey();
if (stored) signIn.resume(stored);
draw();
