// A service in another language checks the gate's assertion, as docs/assertion.md says.
//
//   node assertion.mjs ISSUER METHOD TARGET [SECONDS], with the key and the assertion on two lines of the input
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { jwtVerify } from "jose";

const [issuer, method, target, seconds] = process.argv.slice(2);
const [key, assertion] = readFileSync(0, "utf8").trim().split("\n");

const { payload } = await jwtVerify(assertion, Buffer.from(key, "hex"), {
  algorithms: ["HS256"],
  typ: "portcullis-assertion+jwt",
  issuer,
  audience: "app",
  requiredClaims: ["iat", "exp", "htm", "tgt", "host"],
  maxTokenAge: "30s",
  clockTolerance: 0,
  currentDate: seconds ? new Date(Number(seconds) * 1000) : undefined,
});
if (payload.exp - payload.iat > 30) throw new Error("it counts for too long");
if (payload.htm !== method) throw new Error("it is on another method");
if (payload.tgt !== createHash("sha256").update(target).digest("base64url")) throw new Error("it is on another target");
console.log(payload.sub ?? "nobody");
