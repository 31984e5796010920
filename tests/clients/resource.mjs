// What a client of others learns of a resource by being refused (RFC 9728): where its metadata are, and who issues its tokens.
//
//   node resource.mjs PATH RESOURCE ISSUER
import assert from "node:assert/strict";
import * as oauth from "oauth4webapi";

const [path, resource, issuer] = process.argv.slice(2);
const refused = await fetch(resource + path);
assert.equal(refused.status, 401);
const challenge = refused.headers.get("www-authenticate");
const [, named] = /, resource_metadata="([^"]+)"$/.exec(challenge);

const answer = await oauth.resourceDiscoveryRequest(new URL(resource), { [oauth.allowInsecureRequests]: true });
assert.equal(answer.url, named);
const found = await oauth.processResourceDiscoveryResponse(new URL(resource), answer);
assert.deepEqual(found.authorization_servers, [issuer]);
assert.deepEqual(found.bearer_methods_supported, ["header"]);
console.log(`${named}: tokens of ${issuer}`);
