// better-auth with its sessions in Redis as secondary storage. Arguments: port, address of Redis, number of users.
//
// Users are in memory, and passwords are compared as they are: what is measured is the session, not the user's record or the
// hash. Every session is read from Redis (no cookie cache), as one must be that can be revoked.
import { createServer } from "node:http";

import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { toNodeHandler } from "better-auth/node";
import { createClient } from "redis";

const [port, redis, users] = process.argv.slice(2);
const client = await createClient({ url: redis }).connect();

const now = new Date();
const user = (number) => {
  const id = `u_${String(number).padStart(22, "0")}`;
  return { id, name: id, email: `${id}@bench.example`, emailVerified: true, createdAt: now, updatedAt: now };
};
const account = ({ id }) => {
  const own = { id: `a${id}`, accountId: id, providerId: "credential", userId: id, password: "password-of-a-benchmark" };
  return { ...own, createdAt: now, updatedAt: now };
};
const all = Array.from({ length: Number(users) }, (_, number) => user(number));

const auth = betterAuth({
  baseURL: "http://bench.example",
  secret: "secret-of-a-benchmark-long-enough-and-random-enough",
  database: memoryAdapter({ user: all, account: all.map(account), session: [], verification: [] }),
  secondaryStorage: {
    get: (key) => client.get(key),
    set: (key, value, ttl) => (ttl ? client.set(key, value, { expiration: { type: "EX", value: ttl } }) : client.set(key, value)),
    delete: (key) => client.del(key),
  },
  // Asked without `disableRefresh`, it renews at once.
  session: { expiresIn: 14 * 86_400, updateAge: 0 },
  emailAndPassword: {
    enabled: true,
    password: { hash: async (password) => password, verify: async ({ hash, password }) => hash === password },
  },
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
  logger: { level: "error" },
});

createServer(toNodeHandler(auth)).listen(Number(port), "127.0.0.1");
