// What a team writes with jose: every request is checked in full. The set keeps the keys that it has imported.
import { createLocalJWKSet, jwtVerify } from "jose";
import { told } from "./told.mjs";

let keys;

export default {
  async fetch(request, env) {
    keys ??= createLocalJWKSet(env.JWKS);
    const authorization = request.headers.get("authorization");
    if (!authorization?.startsWith("Bearer ")) return new Response(null, { status: 401 });
    try {
      const { payload } = await jwtVerify(authorization.slice(7), keys, env.EXPECTED);
      return new Response(null, { status: 204, headers: told(payload) });
    } catch {
      return new Response(null, { status: 401 });
    }
  },
};
