// An assertion made as often as a request asks: /wasm/N all of it, as the gate does; the others only sign a text of its length,
// by crypto.subtle (/hmac/N, /ed25519/N) or node:crypto (/node/N).
import module from "./wasm.wasm";
import { initSync, Asserter } from "bench-wasm";

const crypto = process.getBuiltinModule("node:crypto");
const { subtle } = globalThis.crypto;
let ready;

async function prepare(env) {
  initSync({ module });
  const text = Buffer.alloc(Number(env.BYTES), "a");
  const secret = Buffer.from(env.KEY, "hex");
  const hmac = await subtle.importKey("raw", secret, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const { privateKey } = await subtle.generateKey("Ed25519", false, ["sign", "verify"]);
  const asserter = new Asserter(env.KEY, env.CLAIMS);
  return {
    wasm: () => asserter.make(4_000_000_000),
    hmac: () => subtle.sign("HMAC", hmac, text),
    node: () => crypto.createHmac("sha256", secret).update(text).digest("base64url"),
    ed25519: () => subtle.sign("Ed25519", privateKey, text),
  };
}

export default {
  async fetch(request, env) {
    ready ??= await prepare(env);
    const [, how, times] = new URL(request.url).pathname.split("/");
    for (let i = 0; i < Number(times); i++) {
      const made = how === "wasm" || how === "node" ? ready[how]() : await ready[how]();
      if (!made) return new Response("nothing was signed", { status: 500 });
    }
    return new Response(null, { status: 204 });
  },
};
