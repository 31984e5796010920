// The Worker's entry: hands a request to the gate's checks in WebAssembly and does the I/O that they ask for.
import app, { Hub } from "./index.js";

export { Hub };

const wasm = app.prototype;
const PULL_MS_MIN = 200;
const PULL_STAMP_MS = 1000;
const WAIT_MS_MAX = 1500;

let configured = false;
let pulling = null;
let pulledAt = 0;

function configure(env) {
  wasm.configure(JSON.stringify({
    issuer: env.ISSUER,
    audience: env.AUDIENCE,
    feed_keys: env.FEED_KEYS ?? "",
    trusted_jwks: env.TRUSTED_JWKS || null,
    freshness_ms_max: Number(env.FRESHNESS_MS_MAX ?? 5000),
    clock_skew_ms_max: Number(env.CLOCK_SKEW_MS_MAX ?? 2000),
    access_cookie: env.ACCESS_COOKIE ?? "__Host-Http-at",
    refresh_cookie: env.REFRESH_COOKIE ?? "__Host-Http-rt",
  }));
  configured = true;
}

const hub = (env, name) => env.HUB.get(env.HUB.idFromName(name ?? env.HUB_NAME ?? "local"));

async function pull(env) {
  const answer = await hub(env).fetch(`http://hub/sync?${wasm.position()}`, { signal: AbortSignal.timeout(WAIT_MS_MAX) });
  if (answer.ok) wasm.accept(new Uint8Array(await answer.arrayBuffer()), Date.now());
}

// One pull at a time; a stamp that expires, since the request that began it may have been cancelled.
function refresh(env, ms) {
  const now = Date.now();
  if (pulling !== null && now - pulledAt < PULL_STAMP_MS) return pulling;
  if (now - pulledAt < ms) return null;
  pulledAt = now;
  const mine = pull(env).catch(() => {}).finally(() => { if (pulling === mine) pulling = null; });
  pulling = mine;
  return mine;
}

const problem = (status, detail, headers = {}) =>
  new Response(JSON.stringify({ type: "about:blank", title: "Refused at the gate", status, detail }), {
    status,
    headers: { "content-type": "application/problem+json", "cache-control": "no-store", ...headers },
  });

function refuse(status, code, detail) {
  if (status !== 401) return problem(status, detail);
  // RFC 6750 §3.1: no error code for a request without credentials.
  return problem(status, detail, { "www-authenticate": code ? `Bearer realm="portcullis", error="${code}"` : 'Bearer realm="portcullis"' });
}

function ask(req, authorization) {
  const headers = req.headers;
  return wasm.check(JSON.stringify({
    method: req.method,
    url: req.url,
    authorization: authorization ?? headers.get("authorization"),
    cookie: authorization ? null : headers.get("cookie"),
    origin: headers.get("origin"),
    site: headers.get("sec-fetch-site"),
  }), Date.now());
}

async function judge(req, env, ctx, authorization) {
  let said = ask(req, authorization);
  if (said === "unready") {
    configure(env);
    said = ask(req, authorization);
  }
  if (said === "wait") {
    for (let turn = 0; said === "wait" && turn < 2; turn++) {
      await Promise.race([refresh(env, 0), new Promise((done) => setTimeout(done, WAIT_MS_MAX))]);
      said = ask(req, authorization);
    }
  } else {
    const background = refresh(env, PULL_MS_MIN);
    if (background !== null) ctx.waitUntil(background);
  }
  return said;
}

async function forward(req, env, said, setCookies) {
  const [, subject, session, tenant, roles, version, cookies] = said.split("\n");
  const identity = { subject, session, tenant, roles, version };
  const upstream = Object.values(JSON.parse(env.UPSTREAMS ?? "{}"))[0] ?? "self";
  let answer;
  if (upstream === "self") {
    answer = new Response(null, { status: 204 });
    for (const name in identity) answer.headers.set(`portcullis-${name}`, identity[name]);
  } else {
    const url = new URL(req.url);
    const headers = new Headers(req.headers);
    for (const name of [...headers.keys()]) {
      if (name.replaceAll("_", "-").startsWith("portcullis-")) headers.delete(name);
    }
    if (/^bearer /i.test(headers.get("authorization") ?? "")) headers.delete("authorization");
    if (cookies || setCookies.length > 0) headers.set("cookie", cookies); else headers.delete("cookie");
    for (const name in identity) headers.set(`portcullis-${name}`, identity[name]);
    answer = await fetch(new Request(new URL(upstream).origin + url.pathname + url.search, new Request(req, { headers, redirect: "manual" })));
    if (answer.status === 101) return answer;
    answer = new Response(answer.body, answer);
  }
  for (const line of setCookies) answer.headers.append("set-cookie", line);
  return answer;
}

async function renew(req, env, ctx, token) {
  let answer;
  try {
    answer = await fetch(`${env.ORIGIN_URL}/oauth2/token`, {
      method: "POST",
      body: new URLSearchParams({ grant_type: "refresh_token", refresh_token: token, client_id: env.CLIENT_ID ?? "web" }),
      signal: AbortSignal.timeout(WAIT_MS_MAX),
    });
  } catch {
    return problem(503, "the session cannot be renewed now", { "retry-after": "1" });
  }
  if (answer.status >= 500) return problem(503, "the session cannot be renewed now", { "retry-after": "1" });
  const attributes = "; Path=/; Secure; HttpOnly; SameSite=Lax";
  const names = [env.ACCESS_COOKIE ?? "__Host-Http-at", env.REFRESH_COOKIE ?? "__Host-Http-rt"];
  if (!answer.ok) {
    const refused = refuse(401, "invalid_token", "the session has ended");
    for (const name of names) refused.headers.append("set-cookie", `${name}=${attributes}; Max-Age=0`);
    return refused;
  }
  const tokens = await answer.json();
  const said = await judge(req, env, ctx, `Bearer ${tokens.access_token}`);
  const lines = [`${names[0]}=${tokens.access_token}${attributes}`, `${names[1]}=${tokens.refresh_token}${attributes}`];
  const done = said.startsWith("forward")
    ? await forward(req, env, withoutOurs(said, req, names), lines)
    : settle(said);
  if (!said.startsWith("forward")) for (const line of lines) done.headers.append("set-cookie", line);
  return done;
}

// The check saw the new token instead of the cookies, so what is left of them is told here.
function withoutOurs(said, req, names) {
  const ours = names.map((name) => name.toLowerCase());
  const left = (req.headers.get("cookie") ?? "").split(/[;,]/).map((pair) => pair.trim())
    .filter((pair) => pair && !ours.includes(pair.split("=")[0].trim().toLowerCase()));
  return said.slice(0, said.lastIndexOf("\n") + 1) + left.join("; ");
}

function settle(said) {
  if (said.startsWith("answer ")) {
    const [head, code, detail] = said.split("\n");
    return refuse(Number(head.slice(7)), code, detail);
  }
  return problem(503, "the gate is not fresh enough to decide", { "retry-after": "1" });
}

async function reserved(req, env, ctx) {
  const path = new URL(req.url).pathname;
  const push = /^\/\.portcullis\/hubs\/([a-z0-9-]{1,64})\/frames$/.exec(path);
  if (push && req.method === "POST") return hub(env, push[1]).fetch(req);
  if (path === "/.portcullis/status" && req.method === "GET") {
    await refresh(env, PULL_MS_MIN);
    return new Response(wasm.status(), { headers: { "content-type": "application/json", "cache-control": "no-store" } });
  }
  return problem(404, "there is nothing here");
}

export default {
  async fetch(req, env, ctx) {
    try {
      if (!configured) configure(env);
      const said = await judge(req, env, ctx);
      if (said.startsWith("forward")) return await forward(req, env, said, []);
      if (said === "reserved") return await reserved(req, env, ctx);
      if (said.startsWith("renew")) return await renew(req, env, ctx, said.slice(6));
      return settle(said);
    } catch (error) {
      console.error("gate failed", error?.message);
      return problem(503, "the gate failed", { "retry-after": "1" });
    }
  },
};
