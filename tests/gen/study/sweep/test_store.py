"""Results and search in a database that several share; a real PostgreSQL and a real MariaDB, which
speaks as MySQL does, where they are installed."""

import functools
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from systolith.gen.kit.errors import UserError
from systolith.gen.report import pareto
from systolith.gen.study.sweep import run, store
from systolith.gen.study.sweep.run import sweep
from systolith.gen.study.sweep.store import open_store

from ....sweeps import SPACE, fake


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory):
    """The URL of a database of a server of its own."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs or (os.getuid() == 0 and not shutil.which("runuser")):
        pytest.skip("PostgreSQL is not installed")
    folder = tmp_path_factory.mktemp("postgresql")
    # the server does not run as root, and a socket's path must be short
    user = [*_null(folder / "null"), *(["runuser", "-u", "postgres", "--"] if os.getuid() == 0
                                       else [])]
    place = Path(subprocess.run([*user, "mktemp", "-d", "/tmp/pg-XXXXXX"], capture_output=True,
                                text=True, check=True).stdout.strip())

    def run(*words):
        with (folder / "log").open("a") as log:
            subprocess.run([*user, programs[-1] / words[0], *words[1:]], check=True, cwd="/tmp",
                           stdout=log, stderr=subprocess.STDOUT, timeout=60)
    try:
        run("initdb", "-D", f"{place}/data", "-A", "trust", "-U", "sweep", "--no-sync")
        run("pg_ctl", "-D", f"{place}/data", "-w", "-l", f"{place}/log", "-o",
            f"-k {place} -c listen_addresses='' -c fsync=off", "start")
        try:
            run("createdb", "-h", place, "-U", "sweep", "team")
            yield f"postgresql+psycopg://sweep@/team?host={place}"
        finally:
            run("pg_ctl", "-D", f"{place}/data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(place)


@pytest.fixture(scope="module")
def mysql():
    """The URL of a database of a server of its own."""
    install, server = map(shutil.which, ("mariadb-install-db", "mariadbd"))
    if install is None or server is None:
        pytest.skip("MariaDB is not installed")
    # a socket's path must be short
    with tempfile.TemporaryDirectory(prefix="my-", dir="/tmp", ignore_cleanup_errors=True) as name:
        place = Path(name)
        options = ["--no-defaults", f"--datadir={place}/data",
                   f"--user={pwd.getpwuid(os.getuid()).pw_name}"]
        subprocess.run([install, *options, "--auth-root-authentication-method=normal",
                        "--skip-test-db"], check=True, capture_output=True, timeout=60)
        with (place / "log").open("w") as log, subprocess.Popen(
                [server, *options, "--skip-networking", f"--socket={place}/s",
                 f"--pid-file={place}/pid"], stdout=log, stderr=subprocess.STDOUT) as running:
            try:
                _told(["mariadb-admin", "--no-defaults", "-u", "root", f"--socket={place}/s",
                       "create", "team"], 60)
                yield f"mysql+pymysql://root@localhost/team?unix_socket={place}/s"
            finally:
                running.kill()


def _told(command, seconds):
    """Runs a command until a server has answered it."""
    end = time.monotonic() + seconds
    while subprocess.run(command, capture_output=True, check=False).returncode:
        assert time.monotonic() < end, "the server does not answer"
        time.sleep(0.2)


def _null(own):
    """What a command begins with whose user must be able to write to /dev/null: nothing, or, where
    only root can, a null device `own` in its place, which that command alone sees."""
    if os.stat(os.devnull).st_mode & 0o002:
        return []
    words = ["unshare", "-m", "sh", "-c", f'mount --bind "{own}" {os.devnull} && exec "$@"', "sh"]
    try:
        os.mknod(own, stat.S_IFCHR, os.makedev(1, 3))
        os.chmod(own, 0o666)
        subprocess.run([*words, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("other users cannot write to /dev/null on this machine")
    return words


@pytest.fixture
def url(request, tmp_path):
    """A database of this kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/team.db"
    return request.getfixturevalue(request.param)


@pytest.fixture
def space(tmp_path, monkeypatch):
    monkeypatch.setattr(pareto, "write_pictures", lambda *arguments: [])
    (tmp_path / "net.onnx").write_bytes(b"a network")
    path = tmp_path / "space.toml"
    path.write_text(SPACE)
    return path


@pytest.mark.parametrize("url", ["sqlite", "postgresql", "mysql"], indirect=True)
def test_a_team_measures_everything_once(space, tmp_path, url):
    """One is ended in the middle, another goes on elsewhere; failures are known, too."""
    seen = []

    def spy(task):
        if len(seen) == 17:
            raise KeyboardInterrupt
        seen.append(task.key)
        return fake(task)
    with pytest.raises(KeyboardInterrupt):
        sweep(space, tmp_path / "one", evaluate=spy, storage=url)

    def other(task):
        assert task.key not in seen
        seen.append(task.key)
        return fake(task)
    results, files = sweep(space, tmp_path / "two", evaluate=other, storage=url)
    assert len(seen) == 28 and len(results) == 14
    assert "results.jsonl" not in [path.name for path in files]
    again = []
    sweep(space, tmp_path / "three", evaluate=again.append, storage=url)
    assert not again
    retried = []

    def retry(task):
        retried.append(task)
        return fake(task) | {"lut": 1, "ff": 1, "dsp": 0, "bram": 0, "error": None}
    results, _ = sweep(space, tmp_path / "one", evaluate=retry, storage=url, retry_failed=True)
    assert len(retried) == 1 and not any(result["error"] for result in results)
    # what went well in the end is what stays
    assert not any(item["error"] for item in sweep(
        space, tmp_path / "four", evaluate=again.append, storage=url)[0]) and not again


@pytest.mark.parametrize("url", ["sqlite", "postgresql", "mysql"], indirect=True)
def test_runs_at_the_same_time_share_the_work(space, tmp_path, url, monkeypatch):
    """What one works on, no other does, though neither knows of the other's results before."""
    monkeypatch.setattr(run, "_POLL", 0.01)
    # other chips and another network than in other tests, with which the database is shared
    space.write_text(SPACE.replace("512", "1024").replace("e3m2", "e2m3"))
    (tmp_path / "net.onnx").write_bytes(b"one more network")
    seen: list[list[str]] = [[], []]
    both = threading.Barrier(2, timeout=10)

    def measure(number, task):
        if not seen[number]:
            both.wait()                 # both have one, and want all that there are
        seen[number].append(task.key)
        return fake(task)
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(sweep, space, tmp_path / str(number), storage=url,
                            evaluate=functools.partial(measure, number)) for number in range(2)]
        (one, _), (two, _) = (each.result(timeout=30) for each in runs)
    assert all(seen) and len(seen[0] + seen[1]) == len({*seen[0], *seen[1]}) == 28
    assert one == two and len(one) == 14


@pytest.mark.parametrize("url", ["sqlite", "postgresql", "mysql"], indirect=True)
def test_claims(tmp_path, url, monkeypatch):
    """They are extended, given up when their run is killed, and end with its result or with it."""
    clock = [1000.0]
    monkeypatch.setattr(store, "_now", lambda: clock[0])
    with open_store(tmp_path, url, True) as one, open_store(tmp_path, url, False) as two:
        assert one.claim("a") and one.claim("a") and one.claim("b") and not two.claim("a")
        clock[0] += 50
        one.extend()
        clock[0] += 50
        assert not two.claim("a") and two.unsettled(["a"]) == ["a"]
        one.add({"key": "a", "error": "a failure"})
        # a failure of this moment is known to those that waited for it, and is tried by others
        assert two.unsettled(["a", "b"]) == ["b"] and two.known["a"]["error"] == "a failure"
        one.add({"key": "b", "error": None})
        assert not two.claim("b") and two.known["b"]["error"] is None
        assert one.claim("c") and not two.claim("c")
        clock[0] += 70                  # as of a run that was killed
        assert two.unsettled(["c"]) == ["c"] and two.claim("c") and not one.claim("c")
        assert one.claim("d")
    with open_store(tmp_path, url, True) as three:
        assert three.claim("d")


@pytest.mark.parametrize("url", ["sqlite", "postgresql", "mysql"], indirect=True)
def test_a_search_is_shared(space, tmp_path, url):
    space.write_text('[search]\nmethod = "nsga2"\nevaluations = 4\n' + SPACE)
    first, _ = sweep(space, tmp_path / "one", evaluate=fake, storage=url)

    def never(task):
        raise AssertionError(task)
    second, _ = sweep(space, tmp_path / "two", evaluate=never, storage=url)
    assert {item["id"] for item in first} == {item["id"] for item in second}
    assert not (tmp_path / "one" / "study.log").exists()
    more, _ = sweep(space, tmp_path / "two", evaluations=6, evaluate=fake, storage=url)
    assert {item["id"] for item in first} < {item["id"] for item in more} and len(more) == 6


@pytest.mark.parametrize("url", ["nothing", "postgresql+psycopg://u@127.0.0.1:1/x",
                                 "mysql+pymysql://u@127.0.0.1:1/x", "oracle1://x"])
def test_databases_that_do_not_answer(tmp_path, url):
    with pytest.raises(UserError, match=r"^--storage ") as caught, open_store(tmp_path, url, True):
        pass
    assert "\n" not in str(caught.value)
