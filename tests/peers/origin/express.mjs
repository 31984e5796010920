// express-session over Redis: what most applications on Node do. Arguments: port, address of Redis.
import { createServer } from "node:http";

import { RedisStore } from "connect-redis";
import express from "express";
import session from "express-session";
import { createClient } from "redis";

const [port, redis] = process.argv.slice(2);
const client = await createClient({ url: redis }).connect();

const app = express();
app.disable("x-powered-by").disable("etag");
// A session that was only read is not written, nor is its time moved: the least work that the options allow.
const store = new RedisStore({ client, disableTouch: true });
const cookie = { httpOnly: true, sameSite: "lax", maxAge: 14 * 86_400_000 };
app.use(session({ store, secret: "secret-of-a-benchmark", resave: false, saveUninitialized: false, cookie }));

app.post("/sessions", express.json(), (request, response) => {
  request.session.who = request.body;
  response.status(201).json({});
});

app.get("/session", (request, response) => {
  const who = request.session.who;
  if (who) response.json(who);
  else response.status(401).json({});
});

app.post("/session/renew", (request, response, next) => {
  const who = request.session.who;
  request.session.regenerate((error) => {
    if (error) return next(error);
    request.session.who = who;
    response.json(who);
  });
});

app.post("/session/revoke", (request, response, next) => {
  request.session.destroy((error) => (error ? next(error) : response.json({})));
});

createServer(app).listen(Number(port), "127.0.0.1");
