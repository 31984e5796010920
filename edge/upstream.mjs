// Forwards what the gate let pass: the URL that was judged, with the gate's own word on who it is from.

import { refuse } from "./refuse.mjs";

const IDENTITY = ["portcullis-subject", "portcullis-session", "portcullis-tenant", "portcullis-roles", "portcullis-version"];

/**
 * The answer of the application at `address`, or of the gate itself (`self`). `said` is subject, session, tenant, roles and
 * version, empty for an anonymous request, then the cookies that are left; `lines` are `Set-Cookie` lines to add.
 */
export function forward(req, address, said, lines) {
  if (address === "self") return own(said, lines);
  const { url } = req;
  const rest = url.slice(url.indexOf("/", url.indexOf("://") + 3));
  const request = new Request(address + rest, req);
  const { headers } = request;
  strip(headers);
  if (said[0] !== "") for (let i = 0; i < IDENTITY.length; i++) headers.set(IDENTITY[i], said[i]);
  // The credential was the gate's business; the application gets the verdict instead.
  if (/^bearer\b/i.test(headers.get("authorization") ?? "")) headers.delete("authorization");
  if (said[5] !== "") headers.set("cookie", said[5]);
  else headers.delete("cookie");
  const split = url.indexOf("://");
  headers.set("x-forwarded-proto", url.slice(0, split));
  headers.set("x-forwarded-host", url.slice(split + 3, url.length - rest.length));
  return ask(request, lines);
}

async function ask(request, lines) {
  let answer;
  try {
    answer = await fetch(request, { redirect: "manual" });
  } catch {
    answer = refuse(["502", "upstream", "", "", "the application does not answer"]);
  }
  if (!lines) return answer;
  // Also with the answer that opens a WebSocket: cookies that get lost would make the next renewal a reuse.
  const renewed = answer.webSocket
    ? new Response(null, { status: 101, webSocket: answer.webSocket, headers: answer.headers })
    : new Response(answer.body, answer);
  for (const line of lines) renewed.headers.append("set-cookie", line);
  return renewed;
}

// Servers read `_` in a header's name as `-`, so both are the same name here.
function strip(headers) {
  let doomed = null;
  for (const name of headers.keys()) {
    if (name.charCodeAt(0) === 112 && name.replaceAll("_", "-").startsWith("portcullis-")) (doomed ??= []).push(name);
  }
  if (doomed !== null) for (const name of doomed) headers.delete(name);
}

function own(said, lines) {
  const headers = { "cache-control": "no-store" };
  if (said[0] !== "") for (let i = 0; i < IDENTITY.length; i++) headers[IDENTITY[i]] = said[i];
  if (!lines) return new Response(null, { status: 204, headers });
  const answer = new Response(null, { status: 204, headers });
  for (const line of lines) answer.headers.append("set-cookie", line);
  return answer;
}
