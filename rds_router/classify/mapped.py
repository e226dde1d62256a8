"""Which tables a flush of a mapped class may write to."""

from __future__ import annotations

import functools
from typing import Any

from sqlalchemy.orm import Mapper
from sqlalchemy.sql.schema import Table


@functools.lru_cache(maxsize=1024)
def tables_of(mapper: Mapper[Any]) -> frozenset[str]:
    """Those of its whole hierarchy, and of its many-to-many relationships. Names without schema, lower case."""
    family = list(mapper.base_mapper.self_and_descendants)
    found: set[Any] = {table for each in family for table in each.tables}
    found.update(each.secondary for one in family for each in one.relationships)
    return frozenset(table.name.lower() for table in found if isinstance(table, Table))
