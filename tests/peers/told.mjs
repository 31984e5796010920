// What the gate tells of a session, as headers: the peers tell the same.
export const told = ({ sub, sid, tid, roles, ver }) => ({
  "cache-control": "no-store",
  "portcullis-subject": sub,
  "portcullis-session": sid,
  "portcullis-tenant": tid,
  "portcullis-roles": roles.join(","),
  "portcullis-version": ver.join("."),
});
