"""A password from the environment, read anew for each connection."""

from __future__ import annotations

import os
from dataclasses import dataclass

from rds_router.credentials.base import Answer, Place, Secret
from rds_router.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Environment:
    """Reads ``variable``, or, with ``file=True``, the file that it names: orchestrators renew such files."""

    variable: str = "DB_PASS"
    file: bool = False

    def __call__(self, place: Place, /) -> Answer:
        value = os.environ.get(self.variable)
        if value is None:
            raise ConfigurationError(f"the environment has no {self.variable}, which is to hold a password")
        if not self.file:
            return Secret(value)
        try:
            with open(value, encoding="utf-8") as stream:
                return Secret(stream.read().rstrip("\r\n"))
        except OSError as error:
            raise ConfigurationError(f"{self.variable} names the file {value}, which cannot be read: {error}") from None
