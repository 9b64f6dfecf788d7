// The HTTP API, asked with the reader's key.

// Problem is an answer that is none: a problem document of the API, or no answer at all
// (status 0).
export class Problem extends Error {
  constructor(status, code, detail, more = {}) {
    super(detail);
    this.status = status;
    this.code = code;
    this.errors = more.errors ?? [];
    this.requestID = more.requestID ?? "";
    this.retryAfter = more.retryAfter ?? 0; // seconds
  }
}

// path makes a path of parts that may hold anything: path`apps/${app}/campaigns`.
export function path(fixed, ...parts) {
  return fixed.reduce((text, next, i) => text + encodeURIComponent(parts[i - 1]) + next);
}

const PATIENCE = 20_000; // the API itself has 8 s
const SILENCE = 40_000; // of a stream that says something each second

export class Client {
  constructor(key, refused) {
    this.key = key;
    this.refused = refused; // is told when the key is not good any more
  }

  // id names the key, and is no secret.
  get id() {
    return this.key.split("_")[1] ?? "";
  }

  get(where, query) {
    return this.ask("GET", where, query);
  }

  post(where, body) {
    return this.ask("POST", where, null, body);
  }

  patch(where, body) {
    return this.ask("PATCH", where, null, body);
  }

  async ask(method, where, query, body) {
    const answer = await this.#fetch(method, where, query, body, AbortSignal.timeout(PATIENCE));
    if (answer.status === 204) return null;
    try {
      return await answer.json();
    } catch {
      throw new Problem(0, "unreachable", "the answer of the API did not come whole");
    }
  }

  async #fetch(method, where, query, body, signal) {
    const url = new URL("v1/" + where, document.baseURI);
    url.hash = "";
    for (const [name, value] of Object.entries(query ?? {})) {
      if (value !== "" && value !== null && value !== undefined) url.searchParams.set(name, value);
    }
    let answer;
    try {
      answer = await fetch(url, {
        method, signal, cache: "no-store", credentials: "same-origin", redirect: "error",
        headers: { Authorization: "Bearer " + this.key },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch (err) {
      if (err.name === "AbortError") throw err;
      throw new Problem(0, "unreachable", err.name === "TimeoutError" ? "the API does not answer" : "the API cannot be reached");
    }
    if (answer.ok) return answer;
    throw await this.#problem(answer);
  }

  async #problem(answer) {
    let doc = {};
    try {
      doc = await answer.json();
    } catch {
      // something in front of the API
    }
    const detail = doc.detail ?? `something in front of the API answered ${answer.status} ${answer.statusText}`.trim();
    const p = new Problem(answer.status, doc.code ?? "", detail, {
      errors: doc.errors, requestID: doc.request_id, retryAfter: Number(answer.headers.get("Retry-After")) || 0,
    });
    if (p.status === 401 && doc.code === "unauthorized") this.refused?.(p);
    return p;
  }

  // events follows server-sent events until they end: on(event, data) for each. It returns
  // where the server ended them, and throws where it could not be reached or fell silent.
  async events(where, query, signal, on) {
    const silent = new AbortController();
    let timer = setTimeout(() => silent.abort(), SILENCE);
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silent.abort(), SILENCE);
    };
    try {
      const answer = await this.#fetch("GET", where, query, undefined, AbortSignal.any([signal, silent.signal]));
      await read(answer.body, heard, on);
    } catch (err) {
      if (err instanceof Problem || signal.aborted) throw err;
      throw new Problem(0, "unreachable", silent.signal.aborted ? "nothing comes from the API any more" : "the connection was cut");
    } finally {
      clearTimeout(timer);
    }
  }
}

// read reads the text/event-stream format, as far as the API uses it.
async function read(body, heard, on) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    heard();
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      let event = "message";
      const data = [];
      for (const line of block.split("\n")) {
        if (line.startsWith("event:")) event = line.slice(6).trim();
        else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
      }
      if (data.length > 0) on(event, JSON.parse(data.join("\n")));
    }
  }
}
