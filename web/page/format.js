// Numbers, durations and times for people. What is not known is a dash.

export const none = "–";

const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 1 });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const year = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

const known = (n) => typeof n === "number" && Number.isFinite(n);

export function number(n) {
  return known(n) ? whole.format(n) : none;
}

export function rate(n) {
  return known(n) ? (n > 0 && n < 10 ? fine : whole).format(n) + "/s" : none;
}

// percent never says 100 of what is not all, nor 0 of what is something.
export function percent(part, all) {
  if (!known(part) || !known(all) || all <= 0) return none;
  const share = (100 * part) / all;
  if (share > 0 && share < 0.1) return "< 0.1 %";
  if (share > 99.9 && part < all) return "> 99.9 %";
  return fine.format(share) + " %";
}

// duration shows two units at most.
export function duration(ms) {
  if (!known(ms)) return none;
  if (ms < 1) return ms > 0 ? "< 1 ms" : "0 ms";
  if (ms < 1000) return Math.round(ms) + " ms";
  if (ms < 10_000) return fine.format(ms / 1000) + " s";
  let left = Math.round(ms / 1000);
  const parts = [];
  for (const [unit, seconds] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    const n = Math.floor(left / seconds);
    left -= n * seconds;
    if (n > 0) parts.push(n + " " + unit);
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return parts.join(" ");
}

export function plural(n, one, many) {
  return number(n) + " " + (n === 1 ? one : many);
}

// local is a time on the reader's clock, with the day where it is another.
export function local(at, now = new Date()) {
  const time = new Date(at);
  if (Number.isNaN(time.getTime())) return none;
  if (time.toDateString() === now.toDateString()) return clock.format(time);
  return (time.getFullYear() === now.getFullYear() ? day : year).format(time) + ", " + clock.format(time);
}

export function utc(at) {
  const time = new Date(at);
  return Number.isNaN(time.getTime()) ? "" : time.toISOString().replace("T", " ").replace(/\.\d+Z$/, "") + " UTC";
}

// short is a device token as logs show it.
export function short(token) {
  return token && token.length > 6 && !token.endsWith("…") ? token.slice(0, 6) + "…" : (token ?? "");
}
