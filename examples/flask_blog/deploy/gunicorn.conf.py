"""gunicorn's settings. WEB_CONCURRENCY, which it reads itself, is the number of workers."""

from __future__ import annotations

import os

bind = os.environ.get("BIND", "0.0.0.0:80")
worker_class = "gthread"
threads = 4
"""A worker's threads share its pools: pool_size 5 is enough for them."""
accesslog = "-"
control_socket_disable = True
"""The service may write nowhere but to the journal."""
graceful_timeout = 20
"""Requests that run when the service is told to stop; then systemd ends it."""
