"""Where results are kept: a file in the sweep's folder, or a database that a team shares.

Both hold results by key, which say all that they depend on, so that a result that is there is never
measured again, by whomever.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.resume import open_results

__all__ = ["RESULTS", "Store", "open_store"]

RESULTS = "results.jsonl"
_TABLE = "systolith_results"


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


class _File:
    """The file's results; it is this process's alone, so that there is nothing to refresh."""

    def __init__(self, kept):
        self.known, self.add = kept.known, kept.add

    def refresh(self, keys):
        pass


class _Database:
    """Results in a table of a database, one row for each key."""

    def __init__(self, url, failures):
        sqlalchemy = _sqlalchemy()
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
            sqlalchemy.Column("result", sqlalchemy.Text))
        try:
            self._table.create(self._engine, checkfirst=True)
        except sqlalchemy.exc.OperationalError as error:
            raise UserError(f"--storage {self._engine.url!r}: {_first(error)}") from None
        except sqlalchemy.exc.ProgrammingError:
            pass                        # another process has made it in the meantime

    def add(self, result):
        row = {"key": result["key"], "result": json.dumps(result)}
        table = self._table
        try:
            with self._engine.begin() as connection:
                connection.execute(table.insert(), row)
        except self._sql.exc.IntegrityError:
            # Somebody was faster, or a failure was measured again.
            if result.get("error") is None:
                with self._engine.begin() as connection:
                    connection.execute(table.update().where(
                        table.c.key == row["key"]).values(result=row["result"]))
        self.known[result["key"]] = result

    def refresh(self, keys):
        missing = [key for key in keys if key not in self.known]
        for start in range(0, len(missing), 500):
            with self._engine.connect() as connection:
                found = connection.execute(self._table.select().where(
                    self._table.c.key.in_(missing[start:start + 500])))
                for key, text in found:
                    result = json.loads(text)
                    if self._failures or result.get("error") is None:
                        self.known[key] = result

    def close(self):
        self._engine.dispose()


def _sqlalchemy():
    try:
        import sqlalchemy
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
