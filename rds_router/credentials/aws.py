"""boto3, which only the users of these parts have."""

from __future__ import annotations

import logging
from typing import Any, Final

from rds_router.errors import ConfigurationError


def client(service: str, region: str | None) -> Any:
    """A client of one of AWS's services. Raises ConfigurationError without boto3 or a region."""
    try:
        import boto3
        from botocore.exceptions import NoRegionError
    except ImportError:
        raise ConfigurationError(f"AWS's {service} needs boto3: pip install 'rds-router[aws]'") from None
    # A filter that is there already is not added twice.
    logging.getLogger("botocore.parsers").addFilter(_without_secrets)
    try:
        # A session of its own: boto3's default one is not thread-safe to make.
        return boto3.session.Session().client(service, region_name=region or None)
    except NoRegionError:
        raise ConfigurationError(
            f"AWS's {service} needs a region: give region=, or set AWS_REGION, or connect by the endpoint's own name"
        ) from None


class _WithoutSecrets(logging.Filter):
    """R14: at DEBUG botocore logs whatever AWS answered, secrets too."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "SecretString" not in record.getMessage()


_without_secrets: Final = _WithoutSecrets()
