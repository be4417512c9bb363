"""Takes rows out of a table that are past their time: files that hold only such go, others are written anew without.

Deleted rows stay in earlier snapshots until those are forgotten and swept. What others append meanwhile stays: the
commit is made only on the table as it was just looked at, and all is done again on the table as it is then.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from pyiceberg.exceptions import CommitFailedException

from app.errors import StateConflictError
from app.foundation.lake.staging import COMPACTED, MAX_WAIT_S, ONE_ATTEMPT, commits, newest_with_rows

if TYPE_CHECKING:
    from pyiceberg.table import Table

ATTEMPTS = 20
RECORDS = "total-records"  # of a snapshot's summary


def delete_before(load: Callable[[], Table], identifier: str, column: str, moment: datetime) -> int:
    """Deletes the rows whose `column` lies before `moment` and gives their number. Memory: one data file.

    Args:
        load: gives the table as it is now.
        identifier: its name.
        column: of moments; a row without one stays.
        moment: with its time zone.

    Raises:
        StateConflictError: others kept committing first.
    """
    old = f"{column} < '{moment.isoformat()}'"
    for attempt in range(ATTEMPTS):
        table = load()
        if table.scan(row_filter=old, selected_fields=(column,)).count() == 0:
            return 0
        before = _num_rows(table)
        table.metadata = table.metadata.model_copy(update={"properties": {**table.properties, **ONE_ATTEMPT}})
        marks = {COMPACTED: str(newest_with_rows(commits(table)))}  # it brings no rows that anybody has to look at
        try:
            table.delete(old, snapshot_properties=marks)
        except CommitFailedException:
            time.sleep(random.uniform(0, min(0.01 * 2**attempt, MAX_WAIT_S)))
            continue
        return before - _num_rows(table)
    raise StateConflictError(f"a deletion from {identifier} kept losing to other writers. Try again.", table=identifier)


def _num_rows(table: Table) -> int:
    snapshot = table.current_snapshot()
    assert snapshot is not None and snapshot.summary is not None
    return int(snapshot.summary[RECORDS] or 0)
