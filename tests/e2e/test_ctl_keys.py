"""learnctl keys and audit, and how learnctl itself brings a key."""
import json
import re

import pytest

from test_ctl import FAILED, OK, REFUSED, USAGE, run


@pytest.fixture
def ctl(daemon):
    def call(*args, code=OK, **env):
        return run(*args, code=code, env={"LEARNCTL_URL": daemon.url, **env})
    return call


def test_keys(ctl, daemon, tmp_path):
    assert ctl("keys", "me")[0] == "admin, without a key\n"
    out, err = ctl("keys", "create", "root", "admin")
    assert re.fullmatch(r"lk_[0-9a-f]{64}\n", out) and "not shown again" in err
    path = tmp_path / "key"
    path.write_text(out)
    assert "give a key" in ctl("keys", code=REFUSED)[1]
    assert ctl("keys", "me", "--key-file", path)[0] == "admin, by the key root\n"
    assert ctl("keys", "me", LEARND_KEY=out.strip())[0] == "admin, by the key root\n"
    assert ctl("keys", "me", LEARNCTL_KEY=out.strip(), LEARND_KEY="wrong")[0] == \
        "admin, by the key root\n"
    env = {"LEARND_KEY": out.strip()}
    made = json.loads(ctl("keys", "create", "bot", "predict", "--rate", "2.5", "--expires",
                          "2099-01-31T00:00:00Z", "--json", **env)[0])
    assert made["rate_per_s"] == 2.5 and made["expires_at"].startswith("2099-01-31")
    bot = {"LEARND_KEY": made["key"]}
    assert "this key may not" in ctl("keys", code=REFUSED, **bot)[1]
    assert ctl("classify", "a", **bot)[0]
    lines = ctl("keys", **env)[0].splitlines()
    assert lines[0].split()[:4] == ["id", "name", "role", "state"]
    assert lines[2].split()[:5] == ["2", "bot", "predict", "active", "2.50"]
    assert ctl("keys", "list", "--json", **env)[0].count("\n") == 2
    assert ctl("keys", "revoke", 2, **env) == ("", "")
    assert ctl("classify", "a", code=REFUSED, **bot)[1].startswith("learnctl: unauthorized")
    assert "makes another one" in ctl("keys", "revoke", 1, code=REFUSED, **env)[1]
    rows = [line.split()[2:] for line in ctl("audit", **env)[0].splitlines()[1:]]
    assert rows == [["root", "127.0.0.1", "key_revoke", "2"],
                    ["root", "127.0.0.1", "key_create", "bot"],
                    ["local", "127.0.0.1", "key_create", "root"]]
    assert ctl("audit", "--by", "0", "--json", **env)[0].count("\n") == 1
    assert ctl("audit", "--action", "key_revoke", "--limit", "1", **env)[0].count("\n") == 2
    assert ctl("audit", "--before", "2001-01-01T00:00:00Z", "--json", **env)[0] == ""


@pytest.mark.parametrize("args, says", [
    (["keys", "create", "a"], "which name, and role"),
    (["keys", "create", "a", "admin", "b"], "too much"),
    (["keys", "revoke"], "which key"),
    (["keys", "list", "--rate", "3"], "for a new key"),
    (["keys", "forge"], "cannot forge"),
    (["audit", "all"], "too much"),
    (["keys", "create", "a", "admin", "--rate", "fast"], "--rate"),
])
def test_misuse(ctl, args, says):
    assert says in ctl(*args, code=USAGE)[1]


def test_refusals_say_what_to_do(ctl):
    assert "must be one of" in ctl("keys", "create", "a", "king", code=REFUSED)[1]
    assert "keys create NAME admin" in ctl("keys", "create", "a", "predict", code=REFUSED)[1]
    assert "expires_at" in ctl("keys", "create", "a", "admin", "--expires", "soon",
                               code=REFUSED)[1]


def test_over_the_unix_socket(make_daemon, tmp_path):
    daemon = make_daemon(args=["--listen", f"unix:{tmp_path}/s"]).start()
    url = {"LEARNCTL_URL": f"unix:{tmp_path}/s"}
    run("keys", "create", "root", "admin", env=url)
    assert run("keys", "me", env=url)[0] == "admin, without a key\n"  # the daemon's own user
    daemon.stop()
    run("keys", "me", env=url, code=FAILED)
