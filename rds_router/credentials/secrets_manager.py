"""User and password from AWS Secrets Manager, which may change them at any time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from rds_router.credentials import aws
from rds_router.credentials.base import Answer, Place, Remembered, Secret
from rds_router.errors import ConfigurationError


class SecretsManager:
    """``Router(..., credentials=SecretsManager("prod/blog"))``: the secret's name or ARN.

    Read once, and again when a server refuses what it said: nothing else says that it has changed. If it says the same
    again it is not asked anew for some seconds (``ASKED_AGAIN``). While a rotation is
    under way the server may know the new password before the secret is marked current: then
    the pending version is tried. The secret is JSON with ``username`` and ``password``, as RDS makes it, or the
    bare password.
    """

    def __init__(
        self,
        secret: str,
        *,
        region: str | None = None,
        client: Callable[[str, str | None], Any] = aws.client,
    ) -> None:
        if not secret:
            raise ConfigurationError("SecretsManager needs the name or the ARN of a secret")
        self.secret = secret
        # arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/blog-a1b2c3
        self.region = region or (secret.split(":")[3] if secret.startswith("arn:") and secret.count(":") > 4 else None)
        self._make_client = client
        self._client: Any = None
        self._answers: Remembered[Answer] = Remembered()

    def __repr__(self) -> str:
        return f"SecretsManager({self.secret!r})"

    def __call__(self, place: Place, /) -> Answer:
        return self._answers.get("", lambda: (self._read("AWSCURRENT"), math.inf))

    def renew(self, place: Place, refused: Answer, /) -> Answer:
        """What the secret says now, unless somebody else has read it since."""
        return self._answers.get("", lambda: (self._read_unless(refused), math.inf), unless=refused)

    def _read_unless(self, refused: Answer) -> Answer:
        current = self._read("AWSCURRENT")
        if current != refused:
            return current
        try:
            return self._read("AWSPENDING")
        except self._client.exceptions.ResourceNotFoundException:
            return current

    def _read(self, stage: str) -> Answer:
        if self._client is None:
            self._client = self._make_client("secretsmanager", self.region)
        told = self._client.get_secret_value(SecretId=self.secret, VersionStage=stage)
        text = told.get("SecretString")
        if text is None:
            raise ConfigurationError(f"the secret {self.secret} is binary, but must be JSON or a bare password")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        if not isinstance(value, dict):
            return Secret(text)
        if not isinstance(value.get("password"), str):
            raise ConfigurationError(f"the secret {self.secret} is JSON without a text named password")
        password = Secret(value["password"])
        return (str(value["username"]), password) if value.get("username") else password
