// jose.mjs with a bounded cache of tokens that were checked; expiry is checked on every use.
import { createLocalJWKSet, jwtVerify } from "jose";
import { told } from "./told.mjs";

const TOKENS_MAX = 8192;
const checked = new Map();
let keys;

function refused() {
  return new Response(null, { status: 401 });
}

function answer(payload) {
  return new Response(null, { status: 204, headers: told(payload) });
}

async function check(token, env) {
  try {
    keys ??= createLocalJWKSet(env.JWKS);
    const { payload } = await jwtVerify(token, keys, env.EXPECTED);
    // A Map keeps the order of insertion: the first key is the oldest.
    if (checked.size >= TOKENS_MAX) checked.delete(checked.keys().next().value);
    checked.set(token, payload);
    return answer(payload);
  } catch {
    return refused();
  }
}

export default {
  // Not async: a hit needs no promise.
  fetch(request, env) {
    const authorization = request.headers.get("authorization");
    if (!authorization?.startsWith("Bearer ")) return refused();
    const token = authorization.slice(7);
    const payload = checked.get(token);
    if (payload === undefined) return check(token, env);
    return Date.now() >= payload.exp * 1000 ? refused() : answer(payload);
  },
};
