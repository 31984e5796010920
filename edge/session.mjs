// What a browser sees and does with its own session, on the application's own host, and the exchanges with the origin that
// this takes. No page ever holds a token: they travel in HttpOnly cookies only (COO-04).
import app from "./index.js";
import { POSTURE, refuse } from "./refuse.mjs";

const wasm = app.prototype;

const ORIGIN_MS_MAX = 3_000; // deadline of one exchange
const JSON_TYPE = { "content-type": "application/json", ...POSTURE };

/** The `Set-Cookie` lines of new tokens; without any, those that take the cookies away. */
export const cookies = ({ access_token = "", refresh_token = "" } = {}) => wasm.session_cookies(access_token, refresh_token).split("\n");

const RENEWALS_MAX = 1_024; // of an isolate, at one time
const RENEWED_MS = 5_000; // how long others may join a renewal after it began; well within the origin's retry window

const renewals = new Map(); // refresh token and user agent → { began, tokens }, in the order of their beginning

/**
 * New tokens for a refresh token, as `{ tokens, isJoined }`; the tokens are null if the session is over. Everything else is a
 * failure that ends no session. The tabs and parts of a page that come with the same token from the same browser share one
 * exchange with the origin, unless it is the one that is `known`.
 */
export async function renewal(req, env, ctx, token, known) {
  const now = Date.now();
  const key = `${req.headers.get("user-agent") ?? ""}\n${token}`;
  const running = renewals.get(key);
  if (running !== undefined && running.tokens !== known?.promise && now - running.began < RENEWED_MS) {
    const tokens = await joined(running.tokens);
    // The request that began it may have been cancelled together with it.
    if (tokens !== undefined) return { tokens, isJoined: true, promise: running.tokens };
  }
  const tokens = exchange(req, env, token);
  remember(key, now, tokens);
  ctx.waitUntil(tokens.catch(() => {}));
  try {
    return { tokens: await tokens, isJoined: false };
  } catch (error) {
    if (renewals.get(key)?.tokens === tokens) renewals.delete(key);
    throw error;
  }
}

const joined = (tokens) => Promise.race([tokens, new Promise((done) => setTimeout(done, ORIGIN_MS_MAX))]);

function remember(key, now, tokens) {
  renewals.delete(key);
  for (const [old, { began }] of renewals) {
    if (renewals.size < RENEWALS_MAX && now - began < RENEWED_MS) break;
    renewals.delete(old);
  }
  renewals.set(key, { began: now, tokens });
}

// The origin hears the browser's user agent: a token that comes from another one is reuse, and no retry.
async function exchange(req, env, token) {
  const fields = { grant_type: "refresh_token", refresh_token: token };
  const answer = await oauth(env, "token", fields, { "user-agent": req.headers.get("user-agent") ?? "" });
  const said = await answer.json();
  if (answer.ok) return said;
  if (answer.status === 400 && said.error === "invalid_grant") return null;
  throw new Error(`the origin answered ${answer.status} ${said.error}`);
}

/** A path below /.portcullis/session, in a session: `token` is its access token, `known` what its user may know. */
export async function session(req, env, [token, known], lines) {
  const answer = await own(req, env, token, known);
  for (const line of lines ?? []) answer.headers.append("set-cookie", line);
  return answer;
}

async function own(req, env, token, known) {
  const { pathname, search } = new URL(req.url);
  const path = pathname.slice("/.portcullis/session".length);
  const device = /^\/devices\/([A-Za-z0-9_-]{22})\/end$/.exec(path);
  const wanted = path === "" || path === "/devices" ? "GET" : path === "/refresh" || device ? "POST" : null;
  if (wanted === null) return refuse(["404", "no_route", "", "", "there is nothing here"]);
  if (req.method !== wanted) return refuse(["405", "method", "", wanted, "this method is not allowed here; see Allow"]);
  if (path === "" || path === "/refresh") return new Response(known, { headers: JSON_TYPE });
  try {
    const said = await me(env, token, device ? `sessions/${device[1]}/revoke` : `sessions${search}`, wanted);
    if (said.status >= 500 || said.status === 429) return refuse(unavailable);
    return new Response(said.body, said);
  } catch (error) {
    return failed(error);
  }
}

/** Ends the session at the origin, and only then takes the cookies away (SES-05, COO-14). */
export async function signOut(env, [access, refresh]) {
  try {
    let said = null;
    if (refresh) said = await oauth(env, "revoke", { token: refresh, token_type_hint: "refresh_token" });
    else if (access) said = await me(env, access, "sign-out", "POST");
    // 401: the access token counts for nothing any more.
    if (said !== null && !said.ok && !(said.status === 401 && !refresh)) return refuse(unavailable);
    const headers = new Headers({ ...POSTURE, "clear-site-data": '"cache", "cookies", "storage"' });
    for (const line of cookies()) headers.append("set-cookie", line);
    return new Response(null, { status: 204, headers });
  } catch (error) {
    return failed(error);
  }
}

const unavailable = ["503", "origin", "", "", "the origin cannot do this now; nothing was changed, or it may be repeated"];

function failed(error) {
  console.warn(JSON.stringify({ event: "gate_session_failed", reason: String(error?.message ?? error) }));
  return refuse(unavailable);
}

/** The address of the origin, without a slash at its end. */
export const originUrl = (env) => (env.ORIGIN_URL ?? "").replace(/\/+$/, "");

function oauth(env, endpoint, fields, headers = {}) {
  const body = new URLSearchParams({ ...fields, client_id: env.CLIENT_ID || "web" });
  const init = { method: "POST", headers, body, signal: AbortSignal.timeout(ORIGIN_MS_MAX) };
  return fetch(`${originUrl(env)}/oauth2/${endpoint}`, init);
}

function me(env, token, path, method) {
  const headers = { authorization: `Bearer ${token}` };
  return fetch(`${originUrl(env)}/v1/me/${path}`, { method, headers, signal: AbortSignal.timeout(ORIGIN_MS_MAX) });
}
