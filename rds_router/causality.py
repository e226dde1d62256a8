"""Reads the primary's position, so that a token can travel to another process."""

from __future__ import annotations

from sqlalchemy.engine import Connection, Engine

from rds_router.core.token import Token
from rds_router.dialects.base import Dialect


def located(token: Token, primary: Engine | Connection, dialect: Dialect) -> Token:
    """``token`` with a position in place of a moment that means something in this process only.

    Costs one round trip to the primary; a token that has no moment costs none. The position is read now, and so lies
    at or after every commit that returned before. An engine family without positions leaves the token as it is.
    Raises the driver's error if the primary does not answer.
    """
    if token.at is None or dialect.position_after_write is None:
        return token
    if isinstance(primary, Connection):
        text = primary.exec_driver_sql(dialect.position_after_write).scalar()
    else:
        with primary.connect() as connection:
            text = connection.exec_driver_sql(dialect.position_after_write).scalar()
    if text is None:
        return token
    return Token(position=dialect.parse_position(str(text))).merge(Token(position=token.position))
