"""One rollout by the client that was generated: a token, a till that enrols with it, a release, a rollout that completes.

    PYTHONPATH=. python roll_out.py CALLBOARD AGENT

Only building and signing a release, which no server does, and the till itself are other programs.
"""

import base64
import io
import json
import os
import pathlib
import subprocess
import sys
import time
import uuid

from client import AuthenticatedClient
from client.api.devices import devices_get
from client.api.payloads import payloads_put
from client.api.releases import releases_publish
from client.api.rollouts import rollouts_create, rollouts_get, rollouts_start
from client.api.tokens import tokens_create
from client.models import Because, NewToken, ReleasesPublishBody, RolloutSpec
from client.types import File

callboard, agent = sys.argv[1:]
server = AuthenticatedClient(os.environ["CALLBOARD_SERVER"] + "/api/v1", os.environ["CALLBOARD_TOKEN"])
home = pathlib.Path.cwd() / "till"


def wait_for(look, is_so):
    """Looks until it is so."""
    until = time.monotonic() + 120
    while not is_so(seen := look()):
        assert time.monotonic() < until, seen
        time.sleep(0.2)


def done(answer, *wanted):
    """What the server said, if it is what was wanted."""
    assert answer.status_code in wanted, (answer.status_code, answer.content)
    return answer.parsed


def key():
    """Sent again after a broken connection, a request with it is carried out once."""
    return str(uuid.uuid4())


def run(*arguments):
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)


def publish():
    product = home / "build"
    (product / "bin").mkdir(parents=True)
    (product / "bin" / "pos-app").write_text("#!/bin/sh\n")
    release = home / "release"
    run(callboard, "release", "build", product, "--product", "pos-app", "--version", "1.0.0", "--counter", "1", "--out", release)
    run(callboard, "release", "sign", "--key", "first/try-out-keys/release.key", release)
    envelope = json.loads((release / "release.json").read_text())
    for payload in json.loads(base64.b64decode(envelope["payload"]))["payloads"]:
        bytes_ = (release / payload["sha256"]).read_bytes()
        done(payloads_put.sync_detailed(payload["sha256"], client=server, body=File(io.BytesIO(bytes_))), 200, 201)
    done(releases_publish.sync_detailed(client=server, body=ReleasesPublishBody.from_dict(envelope)), 200, 201)


def enrol():
    made = done(tokens_create.sync_detailed(client=server, body=NewToken(), idempotency_key=key()), 201)
    (home / "bundle.json").write_text(json.dumps(made.bundle.to_dict()))
    (home / "agent.toml").write_text(
        f'state_dir = "{home}/state"\npolling.min_s = 0\npolling.max_s = 1\npolling.first_max_s = 0\npolling.wait_s = 0\n'
        f'[products.pos-app]\ndirectory = "{home}/pos-app"\ntrial_s = 0\n'
    )
    run(agent, "enrol", "--config", home / "agent.toml", "--bundle", home / "bundle.json", "--name", "till-1")


def roll_out():
    spec = RolloutSpec.from_dict(
        {"name": "first", "release": "pos-app@1.0.0", "policy": "immediate", "audience": "frozen"}
    )
    first = key()
    made = done(rollouts_create.sync_detailed(client=server, body=spec, idempotency_key=first), 201)
    again = done(rollouts_create.sync_detailed(client=server, body=spec, idempotency_key=first), 201)
    assert made.id == again.id
    seen = rollouts_get.sync_detailed("first", client=server)
    tag = seen.headers["etag"]
    assert rollouts_get.sync_detailed("first", client=server, if_none_match=tag).status_code == 304
    done(rollouts_start.sync_detailed("first", client=server, body=Because(), if_match=tag), 200)
    till = subprocess.Popen([agent, "run", "--config", home / "agent.toml"], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: done(rollouts_get.sync_detailed("first", client=server), 200), lambda it: it.state == "completed")
        # What runs is told by the check-in after the report of it.
        wait_for(
            lambda: done(devices_get.sync_detailed("till-1", client=server), 200),
            lambda it: [(one.product, one.version) for one in it.installed] == [("pos-app", "1.0.0")],
        )
    finally:
        till.terminate()
        till.wait()
    print("the rollout of a generated client has completed")


home.mkdir()
publish()
enrol()
roll_out()
