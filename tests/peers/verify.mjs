// The gate's own signature check (edge/src/verify.js) for others' signatures: a list of [algorithm, key, message, signature], the
// last three in hex; the answer says of each whether it is good.
import { verify } from "./verify.js";

export default {
  async fetch(request) {
    const cases = await request.json();
    return Response.json(cases.map(([algorithm, ...hex]) => verify(algorithm, ...hex.map((text) => Buffer.from(text, "hex")))));
  },
};
