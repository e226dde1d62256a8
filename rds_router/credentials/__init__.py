"""Where a password comes from, and how the way to a server is encrypted.

Credentials are any callable that takes a :class:`Place` and returns the password, or ``(user, password)``. Those that
remember what they told have a ``renew(place, refused)`` besides, which is called once when a server refused it.
"""

from __future__ import annotations

from rds_router.credentials.base import Answer, Credentials, Place, Renewable, Secret
from rds_router.credentials.env import Environment
from rds_router.credentials.iam import IamAuth
from rds_router.credentials.secrets_manager import SecretsManager
from rds_router.credentials.tls import Tls

__all__ = [
    "Answer",
    "Credentials",
    "Environment",
    "IamAuth",
    "Place",
    "Renewable",
    "Secret",
    "SecretsManager",
    "Tls",
]
