"""schemathesis over the contract for half a minute: no 5xx, no answer that is not foreseen, nothing
wrong that is taken for right; and the daemon is well after. tests/e2e/schemathesis_run.sh runs as
long as one likes."""
import schemathesis_run
from metrics_page import read
from learnd_process import sanitized

SECONDS = 30


def test_nothing_breaks_the_contract(make_daemon, tmp_path):
    daemon = make_daemon(args=schemathesis_run.key_file(tmp_path)).start()
    assert not sanitized(), "of the plain build only: it is not marked"
    print(f"seed {schemathesis_run.SEED}")
    status, output = schemathesis_run.run(daemon, SECONDS, schemathesis_run.SEED, tmp_path)
    assert status == 0, output[-12000:]
    page = read(daemon)
    assert page["learnd_requests_total"] > 100, "it has hardly asked"
    faults = [r for r in page.rows("learnd_answers_total") if r[0]["status"] >= "500"]
    assert {labels["status"] for labels, _ in faults} <= {"504"}, "a deadline may pass; else nothing"
    for status in ("200", "201", "202", "404", "422"):
        assert page.get(f'learnd_answers_total{{status="{status}"}}', 0) > 0, status
    daemon.call("GET", "/health/ready", expect=200)
    daemon.restart()
    assert daemon.ask("text 1", model="m1")["results"]
