// Answers of the gate itself: application/problem+json (RFC 9457), never cached.

/** Headers of every answer that is the gate's own (HDR-01, HDR-02). */
export const POSTURE = {
  "cache-control": "no-store",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "referrer-policy": "no-referrer",
  "strict-transport-security": "max-age=31536000",
  "x-content-type-options": "nosniff",
};

// BRR-08: whatever is wrong with a token, its holder learns the same.
const told = (name) => (name === "expired" || name === "revoked" ? "invalid_token" : name);

/** `said` is status, name, `WWW-Authenticate`, `Allow` and detail, all texts; `lines` are `Set-Cookie` lines to add. */
export function refuse([status, name, challenge, allow, detail], lines = []) {
  const headers = new Headers({ "content-type": "application/problem+json", ...POSTURE });
  if (challenge) headers.set("www-authenticate", challenge);
  if (allow) headers.set("allow", allow);
  if (status === "503") headers.set("retry-after", "1");
  for (const line of lines) headers.append("set-cookie", line);
  const body = { type: "about:blank", title: "Refused at the gate", status: Number(status), detail, reason: told(name) };
  return new Response(JSON.stringify(body), { status: Number(status), headers });
}

const RETURN_BYTES_MAX = 2_048; // of the place to return to; a longer one is left out

/** Sends a browser to sign in: `place` is a path or a URL; it comes back, if the login service likes, to `url`. */
export function redirect(place, url, lines = []) {
  const back = place.startsWith("/") ? url.slice(url.indexOf("/", url.indexOf("://") + 3)) : url;
  const query = back.length > RETURN_BYTES_MAX ? "" : `${place.includes("?") ? "&" : "?"}return_to=${encodeURIComponent(back)}`;
  const headers = new Headers({ ...POSTURE, location: place + query });
  for (const line of lines) headers.append("set-cookie", line);
  return new Response(null, { status: 303, headers });
}
