/** Asks the API: with the token, with If-None-Match, and with the reason where there is no answer. */

const TIMEOUT = 10_000;
const STORED_AS = "emotion-api-token";

/** The page's address without user:password@, with which fetch refuses to ask. */
const BASE = new URL(location.href);
BASE.username = "";
BASE.password = "";

/** Why there is no answer. `kind`: unreachable, token, login, forbidden, unavailable or failed; `retryAfter`: seconds, or 0. */
export class ApiError extends Error {
  constructor(kind, message, retryAfter = 0) {
    super(message);
    this.kind = kind;
    this.retryAfter = retryAfter;
  }
}

export class Api {
  #clock;
  #kept = new Map();
  #fromAddress = "";

  /** How many tokens the visitor has entered. */
  tokensEntered = 0;

  constructor(clock) {
    this.#clock = clock;
  }

  /** Takes a token from the address. Unless `stays`, it moves from there into this tab's storage. */
  takeToken({ stays }) {
    const token = tokenInAddress();
    if (!token) return;
    if (stays) {
      this.#fromAddress = token;
      return;
    }
    this.token = token;
    history.replaceState(null, "", location.pathname + location.search);
  }

  get token() {
    return this.#fromAddress || (sessionStorage.getItem(STORED_AS) ?? "");
  }

  set token(token) {
    this.#kept.clear();
    this.#fromAddress = "";
    this.tokensEntered += 1;
    if (token) sessionStorage.setItem(STORED_AS, token);
    else sessionStorage.removeItem(STORED_AS);
  }

  /**
   * The JSON at a path below the page's own; the very same object as before while it has not changed. `purpose`: of each,
   * the newest answer is cached.
   */
  async get(path, parameters, signal, purpose = path) {
    const address = `${path}?${new URLSearchParams(parameters)}`;
    const kept = this.#kept.get(purpose);
    const known = kept?.address === address ? kept : undefined;
    const [response, text] = await this.#fetch(address, known?.etag, signal);
    if (response.status === 304 && known) return known.body;
    const body = parsed(text);
    if (!response.ok) throw problem(response, body);
    if (!body) throw new ApiError("failed", "What answered is not the API: it sent no JSON.");
    this.#kept.set(purpose, { address, etag: response.headers.get("ETag"), body });
    return body;
  }

  /** A file at a path below the page's own: its name, if the API gives one, and its text. */
  async file(path, parameters, signal) {
    const [response, text] = await this.#fetch(`${path}?${new URLSearchParams(parameters)}`, undefined, signal);
    if (!response.ok) throw problem(response, parsed(text));
    const name = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") ?? "")?.[1];
    return { name: name ?? "history.csv", text };
  }

  async #fetch(address, etag, signal) {
    const headers = { Accept: "application/json" };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    if (etag) headers["If-None-Match"] = etag;
    const limit = new AbortController(); // AbortSignal.any would say it shorter, in browsers since 2024
    const giveUp = () => limit.abort();
    const timer = setTimeout(giveUp, TIMEOUT);
    signal.addEventListener("abort", giveUp);
    const asked = performance.now();
    try {
      // Not from the browser's cache, or it would hide that the answer was a 304.
      const response = await fetch(new URL(address, BASE), { headers, cache: "no-store", signal: limit.signal });
      this.#clock.learn(response.headers.get("Date"), asked, performance.now());
      return [response, await response.text()];
    } catch {
      signal.throwIfAborted();
      throw new ApiError("unreachable", limit.signal.aborted ? "It took more than 10 s." : "");
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", giveUp);
    }
  }
}

/** The token behind #token= in the address, or nothing. A browser sends no part of it. */
export function tokenInAddress() {
  return decodeURIComponent(/^#token=([^&]*)/.exec(location.hash)?.[1] ?? "");
}

/** What JSON says, or null. */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function problem(response, body) {
  const status = `${response.status} ${response.statusText}`.trim();
  const said = typeof body?.detail === "string" ? body.detail : `It answered ${status}.`;
  const challenge = response.headers.get("WWW-Authenticate") ?? "";
  return new ApiError(kind(response.status, challenge), said, seconds(response.headers.get("Retry-After")));
}

function kind(status, challenge) {
  if (status === 403) return "forbidden";
  if (status === 401) return /^bearer\b/i.test(challenge) ? "token" : "login";
  return [429, 502, 503, 504].includes(status) ? "unavailable" : "failed";
}

/** Retry-After has seconds, or a date. */
function seconds(retryAfter) {
  if (!retryAfter) return 0;
  const count = Number(retryAfter);
  const wait = Number.isNaN(count) ? (Date.parse(retryAfter) - Date.now()) / 1000 : count;
  return Math.min(Math.max(wait || 0, 0), 300);
}
