"""Which kind of statement is this: read, locking read, write, DDL, session or unknown. Runs nothing.

The package can itself be called: ``rds_router.classify(statement, dialect="mysql")``. Importing a submodule binds the
package's name in ``rds_router`` to the module, over a function of that name; so both must answer a call alike.
"""

import sys
import types
from typing import Any

from rds_router.classify.cache import Classifier
from rds_router.classify.constructs import classify
from rds_router.classify.hints import max_staleness_of, route_of
from rds_router.core.statement import Statement

__all__ = ["Classifier", "classify", "max_staleness_of", "route_of"]


class _CallablePackage(types.ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Statement:
        return classify(*args, **options)


sys.modules[__name__].__class__ = _CallablePackage
