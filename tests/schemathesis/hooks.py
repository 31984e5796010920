"""What Schemathesis has to be told about the API that its document cannot say: how to be a careful client of it."""

import itertools
import os
import re
import time

import requests
import schemathesis

MANAGEMENT_KEY = os.environ["PORTCULLIS_MANAGEMENT_KEY"]
SESSION_ID = re.compile("[A-Za-z0-9_-]{21}[AQgw]")
IDEMPOTENCY_KEY = re.compile("[!-~]{1,128}")

numbers = itertools.count()
opened = set()


def open_session(case):
    """A session that lives: its id and its access token."""
    answer = requests.post(
        f"{case.operation.base_url.rstrip('/')}/v1/sessions",
        headers={"Authorization": f"Bearer {MANAGEMENT_KEY}"},
        json={"subject": f"subject-{next(numbers)}", "client_id": "web"},
        timeout=10,
    )
    answer.raise_for_status()
    return answer.json()["session_id"], answer.json()["access_token"]


class Bearer:
    """A credential in the Authorization header."""

    def set(self, case, data, context):
        case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.auth(refresh_interval=None).skip_for(path_regex="^/v1/me/")
class Management(Bearer):
    """The management key."""

    def get(self, case, context):
        return MANAGEMENT_KEY


@schemathesis.auth(refresh_interval=None).apply_to(path_regex="^/v1/me/")
class Own(Bearer):
    """A user's own access token. These calls end sessions, so each has one of its own."""

    session = None

    def get(self, case, context):
        Own.session, token = open_session(case)
        return token


@schemathesis.hook
def before_call(context, case, kwargs):
    living_session(case)
    own_idempotency_key(case)
    past_authentication(case)


@schemathesis.hook
def after_call(context, case, response):
    """Notes sessions that were opened, to which links lead."""
    if response.status_code == 201 and case.operation.path.startswith("/v1/sessions"):
        opened.add(response.json()["session_id"])


def living_session(case):
    """Three times of four a made-up session is replaced by one that lives, so that the call reaches something."""
    session = (case.path_parameters or {}).get("sid")
    if not isinstance(session, str) or not SESSION_ID.fullmatch(session) or session in opened:
        return
    if next(numbers) % 4:
        is_own = case.operation.path.startswith("/v1/me/")
        case.path_parameters["sid"] = Own.session if is_own else open_session(case)[0]
        if re.fullmatch('"[0-9]{1,10}"', (case.headers or {}).get("If-Match") or ""):
            case.headers["If-Match"] = '"0"'


def own_idempotency_key(case):
    """A key that was sent with another request is refused (422), so each request has one of its own."""
    key = (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and IDEMPOTENCY_KEY.fullmatch(key):
        case.headers["Idempotency-Key"] = f"{key[:120]}-{next(numbers):06}"


def past_authentication(case):
    """A time of authentication lies in the past, lately; of a session that was opened just now, not before it."""
    given = case.body.get("auth_time") if isinstance(case.body, dict) else None
    if isinstance(given, int) and given >= 0:
        case.body["auth_time"] = int(time.time()) - given % 60
