"""Where results are kept: a file in the sweep's folder, or a database that a team shares.

Both hold results by key, which say all that they depend on, so that a result that is there is never
measured again, by whomever. Runs that share a database claim what they measure, for some time that
they extend while they live, so that no two measure the same.
"""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.resume import open_results

__all__ = ["RESULTS", "Store", "open_store"]

RESULTS = "results.jsonl"
_TABLE = "systolith_results"
_CLAIMS = "systolith_claims"
#: Seconds after which a claim that nobody extends is given up; a claim is extended three times in
#: that time. Clocks of machines that share a database must agree to less than that; where they
#: don't, something may be measured twice.
_LEASE = 60.0
_now = time.time


class Store(Protocol):
    """Results by key.

    Attributes
    ----------
    known : dict of str to dict
        Those that have been read or added.
    """
    known: dict[str, dict]

    def add(self, result: dict[str, Any]) -> None:
        """Keep a result."""

    def refresh(self, keys: list[str]) -> None:
        """Read what others have added of these keys."""

    def claim(self, key: str) -> bool:
        """Whether the measurement of a key is this run's to do; it is no other's until its result
        is added, or this run ends."""

    def unsettled(self, keys: list[str]) -> list[str]:
        """The keys, which others had claimed, that are not measured yet; what others have found
        of the rest is read, failures as well."""


class _File:
    """The file's results; it is this process's alone, so that there is nothing to refresh, and
    nobody to claim anything."""

    def __init__(self, kept):
        self.known, self.add = kept.known, kept.add

    def refresh(self, keys):
        pass

    def claim(self, key):
        return True

    def unsettled(self, keys):
        return keys


class _Database:
    """Results in a table of a database, one row for each key, and claims in another: who measures a
    key, and until when nobody else does."""

    def __init__(self, url, failures):
        sqlalchemy = _sqlalchemy()
        # in MySQL a text has at most 64 KiB
        text = sqlalchemy.Text().with_variant(sqlalchemy.dialects.mysql.LONGTEXT(),
                                              "mysql", "mariadb")
        self.known: dict[str, dict] = {}
        self._failures, self._sql = failures, sqlalchemy
        try:
            self._engine = sqlalchemy.create_engine(url)
        except (sqlalchemy.exc.ArgumentError, sqlalchemy.exc.NoSuchModuleError, ImportError,
                ValueError) as error:
            raise UserError(f"--storage {url}: {_first(error)}; write it as "
                            "postgresql+psycopg://user@host/database") from None
        self._table = sqlalchemy.Table(
            _TABLE, sqlalchemy.MetaData(),
            sqlalchemy.Column("key", sqlalchemy.String(64), primary_key=True),
            sqlalchemy.Column("result", text))
        self._claims = sqlalchemy.Table(
            _CLAIMS, sqlalchemy.MetaData(),
            sqlalchemy.Column("key", sqlalchemy.String(64), primary_key=True),
            sqlalchemy.Column("owner", sqlalchemy.String(32)),
            sqlalchemy.Column("until", sqlalchemy.Float(53)))
        self._owner = uuid.uuid4().hex
        for table in (self._table, self._claims):
            try:
                table.create(self._engine, checkfirst=True)
            except sqlalchemy.exc.DatabaseError as error:
                if not self._has(table):        # another run may have made it in the meantime
                    raise UserError(f"--storage {self._engine.url!r}: {_first(error)}") from None
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()

    def _has(self, table):
        """Whether the database has a table; not where it cannot be reached."""
        try:
            return self._sql.inspect(self._engine).has_table(table.name)
        except self._sql.exc.DatabaseError:
            return False

    def claim(self, key):
        claims, now = self._claims, _now()
        row = {"owner": self._owner, "until": now + _LEASE}
        try:
            with self._engine.begin() as connection:
                connection.execute(claims.insert(), {"key": key, **row})
        except self._sql.exc.IntegrityError:
            with self._engine.begin() as connection:
                given_up = claims.update().where(claims.c.key == key, self._sql.or_(
                    claims.c.until < now, claims.c.owner == self._owner))
                if not connection.execute(given_up.values(row)).rowcount:
                    return False
        # It may have been measured, and the claim removed, since this run looked.
        self.refresh([key])
        if key in self.known:
            self._release(self._claims.c.key == key)
            return False
        return True

    def unsettled(self, keys):
        with self._engine.connect() as connection:
            claimed = {key for key, in connection.execute(self._sql.select(
                self._claims.c.key).where(self._claims.c.until >= _now()))}
        self._read([key for key in keys if key not in claimed], failures=True)
        return [key for key in keys if key not in self.known]

    def _release(self, *which):
        with self._engine.begin() as connection:
            connection.execute(self._claims.delete().where(
                self._claims.c.owner == self._owner, *which))

    def _beat(self):
        while not self._ended.wait(_LEASE / 3):
            try:
                self.extend()
            except self._sql.exc.SQLAlchemyError:
                pass                    # the next time may do; results say what is wrong

    def extend(self):
        """Extend what this run has claimed."""
        with self._engine.begin() as connection:
            connection.execute(self._claims.update().where(
                self._claims.c.owner == self._owner).values(until=_now() + _LEASE))

    def add(self, result):
        row = {"key": result["key"], "result": json.dumps(result)}
        table = self._table
        try:
            with self._engine.begin() as connection:
                connection.execute(table.insert(), row)
        except self._sql.exc.IntegrityError:
            # A failure was measured again, or the claim was given up.
            if result.get("error") is None:
                with self._engine.begin() as connection:
                    connection.execute(table.update().where(
                        table.c.key == row["key"]).values(result=row["result"]))
        self.known[result["key"]] = result
        self._release(self._claims.c.key == row["key"])

    def refresh(self, keys):
        self._read(keys, self._failures)

    def _read(self, keys, failures):
        missing = [key for key in keys if key not in self.known]
        for start in range(0, len(missing), 500):
            with self._engine.connect() as connection:
                found = connection.execute(self._table.select().where(
                    self._table.c.key.in_(missing[start:start + 500])))
                for key, text in found:
                    result = json.loads(text)
                    if failures or result.get("error") is None:
                        self.known[key] = result

    def close(self):
        """End, and give up what was claimed and not measured."""
        self._ended.set()
        self._heart.join()
        try:
            self._release()
        except self._sql.exc.SQLAlchemyError:
            pass                        # then it is given up in some time
        self._engine.dispose()


def _sqlalchemy():
    try:
        import sqlalchemy
        import sqlalchemy.dialects.mysql
        import sqlalchemy.exc
    except ImportError:
        raise UserError("--storage needs SQLAlchemy: pip install 'systolith[sweep]'") from None
    return sqlalchemy


def _first(error):
    return str(error).strip().splitlines()[0]


@contextmanager
def open_store(folder: Path, url: str | None, failures: bool) -> Iterator[Store]:
    """The `Store` of a sweep: its folder's file, or the database of an SQLAlchemy URL. Results with
    an error count as unknown, but with `failures`. Raises UserError."""
    if url is None:
        with open_results(folder / RESULTS, failures=failures) as kept:
            yield _File(kept)
        return
    database = _Database(url, failures)
    try:
        yield database
    finally:
        database.close()
