// Uses the server as a program does that was written against the generated types.
import createClient from "openapi-fetch";
import type { components, paths } from "./generated.js";

declare const process: { env: Record<string, string | undefined> };

const client = createClient<paths>({
  baseUrl: process.env.PUSHFLEET_URL ?? "",
  headers: { Authorization: `Bearer ${process.env.PUSHFLEET_KEY}` },
});
const app = "demo";

function want(what: string, ok: boolean, got: unknown): void {
  if (!ok) {
    throw new Error(`${what}: got ${JSON.stringify(got)}`);
  }
  console.log(`${what}: ok`);
}

// again asks until it is so: another process has to do something first.
async function again<T>(ask: () => Promise<T>, is: (got: T) => boolean): Promise<T> {
  const end = Date.now() + 20_000;
  for (;;) {
    const got = await ask();
    if (is(got) || Date.now() > end) {
      return got;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const token = "0a1b2c3d".repeat(8);
const registered = await client.PUT("/v1/apps/{app}/devices/{token}", {
  params: { path: { app, token } },
  body: { user: "ada", timezone: "Europe/Vienna", tags: ["beta"] },
});
want("register", registered.data?.created === true, registered);

const batch = await client.POST("/v1/apps/{app}/devices", {
  params: { path: { app } },
  body: { devices: [{ token: "0b".repeat(32), user: "grace" }, { token: "abc" }] },
});
want("register many", batch.data?.registered === 1 && batch.data.results[1]?.status === 422, batch);

const devices = await client.GET("/v1/apps/{app}/users/{user}/devices", { params: { path: { app, user: "ada" } } });
want("a user's devices", devices.data?.devices[0]?.token === token, devices);

const job: components["schemas"]["Job"] = {
  to: { users: ["ada", "nobody"] },
  notification: { title: "Shipped", body: "Order 4711 is on its way" },
  data: { order: 4711 },
  ttl: "4h",
};
const send = () =>
  client.POST("/v1/apps/{app}/notifications", {
    params: { path: { app }, query: { lane: "transactional" }, header: { "Idempotency-Key": "order/4711" } },
    body: job,
  });
const sent = await again(send, (got) => got.response.status !== 503); // JetStream may be a moment behind
want("send", sent.response.status === 202 && sent.data?.id === "order/4711" && sent.data.status_url !== "", sent);
const repeated = await send();
want("send again", repeated.data?.duplicate === true && repeated.data.sequence === sent.data?.sequence, repeated);

const done = await again(
  () => client.GET("/v1/apps/{app}/notifications/{id}", { params: { path: { app, id: "order/4711" }, query: { sequence: sent.data?.sequence } } }),
  (got) => got.data?.state === "done",
);
const result = (who: (r: components["schemas"]["NotificationRecipient"]) => boolean) => done.data?.recipients.find(who)?.result;
want(
  "status",
  done.data?.counts["accepted"] === 1 && result((r) => r.token === token) === "accepted" && result((r) => r.user === "nobody") === "skipped",
  done,
);

const many = await client.POST("/v1/apps/{app}/notifications/batch", {
  params: { path: { app }, query: { lane: "bulk" } },
  body: { jobs: [job, { ...job, id: "second" }] },
});
want("send many", many.data?.stored === 2 && many.data.results[1]?.job?.id === "second", many);

const wrong = await client.POST("/v1/apps/{app}/notifications", {
  params: { path: { app } },
  body: { id: "seq-1", to: { tokens: ["abc"] }, notification: { title: "t" } },
});
want("mistakes", wrong.error?.status === 422 && wrong.error.errors?.length === 2 && wrong.error.code === "invalid", wrong);
const unknown = await client.GET("/v1/apps/{app}/notifications/{id}", { params: { path: { app, id: "nosuch" } } });
want("an unknown one", unknown.error?.code === "unknown_notification", unknown);

const campaign = await client.POST("/v1/apps/{app}/campaigns", {
  params: { path: { app } },
  body: { id: "spring", audience: { all: true }, notification: { title: "It is spring" } },
});
want("campaign", campaign.data?.created === true, campaign);
const counted = await again(
  () => client.GET("/v1/apps/{app}/campaigns/{id}", { params: { path: { app, id: "spring" } } }),
  (got) => got.data?.state === "done",
);
want("campaign's counts", counted.data?.counts.results["accepted"] === 2, counted);

// What operators ask.
const apps = await client.GET("/v1/apps");
want("apps", apps.data?.apps.find((a) => a.name === app)?.bundle_id !== undefined, apps);

const fleet = await again(
  () => client.GET("/v1/fleet", { params: { query: { app } } }),
  (got) => (got.data?.workers[0]?.apps[app]?.accepted ?? 0) >= 3,
);
want("the fleet", fleet.data?.workers.length === 1 && fleet.data.apps[app]?.fuses[0]?.tripped === false, fleet);

const why = await client.GET("/v1/apps/{app}/explain", { params: { path: { app }, query: { job: "order/4711", user: "ada" } } });
want("explain", why.data?.state === "complete" && why.data.devices[0]?.verdict === "accepted", why);

const reset = await client.POST("/v1/apps/{app}/fuses/{environment}/reset", { params: { path: { app, environment: "production" } } });
want("reset a fuse", reset.data?.reset === false && reset.data.environment === "production", reset);

const letters = await client.GET("/v1/apps/{app}/dead-letters", { params: { path: { app }, query: { limit: 10 } } });
want("dead letters", letters.data?.dead_letters.length === 0 && letters.data.next === undefined, letters);
const purged = await client.POST("/v1/apps/{app}/dead-letters/purge", { params: { path: { app } }, body: { all: true, dry_run: true } });
want("purge dead letters", purged.data?.dry_run === true && purged.data.letters === 0, purged);

const removed = await client.DELETE("/v1/apps/{app}/devices/{token}", { params: { path: { app, token } } });
want("remove", removed.response.status === 204, removed);
