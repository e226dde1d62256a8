"""The blog of examples/, as gunicorn loads it for a benchmark; ``blog.py`` says how in ``RDS_ROUTER_BENCHMARK``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import sqlalchemy.pool
from sqlalchemy import event
from sqlalchemy.engine import Engine

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples" / "flask_blog"))

from blog import create_app


def connect_as_pymysql_does(dialect: Any, record: object, arguments: list[Any], options: dict[str, Any]) -> Any:
    """A TLS context for every connect: what rds_router's own connections spare."""
    import pymysql

    return pymysql.connect(*arguments, **options)


said = json.loads(os.environ["RDS_ROUTER_BENCHMARK"])
config: dict[str, Any] = said["config"]
engine_options = config.setdefault("SQLALCHEMY_ENGINE_OPTIONS", {})
if "poolclass" in engine_options:
    engine_options["poolclass"] = getattr(sqlalchemy.pool, engine_options["poolclass"])
if said["tls"] == "each":
    event.listen(Engine, "do_connect", connect_as_pymysql_does)
elif said["tls"] == "off":
    engine_options.setdefault("connect_args", {})["ssl_disabled"] = True
app = create_app(config)
