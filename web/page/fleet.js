// The fleet now.

import { spark } from "./chart.js";
import { path } from "./client.js";
import { ask } from "./dialog.js";
import { h } from "./dom.js";
import { duration, none, number, percent, rate } from "./format.js";
import { total } from "./live.js";
import { badge, bar, empty, fault, needs, num, table, time } from "./parts.js";

export class FleetView {
  title = "Fleet";

  constructor(context) {
    this.context = context;
  }

  view() {
    const { fleet, state, history } = this.context.live;
    if (!fleet) {
      return [
        h("div", { class: "head" }, h("h1", null, "Fleet")),
        state === "refused" ? fault(this.context.live.problem, () => this.context.live.retry())
          : h("p", { class: "note" }, state === "lost" ? "There is nothing to show before the connection is there." : "Asking what the fleet does…"),
      ];
    }
    const apps = Object.entries(fleet.apps ?? {}).sort(([a], [b]) => a.localeCompare(b));
    return [
      h("div", { class: "head" }, h("h1", null, "Fleet"), h("span", { class: "small" }, "as of ", time(fleet.at))),
      this.missing(fleet),
      this.tiles(fleet, history),
      h("h2", null, "Apps"),
      this.apps(apps),
      h("h2", null, "Workers"),
      this.workers(fleet.workers ?? []),
      h("h2", null, "Device tokens"),
      this.devices(apps),
      h("h2", null, "Fuses"),
      this.fuses(apps),
    ];
  }

  // missing is what the API could not find out.
  missing(fleet) {
    const list = fleet.unknown ?? [];
    return list.length > 0 && h("div", { class: "fault", role: "alert" }, h("p", null, h("strong", null, "Not known now: ")), h("ul", null, list.map((text) => h("li", null, text))));
  }

  tiles(fleet, history) {
    const sum = total(fleet);
    const workers = fleet.workers ?? [];
    const line = (name, say) => spark(name, history.map((s) => ({ at: s.at, value: s[name.toLowerCase()] })), say);
    const tile = (name, value, note, chart) => h("div", { key: name, class: "tile", "data-tile": name },
      h("div", { class: "name" }, name), h("div", { class: "value" }, value), h("div", { class: "small" }, note), chart);
    return h("div", { class: "tiles" },
      tile("Rate", rate(sum.perSecond), "answered by APNs", line("Rate", rate)),
      tile("p99", duration(sum.p99), Object.keys(fleet.apps ?? {}).length > 1 ? "of APNs's answers, slowest app" : "of APNs's answers", line("p99", duration)),
      tile("Backlog", number(sum.backlog), sum.oldest > 0 ? "oldest waits " + duration(sum.oldest) : "notifications that wait", line("Backlog", number)),
      tile("In flight", number(sum.inFlight), "at the workers"),
      tile("Connections", number(sum.connections), sum.wanted > 0 ? "to APNs, of " + number(sum.wanted) : "to APNs"),
      tile("Workers", number(workers.length), workers.length > 0 ? "that were heard lately" : "nothing is sent"));
  }

  apps(apps) {
    if (apps.length === 0) return empty("No app is configured that this key is for. Apps stand in the configuration, below apps.");
    const columns = [
      { name: "App" }, { name: "Rate", number: true }, { name: "p99", number: true, about: "Of APNs's answers" },
      { name: "Transactional backlog", number: true, about: "Notifications that wait" }, { name: "Bulk backlog", number: true, about: "Notifications that wait, also those of running campaigns" },
      { name: "Fuse" },
    ];
    return table("Apps", columns, apps.map(([name, a]) => {
      const { transactional: urgent, bulk } = a.backlog ?? {};
      return h("tr", { key: name, "data-app": name },
        h("td", null, name, h("div", { class: "small" }, a.bundle_id, ", ", a.environment)),
        num(a.per_second, rate(a.per_second)),
        num(a.p99_ms, duration(a.p99_ms)),
        lane(urgent), lane(bulk),
        h("td", null, (a.fuses ?? []).some((f) => f.tripped) ? badge("tripped") : badge("closed")));
    }));
  }

  workers(workers) {
    if (workers.length === 0) return empty("No worker is there, so nothing is sent. Start one, as many as you like:", "pushfleet worker -c pushfleet.yaml");
    const columns = [
      { name: "Worker" }, { name: "App" }, { name: "Connections", number: true }, { name: "In flight", number: true }, { name: "Rate", number: true },
      { name: "p50", number: true }, { name: "p99", number: true }, { name: "Accepted", number: true }, { name: "Rejected", number: true }, { name: "Failed", number: true },
    ];
    const rows = [...workers].sort((a, b) => a.name.localeCompare(b.name)).flatMap((w) => {
      const apps = Object.entries(w.apps ?? {}).sort(([a], [b]) => a.localeCompare(b));
      const head = h("th", { scope: "rowgroup", rowspan: Math.max(1, apps.length) }, w.name,
        h("div", { class: "small" }, [w.version, w.since && "since "].filter(Boolean).join(", "), w.since && time(w.since)),
        w.problem && h("div", { class: "held" }, w.problem));
      if (apps.length === 0) return [h("tr", { key: w.name, "data-worker": w.name }, head, h("td", { colspan: 9 }, h("span", { class: "small" }, "tells nothing yet")))];
      return apps.map(([name, a], i) => h("tr", { key: w.name + " " + name, "data-worker": w.name },
        i === 0 && head,
        h("td", null, name, a.retry_or_held && h("div", { class: "held" }, a.retry_or_held)),
        num(a.connections, number(a.connections) + (a.connections_wanted > 0 ? " / " + number(a.connections_wanted) : "")),
        num(a.in_flight), num(a.per_second, rate(a.per_second)), num(a.p50_ms, duration(a.p50_ms)), num(a.p99_ms, duration(a.p99_ms)),
        num(a.accepted), num(a.rejected), num(a.failed)));
    });
    return table("Workers", columns, rows);
  }

  devices(apps) {
    if (apps.length === 0) return null;
    const columns = [
      { name: "App" }, { name: "Active", number: true }, { name: "Quarantined", number: true, about: "Rejected in a way that may be a mistake of ours" },
      { name: "Removed", number: true, about: "Remembered for 30 days" }, { name: "Removed, by reason" },
    ];
    return table("Device tokens", columns, apps.map(([name, a]) => {
      const d = a.devices ?? {};
      const reasons = Object.entries(a.removed_by_reason ?? {}).sort(([, x], [, y]) => y - x);
      const all = reasons.reduce((sum, [, n]) => sum + n, 0);
      return h("tr", { key: name, "data-app": name },
        h("td", null, name, d.estimated && h("div", { class: "small" }, "estimated from a sample")), num(d.active), num(d.quarantined), num(d.removed),
        h("td", { class: "wide" }, reasons.length === 0 ? none : h("ul", { class: "reasons" }, reasons.map(([reason, n]) => h("li", { key: reason },
          h("span", null, reason), h("span", { class: "n" }, number(n), " · ", percent(n, all)), bar(`${reason} of ${name}`, n, all))))));
    }));
  }

  fuses(apps) {
    const list = apps.flatMap(([app, a]) => (a.fuses ?? []).map((f) => ({ ...f, app })));
    if (list.length === 0) return h("p", { class: "note" }, "No fuse is known.");
    const columns = [
      { name: "App" }, { name: "Environment" }, { name: "State" }, { name: "Tripped last" }, { name: "Because of" }, { name: "Reset last" }, { name: "Actions", unseen: true },
    ];
    const lacks = list.some((f) => f.tripped && !this.context.may("admin", f.app));
    return [
      lacks && needs("admin", "reset a fuse"),
      table("Fuses", columns, list.map((f) => h("tr", { key: f.app + " " + f.environment, "data-fuse": f.app },
        h("td", null, f.app), h("td", null, f.environment), h("td", null, badge(f.tripped ? "tripped" : "closed")),
        h("td", { "data-label": "Tripped last" }, f.tripped_at ? [time(f.tripped_at), h("div", { class: "small" }, f.tripped_by)] : none),
        h("td", { "data-label": "Because of" }, f.tripped_at ? `${number(f.rejected)} rejected of ${number(f.sent)} sent` : none, f.tripped && h("div", { class: "small" }, f.undone ? "what was removed or quarantined is undone" : "what was removed or quarantined is being undone")),
        h("td", { "data-label": "Reset last" }, f.reset_at ? [time(f.reset_at), h("div", { class: "small" }, f.reset_by)] : none),
        h("td", null, f.tripped && this.context.may("admin", f.app) && h("button", { type: "button", "aria-label": `Reset the fuse of ${f.app}, ${f.environment}`, onclick: () => this.reset(f) }, "Reset…")))), "stack"),
    ];
  }

  reset(f) {
    return ask({
      title: `Reset the fuse of ${f.app}, ${f.environment}?`,
      text: [
        `It tripped because ${number(f.rejected)} of ${number(f.sent)} device tokens that worked before were rejected: that is a wrong environment, topic or credential more often than wrong device tokens.`,
        "Once the cause is mended, reset it: what was rejected meanwhile is sent. If the cause is still there, it trips again, and nothing is lost.",
      ],
      confirm: "Reset the fuse",
      act: async () => {
        const after = await this.context.client.post(path`apps/${f.app}/fuses/${f.environment}/reset`);
        const app = this.context.live.fleet?.apps?.[f.app];
        if (app) app.fuses = app.fuses.map((one) => (one.environment === f.environment ? after : one));
        this.context.say(`The fuse of ${f.app}, ${f.environment} is reset`);
        this.context.draw();
      },
    });
  }
}

// lane is what waits, since when, and how long what did not wait any more took.
function lane(l) {
  return h("td", { class: "n" }, number(l?.notifications),
    l?.oldest_ms > 0 && h("div", { class: "small" }, "oldest ", duration(l.oldest_ms)),
    l?.enqueue_to_accept_p99_ms !== undefined && h("div", { class: "small", title: "From being stored in the queue to being accepted by APNs" }, "accepted in ", duration(l.enqueue_to_accept_p99_ms), " (p99)"));
}
