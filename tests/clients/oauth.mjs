// The OAuth surface as clients of others see it: `oauth4webapi` is the client, `jose` and again `oauth4webapi` the resource server.
//
//   node oauth.mjs < INPUT
//
// INPUT is JSON: `issuer`, `audience` and `algorithm` of the origin; `secret` of the client `backend`, `key` (PKCS#8, base64url) and
// `kid` of the client `signer`; `sessions`, one of each client and of the public one `web`, as the origin answered when they were
// opened. Says what it did, line by line; ends with 1 at the first thing that is not as it must be.
import assert from "node:assert/strict";
import { text } from "node:stream/consumers";
import { calculateJwkThumbprint, createRemoteJWKSet, jwtVerify } from "jose";
import * as oauth from "oauth4webapi";

const { issuer, audience, algorithm, secret, key, kid, sessions } = JSON.parse(await text(process.stdin));
const insecure = { [oauth.allowInsecureRequests]: true };
const named = { code: "OAUTH_RESPONSE_BODY_ERROR" };

const server = await discover();
const jwks = createRemoteJWKSet(new URL(server.jwks_uri));
await namesAreThumbprints();
const clients = {
  web: oauth.None(),
  backend: oauth.ClientSecretBasic(secret),
  signer: oauth.PrivateKeyJwt({ key: await imported(), kid }),
};
for (const [id, authentication] of Object.entries(clients)) {
  await liveAsClient({ client_id: id }, authentication, sessions[id]);
  console.log(`${id}: refreshed, verified, introspected, revoked`);
}
await strangersAreRefused();
console.log("strangers: refused");

async function discover() {
  const url = new URL(issuer);
  const answer = await oauth.discoveryRequest(url, { ...insecure, algorithm: "oauth2" });
  const found = await oauth.processDiscoveryResponse(url, answer);
  assert.deepEqual(found.grant_types_supported, ["refresh_token"]);
  for (const method of ["none", "client_secret_basic", "private_key_jwt"]) {
    assert.ok(found.token_endpoint_auth_methods_supported.includes(method), method);
  }
  console.log(`found ${found.token_endpoint}`);
  return found;
}

async function namesAreThumbprints() {
  const { keys } = await (await fetch(server.jwks_uri)).json();
  assert.ok(keys.length > 0);
  for (const key of keys) assert.equal(key.kid, await calculateJwkThumbprint(key));
}

function imported() {
  return crypto.subtle.importKey("pkcs8", Buffer.from(key, "base64url"), "Ed25519", false, ["sign"]);
}

async function refresh(client, authentication, token, options = {}) {
  const answer = await oauth.refreshTokenGrantRequest(server, client, authentication, token, { ...insecure, ...options });
  return oauth.processRefreshTokenResponse(server, client, answer);
}

async function introspect(client, authentication, token) {
  const answer = await oauth.introspectionRequest(server, client, authentication, token, insecure);
  return oauth.processIntrospectionResponse(server, client, answer);
}

async function liveAsClient(client, authentication, opened) {
  const renewed = await refresh(client, authentication, opened.refresh_token);
  assert.equal(renewed.token_type, "bearer");
  assert.notEqual(renewed.refresh_token, opened.refresh_token);
  await assert.rejects(refresh(client, authentication, renewed.refresh_token, { additionalParameters: { scope: "more" } }), {
    ...named, error: "invalid_scope",
  });
  for (const token of [opened.access_token, renewed.access_token]) await verify(token, client.client_id);

  // A public client proves nothing, so others ask for it.
  const [asker, proof] = client.client_id === "web" ? [{ client_id: "backend" }, clients.backend] : [client, authentication];
  const own = asker === client;
  for (const token of [renewed.access_token, renewed.refresh_token]) {
    const shown = await introspect(asker, proof, token);
    assert.equal(shown.active, own);
    assert.equal(shown.client_id, own ? client.client_id : undefined);
  }
  const answer = await oauth.revocationRequest(server, client, authentication, renewed.refresh_token, insecure);
  await oauth.processRevocationResponse(answer);
  for (const token of [renewed.access_token, renewed.refresh_token]) {
    assert.deepEqual(await introspect(asker, proof, token), { active: false });
  }
  await assert.rejects(refresh(client, authentication, renewed.refresh_token), { ...named, error: "invalid_grant" });
}

// As a resource server that knows nothing but the issuer.
async function verify(token, client) {
  const expected = { issuer, audience, typ: "at+jwt", algorithms: [algorithm], requiredClaims: ["client_id", "sid", "jti", "iat"] };
  const { payload } = await jwtVerify(token, jwks, expected);
  assert.equal(payload.client_id, client);
  await assert.rejects(jwtVerify(token, jwks, { ...expected, audience: "other" }), { code: "ERR_JWT_CLAIM_VALIDATION_FAILED" });
  const at = token.length - 10;
  const changed = token.slice(0, at) + (token[at] === "A" ? "B" : "A") + token.slice(at + 1);
  await assert.rejects(jwtVerify(changed, jwks, expected), { code: "ERR_JWS_SIGNATURE_VERIFICATION_FAILED" });

  const options = { ...insecure, signingAlgorithms: [algorithm] };
  const request = (bearer) => new Request("https://app.example/x", { headers: { authorization: `Bearer ${bearer}` } });
  const claims = await oauth.validateJwtAccessToken(server, request(token), audience, options);
  assert.equal(claims.client_id, client);
  await assert.rejects(oauth.validateJwtAccessToken(server, request(changed), audience, options));
}

async function strangersAreRefused() {
  const backend = { client_id: "backend" };
  await assert.rejects(refresh(backend, oauth.ClientSecretBasic("wrong"), "rt_x"), { status: 401 });
  await assert.rejects(refresh({ client_id: "nobody" }, oauth.None(), "rt_x"), { ...named, error: "invalid_client" });
  await assert.rejects(introspect({ client_id: "web" }, clients.web, "x"), { status: 401 });
}
